# SPDX-License-Identifier: Apache-2.0
"""Colours of the charts, light and dark, from ``reports/static/palette.json``: as hex for files, as place-holders that
become CSS variables for the page (which then follows the reader's theme)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.resources import resource

THEMES = ("light", "dark")
#: A hue for a stack, shades of it for its variants (other parameters).
HUES, SHADES = 8, 3
#: Colours in the style sheet: ``--s1`` ... ``--s8`` are the hues, then their shades.
COLOURS = HUES * SHADES
#: Steps from an idle core to a busy one.
HEAT = 11
#: A variant's colour: its stack's, mixed with the text's or the surface's. Of the latter only what keeps this contrast.
_TO_TEXT, _TO_SURFACE, CONTRAST = 0.42, 0.45, 3.0


@dataclass(frozen=True)
class Paint:
    """Colours as matplotlib takes them. ``series``: COLOURS of them, ``heat``: HEAT of them."""

    text: str
    muted: str
    grid: str
    surface: str
    series_colours: tuple[str, ...]
    heat: tuple[str, ...]

    def series(self, colour: int) -> str:
        """The colour of a stack (``Look.colour``, 1..COLOURS)."""
        return self.series_colours[colour - 1]


def _tokens() -> Paint:
    return Paint("#010203", "#010204", "#010205", "#010206", tuple(f"#0a0b{n:02x}" for n in range(1, COLOURS + 1)),
                 tuple(f"#0c0d{n:02x}" for n in range(HEAT)))


#: Place-holders that no chart uses otherwise.
PAGE = _tokens()


@cache
def _file() -> dict[str, Any]:
    data = json.loads((resource("reports/static") / "palette.json").read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


@cache
def theme(name: str) -> Paint:
    """The colours of "light" or "dark"."""
    found = _file()[name]
    text, surface = found["text"], found["surface"]
    base = found["series"][:HUES]
    variants = [_variants(colour, text, surface) for colour in base]
    shades = (*base, *(first for first, _ in variants), *(second for _, second in variants))
    low, high = found["heat"]
    return Paint(text, found["muted"], found["grid"], surface, shades[:COLOURS],
                 tuple(_mix(low, high, step / (HEAT - 1)) for step in range(HEAT)))


def _variants(colour: str, text: str, surface: str) -> tuple[str, str]:
    """Two shades, the one that differs more in lightness first: most stacks have one variant beside the first."""
    first, second = sorted((_mix(colour, text, _TO_TEXT), _lighter(colour, surface)),
                           key=lambda shade: -contrast(shade, colour))
    return first, second


def _lighter(colour: str, surface: str) -> str:
    """Nearer to the surface, by as much as the contrast allows."""
    steps = (_mix(colour, surface, share) for share in (_TO_SURFACE, 0.3, 0.2, 0.1))
    return next((mixed for mixed in steps if contrast(mixed, surface) >= CONTRAST), colour)


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _mix(one: str, other: str, share: float) -> str:
    pairs = zip(_parts(one), _parts(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours, 1..21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in (p / 255 for p in _parts(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def variables() -> dict[str, str]:
    """Place-holder → CSS variable."""
    names = {PAGE.text: "text", PAGE.muted: "muted", PAGE.grid: "grid", PAGE.surface: "surface"}
    names |= {token: f"s{n}" for n, token in enumerate(PAGE.series_colours, 1)}
    names |= {token: f"h{n}" for n, token in enumerate(PAGE.heat)}
    return {token: f"var(--{name})" for token, name in names.items()}


def css() -> str:
    """The variables as a style sheet: light, dark where the reader's system is, light on paper; and a class for each
    series colour (``.s1`` …) that sets ``--c``."""
    light, dark = (f":root{{{''.join(_declarations(theme(name)))}}}" for name in THEMES)
    classes = "".join(f".s{n}{{--c:var(--s{n})}}" for n in range(1, COLOURS + 1))
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}@media print{{{light}}}{classes}\n"


def _declarations(paint: Paint) -> Iterator[str]:
    yield f"--text:{paint.text};--muted:{paint.muted};--grid:{paint.grid};--surface:{paint.surface};"
    yield "".join(f"--s{n}:{colour};" for n, colour in enumerate(paint.series_colours, 1))
    yield "".join(f"--h{n}:{colour};" for n, colour in enumerate(paint.heat))


@cache
def hue_of(stack: str) -> int | None:
    """The hue kept for a stack of this name, 1..HUES; None where none is."""
    hue = _file()["stacks"].get(stack)
    return hue if isinstance(hue, int) and 1 <= hue <= HUES else None
