# SPDX-License-Identifier: Apache-2.0
"""How many frames a stack took at a time, and what one cost it: from its own counters of the load curve's trials.

For every stack that works in vectors and counts ``vectors`` (frames taken in), ``calls`` (turns with frames) and
``clocks`` (of the time-stamp counter, spent on frames after they were taken in).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.records import Phase, Trial
from harness.report.numbers import MISSING, Spread, finite, rate_unit, significant
from harness.report.summarise import PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName


def vector_table(points: Sequence[PointSummary], names: Mapping[str, PointName]) -> PlainTable | None:
    """One row a point and load; None where no stack counts vectors."""
    groups = [(point, load, trials) for point in points for load, trials in _by_load(point)]
    if not groups:
        return None
    unit = rate_unit((load for _, load, _ in groups), points[0].plan.role.rate_unit)
    headings = (Heading("Offered", unit.name), Heading("Vector", "frames per call"), Heading("Clocks", "per packet"))
    rows = [(names[point.plan.id], (Cell(unit.text(load)), _ratio(trials, "vectors", "calls"),
                                    _ratio(trials, "clocks", "vectors"))) for point, load, trials in groups]
    return PlainTable(headings, tuple(rows), (
        "Vector: frames in a turn that had any. Clocks: of the time-stamp counter, in the graph after a frame was "
        "taken in; what polling and the kernel’s part cost is not in here, the CPU table has the whole core.",))


def _by_load(point: PointSummary) -> list[tuple[float, list[Trial]]]:
    groups: dict[float, list[Trial]] = {}
    for trial in point.trials:
        if trial.phase is Phase.LOAD and trial.status == "ok" and not trial.superseded \
                and _count(trial, "vectors") and _count(trial, "clocks"):
            groups.setdefault(trial.asked_pps, []).append(trial)
    return sorted(groups.items())


def _count(trial: Trial, name: str) -> float:
    found = trial.counters.get("stack")
    return (finite(found.get(name)) or 0.0) if isinstance(found, dict) else 0.0


def _ratio(trials: Sequence[Trial], over: str, under: str) -> Cell:
    spread = Spread.of(_count(t, over) / _count(t, under) for t in trials if _count(t, under) > 0)
    return Cell(significant(spread.median)) if spread is not None else Cell(MISSING, (), f"no {under} were counted")
