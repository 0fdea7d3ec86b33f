# SPDX-License-Identifier: Apache-2.0
"""What holds for every page that the harness writes, in a real browser: themes, widths, paper, links, keyboard, axe.

The pages are written by the commands. ``open_page`` fails a test on any console message, error or request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
PAGES = ("report", "two_runs", "plan_page", "compare_page", "trend_page")

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
#: Elements that reach beyond the viewport although nothing scrolls them.
STICKING_OUT = """() => Array.from(document.querySelectorAll('main *, footer *')).filter(element => {
  if (element.closest('.scroll, pre, svg, caption, .skip, thead')) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map(element => element.outerHTML.slice(0, 120))"""
OPEN_ALL = "document.querySelectorAll('details').forEach(details => { details.open = true; })"


@pytest.fixture(params=PAGES)
def file(request: pytest.FixtureRequest) -> Path:
    """Each kind of page."""
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_light_and_dark(open_page: Open, file: Path, scheme: str, dark: bool) -> None:
    page = open_page(file, color_scheme=scheme)
    background, *words = page.evaluate("""() => {
      const sum = colour => colour.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
      // Of a chart one text: those on the cells of a heat map have the page's colour.
      const texts = [...document.querySelectorAll('h1, td, li'), ...document.querySelectorAll('.wide svg text')]
        .filter((element, index, all) => !element.closest('svg') || !all[index - 1].closest('svg'));
      return [sum(getComputedStyle(document.body).backgroundColor), ...texts.map(element => {
        const style = getComputedStyle(element);
        return sum(element.closest('svg') ? style.fill : style.color);
      })];
    }""")
    assert len(words) > 5
    assert all((background < word) is dark for word in words)


@pytest.mark.parametrize("width", [320, 375, 820, 961, 1280, 1920])
def test_nothing_overflows(open_page: Open, file: Path, width: int) -> None:
    page = open_page(file, viewport={"width": width, "height": 800})
    page.evaluate(OPEN_ALL)
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(STICKING_OUT) == []


def test_paper_cuts_nothing_off(open_page: Open, file: Path) -> None:
    """On A4, 718 pixels inside Chromium's margins: what scrolls on a screen has to fit, and a PDF can be made."""
    page = open_page(file, viewport={"width": 718, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(OVERFLOW) == 0
    cut = page.evaluate("""() => Array.from(document.querySelectorAll('.scroll')).filter(element =>
      element.offsetParent && getComputedStyle(element).overflowX !== 'visible'
      && element.scrollWidth > element.clientWidth + 1).map(element => element.getAttribute('aria-label'))""")
    assert cut == []
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert re.search(rb"/Type\s*/Page\b", pdf)
    assert len(pdf) > 10_000


def test_links_lead_somewhere_and_ids_are_unique(open_page: Open, file: Path) -> None:
    page = open_page(file)
    lost = page.evaluate("""() => Array.from(document.querySelectorAll('a[href]')).map(a => a.getAttribute('href'))
      .filter(href => !href.startsWith('#') || !document.getElementById(decodeURIComponent(href.slice(1))))""")
    assert lost == []
    twice = page.evaluate("""() => { const seen = new Set();
      return Array.from(document.querySelectorAll('[id]')).map(e => e.id)
        .filter(id => seen.has(id) || !seen.add(id)); }""")
    assert twice == []


def test_the_keyboard_reaches_what_scrolls(open_page: Open, file: Path) -> None:
    page = open_page(file, viewport={"width": 375, "height": 800})
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    expect(page.locator("#main")).to_be_in_viewport()
    page.evaluate(OPEN_ALL)
    stuck = page.evaluate("""() => Array.from(document.querySelectorAll('.scroll')).filter(element =>
      element.scrollWidth > element.clientWidth && !(element.tabIndex === 0 && element.getAttribute('aria-label')))
      .map(element => element.outerHTML.slice(0, 120))""")
    assert stuck == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 375)])
def test_accessibility_by_axe(open_page: Open, file: Path, scheme: str, width: int) -> None:
    """axe-core's rules (WCAG 2.2 A and AA, best practice) with every detail open."""
    page = open_page(file, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.evaluate(OPEN_ALL)
    result = Axe().run(page).response
    said = [(found["id"], found["help"], [node["html"][:200] for node in found["nodes"]][:3])
            for found in result["violations"]]
    assert said == []
