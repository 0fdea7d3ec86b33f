# SPDX-License-Identifier: Apache-2.0
"""Latency against its floor: what the same generator and wire show with the cheapest responder, at a load that troubles
nobody. The raw figures stand in the table of latency; here is what a stack and its load add to the floor."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import Ceiling, Floor
from harness.report.numbers import MISSING, Spread, Unit, fraction_name, nanoseconds, set_rate, time_unit
from harness.report.summarise import LatencySummary, PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName

_SHOWN = (("p50", "p50_ns"), ("p90", "p90_ns"), ("p99", "p99_ns"), ("p99.9", "p999_ns"))


def floor_table(points: Sequence[PointSummary], names: dict[str, PointName],
                ceilings: Sequence[Ceiling]) -> PlainTable | None:
    """Percentiles minus the same percentile of the floor, of every point and load; None where no floor was measured."""
    floors = {(ceiling.host, ceiling.frames): ceiling for ceiling in ceilings if ceiling.floor is not None}
    entries = [(p, e, ceiling) for p in points if (ceiling := floors.get((p.plan.host, p.plan.frames))) is not None
               for e in p.latency if e.at.get("p50") is not None]
    if not entries:
        return None
    unit = time_unit(spread.median for _, e, _ in entries if (spread := e.at["p50"]) is not None)
    headings = (Heading("Load", "of rate"), *(Heading(f"{name} above floor", unit.name) for name, _ in _SHOWN))
    rows = [(names[p.plan.id], (Cell(f"{fraction_name(e.fraction)} of {e.of.upper()[:8]}"), *_above(e, c.floor, unit)))
            for p, e, c in entries if c.floor is not None]
    return PlainTable(headings, tuple(rows), tuple(_said(ceiling) for ceiling in floors.values()))


def _above(entry: LatencySummary, floor: Floor, unit: Unit) -> list[Cell]:
    cells = []
    for name, attribute in _SHOWN:
        least, found = getattr(floor.percentiles, attribute), entry.at.get(name)
        if found is None or least is None:
            missing = "this load" if found is None else "the floor"
            cells.append(Cell(MISSING, (), f"{missing} has too few samples for {name}"))
        else:
            cells.append(Cell(_difference(found, least, unit)))
    return cells


def _difference(found: Spread, least: float, unit: Unit) -> str:
    text = unit.text(found.median - least)
    return text if found.median < least else f"+{text}"


def _said(ceiling: Ceiling) -> str:
    floor = ceiling.floor
    assert floor is not None
    at = floor.percentiles
    return (f"Floor: {ceiling.stack[:40]} at {set_rate(floor.load_pps)} showed p50 {nanoseconds(at.p50_ns)}, p99 "
            f"{nanoseconds(at.p99_ns)}, jitter {nanoseconds(at.jitter_ns)} (trial {floor.trial}): the generator's and "
            "the wire's own share. Percentiles of two distributions do not subtract exactly: the difference tells the "
            "size of what a stack adds, not its distribution. Below zero: within what trials differ by.")
