# SPDX-License-Identifier: Apache-2.0
"""Plan -> trials -> store; the only module that knows the order of things.

    testbed up -> hosts and generator connected -> ceilings -> every (repeat, point): deploy, role check, measure,
    undeploy -> testbed down

One ExitStack owns what was changed; it unwinds past failures. A point that fails is recorded with its reason and the
others go on; of several hosts, one that is lost leaves out its own points only. Ctrl-C unwinds too and leaves a run
that can be reported.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import harness
from harness import stacks
from harness.deployment import Deployment
from harness.doctor.examination import Examination
from harness.doctor.examine import refuse
from harness.errors import (
    EXIT_INTERRUPTED,
    GeneratorDied,
    HarnessError,
    HostLost,
    HostNotRestored,
    MeasurementError,
    StackError,
)
from harness.figures import noisy
from harness.flows import addressed
from harness.machines import Machines, machines_of
from harness.measure.ceiling import CeilingTrials, find_ceiling
from harness.measure.point import PointMeasurement, Watcher
from harness.measure.trial import Bench
from harness.options import RunOptions
from harness.plan import GENERATOR_HOST, FrameMix, Plan, PointPlan, Role
from harness.progress import Progress
from harness.records import CEILING, Ceiling, Check, PointOutcome, RunInfo, Trial, Verdict, in_order
from harness.resume import Kept, open_kept
from harness.stack import Stack
from harness.store import RunWriter, Store, new_run_id, now
from harness.units import format_rate

#: Exit code of a run in which something was skipped or failed.
_INCOMPLETE = 4
#: Where not even the ceiling tells a bound and there is no line rate (role accept), connections/s.
_NO_LINE_RATE = 32_000.0


def run(options: RunOptions, progress: Progress) -> int:
    """Run a scenario; returns the exit code. Raises HarnessError when nothing could be measured at all."""
    started = time.monotonic()
    store = Store(options.results)
    store.check_writable()
    kept = open_kept(options, options.resume) if options.resume else None
    if kept is not None:
        options = kept.options(options)
    with ExitStack() as owned:
        machines = owned.enter_context(machines_of(options, progress.message))
        plan = machines.plan
        writer = owned.enter_context(_writer(store, options, machines, kept))
        progress.run_started(plan, writer.path)
        session = _Session(machines, plan, writer, progress)
        if kept is not None:
            session.go_on(kept)
        try:
            session.connect(owned)
            if kept is not None:
                kept.check_machines(writer.info)
            session.ceilings()
            session.points()
            session.refuse_lost()
        except KeyboardInterrupt:
            _finish(writer, "interrupted", EXIT_INTERRUPTED, started, session)
            raise
        except HarnessError as error:
            writer.info.notes.append(str(error))
            _finish(writer, "failed", error.exit_code, started, session)
            raise
        code = _INCOMPLETE if session.incomplete else 0
        _finish(writer, "complete", code, started, session)
        progress.run_done(writer.path, code)
        return code


def _writer(store: Store, options: RunOptions, machines: Machines, kept: Kept | None) -> RunWriter:
    """A new run's, or of the one that is gone on with."""
    if kept is None:
        return store.create(_run_info(options, machines))
    kept.check_plan(machines.plan)
    writer = store.reopen(kept.reader, kept.resumption(options.command))
    # The lab's names are new, and the hosts' record is told by them.
    writer.info.plan = dataclasses.asdict(machines.plan)
    return writer


def _run_info(options: RunOptions, machines: Machines) -> RunInfo:
    plan = machines.plan
    return RunInfo(
        run_id=new_run_id(plan.scenario), harness_version=harness.__version__, started_at=now(),
        command=list(options.command), scenario_text=machines.prepared.scenario.text,
        scenario=machines.prepared.scenario.spec.model_dump(mode="json"), plan=dataclasses.asdict(plan), seed=plan.seed,
        notes=list(plan.notes), request=machines.prepared.request,
    )


def _finish(writer: RunWriter, state: str, code: int, started: float, session: _Session) -> None:
    try:
        session.machines.stop_generator()  # its log belongs to the run, which is read-only afterwards
    except HarnessError as error:
        writer.info.notes.append(f"the generator did not end well: {error}")
    writer.info.wall_s = (writer.info.wall_s or 0.0) + time.monotonic() - started
    writer.info.trials_s = (writer.info.trials_s or 0.0) + session.trials_s
    writer.finish(state, code)


@dataclass
class _Session:
    """One run under way: the machines, what has been measured, who is told."""

    machines: Machines
    plan: Plan
    writer: RunWriter
    progress: Progress
    incomplete: bool = False
    trials_s: float = 0.0
    _number: int = 0
    _ceiling: dict[tuple[str, FrameMix], float] = field(default_factory=dict)
    _found: dict[str, list[float]] = field(default_factory=dict)
    _done: frozenset[tuple[int, str]] = frozenset()
    #: Hosts that can no more be measured on, each with what happened.
    _lost: dict[str, HostLost | HostNotRestored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.deployment = Deployment(self.machines, self.plan, self.writer)

    def go_on(self, kept: Kept) -> None:
        """Leave out what an earlier session of this run finished, and number and judge on from there."""
        self._done, self._number = frozenset(kept.done), kept.first_trial - 1
        for ceiling in self.writer.info.ceilings:
            for point in self.plan.points:
                if (point.host, point.frames) == (ceiling.host, ceiling.frames) and ceiling.kept_pps is not None:
                    bound = ceiling.kept_pps
                    self._ceiling[point.host, point.frames] = min(point.line_rate_pps or bound, bound)
        self.writer.info.ceilings = [c for c in self.writer.info.ceilings if (c.host, c.frames) in self._ceiling]
        for outcome in kept.done.values():
            self._judge(outcome)

    def connect(self, owned: ExitStack) -> None:
        """Hosts first (their locks say who else is there), then the generator."""
        for name in self.machines.dut_names():
            dut = self.machines.connect_dut(name, owned)
            self.machines.guard_ports(name)
            self.writer.info.hosts[name] = dict(dut.facts())
            for remark in self.machines.core_remarks(name):
                self._note(remark)
        examination = Examination(self.machines)
        self.writer.info.checks = []
        found = examination.hosts()
        if examination.generator_facts is not None:
            self.writer.info.hosts[GENERATOR_HOST] = examination.generator_facts
        self._heed(found)
        self.machines.keep_log, self.machines.note = self.writer.log, self._note
        self.machines.start_generator(owned)
        self._heed(examination.wires())
        self.writer.info.generator = dict(self.machines.generator.describe())
        if self.plan.measure.bystander is not None:
            self.deployment.bystander = self.machines.bystander(self.plan.measure.bystander, owned)
        self.writer.save()

    def _note(self, remark: str) -> None:
        """Say it, and keep it with the run, once."""
        if remark not in self.writer.info.notes:
            self.progress.message(remark)
            self.writer.info.notes.append(remark)

    def _unsettled(self, number: int, said: str) -> None:
        """Say it of the first trial; each keeps its own."""
        begins = said.partition("(")[0]
        if not any(begins in note for note in self.writer.info.notes):
            self._note(f"trial {number}, perhaps others: {said}")

    def _heed(self, checks: list[Check]) -> None:
        """Keep what the checks found. Raises TestbedError when one of them refuses the run."""
        self.writer.info.checks += checks
        odd = list(dict.fromkeys(check.name for check in checks if check.status == "warn"))
        if odd:
            self.progress.message(f"not as expected: {', '.join(odd)}; the report says what and why, as does `harness "
                                  "doctor`")
        refuse(checks)

    # ------------------------------------------------------------------------------------------------- trials

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def record(self, trial: Trial) -> None:
        self.writer.add_trial(trial)
        if self.deployment.watchdog is not None:
            self.deployment.watchdog.look(trial)
        if unsettled := trial.counters.get("unsettled"):
            self._unsettled(trial.number, unsettled)
        self.trials_s += max(trial.real_s, trial.duration_s)
        self.progress.trial_done(trial)

    def watcher(self) -> Watcher:
        return Watcher(self.record, self.progress.trial_started, self.progress.bounds, self.next_number)

    # ----------------------------------------------------------------------------------------------- ceilings

    def ceilings(self) -> None:
        """Once a run for every (host, frame size): the same wire with the cheapest responder that is known."""
        for point in self.plan.points:
            key = (point.host, point.frames)
            if key in self._ceiling or point.host in self._lost:
                continue
            try:
                self._ceiling[key] = self._measure_ceiling(point)
            except (HostLost, HostNotRestored) as error:
                self._go_without(point.host, error)
        self.writer.save()

    def _measure_ceiling(self, like: PointPlan) -> float:
        """Offered rate that bounds the searches: the smaller of line rate and what the generator sent."""
        responder = _cheapest(like.role)
        if responder is None:
            return self._no_ceiling(like, "", f"no stack is known as the cheapest responder for role {like.role}")
        point = dataclasses.replace(
            like, id=CEILING, label=f"ceiling: {responder.name}", stack=responder.name, params={},
            directions=addressed(like.directions, like.wires, responder.roles[like.role].layer),
        )
        try:
            trials = self._ceiling_trials(point)
        except MeasurementError as error:
            return self._no_ceiling(like, responder.name, str(error))
        best, bound = max(trials.flooded, key=lambda t: t.offered_pps), max(t.offered_pps for t in trials.kept)
        self.writer.info.ceilings.append(Ceiling(
            frame_bytes=like.frame_bytes, mix=like.mix, host=like.host, stack=responder.name,
            sent_pps=best.offered_pps,
            received_pps=max(t.forwarding_pps for t in (*trials.flooded, *trials.kept)), trial=best.number,
            sent_min_pps=min(t.offered_pps for t in trials.flooded), kept_pps=bound, floor=trials.floor_latency(),
        ))
        return min(like.line_rate_pps or bound, bound)

    def _ceiling_trials(self, point: PointPlan) -> CeilingTrials:
        """All of them once more, after a restart, when the generator dies. Raises StackError where the host lacks what
        the responder needs."""
        missing = stacks.create(point.stack, point.params).requirements(self.machines.dut(point.host), point)
        if missing:
            raise StackError("; ".join(f"{m.what} ({m.remedy})" for m in missing))
        for last in (False, True):
            self._need_generator()
            try:
                with self.deployment.deployed(point, PointOutcome(point=point.id, repeat=0)) as bench:
                    return find_ceiling(bench, self.plan.measure, self.watcher())
            except GeneratorDied:
                if last:
                    raise
        raise AssertionError("the second attempt returns or raises")

    def _no_ceiling(self, like: PointPlan, stack: str, reason: str) -> float:
        bound = like.line_rate_pps or _NO_LINE_RATE
        up_to = "line rate" if like.line_rate_pps else format_rate(bound, like.role.rate_unit)
        self.progress.message(f"the generator's ceiling is unknown: {reason}; searching up to {up_to}")
        self.writer.info.ceilings.append(Ceiling(
            frame_bytes=like.frame_bytes, mix=like.mix, host=like.host, stack=stack, sent_pps=None,
            received_pps=None, trial=-1, reason=reason,
        ))
        return bound

    # ------------------------------------------------------------------------------------------------- points

    def points(self) -> None:
        """Every repeat of every point in the Plan's order."""
        for index, (repeat, point_id) in enumerate(self.plan.sequence):
            if (repeat, point_id) in self._done:
                continue
            point = self.plan.point(point_id)
            self.progress.point_started(point, repeat, index, len(self.plan.sequence))
            outcome = PointOutcome(point=point.id, repeat=repeat)
            try:
                self._unless_lost(point, repeat, outcome)
            except (KeyboardInterrupt, HostLost, HostNotRestored) as error:
                outcome.status = "interrupted"
                outcome.reason = f"the run ended in the middle of this point: {str(error) or 'interrupted'}"
                self.writer.add_outcome(outcome)
                raise
            self._judge(outcome)
            self.writer.add_outcome(outcome)
            self.progress.point_done(outcome)

    def _unless_lost(self, point: PointPlan, repeat: int, outcome: PointOutcome) -> None:
        """Measure, unless the host is lost or gets lost: the points of others go on then, and a resumed run makes good
        what this one leaves out. Raises HostLost or HostNotRestored where there is no other host to go on with."""
        when = "before this point was begun"
        if point.host not in self._lost:
            try:
                self._one_point(point, repeat, outcome)
                return
            except (HostLost, HostNotRestored) as error:
                self._go_without(point.host, error)
                when = "in the middle of this point"
        outcome.status, outcome.reason = "interrupted", f"its host was lost {when}: {self._lost[point.host]}"

    def _go_without(self, host: str, error: HostLost | HostNotRestored) -> None:
        """Leave out the rest of a host's points. Raises the error where no other host is left."""
        self._lost[host] = error
        if all(name in self._lost for name in self.machines.dut_names()):
            raise error
        self.writer.info.notes.append(f"{host} was lost, the other hosts' points went on: {error}")
        self.progress.message(f"{host} is lost, its other points are left out: {error}")

    def refuse_lost(self) -> None:
        """At the end of a run that had to do without a host: raises what happened to it, so that the run ends as failed
        and can be resumed."""
        for error in self._lost.values():
            raise error

    def _one_point(self, point: PointPlan, repeat: int, outcome: PointOutcome) -> None:
        """Deploy and measure; a failure is recorded in the outcome and does not end the run."""
        stack = stacks.create(point.stack, point.params)
        try:
            missing = stack.requirements(self.machines.dut(point.host), point)
            if missing:
                outcome.status, outcome.verdicts = "skipped", [Verdict.SKIPPED]
                outcome.reason = "; ".join(f"{m.what} ({m.remedy})" for m in missing)
                return
            self._need_generator()
            with self.deployment.deployed(point, outcome) as bench:
                self._measure(bench, repeat, outcome)
        except MeasurementError as error:
            outcome.status, outcome.reason = "failed", str(error)
            outcome.verdicts = in_order([*outcome.verdicts, Verdict.FAILED])
            outcome.log_tail = outcome.log_tail or getattr(error, "log_tail", "")
            self.writer.log(f"{point.id}-{repeat}.log", f"{error}\n\n{outcome.log_tail}\n")

    def _measure(self, bench: Bench, repeat: int, outcome: PointOutcome) -> None:
        ceiling = self._ceiling[bench.point.host, bench.point.frames]
        measurement = PointMeasurement(
            bench, self.plan.measure, repeat, ceiling, self.watcher(), self.machines.restart_generator, outcome,
        )
        measurement.run()

    def _need_generator(self) -> None:
        """A point before may have left the generator dead."""
        if not self.machines.generator_alive():
            self.machines.restart_generator()

    def _judge(self, outcome: PointOutcome) -> None:
        """Whether the run is complete with this outcome, and ``noisy``: the point's NDR (or PDR) scatters over the
        repeats made until now."""
        excused = outcome.status == "skipped" and self.plan.point(outcome.point).if_supported
        if (outcome.status != "ok" and not excused) or Verdict.CUT_SHORT in outcome.verdicts:
            self.incomplete = True
        bound = outcome.ndr or outcome.pdr
        if bound is None or bound.pps is None:
            return
        rates = self._found.setdefault(outcome.point, [])
        rates.append(bound.pps)
        if noisy(rates):
            outcome.verdicts = in_order([*outcome.verdicts, Verdict.NOISY])


def _cheapest(role: Role) -> type[Stack] | None:
    """The stack that calls itself the cheapest responder for a role; by name if several do."""
    for _, kind in sorted(stacks.available().items()):
        if role in kind.ceiling_for:
            return kind
    return None
