# SPDX-License-Identifier: Apache-2.0
"""Several runs side by side: a row a point, a column a run; and what the page can be filtered by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.metrics import PointKey
from harness.report.facts import headline_facts
from harness.report.identity import Look, one_line, stack_key
from harness.report.numbers import MISSING, fraction_name, nanoseconds, plural, rate
from harness.report.summarise import NOT_ASKED, PointSummary
from harness.report.tables import PointName
from harness.rundata import RunData


@dataclass(frozen=True)
class RunColumn:
    """A run as a heading: ``anchor`` of its article, ``facts``: date, repeats, host, wire."""

    anchor: str
    run_id: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What a run found at a point: (name, figure) pairs, and the point's anchor in its article; ``nothing``: why there
    is no figure."""

    anchor: str
    pairs: tuple[tuple[str, str], ...]
    nothing: str = ""


@dataclass(frozen=True)
class SideBySide:
    """``rows``: a point's label, what tells it apart, its colour, and what each run found, None where a run has no such
    point."""

    columns: tuple[RunColumn, ...]
    rows: tuple[tuple[str, str, int, tuple[Found | None, ...]], ...]
    shared: int


def side_by_side(runs: Sequence[RunData], summaries: Sequence[Sequence[PointSummary]],
                 names: Sequence[Mapping[str, PointName]], looks: Mapping[str, Look],
                 prefixes: Sequence[str]) -> SideBySide:
    """All points of all runs, those with the same stack, parameters, tuning, role, frames and cores in one row; where
    a run has such a point on several hosts, a row for each host."""
    rows: dict[tuple[PointKey, str], dict[int, PointSummary]] = {}
    keys = [[PointKey.of(point.plan) for point in points] for points in summaries]
    several = {key for found in keys for key, number in Counter(found).items() if number > 1}
    for index, points in enumerate(summaries):
        for key, point in zip(keys[index], points, strict=True):
            rows.setdefault((key, point.plan.host if key in several else ""), {}).setdefault(index, point)
    columns = tuple(RunColumn(f"{prefix}run", one_line(run.info.run_id, 120), tuple(_facts(run)))
                    for run, prefix in zip(runs, prefixes, strict=True))
    table = []
    for found in rows.values():
        point = next(iter(found.values()))
        look = looks[stack_key(point.plan)]
        size = point.plan.traffic_label if point.plan.frame_bytes else "TCP"
        what = f"{point.plan.role.value} · {plural(len(point.plan.cores), 'core')} · {size}"
        cells = tuple(_found(found[index], names[index][found[index].plan.id].anchor) if index in found else None
                      for index in range(len(runs)))
        table.append((look.name, what, look.colour, cells))
    return SideBySide(columns, tuple(table), sum(len(found) == len(runs) for found in rows.values()))


def _facts(run: RunData) -> Iterator[str]:
    yield one_line(run.info.started_at[:16].replace("T", " "), 20)
    yield plural(run.plan.measure.repeat, "repeat")
    used = {point.host for point in run.plan.points}
    hosts = [host.name for host in run.plan.hosts if host.name in used]
    for host in hosts[:8]:
        facts = run.info.hosts.get(host)
        if isinstance(facts, dict):
            of = f"{one_line(host, 20)}: " if len(hosts) > 1 else ""
            yield from (f"{of}{one_line(value, 60)}" for name, value in headline_facts(facts).items()
                        if name != "System")
    yield "virtual wire" if any(wire.virtual for wire in run.plan.wires) else "wires"
    if run.info.state != "complete":
        yield f"the run is {one_line(run.info.state, 20)}"


def _found(point: PointSummary, anchor: str) -> Found:
    unit = point.plan.role.rate_unit
    pairs = [(summary.name, ("≥ " if summary.at_least else "") + rate(summary.rate.median, unit)
              if summary.rate else MISSING) for summary in point.rates() if summary.rate or summary.reason != NOT_ASKED]
    for entry in point.latency:
        spread = entry.at["p99"]
        if spread is not None:
            pairs.append((f"p99 at {fraction_name(entry.fraction)}", nanoseconds(spread.median)))
    if all(figure == MISSING for _, figure in pairs):
        return Found(anchor, (), f"{point.status}: {one_line(point.reason, 120)}" if point.reason else MISSING)
    return Found(anchor, tuple(pairs))


def facets(summaries: Sequence[Sequence[PointSummary]],
           names: Sequence[Mapping[str, PointName]]) -> dict[str, dict[str, Any]]:
    """What each point can be found by, by its anchor: stack, host where there are several, role, cores, frame."""
    several = len({point.plan.host for points in summaries for point in points}) > 1
    return {names[index][point.plan.id].anchor: {
        "Stack": one_line(point.plan.stack, 60), **({"Host": one_line(point.plan.host, 40)} if several else {}),
        "Role": point.plan.role.value, "Cores": len(point.plan.cores),
        "Frame": point.plan.traffic_label if point.plan.frame_bytes else "TCP"}
        for index, points in enumerate(summaries) for point in points}
