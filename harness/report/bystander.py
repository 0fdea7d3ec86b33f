# SPDX-License-Identifier: Apache-2.0
"""The bystander's section: did somebody else's connections over the port under test get an answer, and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.measure.bystander import times
from harness.plan import Plan
from harness.records import Bystander, Phase
from harness.report.identity import one_line
from harness.report.numbers import MISSING, Spread, Unit, percent, rate_unit, time_unit
from harness.report.summarise import PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName

NO_LOAD = "none"
NOTHING = "none was answered"
_PERCENTILES = (("p50", "p50_ns"), ("p90", "p90_ns"), ("p99", "p99_ns"), ("max", "max_ns"))


@dataclass(frozen=True)
class BystanderSection:
    """``lead`` says what was done, ``missing`` why nothing was; ``table`` None then."""

    title: str
    lead: str
    missing: str
    table: PlainTable | None


@dataclass(frozen=True)
class _Row:
    """One point at one load (None: without any), all repeats together."""

    point: PointSummary
    load_pps: float | None
    series: tuple[Bystander, ...]

    @property
    def attempts(self) -> int:
        return sum(s.attempts for s in self.series)

    @property
    def lost(self) -> int:
        return sum(s.lost for s in self.series)

    def greeted(self) -> list[int]:
        """ns of every greeting that was kept."""
        return [ns for s in self.series for ns in s.greeted_ns]


def bystander_section(plan: Plan, points: Sequence[PointSummary],
                      names: dict[str, PointName]) -> BystanderSection | None:
    """The section of one run; None where no bystander was asked for."""
    asked = plan.measure.bystander
    if asked is None:
        return None
    rows = [row for point in points for row in _rows(point)]
    reason = next((s.reason for row in rows for s in row.series if s.reason), "")
    service = one_line(asked.service, 20).upper()
    lead = (f"{asked.rate:g} connections a second to the DUT’s own address over the port under test, from the "
            f"generator’s side, by the kernel’s TCP: connect, wait for the server’s greeting, close. Lost: no greeting "
            f"within {asked.timeout_s:g} s.")
    title = f"{service} over the same port during load"
    if reason or not rows:
        return BystanderSection(title, lead, one_line(reason, 400) or "No trial with a bystander was finished.", None)
    return BystanderSection(title, lead, "", _table(rows, names))


def answered_under_load(points: Sequence[PointSummary]) -> list[tuple[PointSummary, int, int]]:
    """(point, connections tried while load ran, of these answered) of every point with a bystander's record."""
    found = [(point, [row for row in _rows(point) if row.load_pps is not None]) for point in points]
    return [(point, tried, tried - sum(row.lost for row in rows)) for point, rows in found
            if (tried := sum(row.attempts for row in rows))]


def _rows(point: PointSummary) -> Iterable[_Row]:
    idle = [outcome.bystander_idle for outcome in point.outcomes if outcome.bystander_idle is not None]
    if idle:
        yield _Row(point, None, tuple(idle))
    for load in point.loads:
        found = [t.bystander for t in point.trials if t.phase is Phase.LOAD and t.status == "ok"
                 and t.asked_pps == load.load_pps and t.bystander is not None]
        if found:
            yield _Row(point, load.load_pps, tuple(found))


def _table(rows: Sequence[_Row], names: dict[str, PointName]) -> PlainTable:
    rates = rate_unit(row.load_pps for row in rows)
    unit = time_unit(ns for row in rows for ns in row.greeted())
    headings = (Heading("Load", rates.name), Heading("Connections", "#"), Heading("Lost", "of all"),
                Heading("Connected p50", unit.name),
                *(Heading(f"Greeted {name}", unit.name) for name, _ in _PERCENTILES))
    notes = ("A percentile p is given where at least 10 ÷ (1 − p) greetings stand behind it.",
             "The server’s own work is in the CPU figures of these trials: a process a connection, too short-lived to "
             "be told apart. In the lab it runs on the stack’s cores and the prober on the generator’s, which skips "
             "departures meanwhile.")
    return PlainTable(headings, tuple((names[row.point.plan.id], _cells(row, rates, unit)) for row in rows), notes)


def _cells(row: _Row, rates: Unit, unit: Unit) -> tuple[Cell, ...]:
    load = NO_LOAD if row.load_pps is None else rates.text(row.load_pps)
    connected = Spread.of(s.connected.p50_ns for s in row.series if s.connected is not None)
    return (Cell(load), Cell(f"{row.attempts:,}"), _lost(row),
            _time(connected.median if connected else None, unit, _few(row)), *_greeted(row, unit))


def _lost(row: _Row) -> Cell:
    if not row.attempts:
        return Cell(MISSING, (), "no connection was tried")
    reasons = sorted({one_line(why, 60) for s in row.series for why in s.reasons})
    return Cell(percent(row.lost / row.attempts, 1), (f"{row.lost:,}: {'; '.join(reasons[:3])}",) if row.lost else ())


def _greeted(row: _Row, unit: Unit) -> list[Cell]:
    found = times(row.greeted())
    return [_time(getattr(found, field) if found else None, unit, _few(row)) for _, field in _PERCENTILES]


def _few(row: _Row) -> str:
    answered = row.attempts - row.lost
    return f"{answered:,} greetings are too few" if answered else NOTHING


def _time(value: float | None, unit: Unit, why: str) -> Cell:
    return Cell(MISSING, (), why) if value is None else Cell(unit.text(value))
