# SPDX-License-Identifier: Apache-2.0
"""The program while it runs: whether it is ready, what it counts, how it is ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from harness.errors import HostError, StackError
from harness.host.contract import Dut, RemoteProcess
from harness.stack import RunningStack, StackCounters
from harness.yamlfile import close_match

from . import counters, placeholders
from .params import CommandParams, Ready

LOG_BYTES = 8192
COUNTERS_S = 10.0
_LOOK_S = 0.02
#: State column of /proc/net/tcp for a listening socket.
_LISTEN = "0A"


class Place:
    """Where the commands of a point run: its values for placeholders, its directory and environment."""

    def __init__(self, dut: Dut, params: CommandParams, values: Mapping[str, str]) -> None:
        self.dut, self.params, self.values = dut, params, values

    def argv(self, words: Sequence[str], pid: int | None = None) -> list[str]:
        """The whole argv of a command of the scenario."""
        values = self.values if pid is None else {**self.values, "pid": str(pid)}
        variables = [f"{name}={placeholders.fill([value], values)[0]}"
                     for name, value in self.params.environment.items()]
        directory = ["-C", self.params.directory] if self.params.directory else []
        prefix = ["env", *directory, *variables] if directory or variables else []
        return [*prefix, *placeholders.fill(words, values)]


class RunningCommand(RunningStack):
    """The user's program, and the user's word for what it counts."""

    def __init__(self, place: Place, process: RemoteProcess, name: str) -> None:
        self._place, self.process, self._name = place, process, name
        comm = PurePosixPath(place.params.start[0]).name[:15]
        self.thread_names = (comm, *place.params.threads)
        self._before: Mapping[str, int] = {}

    def begin(self) -> None:
        """Count from here on."""
        self._before = self._read()

    def check_alive(self) -> None:
        if self.process.alive():
            return
        status = self.process.returncode()
        hint = ("; a program that goes to the background cannot be watched: give it the option that keeps it in the "
                "foreground" if status == 0 else "")
        raise StackError(f"{self._name} on {self._place.dut.name} ended with status {status}{hint}", self.log_tail())

    def counters(self) -> StackCounters:
        params, now = self._place.params, self._read()
        totals = {name: value - self._before.get(name, 0) for name, value in now.items()}
        wanted = [name for name in (params.discard_counter, *params.losses.values()) if name]
        for name in wanted:
            if name not in totals:
                raise StackError(f"{self._name}: its counters have no {name!r}; {close_match(name, list(totals)[:50])}")
            if totals[name] < 0:
                raise StackError(f"{self._name}: its counter {name!r} fell; it has to count on from its start")
        return StackCounters(totals, (), {place: totals[name] for place, name in params.losses.items()})

    def _read(self) -> Mapping[str, int]:
        if not self._place.params.counters:
            return {}
        argv = self._place.argv(self._place.params.counters, self.process.pid)
        try:
            return counters.parse(self._place.dut.run(argv, timeout_s=COUNTERS_S).stdout)
        except HostError as error:
            self.check_alive()
            raise StackError(f"{self._name}: its counter command failed: {error}", self.log_tail()) from error

    def log_tail(self) -> str:
        return self.process.output(LOG_BYTES)


def sockets_on(dut: Dut, ready: Ready, values: Mapping[str, str]) -> int:
    """How many sockets listen on (TCP) or are bound to (UDP) the port that says it is ready."""
    protocol, port = ("tcp", ready.tcp) if ready.tcp else ("udp", ready.udp)
    number = int(placeholders.fill([str(port)], values)[0])
    found = 0
    for table in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
        for row in dut.read(table, "").splitlines()[1:]:
            fields = row.split()
            local, state = (fields[1], fields[3]) if len(fields) > 3 else ("", "")
            if local.rpartition(":")[2] == f"{number:04X}" and (protocol == "udp" or state == _LISTEN):
                found += 1
    return found


def await_ready(place: Place, process: RemoteProcess, name: str) -> None:
    """Return once the program serves. Raises StackError when it ends or its time is over first, with its words."""
    ready = place.params.ready
    assert ready is not None  # a start without it is refused
    try:
        if ready.output is not None:
            process.wait_output(ready.output, ready.timeout_s)
            return
        deadline = time.monotonic() + ready.timeout_s
        while not _serves(place, ready, process.pid):
            if not process.alive():
                raise StackError(f"{name} did not start: it ended with status {process.returncode()} before it was "
                                 "ready", process.output(LOG_BYTES))
            if time.monotonic() > deadline:
                raise StackError(f"{name} did not start: not ready in {ready.timeout_s:g} s", process.output(LOG_BYTES))
            time.sleep(_LOOK_S)
    except HostError as error:
        raise StackError(f"{name} did not start: {error}", process.output(LOG_BYTES)) from error


def _serves(place: Place, ready: Ready, pid: int) -> bool:
    if ready.command:
        done = place.dut.run(place.argv(ready.command, pid), timeout_s=ready.timeout_s, check=False)
        return done.returncode == 0
    return sockets_on(place.dut, ready, place.values) > 0


def end(place: Place, process: RemoteProcess, name: str) -> None:
    """End it as the scenario says; what has not ended in time is ended by the agent, with all it started. Raises
    StackError when the stop command fails, afterwards."""
    stop, problem = place.params.stop, ""
    try:
        if process.alive():
            argv = ["kill", "-s", stop, str(process.pid)] if isinstance(stop, str) else place.argv(stop, process.pid)
            done = place.dut.run(argv, timeout_s=place.params.stop_s, check=False)
            if done.returncode != 0 and process.alive():
                problem = f"status {done.returncode}: {(done.stderr or done.stdout)[-500:].strip()}"
            deadline = time.monotonic() + place.params.stop_s
            while not problem and process.alive() and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
    except HostError as error:
        problem = str(error)
    finally:
        process.stop()
    if problem:
        raise StackError(f"{name}: its stop command failed, so it was killed: {problem}", process.output(LOG_BYTES))
