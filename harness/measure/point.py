# SPDX-License-Identifier: Apache-2.0
"""Everything measured at one deployed point: warm-up, search, latency, load curve, polls, diagnosis.

Knows the order within a point and the rules on repeating a trial: a search trial is made again, at most
``pause_retries`` times, when pauses account for every frame it lost, when the generator left out departures at a load
well below its ceiling, or when more came out of the stack than was sent; any trial once when the generator died. Every
attempt is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import GeneratorDied, StackError
from harness.figures import settled_verdicts
from harness.generator.contract import Generator, TrafficSpec
from harness.measure.contradiction import contradict
from harness.measure.dropreasons import Count, counting
from harness.measure.search import raw_bound, search
from harness.measure.trial import Bench, make_trial
from harness.measure.verdicts import fell_short
from harness.plan import MeasureSettings, Role
from harness.records import Bound, LatencyAt, LoadPoint, Phase, PointOutcome, Trial, Verdict, in_order
from harness.store import now

#: True of every trial of a point, whatever it came to.
_OF_THE_WIRE = (Verdict.LAB, Verdict.LAB_RSS)
#: A load must exceed the latency stream's own rate by this factor to carry one.
_LATENCY_SHARE = 2.0
#: Role drop: how long nothing is sent, to see whether others' frames are counted as discarded.
IDLE_S = 1.0


@dataclass
class Watcher:
    """Who is told what happens: the store (``record``), the progress display (the rest)."""

    record: Callable[[Trial], None]
    starting: Callable[[Phase, float, float], None]
    bounds: Callable[[str, float | None, float | None], None]
    next_number: Callable[[], int]


@dataclass
class PointMeasurement:
    """One repeat of one point. ``restart`` brings a dead generator back; ``max_load_pps`` bounds the search."""

    bench: Bench
    settings: MeasureSettings
    repeat: int
    max_load_pps: float
    watcher: Watcher
    restart: Callable[[], Generator]
    outcome: PointOutcome
    _first_attempts: list[Trial] = field(default_factory=list)
    _loaded_trials: list[Trial] = field(default_factory=list)
    _traffic: TrafficSpec | None = None

    def run(self) -> None:
        """Measure everything the settings ask for into ``outcome``."""
        self._idle_strays()
        self._warm_up()
        if self.settings.search is not None:
            self._search()
        self._latency()
        self._load_curve()
        self._contradict()
        self._polls()
        self._diagnose()

    # ---------------------------------------------------------------------------------------------- one trial

    def _configure(self, latency_pps: float) -> None:
        traffic = TrafficSpec(self.bench.point.directions, self.bench.point.frames, latency_pps)
        if traffic == self._traffic:
            return
        try:
            self.bench.generator.configure(traffic)
        except GeneratorDied:
            self.bench.generator = self.restart()
            self.bench.generator.configure(traffic)
        self._traffic = traffic

    def _once(self, phase: Phase, rate_pps: float, duration_s: float, attempt: int) -> Trial:
        """A trial; once more, after a restart, when the generator died in it. The lost one is recorded as failed."""
        started_at, number = now(), self.watcher.next_number()
        self.watcher.starting(phase, rate_pps, duration_s)
        try:
            return make_trial(self.bench, number=number, repeat=self.repeat, phase=phase, attempt=attempt,
                              rate_pps=rate_pps, duration_s=duration_s)
        except GeneratorDied as error:
            self.watcher.record(Trial(
                number=number, point=self.bench.point.id, repeat=self.repeat, phase=phase, attempt=attempt,
                started_at=started_at, asked_pps=rate_pps, duration_s=duration_s, real_s=0.0, superseded=True,
                status="failed", reason=str(error),
            ))
            self.bench.generator = self.restart()
            if self._traffic is not None:
                self.bench.generator.configure(self._traffic)
            return make_trial(self.bench, number=self.watcher.next_number(), repeat=self.repeat, phase=phase,
                              attempt=attempt, rate_pps=rate_pps, duration_s=duration_s)

    def _trial(self, phase: Phase, rate_pps: float, duration_s: float, note: str = "",
               counted: Count | None = None) -> Trial:
        """A recorded trial; one of the search is repeated where it says nothing. ``note``: why it carries no latency
        stream; ``counted``: the kernel's drops meanwhile."""
        retries = self.settings.pause_retries if phase is Phase.SEARCH else 0
        for attempt in range(retries + 1):
            trial = self._once(phase, rate_pps, duration_s, attempt)
            short = fell_short(trial, self.max_load_pps)
            stray = trial.surplus > 0
            trial.superseded = (trial.spoilt or short or stray) and attempt < retries
            trial.latency_note = trial.latency_note or note
            trial.drop_reasons = counted.read() if counted is not None else None
            self.watcher.record(trial)
            self.outcome.trials += 1
            self._note([v for v in trial.verdicts if v in _OF_THE_WIRE])
            if attempt == 0 and phase is Phase.SEARCH:
                self._first_attempts.append(trial)
            if not trial.superseded:
                break
            self.outcome.paused_repeats += trial.spoilt
            self.outcome.stray_repeats += stray
            self.outcome.short_repeats += not (trial.spoilt or stray)
        if trial.surplus and phase is Phase.SEARCH:
            raise StackError(f"at {rate_pps:,.0f} {self.bench.point.role.rate_unit} {trial.reason}")
        return trial

    # ------------------------------------------------------------------------------------------------- phases

    def _idle_strays(self) -> None:
        """Role drop: a frame of somebody else's that the stack counts as discarded hides one that it lost."""
        if not self.bench.no_reply:
            return
        before = self.bench.counted()
        time.sleep(IDLE_S)
        if strays := self.bench.counted() - before:
            self.outcome.strays = (f"frames not the test's that were discarded, and counted, in an idle {IDLE_S:g} s: "
                                   f"{strays:,}; losses may go unseen")

    def _warm_up(self) -> None:
        """Discarded: fills caches, neighbour tables and page pools."""
        if self.settings.warmup_s > 0:
            self._configure(0.0)
            rate = self.max_load_pps / 4
            self._trial(Phase.WARMUP, rate, self.settings.warmup_s)

    def _search(self) -> None:
        settings = self.settings.search
        assert settings is not None
        self._configure(0.0)
        found = search(
            settings, self.max_load_pps, lambda duration, load: self._trial(Phase.SEARCH, load, duration),
            self.watcher.bounds, self.bench.point.role.rate_unit,
        )
        self.outcome.mrr, self.outcome.ndr, self.outcome.pdr = (found.bounds.get(g) for g in ("mrr", "ndr", "pdr"))
        if self.outcome.ndr is not None:
            self.outcome.ndr_raw = raw_bound(self._first_attempts, 0.0, settings.trial_s)
        if self.outcome.pdr is not None:
            self.outcome.pdr_raw = raw_bound(self._first_attempts, settings.pdr_loss, settings.trial_s)
        for bound in (*found.bounds.values(), self.outcome.ndr_raw, self.outcome.pdr_raw):
            if bound is not None:
                bound.verdicts = settled_verdicts(bound, settings.pdr_loss)
        for bound in found.bounds.values():
            self._note(bound.verdicts)

    def _reference(self) -> Bound | None:
        """The rate of which latency is measured at fractions."""
        return {"pdr": self.outcome.pdr, "ndr": self.outcome.ndr, "mrr": self.outcome.mrr}[self.settings.latency_of]

    def _latency(self) -> None:
        bound, of = self._reference(), self.settings.latency_of
        never = "not defined for role drop" if self.bench.no_reply else self.bench.point.no_latency
        for fraction in self.settings.latency_fractions:
            if bound is None or bound.load_pps is None or never:
                why = never or f"no {of.upper()} was found"
                self.outcome.latency.append(
                    LatencyAt(fraction=fraction, of=of, load_pps=0.0, trial=-1, percentiles=None, reason=why)
                )
                continue
            trial = self._loaded(Phase.LATENCY, bound.load_pps * fraction, self.settings.latency_trial_s)
            nothing = "no connection was completed" if self.bench.point.role is Role.ACCEPT else \
                "no latency frame came back"
            reason = "" if trial.latency else trial.latency_note or nothing
            self.outcome.latency.append(LatencyAt(
                fraction=fraction, of=of, load_pps=trial.asked_pps, trial=trial.number, percentiles=trial.latency,
                reason=reason,
            ))

    def _idle_bystander(self) -> None:
        """What the bystander sees with the stack in place and no load: the baseline of the trials that follow."""
        watch = self.bench.bystander
        if watch is None:
            return
        watch.start(self.bench.point.wires[0])
        time.sleep(self.settings.load_trial_s)
        self.outcome.bystander_idle = watch.stop()

    def _load_curve(self) -> None:
        self._idle_bystander()
        for rate in self.settings.load_rates_pps:
            trial = self._loaded(Phase.LOAD, rate, self.settings.load_trial_s)
            self.outcome.load_curve.append(LoadPoint(load_pps=rate, trial=trial.number))

    def _loaded(self, phase: Phase, rate_pps: float, duration_s: float) -> Trial:
        """A trial with a latency stream, where the load leaves room for one."""
        wanted = self.settings.latency_pps
        note = self.bench.point.no_latency if wanted else ""
        if not note and rate_pps < wanted * _LATENCY_SHARE and not self.bench.no_reply:
            note = f"the load leaves no room for a latency stream of {wanted:,.0f} pps"
        self._configure(0.0 if note or self.bench.no_reply else wanted)
        trial = self._trial(phase, rate_pps, duration_s, note)
        # With rates, whether the generator limited the point is what they say, not a load beyond them.
        self._note([v for v in trial.verdicts if self.settings.search is None or v is not Verdict.GENERATOR_LIMITED])
        self._loaded_trials.append(trial)
        return trial

    def _contradict(self) -> None:
        """Look whether what was measured since the search bears out the rates that it found."""
        if self.settings.search is None:
            return
        for bound, goal in ((self.outcome.ndr, 0.0), (self.outcome.pdr, self.settings.search.pdr_loss)):
            if bound is not None:
                contradict(bound, goal, self._loaded_trials, self.bench.point.role.rate_unit)
                self._note(bound.verdicts)

    def _polls(self) -> None:
        """Useful and empty polls in a pass of their own, where recording them costs something."""
        if not self.bench.stack.record_polls(True):
            return
        try:
            for rate in self.settings.load_rates_pps:
                self._trial(Phase.POLLS, rate, self.settings.load_trial_s)
        finally:
            self.bench.stack.record_polls(False)

    def _diagnose(self) -> None:
        """Why the DUT's kernel drops packets at the highest load of the curve, or at MRR's: never a measured trial."""
        loads = list(self.settings.load_rates_pps)
        if not loads and self.outcome.mrr is not None and self.outcome.mrr.load_pps is not None:
            loads = [self.outcome.mrr.load_pps]
        if not self.settings.drop_reasons or not loads:
            return
        self._configure(0.0)
        with counting(self.bench.dut, self.bench.ifnames) as counted:
            self._trial(Phase.DIAGNOSE, max(loads), self.settings.diagnose_trial_s, counted=counted)

    def _note(self, verdicts: list[Verdict]) -> None:
        self.outcome.verdicts = in_order([*self.outcome.verdicts, *verdicts])


