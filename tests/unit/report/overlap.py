# SPDX-License-Identifier: Apache-2.0
"""Which texts of a figure lie over one another, or outside of it, by matplotlib's own extents."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from harness.report.charts.canvas import Canvas, Picture, drawing, drawn
from harness.report.charts.files import PNG_SCALE, SIZES, compose

#: Pixels that two boxes may share: their edges are the font's ascent and descent, not ink.
_TOUCH = 1.5 * PNG_SCALE


def composed(picture: Picture, canvas: Canvas, about: str) -> list[str]:
    """Overlaps of a picture as drawn for a canvas; ``about``: what stands below it, where it is a file."""
    with drawing(canvas):
        return overlaps(compose(picture, canvas, about) if canvas.name in SIZES else drawn(picture, canvas))


def overlaps(figure: Figure) -> list[str]:
    """A line for each pair of visible texts that overlap and each text that leaves the figure."""
    figure.set_dpi(72 * PNG_SCALE)  # as PNGs are made; at screen resolution letters are spaced by whole pixels
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = [(text, box) for text in _texts(figure) if (box := _box(text, renderer)) is not None]
    frame = figure.bbox
    found = [f"outside: {text.get_text()!r}" for text, box in texts
             if box.x0 < frame.x0 - 1 or box.x1 > frame.x1 + 1 or box.y0 < frame.y0 - 1 or box.y1 > frame.y1 + 1]
    texts.sort(key=lambda entry: entry[1].x0)
    for index, (one, box) in enumerate(texts):
        for other, next_box in texts[index + 1:]:
            if next_box.x0 >= box.x1 - _TOUCH:
                break
            if min(box.y1, next_box.y1) - max(box.y0, next_box.y0) > _TOUCH:
                found.append(f"over one another: {one.get_text()!r} and {other.get_text()!r}")
    return found


def _texts(figure: Figure) -> list[Text]:
    """Those that are drawn; of tick labels those within their axis."""
    hidden: set[int] = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            shown = {id(tick) for tick in axis._update_ticks()} if axes.axison else set()
            for tick in (*axis.majorTicks, *axis.minorTicks):
                for label in (tick.label1, tick.label2):
                    if id(tick) not in shown:
                        hidden.add(id(label))
    return [text for text in figure.findobj(Text) if id(text) not in hidden and _drawn(text)]


def _drawn(text: Artist) -> bool:
    return bool(isinstance(text, Text) and text.get_visible() and text.get_text().strip()
                and (text.axes is None or text.axes.get_visible()))


def _box(text: Text, renderer: object) -> Bbox | None:
    """Of the text itself, without an annotation's patch and arrow."""
    box = Text.get_window_extent(text, renderer) if isinstance(text, Annotation) else text.get_window_extent(renderer)
    return box if box.width > 0 and box.height > 0 else None
