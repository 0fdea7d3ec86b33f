# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, and reports of simulated runs for it to open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from harness.cli import invoke
from harness.records import RunInfo
from harness.report import write_report
from tests.unit.analysis.runs import make
from tests.unit.report.hostile import poison_run
from tests.unit.report.synthetic import MODELS, make_plan, make_run, run_info
from tests.unit.test_capacity import MODELS as CAPACITIES
from tests.unit.test_trend import history

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


def written(words: list[str], file: Path) -> Path:
    """A page as a command writes it."""
    assert invoke([*words, "--html", str(file)]) == 0
    return file


@pytest.fixture(scope="session")
def plan_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capacity plan with a scaling table, a crossing, and every kind of remark."""
    folder = make_run(tmp_path_factory.mktemp("plan"), repeat=2, models=(*CAPACITIES, *MODELS[5:]))
    return written(["plan", str(folder), "--target", "210k", "--p99", "200us"],
                   tmp_path_factory.mktemp("page") / "plan.html")


@pytest.fixture(scope="session")
def compare_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs against a third: unlike hosts, a failed point, a generator-limited one, one that is worse."""
    def new_kernel(info: RunInfo) -> None:
        info.hosts["dut"]["kernel"]["release"] = "6.19.0-simulated"

    results = tmp_path_factory.mktemp("compare")
    runs = [make(results, "20251122-200000-simulated"),
            make(results, "20251123-200000-simulated", factor=0.8, limited=["xdp"], loss=(0.0, 0.1, 0.0, 0.2, 0.0)),
            make(results, "20251124-200000-simulated", failed={"dpdk": "testpmd did not start"}, info=new_kernel)]
    return written(["compare", *map(str, runs), "--across"], tmp_path_factory.mktemp("page") / "compare.html")


@pytest.fixture(scope="session")
def trend_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history with a regression, another kernel half way, a gap, and a run that is left out."""
    results = tmp_path_factory.mktemp("trend")
    levels: list[float | None] = [100 + n % 3 - (12 if n >= 15 else 0) for n in range(40)]
    levels[7] = None
    hosts = run_info(make_plan(MODELS[:1], 1, 1), "x").hosts
    newer = json.loads(json.dumps(hosts).replace("6.18.0", "6.19.0"))
    history(results, levels, r003={"state": "interrupted"},
            **{f"r{number:03d}": {"hosts": newer} for number in range(25, 40)})
    return written(["trend", "--results", str(results)], tmp_path_factory.mktemp("page") / "trend.html")
