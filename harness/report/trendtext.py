# SPDX-License-Identifier: Apache-2.0
"""A history in words and as data: how its numbers and its changes are written, on the terminal and in the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from harness.analysis.changepoints import MAX_P
from harness.analysis.metrics import Kind, Metric
from harness.analysis.trend import Series, Step, Trend
from harness.report.numbers import MISSING, nanoseconds, percent, plural, rate, significant
from harness.texttable import columns

MAX_ITEMS = 6


def value_text(value: float | None, metric: Metric, unit: str, *, bound: bool = False) -> str:
    """A metric's value with its unit; "n/a" where there is none, ">= " before a lower bound."""
    if value is None:
        return MISSING
    if bound:
        return f">= {value_text(value, metric, unit)}"
    if metric.kind is Kind.LATENCY:
        return nanoseconds(value)
    if metric.kind is Kind.LOSS:
        return percent(value)
    return f"{significant(value)} {unit}" if metric.kind in (Kind.CORES, Kind.CYCLES) else rate(value, unit)


def kind_of(step: Step) -> str:
    """"progression", "regression", or "no significant change" (of a transition); "cannot tell" where a bound or too few
    runs leave it open."""
    if step.hidden:
        return "cannot tell, a lower bound"
    if step.transition and (step.p is None or step.p > MAX_P):
        return "cannot tell" if step.p is None else "no significant change"
    return "progression" if step.better else "regression"


def step_text(step: Step, series: Series) -> str:
    """From what to what, and by how much."""
    change = "" if step.ratio is None else f" ({step.ratio:+.1%})".replace("%", " %")
    before, after = (value_text(value, series.metric, series.unit, bound=bound)
                     for value, bound in zip((step.before, step.after), step.bounds, strict=True))
    return f"{before} → {after}{change}"


def items_text(step: Step) -> str:
    """What differs between the two runs."""
    if not step.differences:
        return "nothing recorded differs between the two runs"
    shown = [f"{item}: {before[:60]} → {after[:60]}" for item, before, after in step.differences[:MAX_ITEMS]]
    more = len(step.differences) - len(shown)
    return "; ".join(shown) + (f"; and {plural(more, 'more item')}" if more else "")


def told_once(steps: Iterable[Step]) -> list[str]:
    """What differs at every step, in their order; where the runs are those of an earlier one, a word instead."""
    seen: set[tuple[str, str]] = set()
    said = []
    for step in steps:
        runs = step.last, step.first
        again = runs in seen and bool(step.differences)
        said.append(f"the same {plural(len(step.differences), 'item')} as above" if again else items_text(step))
        seen.add(runs)
    return said


def coverage(series: Series) -> tuple[int, str, str]:
    """Number of runs with a value, the oldest and the newest value in words."""
    known = [value_text(value, series.metric, series.unit, bound=bound)
             for value, bound in zip(series.values, series.bounds, strict=True) if value is not None]
    return len(known), known[0] if known else MISSING, known[-1] if known else MISSING


def headline(trend: Trend) -> str:
    """How much history there is."""
    sets = len({run.environment for run in trend.runs})
    together = "taken together (--across)" if trend.across else "each with a series of its own"
    return (f"{trend.scenario}: {plural(len(trend.runs), 'complete run')}, {trend.runs[0].started_at[:10]} to "
            f"{trend.runs[-1].started_at[:10]}"
            + (f"; {sets} sets of comparable runs, {together}" if sets > 1 else ", all comparable"))


def trend_text(trend: Trend) -> str:
    """For a terminal: a line a series, then every change."""
    lines = [headline(trend), ""]
    if not trend.series:
        return "\n".join([*lines, "none of these metrics was measured in these runs; name others with --metric"])
    rows = [("metric", "point", "cores", "runs", "oldest", "newest", "changes")]
    for series in trend.series:
        runs, oldest, newest = coverage(series)
        rows.append((series.metric.name, series.label, series.point[5], f"{runs} of {len(trend.runs)}",
                     oldest, newest, str(sum(not step.transition and not step.hidden for step in series.steps))))
    lines.append(columns(rows))
    for title, transition in (("Changes between comparable runs", False),
                              ("Where the circumstances changed (no statement about the cause)", True)):
        found = [(series, step) for series in trend.series for step in series.steps if step.transition is transition]
        if transition and not found:
            continue
        lines += ["", title + ("" if found else ": none found")]
        for (series, step), items in zip(found, told_once(step for _, step in found), strict=True):
            what = f"  {kind_of(step)}: {series.metric.name}, {series.label}: {step_text(step, series)}"
            where = f"    after {step.last}, first in {step.first}; {items}"
            lines.append(columns([(what,), (where,)]))
    if len(trend.runs) == 1:
        lines += ["", "One run is no history: changes can be found when there are more."]
    return "\n".join(lines)


def trend_data(trend: Trend) -> dict[str, Any]:
    """JSON-ready. ``values`` are in the order of ``runs``; null: the run has none."""
    return {
        "scenario": trend.scenario, "across": trend.across,
        "runs": [{"run": run.run, "started_at": run.started_at, "set": run.environment} for run in trend.runs],
        "left_out": [{"run": run, "why": why} for run, why in trend.left_out],
        "series": [{
            "metric": series.metric.name, "unit": series.unit, "label": series.label,
            "higher_is_better": series.metric.higher_is_better,
            "point": dict(zip(("stack", "params", "tuning", "role", "frames", "cores", "host"), series.point,
                              strict=True)),
            "values": list(series.values), "at_least": list(series.bounds),
            "changes": [dataclasses.asdict(step) | {"kind": kind_of(step), "ratio": step.ratio}
                        for step in series.steps]} for series in trend.series]}
