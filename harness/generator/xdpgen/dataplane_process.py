# SPDX-License-Identifier: Apache-2.0
"""The native process behind NativeDataplane, and the messages of ``native/protocol.h``."""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.errors import GeneratorDied, GeneratorError, TestbedError
from harness.generator.xdpgen.build import native_programs
from harness.host.child import wait_or_kill

PROTOCOL_VERSION = 3
#: Buckets of one latency histogram (native/xdpgen.h): 1024 exact ones, then 1024 an octave up to 2^34 ns.
HIST_BUCKETS = 25 * 1024
_LATENCY_GROUPS = 128
_REPLY_ROOM = 1 << 17
_TIMEOUT_S = 30.0
_REQUEST = struct.Struct("=IIII")
_REPLY = struct.Struct("=iI")
_HELLO_REPLY = struct.Struct("=IIIIII")
START_RECORD = struct.Struct("=QQQQQdIIIHHHHHHHBBHH")
RATE_RECORD = struct.Struct("=dII")
PORT_REPLY = struct.Struct("=15QII")
GROUP_REPLY = struct.Struct("=4Q")
LATENCY_STATE = struct.Struct("=IIBBHI18Q")
CAPTURE_RECORD = struct.Struct("=QII")


class Op(enum.IntEnum):
    """Operations of protocol.h."""

    HELLO = 1
    START = 2
    RATE = 3
    STOP = 4
    ACTIVE = 5
    PORT = 6
    GROUP_OPEN = 7
    GROUP_CLOSE = 8
    GROUP = 9
    LATENCY = 10
    REPORT = 11
    RESET_REPORTS = 12
    CAPTURE = 13
    CAPTURED = 14
    QUIT = 15


class DataplaneProcess:
    """``xdpgen-dp``, started in this process's network namespace; it ends when this process does.

    Raises TestbedError when it cannot start (missing tools, permissions, kernel or driver support), GeneratorError
    when it refuses a request, GeneratorDied when it is gone.
    """

    def __init__(self, ports: Sequence[str], cores: Sequence[int], table_cells: int) -> None:
        program, bpf_object = native_programs()
        self._lock = threading.Lock()
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_TIMEOUT_S)
        argv = [str(program), str(bpf_object), str(table_cells), ",".join(ports), ",".join(map(str, cores))]
        self._process = subprocess.Popen(
            argv, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=self._messages, start_new_session=True
        )
        theirs.close()
        self._histograms: npt.NDArray[np.uint64] | None = None
        try:
            self._begin()
        except GeneratorError as error:
            text = self._last_messages()
            self.close()
            raise TestbedError(f"xdpgen's dataplane does not start: {error}{text}") from error

    @property
    def pid(self) -> int:
        """Process id of ``xdpgen-dp``."""
        return self._process.pid

    def _begin(self) -> None:
        self._receive()  # the outcome of setting up
        self._send(_REQUEST.pack(Op.HELLO, 0, 0, 0), None)
        reply, fds = self._receive()
        try:
            if _HELLO_REPLY.unpack(reply)[0] != PROTOCOL_VERSION:
                raise GeneratorError("xdpgen-dp speaks another version of the protocol: delete the cache directory")
            size = 8 * _LATENCY_GROUPS * HIST_BUCKETS
            memory = mmap.mmap(fds[0], size, mmap.MAP_SHARED, mmap.PROT_READ)
            self._histograms = np.frombuffer(memory, np.uint64).reshape(_LATENCY_GROUPS, HIST_BUCKETS)
        finally:
            for fd in fds:
                os.close(fd)

    def ask(
        self, op: Op, arg: int = 0, value: int = 0, limit: int = 0, body: bytes = b"", fd: int | None = None
    ) -> bytes:
        """One request, its reply's payload."""
        with self._lock:
            self._send(_REQUEST.pack(op, arg, value, limit) + body, fd)
            return self._receive()[0]

    def histogram(self, group: int) -> npt.NDArray[np.uint64]:
        """A copy of one latency group's bucket counts, shape (HIST_BUCKETS,)."""
        if self._histograms is None:
            raise GeneratorDied("xdpgen's dataplane is closed")
        counts: npt.NDArray[np.uint64] = self._histograms[group].copy()
        return counts

    def _send(self, message: bytes, fd: int | None) -> None:
        try:
            socket.send_fds(self._socket, [message], [] if fd is None else [fd])
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            message, fds, _flags, _address = socket.recv_fds(self._socket, _REPLY_ROOM, 1)
        except TimeoutError as error:
            raise GeneratorDied(f"xdpgen's dataplane has not answered for {_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise self._died() from error
        if len(message) < _REPLY.size:
            raise self._died()
        status, length = _REPLY.unpack_from(message)
        body = message[_REPLY.size : _REPLY.size + length]
        if status:
            raise GeneratorError(body.decode(errors="replace") or os.strerror(-status))
        return body, fds

    def _died(self) -> GeneratorDied:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its socket closes a moment before it can be waited for
            self._process.wait(2)
        status = self._process.returncode
        return GeneratorDied(f"xdpgen's dataplane is gone (exit status {status}){self._last_messages()}")

    def _last_messages(self) -> str:
        if self._messages.closed:
            return ""
        self._messages.seek(0)
        lines = self._messages.read(1 << 20).decode(errors="replace").splitlines()
        return "".join(f"\n{line}" for line in lines[-8:])

    def close(self) -> None:
        """End the process; idempotent."""
        self._socket.close()
        wait_or_kill(self._process, 10.0)
        self._messages.close()
        self._histograms = None
