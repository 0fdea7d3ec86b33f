# SPDX-License-Identifier: Apache-2.0
"""The OpenSSH server in the DUT's namespace: keys for this lab only, on 127.0.0.1:22 of that namespace alone.

It is reached as any remote host is, by paramiko with a checked host key; only the socket is made inside the namespace.
"""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from harness.lab import netns
from harness.lab.errors import LabError
from harness.lab.wires import run_tool, tool

PORT = 22
USER = "root"
#: Where OpenSSH's server separates its privileges, compiled in by Debian and Ubuntu; missing until its service starts.
PRIVSEP_DIR = Path("/run/sshd")
_READY_S = 10.0
_POLL_S = 0.01
_LOG_TAIL = 2000


@dataclass(frozen=True)
class SshTarget:
    """How paramiko reaches the DUT: ``connect(hostname, port, username, key_filename=key_path, sock=open_socket(...))``
    with ``known_hosts`` loaded and RejectPolicy. The socket is connected inside ``netns``."""

    hostname: str
    port: int
    user: str
    key_path: Path
    known_hosts: Path
    netns: str
    address: str = "127.0.0.1"

    def open_socket(self, timeout_s: float) -> socket.socket:
        """A socket connected to the server; raises OSError, or LabError when the lab is gone."""
        return netns.connect_in_netns(self.netns, (self.address, self.port), timeout_s)


def target(directory: Path, namespace: str) -> SshTarget:
    """The connection data of the lab in ``directory``."""
    return SshTarget(hostname=namespace, port=PORT, user=USER, key_path=directory / "client_key",
                     known_hosts=directory / "known_hosts", netns=namespace)


def config_text(directory: Path, address: str = "127.0.0.1") -> str:
    """sshd_config for a server on ``address``. Nothing is read from /etc/ssh or from root's home; the directory is
    0700, so StrictModes, which would look at the mode of /run as well, adds nothing."""
    options = {
        "AddressFamily": "inet",
        "ListenAddress": f"{address}:{PORT}",
        "HostKey": str(directory / "host_key"),
        "AuthorizedKeysFile": str(directory / "authorized_keys"),
        "PidFile": "none",
        "AllowUsers": USER,
        "PermitRootLogin": "prohibit-password",
        "PubkeyAuthentication": "yes",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "AuthenticationMethods": "publickey",
        "UsePAM": "no",
        "StrictModes": "no",
        "UseDNS": "no",
        "PermitUserRC": "no",
        "PermitUserEnvironment": "no",
        "PrintMotd": "no",
        "PrintLastLog": "no",
        "X11Forwarding": "no",
        "AllowAgentForwarding": "no",
        "AllowTcpForwarding": "no",
        "MaxSessions": "64",
        "MaxStartups": "64",
        "LoginGraceTime": "30",
        "Subsystem": "sftp internal-sftp",
    }
    return "".join(f"{key} {value}\n" for key, value in options.items())


def unlocked_shadow(path: Path = Path("/etc/shadow")) -> str | None:
    """The shadow file for a machine whose root account is locked, or None where it is not.

    Without PAM sshd refuses a locked account ("!...", Ubuntu's default) even with the right key. The copy holds no
    password at all ("*": none matches), is seen only by the lab's processes and ends with them.
    """
    if not path.exists():
        return None
    entries = [line.split(":") for line in path.read_text(encoding="utf-8").splitlines() if line]
    if not any(entry[0] == USER and entry[1].startswith("!") for entry in entries):
        return None
    return "".join(":".join((entry[0], "*", "", *entry[3:])) + "\n" for entry in entries)


def prepare(directory: Path, namespace: str) -> None:
    """Write keys, known_hosts, authorized_keys and sshd_config into the lab's directory (0700)."""
    for name in ("host_key", "client_key"):
        run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", namespace, "-f", str(directory / name)])
    host_key = (directory / "host_key.pub").read_text(encoding="ascii")
    (directory / "known_hosts").write_text(f"{namespace} {host_key}", encoding="ascii")
    client_key = (directory / "client_key.pub").read_text(encoding="ascii")
    (directory / "authorized_keys").write_text(client_key, encoding="ascii")
    (directory / "sshd_config").write_text(config_text(directory), encoding="ascii")


def on_wire(directory: Path, namespace: str, address: str) -> tuple[SshTarget, Path]:
    """A server of the same keys on an address of a wire: how it is reached from inside, and its configuration."""
    config = directory / f"sshd_config-{address}"
    config.write_text(config_text(directory, address), encoding="ascii")
    return replace(target(directory, namespace), address=address), config


def patient(config: Path) -> list[str]:
    """Options with which the server bears clients that come often and do not log in, as a bystander's do. OpenSSH has
    refused such from 9.8 on, and knows the option only then."""
    option = ["-o", "PerSourcePenalties=no"]
    known = subprocess.run([tool("sshd"), "-t", *option, "-f", str(config)], capture_output=True, check=False,
                           timeout=_READY_S)
    return option if known.returncode == 0 else []


def await_ready(ssh: SshTarget, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server greets. Raises LabError with the log's tail when it ends or stays silent."""
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            with ssh.open_socket(1.0) as connection:
                if connection.recv(64).startswith(b"SSH-2.0-"):
                    return
        except OSError as error:
            reason = str(error)
        else:
            reason = "it does not greet as an SSH server"
        if process.poll() is not None or time.monotonic() > deadline:
            ended = f"ended with status {process.returncode}" if process.returncode is not None else reason
            tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].strip()
            raise LabError(f"the lab's SSH server did not start: {ended}\n{tail}")
        time.sleep(_POLL_S)
