# SPDX-License-Identifier: Apache-2.0
"""An answer to SQL as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from harness.index.query import Answer
from harness.texttable import columns

MAX_CELL = 80


def text_answer(answer: Answer) -> str:
    """A table for a person; NULL is "n/a", long cells are cut."""
    def cell(value: Any) -> str:
        if value is None:
            return "n/a"
        text = f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e5 else \
            f"{value:,.0f}" if isinstance(value, float) and math.isfinite(value) else str(value)
        return text if len(text) <= MAX_CELL else text[:MAX_CELL - 1] + "…"

    return columns([answer.columns, *([cell(value) for value in row] for row in answer.rows)])


def csv_answer(answer: Answer) -> str:
    """Names, then rows; NULL is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(["" if value is None else value for value in row] for row in answer.rows)
    return stream.getvalue()


def json_answer(answer: Answer) -> dict[str, Any]:
    """``columns`` and ``rows``; what JSON has no number for (NaN, infinity) is null, dates and the like are text."""
    return {"columns": list(answer.columns), "rows": [[_plain(value) for value in row] for row in answer.rows]}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
