# SPDX-License-Identifier: Apache-2.0
"""What TRex said of itself in each trial of the load curve and of latency: its cores, its links, what it did not take.

From ``counters.generator`` of the trials. xdpgen says less, and its losses and departures left out stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.records import Phase, Trial
from harness.report.identity import one_line
from harness.report.numbers import MISSING, Spread, finite, rate_unit, significant
from harness.report.summarise import PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName

#: Counters of a driver and ports of which something is said in one cell.
_MOST = 6
_NOTES = (
    "Link load: bits on the wire with gaps and preambles, the busiest port, in brackets of its nominal speed. Not "
    "taken: what reached the generator’s port and not its program (ierrors), with the driver’s own names where it has "
    "some; it is lost at “generator receive”. Full queue: times that a frame had to be offered to the port again. Late "
    "latency frames came after ones that were sent later; strange ones had the mark of a latency frame and no place in "
    "this trial’s sequence (of an earlier trial, or damaged): neither is in a percentile. Drop rate: TRex’s own figure "
    "at the end of the trial, sent less received where that is a tenth or more.",)


def generator_table(points: Sequence[PointSummary], names: Mapping[str, PointName]) -> PlainTable | None:
    """One row a point, kind of trial and load; None where no generator told of itself."""
    groups = [(point, phase, load, trials) for point in points for (phase, load), trials in _groups(point)]
    if not groups:
        return None
    unit = rate_unit((load for _, _, load, _ in groups), points[0].plan.role.rate_unit)
    headings = (Heading("Asked", unit.name), Heading("Sending core", "%"), Heading("Receiving core", "%"),
                Heading("Link out", "Gbit/s"), Heading("Link in", "Gbit/s"), Heading("Not taken", "frames"),
                Heading("Full queue", "times"), Heading("Late latency", "frames"), Heading("Strange latency", "frames"),
                Heading("Drop rate", "Mbit/s"))
    rows = []
    for point, phase, load, trials in groups:
        of = ("latency trial",) if phase is Phase.LATENCY else ()
        speed = point.plan.wires[0].speed_gbps
        rows.append((names[point.plan.id], (Cell(unit.text(load), of), *_cells(trials, speed))))
    return PlainTable(headings, tuple(rows), _NOTES)


def _groups(point: PointSummary) -> list[tuple[tuple[Phase, float], list[Trial]]]:
    groups: dict[tuple[Phase, float], list[Trial]] = {}
    for trial in point.trials:
        if trial.phase in (Phase.LOAD, Phase.LATENCY) and trial.status == "ok" and not trial.superseded \
                and _told(trial):
            groups.setdefault((trial.phase, trial.asked_pps), []).append(trial)
    return sorted(groups.items(), key=lambda group: (group[0][0].value, group[0][1]))


def _told(trial: Trial) -> Mapping[str, Any]:
    found = trial.counters.get("generator")
    return found if isinstance(found, dict) else {}


def _cells(trials: Sequence[Trial], speed_gbps: float) -> Iterator[Cell]:
    yield _percent(trial.generator_utilisation for trial in trials)
    yield _percent(_told(trial).get("receiving_utilisation") for trial in trials)
    for way in ("o", "i"):
        yield _link([_busiest(_told(trial).get("link_gbps"), way) for trial in trials], speed_gbps)
    yield _not_taken(trials)
    for name in ("queue_full", "late_latency", "strange_latency"):
        yield _total(trials, name)
    rate = Spread.of(_told(trial).get("rx_drop_bps") for trial in trials)
    yield Cell(MISSING, (), "the run is older") if rate is None else Cell(significant(rate.median / 1e6))


def _percent(values: Any) -> Cell:
    spread = Spread.of(values)
    return Cell(MISSING, (), "the trial was too short to tell") if spread is None else Cell(f"{100 * spread.high:.0f}")


def _busiest(links: object, way: str) -> float | None:
    """Of all ports; untrusted."""
    if not isinstance(links, dict):
        return None
    known = [finite(link.get(way)) for link in links.values() if isinstance(link, dict)]
    return max((value for value in known if value is not None), default=None)


def _link(values: Sequence[float | None], speed_gbps: float) -> Cell:
    spread = Spread.of(values)
    if spread is None:
        return Cell(MISSING, (), "the generator did not count bytes")
    share = f"({100 * spread.median / speed_gbps:.1f} %)" if speed_gbps else ""
    return Cell(significant(spread.median), tuple(filter(None, (share,))))


def _total(trials: Sequence[Trial], name: str) -> Cell:
    known = [value for value in (finite(_told(trial).get(name)) for trial in trials) if value is not None]
    return Cell(f"{sum(known):,.0f}") if known else Cell(MISSING, (), "the run is older")


def _not_taken(trials: Sequence[Trial]) -> Cell:
    """Errors of all ports in receiving, all repeats together, and what the driver calls them."""
    total, known, by_name = 0.0, False, dict[str, float]()
    for trial in trials:
        for port in _ports(_told(trial).get("errors")):
            missed = finite(port.get("ierrors"))
            known, total = known or missed is not None, total + (missed or 0.0)
        for port in _ports(_told(trial).get("nic")):
            for name, count in port.items():
                by_name[str(name)] = by_name.get(str(name), 0.0) + (finite(count) or 0.0)
    if not known:
        return Cell(MISSING, (), "the generator did not say")
    found = sorted(by_name.items(), key=lambda item: -item[1])
    return Cell(f"{total:,.0f}", tuple(f"{one_line(name, 40)}: {count:,.0f}" for name, count in found[:_MOST]))


def _ports(told: object) -> list[dict[str, Any]]:
    return [port for port in told.values() if isinstance(port, dict)] if isinstance(told, dict) else []
