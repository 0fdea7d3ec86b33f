# SPDX-License-Identifier: Apache-2.0
"""What a chart is before it is drawn (:class:`Picture`), the places it can be drawn for (:class:`Canvas`), and how
panels are laid out there. Sizes in CSS pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font

from harness.report.palette import PAGE, Paint


@dataclass(frozen=True)
class Canvas:
    """``height`` None: as much as the chart needs; otherwise it has to do with that. ``scale``: of all text and marks.
    ``narrow``: a phone."""

    name: str
    width: float
    height: float | None = None
    narrow: bool = False
    scale: float = 1.0
    paint: Paint = PAGE

    def font(self, size: float, room: float | None = None) -> float:
        """A text's size here; not more than lets a line fit into ``room``."""
        return size * self.scale if room is None else min(size * self.scale, room / 1.25)


WIDE = Canvas("wide", 1040)
PHONE = Canvas("phone", 340, narrow=True)

Draw = Callable[[FigureBase, Canvas, float], None]


@dataclass(frozen=True)
class Picture:
    """A chart: words, data and how to draw it. ``kind`` and ``part`` make its name. ``caption``: how to read it.
    ``description``: what a reader would take from it, for those who do not see it. ``data``: a row a mark, units in the
    names. ``references``: published points drawn beside the measured ones, never among ``data``. ``height``: pixels
    that the content wants on a canvas; ``draw`` gets a figure, the canvas and the height there is."""

    kind: str
    part: str
    title: str
    caption: str
    description: str
    data: tuple[Mapping[str, object], ...]
    height: Callable[[Canvas], float]
    draw: Draw
    references: tuple[Mapping[str, object], ...] = ()

    @property
    def name(self) -> str:
        """Of its files, and of ids in a page."""
        return f"{self.kind}-{self.part}" if self.part else self.kind


def _settings(canvas: Canvas) -> dict[Any, Any]:
    paint, scale = canvas.paint, canvas.scale
    return {
        "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 12 * scale,
        "axes.facecolor": "none", "figure.facecolor": "none",
        "axes.edgecolor": paint.muted, "axes.labelcolor": paint.text, "axes.labelsize": 12 * scale,
        "axes.titlesize": 12.5 * scale, "axes.linewidth": 0.8 * scale, "axes.titley": 1.0, "axes.spines.top": False,
        "axes.spines.right": False, "axes.axisbelow": True, "axes.titlelocation": "left", "axes.unicode_minus": True,
        "xtick.color": paint.muted, "ytick.color": paint.muted, "xtick.labelcolor": paint.text,
        "ytick.labelcolor": paint.text, "xtick.labelsize": 11 * scale, "ytick.labelsize": 11 * scale,
        "grid.color": paint.grid, "grid.linewidth": 0.8 * scale, "text.color": paint.text, "legend.frameon": False,
        "legend.fontsize": 11 * scale, "lines.linewidth": 1.8 * scale, "lines.markersize": 5 * scale,
        "hatch.linewidth": 0.6 * scale, "hatch.color": paint.muted, "path.simplify": True,
    }


@contextmanager
def drawing(canvas: Canvas) -> Iterator[None]:
    """The settings under which figures for a canvas are made and saved."""
    with matplotlib.rc_context(_settings(canvas)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many CSS pixels."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def drawn(picture: Picture, canvas: Canvas) -> Figure:
    """The chart alone, as the page shows it. Only within :func:`drawing`."""
    height = picture.height(canvas) if canvas.height is None else canvas.height
    figure = new_figure(canvas.width, height)
    picture.draw(figure, canvas, height)
    return figure


def grid_lines(axes: Axes, axis: str) -> None:
    """Light lines across one axis ("x" or "y"), and no tick marks."""
    axes.grid(visible=True, axis="x" if axis == "x" else "y")
    axes.tick_params(length=0)


@dataclass(frozen=True)
class Grid:
    """Panels of one size in rows and columns. Sizes before the canvas' scale; ``gap`` (x, y) includes what stands
    between panels, such as their titles. ``panel``: the height a panel wants."""

    count: int
    panel: float
    left: float = 58
    right: float = 14
    top: float = 30
    bottom: float = 48
    gap: tuple[float, float] = (34, 40)
    columns: int = 3

    def shape(self, canvas: Canvas) -> tuple[int, int]:
        """(rows, columns)."""
        if canvas.narrow:
            return self.count, 1
        # Where the height is given, more columns keep the panels from becoming flat.
        most = self.columns if canvas.height is None or self.count <= 6 else self.columns + 1
        rows = math.ceil(self.count / min(most, self.count))
        return rows, math.ceil(self.count / rows) if canvas.height is not None else min(most, self.count)

    def height(self, canvas: Canvas) -> float:
        """What the panels want."""
        rows, _ = self.shape(canvas)
        return canvas.scale * (rows * self.panel + (rows - 1) * self.gap[1] + self.top + self.bottom)

    def axes(self, figure: FigureBase, canvas: Canvas, height: float) -> list[Axes]:
        """The panels, row by row; each shares its scales with the others. Tick labels only at the outer ones;
        at all of them below where the last row is not full, so that no row has them in part."""
        (rows, columns), scale, width = self.shape(canvas), canvas.scale, canvas.width
        inner_x = (width - scale * (self.left + self.right + (columns - 1) * self.gap[0])) / columns
        inner_y = (height - scale * (self.top + self.bottom + (rows - 1) * self.gap[1])) / rows
        found: list[Axes] = []
        for index in range(self.count):
            row, column = divmod(index, columns)
            x = scale * self.left + column * (inner_x + scale * self.gap[0])
            y = height - scale * self.top - inner_y - row * (inner_y + scale * self.gap[1])
            first = found[0] if found else None
            axes = figure.add_axes((x / width, y / height, inner_x / width, inner_y / height), sharex=first,
                                   sharey=first)
            axes.tick_params(labelbottom=self.labelled(index, canvas), labelleft=column == 0)
            found.append(axes)
        return found

    def labelled(self, index: int, canvas: Canvas) -> bool:
        """Whether the panel has tick labels below it."""
        _, columns = self.shape(canvas)
        return self.count % columns != 0 or index + columns >= self.count

    def panel_width(self, canvas: Canvas) -> float:
        """Width of one panel."""
        _, columns = self.shape(canvas)
        return (canvas.width - canvas.scale * (self.left + self.right + (columns - 1) * self.gap[0])) / columns


def label_axes(figure: FigureBase, canvas: Canvas, height: float, x: str, y: str) -> None:
    """What the panels' axes are, once for all of them."""
    size = canvas.font(12)
    figure.text(0.5, 8 * canvas.scale / height, x, fontsize=size, ha="center", va="bottom")
    figure.text(4 * canvas.scale / canvas.width, 0.5, y, fontsize=size, ha="left", va="center", rotation=90)


def legend_rows(canvas: Canvas, labels: Sequence[str]) -> tuple[int, int]:
    """(rows, columns) of a legend with these labels above the panels."""
    if not labels:
        return 0, 1
    longest = max(text_width(label, canvas.font(11)) for label in labels) + 58 * canvas.scale
    columns = max(1, min(4, len(labels), int(canvas.width / longest)))
    return math.ceil(len(labels) / columns), columns


def legend_height(canvas: Canvas, labels: Sequence[str]) -> float:
    """Pixels that :func:`legend` takes at the top, before the canvas' scale."""
    return 8 + 19 * legend_rows(canvas, labels)[0]


def legend(figure: FigureBase, canvas: Canvas, handles: Mapping[str, Any]) -> None:
    """A legend at the top, filled row by row."""
    rows, columns = legend_rows(canvas, list(handles))
    order = [label for column in range(columns) for label in list(handles)[column::columns]]
    assert len(order) == len(handles), rows
    figure.legend([handles[label] for label in order], order, loc="upper left", bbox_to_anchor=(0, 1), ncols=columns,
                  borderaxespad=0.2, handlelength=2.6, columnspacing=1.6, labelspacing=0.45)


@cache
def _font(bold: bool) -> FT2Font:
    return get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))


@lru_cache(maxsize=20_000)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Pixels that a line of text of so many pixels takes, and a little more: PNGs space letters by whole pixels."""
    font = _font(bold)
    font.set_size(size, 72)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 * 1.02


def fitted(text: str, width: float, size: float, bold: bool = False) -> str:
    """Text cut with an ellipsis so that it fits into so many pixels."""
    if text_width(text, size, bold) <= width:
        return text
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle].rstrip() + "…", size, bold) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def wrapped(text: str, width: float, size: float, lines: int, bold: bool = False) -> list[str]:
    """Text in at most so many lines of so many pixels; what does not fit ends in an ellipsis."""
    found, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size, bold) > width:
            found.append(line)
            line = word
        else:
            line = longer
    found.append(line)
    kept = [fitted(entry, width, size, bold) for entry in found[:lines]]
    if len(found) > lines:
        kept[-1] = fitted(f"{kept[-1]} {' '.join(found[lines:])}", width, size, bold)
    return kept
