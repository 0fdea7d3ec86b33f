# SPDX-License-Identifier: Apache-2.0
"""What was set on the DUT for each point, and what it could not do."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import TuningChange
from harness.report.identity import one_line
from harness.report.summarise import PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName

_WORDS = {"applied": "set", "already": "was so", "unsupported": "not possible",
          "moved": "moved by somebody else"}
MAX_ROWS = 400


def tuning_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> PlainTable | None:
    """Every item of every tuned point, as read back in its first repeat; None when no host was tuned."""
    entries = [(point, change) for point in points for change in _changes(point)]
    if not entries:
        return None
    headings = tuple(Heading(text, "") for text in ("Profile", "Item", "Of", "Before", "Then", "State"))
    rows = tuple((names[point.plan.id], _cells(point, change)) for point, change in entries[:MAX_ROWS])
    left_out = len(entries) - len(rows)
    notes = (f"{left_out:,} more in points.jsonl.",) if left_out else ()
    return PlainTable(headings, rows, ("Everything set was put back after the point, and read back.", *notes))


def _changes(point: PointSummary) -> Sequence[TuningChange]:
    return next((outcome.tuning for outcome in point.outcomes if outcome.tuning), ())


def _cells(point: PointSummary, change: TuningChange) -> tuple[Cell, ...]:
    state = _WORDS.get(change.status, change.status)
    why = (one_line(change.reason, 200),) if change.reason else ()
    return (Cell(one_line(point.plan.profile, 40)), Cell(one_line(change.item, 40)), Cell(one_line(change.target, 120)),
            Cell(one_line(change.before, 60)), Cell(one_line(change.after, 60)), Cell(state, why))
