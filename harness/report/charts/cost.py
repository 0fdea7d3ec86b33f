# SPDX-License-Identifier: Apache-2.0
"""What a packet costs at each offered load: cycles where every point has them, else core-% per thousand a second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import FigureBase

from harness.plan import Role
from harness.report.charts.canvas import Canvas, Grid, Picture, grid_lines, label_axes, legend, legend_height
from harness.report.charts.material import OF_POINT, Group, Material, groups, identified, letter_key, letters
from harness.report.charts.scaling import log_ticks
from harness.report.identity import one_line
from harness.report.numbers import Unit, rate, rate_unit, significant
from harness.report.summarise import LoadSummary, PointSummary
from harness.report.tables import has_cycles, unit_counted


@dataclass(frozen=True)
class _Costs:
    """``lines``: of each point (load, cost), ascending. ``cycles``: whether costs are cycles."""

    material: Material
    group: Group
    lines: tuple[tuple[PointSummary, tuple[tuple[LoadSummary, float], ...]], ...]
    cycles: bool
    unit: Unit

    @property
    def per(self) -> str:
        """The unit of a cost."""
        if self.cycles:
            return f"cycles per {unit_counted(self.group.role)}"
        return "core-µs per connection" if self.group.role is Role.ACCEPT else "core-% per kpps"

    def label(self, point: PointSummary) -> str:
        """A line's name, with what limits it."""
        marks = letters(verdict for verdict in OF_POINT if verdict in point.verdicts)
        polls = ", polls" if point.polls else ""
        return self.group.name(self.material, point, 38) + polls + (f"  {marks}" if marks else "")


def cost_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none without CPU on a load curve."""
    for group in groups(material.points):
        loads = [load for point in group.points for load in point.loads]
        cycles = has_cycles(loads)
        lines = [(point, found) for point in group.points if (found := tuple(_costs(point, cycles)))]
        if lines:
            unit = rate_unit((load.load_pps for load in loads), group.role.rate_unit)
            yield _picture(_Costs(material, group, tuple(lines), cycles, unit))


def _costs(point: PointSummary, cycles: bool) -> Iterator[tuple[LoadSummary, float]]:
    """Loads that have a cost: something was forwarded and CPU was measured."""
    for load in point.loads:
        cost = _cost(point, load, cycles)
        if cost is not None and cost > 0:
            yield load, cost


def _cost(point: PointSummary, load: LoadSummary, cycles: bool) -> float | None:
    if cycles:
        return load.cycles.median if load.cycles is not None else None
    if load.busy_cores is None or load.forwarding is None or load.forwarding.median <= 0:
        return None
    cost = load.busy_cores.median * 100 / (load.forwarding.median / 1000)
    return cost * 10 if point.plan.role is Role.ACCEPT else cost


def _picture(costs: _Costs) -> Picture:
    group = costs.group
    title = f"Cost in {costs.per} against offered load, {group.traffic}{group.direction}"
    sources = sorted({one_line(load.cycles_source, 60) for _, line in costs.lines for load, _ in line
                      if costs.cycles and load.cycles_source})
    caption = (f"Cycles from {'; '.join(sources)}. " if sources else "") + (
        "" if costs.cycles else f"Busy time of the given cores ÷ {group.role.counted} that came through. ")
    if any(point.polls for point, _ in costs.lines):
        caption += "Dashed: a stack that polls; empty polls are in its cost, which falls as load rises. "
    caption += "Lower is better." + letter_key(costs.label(point).rpartition("  ")[2] for point, _ in costs.lines
                                               if "  " in costs.label(point))
    return Picture("cost", group.part, title, caption, _describe(costs, title), tuple(_data(costs)),
                   lambda canvas: _grid(costs, canvas).height(canvas),
                   lambda figure, canvas, height: _draw(costs, figure, canvas, height))


def _data(costs: _Costs) -> Iterator[dict[str, object]]:
    column = costs.per.replace("-%", "_percent").replace("µ", "u").replace("-", "_").replace(" ", "_")
    for point, line in costs.lines:
        for load, cost in line:
            yield identified(costs.material, point) | {
                "load_pps": load.load_pps, column: cost,
                "cycles_source": load.cycles_source if costs.cycles else "", "polls": point.polls,
                "useful_polls_ratio": load.useful, "loss_ratio": load.loss_ratio, "indicative": load.indicative}


def _describe(costs: _Costs, title: str) -> str:
    parts, unit = [f"{title}."], costs.group.role.rate_unit
    for point, line in costs.lines:
        said = ", ".join(f"{significant(cost)} at {rate(load.load_pps, unit)}" for load, cost in line)
        parts.append(f"{costs.group.name(costs.material, point)}: {said}.")
    return " ".join(parts)


def _labels(costs: _Costs) -> list[str]:
    return [costs.label(point) for point, _ in costs.lines]


def _grid(costs: _Costs, canvas: Canvas) -> Grid:
    return Grid(1, 220 if canvas.narrow else 300, left=72, top=legend_height(canvas, _labels(costs)) + 8)


def _draw(costs: _Costs, figure: FigureBase, canvas: Canvas, height: float) -> None:
    (axes,) = _grid(costs, canvas).axes(figure, canvas, height)
    handles: dict[str, Any] = {}
    for point, line in costs.lines:
        look = costs.material.look(point)
        handles[costs.label(point)], = axes.plot(
            [load.load_pps for load, _ in line], [cost for _, cost in line], marker=look.marker,
            color=canvas.paint.series(look.colour), linestyle="--" if point.polls else "-")
    axes.set_yscale("log")
    # Room for two ticks where all points cost about the same.
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.3, high * 1.3)
    log_ticks(axes, 1)
    axes.set_xlim(0, max(load.load_pps for _, line in costs.lines for load, _ in line) * 1.04)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / costs.unit.divisor:,.4g}")
    axes.locator_params(axis="x", nbins=5 if canvas.narrow else 9)
    grid_lines(axes, "y")
    each = " per direction" if costs.group.points[0].plan.frame_bytes else ""
    label_axes(figure, canvas, height, f"offered load{each}, {costs.unit.name}", costs.per)
    legend(figure, canvas, handles)
