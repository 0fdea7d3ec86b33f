# SPDX-License-Identifier: Apache-2.0
"""Every trial as a row of numbers for the page's script, and the first rows as text for pages without it.

The script formats a number exactly as :func:`text_rows` does (``Column.digits``, thousands with commas).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from harness.plan import Role
from harness.records import Phase, Trial
from harness.report.identity import one_line, stack_name
from harness.report.numbers import MISSING, Unit, finite, plural, rate_unit
from harness.report.summarise import PointSummary, useful_share
from harness.rundata import RunData

FIRST_ROWS = 100
#: Phases whose trials are printed on paper; those of the search are drawn in its chart, and are many.
PAPER = (Phase.CEILING, Phase.LATENCY, Phase.LOAD)
MAX_ROWS = 50_000
Value = float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column of the table. ``kind``: number, point, phase, cpu, text. ``why``: tooltip of a missing value."""

    key: str
    title: str
    unit: str
    kind: str
    digits: int
    why: str


@dataclass(frozen=True)
class TrialTable:
    """``data`` goes into the page as JSON; ``first`` are the texts of the first rows, ``on_paper`` says which of them
    are printed; ``left_out`` rows were not embedded."""

    columns: tuple[Column, ...]
    data: dict[str, Any]
    first: tuple[tuple[str, ...], ...]
    total: int
    left_out: int
    on_paper: tuple[bool, ...]


def trial_table(run: RunData, points: Sequence[PointSummary]) -> TrialTable:
    """The table of all trials of one run."""
    role = run.plan.role
    unit = rate_unit((trial.asked_pps for trial in run.trials if trial.phase is Phase.SEARCH), role.rate_unit)
    columns = _columns(unit, role)
    titles, index = _point_titles(run, points)
    polls = {index[point.plan.id] for point in points if point.polls}
    shown = run.trials[:MAX_ROWS]
    rows = [_row(trial, index, unit) for trial in shown]
    phases = [phase.value for phase in Phase]
    data = {"columns": [asdict(column) for column in columns], "points": titles, "phases": phases,
            "polls": sorted(polls), "missing": MISSING, "rows": rows,
            "paper": [list(Phase).index(phase) for phase in PAPER]}
    first = tuple(text_row(row, columns, titles, phases, polls) for row in rows[:FIRST_ROWS])
    return TrialTable(columns, data, first, len(run.trials), len(run.trials) - len(shown),
                      tuple(trial.phase in PAPER for trial in shown[:FIRST_ROWS]))


def _columns(unit: Unit, role: Role) -> tuple[Column, ...]:
    whole = "not recorded in this trial"
    done = "Completed" if role is Role.ACCEPT else "Forwarded"
    return (
        Column("number", "Trial", "#", "number", 0, ""),
        Column("point", "Point", "", "point", 0, ""),
        Column("repeat", "Repeat", "#", "number", 0, ""),
        Column("phase", "Phase", "", "phase", 0, ""),
        Column("asked", "Asked", unit.name, "number", unit.digits, whole),
        Column("offered", "Offered", unit.name, "number", unit.digits, whole),
        Column("forwarded", done, unit.name, "number", unit.digits, "the trial gave no count"),
        Column("lost", "Lost", role.counted, "number", 0, "the trial gave no count"),
        Column("loss", "Loss", "%", "number", 4, "the trial gave no count"),
        Column("unexplained", "Unexplained", role.counted, "number", 0, whole),
        Column("seconds", "Time", "s", "number", 2, whole),
        Column("p50", "p50", "µs", "number", 1, "latency is measured in latency trials only, or was not available"),
        Column("p99", "p99", "µs", "number", 1, "not a latency trial, or too few samples for p99"),
        Column("cpu", "Busiest core", "core-%", "cpu", 0, "CPU was not measured, or no sample lies inside"),
        Column("pause", "Longest pause", "ms", "number", 2, "pauses were not recorded"),
        Column("generator", "Generator’s core", "%", "number", 0, "the generator did not say"),
        Column("marks", "Verdicts and status", "", "text", 0, ""),
    )


def _point_titles(run: RunData, points: Sequence[PointSummary]) -> tuple[list[str], dict[str, int]]:
    """Titles by index; trials of a point that the plan lacks (the ceiling's) are named by their own id."""
    sizes = len({point.plan.frames for point in points}) > 1
    titles = [f"{stack_name(p.plan)}, {plural(len(p.plan.cores), 'core')}"
              + (f", {p.plan.frames.label}" if sizes else "") for p in points]
    index = {point.plan.id: number for number, point in enumerate(points)}
    for trial in run.trials:
        if trial.point not in index:
            index[trial.point] = len(titles)
            titles.append(one_line(trial.point, 60) or "—")
    return titles, index


def _row(trial: Trial, index: dict[str, int], unit: Unit) -> list[Value]:
    """Values in the order of the columns, then whether CPU is indicative and the share of useful polls."""
    failed = trial.status != "ok"
    latency = trial.latency
    cpu = trial.cpu
    given = [core.busy for core in cpu.cores if core.given] if cpu is not None else []
    marks = [verdict.value for verdict in trial.verdicts]
    if trial.superseded:
        marks.append("repeated")
    if failed:
        marks.append(f"{trial.status[:30]}: {trial.reason[:200]}")
    return [
        trial.number, index[trial.point], trial.repeat, list(Phase).index(trial.phase),
        _scaled(trial.asked_pps, 1 / unit.divisor), _counted(trial.offered_pps, 1 / unit.divisor, failed),
        _counted(trial.forwarding_pps, 1 / unit.divisor, failed), _counted(trial.lost, 1, failed),
        _scaled(trial.loss_ratio, 100), _counted(trial.unexplained, 1, failed), _scaled(trial.real_s, 1),
        _scaled(latency.p50_ns if latency else None, 1e-3), _scaled(latency.p99_ns if latency else None, 1e-3),
        _scaled(max(given, default=None), 100), _scaled(trial.pauses.longest_ns if trial.pauses else None, 1e-6),
        _scaled(trial.generator_utilisation, 100), one_line("; ".join(marks), 300),
        int(cpu is not None and cpu.indicative), _scaled(useful_share(cpu), 100),
    ]


def _counted(value: object, factor: float, failed: bool) -> float | None:
    """A count of a failed trial is its default, zero, and means nothing."""
    return None if failed and not value else _scaled(value, factor)


def _scaled(value: object, factor: float) -> float | None:
    number = finite(value)
    return None if number is None else float(f"{number * factor:.9g}")


def text_row(row: Sequence[Value], columns: Sequence[Column], points: Sequence[str], phases: Sequence[str],
             polls: set[int]) -> tuple[str, ...]:
    """The texts of a row, as the script writes them."""
    lookup: dict[str, Callable[[Any], str]] = {"point": lambda i: points[i], "phase": lambda i: phases[i], "text": str}
    texts = []
    for column, value in zip(columns, row, strict=False):
        if value is None:
            texts.append(MISSING)
        elif column.kind in lookup:
            texts.append(lookup[column.kind](value))
        elif column.kind == "cpu" and row[1] in polls:
            texts.append("polls" if row[-1] is None else f"polls, {_fixed(float(row[-1] or 0), 0)} % useful")
        else:
            indicative = "~" if column.kind == "cpu" and row[-2] else ""
            texts.append(indicative + _fixed(float(value), column.digits))
    return tuple(texts)


def _fixed(value: float, digits: int) -> str:
    """Fixed decimals, thousands with commas, ties away from zero: as JavaScript's toFixed rounds."""
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,f}"
