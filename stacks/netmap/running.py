# SPDX-License-Identifier: Apache-2.0
"""Deployed netmap programs and their counters: pkt-gen's reports, our worker's answers, the interface's for bridge."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from harness.errors import StackError
from harness.host.contract import Dut, RemoteProcess
from harness.stack import PollUsage, RunningStack, StackCounters
from harness.stacks.servers import RunningServer

from . import parse

#: Milliseconds between two of pkt-gen's reports; a count is complete with the first one after it was asked for.
REPORT_MS = 100
_FRESH_S = 10.0
_LOOK_S = 0.02
_RECENT = 1 << 16
_ALL = 1 << 20


class RunningNetmap(RunningStack):
    """One program of netmap's that serves the role."""

    #: What it is called in errors.
    program = "netmap"

    def __init__(self, dut: Dut, process: RemoteProcess, degraded: str) -> None:
        self._dut, self.process, self.degraded = dut, process, degraded

    def check_alive(self) -> None:
        if not self.process.alive():
            raise StackError(f"netmap: {self.program} on {self._dut.name} ended with status "
                             f"{self.process.returncode()}.", self.log_tail())

    def log_tail(self) -> str:
        return self.process.output(4096)


class RunningPktGen(RunningNetmap):
    """``pkt-gen -f rx``: every frame received is discarded. It cannot be asked: it reports, ten times a second."""

    program = "pkt-gen"
    thread_names = ("pkt-gen",)

    def __init__(self, dut: Dut, process: RemoteProcess, degraded: str) -> None:
        super().__init__(dut, process, degraded)
        self._received, self._last = 0, ""

    def counters(self) -> StackCounters:
        """As of now: waits for the first report that was printed after the call."""
        self._read(_ALL)
        seen, deadline = self._last, time.monotonic() + _FRESH_S
        while self._last == seen:
            self.check_alive()
            if time.monotonic() > deadline:
                raise StackError(f"netmap: pkt-gen has not reported for {_FRESH_S:g} s.", self.log_tail())
            time.sleep(_LOOK_S)
            self._read(_RECENT)
        return StackCounters({"received": self._received, "discarded": self._received})

    def _read(self, tail: int) -> None:
        """Add up the reports that came since the last look."""
        found = list(parse.reports(self.process.output(tail)))
        known = next((n for n in range(len(found) - 1, -1, -1) if found[n].stamp == self._last), None)
        if self._last and known is None:
            raise StackError("netmap: pkt-gen reported more than its log holds; frames were not counted.",
                             self.log_tail())
        for report in found[0 if known is None else known + 1:]:
            if not report.exact:
                raise StackError("netmap: pkt-gen rounds its figures although -N was given.", self.log_tail())
            self._received += int(report.packets)
            self._last = report.stamp


class RunningBridge(RunningNetmap):
    """netmap's bridge has no counters: the driver's are read as far as it counts what netmap moved."""

    program = "bridge"
    thread_names = ("bridge",)

    def __init__(self, dut: Dut, process: RemoteProcess, degraded: str, ports: Sequence[str]) -> None:
        super().__init__(dut, process, degraded)
        self._ports = tuple(ports)
        self._before = self._statistics()

    def counters(self) -> StackCounters:
        self.check_alive()
        per_port = tuple({name: value - old.get(name, 0) for name, value in now.items()}
                         for now, old in zip(self._statistics(), self._before, strict=True))
        totals = {f"{name}.{index}": value for index, port in enumerate(per_port) for name, value in port.items()}
        return StackCounters(totals, per_port)

    def _statistics(self) -> list[Mapping[str, int]]:
        now = self._dut.interface_counters(self._ports)
        wanted = ("rx_packets", "tx_packets", "rx_dropped", "tx_dropped", "rx_missed_errors")
        return [{name: now[port].get(name, 0) for name in wanted} for port in self._ports]


class _Worker(BaseModel):
    """One worker in the program's answer (``src/worker.h``)."""

    core: int
    received: int
    discarded: int
    sent: int
    other: int
    up: int
    down: int
    useful: int
    empty: int
    stuck: int


class _Stats(BaseModel):
    workers: list[_Worker]


class RunningWorker(RunningServer[_Stats]):
    """Our own program, asked through its standard input."""

    thread_names = ("netmap-worker",)

    def __init__(self, dut: Dut, process: RemoteProcess, degraded: str) -> None:
        super().__init__(dut, process, "netmap-worker", _Stats.model_validate_json)
        self.degraded = degraded

    def counters(self) -> StackCounters:
        per_worker = tuple(worker.model_dump() for worker in self.stats().workers)
        totals = {name: sum(worker[name] for worker in per_worker) for name in _Worker.model_fields if name != "core"}
        return StackCounters(totals, per_worker)

    def poll_usage(self) -> PollUsage | None:
        workers = self.stats().workers
        return PollUsage(sum(w.useful for w in workers), sum(w.empty for w in workers),
                         "returns of poll() with and without frames to move")
