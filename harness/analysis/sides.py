# SPDX-License-Identifier: Apache-2.0
"""The same point found in several runs, and what each run says of one metric there: values, or why there is none."""

from __future__ import annotations

import ipaddress
import math
import statistics as plain
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.metrics import Kind, Metric, PointKey, Sample, samples
from harness.analysis.noise import Suspect, suspects
from harness.analysis.statistics import Interval, finite, interval, is_noisy
from harness.plan import PointPlan
from harness.records import Bound, PointOutcome, Verdict, in_order
from harness.rundata import RunData

#: Verdicts on a whole point that belong beside each of its numbers.
_OF_POINT = (Verdict.EXTRA_CORE, Verdict.OTHER_LOAD, Verdict.DEGRADED, Verdict.LAB_RSS)
_RATES = (Kind.MRR, Kind.NDR, Kind.PDR)


@dataclass(frozen=True, order=True)
class Place:
    """A point as it is found again in another run: its key, and the traffic that it met. ``host``: set only where one
    run has the same point on several hosts."""

    key: PointKey
    traffic: str
    host: str = ""

    @property
    def title(self) -> str:
        """For people; foreign text, so to be escaped where it is shown."""
        key = self.key
        cores = f"{key.cores} core{'' if key.cores == 1 else 's'}"
        label = key.label
        for told in (f", on {key.host}", f", {cores}", f", {key.frames}"):
            label = label.removesuffix(told)
        return ", ".join(filter(None, (label, cores, key.frames, self.host)))


@dataclass(frozen=True)
class Side:
    """One run's repeats of a metric at a point, in the metric's unit, without those that are no numbers (``left_out``).
    ``at_least``: the generator was the limit in one of them. ``reason``: why there is no value; ``lost``: because the
    stack did not get that far (it failed, or no load met the goal)."""

    values: tuple[float, ...]
    at_least: bool = False
    verdicts: tuple[Verdict, ...] = ()
    left_out: int = 0
    reason: str = ""
    lost: bool = False
    #: What the source of the values cannot tell apart, in their unit; 0 where that is not known.
    resolution: float = 0.0
    #: Of noisy repeats: what was recorded that may be the cause.
    suspects: tuple[Suspect, ...] = ()

    @property
    def median(self) -> float | None:
        """Of the repeats; None without one."""
        return plain.median(self.values) if self.values else None

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the repeats; None where there are too few."""
        return interval(self.values)


def granularity(one: Side, two: Side) -> float:
    """What the sources of two sides with values cannot tell apart, relative to the smaller side; 0 where not known.

    A bucket may be as wide as its lowest value, and the widest one of a run is recorded: so never more than that."""
    least = min(plain.fmean(side.values) for side in (one, two))
    coarsest = max(one.resolution, two.resolution)
    return min(coarsest / least, 1.0) if least > 0 and math.isfinite(coarsest) else 0.0


@dataclass(frozen=True)
class RunView:
    """A run by places: points, outcomes, and samples of every metric."""

    run: RunData
    points: Mapping[Place, PointPlan]
    outcomes: Mapping[str, tuple[PointOutcome, ...]]
    samples: Mapping[str, Mapping[Metric, Sequence[Sample]]]

    def metrics(self, place: Place) -> set[Metric]:
        """What was measured there at least once."""
        return set(self.samples.get(self.points[place].id, {}))

    def side(self, place: Place, metric: Metric) -> Side:
        """This run's repeats."""
        ident = self.points[place].id
        found = self.samples.get(ident, {}).get(metric, ())
        outcomes = self.outcomes.get(ident, ())
        values = finite([sample.value for sample in found])
        if not values:
            reason, lost = _reason(metric, outcomes, len(found))
            return Side((), left_out=len(found), reason=reason, lost=lost)
        verdicts = _verdicts(metric, found, values, outcomes)
        causes = self._suspects(self.points[place]) if Verdict.NOISY in verdicts else ()
        return Side(tuple(values), any(sample.at_least for sample in found), verdicts, len(found) - len(values),
                    resolution=max(sample.resolution for sample in found), suspects=causes)

    def _suspects(self, point: PointPlan) -> tuple[Suspect, ...]:
        trials = (trial for trial in self.run.trials if trial.point == point.id)
        return suspects(trials, self.run.info.hosts.get(point.host))

    def unfinished(self, place: Place) -> str:
        """Repeats of a measured point that came to nothing: "2 of 5 repeats failed: reason"; empty without one."""
        outcomes = self.outcomes.get(self.points[place].id, ())
        bad = [outcome for outcome in outcomes if outcome.status != "ok"]
        if not bad or len(bad) == len(outcomes):
            return ""
        return f"{len(bad)} of {len(outcomes)} repeats {bad[0].status}: {bad[0].reason or 'no reason was recorded'}"

    def unfinished_share(self, place: Place) -> float:
        """Share of a point's repeats that came to nothing; 0 where none was begun."""
        outcomes = self.outcomes.get(self.points[place].id, ())
        return sum(outcome.status != "ok" for outcome in outcomes) / len(outcomes) if outcomes else 0.0

    def trouble(self, place: Place) -> str:
        """Why the point has no number at all: "failed: reason"; empty where some repeat was measured."""
        outcomes = self.outcomes.get(self.points[place].id, ())
        if any(outcome.status == "ok" for outcome in outcomes):
            return ""
        bad = next(iter(outcomes), None)
        return "not reached" if bad is None else f"{bad.status}: {bad.reason or 'no reason was recorded'}"


def views(runs: Sequence[RunData]) -> list[RunView]:
    """Runs by places that can be matched with each other."""
    named = [[(PointKey.of(point), traffic(point), point) for point in run.plan.points] for run in runs]
    several = {key for points in named for key, number in Counter((k, t) for k, t, _ in points).items() if number > 1}
    return [_view(run, {Place(key, text, point.host if (key, text) in several else ""): point
                        for key, text, point in points}) for run, points in zip(runs, named, strict=True)]


def _view(run: RunData, points: Mapping[Place, PointPlan]) -> RunView:
    outcomes: dict[str, list[PointOutcome]] = {}
    for outcome in run.outcomes:
        outcomes.setdefault(outcome.point, []).append(outcome)
    return RunView(run, points, {ident: tuple(found) for ident, found in outcomes.items()}, samples(run))


def traffic(point: PointPlan) -> str:
    """What a point's frames are beside their size: flows, protocol, tag, directions."""
    if not point.directions:
        return ""
    flows, vlan = point.directions[0].flows, point.directions[0].vlan
    parts = [f"{flows.count} flow{'' if flows.count == 1 else 's'}", _version(flows.dst_ip), flows.l4]
    parts += [f"VLAN {vlan}"] if vlan is not None else []
    parts += ["bidirectional"] if len(point.directions) > 1 else []
    return ", ".join(parts)


def _version(address: str) -> str:
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return "unknown addresses"


def _verdicts(metric: Metric, found: Iterable[Sample], values: Sequence[float],
              outcomes: Iterable[PointOutcome]) -> tuple[Verdict, ...]:
    verdicts = {verdict for sample in found for verdict in sample.verdicts}
    verdicts |= {verdict for outcome in outcomes for verdict in outcome.verdicts if verdict in _OF_POINT}
    verdicts |= {Verdict.DEGRADED for outcome in outcomes if outcome.degraded}
    # The lab is said once, of the run; a generator that limited nothing is no verdict on this number.
    verdicts -= {Verdict.LAB, Verdict.NOISY}
    if metric.kind in _RATES:
        verdicts -= set() if any(sample.at_least for sample in found) else {Verdict.GENERATOR_LIMITED}
        known = interval(values)
        verdicts |= {Verdict.NOISY} if known is not None and is_noisy(known) else set()
    return tuple(in_order(verdicts))


def _reason(metric: Metric, outcomes: Sequence[PointOutcome], not_numbers: int) -> tuple[str, bool]:
    """Why a run has no value of a metric at a point that it has, and whether the stack is the cause."""
    if not_numbers:
        return "its values are no numbers", False
    if not outcomes:
        return "the run ended before this point was begun", False
    measured = [outcome for outcome in outcomes if outcome.status == "ok"]
    if not measured:
        return f"{outcomes[0].status}: {outcomes[0].reason or 'no reason was recorded'}", True
    if metric.kind in _RATES:
        bounds: list[Bound | None] = [getattr(outcome, str(metric.kind)) for outcome in measured]
        why = next((bound.reason for bound in bounds if bound is not None and bound.reason), "")
        return why or "not measured", bool(why)
    if metric.kind is Kind.LATENCY:
        entries = [entry for outcome in measured for entry in outcome.latency if entry.fraction == metric.at]
        few = f"too few samples for {metric.percentile}" if entries else "not measured"
        return next((entry.reason for entry in entries if entry.reason), few), False
    return "not measured", False
