# SPDX-License-Identifier: Apache-2.0
"""matplotlib's SVG made part of a page: the page's fonts and colours (light and dark), no scripts, unique ids.

Colours are drawn as place-holders that no chart uses otherwise, and become CSS variables in the text.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from harness.report.charts.canvas import PHONE, WIDE, Canvas, Picture, drawing, drawn
from harness.report.identity import clean
from harness.report.palette import variables

SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_TOKENS = variables()
_TOKEN = re.compile("|".join(_TOKENS))
_FONT = re.compile(r"font(?:-family)?:\s*[^;\"]*;?\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)px")


@dataclass(frozen=True)
class Chart:
    """A chart for the page: one drawing for wide screens, one for phones. ``description`` says in words what a
    reader of the picture would take from it."""

    title: str
    caption: str
    description: str
    wide: Markup
    narrow: Markup


def inline(picture: Picture, prefix: str = "") -> Chart:
    """Draw both widths and make them part of the page; ``prefix`` makes the names of several runs' charts unique."""
    key = f"{prefix}{picture.name}"
    wide, narrow = (_inline(picture, canvas, f"{key}-{canvas.name[0]}") for canvas in (WIDE, PHONE))
    return Chart(picture.title, picture.caption, picture.description, wide, narrow)


def _inline(picture: Picture, canvas: Canvas, key: str) -> Markup:
    with drawing(canvas), matplotlib.rc_context({"svg.fonttype": "none"}):
        return to_inline(drawn(picture, canvas), key, picture.title, picture.description)


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
            if not child.tag.startswith(SVG) or child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tail = None
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tag = element.tag.removeprefix(SVG)
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
