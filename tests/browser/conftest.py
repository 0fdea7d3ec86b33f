# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, and reports of simulated runs for it to open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from harness.report import write_report
from tests.unit.report.hostile import poison_run
from tests.unit.report.synthetic import MODELS, make_run

CHROMIUM = "/usr/bin/chromium"
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser, started once."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"no Chromium at {CHROMIUM} (Debian: apt-get install chromium; Ubuntu's package is only a snap: "
                    "put one there, or leave these tests out with -m 'not browser')")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a file in a new context. Console messages, page errors and requests other than for the file itself end up
    in ``page.troubles`` and must be none when the test ends."""
    contexts = []
    troubles: list[str] = []

    def opener(file: Path, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: troubles.append(f"request: {request.url}")
                if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        return page

    yield opener
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the simulated run, with enough trials for several pages of its table."""
    folder = make_run(tmp_path_factory.mktemp("run"), repeat=2)
    return write_report([folder], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One report of two simulated runs that have some points in common."""
    results = tmp_path_factory.mktemp("two")
    folders = [make_run(results, run_id="20251122-200000-simulated", repeat=2, models=MODELS[:5]),
               make_run(results, run_id="20251123-200000-simulated", repeat=1, seed=8, models=MODELS[2:4])]
    return write_report(folders, tmp_path_factory.mktemp("page") / "two.html")


@pytest.fixture(scope="session")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 10,000 trials."""
    folder = make_run(tmp_path_factory.mktemp("large"), repeat=1, models=MODELS[3:5], pad_trials=10_000)
    return write_report([folder], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that somebody poisoned."""
    folder = make_run(tmp_path_factory.mktemp("hostile"), repeat=1, models=MODELS[4:])
    poison_run(folder)
    return write_report([folder], tmp_path_factory.mktemp("page") / "report.html")
