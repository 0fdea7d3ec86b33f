# SPDX-License-Identifier: Apache-2.0
"""One metric of a scenario over its runs: a line a point, broken where a run has no value or is not comparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D

from harness.analysis.changepoints import MAX_P
from harness.analysis.metrics import Kind, Metric
from harness.analysis.trend import RunRow, Series, Trend
from harness.plan import Role
from harness.report.charts.canvas import Canvas, Grid, Picture, grid_lines, label_axes, legend, legend_height
from harness.report.identity import Look, one_line, slug
from harness.report.numbers import Unit, rate_unit, time_unit
from harness.report.trendtext import coverage, kind_of, step_text
from harness.report.words import traffic_text

MAX_SERIES = 16


def history_picture(metric: Metric, rows: Sequence[Series], trend: Trend, looks: Mapping[str, Look]) -> Picture:
    """The chart of all points that have this metric (the first MAX_SERIES of them)."""
    shown = rows[:MAX_SERIES]
    unit = _unit(metric, shown)
    title = f"{_title(metric)} by run in {unit.name}{_traffic(shown)}, {one_line(trend.scenario)}"
    caption = ("Each mark is the median of a run's repeats, oldest run first; a gap is a run without a value. "
               "▲ progression, ▼ regression, found by statistics between comparable runs."
               + (" Hollow marks: lower bounds (≥), the generator was the limit." if _limited(shown) else "")
               + (" Dotted lines: the circumstances changed." if _borders(trend) else "")
               + (f" The first {MAX_SERIES} of {len(rows)} points." if len(rows) > MAX_SERIES else ""))
    return Picture("trend", slug(metric.name), title, caption, _describe(title, shown), tuple(_data(shown, trend)),
                   lambda canvas: _grid(canvas, shown).height(canvas),
                   lambda figure, canvas, height: _draw(shown, trend, unit, looks, (figure, canvas, height)))


def _title(metric: Metric) -> str:
    """"NDR", "Latency.p99@50%": as a heading begins."""
    return metric.name.upper() if metric.kind in (Kind.MRR, Kind.NDR, Kind.PDR) else (
        metric.name[:1].upper() + metric.name[1:])


def _traffic(rows: Sequence[Series]) -> str:
    """", 64 B frames" where all points have the same."""
    found = {(row.point[3], row.point[4]) for row in rows}
    if len(found) != 1:
        return ""
    role, frames = found.pop()
    return f", {traffic_text(Role(role), one_line(frames, 40))}"


def _data(rows: Sequence[Series], trend: Trend) -> Iterator[dict[str, object]]:
    for row in rows:
        for run, value, bound in zip(trend.runs, row.values, row.bounds, strict=True):
            yield {"point": row.label, "metric": row.metric.name, "unit": row.unit, "run": run.run,
                   "started_at": run.started_at, "value": value, "at_least": bound if value is not None else None}


def _unit(metric: Metric, rows: Sequence[Series]) -> Unit:
    known = [value for row in rows for value in row.values if value is not None]
    if metric.kind is Kind.LATENCY:
        return time_unit(known)
    if metric.kind is Kind.LOSS:
        return Unit("% lost", 0.01, 2)
    if metric.kind in (Kind.CORES, Kind.CYCLES):
        return Unit(metric.unit, 1, 2 if metric.kind is Kind.CORES else 0)
    return rate_unit(known, rows[0].unit if rows else "pps")


def _describe(title: str, rows: Sequence[Series]) -> str:
    parts = []
    for row in rows:
        count, oldest, newest = coverage(row)
        said = [f"{kind_of(step)} {step_text(step, row)}" for step in row.steps if not step.transition]
        parts.append(f"{one_line(row.label)}: {count} runs, {oldest} to {newest}"
                     f"{''.join(f', {text}' for text in said[:5])}.")
    return f"{title}. " + " ".join(parts)


def _limited(rows: Sequence[Series]) -> bool:
    return any(any(row.bounds) for row in rows)


def _borders(trend: Trend) -> list[int]:
    """Places of the runs whose circumstances are not those of the run before."""
    sets = [run.environment for run in trend.runs]
    return [place for place in range(1, len(sets)) if sets[place] != sets[place - 1]]


def _grid(canvas: Canvas, rows: Sequence[Series]) -> Grid:
    return Grid(1, 220 if canvas.narrow else 300, left=74, right=44,
                top=legend_height(canvas, _names(rows)) + 8, bottom=76)


def _names(rows: Sequence[Series]) -> list[str]:
    return [one_line(row.label, 44) for row in rows]


def _draw(rows: Sequence[Series], trend: Trend, unit: Unit, looks: Mapping[str, Look],
          place: tuple[FigureBase, Canvas, float]) -> None:
    figure, canvas, height = place
    (axes,) = _grid(canvas, rows).axes(figure, canvas, height)
    handles = {name: _line(axes, canvas, row, trend, unit, looks[row.label])
               for name, row in zip(_names(rows), rows, strict=True)}
    for border in _borders(trend):
        axes.axvline(border - 0.5, color=canvas.paint.muted, linewidth=canvas.scale, linestyle=":")
    _axes(axes, trend.runs, canvas)
    label_axes(figure, canvas, height, "Runs, oldest first, by when they began (UTC)", unit.name)
    legend(figure, canvas, handles)


def _line(axes: Axes, canvas: Canvas, row: Series, trend: Trend, unit: Unit, look: Look) -> Line2D:
    """None becomes NaN, at which matplotlib breaks a line; so does the border between runs that are not comparable."""
    xs, ys = [], []
    borders = set() if trend.across else set(_borders(trend))
    for place, value in enumerate(row.values):
        if place in borders:
            xs.append(place - 0.5)
            ys.append(float("nan"))
        xs.append(float(place))
        ys.append(float("nan") if value is None else value / unit.divisor)
    (line,) = axes.plot(xs, ys, color=canvas.paint.series(look.colour), linestyle=look.line, marker=look.marker,
                        markersize=(4.5 if len(row.values) < 60 else 2.5) * canvas.scale, linewidth=1.4 * canvas.scale)
    places = {run.run: place for place, run in enumerate(trend.runs)}
    bounds = [(place, value / unit.divisor) for place, (value, bound) in
              enumerate(zip(row.values, row.bounds, strict=True)) if bound and value is not None]
    axes.plot([place for place, _ in bounds], [value for _, value in bounds], linestyle="none", marker=look.marker,
              markersize=line.get_markersize() * 1.3, markerfacecolor=canvas.paint.surface,
              markeredgecolor=canvas.paint.series(look.colour), markeredgewidth=canvas.scale)
    for step in row.steps:
        at = row.values[places[step.first]]
        if at is None or step.hidden or (step.transition and (step.p is None or step.p > MAX_P)):
            continue
        axes.annotate("▲" if step.better else "▼", (places[step.first], at / unit.divisor), xytext=(0, 8),
                      textcoords="offset points", ha="center", fontsize=canvas.font(11), color=canvas.paint.text)
    return line


def _ticks(times: Sequence[str]) -> list[str]:
    """Days; where some of these runs began on one day, the time (UTC) below each."""
    days = [time[:10] for time in times]
    return days if len(set(days)) == len(days) else [f"{time[:10]}\n{time[11:16]}" for time in times]


def _axes(axes: Axes, runs: Sequence[RunRow], canvas: Canvas) -> None:
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    most = 3 if canvas.narrow else 9
    stride = max(1, -(-(len(runs) - 1) // max(1, most - 1)))
    ticks = list(range(0, len(runs), stride))
    axes.set_xticks(ticks, _ticks([runs[tick].started_at for tick in ticks]))
    axes.set_xlim(-0.6, len(runs) - 0.4)
    grid_lines(axes, "y")
    axes.tick_params(axis="x", pad=12 * canvas.scale)  # below the 0 of the other axis
