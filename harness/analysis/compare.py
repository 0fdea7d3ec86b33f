# SPDX-License-Identifier: Apache-2.0
"""Two runs point by point: every metric that both measured, how it differs, and what the difference is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from harness.analysis import decision, environment
from harness.analysis.metrics import Kind, Metric
from harness.analysis.sides import Place, RunView, Side, granularity, views
from harness.analysis.statistics import LEVEL, Difference, difference, smallest_seen
from harness.errors import UsageError
from harness.rundata import RunData

#: Items named in an error; the rest is counted.
_NAMED = 12


class Finding(StrEnum):
    """What a difference says about the stack."""

    BETTER = "better"
    WORSE = "worse"
    NONE = "no difference seen"
    LIMITED = "cannot tell, generator-limited"
    FEW = "too few repeats to tell"


@dataclass(frozen=True)
class Row:
    """One metric of one point in both runs. ``resolution``: the width (relative) within which two values are the same:
    of rates the search's, of latencies what their source cannot tell apart; 0 for others. ``p``: adjusted for the
    number of rows (Benjamini-Hochberg), None where ``difference.p`` is. ``visible``: the difference that these repeats
    show with a probability of POWER among so many rows."""

    place: Place
    metric: Metric
    base: Side
    other: Side
    difference: Difference
    finding: Finding
    p: float | None = None
    visible: float | None = None
    resolution: float = 0.0

    @property
    def hidden(self) -> bool:
        """Whether a side is a lower bound on which the difference depends: its size, interval and p mean nothing."""
        return self.finding is Finding.LIMITED

    @property
    def smallest(self) -> float | None:
        """Smallest difference that could have been seen, as ``difference.value``; None without an interval, and where
        a bound hides the difference."""
        if self.hidden or self.visible is None:
            return None
        return max(self.visible, self.resolution) or None


@dataclass(frozen=True)
class Gap:
    """What only one of the runs has: a point, or (``metric``) one of its metrics; ``missing``: the run without it."""

    place: Place
    metric: Metric | None
    missing: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """``other`` against ``base``; ``differences`` of their environments (only with ``across``)."""

    base: RunData
    other: RunData
    differences: tuple[environment.Difference, ...]
    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...]


def compare(runs: Sequence[RunData], *, across: bool = False) -> list[Comparison]:
    """Every further run against the first. Raises UsageError for runs that are not alike (unless ``across``), for runs
    without a common point, and for a run named twice."""
    base, *others = runs
    if not others:
        raise UsageError("one run; name at least two to compare")
    ids = [run.info.run_id for run in runs]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice; name each run once, the base first")
    apart = [unlike(base, other, across=across) for other in others]
    seen = views(runs)
    return [_against(seen[0], view, found) for view, found in zip(seen[1:], apart, strict=True)]


def unlike(base: RunData, other: RunData, *, across: bool) -> tuple[environment.Difference, ...]:
    """How two environments differ. Raises UsageError where they do and ``across`` is not given."""
    found = environment.differences(base.info, other.info)
    if found and not across:
        named = "\n".join(f"  {item.item}: {item.a} | {item.b}" for item in found[:_NAMED])
        more = f"\n  and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise UsageError(f"{base.info.run_id} and {other.info.run_id} are not comparable; they differ in\n"
                         f"{named}{more}\ncompare runs of the same machines and settings, or say --across to compare "
                         "all the same")
    return tuple(found)


def _against(base: RunView, other: RunView, apart: tuple[environment.Difference, ...]) -> Comparison:
    if not any(place in other.points for place in base.points):
        raise UsageError(_nothing_common(base, other))
    return Comparison(base.run, other.run, apart, _rows(base, other), tuple(_gaps(base, other)))


def _nothing_common(base: RunView, other: RunView) -> str:
    lists = [f"{view.run.info.run_id} has {'; '.join(_described(view.points))}" for view in (base, other)]
    return ("no point in common (same stack, parameters, tuning, role, frame, cores and traffic): " + ". ".join(lists)
            + "; name runs of one scenario")


def _described(places: Mapping[Place, object]) -> list[str]:
    some = [f"{place.title} ({place.key.role}, {place.traffic})" for place in list(places)[:4]]
    return some + ([f"and {len(places) - 4} more"] if len(places) > 4 else [])


def _rows(base: RunView, other: RunView) -> tuple[Row, ...]:
    pairs = [(place, metric, one, two, difference(one.values, two.values, relative=not metric.is_ratio))
             for place in base.points if place in other.points
             for metric in sorted(base.metrics(place) & other.metrics(place))
             if (one := base.side(place, metric)).values and (two := other.side(place, metric)).values]
    tested = [found.p for *_, found in pairs if found.p is not None]
    adjusted = iter(decision.adjusted(np.array(tested)).tolist() if tested else ())
    return tuple(_row(base, other, pair, next(adjusted) if pair[-1].p is not None else None, len(tested))
                 for pair in pairs)


def _row(base: RunView, other: RunView, pair: tuple[Place, Metric, Side, Side, Difference], p: float | None,
         tested: int) -> Row:
    place, metric, one, two, found = pair
    width = max(resolution(base.run, metric), resolution(other.run, metric), granularity(one, two))
    visible = None if p is None else smallest_seen(one.values, two.values, relative=found.relative,
                                                   level=1 - (1 - LEVEL) / tested)
    return Row(place, metric, one, two, found, finding(metric, one, two, found, p, width), p, visible, width)


def resolution(run: RunData, metric: Metric) -> float:
    """Relative width at which the search for a rate stops: no difference below it is one."""
    search = run.plan.measure.search
    return search.width if search is not None and metric.kind in (Kind.NDR, Kind.PDR) else 0.0


def finding(metric: Metric, base: Side, other: Side, found: Difference, p: float | None,
            width: float = 0.0) -> Finding:
    """What may be said; ``p``: adjusted for the number of rows.

    A lower bound can be exceeded, so it supports "slower than it" and nothing else."""
    if found.interval is None or p is None:
        lower = (found.value < 0) == metric.higher_is_better
        return Finding.LIMITED if (other.at_least if lower else base.at_least) else Finding.FEW
    # A step of one bucket is not beyond the width, whatever its last digit.
    seen = found.seen and p <= 1 - LEVEL and abs(found.value) > width * (1 + 1e-9)
    worse = seen and (found.value < 0) == metric.higher_is_better
    if base.at_least or other.at_least:
        certain = seen and (not other.at_least if worse else not base.at_least)
        if not certain:
            return Finding.LIMITED
    if not seen:
        return Finding.NONE
    return Finding.WORSE if worse else Finding.BETTER


def _gaps(base: RunView, other: RunView) -> Iterator[Gap]:
    for have, lacks in ((base, other), (other, base)):
        name = lacks.run.info.run_id
        for place in have.points:
            if place not in lacks.points:
                yield Gap(place, None, name, _not_there(place, lacks))
                continue
            trouble = lacks.trouble(place)
            if trouble:
                yield Gap(place, None, name, trouble)
                continue
            for metric in sorted(have.metrics(place)):
                side = lacks.side(place, metric)
                if have.side(place, metric).values and not side.values:
                    yield Gap(place, metric, name, side.reason)


def _not_there(place: Place, lacks: RunView) -> str:
    """Why a point is not in a run; what is nearly the same point is named."""
    key = place.key
    for other in lacks.points:
        if other.key == key:
            return f"this run measured it with {other.traffic or 'other traffic'} instead of {place.traffic}"
        if (other.key.stack, other.key.label, other.key.role, other.key.frames, other.key.cores) == (
                key.stack, key.label, key.role, key.frames, key.cores):
            apart = [f"{what} {theirs} instead of {ours}" for what, theirs, ours in (
                ("parameters", other.key.params, key.params), ("tuning", other.key.tuning, key.tuning))
                if theirs != ours]
            return f"this run has it with {' and '.join(apart)}"
    return "not in this run"
