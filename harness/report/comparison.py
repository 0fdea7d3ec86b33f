# SPDX-License-Identifier: Apache-2.0
"""A comparison of runs in words: rows for a terminal, Markdown, JSON, and a page (or a section of one)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.analysis.compare import Comparison, Finding, Gap, Row
from harness.analysis.environment import Difference
from harness.analysis.metrics import Kind, Metric
from harness.analysis.sides import Place, Side
from harness.analysis.statistics import LEVEL, POWER
from harness.records import Verdict
from harness.report.suspects import suspected
from harness.rundata import RunData
from harness.units import format_duration, format_rate

HEADINGS = ("point", "metric", "A (base)", "B", "difference", "95 % interval", "p", "would have seen", "finding",
            "remarks")
_TONES = {Finding.WORSE: "bad", Finding.BETTER: "info", Finding.NONE: "info", Finding.LIMITED: "warn",
          Finding.FEW: "warn"}
#: Differing items that are listed where a list must not bury what follows.
MOST_ITEMS = 5
#: Half the width of the drawing of intervals, in its own units.
_HALF = 100.0


# ------------------------------------------------------------------------------------------------------------ numbers


def value_text(metric: Metric, value: float | None, rate_unit: str = "pps", *, at_least: bool = False) -> str:
    """A value with its unit; ">= " where it is a lower bound."""
    if value is None:
        return "n/a"
    if metric.kind is Kind.LATENCY:
        return format_duration(value / 1e9)
    if metric.kind is Kind.LOSS:
        return f"{value * 100:.3g} %"
    if metric.kind is Kind.CORES:
        return f"{value:.3g} cores"
    if metric.kind is Kind.CYCLES:
        return f"{value:,.0f} cycles"
    return (">= " if at_least else "") + format_rate(value, rate_unit)


def change_text(metric: Metric, value: float | None, *, relative: bool, sign: bool = True) -> str:
    """A difference: "-3.1 %"; of loss in percentage points, "+0.12 points"."""
    if value is None:
        return "n/a"
    plus = "+" if sign else ""
    if relative:
        return f"{round(value * 100, 1) + 0.0:{plus}.1f} %"  # + 0.0: no negative zero
    if metric.is_ratio:
        return f"{value * 100:{plus}.3g} points"
    return f"{value:{plus}.3g} {metric.unit}"


def interval_text(metric: Metric, low: float | None, high: float | None, *, relative: bool) -> str:
    """"-4.1 to -2.0 %"."""
    if low is None or high is None:
        return "n/a"
    first, _, unit = change_text(metric, low, relative=relative).partition(" ")
    second = change_text(metric, high, relative=relative).partition(" ")[0]
    return f"{first} to {second} {unit}"


def p_text(p: float | None) -> str:
    """Three decimals; "<0.001" below."""
    return "n/a" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def verdict_texts(sides: Sequence[tuple[str, Side]]) -> list[str]:
    """Verdicts of named sides: "paused (both)", "noisy (B)", and values that were left out."""
    found: dict[str, list[str]] = {}
    for name, side in sides:
        for verdict in side.verdicts:
            found.setdefault(str(verdict), []).append(name)
        if side.left_out:
            found.setdefault(f"{side.left_out} of {side.left_out + len(side.values)} values are no numbers",
                             []).append(name)
    told = [f"{text} ({'both' if len(names) == len(sides) > 1 else ', '.join(names)})" for text, names in found.items()]
    return told + [f"{name}: {suspected(side.suspects)}" for name, side in sides if Verdict.NOISY in side.verdicts]


def differs_text(items: Sequence[Any], most: int = 2) -> str:
    """"differs: dut.kernel.release 6.1 | 6.12 and 3 more"; empty without a difference."""
    if not items:
        return ""
    named = ", ".join(f"{item.item} {' | '.join(apart(item.a, item.b))}" for item in items[:most])
    return f"differs: {named}" + (f" and {len(items) - most} more" if len(items) > most else "")


def rate_unit(place: Place) -> str:
    """Unit of a point's rates; connections/s in role accept."""
    return "connections/s" if place.key.role == "accept" else "pps"


# --------------------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Line:
    """A row in words, cells in the order of HEADINGS; ``tone`` of its finding. ``drawn``: low, value and high of the
    difference on a scale of -100..100; None without an interval."""

    cells: tuple[str, ...]
    tone: str
    drawn: tuple[float, float, float] | None


def lines(found: Comparison) -> list[Line]:
    """Every row in words."""
    shown = [row for row in found.rows if row.difference.relative]
    most = max((max(abs(i.low), abs(i.high)) for row in shown if (i := row.difference.interval)), default=0.0)
    return [_line(row, found, min(most, 1.0)) for row in found.rows]


def _line(row: Row, found: Comparison, scale: float) -> Line:
    metric, unit, change = row.metric, rate_unit(row.place), row.difference
    known = None if row.hidden else change.interval
    remarks = verdict_texts((("A", row.base), ("B", row.other)))
    remarks += [text for text in (change.reason, differs_text(found.differences)) if text]
    cells = (
        row.place.title, metric.name,
        value_text(metric, row.base.median, unit, at_least=row.base.at_least),
        value_text(metric, row.other.median, unit, at_least=row.other.at_least),
        "n/a" if row.hidden else _bounded(row) + change_text(metric, change.value, relative=change.relative),
        interval_text(metric, *((known.low, known.high) if known else (None, None)), relative=change.relative),
        p_text(None if row.hidden else row.p),
        change_text(metric, row.smallest, relative=change.relative, sign=False),
        str(row.finding), "; ".join(remarks))
    drawn = None
    if known is not None and change.relative and scale > 0:
        ends = (known.low, change.value, known.high)
        drawn = (_on_scale(ends[0], scale), _on_scale(ends[1], scale), _on_scale(ends[2], scale))
    return Line(cells, _TONES[row.finding], drawn)


def _bounded(row: Row) -> str:
    """The base may be more than its lower bound: the difference is at most this; the other run: at least."""
    return "<= " if row.base.at_least else ">= " if row.other.at_least else ""


def _on_scale(value: float, scale: float) -> float:
    return max(-_HALF, min(_HALF, value / scale * _HALF))


def run_text(run: RunData) -> str:
    """A run on a line: id, scenario, testbed, start, repeats."""
    info = run.info
    return (f"{info.run_id}: {run.plan.scenario} on {run.plan.testbed}, {info.started_at[:16].replace('T', ' ')}, "
            f"repeats: {run.plan.measure.repeat}")


def remarks(found: Comparison) -> list[str]:
    """What holds for the whole comparison."""
    told = [f"{name}: {problem}" for name, run in (("A", found.base), ("B", found.other)) for problem in run.problems]
    if found.base.plan.lab or found.other.plan.lab:
        told.append("lab: a virtual wire; compare with other runs of the same lab only")
    return told


def differing(items: Sequence[Difference], most: int = MOST_ITEMS) -> list[str]:
    """A line an item by which environments differ; with more than ``most`` their number, the first ones, the rest."""
    told = [f"differs: {item.item}: {' | '.join(apart(item.a, item.b))}" for item in items]
    if len(told) <= most:
        return told
    return [f"{len(told)} items differ: first {most} and {len(told) - most} more (all with --json)", *told[:most]]


def apart(a: str, b: str) -> tuple[str, str]:
    """Two values; of lists ("rx=8, tx=8") what only one of them has."""
    left, right = a.split(", "), b.split(", ")
    if min(len(left), len(right)) < 2:
        return a, b
    return (", ".join(part for part in left if part not in right) or "(no more)",
            ", ".join(part for part in right if part not in left) or "(no more)")


def gap_text(gap: Gap) -> str:
    """What one run lacks and why."""
    what = gap.place.title + (f", {gap.metric.name}" if gap.metric else "")
    return f"{what}: nothing in {gap.missing}: {gap.reason}"


LEGEND = ("A, B: medians of the repeats. Difference and its interval: of geometric means, each row's for itself. p and "
          "finding: adjusted for the number of rows (Benjamini-Hochberg), so that of what is called better or worse at "
          f"most {1 - LEVEL:.0%} is chance, and so many comparisons of unchanged runs say it of any row. Would have "
          "seen: the smallest difference that these repeats show among so many rows with a probability of "
          f"{POWER:.0%}.")


# --------------------------------------------------------------------------------------------------------------- text


def text(comparisons: Sequence[Comparison]) -> str:
    """For a terminal."""
    from harness.texttable import columns, plain

    blocks = []
    for found in comparisons:
        head = [("A", run_text(found.base)), ("B", run_text(found.other))]
        said = [columns(head), *(plain(line) for line in [*remarks(found), *differing(found.differences)]), ""]
        notes: dict[str, str] = {}
        rows = [_noted(line.cells, differs_text(found.differences), notes) for line in lines(found)]
        said += [columns([HEADINGS, *rows]) if rows else "no metric was measured by both runs"]
        said += [plain(f"{mark} {note}") for note, mark in notes.items()]
        said += [plain(gap_text(gap)) for gap in found.gaps]
        blocks.append("\n".join(said))
    return "\n\n".join([*blocks, LEGEND])


def _noted(cells: tuple[str, ...], differs: str, notes: dict[str, str]) -> tuple[str, ...]:
    """A row whose remarks, too long for a terminal, are a mark; equal ones share it. How the circumstances differ stays
    beside the numbers."""
    rest = cells[-1].removesuffix(differs).rstrip("; ")
    mark = notes.setdefault(rest, f"[{len(notes) + 1}]") if rest else ""
    return (*cells[:-1], f"{mark} {differs}".strip())


def markdown(comparisons: Sequence[Comparison]) -> str:
    """For a pull request or a job summary."""
    said: list[str] = []
    for found in comparisons:
        said += [f"### {escaped(found.other.info.run_id)} against {escaped(found.base.info.run_id)}", ""]
        said += [f"- A: {escaped(run_text(found.base))}", f"- B: {escaped(run_text(found.other))}"]
        said += [f"- {escaped(line)}" for line in [*remarks(found), *differing(found.differences)]]
        said += ["", table([HEADINGS, *(line.cells for line in lines(found))]), ""]
        said += [f"- {escaped(gap_text(gap))}" for gap in found.gaps] + [""]
    return "\n".join([*said, LEGEND]) + "\n"


def escaped(line: str) -> str:
    """Foreign text that means nothing to Markdown or HTML, on one line."""
    from harness.texttable import plain

    line = " ".join(plain(line).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~@])", r"\\\1", line)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = [[escaped(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


# ----------------------------------------------------------------------------------------------------- JSON and pages


def data(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """For programs: rates in frames per second, times in ns; differences relative (0.03 is 3 %) or absolute."""
    return [{"base": found.base.info.run_id, "other": found.other.info.run_id,
             "differences": [asdict(item) for item in found.differences],
             "rows": [_row_data(row) for row in found.rows],
             "gaps": [{"point": place_data(gap.place), "metric": gap.metric.name if gap.metric else None,
                       "missing_in": gap.missing, "reason": gap.reason} for gap in found.gaps]}
            for found in comparisons]


def _row_data(row: Row) -> dict[str, Any]:
    change = asdict(row.difference) | {"p_adjusted": row.p, "smallest": row.smallest}
    if row.hidden:
        change |= {"value": None, "interval": None, "p": None, "p_adjusted": None}
    return {"point": place_data(row.place), "metric": row.metric.name, "unit": row.metric.unit,
            "base": side_data(row.base), "other": side_data(row.other),
            "difference": change, "finding": str(row.finding)}


def place_data(place: Place) -> dict[str, Any]:
    """A point for programs."""
    return {**asdict(place.key), "traffic": place.traffic}


def side_data(side: Side) -> dict[str, Any]:
    """One run's repeats for programs."""
    known = side.interval
    return {"values": list(side.values), "median": side.median, "interval": asdict(known) if known else None,
            "at_least": side.at_least, "verdicts": [str(verdict) for verdict in side.verdicts],
            "left_out": side.left_out, "reason": side.reason}


def page(comparisons: Sequence[Comparison]) -> str:
    """A self-contained HTML page."""
    from harness.report.layout import render_page

    sections = [{"base": run_text(found.base), "other": run_text(found.other), "remarks": remarks(found),
                 "differing": differing(found.differences, len(found.differences)),
                 "lines": lines(found), "gaps": [gap_text(gap) for gap in found.gaps]} for found in comparisons]
    return render_page("compare.html.j2", comparisons=sections, headings=HEADINGS, legend=LEGEND,
                       base=comparisons[0].base.info.run_id)
