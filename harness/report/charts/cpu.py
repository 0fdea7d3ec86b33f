# SPDX-License-Identifier: Apache-2.0
"""CPU against offered load: one panel a point, one line a core, useful against empty polls where they were counted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.plan import Plan
from harness.report.charts.svg import (
    MUTED,
    NARROW,
    WIDE,
    Chart,
    grid_lines,
    make_chart,
    new_figure,
    series,
)
from harness.report.identity import one_line
from harness.report.numbers import Unit, percent, plural, rate, rate_unit
from harness.report.summarise import LoadSummary, PointSummary
from harness.report.tables import PointName
from harness.report.words import traffic_text

MAX_PANELS = 18
#: With more other cores than this only the busiest of them is drawn.
MAX_OTHERS = 4
_LINES = ("-", "--", "-.", ":")


def cpu_chart(key: str, points: Sequence[PointSummary], names: dict[str, PointName], plan: Plan) -> Chart | None:
    """The chart of one frame size; None without a load curve."""
    measured = [point for point in points if any(load.cores for load in point.loads)]
    shown = measured[:MAX_PANELS]
    if not shown:
        return None
    generator = frozenset(plan.generator.cores) if plan.lab else frozenset()
    title = f"CPU by core against offered load, {traffic_text(shown[0].plan.role, shown[0].plan.traffic_label)}"
    caption = ("Coloured: cores given to the stack. Grey, dashed: other cores of the DUT"
               + ("; dotted: the generator’s, which share the machine." if generator else ".")
               + (" A core that polls is busy at any load; the filled area is the share of its polls that found "
                  "frames." if any(p.polls for p in shown) else "")
               + (f" The first {MAX_PANELS} of {len(measured)} points." if len(measured) > len(shown) else ""))
    unit = rate_unit((load.load_pps for point in shown for load in point.loads), shown[0].plan.role.rate_unit)
    return make_chart(key, title, caption, _describe(title, shown, names),
                      lambda narrow: _draw(shown, names, unit, generator, narrow))


def _describe(title: str, points: Sequence[PointSummary], names: dict[str, PointName]) -> str:
    parts = []
    for point in points:
        last = point.loads[-1]
        if point.polls:
            useful = "not counted" if last.useful is None else f"{percent(last.useful, 0)} useful"
            said = f"polls, {useful} at {rate(last.load_pps, point.plan.role.rate_unit)}"
        else:
            unit = point.plan.role.rate_unit
            said = ", ".join(f"{percent(_busiest(point, at), 0)} at {rate(at.load_pps, unit)}" for at in point.loads)
        name = names[point.plan.id]
        parts.append(f"{name.label}, {name.cores}, busiest given core: {said}.")
    return f"{title}. " + " ".join(parts)


def _busiest(point: PointSummary, at: LoadSummary) -> float | None:
    return max((spread.median for core, spread in at.cores.items() if core in point.plan.cores), default=None)


def _draw(points: Sequence[PointSummary], names: dict[str, PointName], unit: Unit, generator: frozenset[int],
          narrow: bool) -> Figure:
    columns = 1 if narrow else min(3, len(points))
    rows = math.ceil(len(points) / columns)
    width, panel = NARROW if narrow else WIDE, 150 if narrow else 175
    height = rows * (panel + 52) + 40
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(left=58 / width, right=1 - 14 / width, top=1 - 42 / height, bottom=48 / height, wspace=0.1,
                           hspace=52 / panel)
    flat = [axis for row in axes for axis in row]
    most = max(load.load_pps for point in points for load in point.loads)
    for axis, point in zip(flat, points, strict=False):
        _panel(axis, point, names[point.plan.id], generator)
        axis.set_xlim(0, most * 1.04)
        axis.set_ylim(0, 120)
        axis.set_yticks([0, 25, 50, 75, 100])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value / unit.divisor:,.4g}")
        axis.locator_params(axis="x", nbins=5)
        grid_lines(axis, "y")
    for axis in flat[len(points):]:
        axis.set_visible(False)
    for index, axis in enumerate(flat[: len(points)]):
        axis.tick_params(labelbottom=index + columns >= len(points))
    each = " per direction" if points[0].plan.frame_bytes else ""
    figure.supxlabel(f"offered load{each}, {unit.name}", fontsize=12, y=8 / height, va="bottom")
    figure.supylabel("busy, core-%", fontsize=12, x=4 / width, ha="left")
    return figure


def _panel(axis: Axes, point: PointSummary, name: PointName, generator: frozenset[int]) -> None:
    """One point: other cores in grey below, the given cores in the stack's colour above."""
    given = [core for core in point.plan.cores if any(core in load.cores for load in point.loads)]
    others = sorted({core for load in point.loads for core in load.cores} - set(given))
    busiest = {core: max(s.median for load in point.loads if (s := load.cores.get(core))) for core in others}
    for core in sorted(others, key=lambda core: -busiest[core])[: MAX_OTHERS if len(others) <= MAX_OTHERS else 1]:
        _other(axis, point, core, core in generator)
    for index, core in enumerate(given):
        _given(axis, point, core, series(name.colour), _LINES[index % len(_LINES)])
    if point.polls:
        _poll_note(axis, point)
    axis.set_title(one_line(name.label, 34), fontweight="bold", pad=21, fontsize=12)
    cores = plural(len(point.plan.cores), "core") + f": {', '.join(map(str, point.plan.cores[:8]))}"
    axis.text(0, 1.04, cores, transform=axis.transAxes, fontsize=11, color=MUTED)


def _values(point: PointSummary, core: int) -> tuple[list[float], list[float]]:
    pairs = [(load.load_pps, spread.median * 100) for load in point.loads if (spread := load.cores.get(core))]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _other(axis: Axes, point: PointSummary, core: int, generator: bool) -> None:
    loads, busy = _values(point, core)
    axis.plot(loads, busy, color=MUTED, linewidth=1, linestyle=":" if generator else "--")
    if not generator and max(busy) > 5:
        axis.annotate(f"core {core}", (loads[-1], busy[-1]), xytext=(0, -4),
                      textcoords="offset points", ha="right", va="top", fontsize=10.5, color=MUTED)


def _given(axis: Axes, point: PointSummary, core: int, colour: str, line: str) -> None:
    loads, busy = _values(point, core)
    axis.plot(loads, busy, color=colour, linestyle=line, marker="o", markersize=4)
    split = [(load.load_pps, load.useful * spread.median * 100) for load in point.loads
             if load.useful is not None and (spread := load.cores.get(core))]
    if split:
        axis.fill_between([x for x, _ in split], 0, [y for _, y in split], color=colour, alpha=0.3, linewidth=0)
        axis.plot([x for x, _ in split], [y for _, y in split], color=colour, linewidth=1)


def _poll_note(axis: Axes, point: PointSummary) -> None:
    counted = [load.useful for load in point.loads if load.useful is not None]
    text = "polls; area: useful polls" if counted else "polls; useful share not counted"
    axis.text(0.985, 0.985, text, transform=axis.transAxes, ha="right", va="top", fontsize=10.5)
