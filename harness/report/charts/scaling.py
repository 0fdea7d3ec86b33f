# SPDX-License-Identifier: Apache-2.0
"""Scaling: each stack's rate over the cores given to it, beside what as many times its fewest would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

from harness.report.charts.canvas import Canvas, Grid, Picture, grid_lines, label_axes, legend, legend_height
from harness.report.charts.limits import Limit, limits_of
from harness.report.charts.material import (
    MOST_POINTS,
    Material,
    Published,
    by_frames,
    frames_part,
    identified,
    letter_key,
    letters,
    limited,
)
from harness.report.charts.spans import span, span_data, span_words
from harness.report.identity import Look, one_line, stack_key
from harness.report.numbers import Spread, Unit, percent, plural, rate, rate_unit
from harness.report.summarise import PointSummary, RateSummary
from harness.report.words import traffic_text

NO_COUNTS = "no stack was measured on two numbers of cores"
_MOST_TICKS = 8
_MOST_PUBLISHED = 3


@dataclass(frozen=True)
class _Line:
    """One stack: (cores, point, rate), ascending, at least two."""

    look: Look
    at: tuple[tuple[int, PointSummary, RateSummary], ...]

    @property
    def medians(self) -> list[tuple[int, Spread]]:
        """(cores, rate) where there is one."""
        return [(cores, summary.rate) for cores, _, summary in self.at if summary.rate is not None]

    @property
    def ideal(self) -> float:
        """The rate of one core, if the fewest cores measured shared the work evenly."""
        cores, spread = self.medians[0]
        return spread.median / cores

    def efficiency(self, cores: int, pps: float) -> float | None:
        """Rate ÷ what the cores would do if each did as much as with the fewest."""
        return pps / (self.ideal * cores) if self.ideal > 0 else None


@dataclass(frozen=True)
class _Scaling:
    material: Material
    rate: str
    lines: tuple[_Line, ...]
    limits: tuple[Limit, ...]
    unit: Unit
    published: tuple[tuple[str, tuple[Published, ...]], ...]

    @property
    def counts(self) -> list[int]:
        """Numbers of cores."""
        return sorted({cores for line in self.lines for cores, _ in line.medians})


def scaling_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and twelve stacks); none where no stack has a rate on two numbers of cores."""
    for points in by_frames(material.points):
        name, lines = _lines(material, points)
        pages = [lines[at:at + MOST_POINTS] for at in range(0, len(lines), MOST_POINTS)]
        for number, page in enumerate(pages, 1):
            yield _picture(material, points, name, page, (number, len(pages)))


def _lines(material: Material, points: Sequence[PointSummary]) -> tuple[str, list[_Line]]:
    """By the strictest rate that the most stacks have on two numbers of cores."""
    best: tuple[str, list[_Line]] = "NDR", []
    for index, name in enumerate(("NDR", "PDR", "MRR")):
        stacks: dict[tuple[str, str], dict[int, tuple[int, PointSummary, RateSummary]]] = {}
        for point in points:
            cores = len(point.plan.cores)
            stacks.setdefault((stack_key(point.plan), point.plan.host), {})[cores] = (cores, point,
                                                                                     point.rates()[index])
        lines = [_Line(material.look(next(iter(at.values()))[1]), tuple(at[cores] for cores in sorted(at)))
                 for at in stacks.values()]
        lines = [line for line in lines if len(line.medians) > 1 and line.ideal > 0]
        if len(lines) > len(best[1]):
            best = name, lines
    return best


def _picture(material: Material, points: Sequence[PointSummary], name: str, lines: Sequence[_Line],
             page: tuple[int, int]) -> Picture:
    plan = points[0].plan
    rates = [spread.median for line in lines for _, spread in line.medians]
    largest = max(rates)
    limits = tuple(limit for limit in limits_of(points, material.run.info.ceilings) if limit.pps <= 4 * largest)
    scaling = _Scaling(material, name, tuple(lines), limits, rate_unit(rates, plan.role.rate_unit),
                       _published(material, points, largest))
    suffix = f" ({page[0]} of {page[1]})" if page[1] > 1 else ""
    each = ", per direction" if plan.frame_bytes else ""
    title = (f"Scaling of {name} in {scaling.unit.name} over cores, {traffic_text(plan.role, plan.traffic_label)}"
             f"{each}{suffix}")
    caption = ("Thin, dotted: ideal, every core as fast as with the fewest measured; share of ideal: rate ÷ that. "
               "Rates and cores are on logarithmic axes.")
    if spans := span_words((summary for line in lines for _, _, summary in line.at), "Vertical lines"):
        caption += f" {spans}"
    if any(limited(summary.verdicts) for line in lines for _, _, summary in line.at):
        caption += " Ringed: a verdict limits the figure."
    if scaling.published:
        sources = dict.fromkeys(entry.source for _, entries in scaling.published for entry in entries)
        caption += f" Hollow: published by others on other machines, not measured here ({'; '.join(sources)})."
    caption += letter_key(letters(summary.verdicts) for line in lines for _, _, summary in line.at)
    part = frames_part(points[0]) + (f"-part{page[0]}" if page[1] > 1 else "")
    return Picture("scaling", part, title, caption, _describe(scaling, title), tuple(_data(scaling)),
                   lambda canvas: _grid(scaling, canvas).height(canvas),
                   lambda figure, canvas, height: _draw(scaling, figure, canvas, height),
                   tuple(entry.row for _, entries in scaling.published for entry in entries))


def _published(material: Material, points: Sequence[PointSummary],
               largest: float) -> tuple[tuple[str, tuple[Published, ...]], ...]:
    """Published series with at least two numbers of cores, those nearest to what was measured."""
    plan = points[0].plan
    series: dict[str, list[Published]] = {}
    for entry in material.published:
        if entry.role == plan.role.value and entry.frame_bytes == plan.frame_bytes and entry.cores:
            series.setdefault(entry.series, []).append(entry)
    fitting = [sorted(entries, key=lambda entry: entry.cores or 0) for entries in series.values()
               if len({entry.cores for entry in entries}) > 1 and max(e.pps for e in entries) <= 10 * largest]
    chosen = sorted(fitting, key=lambda entries: -max(entry.pps for entry in entries))[:_MOST_PUBLISHED]
    labels = [one_line(f"{entries[0].stack}, {entries[0].detail}", 44) for entries in chosen]
    return tuple((label if labels.count(label) == 1 else f"{label} ({number})", tuple(entries))
                 for number, (label, entries) in enumerate(zip(labels, chosen, strict=True), 1))


def _data(scaling: _Scaling) -> Iterator[dict[str, object]]:
    for line in scaling.lines:
        for cores, point, summary in line.at:
            spread = summary.rate
            yield identified(scaling.material, point) | {
                "rate": scaling.rate, **span_data(summary), "ideal_pps": line.ideal * cores,
                "efficiency": line.efficiency(cores, spread.median) if spread else None,
                "at_least": summary.at_least if spread else None, "verdicts": " ".join(summary.verdicts),
                "reason": "" if spread else one_line(summary.reason, 200)}


def _describe(scaling: _Scaling, title: str) -> str:
    parts = [f"{title}."]
    for line in scaling.lines:
        cores, spread = line.medians[-1]
        said = rate(spread.median, line.at[0][1].plan.role.rate_unit)
        parts.append(f"{line.look.name}: {said} on {plural(cores, 'core')}, "
                     f"{percent(line.efficiency(cores, spread.median), 0)} of ideal.")
    return " ".join(parts)


def _labels(scaling: _Scaling) -> list[str]:
    return ([_label(line) for line in scaling.lines] + [limit.name for limit in _shown(scaling)]
            + [name for name, _ in scaling.published])


def _label(line: _Line) -> str:
    marks = letters(verdict for _, _, summary in line.at for verdict in summary.verdicts)
    return one_line(line.look.name, 30) + ("  " + marks if marks else "")


def _shown(scaling: _Scaling) -> list[Limit]:
    return [Limit(f"{limit.name} {rate(limit.pps, scaling.lines[0].at[0][1].plan.role.rate_unit)}", limit.pps)
            for limit in scaling.limits]


def _grid(scaling: _Scaling, canvas: Canvas) -> Grid:
    top = legend_height(canvas, _labels(scaling)) + 26
    return Grid(2, 230 if canvas.narrow else 330, left=58, top=top, gap=(64, 46), columns=2)


def _draw(scaling: _Scaling, figure: FigureBase, canvas: Canvas, height: float) -> None:
    grid = _grid(scaling, canvas)
    first, second = _two(grid, figure, canvas, height)
    handles: dict[str, Any] = {}
    for line in scaling.lines:
        handles[_label(line)] = _rates(scaling, first, canvas, line)
        _efficiency(second, canvas, line)
    for limit in _shown(scaling):
        handles[limit.name] = first.axhline(limit.pps, color=canvas.paint.text, linewidth=1.1 * canvas.scale,
                                            linestyle=(0, (5, 3)) if "line" in limit.name else (0, (1, 2)))
    for (name, entries), marker in zip(scaling.published, "DsP", strict=False):
        handles[name], = first.plot(
            [entry.cores or 0 for entry in entries], [entry.pps for entry in entries], linestyle="none", marker=marker,
            markersize=7 * canvas.scale, markerfacecolor="none", markeredgecolor=canvas.paint.text,
            markeredgewidth=1.2 * canvas.scale)
    _scale_rates(scaling, first, canvas)
    second.set_title("share of ideal, %")
    second.set_ylim(0, max(1.2, *(e for line in scaling.lines for cores, s in line.medians
                                  if (e := line.efficiency(cores, s.median)) is not None)) * 1.02)
    second.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f}")
    second.axhline(1, color=canvas.paint.muted, linewidth=1 * canvas.scale, linestyle=":")
    grid_lines(second, "y")
    label_axes(figure, canvas, height, "cores given to the stack", "")
    legend(figure, canvas, handles)


def _two(grid: Grid, figure: FigureBase, canvas: Canvas, height: float) -> tuple[Axes, Axes]:
    """The panels of a grid, with vertical scales of their own."""
    places = grid.axes(figure, canvas, height)
    boxes = [axes.get_position().bounds for axes in places]
    for axes in places:
        axes.remove()
    first = figure.add_axes(boxes[0])
    second = figure.add_axes(boxes[1], sharex=first)
    first.tick_params(labelbottom=not canvas.narrow)
    return first, second


def _rates(scaling: _Scaling, axes: Axes, canvas: Canvas, line: _Line) -> Any:
    colour, look, scale = canvas.paint.series(line.look.colour), line.look, canvas.scale
    cores = [count for count, _ in line.medians]
    axes.plot(cores, [line.ideal * count for count in cores], color=colour, linewidth=0.9 * scale, linestyle=":",
              alpha=0.75)
    for count, _, summary in line.at:
        if ends := span(summary):
            axes.plot([count, count], [max(ends[0], 1), ends[1]], color=colour, linewidth=1.1 * scale)
    drawn, = axes.plot(cores, [spread.median for _, spread in line.medians], color=colour, linestyle=look.line,
                       marker=look.marker)
    ringed = [(count, summary.rate.median) for count, _, summary in line.at
              if summary.rate is not None and limited(summary.verdicts)]
    axes.plot([count for count, _ in ringed], [pps for _, pps in ringed], linestyle="none", marker="o",
              markersize=11 * scale, markerfacecolor="none", markeredgecolor=canvas.paint.muted,
              markeredgewidth=1 * scale)
    return drawn


def _efficiency(axes: Axes, canvas: Canvas, line: _Line) -> None:
    shares = [(cores, share) for cores, spread in line.medians
              if (share := line.efficiency(cores, spread.median)) is not None]
    axes.plot([cores for cores, _ in shares], [share for _, share in shares], linestyle=line.look.line,
              color=canvas.paint.series(line.look.colour), marker=line.look.marker)


def _scale_rates(scaling: _Scaling, axes: Axes, canvas: Canvas) -> None:
    axes.set_title(f"{scaling.rate}, {scaling.unit.name}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    counts = scaling.counts
    if len(counts) > _MOST_TICKS or canvas.narrow:
        powers = [count for count in counts if count & (count - 1) == 0]
        counts = powers if len(powers) > 1 else [counts[0], counts[-1]]
    axes.xaxis.set_major_locator(FixedLocator([float(count) for count in counts]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axes.set_xlim(scaling.counts[0] * 0.93, scaling.counts[-1] * 1.07)
    log_ticks(axes, scaling.unit.divisor)
    grid_lines(axes, "y")


def log_ticks(axes: Axes, divisor: float) -> None:
    """Plain numbers on a logarithmic vertical axis: 1, 2, 5 of each decade; fewer over many decades, more on few, and
    on a small part of one as on a linear axis."""
    low, high = axes.get_ylim()
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [step * 10.0 ** power for power in range(-3, 13) for step in steps
                 if low <= step * 10.0 ** power <= high]
        if len(ticks) >= 4:
            break
    if len(ticks) < 3:
        ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / divisor:,.6g}")
