# SPDX-License-Identifier: Apache-2.0
"""Throughput by stack: NDR, PDR and MRR of every point as bars, with the generator's ceiling and the line rate; below
them, on request, published figures of the same role, frame size and cores as hollow marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from harness.plan import Role
from harness.records import Verdict
from harness.report.charts.canvas import Canvas, Picture, fitted, grid_lines, text_width, wrapped
from harness.report.charts.limits import Limit, limits_of
from harness.report.charts.material import (
    OF_POINT,
    Group,
    Material,
    Published,
    groups,
    identified,
    letter_key,
    letters,
)
from harness.report.charts.published import draw_published, matching, published_height
from harness.report.charts.spans import span, span_data, span_end, span_words
from harness.report.identity import one_line
from harness.report.numbers import MISSING, Spread, Unit, plural, rate, rate_unit
from harness.report.palette import HUES
from harness.report.summarise import NOT_ASKED, PointSummary, RateSummary

#: A limit is drawn as a line when it is at most this many times the largest bar; beyond, it is named in words.
REACH = 1.9
_BAR, _GAP, _FOOT = 17.0, 15.0, 46.0
#: Pitch of bars below which each has no line of text of its own.
_READABLE = 12.5
_SHADES = {"NDR": 1.0, "PDR": 0.62, "MRR": 0.3}
_STATUS = {"missing": "not reached", "interrupted": "not finished"}


@dataclass(frozen=True)
class _Bars:
    """One chart's content. ``names``: the rates that the scenario asks for."""

    material: Material
    group: Group
    names: tuple[str, ...]
    limits: tuple[Limit, ...]
    unit: Unit
    published: tuple[Published, ...]

    def rates(self, point: PointSummary) -> list[RateSummary]:
        """Of a point, those that are drawn."""
        return [summary for summary in point.rates() if summary.name in self.names]

    @property
    def largest(self) -> float:
        """The largest rate that is drawn, pps."""
        return max((span_end(r) for p in self.group.points for r in self.rates(p)), default=0.0) or 1.0


def throughput_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none where no rate was found."""
    for group in groups(material.points):
        if any(summary.rate for point in group.points for summary in point.rates()):
            yield _picture(material, group)


def _picture(material: Material, group: Group) -> Picture:
    asked = tuple(name for index, name in enumerate(("NDR", "PDR", "MRR"))
                  if any(p.rates()[index].reason != NOT_ASKED or p.rates()[index].rate for p in group.points))
    limits = limits_of(group.points, material.run.info.ceilings)
    rates = [s.median for p in group.points for r in p.rates() if (s := r.rate) is not None]
    bars = _Bars(material, group, asked, tuple(limits), rate_unit(rates, group.role.rate_unit),
                 tuple(matching(material.published, group)))
    title = f"Throughput by stack in {bars.unit.name}, {group.traffic}{group.direction}"
    used = [_marks(r) for p in group.points for r in bars.rates(p)] + [letters(_of_point(p)) for p in group.points]
    return Picture("throughput", group.part, title, _caption(bars) + letter_key(used), _describe(bars, title),
                   tuple(_data(bars)), lambda canvas: _height(bars, canvas),
                   lambda figure, canvas, height: _draw(bars, figure, canvas, height),
                   tuple(entry.row for entry in bars.published))


def _caption(bars: _Bars) -> str:
    how = {"NDR": "NDR (no loss)", "PDR": "PDR", "MRR": "MRR (at full load)"}
    said = [f"{', '.join(how[name] for name in bars.names)}"
            + (", paler in that order." if len(bars.names) > 1 else ".")]
    if any(point.repeats > 1 for point in bars.group.points):
        said.append("Bars are medians.")
        said.append(span_words((r for p in bars.group.points for r in bars.rates(p)), "Thin lines"))
    if any(r.at_least for p in bars.group.points for r in bars.rates(p)):
        said.append("≥: the generator was the limit.")
    if any(_variant(bars, point) for point in bars.group.points):
        hosts = len({point.plan.host for point in bars.group.points}) > 1
        said.append("Outlined: a stack that is there already, with other parameters"
                    + (" or on another host." if hosts else "."))
    if bars.published:
        said.append("Hollow: published by others on other machines, not measured here.")
    return " ".join(filter(None, said))


def _marks(summary: RateSummary) -> str:
    return letters(summary.verdicts)


def _of_point(point: PointSummary) -> list[Verdict]:
    return [verdict for verdict in OF_POINT if verdict in point.verdicts]


def _data(bars: _Bars) -> Iterator[dict[str, object]]:
    for point in bars.group.points:
        for summary in bars.rates(point):
            spread = summary.rate
            yield identified(bars.material, point) | {
                "rate": summary.name, **span_data(summary), "at_least": summary.at_least if spread else None,
                "line_rate_pps": point.plan.line_rate_pps or None,
                "verdicts": " ".join(summary.verdicts), "reason": one_line(summary.reason, 200) if not spread else ""}


def _describe(bars: _Bars, title: str) -> str:
    unit = bars.group.role.rate_unit
    parts = [f"{title}."]
    for point in bars.group.points:
        rates = ", ".join(f"{r.name} {_said(r, unit)}" for r in bars.rates(point))
        parts.append(f"{bars.group.name(bars.material, point)}: {rates}.")
    parts += [f"The {limit.name} is {rate(limit.pps, unit)}." for limit in bars.limits]
    return " ".join(parts)


def _said(summary: RateSummary, unit: str) -> str:
    """A rate with its verdicts, for those who hear the chart."""
    if summary.rate is None:
        return MISSING
    return ("at least " if summary.at_least else "") + rate(summary.rate.median, unit) + (
        f" ({', '.join(summary.verdicts)})" if summary.verdicts else "")


def _head(bars: _Bars, canvas: Canvas) -> float:
    """Room above the bars for the limits' names, at scale 1."""
    drawn = [limit for limit in bars.limits if limit.pps <= REACH * bars.largest]
    beyond = len(bars.limits) - len(drawn)
    return 14.0 + 17.0 * (len(bars.limits) if canvas.narrow else max(len(drawn), 1 if beyond else 0))


def _block(bars: _Bars, canvas: Canvas) -> float:
    return len(bars.names) * _BAR + _GAP + (20.0 if canvas.narrow else 0.0) + (
        0.0 if canvas.narrow else max(0.0, 34.0 - len(bars.names) * _BAR))


def _height(bars: _Bars, canvas: Canvas) -> float:
    return canvas.scale * (_head(bars, canvas) + _block(bars, canvas) * len(bars.group.points) + _FOOT) + (
        published_height(bars.published, canvas))


def _draw(bars: _Bars, figure: FigureBase, canvas: Canvas, height: float) -> None:
    scale, width, points = canvas.scale, canvas.width, bars.group.points
    below = published_height(bars.published, canvas)
    top, foot = scale * _head(bars, canvas), scale * _FOOT
    block = min((height - below - top - foot) / len(points), scale * (1.7 * _block(bars, canvas) + 26))
    left, inner = (42 if canvas.narrow else 250) * scale, width - (66 if canvas.narrow else 274) * scale
    box = (left / width, (height - top - block * len(points)) / height, inner / width, block * len(points) / height)
    axes = figure.add_axes(box)
    axes.set_ylim(block * len(points), 0)
    reach = [limit.pps * 1.03 for limit in bars.limits if limit.pps <= REACH * bars.largest]
    dense = _pitch(bars, canvas, block) < _READABLE * scale
    size = canvas.font(11, block)
    beside = max(text_width(text, size) for point in points for text in (
        [_dense_label(bars, point)] if dense else [_label(bars, r, r.rate) for r in bars.rates(point) if r.rate]))
    room = max(inner * 0.3, inner - beside - 14 * scale) / inner
    axes.set_xlim(0, _right(bars, room, reach))
    for index, point in enumerate(points):
        _point(bars, axes, canvas, point, index * block, block)
    _limit_lines(bars, axes, canvas)
    axes.set_yticks([])
    axes.spines["left"].set_color(canvas.paint.muted)
    digits = 1 if bars.unit.name == "Mpps" else 0
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / bars.unit.divisor:,.{digits}f}")
    axes.locator_params(axis="x", nbins=4 if canvas.narrow else 7)
    grid_lines(axes, "x")
    role = bars.group.role
    axes.set_xlabel(bars.unit.name if role is Role.ACCEPT else f"frames per second and direction, {bars.unit.name}")
    if bars.published:
        draw_published(bars.published, figure, canvas, height, axes.get_xlim()[1], left)


def _right(bars: _Bars, room: float, reach: list[float]) -> float:
    """Where the axis ends, so that the bars' figures fit. ``room``: share of it that they leave. A figure that would
    stand across a limit's line begins behind it, and has to fit there."""
    right = max([bars.largest / room, *reach])
    for pps in sorted(limit.pps for limit in bars.limits if limit.pps <= REACH * bars.largest):
        if pps <= bars.largest + (1 - room) * right:
            right = max(right, pps / room)
    return right


def _point(bars: _Bars, axes: Axes, canvas: Canvas, point: PointSummary, top: float, block: float) -> None:
    """One block: the point's name and its bars; where those are low, their figures in one line beside them."""
    head, pitch = _block_head(canvas), _pitch(bars, canvas, block)
    first = top + head + (block - head - pitch * len(bars.names)) / 2
    _name(bars, axes, canvas, point, top if canvas.narrow else top + block / 2, block)
    transform = axes.get_yaxis_transform()
    if point.status in ("failed", "skipped", *_STATUS) and not any(r.rate for r in point.rates()):
        text = fitted(one_line(f"{_STATUS.get(point.status, point.status)}: {point.reason}", 200),
                      canvas.width - (64 if canvas.narrow else 290) * canvas.scale, canvas.font(11, block))
        axes.text(0.01, first + pitch * len(bars.names) / 2, text, va="center", fontsize=canvas.font(11, block),
                  color=canvas.paint.muted, transform=transform)
        return
    dense = pitch < _READABLE * canvas.scale
    for index, summary in enumerate(bars.rates(point)):
        colour = canvas.paint.series(bars.material.look(point).colour)
        _bar(axes, canvas, summary, (colour, _variant(bars, point)), first + (index + 0.5) * pitch, pitch)
        if not dense:
            _bar_words(bars, axes, canvas, summary, first + (index + 0.5) * pitch, pitch)
    if dense:
        ends = max((span_end(r) for r in bars.rates(point)), default=0.0)
        _beside(bars, axes, canvas, _dense_label(bars, point), (ends, top + block / 2), canvas.font(11, block))


def _block_head(canvas: Canvas) -> float:
    return 20.0 * canvas.scale if canvas.narrow else 0.0


def _pitch(bars: _Bars, canvas: Canvas, block: float) -> float:
    return min(_BAR * canvas.scale * 1.8, (block - _block_head(canvas)) * 0.82 / len(bars.names))


def _dense_label(bars: _Bars, point: PointSummary) -> str:
    return " · ".join(f"{r.name} {_label(bars, r, r.rate) if r.rate else MISSING}" for r in bars.rates(point))


def _beside(bars: _Bars, axes: Axes, canvas: Canvas, text: str, end: tuple[float, float], size: float) -> None:
    """A figure beside its bar; where it would stand across the line of a limit, behind that."""
    x, y = end
    pixel = axes.get_xlim()[1] / (axes.get_position().width * canvas.width)
    for pps in sorted(limit.pps for limit in bars.limits if limit.pps <= REACH * bars.largest):
        if x < pps <= x + (text_width(text, size) + 9 * canvas.scale) * pixel:
            x = pps
    axes.annotate(text, (x, y), xytext=(6 * canvas.scale, 0), textcoords="offset points", va="center", fontsize=size,
                  bbox={"facecolor": canvas.paint.surface, "edgecolor": "none", "pad": 0.5})


def _name(bars: _Bars, axes: Axes, canvas: Canvas, point: PointSummary, middle: float, block: float) -> None:
    """Left of the bars; on a phone above them."""
    transform, look, marks = axes.get_yaxis_transform(), bars.material.look(point), letters(_of_point(point))
    cores = "" if bars.group.cores is not None else plural(len(point.plan.cores), "core")
    if canvas.narrow:
        text = bars.group.heading(bars.material, point, canvas.width - 60, canvas.font(12), marks)
        axes.text(0, middle + 11 * canvas.scale, text, va="center", fontsize=canvas.font(12), fontweight="bold")
        return
    second = "  ".join(filter(None, [cores, marks]))
    plain, room = canvas.font(12.5), 200 * canvas.scale
    most = min(2, int(block / (1.25 * plain)) - bool(second))
    if most < 1 and second:  # no room for a line of its own
        lines, second = [fitted(look.name, room - text_width(f"  {second}", plain, True), plain, True)
                         + f"  {second}"], ""
    else:
        lines = wrapped(look.name, room, plain, max(1, most), bold=True)
    size = canvas.font(12.5, block / (len(lines) + bool(second)))
    pitch = size * 1.25
    first = middle - pitch * (len(lines) + bool(second) - 1) / 2
    for index, line in enumerate([*lines, second] if second else lines):
        bold = index < len(lines)
        axes.annotate(line, (0, first + pitch * index), xycoords=transform, xytext=(-46 * canvas.scale, 0),
                      textcoords="offset points", ha="right", va="center", fontsize=size if bold else size * 0.88,
                      fontweight="bold" if bold else "normal", color=canvas.paint.text if bold else canvas.paint.muted)


def _variant(bars: _Bars, point: PointSummary) -> bool:
    """Whether the point's stack is there with other parameters before it. Its bars are outlined: a shade alone may be
    taken for the paler bar of another rate."""
    return bars.material.look(point).colour > HUES


def _bar(axes: Axes, canvas: Canvas, summary: RateSummary, shown: tuple[str, bool], y: float, pitch: float) -> None:
    paint, spread = canvas.paint, summary.rate
    if spread is None:
        return
    height = pitch - 3 * canvas.scale if pitch > 9 * canvas.scale else pitch * 0.8
    axes.barh(y, spread.median, height=height, color=paint.surface, linewidth=0)  # hides the grid behind a light bar
    colour, outlined = shown
    axes.barh(y, spread.median, height=height, color=colour, alpha=_SHADES[summary.name], linewidth=0)
    if outlined:
        axes.barh(y, spread.median, height=height, fill=False, edgecolor=paint.text, linewidth=1.1 * canvas.scale)
    if ends := span(summary):
        axes.plot(ends, [y, y], color=paint.text, linewidth=1.2 * canvas.scale,
                  solid_capstyle="butt")


def _bar_words(bars: _Bars, axes: Axes, canvas: Canvas, summary: RateSummary, y: float, pitch: float) -> None:
    """Which rate a bar is, and its figure, or why there is none."""
    paint, size = canvas.paint, canvas.font(11, pitch)
    axes.annotate(summary.name, (0, y), xycoords=axes.get_yaxis_transform(), xytext=(-6 * canvas.scale, 0),
                  textcoords="offset points", ha="right", va="center", fontsize=min(size, canvas.font(10.5)),
                  color=paint.muted)
    spread = summary.rate
    if spread is None:
        text = MISSING if canvas.narrow else fitted(one_line(f"{MISSING}: {summary.reason}", 200),
                                                    canvas.width - 290 * canvas.scale, size)
        axes.text(0.01, y, text, va="center", fontsize=size, color=paint.muted, transform=axes.get_yaxis_transform())
        return
    _beside(bars, axes, canvas, _label(bars, summary, spread), (span_end(summary), y), size)


def _label(bars: _Bars, summary: RateSummary, spread: Spread) -> str:
    least = "≥ " if summary.at_least else ""
    return f"{least}{bars.unit.text(spread.median)}  {_marks(summary)}".rstrip()


def _limit_lines(bars: _Bars, axes: Axes, canvas: Canvas) -> None:
    """Lines for the limits within reach, words for those beyond, each on a line of its own above the bars."""
    right, unit, size, step = axes.get_xlim()[1], bars.group.role.rate_unit, canvas.font(11), 17 * canvas.scale
    drawn = [limit for limit in bars.limits if limit.pps <= REACH * bars.largest]
    beyond = [f"{limit.name} {rate(limit.pps, unit)} →" for limit in bars.limits if limit not in drawn]
    for row, limit in enumerate(drawn):
        axes.axvline(limit.pps, color=canvas.paint.text, linewidth=1.1 * canvas.scale, linestyle=(0, (5, 3)),
                     zorder=0.9)
        side = "right" if limit.pps > 0.45 * right else "left"
        axes.annotate(f"{limit.name} {rate(limit.pps, unit)}", (limit.pps, 1), xycoords=("data", "axes fraction"),
                      xytext=(0, 6 * canvas.scale + step * row), textcoords="offset points", ha=side, fontsize=size)
    low = bool(drawn) and drawn[0].pps <= 0.45 * right
    for row, text in enumerate(beyond if canvas.narrow else [", ".join(beyond)] if beyond else []):
        where = 1 if canvas.narrow or not drawn or low else 0
        at = row + (len(drawn) if canvas.narrow else 0)
        axes.annotate(text, (where, 1), xycoords="axes fraction", xytext=(0, 6 * canvas.scale + step * at),
                      textcoords="offset points", ha="right" if where else "left", fontsize=size,
                      color=canvas.paint.muted)
