# SPDX-License-Identifier: Apache-2.0
"""JSON lines to the generator's agent, over whatever channel reaches its process."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from harness.errors import GeneratorDied, GeneratorError, TestbedError
from harness.host.channel import ByteChannel

_MAX_REPLY = 256 * 1024 * 1024


class AgentClient:
    """Calls of the agent's protocol, one at a time, each with a deadline."""

    def __init__(self, channel: ByteChannel) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self._next_id = 0
        #: False while a call is under way, and for good once one was broken off: its reply may still come.
        self.usable = True

    def call(self, op: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """The result of one operation; GeneratorDied when the agent or its server is gone, TestbedError when somebody
        else has the generator."""
        if not self.usable:
            raise GeneratorDied(f"an earlier call to the generator was broken off; {op} cannot be asked any more")
        self.usable = False
        self._next_id += 1
        request = json.dumps({"id": self._next_id, "op": op, "params": params}) + "\n"
        try:
            self._channel.send(request.encode())
        except OSError as error:
            raise GeneratorDied(f"the generator's agent is gone ({error}): {self._channel.diagnosis()}") from error
        reply = self._reply(op, timeout_s)
        if reply.get("id") != self._next_id:
            raise GeneratorError(f"the generator's agent answered out of turn: {str(reply)[:200]}")
        self.usable = True
        if reply.get("ok"):
            return reply["result"]
        problem = reply.get("error", {})
        kind, message = problem.get("kind"), str(problem.get("message"))[:4000]
        if kind == "lost":
            raise GeneratorDied(f"the generator no longer answers: {message}")
        if kind == "testbed":
            raise TestbedError(f"the generator cannot be used: {message.partition(': ')[2]}")
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
        except (ValueError, RecursionError) as error:
            raise GeneratorError(f"the generator's agent answered {op} with something that is not JSON") from error
        if not isinstance(reply, dict):
            raise GeneratorError(f"the generator's agent answered {op} with {type(reply).__name__}, not an object")
        return reply

    def close(self) -> None:
        """End the agent."""
        self._channel.close()
