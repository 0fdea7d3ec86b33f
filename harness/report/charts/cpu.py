# SPDX-License-Identifier: Apache-2.0
"""CPU by core over offered load: one panel a point, a row a core, the darker the busier; a polling core says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle

from harness.records import Verdict
from harness.report.charts.canvas import Canvas, Grid, Picture, fitted, label_axes, text_width
from harness.report.charts.material import OF_POINT, Group, Material, groups, identified, letter_key, letters
from harness.report.numbers import Unit, percent, rate, rate_unit
from harness.report.palette import HEAT
from harness.report.summarise import LoadSummary, PointSummary

#: Other cores than the given ones have a row of their own when they were ever this busy; the rest share one.
IDLE = 0.05
#: Rows of given cores.
_MOST_GIVEN = 512
#: Rows of others; of more the busiest.
_MOST_OTHERS = 6
#: Loads of a panel; of more, these many spread over all.
_MOST_LOADS = 16
#: Room for the names of rows, left of every panel.
_GAP = 98


@dataclass(frozen=True)
class Row:
    """A row of a panel: ``shares`` by load (0..1, None where it was not seen); ``given``: the stack's own core."""

    name: str
    shares: tuple[float | None, ...]
    given: bool


@dataclass(frozen=True)
class _Panel:
    """One point. ``useful``: share of polls that found frames by load, where the stack polls and they were counted."""

    point: PointSummary
    loads: tuple[LoadSummary, ...]
    rows: tuple[Row, ...]
    useful: tuple[float | None, ...]

    @property
    def counted(self) -> bool:
        """Whether polls were counted at any load."""
        return any(share is not None for share in self.useful)


@dataclass(frozen=True)
class _Heat:
    material: Material
    group: Group
    panels: tuple[_Panel, ...]
    unit: Unit

    @property
    def rows(self) -> float:
        """Height of the highest panel, in rows of a given core."""
        return max(_edges(panel)[-1] for panel in self.panels)


def cpu_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none without a load curve."""
    for group in groups(material.points):
        panels = [_panel(material, point) for point in group.points if any(load.cores for load in point.loads)]
        if panels:
            loads = [load.load_pps for panel in panels for load in panel.loads]
            yield _picture(_Heat(material, group, tuple(panels), rate_unit(loads, group.role.rate_unit)))


def _panel(material: Material, point: PointSummary) -> _Panel:
    every = [load for load in point.loads if load.cores]
    step = max(1, -(-len(every) // _MOST_LOADS))
    loads = tuple(every[::step])
    generator = frozenset(material.run.plan.generator.cores) if material.run.plan.lab else frozenset()
    return _Panel(point, loads, tuple(_rows(point, loads, generator)),
                  tuple(load.useful if point.polls else None for load in loads))


def _rows(point: PointSummary, loads: Sequence[LoadSummary], generator: frozenset[int]) -> Iterator[Row]:
    def shares(core: int) -> tuple[float | None, ...]:
        return tuple(spread.median if (spread := load.cores.get(core)) else None for load in loads)

    cores = sorted({core for load in loads for core in load.cores})
    given = [core for core in point.plan.cores if core in cores][:_MOST_GIVEN]
    yield from (Row(f"core {core}", shares(core), True) for core in given)
    others = {core: shares(core) for core in cores if core not in point.plan.cores}
    highest = {core: max((share for share in found if share is not None), default=0.0)
               for core, found in others.items()}
    busy = sorted((core for core in others if highest[core] > IDLE), key=lambda core: -highest[core])[:_MOST_OTHERS]
    yield from (Row(f"{core} (generator)" if core in generator else f"{core} (other)", others[core], False)
                for core in sorted(busy))
    rest = [core for core in others if core not in busy]
    if rest:
        columns = zip(*(others[core] for core in rest), strict=True)
        most = tuple(max((share for share in column if share is not None), default=None) for column in columns)
        yield Row(f"{len(rest)} other{'s' * (len(rest) > 1)}", most, False)


def _picture(heat: _Heat) -> Picture:
    group = heat.group
    polls = any(panel.point.polls for panel in heat.panels)
    title = f"CPU by core in core-% over offered load, {group.traffic}"
    caption = ("Bold: cores given to the stack; the rest are other cores of the DUT"
               + (" (the generator’s share the machine)" if heat.material.run.plan.lab else "")
               + ", the idle ones together by their busiest. The stronger the colour, the busier."
               + (" A polling core is busy at any load; the row below it is the share of its polls that found frames."
                  if polls else "") + letter_key(letters(_of_point(panel.point)) for panel in heat.panels))
    return Picture("cpu", group.part, title, caption, _describe(heat, title), tuple(_data(heat)),
                   lambda canvas: _grid(heat, canvas).height(canvas),
                   lambda figure, canvas, height: _draw(heat, figure, canvas, height))


def _of_point(point: PointSummary) -> list[Verdict]:
    return [verdict for verdict in OF_POINT if verdict in point.verdicts]


def _data(heat: _Heat) -> Iterator[dict[str, object]]:
    for panel in heat.panels:
        for load in panel.point.loads:
            for core, spread in load.cores.items():
                yield identified(heat.material, panel.point) | {
                    "load_pps": load.load_pps, "core": core, "given": core in panel.point.plan.cores,
                    "busy_core_percent": round(spread.median * 100, 3), "polls": panel.point.polls,
                    "useful_polls_ratio": load.useful if core in panel.point.plan.cores else None,
                    "indicative": load.indicative}


def _describe(heat: _Heat, title: str) -> str:
    parts, unit = [f"{title}."], heat.group.role.rate_unit
    for panel in heat.panels:
        point, last = panel.point, panel.loads[-1]
        if point.polls:
            useful = "not counted" if last.useful is None else f"{percent(last.useful, 0)} useful"
            said = f"polls, {useful} at {rate(last.load_pps, unit)}"
        else:
            said = ", ".join(f"{percent(_busiest(panel, index), 0)} at {rate(load.load_pps, unit)}"
                             for index, load in enumerate(panel.loads))
        parts.append(f"{heat.group.name(heat.material, point)}, busiest given core: {said}.")
    return " ".join(parts)


def _busiest(panel: _Panel, index: int) -> float | None:
    return max((row.shares[index] or 0.0 for row in panel.rows if row.given), default=None)


def _grid(heat: _Heat, canvas: Canvas) -> Grid:
    panel = max(36.0, min(20.0 * heat.rows, 220.0))
    return Grid(len(heat.panels), panel, left=_GAP, right=6, top=26, bottom=48, gap=(_GAP, 46))


def _draw(heat: _Heat, figure: FigureBase, canvas: Canvas, height: float) -> None:
    grid = _grid(heat, canvas)
    width = grid.panel_width(canvas)
    for index, (axes, panel) in enumerate(zip(grid.axes(figure, canvas, height), heat.panels, strict=True)):
        labelled = grid.labelled(index, canvas)
        _heat_panel(heat, axes, canvas, panel, (width, _inner(grid, canvas, height)), labelled)
    label_axes(figure, canvas, height, _offered(heat), "")


def _inner(grid: Grid, canvas: Canvas, height: float) -> float:
    rows, _ = grid.shape(canvas)
    return (height - canvas.scale * (grid.top + grid.bottom + (rows - 1) * grid.gap[1])) / rows


def _offered(heat: _Heat) -> str:
    each = " per direction" if heat.group.points[0].plan.frame_bytes else ""
    return f"offered load{each}, {heat.unit.name}; cells: busy, core-%"


def _heat_panel(heat: _Heat, axes: Axes, canvas: Canvas, panel: _Panel, size: tuple[float, float],
                labelled: bool) -> None:
    """Rows from the top, of one height in all panels, but higher where few rows stand beside very many."""
    count, paint = len(panel.loads), canvas.paint
    axes.set_xlim(0, 1)
    axes.set_ylim(heat.rows, 0)
    wide, pixels = size[0] / count, size[1] / heat.rows
    shares = [row.shares for row in panel.rows] + ([panel.useful] if panel.point.polls else [])
    plain = _edges(panel)
    higher = max(1.0, min(20.0 * canvas.scale, size[1] / plain[-1]) / pixels)
    edges = [edge * higher for edge in plain]
    _cells(axes, canvas, shares, edges, pixels * higher)
    for (top, bottom), line in zip(pairwise(edges), shares, strict=True):
        if (bottom - top) * pixels > 13 * canvas.scale and wide > 26 * canvas.scale:
            for column, share in enumerate(line):
                _number(axes, canvas, ((column + 0.5) / count, (top + bottom) / 2), share)
    given = sum(row.given for row in panel.rows)
    axes.add_patch(Rectangle((0, 0), 1, edges[given], fill=False, linewidth=1.6 * canvas.scale, clip_on=False,
                             edgecolor=paint.series(heat.material.look(panel.point).colour)))
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    _row_labels(axes, canvas, panel, edges, pixels)
    _load_labels(heat, axes, canvas, panel, wide, labelled)
    marks = letters(_of_point(panel.point))
    left = (_GAP - 10) * canvas.scale
    name = heat.group.heading(heat.material, panel.point, size[0] + left, canvas.font(12), marks)
    axes.annotate(name, (0, 1), xycoords="axes fraction", xytext=(-left, 6 * canvas.scale),
                  textcoords="offset points", fontweight="bold", fontsize=canvas.font(12))


def _edges(panel: _Panel) -> list[float]:
    """Where the rows begin, and the last ends. Among very many cores the rows of others and of polls are higher, so
    that they can be read."""
    given = sum(row.given for row in panel.rows)
    other = max(1.0, given / 14)
    heights = [1.0 if row.given else other for row in panel.rows] + [other] * panel.point.polls
    return [0.0, *accumulate(heights)]


def _step(share: float) -> int:
    return min(HEAT - 1, max(0, round(share * (HEAT - 1))))


def _cells(axes: Axes, canvas: Canvas, shares: Sequence[Sequence[float | None]], edges: Sequence[float],
           pixels: float) -> None:
    """The colours, as one mesh; a cell without a share stays empty."""
    steps = np.array([[math.nan if share is None else _step(share) for share in line] for line in shares])
    count = steps.shape[1]
    axes.pcolormesh([column / count for column in range(count + 1)], edges, np.ma.masked_invalid(steps),
                    cmap=ListedColormap(list(canvas.paint.heat)), vmin=0, vmax=HEAT - 1,
                    edgecolors=canvas.paint.surface, linewidth=0.8 * canvas.scale if pixels > 5 else 0)


def _number(axes: Axes, canvas: Canvas, place: tuple[float, float], share: float | None) -> None:
    """A cell's share, %, in the text colour that is readable on it."""
    colour = canvas.paint.muted if share is None else (
        canvas.paint.surface if _step(share) >= HEAT // 2 else canvas.paint.text)
    axes.text(*place, "–" if share is None else _share(share), ha="center", va="center_baseline",
              fontsize=canvas.font(9.5), color=colour)


def _share(share: float) -> str:
    """In %; a small share that is not zero is not shown as zero."""
    if 0 < share < 0.005:
        return f"{share * 100:.1f}" if share >= 0.0005 else "<0.1"
    return f"{share * 100:.0f}"


def _row_labels(axes: Axes, canvas: Canvas, panel: _Panel, edges: Sequence[float], pixels: float) -> None:
    """A name a row; where rows are too low for that, every so many of the given cores'."""
    polls = ["useful polls" if panel.counted else "polls, n/a"] if panel.point.polls else []
    names = [(row.name, row.given) for row in panel.rows] + [(name, False) for name in polls]
    size = canvas.font(10)
    middles = [(top + bottom) / 2 for top, bottom in pairwise(edges)]
    axes.tick_params(labelleft=False, length=0)
    lowest = math.inf
    # From below: the rows that are not the stack's come last and matter most.
    for (name, given), middle in sorted(zip(names, middles, strict=True), key=lambda entry: -entry[1]):
        # Neither over the name below nor, at the top, over the panel's.
        if (lowest - middle) * pixels < 1.3 * size or middle * pixels < 0.6 * size - 2 * canvas.scale:
            continue
        lowest = middle
        axes.annotate(fitted(name, (_GAP - 8) * canvas.scale, size, given), (0, middle),
                      xytext=(-5 * canvas.scale, 0), ha="right", textcoords="offset points", va="center",
                      fontsize=size, annotation_clip=False, fontweight="bold" if given else "normal",
                      color=canvas.paint.text if given else canvas.paint.muted)


def _load_labels(heat: _Heat, axes: Axes, canvas: Canvas, panel: _Panel, wide: float, labelled: bool) -> None:
    """The loads below the panels that have labels, every so many where columns are narrow."""
    texts = [f"{load.load_pps / heat.unit.divisor:,.4g}" for load in panel.loads]
    longest = max(text_width(text, canvas.font(10.5)) for text in texts) + 6 * canvas.scale
    step = max(1, -int(-longest // wide))
    shown = range(0, len(texts), step)
    axes.set_xticks([(index + 0.5) / len(texts) for index in shown], [texts[index] for index in shown])
    axes.tick_params(axis="x", labelbottom=labelled, labelsize=canvas.font(10.5))


