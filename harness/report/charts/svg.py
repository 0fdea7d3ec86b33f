# SPDX-License-Identifier: Apache-2.0
"""matplotlib's SVG made part of a page: the page's fonts and colours (light and dark), no scripts, unique ids.

Colours are drawn as place-holders that no chart uses otherwise, and become CSS variables in the text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.identity import COLOURS, clean

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
WIDE, NARROW = 1040, 340

TEXT, MUTED, GRID, SURFACE = "#010203", "#010204", "#010205", "#010206"
_TOKENS = {TEXT: "var(--text)", MUTED: "var(--muted)", GRID: "var(--grid)", SURFACE: "var(--surface)"}
_TOKENS |= {f"#0a0b{index:02x}": f"var(--s{index})" for index in range(1, COLOURS + 1)}
_TOKEN = re.compile("|".join(_TOKENS))
_FONT = re.compile(r"font(?:-family)?:\s*[^;\"]*;?\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)px")

_RC: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 12,
    "axes.edgecolor": MUTED, "axes.labelcolor": TEXT, "axes.labelsize": 12, "axes.titlesize": 12.5,
    "axes.linewidth": 0.8, "axes.titley": 1.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.titlelocation": "left",
    "axes.unicode_minus": True, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT, "xtick.labelsize": 11, "ytick.labelsize": 11, "grid.color": GRID, "grid.linewidth": 0.8,
    "text.color": TEXT, "legend.frameon": False, "legend.fontsize": 11.5, "lines.linewidth": 1.8,
    "lines.markersize": 5, "hatch.linewidth": 0.6, "hatch.color": MUTED, "path.simplify": True,
}


@dataclass(frozen=True)
class Chart:
    """A chart for the page: one drawing for wide screens, one for phones. ``description`` says in words what a
    reader of the picture would take from it."""

    title: str
    caption: str
    description: str
    wide: Markup
    narrow: Markup


def series(colour: int) -> str:
    """The place-holder of a stack's colour (1..COLOURS)."""
    return f"#0a0b{colour:02x}"


@contextmanager
def drawing() -> Iterator[None]:
    """The settings under which figures of the report are made and saved."""
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


def make_chart(key: str, title: str, caption: str, description: str,
               draw: Callable[[bool], Figure]) -> Chart:
    """Draw both widths (``draw`` is told whether it is for a phone) and make them part of the page.

    ``key`` is unique in the page; ids in the drawings begin with it.
    """
    with drawing():
        pictures = [to_inline(draw(narrow), f"{key}-{'n' if narrow else 'w'}", title, description)
                    for narrow in (False, True)]
    return Chart(title, caption, description, pictures[0], pictures[1])


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many CSS pixels."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def grid_lines(axes: Axes, axis: str) -> None:
    """Light lines across one axis ("x" or "y"), and no tick marks."""
    axes.grid(visible=True, axis="x" if axis == "x" else "y")
    axes.tick_params(length=0)


def to_inline(figure: Figure, key: str, title: str, description: str) -> Markup:
    """The figure as an ``<svg role="img">`` element with title and description."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _plain_names(root)
    _localise(root, key)
    _label(root, key, title, description)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))


def _plain_names(root: ElementTree.Element) -> None:
    """HTML knows SVG elements without name spaces; metadata and global styles have no place in a page."""
    for parent in root.iter():
        for child in list(parent):
            if not child.tag.startswith(_SVG) or child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tail = None
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tag = element.tag.removeprefix(_SVG)
        href = element.attrib.pop(f"{_XLINK}href", None)
        if href is not None:
            element.set("href", href)


def _localise(root: ElementTree.Element, key: str) -> None:
    """Ids unique in the page (unused ones dropped), page fonts, colours as CSS variables."""
    used = set(re.findall(r"#([\w.-]+)", " ".join(
        value for element in root.iter() for name, value in element.attrib.items()
        if name == "href" or "url(" in value)))
    for element in root.iter():
        ident = element.attrib.pop("id", None)
        if ident in used:
            element.set("id", f"{key}-{ident}")
        for name, value in element.attrib.items():
            if name == "href":
                value = f"#{key}-{value[1:]}"
            elif "url(#" in value:
                value = value.replace("url(#", f"url(#{key}-")
            element.set(name, _TOKEN.sub(lambda match: _TOKENS[match.group()], value))
        if element.tag == "text" and "style" in element.attrib:
            element.set("style", _text_style(element.attrib["style"]))


def _text_style(style: str) -> str:
    """A text's style without matplotlib's font family; the size stays."""
    size = _SIZE.search(style)
    weight = "font-weight:600;" if re.search(r"font:\s*(bold|[6-9]00)|font-weight:\s*(bold|[6-9]00)", style) else ""
    rest = re.sub(r"font-(size|weight|style):[^;]*;?\s*", "", _FONT.sub("", style))
    return f"font-size:{size.group(1) if size else '12'}px;{weight}{rest}".strip()


def _label(root: ElementTree.Element, key: str, title: str, description: str) -> None:
    view = root.get("viewBox", "0 0 100 100")
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-labelledby": f"{key}-title {key}-desc", "class": "chart"})
    root.text = None
    for tag, text in (("desc", description), ("title", title)):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        element.text = clean(text, 2000)
        root.insert(0, element)
