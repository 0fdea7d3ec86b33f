#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing and nothing else: Debian/Ubuntu packages by name, a virtual environment, the Python
# package, and the native programs. Called by `make setup`, `make demo` and `make test`; a second call finds nothing to
# do. `demo` is what a run in the lab needs; `test` (the default) adds what the tests and benchmarks need; `vm` adds
# what a virtual machine as DUT needs.
set -euo pipefail

venv=${1:?usage: setup.sh VENV [demo|test|vm]}
set_of=${2:-test}
case $set_of in demo | test | vm) ;; *) echo "setup: '$set_of' is none of demo, test, vm" >&2; exit 2 ;; esac
SUDO=${SUDO-sudo}
[ "$(id -u)" = 0 ] && SUDO=
CHROMIUM=/usr/bin/chromium

# Ubuntu's package chromium only asks for a snap, which has no program of that name and does not start in a container.
is_ubuntu() {
  [ "$(. "${OS_RELEASE:-/etc/os-release}" 2>/dev/null && echo "${ID:-}")" = ubuntu ]
}

# Program or file -> package that brings it. The list is the lab's; a real testbed needs less on this machine.
needed=(
  "ip:iproute2" "ethtool:ethtool" "sshd:openssh-server" "ssh-keygen:openssh-client" "clang:clang" "llvm-strip:llvm"
  "gcc:gcc" "make:make" "dpdk-testpmd:dpdk-dev" "/usr/include/bpf/libbpf.h:libbpf-dev"
  "/usr/include/libelf.h:libelf-dev" "/usr/include/zlib.h:zlib1g-dev" "/usr/include/linux/bpf.h:linux-libc-dev"
  "/usr/include/stdio.h:libc6-dev" "/usr/include/xdp/libxdp.h:libxdp-dev" "h2load:nghttp2-client"
)
[ "$set_of" = demo ] || needed+=(
  "git:git" "trafgen:netsniff-ng" "socat:socat" "$CHROMIUM:chromium" "nft:nftables" "iptables-nft:iptables"
  "sudo:sudo"
  "bpftool:$(is_ubuntu && echo linux-tools-common || echo bpftool)"
)
[ "$set_of" = vm ] && needed+=("qemu-system-x86_64:qemu-system-x86" "debootstrap:debootstrap" "mke2fs:e2fsprogs")

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

install_packages() {
  if ! command -v apt-get >/dev/null; then
    echo "setup: this is not Debian or Ubuntu; install the equivalents of: $*" >&2
    exit 3
  fi
  echo "setup: installing $*"
  $SUDO apt-get update -qq
  $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

missing=()
for entry in "${needed[@]}"; do
  what=${entry%%:*} package=${entry#*:}
  case $what in
    /*) [ -e "$what" ] && continue ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null && continue ;;
  esac
  if [ "$package" = chromium ] && is_ubuntu; then
    echo "setup: Ubuntu has Chromium only as a snap; the browser tests need one at $CHROMIUM, put it there to run them" >&2
    continue
  fi
  missing+=("$package")
done
if [ ! -x "$venv/bin/python" ] && [ -z "${PYTHON:-}" ] && ! find_python >/dev/null; then
  missing+=(python3 python3-venv)
fi

if [ ${#missing[@]} -gt 0 ]; then
  # The lab needs sshd's program, not a server on this machine: keep the package from starting one.
  new_sshd=
  if [[ " ${missing[*]} " == *" openssh-server "* && -d ${SYSTEMD:-/run/systemd/system} ]]; then
    new_sshd=yes
    # Also when apt-get fails or is interrupted: a masked unit would keep a later server from starting.
    trap '$SUDO systemctl unmask --quiet ssh.service ssh.socket' EXIT
    $SUDO systemctl mask --quiet ssh.service ssh.socket
  fi
  install_packages "${missing[@]}"
  if [ -n "$new_sshd" ]; then
    trap - EXIT
    $SUDO systemctl unmask --quiet ssh.service ssh.socket
    $SUDO systemctl disable --quiet ssh.service ssh.socket
  fi
fi

if [ ! -x "$venv/bin/python" ]; then
  python=$(find_python) || {
    echo "setup: no Python 3.11, 3.12 or 3.13 here (tried ${PYTHON:-python3.12 python3.11 python3.13 python3});" \
         "install one, or name one with make PYTHON=/path" >&2
    exit 3
  }
  if ! "$python" -c "import ensurepip" 2>/dev/null; then
    install_packages "$(basename "$python")-venv"
  fi
  echo "setup: creating $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi

extra=
[ "$set_of" = demo ] || extra='[dev]'
echo "setup: installing the Python package${extra:+ and its tools} into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extra"
echo "setup: building the native programs"
"$venv/bin/python" -m harness.generator.xdpgen.build
