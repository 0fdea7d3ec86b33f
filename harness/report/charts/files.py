# SPDX-License-Identifier: Apache-2.0
"""Charts as files for articles and slides: title above, how to read it and what it was measured on below, outlined
letters in SVG, PNG at twice the size, the numbers as CSV beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from harness.errors import UsageError
from harness.report.charts.canvas import Canvas, Picture, drawing, new_figure, wrapped
from harness.report.facts import headline_facts
from harness.report.identity import clean, one_line
from harness.report.numbers import plural
from harness.report.palette import theme
from harness.rundata import RunData
from harness.store import write_atomically

#: A slide is 16:9; for the web a chart is as high as it needs to be.
SIZES = {"web": Canvas("web", 1040), "slide": Canvas("slide", 1280, 720, scale=1.25)}
#: Pixels of a PNG for one of the canvas.
PNG_SCALE = 2
_MARGIN, _TITLE, _SMALL = 18.0, 17.0, 10.5
_MOST_CAPTION = 4


@dataclass(frozen=True)
class Written:
    """A chart's files: one a format, theme and size, and its data."""

    picture: Picture
    files: tuple[Path, ...]
    data: tuple[Path, ...]


def provenance(run: RunData) -> str:
    """What every chart says about where its numbers are from: host, kernel, date, repeats, run."""
    plan, info = run.plan, run.info
    names = [host.name for host in plan.hosts[:4]] or list(info.hosts)[:1]
    hosts = []
    for name in names:
        facts = info.hosts.get(name)
        found = headline_facts(facts) if isinstance(facts, dict) else {}
        said = [found.get("CPU", ""), f"kernel {found['Kernel']}" if "Kernel" in found else ""]
        hosts.append(", ".join(one_line(text, 70) for text in [one_line(name, 40), *said] if text))
    wire = "virtual wire (lab)" if any(wire.virtual for wire in plan.wires) else "wires"
    parts = [f"DUT {'; '.join(hosts)}" if hosts else "", f"testbed {one_line(plan.testbed, 40)}, {wire}",
             one_line(info.started_at[:10], 10), plural(plan.measure.repeat, "repeat"),
             f"run {one_line(info.run_id, 80)}", f"netstack-harness {one_line(info.harness_version, 20)}"]
    state = [] if info.state == "complete" else [f"the run is {one_line(info.state, 20)}"]
    return " · ".join(part for part in [*parts, *state] if part)


def compose(picture: Picture, canvas: Canvas, about: str) -> Figure:
    """The whole picture with title, caption and where it is from. Only within ``drawing(canvas)``."""
    scale, width = canvas.scale, canvas.width
    room = width - 2 * _MARGIN * scale
    title = wrapped(picture.title, room, _TITLE * scale, 2, bold=True)
    caption = wrapped(picture.caption, room, _SMALL * scale, _MOST_CAPTION)
    origin = wrapped(about, room, _SMALL * scale, 3)
    head = scale * (_MARGIN + 1.3 * _TITLE * len(title) + 8)
    foot = scale * (10 + 1.45 * _SMALL * (len(caption) + len(origin)) + _MARGIN)
    inner = Canvas(canvas.name, width - 2 * _MARGIN * scale, None if canvas.height is None else
                   canvas.height - head - foot, canvas.narrow, scale, canvas.paint)
    body = inner.height if inner.height is not None else picture.height(inner)
    total = head + body + foot
    figure = new_figure(width, total)
    figure.patch.set_facecolor(canvas.paint.surface)
    edge = _MARGIN * scale
    cells = GridSpec(3, 3, figure, height_ratios=[head, body, foot], width_ratios=[edge, inner.width, edge], hspace=0,
                     wspace=0)
    picture.draw(figure.add_subfigure(cells[1, 1]), inner, body)
    left = edge / width
    for index, line in enumerate(title):
        figure.text(left, 1 - scale * (_MARGIN + 1.3 * _TITLE * index) / total, line, fontsize=_TITLE * scale,
                    fontweight="bold", va="top")
    for index, line in enumerate([*caption, *origin]):
        bottom = _MARGIN + 1.45 * _SMALL * (len(caption) + len(origin) - index - 1)
        figure.text(left, scale * bottom / total, line, fontsize=_SMALL * scale, color=canvas.paint.muted,
                    va="bottom", fontstyle="normal")
    return figure


def _svg(figure: Figure, picture: Picture, key: str) -> str:
    """SVG with outlined letters, so that it looks the same everywhere, and its words as title and description."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": key}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(stream.getvalue())
    root.set("role", "img")
    for tag, text in (("desc", picture.description), ("title", picture.title)):
        element = ElementTree.Element(f"{{http://www.w3.org/2000/svg}}{tag}")
        element.text = clean(text, 4000)
        root.insert(0, element)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=72 * PNG_SCALE, metadata={"Software": "netstack-harness"})
    return stream.getvalue()


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV (RFC 4180); a value that does not exist is empty. What a spreadsheet would run is quoted with an
    apostrophe: a run directory may come from anybody."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows([{name: _cell(row.get(name)) for name in columns} for row in rows])
    return stream.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t") else value
    return "" if value is None else value


def write_charts(pictures: Sequence[Picture], about: str, folder: Path, *, formats: Sequence[str],
                 themes: Sequence[str], sizes: Sequence[str]) -> Iterator[Written]:
    """Write every chart in every format, theme and size, one after the other, and say which files they became.
    ``about``: what each says below it about where its numbers are from, such as :func:`provenance`.

    Raises UsageError when the folder cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            files = tuple(_write(picture, about, folder, formats, themes, sizes))
            data = tuple(_write_data(picture, folder))
            yield Written(picture, files, data)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"{folder}: charts cannot be written: {why}; name another directory") from error


def _write(picture: Picture, about: str, folder: Path, formats: Sequence[str], themes: Sequence[str],
           sizes: Sequence[str]) -> Iterator[Path]:
    for size in sizes:
        for name in themes:
            plain = SIZES[size]
            canvas = Canvas(plain.name, plain.width, plain.height, plain.narrow, plain.scale, theme(name))
            with drawing(canvas):
                figure = compose(picture, canvas, about)
                for form in formats:
                    file = folder / f"{picture.name}.{size}.{name}.{form}"
                    if form == "svg":
                        write_atomically(file, _svg(figure, picture, file.stem))
                    else:
                        write_atomically(file, _png(figure))
                    yield file


def _write_data(picture: Picture, folder: Path) -> Iterator[Path]:
    file = folder / f"{picture.name}.csv"
    write_atomically(file, table(picture.data))
    yield file
    if picture.references:
        file = folder / f"{picture.name}.published.csv"
        write_atomically(file, table(picture.references))
        yield file
