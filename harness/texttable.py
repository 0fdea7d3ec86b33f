# SPDX-License-Identifier: Apache-2.0
"""Rows as lines of text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]
#: C0 but for the end of a line, DEL, C1, and what reorders text.
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str, *, lines: bool = False) -> str:
    """Text that others wrote (files, hosts) for a terminal: control characters, which could act on it, are shown as ?;
    the end of a line is kept where ``lines``."""
    shown = _CONTROL.sub("?", text)
    return shown if lines else shown.replace("\n", "?")


def columns(rows: Rows) -> str:
    """Rows as aligned text; the last column is not padded. Control characters (files are untrusted) are shown as ?."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)] if rows else []
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
