# SPDX-License-Identifier: Apache-2.0
"""Byte channels to an agent: over SSH to another host, over pipes to a child of this process."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import paramiko

from harness.host.child import Spawn, spawn_here, wait_or_kill

_TAIL = 8192


class ByteChannel(Protocol):
    """Bytes to and from a program's stdin and stdout; ``send`` may be called from another thread than ``receive``."""

    def send(self, data: bytes) -> None:
        """Write all of it; OSError when the program or the connection is gone or does not take it in time."""

    def receive(self, timeout_s: float) -> bytes:
        """Some bytes; b"" at the end; TimeoutError when none came."""

    def diagnosis(self) -> str:
        """The tail of what the program said on stderr."""

    def close(self) -> None:
        """Close both directions: the program sees the end of its input. Idempotent."""


class SshChannel:
    """A program on another host, started on an SSH channel of its own."""

    def __init__(self, channel: paramiko.Channel, send_timeout_s: float = 30.0) -> None:
        self._channel = channel
        self._send_timeout_s = send_timeout_s
        self._errors = bytearray()

    def send(self, data: bytes) -> None:
        self._channel.settimeout(self._send_timeout_s)
        self._channel.sendall(data)

    def receive(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while True:
            self._drain_errors()
            if self._channel.recv_ready():
                return self._channel.recv(1 << 20)
            if self._channel.closed or self._channel.eof_received:
                return b""
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the agent is silent")
            select.select([self._channel], [], [], min(left, 1.0))

    def _drain_errors(self) -> None:
        while self._channel.recv_stderr_ready():
            self._errors += self._channel.recv_stderr(65536)
            del self._errors[:-_TAIL]

    def diagnosis(self) -> str:
        self._drain_errors()
        return self._errors.decode(errors="replace").strip()

    def close(self) -> None:
        self._channel.close()


class PipeChannel:
    """A program that is a child of this process."""

    def __init__(self, argv: Sequence[str], spawn: Spawn = spawn_here) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child, closed in close()
        self.process = spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        stdin = self.process.stdin
        assert stdin is not None
        with self._lock:
            if stdin.closed:
                raise BrokenPipeError("the channel is closed")
            view = memoryview(data)
            while view:
                view = view[os.write(stdin.fileno(), view):]

    def receive(self, timeout_s: float) -> bytes:
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            return b""
        if not select.select([self.process.stdout], [], [], timeout_s)[0]:
            raise TimeoutError("the agent is silent")
        return os.read(self.process.stdout.fileno(), 1 << 20)

    def diagnosis(self) -> str:
        if self._errors.closed:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        return self._errors.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Close the pipes and wait for the agent, which undoes first; only one that hangs is killed."""
        if self._errors.closed:
            return
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._lock, contextlib.suppress(BrokenPipeError):  # the agent may have ended first
            self.process.stdin.close()
        wait_or_kill(self.process, 60.0)
        self.process.stdout.close()
        self._errors.close()
