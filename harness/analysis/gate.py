# SPDX-License-Identifier: Apache-2.0
"""A run against its baseline, figure by figure: pass, fail, or cannot tell (rule: :mod:`harness.analysis.decision`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from harness.analysis import decision
from harness.analysis.baseline import Baseline
from harness.analysis.enough import MOST_REPEATS, MOST_RUNS
from harness.analysis.metrics import Metric, check_threshold
from harness.analysis.sides import Place, RunView, Side, granularity, views
from harness.analysis.statistics import LEAST_REPEATS, Moments
from harness.errors import UsageError
from harness.rundata import RunData
from harness.units import format_duration, parse_ratio


class State(StrEnum):
    """What came out for one figure."""

    PASS = "pass"
    FAIL = "FAIL"
    CANNOT_TELL = "cannot tell"
    IMPROVED = "improved"


_STATES = {decision.PASS: State.PASS, decision.FAIL: State.FAIL, decision.CANNOT_TELL: State.CANNOT_TELL,
           decision.IMPROVED: State.IMPROVED}


@dataclass(frozen=True)
class Check:
    """One gated figure. ``base_value``, ``new_value``: what is compared, in the metric's unit: geometric means of the
    repeats (loss: means), of several baseline runs the mean of theirs. ``threshold``, ``change``, ``low`` and ``high``
    (95 %): relative to the baseline, absolute for loss ratios. ``p``: one-sided, adjusted for the number of figures.
    ``repeats``: a side that would give an answer, 0 where there is one or repeats would not help; ``runs``: those of
    the baseline that would instead. ``reason``: in words, where the numbers do not say it."""

    place: Place
    metric: Metric
    threshold: float
    base: Side
    new: Side
    state: State
    base_value: float | None = None
    new_value: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    repeats: int = 0
    runs: int = 0
    reason: str = ""


@dataclass(frozen=True)
class GateResult:
    """``notes``: points that are not gated and other things to know."""

    run: RunData
    baseline: Baseline
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    def any(self, state: State) -> bool:
        """Whether some figure came out so."""
        return any(check.state is state for check in self.checks)

    def exit_code(self, *, strict: bool) -> int:
        """1 when a figure fails; 5 under ``strict`` when one cannot be told."""
        return 1 if self.any(State.FAIL) else 5 if strict and self.any(State.CANNOT_TELL) else 0


def thresholds(run: RunData, given: Sequence[str] = ()) -> dict[Metric, float]:
    """Of the run's scenario, with those ``given`` (``ndr=-3%``) in their place or beside them. Raises UsageError."""
    found: dict[Metric, float] = {}
    written = run.info.scenario.get("gate") or {}
    if not isinstance(written, Mapping):
        raise UsageError(f"{run.path}: its scenario's gate cannot be read; give --threshold ndr=-3%")
    try:
        for name, limit in written.items():
            metric, value = Metric.parse(str(name)), float(limit)
            check_threshold(metric, value)
            found[metric] = value
        for text in given:
            metric, value = parse_threshold(text)
            found[metric] = value
    except (ValueError, TypeError) as error:
        raise UsageError(f"gate: {error}") from None
    if not found:
        raise UsageError(f"{run.path}: its scenario has no gate; add for example gate: {{ndr: \"-3%\"}} to it, or give "
                         "--threshold ndr=-3%")
    return found


def parse_threshold(text: str) -> tuple[Metric, float]:
    """``ndr=-3%``. Raises ValueError."""
    name, equals, limit = text.partition("=")
    if not equals:
        raise ValueError(f"{text[:60]!r} is no threshold; write for example ndr=-3%")
    metric = Metric.parse(name.strip())
    value = parse_ratio(limit.strip(), least=-1.0, most=100.0, signed=True)
    check_threshold(metric, value)
    return metric, value


def gate(run: RunData, baseline: Baseline, limits: Mapping[Metric, float], *, only_common: bool = False) -> GateResult:
    """Every gated metric at every point of the baseline: what the run lacks cannot be told, unless ``only_common``.
    Raises UsageError where no point is in both."""
    new, *bases = views([run, *baseline.runs])
    notes = [*baseline.notes, *_notes(new, bases, only_common=only_common)]
    places = [place for place in new.points if any(place in base.points for base in bases)]
    if not places:
        raise UsageError(f"{run.info.run_id} has no point in common with its baseline {bases[0].run.info.run_id} (same "
                         "stack, parameters, tuning, role, frame, cores and traffic); `harness compare` lists both")
    items = [_Item(place, metric, limit, new.side(place, metric),
                   [base.side(place, metric) for base in bases if place in base.points])
             for place in places for metric, limit in limits.items()]
    checks = [_with_failures(check, new, bases)
              for check in _judged([item for item in items if item.base.values or item.new.values])]
    checks += [] if only_common else _vanished(new, bases, limits)
    silent = [metric.name for metric in limits if not any(check.metric == metric for check in checks)]
    if len(silent) == len(limits):
        raise UsageError(f"nothing of what is gated ({', '.join(silent)}) was measured in {run.info.run_id} or its "
                         "baseline")
    notes += [f"{name}: measured in neither run" for name in silent]
    return GateResult(run, baseline, tuple(checks), tuple(notes))


class _Item:
    """A figure on its way: the repeats of the new run, and of each baseline run."""

    def __init__(self, place: Place, metric: Metric, limit: float, new: Side, bases: Sequence[Side]) -> None:
        self.place, self.metric, self.limit, self.new = place, metric, limit, new
        self.bases = [side for side in bases if side.values]
        self.base = Side(tuple(value for side in self.bases for value in side.values),
                         any(side.at_least for side in self.bases),
                         tuple(dict.fromkeys(v for side in self.bases for v in side.verdicts)),
                         sum(side.left_out for side in bases),
                         next((side.reason for side in bases if side.reason), "") if not self.bases else "",
                         resolution=max((side.resolution for side in self.bases), default=0.0))
        self.relative = not metric.is_ratio
        self.sign = -1.0 if metric.higher_is_better else 1.0

    def missing(self) -> tuple[State, str] | None:
        """What is to be said without any statistics; None where there are numbers enough."""
        if not self.base.values:
            return State.CANNOT_TELL, f"the baseline has no value: {self.base.reason}"
        if not self.new.values:
            return (State.FAIL if self.new.lost else State.CANNOT_TELL), f"no value any more: {self.new.reason}"
        if min(len(self.base.values), len(self.new.values)) < LEAST_REPEATS:
            return State.CANNOT_TELL, (f"repeats: {len(self.base.values)} in the baseline, {len(self.new.values)} in "
                                       f"the run; noise is unknown below {LEAST_REPEATS} a side")
        if self.relative and min(*self.base.values, *self.new.values) <= 0:
            return State.CANNOT_TELL, "a value is zero, so there is no relative change"
        return None

    def change(self) -> decision.Against:
        """Positive is worse. Runs of one repeat each are repeats of one."""
        new = Moments.of(self._scaled(self.new.values))
        groups = self._groups()
        if len(groups) > 1:
            runs = [Moments.of(self._scaled(values)) for values in groups]
            return decision.with_history(new, Moments(*(np.array([getattr(run, part) for run in runs])
                                                        for part in ("mean", "variance", "df"))))
        return decision.Against(new.minus(Moments.of(self._scaled(self.base.values))), np.zeros(()))

    def _groups(self) -> list[tuple[float, ...]]:
        """Repeats of the baseline by runs; in one where some run has one only."""
        if len(self.bases) > 1 and all(len(side.values) > 1 for side in self.bases):
            return [side.values for side in self.bases]
        return [self.base.values]

    def compared(self) -> tuple[float | None, float | None]:
        """The baseline's and the run's figure, the quotient (loss: difference) of which is the change: the geometric
        mean of the repeats, of several baseline runs that of their means. Means as they are for loss, and where a value
        is zero; None without values."""
        geometric = self.relative and min((*self.base.values, *self.new.values), default=0.0) > 0
        there, back = (np.log, math.exp) if geometric else (np.asarray, float)
        base, new = ([float(np.mean(there(values))) for values in groups if values]
                     for groups in (self._groups(), [self.new.values]))
        return (back(float(np.mean(base))) if base else None), (back(new[0]) if new else None)

    def _scaled(self, values: Sequence[float]) -> Any:
        return self.sign * (np.log(values) if self.relative else np.asarray(values, dtype=float))

    @property
    def beyond(self) -> float:
        """The threshold on the scale of the decision, positive."""
        return abs(math.log1p(self.limit)) if self.relative else abs(self.limit)

    def back(self, worse: float) -> float:
        """A change as it is printed, from the scale of the decision."""
        return math.expm1(self.sign * worse) if self.relative else self.sign * worse


def _judged(items: Sequence[_Item]) -> list[Check]:
    usable = [item for item in items if item.missing() is None]
    found = iter(_decided(usable))
    checks = []
    for item in items:
        told = item.missing()
        checks.append(next(found) if told is None else
                      Check(item.place, item.metric, item.limit, item.base, item.new, told[0], *item.compared(),
                            reason=told[1]))
    return checks


def _decided(items: Sequence[_Item]) -> list[Check]:
    if not items:
        return []
    kinds = list(dict.fromkeys((item.metric.kind, item.metric.percentile) for item in items))
    changes = [item.change() for item in items]
    worse = Moments(*(np.array([float(getattr(change.worse, part)) for change in changes])
                      for part in ("mean", "variance", "df")))
    figures = decision.Figures(
        worse, np.array([1 / len(item.new.values) + 1 / len(item.base.values) for item in items]),
        np.array([item.beyond for item in items]),
        np.array([kinds.index((item.metric.kind, item.metric.percentile)) for item in items]),
        np.array([float(change.between) for change in changes]), np.array([float(len(item.bases)) for item in items]))
    out = decision.decide(figures)
    return [_check(item, out, index, float(worse.mean[index])) for index, item in enumerate(items)]


def _check(item: _Item, out: decision.Decision, index: int, worse: float) -> Check:
    half, state = float(out.half[index]), _STATES[int(out.state[index])]
    low, high = sorted((item.back(worse - half), item.back(worse + half)))
    repeats, runs, reason = int(out.repeats[index]), int(out.runs[index]), ""
    if state is State.CANNOT_TELL:
        reason = _unsure(repeats, runs, beyond=worse > item.beyond)
        repeats = 0 if runs else repeats
    coarse = _within_resolution(item, state, worse)
    if coarse:
        state, repeats, runs, reason = State.CANNOT_TELL, 0, 0, coarse
    limited = item.new.at_least if state is State.FAIL else item.base.at_least and state is not State.CANNOT_TELL
    if limited:
        # A lower bound cannot show a loss, and against one nothing can be said to be as fast.
        state, repeats, runs = State.CANNOT_TELL, 0, 0
        reason = "generator-limited: a lower bound; more generator cores, or a faster generator, would tell"
    return Check(item.place, item.metric, item.limit, item.base, item.new, state, *item.compared(), item.back(worse),
                 low, high, float(out.p[index]), repeats, runs, reason)


def _within_resolution(item: _Item, state: State, worse: float) -> str:
    """Why a latency's source is too coarse for an answer; empty where it is not. Values in buckets move by whole
    buckets, all repeats alike, so that this is no noise which the statistics could see."""
    width = granularity(item.base, item.new)
    room = math.log1p(width)
    lost = state is State.FAIL and worse - room <= item.beyond
    blind = state is not State.FAIL and room > item.beyond and worse + room > item.beyond
    if not (lost or blind):
        return ""
    coarsest = max(item.base.resolution, item.new.resolution)
    what = "is coarser than the threshold" if room > item.beyond else "leaves open whether it is beyond the threshold"
    return f"resolution: the source tells {format_duration(coarsest / 1e9)} apart ({width:.0%}), which {what}"


def _unsure(repeats: int, runs: int, *, beyond: bool) -> str:
    what = "beyond the threshold, but not told from noise" if beyond else "the noise is larger than the threshold"
    if runs > MOST_RUNS:
        return (f"{what}; runs of the baseline differ too much from each other, which more repeats do not help, nor "
                f"{MOST_RUNS} runs in the baseline: find what changes between runs, or allow more")
    if runs:
        return (f"{what}; runs of the baseline differ too much from each other, which more repeats do not help: {runs} "
                "runs in the baseline (--last) would tell")
    if repeats > MOST_REPEATS:
        return f"{what}; more than {MOST_REPEATS} repeats a side would be needed"
    return f"{what}; {repeats} repeats a side would tell"


def _vanished(new: RunView, bases: Sequence[RunView], limits: Mapping[Metric, float]) -> list[Check]:
    """Gated figures of the baseline whose point is not in the run at all: nobody can say that they are no worse."""
    none = Side((), reason="not in this run")
    items = [_Item(place, metric, limit, none, [base.side(place, metric) for base in bases if place in base.points])
             for place in _gone(new, bases) for metric, limit in limits.items()]
    return [Check(item.place, item.metric, item.limit, item.base, none, State.CANNOT_TELL, *item.compared(),
                  reason="in the baseline, but not in this run; if that is meant, say --only-common")
            for item in items if item.base.values]


def _gone(new: RunView, bases: Sequence[RunView]) -> list[Place]:
    return list(dict.fromkeys(place for base in bases for place in base.points if place not in new.points))


def _with_failures(check: Check, new: RunView, bases: Sequence[RunView]) -> Check:
    """Repeats that failed have no value, so the statistics do not see them. Where a larger share failed than in any run
    of the baseline, the other repeats do not show that all is as before."""
    before = max((base.unfinished_share(check.place) for base in bases if check.place in base.points), default=0.0)
    if check.state is State.FAIL or not before < new.unfinished_share(check.place) < 1:
        return check
    told = f"{new.unfinished(check.place)} ({'fewer' if before else 'none'} in the baseline)"
    return replace(check, state=State.CANNOT_TELL, reason="; ".join(filter(None, (told, check.reason))))


def _notes(new: RunView, bases: Sequence[RunView], *, only_common: bool) -> list[str]:
    notes = [f"{place.title}: not in the baseline, so not gated" for place in new.points
             if not any(place in base.points for base in bases)]
    notes += [f"{place.title}: {told}" for place in new.points if (told := new.unfinished(place))]
    gone = _gone(new, bases) if only_common else []
    return notes + [f"{place.title}: in the baseline, but not in this run (--only-common)" for place in gone]
