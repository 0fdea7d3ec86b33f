# SPDX-License-Identifier: Apache-2.0
"""The controller's end of the DUT agent's protocol: requests with deadlines, and the heartbeat that keeps the lease."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import HostError, HostLost, TestbedError
from harness.host.channel import ByteChannel

PROTOCOL = 1
LEASE_S = 10.0
#: Time between two signs of life, as shares of the lease: a beat may be late or sent again by TCP before it ends.
_BEAT, _HUSHED_BEAT = 0.2, 0.3
#: How long to wait for an agent of an earlier run that is still undoing.
LOCK_WAIT_S = 15.0
_GRACE_S = 15.0
_MAX_REPLY = 16 << 20


class AgentRefused(HostError):
    """The agent could not do what it was asked; ``kind`` as in ``agent.AgentError``."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Member:
    """What an agent is of which run: ``part`` "generator" or "dut", ``run`` the run's secret. The two parts of one run
    share a host's lock, so that one machine may be both, under whatever names; of each part a machine is only one."""

    run: str
    part: str


#: The parts, as the agent knows them.
GENERATOR_PART, DUT_PART = "generator", "dut"
#: Shares with nobody.
ALONE = Member("", "")


def new_run() -> str:
    """A secret for the parts of a run."""
    return secrets.token_hex(16)


class AgentLink:
    """One connection to an agent. Calls are made one at a time; a heartbeat goes out in between from a thread."""

    def __init__(self, channel: ByteChannel, host: str) -> None:
        self._channel, self._host = channel, host
        self._buffer = bytearray()
        self._number = 0
        self._broken = ""
        self._calling = threading.RLock()
        self._sending = threading.Lock()
        self._lease_s, self._beat = LEASE_S, _BEAT
        self._sent_at = time.monotonic()
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, name=f"heartbeat {host}", daemon=True)

    def hello(self, owner: str, *, home_cores: Sequence[int] = (), lease_s: float = LEASE_S,
              wait_s: float = LOCK_WAIT_S, member: Member = ALONE) -> Mapping[str, Any]:
        """Take the host's lock and begin the lease; returns what the agent says of itself. ``left_over``: changes of
        a dead run that it found and tried to undo, ``not_undone``: those it could not. Raises TestbedError when it is
        busy, or is the machine of another DUT of this run under another name."""
        try:
            answer = self.call("hello", within_s=wait_s + 60.0, protocol=PROTOCOL, owner=owner, lease_s=lease_s,
                               home_cores=list(home_cores), wait_s=wait_s, run=member.run, part=member.part)
        except AgentRefused as error:
            if error.kind == "busy":
                raise TestbedError(f"{self._host} is in use by {error}; wait for that run, or end it") from None
            if error.kind == "twin":
                raise TestbedError(f"{self._host} is a machine that the testbed file has under another name already "
                                   f"({error}); a machine is one DUT, with all its ports: correct the file") from None
            raise TestbedError(f"{self._host}: the agent does not start: {error}") from None
        except HostLost as error:
            raise TestbedError(str(error)) from None
        self._lease_s = lease_s
        self._heart.start()
        return dict(answer)

    # -- requests

    def call(self, op: str, within_s: float = 30.0, **args: Any) -> Any:
        """The agent's answer to one request. ``within_s``: how long the agent itself may take. Raises AgentRefused
        (a HostError) when it says no, HostLost when it is gone or silent."""
        with self._calling:
            if self._broken:
                raise HostLost(self._broken)
            self._number += 1
            self._send({"id": self._number, "op": op, "args": args})
            try:
                answer = self._answer(op, within_s + _GRACE_S)
            except KeyboardInterrupt:
                self._cancel(op)
                raise
        if "error" in answer:
            error = answer["error"]
            raise AgentRefused(str(error.get("message"))[:100_000], str(error.get("kind")))
        return answer.get("ok")

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._write(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._break(f"the agent is gone ({error})") from None

    def _write(self, data: bytes) -> None:
        with self._sending:
            self._channel.send(data)
            self._sent_at = time.monotonic()

    def _break(self, reason: str) -> HostLost:
        """Remember that nothing more can be asked, and say why."""
        details = self._channel.diagnosis()
        self._broken = f"{self._host}: {reason}" + (f": {details}" if details else "")
        return HostLost(self._broken)

    def _answer(self, op: str, timeout_s: float) -> dict[str, Any]:
        """The answer to the latest request; late answers to given-up ones are passed over."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._line(op, deadline)
            if answer.get("id") == self._number:
                return answer

    def _line(self, op: str, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = self._channel.receive(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise self._break(f"the agent did not answer {op} in time") from None
            except OSError as error:
                raise self._break(f"the connection broke during {op} ({error})") from None
            if not data:
                raise self._break(f"the agent ended during {op}; its lease was lost, it was killed, or the host is "
                                  "going down. What was changed there is undone by it or by the next contact")
            self._buffer += data
            if len(self._buffer) > _MAX_REPLY:
                raise self._break(f"the agent answered {op} with more than {_MAX_REPLY} bytes")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._break(f"the agent answered {op} with something that is not JSON: {line[:200]!r}") from None
        if not isinstance(answer, dict):
            raise self._break(f"the agent answered {op} with something that is no object")
        return answer

    def _cancel(self, op: str) -> None:
        """The user pressed Ctrl-C: end what the agent is doing, so that undoing can begin at once."""
        self._send({"op": "cancel", "id": self._number})
        with contextlib.suppress(HostLost):  # not answered: the next call says so, and the lease ends by itself
            self._answer(op, 10.0)

    # -- lease

    def _beat_on(self) -> None:
        due = self._sent_at + self._beat * self._lease_s
        while not self._closed.wait(max(0.0, due - time.monotonic())):
            if time.monotonic() >= self._sent_at + self._beat * self._lease_s:
                try:
                    self._write(b'{"op": "beat"}\n')
                except OSError:
                    return  # the next call reports it
            due = self._sent_at + self._beat * self._lease_s

    def hush(self) -> None:
        """Until :meth:`resume` only the heartbeats without which the lease would end, one in 3 s of silence. Used
        around trials: in the lab the SSH server shares the cores that are measured, and trials up to 3 s are left
        alone. The lease stays as it is: silence in a trial is undone as soon as at any other time."""
        self._beat = _HUSHED_BEAT

    def resume(self) -> None:
        """Heartbeats as ever."""
        self._beat = _BEAT

    # -- end

    def close(self) -> list[str]:
        """Undo everything, end the agent, close the channel; returns what could not be undone. When the agent is
        out of reach it undoes by itself, and HostLost says so. Idempotent."""
        if self._closed.is_set():
            return []
        self._closed.set()
        try:
            return [] if self._broken else list(self.call("bye", within_s=120.0))
        finally:
            self._channel.close()
            if self._heart.is_alive():
                self._heart.join(5.0)

    def abandon(self) -> None:
        """Close the channel without a good-bye (the greeting failed). The agent undoes and ends by itself."""
        self._closed.set()
        self._channel.close()
