# SPDX-License-Identifier: Apache-2.0
"""CPU over load as text: the busiest core, all given cores, and what a packet costs; never a poll as plain work."""

from __future__ import annotations

from collections.abc import Sequence

from harness.plan import Role
from harness.report.identity import clean
from harness.report.numbers import MISSING, percent, rate_unit, rounded, set_rate, significant
from harness.report.summarise import LoadSummary, PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName, has_cycles, unit_counted

NO_SAMPLE = "no CPU sample lies inside the trial"


def busiest_cell(point: PointSummary, at: LoadSummary) -> Cell:
    """The busiest of the given cores; what other cores did is the verdict extra-core and the chart."""
    given = {core: spread for core, spread in at.cores.items() if core in point.plan.cores}
    if not given:
        return Cell(MISSING, (), clean(at.note, 200) or NO_SAMPLE)
    core, spread = max(given.items(), key=lambda item: item[1].median)
    marks = [f"core {core}"]
    if at.indicative:
        marks.append("indicative: trial under 2 s")
    if point.polls:
        return Cell("polls", (_split(at), *marks))
    return Cell(f"{spread.median * 100:.0f}", tuple(marks))


def _split(at: LoadSummary) -> str:
    return "polls not counted" if at.useful is None else f"{percent(at.useful, 0)} of polls useful"


def busy_cell(point: PointSummary, at: LoadSummary) -> Cell:
    """Busy time of all given cores, polls included."""
    if at.busy_cores is None:
        return Cell(MISSING, (), clean(at.note, 200) or NO_SAMPLE)
    of = f"of {len(point.plan.cores) * 100}"
    return Cell(f"{at.busy_cores.median * 100:.0f}", (of, "polls included") if point.polls else (of,))


def cost_cell(point: PointSummary, at: LoadSummary, cycles: bool) -> Cell:
    """What a packet or connection costs: in cycles where asked for and known, else in core time."""
    load = f"at {set_rate(at.load_pps, point.plan.role.rate_unit)}"
    polls = ("empty polls included",) if point.polls else ()
    if cycles and at.cycles is not None:
        return Cell(rounded(at.cycles.median), ("cycles", load, *polls))
    forwarding = at.forwarding.median if at.forwarding else 0.0
    if at.busy_cores is None:
        return Cell(MISSING, (), clean(at.note, 200) or NO_SAMPLE)
    if forwarding <= 0:
        return Cell(MISSING, (), f"no {unit_counted(point.plan.role)} was completed at this load")
    cost = at.busy_cores.median * 100 / (forwarding / 1000)
    also = (f"{rounded(at.cycles.median)} cycles",) if at.cycles is not None else ()
    if point.plan.role is Role.ACCEPT:  # core-% per 1,000/s are tens of µs of a core's time each
        return Cell(significant(cost * 10), ("core-µs", load, *also, *polls))
    return Cell(significant(cost), ("core-%/kpps", load, *also, *polls))


def cost_unit(role: Role) -> str:
    """Of costs in core time."""
    return "core-µs" if role is Role.ACCEPT else "core-%/kpps"


def cpu_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> PlainTable | None:
    """CPU of the given cores at every rate of the load curve; None without one."""
    entries = [(point, load) for point in points for load in point.loads]
    if not entries:
        return None
    role = points[0].plan.role
    rates = rate_unit((load.load_pps for _, load in entries), role.rate_unit)
    headings = (Heading("Offered", rates.name), Heading("Loss", "%"), Heading("Busiest core", "core-%"),
                Heading("All given cores", "core-%"), Heading("Cost", f"per {unit_counted(role)}"))
    cycles = has_cycles([load for _, load in entries])
    rows = [(names[p.plan.id], (Cell(rates.text(at.load_pps)), Cell(_loss(at.loss_ratio)), busiest_cell(p, at),
                                busy_cell(p, at), cost_cell(p, at, cycles))) for p, at in entries]
    return PlainTable(headings, tuple(rows))


def _loss(ratio: float | None) -> str:
    return MISSING if ratio is None else percent(ratio, 3).removesuffix(" %")
