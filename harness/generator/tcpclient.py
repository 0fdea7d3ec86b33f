# SPDX-License-Identifier: Apache-2.0
"""The Generator contract for role accept: TCP connections at a rate, made by h2load over the generator's kernel.

What was begun is counted by the kernel (Tcp: ActiveOpens), what was completed by the client; so a client that fell
behind, or had no socket left, shows. It may be late but never silently: how long the attempts took is watched while
they are made, and ``asked`` is then what the rate asks for in that time.
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import GeneratorError, TestbedError
from harness.generator import h2load
from harness.generator.contract import (
    CapturedFrame,
    DirectionResult,
    GeneratorPort,
    LatencyResult,
    SelfReport,
    TrafficResult,
    TrafficSpec,
)
from harness.generator.embedded import on_cores
from harness.generator.tgkernel import Inside, TgKernel
from harness.host.child import Spawn, stop
from harness.lab.errors import LabError
from harness.lab.wires import tool
from harness.plan import DirectionPlan, WirePlan

#: How often the kernel is asked how many connections were begun: the resolution of the time they took.
_LOOK_S = 0.01
#: More than this share of its time over it, the client was late: beyond what the pace's rounding and a look explain.
_LATE = 0.02
#: Most connections of one trial: its log is read into memory.
MOST = 5_000_000
_PATIENCE_S, _PER_SECOND = 30.0, 20.0
_STOP_S = 5.0
_PROC_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class ClientHost:
    """Where the client runs: how to start a program there, how to call inside its namespace, on which cores."""

    spawn: Spawn
    inside: Inside
    cores: Sequence[int]


def check_client() -> None:
    """Raise TestbedError (exit 3) when this machine lacks the client."""
    try:
        tool(h2load.PROGRAM)
    except LabError:
        raise TestbedError(f"role accept needs the TCP client {h2load.PROGRAM}, which this machine lacks: apt-get "
                           f"install {h2load.PACKAGE} (`make setup` does it)") from None


class TcpClientGenerator:
    """h2load as a traffic generator. Implements :class:`harness.generator.contract.Generator`; rates are connections
    per second, counts are connections."""

    def __init__(self, host: ClientHost, wire: WirePlan, direction: DirectionPlan) -> None:
        self._host, self._wire, self._direction = host, wire, direction
        check_client()
        flows = direction.flows
        self._url = f"http://{flows.dst_ip}:{flows.dst_port}/"
        self._version = self._ask_version()
        self._kernel = TgKernel(host.inside, wire, direction)

    def _ask_version(self) -> str:
        argv = [tool(h2load.PROGRAM), "--version"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip().removeprefix(h2load.PROGRAM).strip()

    def describe(self) -> Mapping[str, Any]:
        return {"kind": h2load.PROGRAM, "version": self._version, "client": f"{h2load.PROGRAM} --h1",
                "package": h2load.PACKAGE, "cores": list(self._host.cores), "patience_ms": h2load.PATIENCE_MS,
                "tcp": "the kernel of the generator's namespace"}

    def ports(self) -> Sequence[GeneratorPort]:
        tg = self._wire.tg
        return [GeneratorPort(tg.index, tg.mac, self._wire.speed_gbps, "kernel TCP", True)]

    def configure(self, traffic: TrafficSpec) -> None:
        if traffic.directions != (self._direction,):
            raise GeneratorError("the TCP client serves the one direction it was made for")

    def alive(self) -> bool:
        """There is no server that could have died; each trial starts the client anew."""
        return True

    def trial(self, rate_pps: float, duration_s: float) -> TrafficResult:
        connections = max(1, round(rate_pps * duration_s))
        if connections > MOST:
            raise GeneratorError(f"{rate_pps:,.0f} connections/s for {duration_s:g} s are more than the {MOST:,} of "
                                 "one trial; shorten the trial")
        before = self._kernel.counters()
        with tempfile.TemporaryDirectory(prefix="harness-h2load-") as folder:
            log = Path(folder) / "log"
            with _Watch(self._kernel.attempts, self._host.cores) as watch:
                output = self._run(connections, rate_pps, duration_s, log)
            summary = h2load.parse_summary(output)
            with log.open(encoding="ascii", errors="replace") as lines:
                replies = h2load.parse_log(lines)
        kernel = {k: v - before.get(k, 0) for k, v in self._kernel.counters().items() if v != before.get(k, 0)}
        return self._result(_Made(rate_pps, duration_s, connections, summary, replies, kernel, watch))

    def _run(self, connections: int, rate: float, duration_s: float, log: Path) -> str:
        """The client's output. Raises GeneratorError when it fails or does not end."""
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        argv = h2load.command(self._url, connections, rate, len(self._host.cores), str(log))
        argv = on_cores(self._host.cores, ["prlimit", f"--nofile={limit}:{limit}", *argv])
        patience = _PATIENCE_S + _PER_SECOND * duration_s
        process = self._host.spawn(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise GeneratorError(f"{h2load.PROGRAM} did not end within {patience:.0f} s") from None
        finally:
            stop(process, _STOP_S)
        text = output.decode(errors="replace")
        if process.returncode != 0:
            raise GeneratorError(f"{h2load.PROGRAM} ended with status {process.returncode}: {text[-1000:].strip()}")
        return str(text)

    def _result(self, made: _Made) -> TrafficResult:
        summary, port = made.summary, self._direction.tx_port
        begun = made.kernel.get("tcp.ActiveOpens", 0)
        direction = DirectionResult(
            tx_port=port, rx_port=port, asked=made.asked(), sent=begun, received=summary.succeeded,
            skipped={"no socket": made.connections - begun} if begun < made.connections else {},
        )
        report = SelfReport(
            asked_s=made.duration_s, real_s=made.took_s(), started_ns=made.watch.first_ns, ended_ns=made.watch.last_ns,
            utilisation=made.watch.busy(), queue_full=0, extra={"client": made.evidence()},
        )
        return TrafficResult([direction], [_latency(port, begun, summary, made.replies)], report)

    def exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[bytes]:
        raise GeneratorError("a TCP client sends no frames of its own; roles other than accept need another generator")

    def capture(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[CapturedFrame]:
        raise GeneratorError("a TCP client captures nothing; the capture on the DUT has both directions")

    def close(self) -> None:
        """Put the generator's kernel back. Idempotent."""
        self._kernel.close()


@dataclass(frozen=True)
class _Made:
    """One trial as client, kernel and watch saw it."""

    rate: float
    duration_s: float
    connections: int
    summary: h2load.Summary
    replies: h2load.Replies
    kernel: Mapping[str, int]
    watch: _Watch

    def took_s(self) -> float:
        """Time that the attempts took: from the first to the last, and the pause that follows a batch."""
        _, period_ms = h2load.pace(self.rate)
        return (self.watch.last_ns - self.watch.first_ns) / 1e9 + period_ms / 1000

    def asked(self) -> int:
        """Connections that the rate asks for, in the time that was really taken when that was too long."""
        took = self.took_s()
        late = took - self.duration_s > max(_LATE * self.duration_s, 3 * _LOOK_S)
        return round(self.rate * took) if late else self.connections

    def evidence(self) -> dict[str, Any]:
        """For the trial's record."""
        connect = self.summary.connect
        return {"kernel": dict(self.kernel), "refused": self.kernel.get("tcp.AttemptFails", 0),
                "late": self.kernel.get("tcpext.TCPAbortOnData", 0),
                "failed": self.summary.failed, "timeout": self.summary.timeout,
                "pace": list(h2load.pace(self.rate)), "connect": asdict(connect) if connect is not None else None}


def _latency(port: int, begun: int, summary: h2load.Summary, replies: h2load.Replies) -> LatencyResult:
    histogram = replies.histogram
    received = sum(count for _, count in histogram)
    total = sum(ns * count for ns, count in histogram)
    return LatencyResult(
        rx_port=port, sent=begun, received=received, lost=begun - summary.succeeded, out_of_order=0, duplicate=0,
        min_ns=histogram[0][0] if histogram else 0, max_ns=histogram[-1][0] if histogram else 0,
        mean_ns=total / received if received else 0.0, jitter_ns=replies.jitter_ns, histogram=histogram,
        resolution_ns=h2load.LOG_RESOLUTION_NS,
    )


class _Watch:
    """Looks, every 10 ms, how many connections were begun. ``first_ns``/``last_ns``: when the first and the last were
    seen (CLOCK_MONOTONIC), up to one look late; both the time of leaving when none was."""

    def __init__(self, attempts: Callable[[], int], cores: Sequence[int]) -> None:
        self._attempts, self._cores = attempts, cores
        self._work: list[dict[int, tuple[int, int]]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="attempts", daemon=True)
        self.first_ns = self.last_ns = 0
        self._error: OSError | None = None

    def __enter__(self) -> _Watch:
        self._before = self._last = self._attempts()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()
        if self._error is not None and exc[0] is None:
            raise GeneratorError(f"the generator's kernel could not be watched: {self._error}") from self._error
        self._look()
        if not self.first_ns:
            self.first_ns = self.last_ns = time.monotonic_ns()

    def _look(self) -> None:
        count = self._attempts()
        if count != self._last:
            self.last_ns = time.monotonic_ns()
            self.first_ns = self.first_ns or self.last_ns
            self._last = count
            self._work[1:] = [_work(self._cores)]

    def busy(self) -> float:
        """Share of its time, between those two, for which the busiest of the cores worked, whoever for."""
        if len(self._work) < 2:
            return 0.0
        first, last = self._work
        shares = [(last[core][0] - work) / (last[core][1] - total)
                  for core, (work, total) in first.items() if last[core][1] > total]
        return max(shares, default=0.0)

    def _loop(self) -> None:
        try:
            while not self._end.wait(_LOOK_S):
                self._look()
        except OSError as error:
            self._error = error


def _work(cores: Sequence[int]) -> dict[int, tuple[int, int]]:
    """core -> (ticks at work, all ticks) of cores of this machine."""
    found = {}
    for line in _PROC_STAT.read_text(encoding="ascii").splitlines():
        name, *rest = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, rest[:8])
            work = user + nice + system + irq + softirq + steal
            found[int(name[3:])] = (work, work + idle + iowait)
    return found
