# SPDX-License-Identifier: Apache-2.0
"""The places that take a program of ours: at a socket (``src/drop_socket.c``), and in BPF (``src/tc_drop.c``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from harness.errors import HostError, StackError
from harness.host.contract import Dut, RemoteProcess
from harness.stack import Missing, RunningStack, StackContext, StackCounters
from harness.stacks.probes import missing_programs

from .place import DISCARDED, Place, summed
from .target import Target

_READY_S = 15.0
_STATS_S = 5.0


class RunningProgram(RunningStack):
    """A program that answers ``stats ID`` with a JSON line."""

    thread_names = ("drop_socket", "drop-worker/", "tc_drop")

    def __init__(self, dut: Dut, process: RemoteProcess, name: str) -> None:
        self._dut, self.process, self._name = dut, process, name
        self._ids = count(1)

    def check_alive(self) -> None:
        if not self.process.alive():
            raise StackError(f"{self._name} on {self._dut.name} ended with status {self.process.returncode()}",
                             self.log_tail())

    def counters(self) -> StackCounters:
        number = next(self._ids)
        try:
            self.process.write(f"stats {number}\n")
            line = self.process.wait_output(rf'^\{{"id":{number},', _STATS_S)
            return self._read(json.loads(line))
        except HostError as error:
            self.check_alive()
            raise StackError(f"{self._name} does not answer: {error}", self.log_tail()) from error
        except (ValueError, LookupError, TypeError) as error:
            raise StackError(f"{self._name} gave counters that cannot be read: {error!r}", self.log_tail()) from error

    def _read(self, answer: Mapping[str, Any]) -> StackCounters:
        raise NotImplementedError

    def log_tail(self) -> str:
        return self.process.output(4096)


class _RunningReaders(RunningProgram):
    def _read(self, answer: Mapping[str, Any]) -> StackCounters:
        sockets = answer["sockets"]
        workers = [{"core": int(s["core"]), DISCARDED: int(s["received"])} for s in sockets]
        return summed(workers, {"socket buffer": sum(int(s["drops"]) for s in sockets)})


class _RunningSocket(RunningProgram):
    def _read(self, answer: Mapping[str, Any]) -> StackCounters:
        return summed([{DISCARDED: int(s["drops"])} for s in answer["sockets"]])


class RunningBpf(RunningProgram):
    """The BPF program, seen through its loader: one count a CPU."""

    def _read(self, answer: Mapping[str, Any]) -> StackCounters:
        return summed([{"cpu": cpu, DISCARDED: int(n)} for cpu, n in enumerate(answer["discarded"]) if int(n)])


@contextmanager
def program_running(dut: Dut, argv: Sequence[str], kind: type[RunningProgram], name: str,
                    cores: Sequence[int] = ()) -> Iterator[RunningStack]:
    """Start a program, wait until it says ``ready``, end it at the end of the block."""
    process = dut.spawn(argv, name=name, cores=cores)
    try:
        try:
            process.wait_output("^ready$", _READY_S)
        except HostError as error:
            raise StackError(f"{name} did not start: {error}", process.output(4096)) from error
        yield kind(dut, process, name)
    finally:
        process.stop()


class SocketPlace(Place):
    """At a socket, by ``drop_socket``; ``mode`` is its first argument."""

    after_conntrack = True
    has_rules = False
    mode: str
    running: type[RunningProgram] = _RunningSocket

    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        return missing_programs(dut, ("make", "make"), ("cc", "gcc libc6-dev"))

    @contextmanager
    def deploy(self, context: StackContext, target: Target) -> Iterator[RunningStack]:
        dut, cores = context.dut, context.point.cores
        program = dut.program(context.source / "src", "drop_socket")
        argv = [program, self.mode, f"{target.ip}:{target.udp_port}", str(target.rules), ",".join(map(str, cores))]
        with program_running(dut, argv, self.running, "drop_socket", cores) as running:
            yield running


class SocketUnread(SocketPlace):
    """A bound socket that nobody reads, its buffer full."""

    semantics = "dropped at a bound socket that nobody reads, its buffer full"
    mode = "unread"


class SocketFilter(SocketPlace):
    """A bound socket with a filter that takes nothing."""

    semantics = "dropped by a socket filter (SO_ATTACH_FILTER)"
    has_rules = True
    mode = "filter"


class Recvmmsg(SocketPlace):
    """A program that receives and forgets."""

    semantics = "received by a program with recvmmsg and thrown away"
    in_softirq = False
    mode = "recvmmsg"
    running = _RunningReaders
