# SPDX-License-Identifier: Apache-2.0
"""How evenly receive queues and workers shared the frames of a point: one small panel each, a bar a member."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from harness.analysis.balance import Balance
from harness.report.charts.canvas import Canvas, Grid, Picture, fitted, grid_lines, label_axes, text_width
from harness.report.charts.material import MOST_POINTS, Group, Material, groups, identified
from harness.report.identity import one_line
from harness.report.numbers import percent, plural, rate, significant
from harness.report.shares import balances, fullest
from harness.report.summarise import PointSummary

NO_FLOWS = "shares of flows: a run keeps no counts by flow"
#: Members that get a bar; of more, so many spread over all in the order of their shares.
_MOST_BARS = 64
_MOST_LABELS = 16


@dataclass(frozen=True)
class _Panel:
    point: PointSummary
    what: str
    balance: Balance
    offered: float
    trial: int

    @property
    def bars(self) -> tuple[tuple[str, float], ...]:
        """(member, share 0..1); of very many members a selection by rank."""
        shares = self.balance.shares
        if len(shares) <= _MOST_BARS:
            return shares
        ranked = sorted(shares, key=lambda share: -share[1])
        return tuple(ranked[index * (len(ranked) - 1) // (_MOST_BARS - 1)] for index in range(_MOST_BARS))


def sharing_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none where nothing counted by member."""
    for group in groups(material.points):
        panels = [_Panel(point, what, balance, trial.offered_pps, trial.number) for point in group.points
                  if (trial := fullest(point)) is not None for what, balance, _ in balances(point, trial)
                  if len(balance.members) > 1]
        pages = [panels[at:at + MOST_POINTS] for at in range(0, len(panels), MOST_POINTS)]
        for number, page in enumerate(pages, 1):
            yield _picture(material, group, page, (number, len(pages)))


def _picture(material: Material, group: Group, panels: list[_Panel], page: tuple[int, int]) -> Picture:
    several = page[1] > 1
    title = (f"Shares of receive queues and workers in % of {group.role.counted}, {group.traffic}"
             + (f" ({page[0]} of {page[1]})" if several else ""))
    caption = ("Each point at the highest load offered to it; a bar a member, the dotted line is an even share. “×”: "
               "the busiest member’s share ÷ the mean. Flows are not counted one by one.")
    return Picture("shares", f"{group.part}-{page[0]}" if several else group.part, title, caption,
                   _describe(material, group, title, panels), tuple(_data(material, panels)),
                   lambda canvas: _grid(panels).height(canvas),
                   lambda figure, canvas, height: _draw(material, group, panels, figure, canvas, height))


def _data(material: Material, panels: list[_Panel]) -> Iterator[dict[str, object]]:
    for panel in panels:
        for (member, frames), (_, share) in zip(panel.balance.members, panel.balance.shares, strict=True):
            yield identified(material, panel.point) | {
                "trial": panel.trial, "offered_pps": panel.offered, "shared_by": panel.what,
                "member": one_line(member, 60), "frames": frames, "share": share}


def _describe(material: Material, group: Group, title: str, panels: list[_Panel]) -> str:
    parts = [f"{title}."]
    for panel in panels:
        shares = [share for _, share in panel.balance.shares]
        parts.append(f"{group.name(material, panel.point)}, {panel.what}: {panel.balance.live} of "
                     f"{plural(len(shares), 'member')} live, from {percent(min(shares), 1)} to "
                     f"{percent(max(shares), 1)} at {rate(panel.offered, group.role.rate_unit)}.")
    return " ".join(parts)


def _grid(panels: list[_Panel]) -> Grid:
    return Grid(len(panels), 110, left=58, top=46, bottom=46, gap=(30, 66))


def _draw(material: Material, group: Group, panels: list[_Panel], figure: FigureBase, canvas: Canvas,
          height: float) -> None:
    grid = _grid(panels)
    width = grid.panel_width(canvas)
    most = max(share for panel in panels for _, share in panel.bars)
    places = grid.axes(figure, canvas, height)
    for axes, panel in zip(places, panels, strict=True):
        _bars(material, group, panel, axes, canvas, width)
    _, columns = grid.shape(canvas)
    for index, axes in enumerate(places):
        axes.set_ylim(0, most * 1.12)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:,.3g}")
        axes.locator_params(axis="y", nbins=4)
        axes.tick_params(labelleft=index % columns == 0)
        grid_lines(axes, "y")
    label_axes(figure, canvas, height, "queue or core", f"share of {group.role.counted}, %")


def _bars(material: Material, group: Group, panel: _Panel, axes: Axes, canvas: Canvas, width: float) -> None:
    bars, paint = panel.bars, canvas.paint
    # Panels share their scale: members lie between 0 and 1, whatever their number.
    places = [(index + 0.5) / len(bars) for index in range(len(bars))]
    axes.bar(places, [share for _, share in bars], width=0.8 / len(bars),
             color=paint.series(material.look(panel.point).colour), linewidth=0)
    even = 1 / len(panel.balance.members)
    axes.plot([0, 1], [even, even], color=paint.text, linewidth=1 * canvas.scale, linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    labels = [_short(name) for name, _ in bars]
    room = width / len(bars)
    longest = max(text_width(label, canvas.font(10)) for label in labels) + 5 * canvas.scale
    step = max(math.ceil(longest / room), math.ceil(len(bars) / _MOST_LABELS))
    for index in range(0, len(bars), step):
        axes.annotate(labels[index], (places[index], 0), xytext=(0, -4 * canvas.scale), textcoords="offset points",
                      ha="center", va="top", fontsize=canvas.font(10), color=paint.muted)
    room_for = width + 16 * canvas.scale
    size = canvas.font(11.5)
    axes.set_title(group.heading(material, panel.point, room_for, size), fontweight="bold", fontsize=size,
                   pad=20 * canvas.scale)
    said = f"{panel.what}, {panel.balance.live} of {len(panel.balance.members)} live, × {_busiest(panel)}"
    axes.annotate(fitted(one_line(said, 200), room_for, canvas.font(10)), (0, 1), xycoords="axes fraction",
                  xytext=(0, 6 * canvas.scale), textcoords="offset points", fontsize=canvas.font(10), color=paint.muted)


def _busiest(panel: _Panel) -> str:
    return significant(panel.balance.busiest)


def _short(name: str) -> str:
    """A member's number: "3" of "queue 3", "core 3"; of several ("port 0, queue 3") the last."""
    return one_line(name, 30).rsplit(" ", 1)[-1][:6]
