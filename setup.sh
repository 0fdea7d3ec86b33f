#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing and nothing else: Debian/Ubuntu packages by name, a virtual environment, the Python
# package with its tools, and the native programs. Called by `make setup`; a second call finds nothing to do.
set -euo pipefail

venv=${1:?usage: setup.sh VENV}
SUDO=${SUDO-sudo}
[ "$(id -u)" = 0 ] && SUDO=

# Program or file -> package that brings it. The list is the lab's; a real testbed needs less on this machine.
needed=(
  "ip:iproute2" "ethtool:ethtool" "sshd:openssh-server" "ssh-keygen:openssh-client" "clang:clang" "llvm-strip:llvm"
  "gcc:gcc" "make:make" "dpdk-testpmd:dpdk-dev" "trafgen:netsniff-ng" "chromium:chromium" "git:git"
  "/usr/include/bpf/libbpf.h:libbpf-dev" "/usr/include/libelf.h:libelf-dev" "/usr/include/zlib.h:zlib1g-dev"
  "/usr/include/linux/bpf.h:linux-libc-dev" "/usr/include/stdio.h:libc6-dev" "/usr/include/xdp/libxdp.h:libxdp-dev"
)

# The first interpreter that runs and has a version we support. (A pyenv shim may be on PATH and still not run.)
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.12 python3.11 python3.13 python3}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

missing=()
for entry in "${needed[@]}"; do
  what=${entry%%:*} package=${entry#*:}
  case $what in
    /*) [ -e "$what" ] || missing+=("$package") ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null || missing+=("$package") ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "setup: this is not Debian or Ubuntu; install the equivalents of: ${missing[*]}" >&2
    exit 3
  fi
  echo "setup: installing ${missing[*]}"
  # The lab needs sshd's program, not a server on this machine: keep the package from starting one.
  new_sshd=
  if [[ " ${missing[*]} " == *" openssh-server "* && -d /run/systemd/system ]]; then
    new_sshd=yes
    $SUDO systemctl mask --quiet ssh.service ssh.socket
  fi
  $SUDO apt-get update -qq
  $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  if [ -n "$new_sshd" ]; then
    $SUDO systemctl unmask --quiet ssh.service ssh.socket
    $SUDO systemctl disable --quiet ssh.service ssh.socket
  fi
fi

if [ ! -x "$venv/bin/python" ]; then
  python=$(find_python) || {
    echo "setup: no Python 3.11, 3.12 or 3.13 here (tried ${PYTHON:-python3.12 python3.11 python3.13 python3});" \
         "apt-get install python3 python3-venv, or name one with make PYTHON=/path" >&2
    exit 3
  }
  if ! "$python" -c "import ensurepip" 2>/dev/null; then
    echo "setup: installing python3-venv"
    $SUDO apt-get update -qq
    $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  fi
  echo "setup: creating $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi

echo "setup: installing the Python package and its tools into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
echo "setup: building the native programs"
"$venv/bin/python" -m harness.generator.xdpgen.build
