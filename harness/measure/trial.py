# SPDX-License-Identifier: Apache-2.0
"""One trial, from the counters before it to the record after it.

Order: read counters, start sampling, send, stop sampling, read counters. Nothing else touches the hosts in between
but a heartbeat each 3 s of a longer trial: in the lab the SSH server runs on the cores that are being measured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.balance import identified, live_queues, with_idle_queues
from harness.errors import StackError
from harness.generator.contract import Generator, TrafficResult
from harness.host.contract import Dut, Sampling
from harness.host.osprobe import AgentProbe, OsProbe
from harness.measure.accounting import Readings, bounded, losses_by_place, rise, unread
from harness.measure.bystander import Watch
from harness.measure.connections import completed, lost_connections
from harness.measure.cpu import add_cycles, cpu_of_trial, extra_work, handled, others
from harness.measure.latency import percentiles
from harness.measure.pauses import PauseLog, within
from harness.measure.verdicts import judge, lost_in_pauses, stretched, with_unexplained
from harness.measure.wallclock import WallClock
from harness.plan import PointPlan, Role
from harness.records import Cpu, Direction, Handshake, Phase, Trial
from harness.stack import PollUsage, RunningStack, StackCounters
from harness.store import now

#: Samples cost 0.3 ms each on a core that may be the generator's: few in a long trial, three intervals in a short one.
SAMPLE_PERIOD_S, _SAMPLES = 0.5, 4
_LEAST_PERIOD_S = 0.01
#: Roles drop and accept: the exact counter is read until it has stood still this long (design.md, "Roles").
_STILL_S = 0.05
_STILL_DEADLINE_S = 5.0
#: A pause this close to the first or last departure still meets frames of the trial on their way.
_FLIGHT_NS = 5_000_000


@dataclass
class Bench:
    """A deployed point, ready for trials: the two machines, the stack that runs, and what is known of the host."""

    generator: Generator
    dut: Dut
    point: PointPlan
    stack: RunningStack
    #: Entry of the stack's counters that counts exactly what it discarded (role drop) or served (role accept).
    exact_counter: str
    nominal_hz: float | None
    lab: bool
    #: Receive queues that can have work, for a port whose driver does not count by queue.
    live_queues: int
    own_threads: Sequence[str] = ()
    ifnames: Sequence[str] = ()
    #: Connects during trials of the load curve; None: nobody asked.
    bystander: Watch | None = None
    #: Of the DUT; None: nobody watches it.
    clock: WallClock | None = None
    #: Counters before and after the last trial; ``after`` None when the stack did not survive it.
    before: Snapshot | None = None
    after: Snapshot | None = None

    @property
    def probe(self) -> OsProbe:
        """Reads the DUT's CPU and interfaces. Always the agent's: a DUT is Linux (:mod:`harness.host.osprobe`)."""
        return AgentProbe(self.dut)

    @property
    def no_reply(self) -> bool:
        """Role drop: nothing comes back, so there is no latency."""
        return self.point.role is Role.DROP

    def counted(self) -> int:
        """The stack's exact counter once it has stood still for 50 ms."""
        deadline = time.monotonic() + _STILL_DEADLINE_S
        value = self.stack.counters().totals[self.exact_counter]
        while True:
            time.sleep(_STILL_S)
            again = self.stack.counters().totals[self.exact_counter]
            if again == value:
                return value
            if time.monotonic() > deadline:
                raise StackError(
                    f"the counter {self.exact_counter} still rises {_STILL_DEADLINE_S:.0f} s after the "
                    f"traffic ended: {self.point.role.counted} that are not the generator's reach the stack"
                )
            value = again


@dataclass(frozen=True)
class Snapshot:
    """Every counter of the DUT at one time."""

    readings: Readings
    counters: StackCounters
    polls: PollUsage | None
    exact: int | None


def snapshot(bench: Bench, *, settled: bool = True) -> Snapshot:
    """Read every counter; ``settled``: once the exact one has stood still."""
    exact = bench.counted() if settled and bench.exact_counter else None
    counters = bench.stack.counters()
    readings = Readings(
        bench.probe.interface_counters(bench.ifnames), bench.dut.system_counters(), dict(counters.losses),
        counters.in_port_drops,
    )
    return Snapshot(readings, counters, bench.stack.poll_usage(), exact)


def make_trial(bench: Bench, *, number: int, repeat: int, phase: Phase, attempt: int, rate_pps: float,
               duration_s: float) -> Trial:
    """Measure once. Raises StackError when the stack died, GeneratorError when the generator did."""
    started_at = now()
    bench.before = before = snapshot(bench)
    bench.after = None
    period_s = max(_LEAST_PERIOD_S, min(SAMPLE_PERIOD_S, duration_s / _SAMPLES))
    bench.probe.start(period_s, bench.point.cores)
    sampling_ns = time.monotonic_ns()
    watch = bench.bystander if phase is Phase.LOAD else None
    try:
        if watch is not None:
            watch.start(bench.point.wires[0])
        traffic = bench.generator.trial(rate_pps, duration_s)
    finally:
        sampling = bench.probe.stop()
    moved = bench.clock.look(number, sampling_ns / 1e9, sampling) if bench.clock is not None else None
    bystander = watch.stop(traffic.report.started_ns, traffic.report.ended_ns) if watch is not None else None
    bench.stack.check_alive()
    bench.after = after = snapshot(bench)
    trial = Trial(
        number=number, point=bench.point.id, repeat=repeat, phase=phase, attempt=attempt, started_at=started_at,
        asked_pps=rate_pps, duration_s=duration_s, real_s=traffic.report.real_s, bystander=bystander,
    )
    exact = None if before.exact is None or after.exact is None else after.exact - before.exact
    _count(trial, traffic, _received(bench.point.role, traffic, exact))
    _explain(trial, bench.point.role, traffic, before, after, exact, bench.point.cores)
    if not bench.lab:
        _on_our_clock(sampling, sampling_ns)
    _add_evidence(trial, bench, traffic, sampling, before, after)
    if moved is not None:
        trial.counters["wall_clock_set_by_s"] = moved
    return trial


def _longest_possible(sampling: Sampling) -> list[tuple[int, int]]:
    """(start ns, length ns) of the DUT's pauses as the probe bounds them: it sees when one ends, and that it began
    after its look before, up to a period earlier than the start it gives."""
    longest = []
    for start, length, core in sampling.pauses:
        unseen = round(sampling.probe_periods.get(core, 0.0) * 1e9)
        longest.append((start - unseen, length + unseen))
    return longest


def _on_our_clock(sampling: Sampling, began_ns: int) -> None:
    """Turn the DUT's CLOCK_MONOTONIC into ours, by its first sample, which was taken just before ``began_ns``: the
    error is the way of that answer, some milliseconds."""
    if not sampling.samples:
        return
    offset = sampling.samples[0].ns - began_ns
    for sample in sampling.samples:
        sample.ns -= offset
    sampling.pauses = [(start - offset, length, core) for start, length, core in sampling.pauses]


def _received(role: Role, traffic: TrafficResult, exact: int | None) -> int | None:
    """What counts as received in the one direction of a role that has an exact counter: role drop takes that, accept
    what both ends completed. None: the generator's own count, in each direction."""
    if role is Role.ACCEPT:
        if exact is None:
            raise StackError("the stack does not count completed connections; role accept cannot be measured")
        return completed(traffic, exact)
    return exact


def _count(trial: Trial, traffic: TrafficResult, counted: int | None) -> None:
    """Frames (or connections) and rates. ``counted``: see :func:`_received`."""
    for result in traffic.directions:
        received = result.received if counted is None else counted
        if received is None:
            raise StackError("neither the generator nor the stack counted what arrived")
        trial.directions.append(Direction(
            tx_port=result.tx_port, rx_port=result.rx_port, asked=result.asked, sent=result.sent,
            received=result.received, lost=result.sent - received, refused=result.refused, skipped=result.skipped,
        ))
    trial.sent = sum(d.sent for d in trial.directions)
    trial.lost = sum(d.lost for d in trial.directions)
    trial.received = trial.sent - trial.lost
    # A generator without departure times tells how long its call took, not its traffic: believed when it is too long.
    report = traffic.report
    real_s = report.real_s if report.timed or stretched(report) else trial.duration_s
    span = real_s * len(trial.directions)
    trial.offered_pps, trial.forwarding_pps = trial.sent / span, trial.received / span
    trial.loss_ratio = trial.lost / trial.sent if trial.sent else None
    if not trial.sent:
        trial.status, trial.reason = "failed", "the generator sent nothing"
    elif strays := trial.surplus:
        trial.status = "failed"
        trial.reason = (f"{strays:,} more came out of it than were sent: others' frames (LLDP, ARP, a switch that "
                        "floods) are counted as the test's; keep them off the wire")


def _explain(trial: Trial, role: Role, traffic: TrafficResult, before: Snapshot, after: Snapshot,
             exact: int | None, cores: Sequence[int]) -> None:
    if role is Role.ACCEPT:
        trial.losses = lost_connections(before.readings, after.readings, traffic, exact or 0)
    else:
        places = losses_by_place(before.readings, after.readings, traffic, cores)
        trial.losses, trial.other_traffic = bounded(places, trial.lost)
    trial.unread = unread(before.readings, after.readings)
    trial.unexplained = trial.lost - sum(trial.losses.values())


def _add_evidence(trial: Trial, bench: Bench, traffic: TrafficResult, sampling: Sampling, before: Snapshot,
                  after: Snapshot) -> None:
    """Latency, CPU, pauses, counters, verdicts."""
    report = traffic.report
    start, end = report.started_ns, report.ended_ns
    trial.latency = percentiles(traffic.latency)
    trial.latency_note = traffic.latency_unavailable
    if bench.no_reply:
        trial.latency_note = "not defined for role drop"
    trial.cpu = cpu_of_trial(sampling, start, end, bench.point.cores, trial.duration_s, bench.nominal_hz)
    if trial.cpu is None:
        trial.cpu_note = "the samples cover less than half of the trial"
    else:
        own = (*bench.own_threads, *bench.stack.thread_names)
        trial.cpu.other = others(trial.cpu, sampling, own)
        frames, trial.cpu_note = handled(trial, bench.point.role, rise(before.counters.totals, after.counters.totals))
        add_cycles(trial.cpu, frames, bench.nominal_hz, trial.real_s)
        trial.cpu.extra = extra_work(trial.cpu, sampling, own, bench.lab)
        _add_polls(trial.cpu, before.polls, after.polls)
    found = (report.pauses, _longest_possible(sampling))
    log = PauseLog(*(within(pauses, start - _FLIGHT_NS, end + _FLIGHT_NS) for pauses in found))
    period_ms = 1e3 * max(sampling.probe_periods.values(), default=0.0)
    probed = "not probed" if bench.point.role is Role.ACCEPT else "gaps between program calls"
    trial.pauses = log.record(f"generator: {probed}; DUT: timer probe, with the {period_ms:g} ms "
                              "between two looks in which a pause may have begun unseen")
    trial.generator_utilisation = report.utilisation
    trial.counters = _changes(before, after)
    if (told := report.extra.get("trex")) is not None:
        trial.counters["generator"] = told
    if unsettled := report.extra.get("unsettled"):
        trial.counters["unsettled"] = unsettled
    if (client := report.extra.get("client")) is not None:
        trial.counters["client"] = client
        trial.handshake = Handshake(**client["connect"]) if client["connect"] else None
    trial.spoilt = lost_in_pauses(trial, log)
    trial.pauses.lost_at_most = log.lost_at_most(with_unexplained(trial), trial.offered_pps)
    virtual = bench.lab or any(wire.virtual for wire in bench.point.wires)
    trial.verdicts = judge(trial, report, lab=virtual,
                           live_queues=live_queues(trial.counters, bench.ifnames, bench.live_queues))


def _add_polls(cpu: Cpu, before: PollUsage | None, after: PollUsage | None) -> None:
    if before is None or after is None:
        return
    cpu.useful_polls, cpu.empty_polls = after.useful - before.useful, after.empty - before.empty
    cpu.polls_source = after.source


def _changes(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What rose during the trial: evidence kept with the number. Idle queues and workers are named too, so that a
    share is one of all."""
    workers: list[Mapping[str, int]] = []
    if len(before.counters.per_worker) == len(after.counters.per_worker):
        pairs = zip(before.counters.per_worker, after.counters.per_worker, strict=True)
        workers = [identified(a, rise(b, a)) for b, a in pairs]
    return {
        "stack": rise(before.counters.totals, after.counters.totals),
        "workers": workers,
        "interfaces": {n: with_idle_queues(c, rise(before.readings.dut.get(n, {}), c))
                       for n, c in after.readings.dut.items()},
        "system": rise(before.readings.system, after.readings.system),
    }
