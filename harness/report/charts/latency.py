# SPDX-License-Identifier: Apache-2.0
"""Latency percentiles: one panel a load, one line a stack, on a percentile axis that is logarithmic in 1 − p."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from harness.plan import Role
from harness.report.charts.svg import NARROW, WIDE, Chart, grid_lines, make_chart, new_figure, series
from harness.report.identity import Look, one_line, stack_key, stack_name
from harness.report.numbers import MISSING, fraction_name, nanoseconds, plural
from harness.report.summarise import PERCENTILES, LatencySummary, PointSummary
from harness.report.words import latency_title, traffic_text

MAX_LINES = 24
MAX_PANELS = 6
_TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
_SMALLEST_NS = 1.0

Line = tuple[PointSummary, LatencySummary]


def latency_chart(key: str, points: Sequence[PointSummary], looks: dict[str, Look]) -> Chart | None:
    """The chart of one frame size; None when no latency was measured."""
    loads: dict[tuple[float, str], list[Line]] = {}
    for point in points[:MAX_LINES]:
        for entry in point.latency:
            if curve(entry):
                loads.setdefault((entry.fraction, entry.of), []).append((point, entry))
    panels = [(key, loads[key]) for key in sorted(loads)][:MAX_PANELS]
    if not panels:
        return None
    plan = points[0].plan
    of = panels[0][0][1].upper()[:8]
    title = f"{latency_title(plan.role)} by percentile, {traffic_text(plan.role, plan.traffic_label)}"
    missing = " ".join(_missing(points[:MAX_LINES], panels))
    caption = (f"One panel a load, as a share of each stack’s own {of}; all repeats together. The axis stretches the "
               f"tail: each step to the right is ten times rarer. Where fewer than ten slower {plan.role.counted} "
               "stand behind a percentile, the line goes straight to the highest latency seen. Bucket edges are lower "
               f"bounds. Lower is better. {missing}").rstrip()
    return make_chart(key, title, caption, _describe(title, panels),
                      lambda narrow: _draw(panels, points, looks, narrow))


def _missing(points: Sequence[PointSummary], panels: Sequence[tuple[tuple[float, str], list[Line]]]) -> Iterator[str]:
    """Who is in no panel or not in all, and why."""
    for (fraction, of), lines in panels:
        drawn = {point.plan.id for point, _ in lines}
        absent = [f"{stack_name(point.plan)}, {plural(len(point.plan.cores), 'core')} "
                  f"({_why(point, fraction, of)})" for point in points if point.plan.id not in drawn]
        if absent:
            yield f"No latency at {fraction_name(fraction)} of {of.upper()[:8]}: {'; '.join(absent)}."


def _why(point: PointSummary, fraction: float, of: str) -> str:
    entry = next((e for e in point.latency if (e.fraction, e.of) == (fraction, of)), None)
    reason = entry.reason if entry is not None else point.reason or (point.pdr if of == "pdr" else point.ndr).reason
    nothing = "no connection was completed" if point.plan.role is Role.ACCEPT else "no latency frame came back"
    return one_line(reason, 120) or (nothing if entry is not None else "not measured")


def curve(entry: LatencySummary) -> list[tuple[float, float]]:
    """(percentile 0..1, ns): :func:`_known`, and at its end the largest latency of all, which merged buckets, each put
    at its lowest edge, end below."""
    found = _known(entry)
    largest = entry.at["max"]
    total = sum(frames for _, frames in entry.curve) or entry.samples
    if found and largest is not None and total > 0:
        found.append((max(found[-1][0], 1 - 1 / total), max(found[-1][1], largest.high)))
    return found


def _known(entry: LatencySummary) -> list[tuple[float, float]]:
    """From the histogram, up to the percentile that ten slower samples stand behind; from the stored percentiles where
    no histogram was kept."""
    if not entry.curve:
        stored = [(p, spread.median) for p, _, name in PERCENTILES if (spread := entry.at[name]) is not None]
        return [(p, max(ns, _SMALLEST_NS)) for p, ns in stored]
    total = sum(frames for _, frames in entry.curve)
    highest = 1 - 10 / total if total > 10 else 0.0
    found: list[tuple[float, float]] = []
    below = 0
    for ns, frames in entry.curve:
        if not found:
            found.append((0.0, max(ns, _SMALLEST_NS)))
        below += frames
        if below / total > highest:
            break  # drawn up to the limit, a bucket that reaches beyond it would be a vertical step there
        found.append((below / total, max(ns, _SMALLEST_NS)))
    return found


def _describe(title: str, panels: Sequence[tuple[tuple[float, str], list[Line]]]) -> str:
    parts = []
    for (fraction, of), lines in panels:
        values = "; ".join(f"{stack_name(point.plan)}, {plural(len(point.plan.cores), 'core')}: "
                           + ", ".join(f"{name} {nanoseconds(s.median) if (s := entry.at[name]) else MISSING}"
                                       for name in ("p50", "p99")) for point, entry in lines)
        parts.append(f"At {fraction_name(fraction)} of {of.upper()[:8]}: {values}.")
    return f"{title}. " + " ".join(parts)


def _position(percentile: float) -> float:
    return -math.log10(max(1 - percentile, 1e-9))


def _draw(panels: Sequence[tuple[tuple[float, str], list[Line]]], points: Sequence[PointSummary],
          looks: dict[str, Look], narrow: bool) -> Figure:
    columns = 1 if narrow else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    drawn = {point.plan.id for _, lines in panels for point, _ in lines}
    labels = {_line_name(point, looks): None for point in points if point.plan.id in drawn}
    legend_rows = len(labels) if narrow else math.ceil(len(labels) / 3)
    legend = 12 + 19 * legend_rows
    width, panel = NARROW if narrow else WIDE, 200 if narrow else 250
    height = legend + rows * (panel + 34) + 34
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(left=58 / width, right=1 - 14 / width, top=1 - (legend + 24) / height, bottom=46 / height,
                           wspace=0.1, hspace=34 / panel)
    flat = [axis for row in axes for axis in row]
    for axis, ((fraction, of), lines) in zip(flat, panels, strict=False):
        axis.set_title(f"at {fraction_name(fraction)} of {of.upper()[:8]}")
        for point, entry in lines:
            _line(axis, point, entry, looks)
    for axis in flat[len(panels):]:
        axis.set_visible(False)
    _scales(flat[: len(panels)], panels)
    for index, axis in enumerate(flat[: len(panels)]):
        axis.tick_params(labelbottom=index + columns >= len(panels))
    figure.supxlabel("percentile", fontsize=12, y=8 / height, va="bottom")
    figure.supylabel("latency, µs", fontsize=12, x=4 / width, ha="left")
    handles = {text: handle for axis in flat for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    order = by_rows(list(labels), 1 if narrow else 3)
    figure.legend([handles[text] for text in order], order, loc="upper left",
                  bbox_to_anchor=(0.0 if narrow else 46 / width, 1), ncols=1 if narrow else 3, borderaxespad=0.2,
                  handlelength=2.4, columnspacing=2.2)
    return figure


def by_rows(entries: Sequence[str], columns: int) -> list[str]:
    """The order in which a legend, which fills column after column, shows the entries row after row."""
    return [entry for column in range(columns) for entry in entries[column::columns]]


def _line_name(point: PointSummary, looks: dict[str, Look]) -> str:
    return f"{one_line(looks[stack_key(point.plan)].name, 28)}, {plural(len(point.plan.cores), 'core')}"


def _line(axis: Axes, point: PointSummary, entry: LatencySummary, looks: dict[str, Look]) -> None:
    look = looks[stack_key(point.plan)]
    values = curve(entry)
    style = look.line if len(point.plan.cores) == 1 else (0, (len(point.plan.cores) + 2, 2))
    axis.plot([_position(p) for p, _ in values], [ns / 1000 for _, ns in values], color=series(look.colour),
              linestyle=style)
    axis.plot([], [], color=series(look.colour), linestyle=style, marker=look.marker, label=_line_name(point, looks))
    marks = [(p, s.median) for p, _, name in PERCENTILES if (s := entry.at[name]) is not None]
    axis.plot([_position(p) for p, _ in marks], [max(ns, 1.0) / 1000 for _, ns in marks], color=series(look.colour),
              linestyle="none", marker=look.marker)


def _scales(axes: Sequence[Axes], panels: Sequence[tuple[tuple[float, str], list[Line]]]) -> None:
    last = max(values[-1][0] for _, lines in panels for _, entry in lines if (values := curve(entry)))
    ticks = [p for p in _TICKS if p <= last or p <= 0.99]
    for axis in axes:
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        steps = [m * 10.0 ** e for e in range(-3, 8) for m in ((1, 2, 5) if high / low < 1500 else (1,))]
        axis.yaxis.set_major_locator(FixedLocator([step for step in steps if low <= step <= high]))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.minorticks_off()
        axis.set_xticks([_position(p) for p in ticks], ["0" if p == 0 else f"{p * 100:.7g}" for p in ticks])
        axis.set_xlim(-0.05, max(_position(last), _position(ticks[-1])) * 1.03)
        grid_lines(axis, "y")
