# SPDX-License-Identifier: Apache-2.0
"""What a counter command prints, as numbers: a JSON object, or a name and a value a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from harness.errors import StackError

MOST_COUNTERS, MOST_DEPTH, MOST_VALUE = 1000, 8, 1 << 64
_LINE = re.compile(r"\s*([^\s:=][^:=]{0,119}?)\s*[:=\s]\s*([0-9]{1,20})\s*")


def parse(text: str) -> dict[str, int]:
    """Counters by name. Lines that hold no name and number (headings) are passed over. Raises StackError where there
    is no counter at all, or more than 1000."""
    found = dict(_from_json(text) if text.lstrip().startswith("{") else _from_lines(text))
    if not found:
        raise StackError("command: the counter command printed no counters; it prints a JSON object of numbers, or "
                         "lines like `name value` or `name: value`", text[-2000:])
    if len(found) > MOST_COUNTERS:
        raise StackError(f"command: the counter command printed {len(found)} counters; at most {MOST_COUNTERS}, print "
                         "fewer")
    return found


def _from_lines(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line) if len(line) <= 200 else None
        if match:
            yield match[1], int(match[2])


def _from_json(text: str) -> Iterator[tuple[str, int]]:
    try:
        data = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise StackError(f"command: the counter command's JSON cannot be read: {error}", text[-2000:]) from error
    yield from _flat(data, "", 0)


def _flat(data: dict[str, object], prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    for key, value in data.items():
        name = f"{prefix}{key}"[:120]
        if isinstance(value, dict) and depth < MOST_DEPTH:
            yield from _flat(value, f"{name}.", depth + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_VALUE:
            yield name, int(value)
