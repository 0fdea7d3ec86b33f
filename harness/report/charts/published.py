# SPDX-License-Identifier: Apache-2.0
"""Published figures beside measured ones: hollow marks with their source, on rows of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.transforms import blended_transform_factory

from harness.report.charts.canvas import Canvas, fitted, grid_lines
from harness.report.charts.material import Group, Published
from harness.report.identity import one_line
from harness.report.numbers import rate, rate_unit

#: Drawn in one chart: the highest of each stack.
MOST = 6
_ROW, _HEAD, _FOOT = 24.0, 26.0, 22.0
#: Measured and published figures share a scale while the latter are at most this many times what the former's shows.
_SHARED = 2.0
#: Of a figure, in the data beside a chart.
_COLUMNS = ("id", "stack", "detail", "role", "frame_bytes", "cores", "mpps", "kind", "cpu_model", "nic", "year",
            "source_title", "source_ref", "exact")


def matching(published: Sequence[Published], group: Group) -> Iterator[Published]:
    """The highest published figure of each stack with the group's role, frame size and a number of cores it has."""
    plan = group.points[0].plan
    counts = {len(point.plan.cores) for point in group.points}
    if not plan.frames.single:
        return
    fitting = [entry for entry in published if entry.role == plan.role.value and entry.cores in counts
               and entry.frame_bytes == plan.frame_bytes]
    best: dict[tuple[str, int | None], Published] = {}
    for entry in sorted(fitting, key=lambda entry: -entry.pps):
        best.setdefault((entry.stack, entry.cores), entry)
    yield from list(best.values())[:MOST]


def published_height(published: Sequence[Published], canvas: Canvas) -> float:
    """Pixels that the rows take below the measured ones."""
    row = _ROW * (1.75 if canvas.narrow else 1.0)
    return canvas.scale * (_HEAD + row * len(published) + _FOOT) if published else 0.0


def draw_published(published: Sequence[Published], figure: FigureBase, canvas: Canvas, height: float,
                   measured: float, left: float) -> None:
    """The rows, at the foot of the figure. ``measured``: where the measured figures' axis ends, pps."""
    scale, width, paint = canvas.scale, canvas.width, canvas.paint
    row = _ROW * scale * (1.75 if canvas.narrow else 1.0)
    inner = width - left - 24 * scale
    axes = figure.add_axes((left / width, _FOOT * scale / height, inner / width, row * len(published) / height))
    largest = max(entry.pps for entry in published)
    shared = largest <= _SHARED * measured and largest > measured / 20
    right = max(measured, largest * 1.05) if shared else largest * 1.05
    axes.set_xlim(0, right)
    axes.set_ylim(row * len(published), 0)
    axes.set_yticks([])
    axes.spines["left"].set_color(paint.muted)
    unit = rate_unit(entry.pps for entry in published)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit.divisor:,.6g}")
    axes.locator_params(axis="x", nbins=4 if canvas.narrow else 7)
    grid_lines(axes, "x")
    axes.text(0 if not canvas.narrow else -left / inner, 1 + 7 * scale / (row * len(published)),
              f"Published, other machines, {unit.name}" + ("" if shared and right == measured else " (own scale)"),
              transform=axes.transAxes, fontsize=canvas.font(11), fontweight="bold", va="bottom")
    for index, entry in enumerate(published):
        _draw_row(entry, axes, canvas, (index + 0.5) * row, row, inner, right, left)


def _draw_row(entry: Published, axes: Axes, canvas: Canvas, y: float, row: float, inner: float, right: float,
         left: float) -> None:
    scale, paint, size = canvas.scale, canvas.paint, canvas.font(10.5, row)
    y_mark = y + row * 0.2 if canvas.narrow else y
    axes.plot([entry.pps], [y_mark], marker="D", markersize=7 * scale, markerfacecolor=paint.surface,
              markeredgecolor=paint.text, markeredgewidth=1.4 * scale, linestyle="none", clip_on=False)
    name = f"{entry.stack}, {entry.cores} core{'s' * (entry.cores != 1)}"
    blended = blended_transform_factory(axes.transAxes, axes.transData)
    if canvas.narrow:
        text = fitted(f"{name}: {rate(entry.pps)}, {entry.source}", canvas.width - 4, canvas.font(10))
        axes.text(-left / inner, y - row * 0.25, text, fontsize=canvas.font(10), va="center", transform=blended)
        return
    axes.text(-8 * scale / inner, y, fitted(name, left - 10 * scale, size), ha="right",
              va="center", fontsize=size, transform=blended)
    at = entry.pps / right * inner
    on_right = at < inner / 2
    room = (inner - at if on_right else at) - 16 * scale
    said = " · ".join(filter(None, [rate(entry.pps), entry.detail, entry.source, entry.machine]))
    text = fitted(said, room, size)
    axes.annotate(text, (entry.pps, y), xytext=((10 if on_right else -10) * scale, 0), textcoords="offset points",
                  ha="left" if on_right else "right", va="center", fontsize=size, color=paint.muted,
                  bbox={"facecolor": paint.surface, "edgecolor": "none", "pad": 0.5})


def published_points() -> tuple[Published, ...]:
    """The package's published figures of throughput, as charts draw them."""
    from harness.analysis.references import points

    return tuple(Published(
        one_line(point.stack, 40), one_line(point.detail, 60), point.series, point.role, point.frame_bytes, point.cores,
        point.pps, one_line(", ".join(filter(None, [point.cpu_model, point.nic])), 90), one_line(point.source, 80),
        {name: getattr(point, name) for name in _COLUMNS})
        for point in points() if point.pps and point.is_throughput)
