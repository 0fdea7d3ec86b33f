# SPDX-License-Identifier: Apache-2.0
"""Loss by place: where the frames of each point were lost at the highest load offered to it. A row a point, a column a
place, so that no colour has to mean a place and a stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from harness.records import Trial
from harness.report.charts.canvas import Canvas, Picture, wrapped
from harness.report.charts.material import Group, Material, groups, identified, letter_key, letters
from harness.report.identity import one_line
from harness.report.numbers import percent, rate
from harness.report.shares import fullest
from harness.report.summarise import PointSummary

#: Columns besides "unexplained"; further places are one more.
MOST_PLACES = 6
UNEXPLAINED = "unexplained"
_OTHER = "other places"
_ROW, _LINE, _NAME = 36.0, 15.0, 270.0


@dataclass(frozen=True)
class _Loss:
    """``shares``: of frames sent, by place, of each point's fullest trial."""

    material: Material
    group: Group
    places: tuple[str, ...]
    rows: tuple[tuple[PointSummary, Trial, tuple[float, ...]], ...]

    @property
    def largest(self) -> float:
        """The largest share."""
        return max(share for _, _, shares in self.rows for share in shares)


def loss_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none where nothing was lost."""
    for group in groups(material.points):
        chosen = [(point, trial) for point in group.points if (trial := fullest(point)) is not None and trial.sent > 0]
        if any(trial.lost > 0 for _, trial in chosen):
            yield _picture(_loss(material, group, chosen))


def _loss(material: Material, group: Group, chosen: Sequence[tuple[PointSummary, Trial]]) -> _Loss:
    counted: Counter[str] = Counter()
    for _, trial in chosen:
        counted.update({place: frames for place, frames in trial.losses.items() if frames > 0})
    known = [place for place, _ in counted.most_common(MOST_PLACES)]
    more = len(counted) > len(known)
    places = (*known, *((_OTHER,) if more else ()), UNEXPLAINED)
    rows = tuple((point, trial, tuple(_shares(trial, known, more))) for point, trial in chosen)
    return _Loss(material, group, places, rows)


def _shares(trial: Trial, known: Sequence[str], more: bool) -> Iterator[float]:
    yield from (min(1.0, max(0, trial.losses.get(place, 0)) / trial.sent) for place in known)
    if more:
        rest = sum(frames for place, frames in trial.losses.items() if place not in known and frames > 0)
        yield min(1.0, rest / trial.sent)
    yield min(1.0, max(0, trial.unexplained) / trial.sent)


def _picture(loss: _Loss) -> Picture:
    group = loss.group
    title = f"Loss by place in % of {group.role.counted} sent, {group.traffic}{group.direction}"
    caption = ("Each point’s trial at the highest load. “Unexplained” is what no counter accounts for. "
               "All bars have one scale." + letter_key(letters(trial.verdicts) for _, trial, _ in loss.rows))
    return Picture("loss", group.part, title, caption, _describe(loss, title), tuple(_data(loss)),
                   lambda canvas: _height(loss, canvas),
                   lambda figure, canvas, height: _draw(loss, figure, canvas, height))


def _data(loss: _Loss) -> Iterator[dict[str, object]]:
    for point, trial, _ in loss.rows:
        unread = dict.fromkeys(trial.unread)
        for place, frames in {**trial.losses, **unread, UNEXPLAINED: trial.unexplained}.items():
            yield identified(loss.material, point) | {
                "trial": trial.number, "offered_pps": trial.offered_pps, "sent": trial.sent, "lost": trial.lost,
                "place": one_line(place, 60), "frames": frames,
                "share_of_sent": None if frames is None else frames / trial.sent,
                "verdicts": " ".join(trial.verdicts)}


def _describe(loss: _Loss, title: str) -> str:
    parts = [f"{title}."]
    for point, trial, shares in loss.rows:
        said = ", ".join(f"{place} {percent(share, 1)}" for place, share in zip(loss.places, shares, strict=True)
                         if share > 0)
        parts.append(f"{loss.group.name(loss.material, point)}: {percent(trial.loss_ratio, 1)} lost"
                     + (f" ({said})." if said else "."))
    return " ".join(parts)


def _seen(loss: _Loss, shares: Sequence[float]) -> list[tuple[str, float]]:
    """For a phone: only places where something was lost."""
    return [(place, share) for place, share in zip(loss.places, shares, strict=True) if share > 0]


def _height(loss: _Loss, canvas: Canvas) -> float:
    if canvas.narrow:
        return canvas.scale * sum(34 + 18 * max(1, len(_seen(loss, shares))) for _, _, shares in loss.rows)
    return _head(loss, canvas) + canvas.scale * (_ROW * len(loss.rows) + 8)


def _columns(loss: _Loss, canvas: Canvas) -> list[list[str]]:
    """Headings of the columns, in lines."""
    column = (canvas.width - (_NAME + 14) * canvas.scale) / len(loss.places)
    room = column - 6 * canvas.scale
    return [wrapped(one_line(place, 44), room, canvas.font(10.5), 3, bold=True) for place in loss.places]


def _head(loss: _Loss, canvas: Canvas) -> float:
    return canvas.scale * (10 + _LINE * max(map(len, _columns(loss, canvas))))


def _draw(loss: _Loss, figure: FigureBase, canvas: Canvas, height: float) -> None:
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, canvas.width)
    axes.set_ylim(height, 0)
    if canvas.narrow:
        _draw_narrow(loss, axes, canvas)
        return
    scale, first = canvas.scale, _NAME * canvas.scale
    column = (canvas.width - first - 14 * scale) / len(loss.places)
    head = _head(loss, canvas)
    row = min((height - head - 8 * scale) / len(loss.rows), 2.2 * _ROW * scale)
    for index, lines in enumerate(_columns(loss, canvas)):
        for number, line in enumerate(reversed(lines)):
            axes.text(first + index * column, head - (10 + _LINE * number) * scale, line, va="center",
                      fontsize=canvas.font(10.5), fontweight="bold")
    axes.plot([0, canvas.width], [head - scale, head - scale], color=canvas.paint.text, linewidth=1.2 * scale)
    for index, (point, trial, shares) in enumerate(loss.rows):
        top = head + index * row
        _row_name(loss, axes, canvas, point, trial, top + row / 2, row)
        for number, share in enumerate(shares):
            _bar(loss, axes, canvas, point, share, (first + number * column, top, column, row))
        axes.plot([0, canvas.width], [top + row] * 2, color=canvas.paint.grid, linewidth=0.8 * scale)


def _row_name(loss: _Loss, axes: Axes, canvas: Canvas, point: PointSummary, trial: Trial, middle: float,
              row: float) -> None:
    size = canvas.font(12, row / 2.1)
    marks = letters(trial.verdicts)
    offered = rate(trial.offered_pps, loss.group.role.rate_unit)
    name = loss.group.heading(loss.material, point, (_NAME - 12) * canvas.scale, size)
    axes.text(0, middle - size * 0.62, name, va="center", fontsize=size, fontweight="bold")
    axes.text(0, middle + size * 0.62, f"{percent(trial.loss_ratio, 1)} lost of {offered}  {marks}".rstrip(),
              va="center", fontsize=size * 0.88, color=canvas.paint.muted)


def _bar(loss: _Loss, axes: Axes, canvas: Canvas, point: PointSummary, share: float,
         place: tuple[float, float, float, float]) -> None:
    x, top, width, row = place
    text = "0" if share == 0 else percent(share, 2 if share < 0.1 else 1).removesuffix(" %")
    paint, scale, size = canvas.paint, canvas.scale, canvas.font(11, row)
    length = (width - 62 * scale) * share / loss.largest if loss.largest > 0 else 0.0
    colour = paint.series(loss.material.look(point).colour)
    if share > 0:
        axes.barh(top + row / 2, max(length, 1.5 * scale), left=x, height=min(row * 0.55, 20 * scale), color=colour,
                  linewidth=0)
    axes.text(x + (length + 6 * scale if share > 0 else 0), top + row / 2, text, va="center", fontsize=size,
              color=paint.text if share > 0 else paint.muted)


def _draw_narrow(loss: _Loss, axes: Axes, canvas: Canvas) -> None:
    y, scale = 0.0, canvas.scale
    for point, trial, shares in loss.rows:
        marks = letters(trial.verdicts)
        behind = f"{percent(trial.loss_ratio, 1)} {marks}".rstrip()
        name = loss.group.heading(loss.material, point, canvas.width - 4, canvas.font(12), behind)
        axes.text(0, y + 14 * scale, name, va="center", fontsize=canvas.font(12), fontweight="bold")
        for index, (place, share) in enumerate(_seen(loss, shares) or [("nothing was lost", 0.0)]):
            top = y + (26 + 18 * index) * scale
            axes.text(0, top + 8 * scale, one_line(place, 22), va="center", fontsize=canvas.font(10.5),
                      color=canvas.paint.muted)
            if share > 0:
                _bar(loss, axes, canvas, point, share, (158 * scale, top, canvas.width - 160 * scale, 17 * scale))
        y += (34 + 18 * max(1, len(_seen(loss, shares)))) * scale
