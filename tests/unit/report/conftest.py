# SPDX-License-Identifier: Apache-2.0
"""Simulated runs and their pages, made once: drawing takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report import write_report
from harness.report.charts.catalogue import KINDS
from harness.report.summarise import PointSummary, summarise
from harness.rundata import RunData, load_run
from tests.unit.report.hostile import poison_run
from tests.unit.report.synthetic import MODELS, make_run


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated run."""
    return make_run(tmp_path_factory.mktemp("report"), repeat=2)


@pytest.fixture(scope="session")
def run(run_dir: Path) -> RunData:
    """The simulated run, read."""
    return load_run(run_dir)


@pytest.fixture(scope="session")
def points(run: RunData) -> tuple[PointSummary, ...]:
    """Its points, summarised."""
    return summarise(run)


@pytest.fixture(scope="session")
def page(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its report's text."""
    return write_report([run_dir], tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run by somebody malicious."""
    folder = make_run(tmp_path_factory.mktemp("hostile"), repeat=1, models=MODELS[4:])
    poison_run(folder)
    return write_report([folder], tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def few_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of charts, for tests that are about something else: drawing takes most of a page's time."""
    for kind in set(KINDS) - {"throughput", "scaling"}:
        monkeypatch.setitem(KINDS, kind, (lambda material: [], KINDS[kind][1]))
