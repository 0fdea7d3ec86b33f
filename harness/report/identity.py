# SPDX-License-Identifier: Apache-2.0
"""Who is who: the name, colour and marker of each stack, the same in every table and chart."""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.plan import PointPlan
from harness.report.palette import HUES, SHADES, hue_of

_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":")
_HIDDEN = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True)
class Look:
    """How one stack (with its parameters) is drawn. ``colour``: 1..COLOURS, the style sheet's ``--s<colour>``. The hue
    is the stack's in every page and chart; marker, shade and line tell its variants apart."""

    name: str
    colour: int
    marker: str
    line: str


def clean(text: object, limit: int = 500) -> str:
    """Foreign text made safe to lay out: no control characters, no direction overrides, bounded. Not escaped."""
    shown = str(text)[: limit + 1]
    if shown.isascii() and shown.isprintable() and len(shown) <= limit:
        return shown
    shown = _HIDDEN.sub("", shown)
    shown = "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Co", "Cn") else "\ufffd"
                    for c in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def one_line(text: object, limit: int = 80) -> str:
    """Foreign text on one line."""
    return " ".join(clean(text, limit).split())


def stack_key(point: PointPlan) -> str:
    """What shares a look: the stack with its parameters and, of several hosts, its host, whatever its cores, frame size
    and run."""
    return json.dumps([*_configuration(point), told_host(point)])


def configurations(points: Iterable[PointPlan]) -> int:
    """How many stacks there are, each with its parameters, wherever they run."""
    return len({json.dumps(_configuration(point)) for point in points})


def _configuration(point: PointPlan) -> list[object]:
    return [point.stack, sorted((str(k), str(v)) for k, v in point.params.items())]


def told_host(point: PointPlan) -> str:
    """The point's host where its testbed has several, so that it is part of the label; "" where it has one."""
    return point.host if point.label.endswith(f", on {point.host}") else ""


def looks(points: Iterable[PointPlan]) -> dict[str, Look]:
    """A look for every stack, by :func:`stack_key`: its hue by its name; of those with one hue (variants of a stack, a
    stack on several hosts, or more stacks than hues) each its own shade and marker: first those for whose name the hue
    is kept, otherwise by their key, so that the order of the points changes nothing."""
    by_key = {stack_key(point): point for point in reversed(list(points))}
    hues = _hues(dict.fromkeys(point.stack for point in by_key.values()))
    found: dict[str, Look] = {}
    variants: Counter[int] = Counter()
    for key, point in sorted(by_key.items(), key=lambda entry: (hue_of(entry[1].stack) is None, entry[0])):
        hue = hues[point.stack]
        variant = variants[hue]
        variants[hue] += 1
        found[key] = Look(stack_name(point), hue + HUES * (variant % SHADES),
                          _MARKERS[(hue - 1 + variant) % len(_MARKERS)], _LINES[variant // SHADES % len(_LINES)])
    return found


def _hues(stacks: Iterable[str]) -> dict[str, int]:
    """A hue for each stack: the one kept for its name; for others one by their name, moved on where it is taken."""
    names = sorted(stacks)
    found = {name: hue for name in names if (hue := hue_of(name)) is not None}
    for name in names:
        if name not in found:
            first = zlib.crc32(name.encode()) % HUES
            taken = Counter(found.values())
            found[name] = min(((first + step) % HUES + 1 for step in range(HUES)), key=lambda hue: taken[hue])
    return found


def stack_name(point: PointPlan) -> str:
    """The point's label without what the report prints beside it: frame size and cores. Of several hosts, with its
    host."""
    count = len(point.cores)
    name = point.label or point.stack
    for suffix in (f", on {point.host}", f", {count} core{'s' * (count > 1)}", f", {point.frames.label}"):
        name = name.removesuffix(suffix)
    host = told_host(point)
    # The host is what tells two points apart: a long name is cut before it.
    return f"{one_line(name, 60 - 24)} on {one_line(host, 20)}" if host else one_line(name, 60)


def params_text(point: PointPlan) -> str:
    """The point's parameters as "name = value", booleans as on/off."""
    shown = []
    for name, value in list(point.params.items())[:20]:
        word = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else one_line(value, 40)
        shown.append(f"{one_line(name, 30)} {word}")
    return ", ".join(shown)


def slug(text: str) -> str:
    """A string that is safe in an id or a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:100].strip("-.") or "unnamed"
