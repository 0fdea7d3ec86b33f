# SPDX-License-Identifier: Apache-2.0
"""Throughput by stack: NDR, PDR and MRR of every point as bars, with the generator's ceiling and the line rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.plan import Role
from harness.records import Ceiling
from harness.report.charts.svg import (
    MUTED,
    NARROW,
    SURFACE,
    TEXT,
    WIDE,
    Chart,
    grid_lines,
    make_chart,
    new_figure,
    series,
)
from harness.report.identity import one_line
from harness.report.numbers import MISSING, Spread, Unit, finite, plural, rate, rate_unit
from harness.report.summarise import PointSummary, RateSummary
from harness.report.summarytable import rate_marks
from harness.report.tables import PointName
from harness.report.words import traffic_text

MAX_POINTS = 40
#: A limit is drawn as a line when it is at most this many times the largest bar; beyond, it is named in words.
REACH = 1.9
_BAR, _GAP = 17.0, 15.0
_SHADES = {"NDR": 1.0, "PDR": 0.62, "MRR": 0.3}


@dataclass(frozen=True)
class Limit:
    """Something no stack can exceed, pps."""

    name: str
    pps: float


def throughput_chart(key: str, points: Sequence[PointSummary], names: dict[str, PointName],
                     ceilings: Sequence[Ceiling]) -> Chart | None:
    """The chart of all points of one frame size (the first MAX_POINTS of them); None when no rate was found."""
    if not any(summary.rate for point in points for summary in point.rates()):
        return None
    plan = points[0].plan
    shown = points[:MAX_POINTS]
    limits = _limits(shown, ceilings)
    unit = rate_unit((s.median for p in shown for r in p.rates() if (s := r.rate) is not None), plan.role.rate_unit)
    title = f"Throughput by stack, {traffic_text(plan.role, plan.traffic_label)}" + (
        ", per direction" if plan.frame_bytes else "")
    caption = ("Three bars a stack: NDR (no loss), PDR and MRR (at full load), lighter in that order. "
               + ("Bars are medians, thin lines span lowest to highest repeat. " if _repeats(shown) else "")
               + "≥: the generator was the limit."
               + (" First attempts: highest load whose first attempt met the goal." if _raws(shown) else "")
               + (f" The first {MAX_POINTS} of {len(points)} points." if len(points) > len(shown) else ""))
    return make_chart(key, title, caption, _describe(title, shown, names, limits),
                      lambda narrow: _draw(shown, names, limits, unit, narrow))


def _repeats(points: Sequence[PointSummary]) -> bool:
    return any(p.repeats > 1 for p in points)


def _raws(points: Sequence[PointSummary]) -> bool:
    return any(r.raw is not None for p in points for r in p.rates())


def _limits(points: Sequence[PointSummary], ceilings: Sequence[Ceiling]) -> list[Limit]:
    frames = points[0].plan.frames
    hosts = {point.plan.host for point in points}
    most = [next((p for p in (c.kept_pps, c.sent_pps, c.received_pps) if p is not None), None) for c in ceilings
            if c.frames == frames and c.host in hosts]
    limits = [Limit("generator’s ceiling", pps) for value in most if (pps := finite(value)) and pps > 0]
    rates = {pps for p in points if (pps := finite(p.plan.line_rate_pps)) and pps > 0}
    return limits[:4] + [Limit("line rate", pps) for pps in sorted(rates)[:4]]


def _describe(title: str, points: Sequence[PointSummary], names: dict[str, PointName],
              limits: Sequence[Limit]) -> str:
    parts = []
    for point in points:
        rates = ", ".join(f"{r.name} {_said(r, point.plan.role.rate_unit)}" for r in point.rates())
        parts.append(f"{names[point.plan.id].label}, {names[point.plan.id].cores}: {rates}.")
    unit = points[0].plan.role.rate_unit
    parts += [f"The {limit.name} is {rate(limit.pps, unit)}." for limit in limits]
    return f"{title}. " + " ".join(parts)


def _said(summary: RateSummary, unit: str) -> str:
    """A rate with its verdicts, for those who hear the chart."""
    if summary.rate is None:
        return MISSING
    marks = [mark.name for mark in rate_marks(summary)]
    return ("at least " if summary.at_least else "") + rate(summary.rate.median, unit) + (
        f" ({', '.join(marks)})" if marks else "")


def _draw(points: Sequence[PointSummary], names: dict[str, PointName], limits: Sequence[Limit], unit: Unit,
          narrow: bool) -> Figure:
    head = 20.0 if narrow else 0.0
    block = 3 * _BAR + _GAP + head
    largest = max((r.rate.high for p in points for r in p.rates() if r.rate is not None), default=0.0) or 1.0
    drawn = [limit for limit in limits if limit.pps <= REACH * largest]
    beyond = [limit for limit in limits if limit.pps > REACH * largest]
    top = 14.0 + 17.0 * (len(drawn) + len(beyond) if narrow else max(len(drawn), 1 if beyond else 0))
    width, height = NARROW if narrow else WIDE, top + block * len(points) + 48
    figure = new_figure(width, height)
    left = 42 if narrow else 250
    axes = figure.add_axes((left / width, 44 / height, (width - left - 12) / width, (height - top - 46) / height))
    axes.set_ylim(block * len(points), 0)
    room = 1.3 if narrow or _raws(points) else 1.18
    axes.set_xlim(0, max([largest * room, *(limit.pps * 1.03 for limit in drawn)]))
    for index, point in enumerate(points):
        _point(axes, point, names[point.plan.id], unit, index * block + head, narrow)
    role = points[0].plan.role
    _limit_lines(axes, drawn, beyond, role.rate_unit, narrow)
    axes.set_yticks([])
    axes.spines["left"].set_color(MUTED)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit.divisor:,.{_tick_digits(unit)}f}")
    axes.locator_params(axis="x", nbins=4 if narrow else 7)
    grid_lines(axes, "x")
    axes.set_xlabel(unit.name if role is Role.ACCEPT else f"frames per second and direction, {unit.name}")
    return figure


def _tick_digits(unit: Unit) -> int:
    return 1 if unit.name == "Mpps" else 0


def _point(axes: Axes, point: PointSummary, name: PointName, unit: Unit, top: float, narrow: bool) -> None:
    """One block: the point's name and its three bars."""
    transform = axes.get_yaxis_transform()
    cores = plural(len(point.plan.cores), "core")
    if narrow:
        axes.text(0, top - 7, one_line(f"{name.label}, {cores}", 36), va="center", fontsize=12, fontweight="bold")
    else:
        lines = wrap(name.label, 22, max_lines=2, placeholder="…") or [""]
        middle = top + 1.5 * _BAR + _GAP / 2
        first = middle - 8 * len(lines)
        for index, line in enumerate(lines):
            axes.text(-0.075, first + 16 * index, line, ha="right", va="center", fontsize=12.5, fontweight="bold",
                      transform=transform)
        axes.text(-0.075, first + 16 * len(lines) + 1, cores, ha="right", va="center", fontsize=11, color=MUTED,
                  transform=transform)
    if point.status in ("failed", "skipped", "missing", "interrupted") and not any(r.rate for r in point.rates()):
        word = {"missing": "not reached", "interrupted": "not finished"}.get(point.status, point.status)
        text = one_line(f"{word}: {point.reason}", 46 if narrow else 88)
        axes.text(0.01, top + 1.5 * _BAR + _GAP / 2, text, va="center", fontsize=11.5, color=MUTED,
                  transform=transform)
        return
    for index, summary in enumerate(point.rates()):
        _bar(axes, summary, unit, series(name.colour), top + _GAP / 2 + (index + 0.5) * _BAR, narrow)


def _bar(axes: Axes, summary: RateSummary, unit: Unit, colour: str, y: float, narrow: bool) -> None:
    axes.text(-0.012, y, summary.name, ha="right", va="center", fontsize=10.5, color=MUTED,
              transform=axes.get_yaxis_transform())
    spread = summary.rate
    if spread is None:
        text = MISSING if narrow else one_line(f"{MISSING}: {summary.reason}", 80)
        axes.text(0.01, y, text, va="center", fontsize=11, color=MUTED, transform=axes.get_yaxis_transform())
        return
    axes.barh(y, spread.median, height=_BAR - 4, color=SURFACE, linewidth=0)  # hides the grid behind a light bar
    axes.barh(y, spread.median, height=_BAR - 4, color=colour, alpha=_SHADES[summary.name], linewidth=0)
    if spread.count > 1:
        axes.plot([spread.low, spread.high], [y, y], color=TEXT, linewidth=1.2, solid_capstyle="butt")
    axes.annotate(_label(summary, spread, unit, narrow), (max(spread.high, spread.median), y), xytext=(6, 0),
                  textcoords="offset points", va="center", fontsize=11,
                  bbox={"facecolor": SURFACE, "edgecolor": "none", "pad": 1.0})


def _label(summary: RateSummary, spread: Spread, unit: Unit, narrow: bool) -> str:
    least = "≥ " if summary.at_least else ""
    raw = f"  (first attempts {unit.text(summary.raw.median)})" if summary.raw is not None and not narrow else ""
    return f"{least}{unit.text(spread.median)}{raw}"


def _limit_lines(axes: Axes, drawn: Sequence[Limit], beyond: Sequence[Limit], unit: str,
                 narrow: bool) -> None:
    """Lines for the limits within reach, words for those beyond, each on a line of its own above the bars."""
    right = axes.get_xlim()[1]
    row = 0
    for limit in drawn:
        axes.axvline(limit.pps, color=TEXT, linewidth=1.1, linestyle=(0, (5, 3)))
        side = "right" if limit.pps > 0.45 * right else "left"
        axes.annotate(f"{limit.name} {rate(limit.pps, unit)}", (limit.pps, 1), xycoords=("data", "axes fraction"),
                      xytext=(0, 6 + 17 * row), textcoords="offset points", ha=side, fontsize=11)
        row += 1
    row = row if narrow else 0
    words = [f"{limit.name} {rate(limit.pps, unit)} →" for limit in beyond]
    for text in words if narrow else [", ".join(words)] if words else []:
        where = 1 if narrow or not drawn else 0
        axes.annotate(text, (where, 1), xycoords="axes fraction", xytext=(0, 6 + 17 * row),
                      textcoords="offset points", ha="right" if where else "left", fontsize=11, color=MUTED)
        row += 1
