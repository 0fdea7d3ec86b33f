# SPDX-License-Identifier: Apache-2.0
"""How the search closed in: every search trial of one repeat, one small panel a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from harness.records import Phase, PointOutcome, Trial
from harness.report.charts.canvas import Canvas, Grid, Picture, grid_lines, label_axes
from harness.report.charts.material import Group, Material, groups, identified
from harness.report.charts.scaling import log_ticks
from harness.report.identity import Look
from harness.report.numbers import Unit, finite, plural, rate, rate_unit
from harness.report.summarise import Limits, PointSummary

_MOST_TRIALS = 400


@dataclass(frozen=True)
class _Trace:
    point: PointSummary
    outcome: PointOutcome
    trials: tuple[Trial, ...]


def search_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none where nothing was searched."""
    for group in groups(material.points):
        traces = [_Trace(point, outcome, trials) for point in group.points
                  if (outcome := _first(point)) is not None and (trials := _trials(point, outcome.repeat))]
        if traces:
            yield _picture(material, group, traces)


def _picture(material: Material, group: Group, traces: Sequence[_Trace]) -> Picture:
    unit = rate_unit((pps for trace in traces for t in trace.trials if (pps := finite(t.asked_pps))),
                     group.role.rate_unit)
    loss = Limits.of(material.run.plan).pdr_loss
    title = f"How the search closed in, asked load in {unit.name}, {group.traffic}{group.direction}"
    caption = ("The first finished repeat of each point, trial after trial. Filled: no loss. Ring: loss within "
               "PDR’s limit. Cross: more. Triangle: repeated, for a pause or because it was sent short. Solid line: "
               "NDR, dashed: PDR.")
    return Picture("search", group.part, title, caption, _describe(material, group, title, traces),
                   tuple(_data(material, traces, loss)), lambda canvas: _grid(len(traces)).height(canvas),
                   lambda figure, canvas, height: _draw(material, group, traces, unit, loss, (figure, canvas, height)))


def _first(point: PointSummary) -> PointOutcome | None:
    return next((outcome for outcome in point.outcomes if outcome.status == "ok"), None)


def _trials(point: PointSummary, repeat: int) -> tuple[Trial, ...]:
    return tuple([trial for trial in point.trials if trial.phase is Phase.SEARCH and trial.repeat == repeat
                  and (finite(trial.asked_pps) or 0) > 0][:_MOST_TRIALS])


def _data(material: Material, traces: Sequence[_Trace], loss: float) -> Iterator[dict[str, object]]:
    for trace in traces:
        for number, trial in enumerate(trace.trials, 1):
            yield identified(material, trace.point) | {
                "repeat": trial.repeat, "search_trial": number, "trial": trial.number, "asked_pps": trial.asked_pps,
                "offered_pps": trial.offered_pps, "loss_ratio": trial.loss_ratio, "seconds": trial.duration_s,
                "mark": _group(trial, loss), "verdicts": " ".join(trial.verdicts)}


def _describe(material: Material, group: Group, title: str, traces: Sequence[_Trace]) -> str:
    parts, unit = [f"{title}."], group.role.rate_unit
    for trace in traces:
        found = ", ".join(f"{name} at a load of {rate(bound.load_pps, unit)}"
                          for name, bound in (("NDR", trace.outcome.ndr), ("PDR", trace.outcome.pdr))
                          if bound is not None)
        parts.append(f"{group.name(material, trace.point)}: {plural(len(trace.trials), 'trial')}, "
                     f"{found or 'no bound found'}.")
    return " ".join(parts)


def _grid(count: int) -> Grid:
    return Grid(count, 160, left=66, right=36, top=36, gap=(36, 46))


def _draw(material: Material, group: Group, traces: Sequence[_Trace], unit: Unit, loss: float,
          place: tuple[FigureBase, Canvas, float]) -> None:
    figure, canvas, height = place
    grid = _grid(len(traces))
    panels = grid.axes(figure, canvas, height)
    room = grid.panel_width(canvas) + 20 * canvas.scale
    for axes, trace in zip(panels, traces, strict=True):
        _panel(axes, canvas, trace, material.look(trace.point), loss)
        axes.set_title(group.heading(material, trace.point, room, canvas.font(11.5)), fontweight="bold",
                       fontsize=canvas.font(11.5), pad=13 * canvas.scale)
    for axes in panels:
        axes.set_yscale("log")
        log_ticks(axes, unit.divisor)
        grid_lines(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    label_axes(figure, canvas, height, "search trial", f"asked load, {unit.name}")


def _panel(axes: Axes, canvas: Canvas, trace: _Trace, look: Look, loss: float) -> None:
    colour, paint, scale = canvas.paint.series(look.colour), canvas.paint, canvas.scale
    groups_of: dict[str, list[tuple[int, float]]] = {"no loss": [], "within PDR": [], "more": [], "repeated": []}
    for number, trial in enumerate(trace.trials, 1):
        groups_of[_group(trial, loss)].append((number, float(trial.asked_pps)))
    axes.plot(range(1, len(trace.trials) + 1), [float(trial.asked_pps) for trial in trace.trials], color=paint.muted,
              linewidth=0.6 * scale, alpha=0.7)
    for kind, marker, fill in (("no loss", "o", colour), ("within PDR", "o", "none"), ("more", "x", colour),
                               ("repeated", "^", paint.muted)):
        axes.plot([x for x, _ in groups_of[kind]], [y for _, y in groups_of[kind]], linestyle="none", marker=marker,
                  markersize=4.5 * scale, color=paint.muted if kind == "repeated" else colour, markerfacecolor=fill)
    for word, bound, side in (("NDR", trace.outcome.ndr, "top"), ("PDR", trace.outcome.pdr, "bottom")):
        load = finite(bound.load_pps) if bound is not None else None
        if load is not None and load > 0:
            axes.axhline(load, color=paint.text, linewidth=0.9 * scale, linestyle="-" if word == "NDR" else "--")
            axes.annotate(word, (1, load), xycoords=("axes fraction", "data"), xytext=(3 * scale, 0),
                          textcoords="offset points", va=side, fontsize=canvas.font(10))


def _group(trial: Trial, pdr_loss: float) -> str:
    if trial.superseded:
        return "repeated"
    ratio = finite(trial.loss_ratio)
    if ratio is None or trial.status != "ok":
        return "more"
    return "no loss" if trial.lost == 0 else "within PDR" if ratio <= pdr_loss else "more"
