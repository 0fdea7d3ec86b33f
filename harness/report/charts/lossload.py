# SPDX-License-Identifier: Apache-2.0
"""Loss by place over load: one panel a point, a bar a load of the load curve, stacked by place. Colours mean places
here, always the same, and no stacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Patch

from harness.records import Phase, Trial
from harness.report.charts.canvas import (
    Canvas,
    Grid,
    Picture,
    grid_lines,
    label_axes,
    legend,
    legend_height,
    text_width,
)
from harness.report.charts.loss import UNEXPLAINED
from harness.report.charts.material import Group, Material, groups, identified
from harness.report.identity import one_line
from harness.report.numbers import Unit, percent, rate, rate_unit
from harness.report.palette import COLOURS, HUES
from harness.report.summarise import PointSummary

#: Places in the order of a frame's way, each with a hue of its own as far as there are hues.
_WAY = ("DUT ring", "driver", "softirq backlog", "socket buffer", "application", "qdisc", "return path",
        "generator receive", "wire", "no socket", "listen queue")
#: Places of a chart; further ones are one more.
_MOST_PLACES = 8
_OTHER = "other places"
#: Loads of a panel; of more, these many spread over all.
_MOST_LOADS = 16


@dataclass(frozen=True)
class _Bar:
    """One point at one load, all repeats together: ``frames`` lost by place, of ``sent``. ``unread``: places of which
    no counter told."""

    load_pps: float
    sent: int
    frames: Counter[str]
    unread: frozenset[str]

    def share(self, place: str) -> float:
        """Of the frames sent, 0..1."""
        return min(1.0, max(0, self.frames[place]) / self.sent)


@dataclass(frozen=True)
class _Panel:
    point: PointSummary
    bars: tuple[_Bar, ...]


@dataclass(frozen=True)
class _Chart:
    """``loads``: those that have a bar; ``places``: those that have a colour, on a frame's way."""

    material: Material
    group: Group
    panels: tuple[_Panel, ...]
    loads: tuple[float, ...]
    places: tuple[str, ...]
    unit: Unit

    def parts(self, bar: _Bar) -> Iterator[tuple[str, float]]:
        """(place, share) of a bar, from below."""
        yield from ((place, bar.share(place)) for place in self.places if place not in (_OTHER, UNEXPLAINED))
        if _OTHER in self.places:
            yield _OTHER, sum(bar.share(place) for place in bar.frames if place not in self.places)
        yield UNEXPLAINED, bar.share(UNEXPLAINED)


def loss_load_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none where no load of the curve lost."""
    for group in groups(material.points):
        panels = tuple(_Panel(point, bars) for point in group.points if (bars := tuple(_bars(point))))
        lost = sum((bar.frames for panel in panels for bar in panel.bars), Counter[str]())
        if any(frames > 0 for frames in lost.values()):
            yield _picture(_chart(material, group, panels, lost))


def _bars(point: PointSummary) -> Iterator[_Bar]:
    loads: dict[float, list[Trial]] = {}
    for trial in point.trials:
        if trial.phase is Phase.LOAD and trial.status == "ok" and not trial.superseded and trial.sent > 0:
            loads.setdefault(trial.asked_pps, []).append(trial)
    for load, trials in sorted(loads.items()):
        frames = Counter({UNEXPLAINED: max(0, sum(trial.unexplained for trial in trials))})
        for trial in trials:
            frames.update({place: count for place, count in trial.losses.items() if count > 0})
        yield _Bar(load, sum(trial.sent for trial in trials), frames,
                   frozenset(place for trial in trials for place in trial.unread))


def _chart(material: Material, group: Group, panels: tuple[_Panel, ...], lost: Counter[str]) -> _Chart:
    loads = sorted({bar.load_pps for panel in panels for bar in panel.bars})
    shown = tuple(loads[::max(1, -(-len(loads) // _MOST_LOADS))])
    named = [place for place, frames in lost.most_common() if frames > 0 and place != UNEXPLAINED]
    kept = sorted(named[:_MOST_PLACES], key=lambda place: (_WAY.index(place) if place in _WAY else len(_WAY), place))
    places = (*kept, *((_OTHER,) if len(named) > len(kept) else ()), UNEXPLAINED)
    return _Chart(material, group, panels, shown, places, rate_unit(loads, group.role.rate_unit))


def _picture(chart: _Chart) -> Picture:
    group = chart.group
    title = f"Loss by place over load in % of {group.role.counted} sent, {group.traffic}{group.direction}"
    unread = sorted({place for panel in chart.panels for bar in panel.bars for place in bar.unread})
    caption = ("Each point at the rates of the load curve, all repeats together; a colour a place, not a stack. "
               "“Unexplained” is what no counter accounts for."
               + (f" No counter told of: {', '.join(one_line(place, 40) for place in unread[:6])}." if unread else ""))
    return Picture("loss-load", group.part, title, caption, _describe(chart, title), tuple(_data(chart)),
                   lambda canvas: _grid(chart, canvas).height(canvas),
                   lambda figure, canvas, height: _draw(chart, figure, canvas, height))


def _data(chart: _Chart) -> Iterator[dict[str, object]]:
    for panel in chart.panels:
        for bar in panel.bars:
            for place in dict.fromkeys([*bar.frames, *sorted(bar.unread)]):
                known = place not in bar.unread
                yield identified(chart.material, panel.point) | {
                    "load_pps": bar.load_pps, "sent": bar.sent, "place": one_line(place, 60),
                    "frames": bar.frames[place] if known else None,
                    "share_of_sent": bar.frames[place] / bar.sent if known else None}


def _describe(chart: _Chart, title: str) -> str:
    parts = [f"{title}."]
    for panel in chart.panels:
        said = []
        for bar in panel.bars:
            where = ", ".join(f"{one_line(place, 40)} {percent(share, 1)}" for place, share in chart.parts(bar)
                              if share > 0)
            said.append(f"{where or 'nothing lost'} at {rate(bar.load_pps, chart.group.role.rate_unit)}")
        parts.append(f"{chart.group.name(chart.material, panel.point)}: {'; '.join(said)}.")
    return " ".join(parts)


def _label(place: str) -> str:
    return one_line(place, 34)


def _grid(chart: _Chart, canvas: Canvas) -> Grid:
    top = legend_height(canvas, [_label(place) for place in chart.places]) + 30
    return Grid(len(chart.panels), 130, left=64, top=top, bottom=52, gap=(34, 46))


def _draw(chart: _Chart, figure: FigureBase, canvas: Canvas, height: float) -> None:
    grid = _grid(chart, canvas)
    width = grid.panel_width(canvas)
    most = max(sum(share for _, share in chart.parts(bar)) for panel in chart.panels for bar in panel.bars)
    for axes, panel in zip(grid.axes(figure, canvas, height), chart.panels, strict=True):
        _stack(chart, axes, canvas, panel)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, most * 1.06)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:,.3g}")
        axes.locator_params(axis="y", nbins=4)
        _loads(chart, axes, canvas, width)
        grid_lines(axes, "y")
        size = canvas.font(12)
        axes.set_title(chart.group.heading(chart.material, panel.point, width + 16 * canvas.scale, size),
                       fontweight="bold", fontsize=size)
    handles = {_label(place): Patch(**_look(chart, canvas, place)) for place in chart.places}
    legend(figure, canvas, handles)
    label_axes(figure, canvas, height, f"offered load, {chart.unit.name}", f"share of {chart.group.role.counted}, %")


def _stack(chart: _Chart, axes: Axes, canvas: Canvas, panel: _Panel) -> None:
    count = len(chart.loads)
    for bar in panel.bars:
        if bar.load_pps not in chart.loads:
            continue
        x, below = (chart.loads.index(bar.load_pps) + 0.5) / count, 0.0
        if not any(share > 0 for _, share in chart.parts(bar)):  # measured: not the same as no bar
            axes.annotate("0", (x, 0), xytext=(0, 2 * canvas.scale), textcoords="offset points", ha="center",
                          fontsize=canvas.font(10), color=canvas.paint.muted)
        for place, share in chart.parts(bar):
            if share > 0:
                axes.bar(x, share, width=0.66 / count, bottom=below, linewidth=0, **_look(chart, canvas, place))
                below += share


def _look(chart: _Chart, canvas: Canvas, place: str) -> dict[str, Any]:
    """Colour, and of what is no place a hatch, so that it is seen without colour."""
    paint = canvas.paint
    if place == UNEXPLAINED:
        return {"facecolor": paint.grid, "edgecolor": paint.text, "hatch": "////"}
    if place == _OTHER:
        return {"facecolor": paint.muted}
    unknown = [entry for entry in chart.places if entry not in _WAY]
    number = _WAY.index(place) if place in _WAY else len(_WAY) + unknown.index(place)
    return {"facecolor": paint.series(number % COLOURS + 1)} | ({"hatch": ".."} if number >= HUES else {})


def _loads(chart: _Chart, axes: Axes, canvas: Canvas, width: float) -> None:
    """As many loads below the bars as there is room for."""
    labels = [chart.unit.text(load) for load in chart.loads]
    room = width / len(labels)
    longest = max(text_width(label, canvas.font(11)) for label in labels) + 6 * canvas.scale
    step = max(1, -(-int(longest) // max(1, int(room))))
    places = range(0, len(labels), step)
    axes.set_xticks([(index + 0.5) / len(labels) for index in places], [labels[index] for index in places])


def no_loss_over_load(points: Sequence[PointSummary]) -> str:
    """Why there is none."""
    if not any(trial.phase is Phase.LOAD for point in points for trial in point.trials):
        return "the scenario has no load curve (measure.load_curve), or none of its trials was finished"
    return "nothing was lost at any rate of the load curve"
