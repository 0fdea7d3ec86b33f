# SPDX-License-Identifier: Apache-2.0
"""SSH to a host: host key always checked, commands as argv quoted once here, every step with a deadline."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import select
import shlex
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import paramiko

from harness.errors import HostError, TestbedError
from harness.host.channel import SshChannel
from harness.host.contract import Completed

CONNECT_S = 15.0
MAX_OUTPUT = 1 << 20
_TAIL = 2000


class Target(Protocol):
    """How a host is reached. ``hostname`` is the name in ``known_hosts``; ``key_path`` None: the SSH agent's keys."""

    @property
    def hostname(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def key_path(self) -> Path | None: ...
    @property
    def known_hosts(self) -> Path: ...

    def open_socket(self, timeout_s: float) -> socket.socket:
        """A connection to the host's SSH port. Raises OSError or HarnessError."""


@dataclass(frozen=True)
class SshTarget:
    """A host on the network. ``jump``: reach it through that host; ``netns``: make the socket in that namespace of
    this machine; ``sudo``: the user is not root and may run anything with ``sudo -n``."""

    hostname: str
    known_hosts: Path
    port: int = 22
    user: str = "root"
    key_path: Path | None = None
    jump: SshTarget | None = None
    netns: str = ""
    sudo: bool = False

    def open_socket(self, timeout_s: float) -> socket.socket:
        """A TCP connection to the host, unless it is behind a jump host (see :meth:`SshConnection.open`)."""
        if self.netns:
            from harness.lab.netns import connect_in_netns  # only labs need it

            return connect_in_netns(self.netns, (self.hostname, self.port), timeout_s)
        return socket.create_connection((self.hostname, self.port), timeout_s)


class _Refuse(paramiko.MissingHostKeyPolicy):
    """An unknown host key is an error whose text says how to make it known."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        print_ = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        known = self._target.known_hosts
        via = getattr(self._target, "jump", None)
        scan = f"ssh-keyscan -p {self._target.port} {self._target.hostname}"
        if via is not None:  # where the host can be reached from
            scan = f"ssh -p {via.port} {via.user}@{via.hostname} {scan}"
        raise TestbedError(
            f"the host key of {hostname} is not in {known} ({key.get_name()} SHA256:{print_}). Compare that with "
            f"`ssh-keygen -lf` on the host itself, then: {scan} >> {known}"
        )


class SshConnection:
    """A connection to one host; commands and agents run on channels of it. A context manager."""

    def __init__(self, client: paramiko.SSHClient, target: Target, jump: SshConnection | None) -> None:
        self._client, self.target, self._jump = client, target, jump
        self._prefix = ["sudo", "-n", "--"] if getattr(target, "sudo", False) else []

    @classmethod
    def open(cls, target: Target, timeout_s: float = CONNECT_S) -> SshConnection:
        """Connect and authenticate. Raises TestbedError with the remedy."""
        jump_target = getattr(target, "jump", None)
        jump = cls.open(jump_target, timeout_s) if jump_target is not None else None
        with contextlib.ExitStack() as undo:
            if jump is not None:
                undo.callback(jump.close)
            client = paramiko.SSHClient()
            undo.callback(client.close)
            _authenticate(client, target, jump, timeout_s)
            undo.pop_all()
        return cls(client, target, jump)

    def tunnel(self, address: tuple[str, int], timeout_s: float) -> paramiko.Channel:
        """A connection from this host on to another (a jump)."""
        return self._transport().open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=timeout_s)

    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise HostError(f"the SSH connection to {self.target.hostname} is gone")
        return transport

    def _exec(self, argv: Sequence[str], timeout_s: float, as_root: bool = True) -> paramiko.Channel:
        """Start a command; this is the one place where argv becomes a shell's text."""
        try:
            channel = self._transport().open_session(timeout=timeout_s)
            channel.settimeout(timeout_s)
            channel.exec_command(shlex.join([*(self._prefix if as_root else ()), *argv]))
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise HostError(f"{self.target.hostname}: cannot start {argv[0]}: {error or type(error).__name__}"
                            ) from error
        return channel

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True, stdin: bytes = b"",
            ) -> Completed:
        """Run to completion. ``timeout_s`` counts from its start. Raises HostError on a non-zero status (``check``),
        the deadline, or more than 1 MiB of output."""
        channel = self._exec(argv, max(timeout_s, CONNECT_S))
        deadline = time.monotonic() + timeout_s
        try:
            try:
                channel.sendall(stdin)
                channel.shutdown_write()
            except OSError:
                stdin = b""  # it ended without reading its input; its status says whether that is wrong
            out, err = self._collect(channel, argv, deadline)
            status = channel.recv_exit_status()
        finally:
            channel.close()
        done = Completed(tuple(argv), status, out.decode(errors="replace"), err.decode(errors="replace"))
        self.refuse_sudo(done.stderr)
        if check and status != 0:
            tail = (done.stderr or done.stdout)[-_TAIL:].strip()
            raise HostError(f"{self.target.hostname}: {shlex.join(argv)} ended with status {status}: {tail}")
        return done

    def refuse_sudo(self, said: str) -> None:
        """Raise TestbedError when a command's stderr ends with sudo's word that it was not run."""
        last = said.strip().rpartition("\n")[2]
        if self._prefix and last.startswith(("sudo: ", "Sorry, user ")):
            target = self.target
            raise TestbedError(f"sudo of {target.hostname} refuses to run the harness's programs for {target.user} "
                               f"without a password ({last[:300]}); docs/least-privilege.md has the sudoers file")

    def _collect(self, channel: paramiko.Channel, argv: Sequence[str], deadline: float) -> tuple[bytes, bytes]:
        out, err = bytearray(), bytearray()
        while True:
            if channel.recv_ready():
                out += channel.recv(1 << 16)
            elif channel.recv_stderr_ready():
                err += channel.recv_stderr(1 << 16)
            elif channel.exit_status_ready() and (channel.eof_received or channel.closed):
                return bytes(out), bytes(err)
            elif channel.closed:
                raise HostError(f"{self.target.hostname}: the connection broke during {argv[0]}")
            else:
                select.select([channel], [], [], 0.02)
            if len(out) > MAX_OUTPUT or len(err) > MAX_OUTPUT:
                raise HostError(f"{self.target.hostname}: {argv[0]}: more than {MAX_OUTPUT} bytes of output")
            if time.monotonic() > deadline:
                raise HostError(f"{self.target.hostname}: {shlex.join(argv)} was not done in time")

    def start(self, argv: Sequence[str], timeout_s: float = CONNECT_S, *, as_root: bool = True) -> SshChannel:
        """Start a program that is talked to (an agent). ``as_root`` false: as the account that logged in."""
        return SshChannel(self._exec(argv, timeout_s, as_root))

    def deploy(self, content: bytes, folder: str, name: str) -> str:
        """Put a file there under its content's hash unless it is there already; returns its path. ``name`` is
        ``stem.suffix``. Raises HostError."""
        digest = hashlib.sha256(content).hexdigest()
        stem, _, suffix = name.partition(".")
        path = f"{folder}/{stem}-{digest[:32]}.{suffix}"
        there = self.run(["sha256sum", path], check=False)
        if there.returncode == 0 and there.stdout.split()[0].lstrip("\\") == digest:
            return path
        fresh = f"{path}.{time.time_ns():x}"
        self.run(["mkdir", "-p", folder])
        self.run(["dd", "status=none", f"of={fresh}"], stdin=content)
        self.run(["mv", "-f", fresh, path])
        return path

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._client.close()
        if self._jump is not None:
            self._jump.close()

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


def _authenticate(client: paramiko.SSHClient, target: Target, jump: SshConnection | None, timeout_s: float) -> None:
    where = f"{target.user}@{target.hostname}:{target.port}"
    if jump is not None:
        where += f" (through {jump.target.user}@{jump.target.hostname}:{jump.target.port})"
    try:
        if target.known_hosts.exists():
            client.load_host_keys(str(target.known_hosts))
        client.set_missing_host_key_policy(_Refuse(target))
        address = (target.hostname, target.port)
        sock = jump.tunnel(address, timeout_s) if jump is not None else target.open_socket(timeout_s)
        client.connect(
            target.hostname, target.port, target.user, sock=sock, timeout=timeout_s, banner_timeout=timeout_s,
            auth_timeout=timeout_s, channel_timeout=timeout_s, look_for_keys=False, allow_agent=target.key_path is None,
            key_filename=None if target.key_path is None else str(target.key_path),
        )
    except paramiko.BadHostKeyException as error:
        # as known_hosts has it
        entry = target.hostname if target.port == 22 else f"'[{target.hostname}]:{target.port}'"
        raise TestbedError(
            f"the host key of {where} is not the one in {target.known_hosts}: another machine answers, or it was "
            f"reinstalled. If that is so: ssh-keygen -R {entry} -f {target.known_hosts}, then ssh-keyscan again "
            f"({error})"
        ) from error
    except paramiko.AuthenticationException as error:
        key = target.key_path or "the SSH agent's keys"
        raise TestbedError(f"{where} does not accept {key}: add the public key to that account's "
                           f"~/.ssh/authorized_keys ({error})") from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise TestbedError(f"cannot reach {where} by SSH: {_reason(error)}; is it up, is sshd running, is the address "
                           "right?") from error


def _reason(error: Exception) -> str:
    """In words, where the library's are none."""
    if isinstance(error, paramiko.ChannelException):  # the answer of a jump host
        if error.code == 1:
            return "the jump host does not forward connections (AllowTcpForwarding in its sshd_config)"
        return f"the jump host says: {error.text or 'refused'}"
    return str(error) or type(error).__name__
