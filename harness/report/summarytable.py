# SPDX-License-Identifier: Apache-2.0
"""The summary of a run as text: a row a point with its rates, latency at half load, and CPU at one load for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.plan import Role
from harness.records import Verdict
from harness.report.cputable import busiest_cell, busy_cell, cost_cell, cost_unit
from harness.report.identity import clean, one_line
from harness.report.numbers import (
    MISSING,
    Unit,
    fraction_name,
    percent,
    plural,
    rate,
    rate_unit,
    set_rate,
    time_unit,
)
from harness.report.summarise import (
    NOT_ASKED,
    LatencySummary,
    LoadSummary,
    PointSummary,
    RateSummary,
    repeated_trials,
)
from harness.report.tables import Badge, Cell, Heading, PointName, badges, has_cycles, time_cell, unit_counted
from harness.report.words import done

SUMMARY_FRACTION = 0.5
#: Verdicts that can concern one rate of a point and not another.
RATE_VERDICTS = (Verdict.GENERATOR_LIMITED, Verdict.PAUSED, Verdict.UNEXPLAINED_LOSS, Verdict.NOISY,
                 Verdict.INCONCLUSIVE, Verdict.CONTRADICTED, Verdict.CUT_SHORT)
_NO_CURVE = "the scenario has no load curve"
_NO_LATENCY = "latency was not measured at this load"
_NOT_DEFINED = "not defined for frames that are discarded"
#: Reasons for which a column without any figure is left out; the latency section says the last one.
_UNASKED = (NOT_ASKED, _NO_CURVE, _NO_LATENCY, _NOT_DEFINED)


@dataclass(frozen=True)
class SummaryRow:
    """One point in the summary table; ``cells`` in the order of SummaryTable.headings. ``nothing``: why the point has
    no number at all, in place of the cells."""

    name: PointName
    nothing: str
    cells: tuple[Cell, ...]
    badges: tuple[Badge, ...]


@dataclass(frozen=True)
class SummaryTable:
    """The summary: one row a point. ``notes`` say where figures come from."""

    headings: tuple[Heading, ...]
    rows: tuple[SummaryRow, ...]
    notes: tuple[str, ...]


def named_load(points: Sequence[PointSummary], pdr_loss: float) -> float | None:
    """The load at which the summary compares CPU: the highest of the load curve that the most points carried within
    the loss that PDR allows; None without a load curve."""
    carried: Counter[float] = Counter()
    seen: set[float] = set()
    for point in points:
        for load in point.loads:
            seen.add(load.load_pps)
            if load.loss_ratio is not None and load.loss_ratio <= pdr_loss:
                carried[load.load_pps] += 1
    if not seen:
        return None
    return max(carried, key=lambda load: (carried[load], load)) if carried else min(seen)


def summary_table(points: Sequence[PointSummary], names: dict[str, PointName], pdr_loss: float) -> SummaryTable:
    """The summary of one run."""
    role = points[0].plan.role if points else Role.DROP
    rates = rate_unit((s.median for p in points for r in p.rates() if (s := r.rate) is not None), role.rate_unit)
    at_half = {p.plan.id: _at_fraction(p, SUMMARY_FRACTION) for p in points}
    times = time_unit(s.median for half in at_half.values() if half and (s := half.at["p50"]) is not None)
    load = named_load(points, pdr_loss)
    at = f"at {set_rate(load, role.rate_unit)}" if load is not None else "no load curve"
    of = next((half.of.upper()[:8] for half in at_half.values() if half), "PDR")
    headings = (
        Heading("NDR", rates.name, "highest load without loss"),
        Heading("PDR", rates.name, f"highest load at ≤ {percent(pdr_loss)} loss"),
        Heading("MRR", rates.name, f"{done(role)} at full load"),
        Heading("Latency p50", times.name, f"at {fraction_name(SUMMARY_FRACTION)} of {of}"),
        Heading("Latency p99", times.name, f"at {fraction_name(SUMMARY_FRACTION)} of {of}"),
        Heading("Busiest core", "core-%", at),
        Heading("All given cores", "core-%", at),
        Heading("Cost", f"per {unit_counted(role)} {at}" if load is not None else f"per {unit_counted(role)}"),
    )
    cycles = has_cycles([cpu for p in points if (cpu := _load_at(p, load)) is not None])
    rows = []
    for point in points:
        half, cpu = at_half[point.plan.id], _load_at(point, load)
        cells = (*(rate_cell(r, rates) for r in point.rates()),
                 _latency_cell(half, "p50", times, point), _latency_cell(half, "p99", times, point),
                 *_cpu_cells(point, cpu, load, cycles))
        rows.append(SummaryRow(names[point.plan.id], _nothing(point), cells, badges(point.verdicts)))
    return _without_unasked(SummaryTable(headings, tuple(rows), tuple(_summary_notes(points, load))))


def _without_unasked(table: SummaryTable) -> SummaryTable:
    """The table without columns that the scenario asks nothing for (a load curve alone has no rates)."""
    shown = [row for row in table.rows if not row.nothing]
    kept = [index for index in range(len(table.headings))
            if any(row.cells[index].why not in _UNASKED for row in shown)] or range(len(table.headings))
    rows = tuple(replace(row, cells=tuple(row.cells[index] for index in kept)) for row in table.rows)
    return SummaryTable(tuple(table.headings[index] for index in kept), rows, table.notes)


def _nothing(point: PointSummary) -> str:
    """Status and reason of a point without any number; empty for the others."""
    if point.repeats or point.loads:
        return ""
    return f"{'not reached' if point.status == 'missing' else point.status}: {clean(point.reason, 300)}"


def _summary_notes(points: Sequence[PointSummary], load: float | None) -> list[str]:
    notes = []
    repeats = max((p.repeats for p in points), default=0)
    if repeats > 1:
        notes.append(f"Large figures are medians of up to {repeats} repeats; below them, lowest – highest, or where it "
                     "says so the 95 % interval (three repeats or more).")
    if any(r.raw or r.raw_none for p in points for r in p.rates()):
        repeated, trials = repeated_trials(points)
        notes.append("“first attempts”: highest load whose first attempt met the goal"
                     + (f"; {repeated:,} of {trials:,} search trials were repeated." if repeated else "."))
    loads = [at for p in points if (at := _load_at(p, load)) is not None]
    if any(at.cycles is not None for at in loads):
        sources = sorted({one_line(at.cycles_source, 60) or "source not recorded"
                          for at in loads if at.cycles is not None})
        notes.append(f"Cycles per {unit_counted(points[0].plan.role)}: {'; '.join(sources)}.")
    if loads and not has_cycles(loads):
        notes.append(f"Cost in {cost_unit(points[0].plan.role)}: busy time of the given cores ÷ forwarding rate.")
    polling = {at.polls_source for at in loads if at.polls_source}
    if any(p.polls for p in points):
        source = f" ({'; '.join(one_line(text, 60) for text in sorted(polling))})" if polling else ""
        notes.append("“polls”: the core is busy at any load; where polls were counted"
                     f"{source}, the share of them that found frames is given.")
    return notes


def _at_fraction(point: PointSummary, fraction: float) -> LatencySummary | None:
    return next((entry for entry in point.latency if abs(entry.fraction - fraction) < 1e-6), None)


def _load_at(point: PointSummary, load: float | None) -> LoadSummary | None:
    return next((entry for entry in point.loads if entry.load_pps == load), None)


def rate_cell(summary: RateSummary, unit: Unit) -> Cell:
    """A rate with its range, what first attempts came to where that differs, its verdicts, and "≥" where the generator
    was the limit."""
    subs = []
    if summary.raw is not None:
        subs.append(f"first attempts {unit.text(summary.raw.median)}")
    elif summary.raw_none:
        subs.append("first attempts: none passed")
    if summary.rate is None:
        return Cell(MISSING, tuple(subs), summary.reason)
    least = "≥ " if summary.at_least else ""
    if span := interval_span(summary, unit) or unit.span(summary.rate):
        subs.insert(0, span)
    if summary.missing:
        subs.append(f"{MISSING} in {plural(summary.missing, 'repeat')}")
    return Cell(least + unit.text(summary.rate.median), tuple(subs), summary.reason, rate_marks(summary))


def interval_span(summary: RateSummary, unit: Unit) -> str:
    """"412 – 419 (95 %)"; empty without an interval."""
    found = summary.interval
    return f"{unit.text(found.low)}\u00a0–\u00a0{unit.text(found.high)} (95\u00a0%)" if found is not None else ""


def rate_marks(summary: RateSummary) -> tuple[Badge, ...]:
    """Verdicts on this very rate; those on the whole point stand beside its name."""
    found = []
    for badge in badges([verdict for verdict in RATE_VERDICTS if verdict in summary.verdicts]):
        if badge.name == Verdict.INCONCLUSIVE and summary.attempts > 1:
            badge = Badge(badge.name, badge.tone, f"The load passed only after {summary.attempts} attempts; between "
                          "runs it may not.")
        found.append(badge)
    return tuple(found)


def _latency_cell(entry: LatencySummary | None, name: str, unit: Unit, point: PointSummary) -> Cell:
    if entry is None:
        why = _NOT_DEFINED if point.plan.role is Role.DROP else (
            point.reason or _NO_LATENCY)
        return Cell(MISSING, (), why)
    return time_cell(entry.at[name], unit, entry, name)


def _cpu_cells(point: PointSummary, at: LoadSummary | None, load: float | None,
               cycles: bool) -> tuple[Cell, Cell, Cell]:
    if at is None:
        why = point.reason or (_NO_CURVE if load is None else
                               f"not measured at {rate(load, point.plan.role.rate_unit)}")
        return Cell(MISSING, (), why), Cell(MISSING, (), why), Cell(MISSING, (), why)
    return busiest_cell(point, at), busy_cell(point, at), cost_cell(point, at, cycles)
