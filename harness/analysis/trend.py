# SPDX-License-Identifier: Apache-2.0
"""The history of a scenario: one series a point and metric, in the order of the runs, and where its level changed.

Runs are comparable when everything recorded of their circumstances is the same (:mod:`harness.analysis.environment`);
each set of such runs is an environment with a series of its own. Where one environment ends and another begins, levels
are set side by side as a transition: what differs is named, and nothing is said about the cause. ``across`` puts all
runs in one series. A run without the metric (the point failed, was skipped, was not in the plan) is None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.analysis import environment
from harness.analysis.changepoints import Memo, change, change_points
from harness.analysis.metrics import Metric

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class RunRow:
    """A complete run: its index in :attr:`Trend.runs` is its place in every series. ``environment``: number of the set
    of comparable runs to which it belongs."""

    run: str
    started_at: str
    environment: int
    items: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """A change of level. ``last``: the newest run with a value before it; ``first``: the oldest after it. ``before``,
    ``after``: mean levels, in the metric's unit. ``p``: chance of such a difference by noise; None for a transition
    with fewer than two runs on a side. ``better``: a progression. ``transition``: between two environments. ``bounds``:
    whether a lower bound is among the runs before and after it."""

    last: str
    first: str
    before: float
    after: float
    p: float | None
    better: bool
    transition: bool
    differences: tuple[tuple[str, str, str], ...]
    bounds: tuple[bool, bool] = (False, False)

    @property
    def hidden(self) -> bool:
        """Whether a lower bound, which may be exceeded, leaves open that there was a change at all."""
        return self.bounds[0] if self.after > self.before else self.bounds[1]

    @property
    def ratio(self) -> float | None:
        """Relative change, None from a level of zero and where a level is a lower bound."""
        return None if self.before == 0 or any(self.bounds) else self.after / self.before - 1


@dataclass(frozen=True)
class Series:
    """One metric of one point. ``values``: the median over repeats of every run, None where a run has none. ``bounds``:
    which of them are lower bounds (the generator was the limit in a repeat)."""

    point: tuple[str, ...]
    label: str
    stack: str
    metric: Metric
    unit: str
    values: tuple[float | None, ...]
    bounds: tuple[bool, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Trend:
    """``left_out``: (run, why) of this scenario's runs that are not part of the history."""

    scenario: str
    runs: tuple[RunRow, ...]
    series: tuple[Series, ...]
    left_out: tuple[tuple[str, str], ...]
    across: bool


def scenarios(index: duckdb.DuckDBPyConnection) -> list[str]:
    """Scenarios that have a run, by name."""
    return [str(row[0]) for row in index.execute(
        "SELECT DISTINCT scenario FROM runs WHERE scenario IS NOT NULL ORDER BY scenario").fetchall()]


def trend(index: duckdb.DuckDBPyConnection, scenario: str, metrics: Sequence[Metric], *, across: bool = False,
          memo: Memo | None = None) -> Trend:
    """The history of a scenario over all its complete runs."""
    runs = _runs(index, scenario)
    values = _values(index, scenario, [metric.name for metric in metrics])
    found = []
    for (point, name), (label, stack, unit, by_run) in values.items():
        row = tuple(by_run.get(run.run, (None, False))[0] for run in runs)
        bounds = tuple(by_run.get(run.run, (None, False))[1] for run in runs)
        metric = Metric.parse(name)
        steps = tuple(_bounded(_steps(row, runs, metric, across, memo), bounds, runs))
        found.append(Series(point, label, stack, metric, unit, row, bounds, steps))
    found = _told_apart(found)
    order = {metric.name: place for place, metric in enumerate(metrics)}
    found.sort(key=lambda series: (order[series.metric.name], series.point))
    return Trend(scenario, runs, tuple(found), _left_out(index, scenario), across)


def _told_apart(found: Sequence[Series]) -> list[Series]:
    """Points that share a label (a parameter came to be after the label was chosen) get what differs added to it."""
    labels: dict[str, set[tuple[str, ...]]] = {}
    for series in found:
        labels.setdefault(series.label, set()).add(series.point)
    return [replace(series, label=f"{series.label} ({_distinct(series.point, labels[series.label])})")
            if len(labels[series.label]) > 1 else series for series in found]


def _distinct(point: tuple[str, ...], alike: set[tuple[str, ...]]) -> str:
    """What of a point's parameters, tuning, frames, cores and host the others of its label do not have."""
    fields: list[set[str]] = []
    for one in (point, *sorted(alike - {point})):
        shown = {f"{name}={value}" for text in one[1:3] for name, value in json.loads(text).items()}
        fields.append(shown | {one[4], f"{one[5]} cores", f"on {one[6]}"})
    own = sorted(one for one in fields[0] if not all(one in other for other in fields))
    return ", ".join(own)[:120] or "without what others of this label have"


def _runs(index: duckdb.DuckDBPyConnection, scenario: str) -> tuple[RunRow, ...]:
    rows = index.execute("SELECT run, started_at, environment FROM runs WHERE scenario = ? AND state = 'complete' "
                         "ORDER BY started_at, run", [scenario]).fetchall()
    known: dict[str, int] = {}
    items: dict[str, dict[str, str]] = {}
    for _, _, text in rows:
        if text not in known:
            items[text] = json.loads(text)
            alike = (known[other] for other in known if not environment.apart(items[other], items[text]))
            known[text] = next(alike, len(set(known.values())))
    return tuple(RunRow(run, started, known[text], items[text]) for run, started, text in rows)


_Values = dict[tuple[tuple[str, ...], str], tuple[str, str, str, dict[str, tuple[float, bool]]]]


def _values(index: duckdb.DuckDBPyConnection, scenario: str, metrics: Sequence[str]) -> _Values:
    rows = index.execute(
        "SELECT p.stack, p.params, p.tuning, p.role, p.frames, p.cores, p.host, m.metric, any_value(p.label), "
        "any_value(m.unit), m.run, median(m.value), bool_or(m.at_least) FROM metrics m "
        "JOIN points p USING (run, point) JOIN runs r USING (run) "
        "WHERE r.scenario = ? AND r.state = 'complete' AND list_contains(?::VARCHAR[], m.metric) "
        "AND isfinite(m.value) GROUP BY ALL", [scenario, list(metrics)]).fetchall()
    found: _Values = {}
    for *point, metric, label, unit, run, value, bound in rows:
        key = tuple(map(str, point)), str(metric)
        found.setdefault(key, (str(label), str(point[0]), str(unit), {}))[3][run] = float(value), bool(bound)
    return found


def _left_out(index: duckdb.DuckDBPyConnection, scenario: str) -> tuple[tuple[str, str], ...]:
    """Runs of the scenario that did not end well, and those that cannot be read, whose scenario is not known."""
    rows = index.execute("SELECT run, state, problem FROM runs WHERE (scenario = ? AND state <> 'complete') OR "
                         "scenario IS NULL ORDER BY run", [scenario]).fetchall()
    return tuple((str(run), str(problem) if state == "unreadable" else f"it is {state}, not complete")
                 for run, state, problem in rows)


def _steps(values: Sequence[float | None], runs: Sequence[RunRow], metric: Metric, across: bool,
           memo: Memo | None) -> list[Step]:
    """In the order of the runs."""
    sets = [0] * len(runs) if across else [run.environment for run in runs]
    steps = []
    for number in sorted(set(sets)):
        places = [i for i, value in enumerate(values) if value is not None and sets[i] == number]
        for found in change_points([float(values[i] or 0.0) for i in places], memo):
            last, first = places[found.index - 1], places[found.index]
            steps.append((first, _step(runs[last], runs[first], found.before, found.after, found.p, metric,
                                       transition=False)))
    steps += [] if across else _transitions(values, runs, metric, {first for first, _ in steps})
    return [step for _, step in sorted(steps, key=lambda found: found[0])]


def _bounded(steps: Sequence[Step], bounds: Sequence[bool], runs: Sequence[RunRow]) -> list[Step]:
    """Steps, in the order of the runs, with the lower bounds on either side, up to the steps beside them."""
    places = {run.run: place for place, run in enumerate(runs)}
    ends = [0, *(places[step.first] for step in steps), len(runs)]
    return [replace(step, bounds=(any(bounds[ends[number]:ends[number + 1]]),
                                  any(bounds[ends[number + 1]:ends[number + 2]])))
            for number, step in enumerate(steps)]


def _transitions(values: Sequence[float | None], runs: Sequence[RunRow], metric: Metric,
                 changed: Set[int]) -> list[tuple[int, Step]]:
    """Where runs of another environment begin: the last level before against the first after. ``changed``: places of
    the first runs after a change, which end a level."""
    stretches: list[list[int]] = []
    for place, value in enumerate(values):
        if value is None:
            continue
        if stretches and runs[stretches[-1][-1]].environment == runs[place].environment:
            stretches[-1].append(place)
        else:
            stretches.append([place])
    found = []
    for left, right in pairwise(stretches):
        begin = max((i for i in left if i in changed), default=left[0])
        end = min((i for i in right[1:] if i in changed), default=right[-1] + 1)
        level_of = [i for i in left if i >= begin], [i for i in right if i < end]
        sides = [[float(values[i] or 0.0) for i in side] for side in level_of]
        level = change(sides[0], sides[1], right[0])
        p = level.p if min(map(len, sides)) > 1 else None
        found.append((right[0], _step(runs[left[-1]], runs[right[0]], level.before, level.after, p, metric,
                                      transition=True)))
    return found


def _step(last: RunRow, first: RunRow, before: float, after: float, p: float | None, metric: Metric, *,
          transition: bool) -> Step:
    better = (after > before) == metric.higher_is_better
    items = tuple((item.item, item.a, item.b) for item in environment.apart(last.items, first.items))
    return Step(last.run, first.run, before, after, p, better, transition, items)
