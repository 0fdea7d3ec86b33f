# SPDX-License-Identifier: Apache-2.0
"""Rows as lines of text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def columns(rows: Rows) -> str:
    """Rows as aligned text; the last column is not padded. Control characters (files are untrusted) are shown as ?."""
    rows = [[re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)] if rows else []
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
