# SPDX-License-Identifier: Apache-2.0
"""What every page is made with: templates that escape, style and script in the file, a policy that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import itertools

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness import __version__
from harness.report.identity import clean
from harness.report.palette import css
from harness.resources import resource


def asset(name: str) -> str:
    """A static file's text."""
    return (resource("reports/static") / name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """Content security policy: nothing from anywhere; the one script by its hash; styles only inline."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; "
            "form-action 'none'")


def render_page(template: str, **content: object) -> str:
    """A page of its own, without script, in the report's style; as text that encodes to UTF-8."""
    html: str = environment().get_template(template).render(
        style=Markup(css() + asset("report.css")), version=__version__, **content)
    return html.encode("utf-8", "replace").decode("utf-8")


def environment() -> Environment:
    """Templates escape everything that is not Markup; a name they do not know is an error."""
    made = Environment(loader=FileSystemLoader(resource("reports/templates")), autoescape=True,
                       undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize)
    made.filters["code"] = code
    return made


def code(text: str) -> Markup:
    """A sentence that quotes commands between backticks, as on a terminal, with them as code; the rest is escaped."""
    parts = clean(text, 1_000_000).split("`")
    if len(parts) % 2 == 0:  # one without a partner
        return escape("`".join(parts))
    return Markup("").join(Markup("<code>{}</code>").format(part) if odd else escape(part)
                           for part, odd in zip(parts, itertools.cycle((False, True)), strict=False))


def _finalize(value: object) -> object:
    """Foreign text loses control characters and direction overrides; markup made here stays as it is."""
    return clean(value, 1_000_000) if isinstance(value, str) and not isinstance(value, Markup) else value
