# SPDX-License-Identifier: Apache-2.0
"""How the search closed in: every search trial of one repeat, one small panel a point."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from harness.records import Phase, PointOutcome, Trial
from harness.report.charts.svg import MUTED, NARROW, TEXT, WIDE, Chart, grid_lines, make_chart, new_figure, series
from harness.report.identity import one_line, stack_name
from harness.report.numbers import Unit, finite, plural, rate, rate_unit
from harness.report.summarise import PointSummary
from harness.report.tables import PointName
from harness.report.words import traffic_text

MAX_PANELS = 12


def search_chart(key: str, points: Sequence[PointSummary], names: dict[str, PointName],
                 pdr_loss: float) -> Chart | None:
    """The chart of one frame size; None when nothing was searched."""
    traces = [(point, outcome, trials) for point in points
              if (outcome := _first(point)) is not None and (trials := _trials(point, outcome.repeat))]
    shown = traces[:MAX_PANELS]
    if not shown:
        return None
    plan = shown[0][0].plan
    title = f"How the search closed in, {traffic_text(plan.role, plan.traffic_label)}"
    caption = ("The first finished repeat of each point, trial after trial. Filled: no loss. Ring: loss within "
               "PDR’s limit. Cross: more. Triangle: repeated, for a pause or because it was sent short."
               + (f" The first {MAX_PANELS} of {len(traces)} points." if len(traces) > len(shown) else ""))
    unit = rate_unit((pps for _, _, trials in shown for t in trials if (pps := finite(t.asked_pps))),
                     plan.role.rate_unit)
    return make_chart(key, title, caption, _describe(title, shown),
                      lambda narrow: _draw(shown, names, unit, pdr_loss, narrow))


def _first(point: PointSummary) -> PointOutcome | None:
    return next((outcome for outcome in point.outcomes if outcome.status == "ok"), None)


def _trials(point: PointSummary, repeat: int) -> list[Trial]:
    return [trial for trial in point.trials if trial.phase is Phase.SEARCH and trial.repeat == repeat
            and (finite(trial.asked_pps) or 0) > 0][:400]


def _describe(title: str, traces: Sequence[tuple[PointSummary, PointOutcome, list[Trial]]]) -> str:
    parts = []
    for point, outcome, trials in traces:
        found = ", ".join(f"{name} at a load of {rate(bound.load_pps, point.plan.role.rate_unit)}"
                          for name, bound in (("NDR", outcome.ndr), ("PDR", outcome.pdr)) if bound is not None)
        name = f"{stack_name(point.plan)}, {plural(len(point.plan.cores), 'core')}"
        parts.append(f"{name}: {plural(len(trials), 'trial')}, {found or 'no bound found'}.")
    return f"{title}. " + " ".join(parts)


def _draw(traces: Sequence[tuple[PointSummary, PointOutcome, list[Trial]]], names: dict[str, PointName], unit: Unit,
          pdr_loss: float, narrow: bool) -> Figure:
    columns = 1 if narrow else min(3, len(traces))
    rows = math.ceil(len(traces) / columns)
    width, panel = NARROW if narrow else WIDE, 140 if narrow else 160
    height = rows * (panel + 40) + 44
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False)
    figure.subplots_adjust(left=66 / width, right=1 - 36 / width, top=1 - 30 / height, bottom=48 / height,
                           wspace=0.17, hspace=40 / panel)
    flat = [axis for row in axes for axis in row]
    for axis, (point, outcome, trials) in zip(flat, traces, strict=False):
        _panel(axis, point, outcome, trials, names[point.plan.id], pdr_loss)
    for axis in flat[len(traces):]:
        axis.set_visible(False)
    for index, axis in enumerate(flat[: len(traces)]):
        axis.tick_params(labelbottom=index + columns >= len(traces))
        _scale(axis, unit)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    figure.supxlabel("search trial", fontsize=12, y=8 / height, va="bottom")
    figure.supylabel(f"asked load, {unit.name}", fontsize=12, x=4 / width, ha="left")
    return figure


def _scale(axis: Axes, unit: Unit) -> None:
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    steps = (1, 2, 5) if high / low < 100 else (1,)
    axis.yaxis.set_major_locator(FixedLocator([m * 10.0 ** e for e in range(0, 10) for m in steps
                                               if low <= m * 10.0 ** e <= high]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit.divisor:,.6g}"))
    grid_lines(axis, "y")


def _panel(axis: Axes, point: PointSummary, outcome: PointOutcome, trials: Sequence[Trial], name: PointName,
           pdr_loss: float) -> None:
    colour = series(name.colour)
    groups: dict[str, list[tuple[int, float]]] = {"clean": [], "some": [], "more": [], "paused": []}
    for number, trial in enumerate(trials, 1):
        groups[_group(trial, pdr_loss)].append((number, float(trial.asked_pps)))
    axis.plot(range(1, len(trials) + 1), [float(trial.asked_pps) for trial in trials], color=MUTED, linewidth=0.6,
              alpha=0.7)
    for kind, marker, fill in (("clean", "o", colour), ("some", "o", "none"), ("more", "x", colour),
                               ("paused", "^", MUTED)):
        axis.plot([x for x, _ in groups[kind]], [y for _, y in groups[kind]], linestyle="none", marker=marker,
                  markersize=4.5, color=MUTED if kind == "paused" else colour, markerfacecolor=fill)
    for word, bound, place in (("NDR", outcome.ndr, "top"), ("PDR", outcome.pdr, "bottom")):
        load = finite(bound.load_pps) if bound is not None else None
        if load is not None and load > 0:
            axis.axhline(load, color=TEXT, linewidth=0.9, linestyle="-" if word == "NDR" else "--")
            axis.annotate(word, (1, load), xycoords=("axes fraction", "data"), xytext=(3, 0),
                          textcoords="offset points", va=place, fontsize=10)
    axis.set_title(one_line(f"{name.label}, {plural(len(point.plan.cores), 'core')}", 38), fontweight="bold",
                   fontsize=11.5)


def _group(trial: Trial, pdr_loss: float) -> str:
    if trial.superseded:
        return "paused"
    ratio = finite(trial.loss_ratio)
    if ratio is None or trial.status != "ok":
        return "more"
    return "clean" if trial.lost == 0 else "some" if ratio <= pdr_loss else "more"
