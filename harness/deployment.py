# SPDX-License-Identifier: Apache-2.0
"""A point put onto its DUT and taken away again: tuning, stack, pinning, role check, and the bench that is measured on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness import stacks
from harness.host.tuning.apply import tuned
from harness.host.tuning.change import Target
from harness.host.tuning.profile import Profile
from harness.machines import Machines
from harness.measure.anomaly import Watchdog, watched
from harness.measure.bystander import Watch
from harness.measure.placement import InterruptWatch
from harness.measure.rolecheck import check_role
from harness.measure.trial import Bench
from harness.measure.wallclock import WallClock
from harness.plan import Plan, PointPlan, Role
from harness.records import PointOutcome, TuningChange, Verdict
from harness.stack import RoleInfo, RunningStack, StackContext
from harness.stacks.ports import need_links
from harness.store import RunWriter


@dataclass
class Deployment:
    """How the points of a run are deployed. ``bystander``: connects during trials of the load curve. ``watchdog``: of
    the point that is deployed, told of every trial."""

    machines: Machines
    plan: Plan
    writer: RunWriter
    bystander: Watch | None = None
    watchdog: Watchdog | None = None
    _clocks: dict[str, WallClock] = field(default_factory=dict)

    @contextmanager
    def deployed(self, point: PointPlan, outcome: PointOutcome) -> Iterator[Bench]:
        """Deploy, pin, check the role; on leaving, undeploy. Fills in the outcome's times and semantics."""
        stack, dut = stacks.create(point.stack, point.params), self.machines.dut(point.host)
        info = stack.role_info(point.role)
        outcome.semantics = info.semantics
        interrupts = InterruptWatch(dut, [wire.dut.ifname for wire in point.wires if wire.dut.ifname])
        started = time.monotonic()
        with (
            self._tuned(point, outcome),
            stack.deploy(StackContext(dut, point, stacks.source(point.stack))) as running,
        ):
            outcome.remark = running.remark
            need_links(dut, [wire.dut.ifname for wire in point.wires if wire.dut.ifname])
            self.machines.pin(point, before_programs=stack.in_softirq())
            bench = self._bench(point, running, info)
            bench.clock = self._clocks.setdefault(point.host, WallClock(point.host))
            with watched(bench, outcome, self.writer.path) as self.watchdog:
                with self.watchdog.role_check():
                    check_role(self.machines.generator, point, info, bench.counted if bench.exact_counter else None)
                outcome.deploy_s, outcome.degraded = time.monotonic() - started, running.degraded
                if running.degraded:
                    outcome.verdicts.append(Verdict.DEGRADED)
                outcome.tuning += interrupts.changes()
                try:
                    yield bench
                finally:
                    self._note_clock(bench.clock)
                self._note_moves(point, outcome, interrupts.moved())
            started = time.monotonic()
        outcome.undeploy_s = time.monotonic() - started

    def _note_moves(self, point: PointPlan, outcome: PointOutcome, moved: list[TuningChange]) -> None:
        """Interrupts that did not stay on the point's cores: kept with the outcome, and said once for the run."""
        outcome.tuning += moved
        if moved:
            first = moved[0]
            self.writer.info.notes.append(
                f"{point.label}: {len(moved)} interrupts were moved during the point, not by the harness (the first: "
                f"{first.target} from {first.before} to {first.after}); stop what moves them (irqbalance?)")

    def _note_clock(self, clock: WallClock) -> None:
        """That a host's clock was set: kept with the run."""
        self.writer.info.notes += clock.remarks
        clock.remarks.clear()

    @contextmanager
    def _tuned(self, point: PointPlan, outcome: PointOutcome) -> Iterator[None]:
        """The host set as the point's profile says, and put back; the outcome tells every item."""
        ports = tuple(wire.dut.ifname for wire in point.wires if wire.dut.ifname)
        target = Target(self.machines.dut(point.host), ports, point.cores)
        with tuned(target, Profile.model_validate(point.tuning)) as changes:
            outcome.tuning = [TuningChange(item=c.item, target=c.target, before=c.before, after=c.after,
                                           status=c.status, reason=c.reason) for c in changes]
            yield

    def _bench(self, point: PointPlan, running: RunningStack, info: RoleInfo) -> Bench:
        # A port that the stack has taken from the kernel has no counters there.
        dut = self.machines.dut(point.host)
        ifnames = [wire.dut.ifname for wire in point.wires
                   if wire.dut.ifname and dut.exists(f"/sys/class/net/{wire.dut.ifname}")]
        return Bench(
            generator=self.machines.generator, dut=dut, point=point, stack=running,
            exact_counter={Role.DROP: info.discard_counter, Role.ACCEPT: info.completed_counter}.get(point.role, ""),
            nominal_hz=self.machines.nominal_hz(point.host), lab=self.plan.lab,
            live_queues=self._live_queues(point),
            own_threads=tuple(f"napi/{name}-" for name in ifnames), ifnames=ifnames, bystander=self.bystander,
        )

    def _live_queues(self, point: PointPlan) -> int:
        """How many receive queues can have work, where the driver does not count it: in the lab a queue for each
        sending core, and a core for each flow. But the kernel's own frames (role accept) are spread by their flow's
        hash over all queues, of which a wire has one for each core of the machine."""
        if not self.plan.lab:
            return len(point.cores)
        if point.role is Role.ACCEPT:
            return next(host.all_cores for host in self.plan.hosts if host.name == point.host)
        return min(len(self.plan.generator.cores), max(d.flows.count for d in point.directions))
