# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: its tables, filters and links, paper, and hostile runs. What it has in common with
every page is in test_pages.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
Open = Callable[..., Page]

def column(page: Page, title: str) -> list[str]:
    """Texts of a column of the table of trials as shown."""
    return page.evaluate("""title => {
      const section = document.querySelector('section.trials');
      const index = Array.from(section.querySelectorAll('thead th')).findIndex(th => th.textContent.startsWith(title));
      return Array.from(section.querySelectorAll('tbody tr')).map(row => row.cells[index].textContent);
    }""", title)


def of_points(page: Page, name: str) -> Locator:
    """The filter of points by this name."""
    return page.get_by_role("form", name="Points shown in this page").get_by_label(name)


def points_shown(page: Page) -> set[str]:
    """Points in the summary that can be seen."""
    return set(page.locator("table.summary tbody tr:visible .who").all_inner_texts())


def numbers(texts: list[str]) -> list[float]:
    """The numbers among the texts."""
    return [float(text.replace(",", "")) for text in texts if text != "n/a"]



def test_the_script_writes_the_rows_as_they_were(open_page: Open, report: Path) -> None:
    plain = open_page(report, java_script_enabled=False)
    before = plain.locator("section.trials tbody").inner_text()
    expect(plain.locator("noscript")).to_be_visible()
    expect(plain.locator(".trials .controls")).to_be_hidden()
    expect(plain.locator("#filter")).to_be_hidden()
    live = open_page(report)
    expect(live.locator("section.trials.live")).to_have_count(1)
    assert live.locator("section.trials tbody").inner_text() == before


def test_sorting_by_click_and_by_keyboard(open_page: Open, report: Path) -> None:
    page = open_page(report)
    asked = page.get_by_role("button", name="Asked")
    cell = page.locator("section.trials thead th").nth(4)
    asked.click()
    assert numbers(column(page, "Asked")) == sorted(numbers(column(page, "Asked")))
    expect(cell).to_have_attribute("aria-sort", "ascending")
    asked.focus()
    page.keyboard.press("Enter")
    shown = numbers(column(page, "Asked"))
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == 1480.0
    expect(cell).to_have_attribute("aria-sort", "descending")
    expect(page.locator("section.trials thead th[aria-sort]")).to_have_count(1)


def test_missing_values_come_last_either_way(open_page: Open, report: Path) -> None:
    page = open_page(report)
    button = page.get_by_role("button", name="p99")
    for _ in range(2):
        button.click()
        texts = column(page, "p99")
        assert texts[0] != "n/a"
        assert texts[-1] == "n/a"
        assert "n/a" not in texts[: len(numbers(texts))]
    assert page.locator("section.trials td.missing").first.get_attribute("title")


def test_filters_and_pages(open_page: Open, report: Path) -> None:
    page = open_page(report)
    count = page.get_by_role("status")
    expect(count).to_contain_text("Trials 1 to 100 of")
    page.get_by_role("button", name="Next").click()
    assert column(page, "Trial")[0] == "101"
    page.get_by_label("Phase").select_option("load")
    assert set(column(page, "Phase")) == {"load"}
    expect(count).to_contain_text("found among")
    page.get_by_label("Find").fill("dpdk")
    assert {text.split(",")[0] for text in column(page, "Point")} == {"dpdk"}
    page.get_by_label("Phase").select_option("")
    page.get_by_label("Find").fill("")
    page.get_by_label("Verdict").select_option("repeated")
    assert all("repeated" in text for text in column(page, "Verdicts"))
    page.get_by_label("Find").fill("no such words")
    expect(count).to_contain_text("No trial matches")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()


def test_a_polling_core_is_never_a_plain_percentage(open_page: Open, report: Path) -> None:
    page = open_page(report)
    page.get_by_label("Find").fill("dpdk")
    assert all(text.startswith("polls") or text == "n/a" for text in column(page, "Busiest"))


def test_links_lead_to_points_and_verdicts(open_page: Open, report: Path) -> None:
    page = open_page(report)
    page.locator("#summary").scroll_into_view_if_needed()
    page.get_by_role("link", name="degraded").click()
    assert page.evaluate("location.hash") == "#verdict-degraded"
    expect(page.locator("#verdict-degraded")).to_be_in_viewport()
    page.goto(f"{report.as_uri()}#point-xdp-1c-64b")
    expect(page.locator("#point-xdp-1c-64b")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_series_have_contrast(open_page: Open, report: Path, scheme: str) -> None:
    page = open_page(report, color_scheme=scheme)
    ratios = page.evaluate("""() => {
      const style = getComputedStyle(document.documentElement);
      const channel = value => (value /= 255) <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
      const luminance = name => {
        const hex = style.getPropertyValue(name).trim();
        const [r, g, b] = [1, 3, 5].map(at => channel(parseInt(hex.slice(at, at + 2), 16)));
        return .2126 * r + .7152 * g + .0722 * b;
      };
      const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
        return (x + .05) / (y + .05); };
      const found = {};
      for (const name of ['--text', '--muted', '--link']) found[name] = ratio(name, '--surface') / 4.5;
      for (const tone of ['bad', 'warn', 'info']) found[tone] = ratio(`--${tone}`, `--${tone}-tint`) / 4.5;
      for (let i = 1; i <= 8; i++) found[`s${i}`] = ratio(`--s${i}`, '--surface') / 3;
      return found;
    }""")
    assert {name: ratio for name, ratio in ratios.items() if ratio < 1} == {}


def test_a_phone_gets_readable_charts(open_page: Open, report: Path) -> None:
    page = open_page(report, viewport={"width": 375, "height": 800})
    expect(page.locator(".wide").first).to_be_hidden()
    sizes = page.evaluate("""() => Array.from(document.querySelectorAll('.narrow svg text')).map(
      text => text.getBoundingClientRect().height)""")
    assert len(sizes) > 50
    assert page.evaluate("""() => Math.min(...Array.from(document.querySelectorAll('.narrow svg')).map(
      svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))""") > 0.9


def test_chart_text_stays_inside(open_page: Open, report: Path) -> None:
    for width in (375, 1280):
        page = open_page(report, viewport={"width": width, "height": 800})
        outside = page.evaluate("""() => Array.from(document.querySelectorAll('svg.chart')).flatMap(svg => {
          const frame = svg.getBoundingClientRect();
          return Array.from(svg.querySelectorAll('text')).filter(text => {
            const box = text.getBoundingClientRect();
            return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1 ||
                                 box.top < frame.top - 2 || box.bottom > frame.bottom + 2);
          }).map(text => text.textContent);
        })""")
        assert outside == []


def test_paper_opens_what_is_closed(open_page: Open, report: Path) -> None:
    page = open_page(report)
    opened, every = page.locator("details[open]").count(), page.locator("details").count()
    assert opened < every, "something is closed"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details[open]").count() == every
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == opened
    page.emulate_media(media="print")
    expect(page.locator("nav")).to_be_hidden()
    assert len(page.pdf(format="A4")) > 50_000


def test_paper_holds_the_trials_that_no_chart_shows(open_page: Open, report: Path) -> None:
    page = open_page(report)
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(page.locator(".on-paper")).to_be_visible()
    assert set(column(page, "Phase")) == {"ceiling", "latency", "load"}
    assert len(column(page, "Phase")) > 50
    boxes = page.evaluate("""() => Array.from(document.querySelectorAll('section.trials thead th'))
      .filter(th => th.offsetParent !== null).map(th => th.textContent.trim())""")
    assert "Phase" in boxes
    assert "Repeat #" not in boxes
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert "search" in column(page, "Phase")
    page.get_by_label("Phase").select_option("search")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert set(column(page, "Phase")) == {"search"}


def test_ten_thousand_trials_are_one_small_file(open_page: Open, large_report: Path) -> None:
    assert large_report.stat().st_size < 5 << 20
    page = open_page(large_report)
    expect(page.get_by_role("status")).to_contain_text("of 10,000")
    page.get_by_role("button", name="Forwarded").click()
    shown = numbers(column(page, "Forwarded"))
    assert shown == sorted(shown)
    assert len(shown) == 100


def test_points_are_filtered_in_every_table(open_page: Open, report: Path) -> None:
    page = open_page(report)
    every = points_shown(page)
    of_points(page, "Stack").select_option("linux-udp")
    shown = points_shown(page)
    assert shown
    assert shown < every
    assert all(name.startswith("linux-udp") for name in shown)
    expect(page.locator("#filtered")).to_have_text("Tables show 3 of 6 points; charts show all.")
    of_points(page, "Cores").select_option("2")
    assert points_shown(page) == {"linux-udp reuseport=true"}
    assert set(column(page, "Point")) == {"linux-udp reuseport=true, 2 cores"}
    assert page.locator("section[aria-labelledby='loss'] table.loss tbody tr:visible").count() == 1
    of_points(page, "Stack").select_option("xdp")
    expect(page.locator("#filtered")).to_contain_text("No point matches")
    expect(page.get_by_text("No trial matches")).to_be_visible()
    of_points(page, "Cores").select_option("")
    assert points_shown(page) == {"xdp"}


def test_a_link_to_a_filtered_point_shows_it(open_page: Open, report: Path) -> None:
    page = open_page(report)
    row = page.locator("#point-xdp-1c-64b")
    link = row.get_by_role("link", name="Link to xdp, 1 core (id 1), 64 B")
    link.click()
    assert page.evaluate("location.hash") == "#point-xdp-1c-64b"
    of_points(page, "Stack").select_option("dpdk")
    expect(row).to_be_hidden()
    page.goto(f"{report.as_uri()}#summary")
    page.evaluate("location.hash = 'point-xdp-1c-64b'")
    expect(row).to_be_in_viewport()
    assert of_points(page, "Stack").input_value() == ""


def test_runs_side_by_side(open_page: Open, two_runs: Path) -> None:
    page = open_page(two_runs)
    table = page.get_by_role("table", name="Runs side by side")
    assert table.locator("thead th").count() == 3
    row = table.get_by_role("row", name="xdp echo · 1 core · 64 B")
    expect(row).to_contain_text("NDR")
    expect(table.get_by_role("row", name="dpdk echo · 1 core")).to_contain_text("not in this run")
    row.get_by_role("link").nth(1).click()
    expect(page.locator("#r2-point-xdp-1c-64b")).to_be_in_viewport()
    of_points(page, "Stack").select_option("xdp")
    assert points_shown(page) == {"xdp"}


def test_what_would_change_the_answer_comes_first(open_page: Open, report: Path) -> None:
    headings = open_page(report).get_by_role("heading", level=2).all_inner_texts()
    assert headings[:2] == ["What would change the answer", "Summary"]


def test_everything_is_reached_by_keyboard(open_page: Open, report: Path) -> None:
    page = open_page(report)
    unnamed = page.evaluate("""() => {
      const named = element => element.textContent.trim() || element.getAttribute('aria-label') ||
        (element.labels && element.labels.length);
      return Array.from(document.querySelectorAll('a, button, input, select, summary, [tabindex]'))
        .filter(element => !named(element)).map(element => element.outerHTML);
    }""")
    assert unnamed == []
    assert page.locator("section.trials thead th").count() == page.locator("section.trials thead th button").count()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"


def test_hostile_runs_are_inert(open_page: Open, hostile_report: Path) -> None:
    page = open_page(hostile_report)
    for name in ("Point", "Verdicts"):
        page.get_by_role("button", name=name).click()
    page.get_by_label("Find").fill("<script>")
    page.locator("[data-control='point']").select_option(index=1)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert "<script>window.pwned=1</script>" in page.locator("body").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
