# SPDX-License-Identifier: Apache-2.0
"""JSON lines to an agent in a process of its own, over a pipe here or over an SSH channel to another host."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from harness.errors import GeneratorDied, GeneratorError

_MAX_REPLY = 256 * 1024 * 1024


class LineChannel(Protocol):
    """Bytes to and from the agent's process."""

    def send(self, data: bytes) -> None:
        """Write all of it; OSError when the process is gone."""

    def receive(self, timeout_s: float) -> bytes:
        """Some bytes; b"" at end of file; TimeoutError when none came."""

    def diagnosis(self) -> str:
        """What the process said on stderr, its tail."""

    def close(self) -> None:
        """End the process. Idempotent."""


#: Starts an argv with the given stdin, stdout and stderr: subprocess.Popen here, or a lab's own spawn.
Spawn = Callable[..., "subprocess.Popen[bytes]"]


class PipeChannel:
    """An agent that is a child of this process."""

    def __init__(self, argv: Sequence[str], spawn: Spawn = subprocess.Popen) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child, closed in close()
        self._process = spawn(list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def receive(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        if not self._selector.select(timeout_s):
            raise TimeoutError
        return self._process.stdout.read1(1 << 20)  # type: ignore[attr-defined,no-any-return]

    def diagnosis(self) -> str:
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - 4096))
        return self._errors.read().decode(errors="replace").strip()

    def close(self) -> None:
        if self._errors.closed:
            return
        self._selector.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it is already gone; waiting for it below tells
            self._process.stdin.close()
        stop_process(self._process)
        self._process.stdout.close()
        self._errors.close()


def stop_process(process: subprocess.Popen[bytes], grace_s: float = 5.0) -> int:
    """Wait for a child to end by itself, then INT, TERM, KILL in turn; returns its exit status."""
    steps = [None, process.terminate, process.kill]
    for step in steps:
        if step is not None:
            step()
        try:
            return process.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue
    return process.wait()


class AgentClient:
    """Calls of the agent's protocol, one at a time, each with a deadline."""

    def __init__(self, channel: LineChannel) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self._next_id = 0

    def call(self, op: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """The result of one operation; GeneratorDied when the agent or its server is gone."""
        self._next_id += 1
        request = json.dumps({"id": self._next_id, "op": op, "params": params}) + "\n"
        try:
            self._channel.send(request.encode())
        except OSError as error:
            raise GeneratorDied(f"the generator's agent is gone ({error}): {self._channel.diagnosis()}") from error
        reply = self._reply(op, timeout_s)
        if reply.get("id") != self._next_id:
            raise GeneratorError(f"the generator's agent answered out of turn: {str(reply)[:200]}")
        if reply.get("ok"):
            return reply["result"]
        problem = reply.get("error", {})
        kind, message = problem.get("kind"), str(problem.get("message"))[:4000]
        if kind == "lost":
            raise GeneratorDied(f"the generator no longer answers: {message}")
        raise GeneratorError(f"the generator refused {op}: {message}")

    def _reply(self, op: str, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            try:
                data = self._channel.receive(max(0.0, left))
            except TimeoutError:
                raise GeneratorDied(
                    f"the generator's agent did not answer {op} within {timeout_s:.0f} s: {self._channel.diagnosis()}"
                ) from None
            if not data:
                raise GeneratorDied(f"the generator's agent ended during {op}: {self._channel.diagnosis()}")
            self._buffer += data
            if len(self._buffer) > _MAX_REPLY:
                raise GeneratorError(f"the generator's agent answered {op} with more than {_MAX_REPLY} bytes")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise GeneratorError(f"the generator's agent answered {op} with something that is not JSON") from error
        if not isinstance(reply, dict):
            raise GeneratorError(f"the generator's agent answered {op} with {type(reply).__name__}, not an object")
        return reply

    def close(self) -> None:
        """End the agent."""
        self._channel.close()
