# SPDX-License-Identifier: Apache-2.0
"""What every generator behind the agent has in common: the connection, calls that tell refusal from death, the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import GeneratorDied, GeneratorError
from harness.generator.channel import AgentClient
from harness.generator.contract import GeneratorPort


class Driven:
    """A server driven through the agent beside its client. ``call_s``: what a call may take."""

    def __init__(self, agent: AgentClient, connect: Mapping[str, Any], call_s: float) -> None:
        self._agent, self._call_s = agent, call_s
        self._about: Mapping[str, Any] = agent.call("connect", {**connect, "user": "harness"}, call_s)

    def ports(self) -> Sequence[GeneratorPort]:
        """The ports, by index."""
        return [GeneratorPort(**port) for port in self._about["ports"]]

    def _call(self, op: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """A call whose failure is told apart: the generator refused, or it is gone."""
        try:
            return self._agent.call(op, params, timeout_s)
        except GeneratorDied:
            raise
        except GeneratorError as error:
            if self.alive():
                raise
            raise GeneratorDied(f"the generator no longer answers; {op} ended with: {error}") from error

    def alive(self) -> bool:
        """Whether the agent and the server behind it still answer."""
        try:
            self._agent.call("ping", {}, self._call_s)
        except GeneratorError:
            return False
        return True

    def close(self) -> None:
        """Release the ports and end the agent; after a call that was broken off, only the end of its input tells the
        agent, which then does the same."""
        try:
            if self._agent.usable:
                self._agent.call("close", {}, self._call_s)
        finally:
            self._agent.close()
