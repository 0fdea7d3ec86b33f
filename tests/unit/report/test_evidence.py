# SPDX-License-Identifier: Apache-2.0
"""Anomalies, drop reasons and the cost of measuring in the report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.records import Anomaly, DropReasons, Frequency, Phase
from harness.report.anomalies import anomaly_rows
from harness.report.dropreasons import drop_reason_table
from harness.report.identity import looks
from harness.report.method import method
from harness.report.page import render
from harness.report.summarise import PointSummary, summarise
from harness.report.tables import PointName, name_points
from harness.rundata import RunData
from harness.store import ANOMALIES


def named(points: tuple[PointSummary, ...]) -> dict[str, PointName]:
    return name_points(points, looks(p.plan for p in points), "point-")


def with_anomaly(run: RunData, path: Path, folder: str) -> RunData:
    anomaly = Anomaly(kind="dead-stack", what="<b>it</b> died", trial=4, folder=folder)
    first = run.outcomes[0].model_copy(update={"anomaly": anomaly})
    return replace(run, path=path, outcomes=(first, *run.outcomes[1:]))


def test_an_anomaly_links_to_its_evidence_from_where_the_page_lies(run: RunData, tmp_path: Path,
                                                                   few_charts: None) -> None:
    folder = tmp_path / "a run" / ANOMALIES / "p-0-dead-stack"
    folder.mkdir(parents=True)
    (folder / "README.txt").write_text("what happened")
    page = render([with_anomaly(run, tmp_path / "a run", folder.name)], folder=tmp_path / "pages")
    assert 'href="../a%20run/logs/anomalies/p-0-dead-stack/README.txt"' in page
    assert "&lt;b&gt;it&lt;/b&gt; died" in page


@pytest.mark.parametrize("folder", ["../../secret", "..", "missing", "javascript:alert(1)", "link", "/etc", ""])
def test_a_link_never_leads_out_of_the_run(run: RunData, tmp_path: Path, folder: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "README.txt").write_text("not for the report")
    (tmp_path / "run" / ANOMALIES).mkdir(parents=True)
    (tmp_path / "run" / ANOMALIES / "link").symlink_to(tmp_path / "secret")
    points = summarise(with_anomaly(run, tmp_path / "run", folder))
    (row,) = anomaly_rows(tmp_path / "run", points, named(points), tmp_path)
    assert row.href == ""
    assert row.evidence == (f"{ANOMALIES}/{folder}" if folder else "none was kept")


def test_drop_reasons_stand_beside_the_places(run: RunData) -> None:
    points = summarise(run)
    assert drop_reason_table(points, named(points)) is None
    chosen = [t for t in run.trials if t.phase is Phase.LOAD][:2]
    told = [DropReasons(counts={"SOCKET_RCVBUFF": 1200, "NO_SOCKET": 3}, missed=2), DropReasons(reason="no clang")]
    made = [t.model_copy(update={"number": 100_000 + i, "phase": Phase.DIAGNOSE, "drop_reasons": told[i], "lost": 1203,
                                 "losses": {"socket buffer": 1200}, "unexplained": 3}) for i, t in enumerate(chosen)]
    points = summarise(replace(run, trials=(*run.trials, *made)))
    table = drop_reason_table(points, named(points))
    assert table is not None
    cells = sorted((row[1][2:] for row in table.rows), key=lambda pair: pair[1].main)
    assert cells[0][0].subs == ("socket buffer: 1,200", "unexplained: 3")
    assert cells[0][1].main == "1,203"
    assert cells[0][1].subs == ("SOCKET_RCVBUFF: 1,200", "NO_SOCKET: 3", "could not be looked at: 2")
    assert (cells[1][1].main, cells[1][1].why) == ("n/a", "no clang")
    plain = summarise(run)
    assert [p.loads for p in points] == [p.loads for p in plain], "no number of the run is taken from the diagnosis"


def test_what_measuring_costs_is_the_largest_share_seen(run: RunData) -> None:
    first = next(t for t in run.trials if t.cpu is not None)
    assert first.cpu is not None
    cost = first.cpu.model_copy(update={"sampling_cost": 0.0041, "probe_cost": 0.0012})
    dear = first.model_copy(update={"cpu": cost})
    said = dict(pair for facts in method(replace(run, trials=(*run.trials, dear)), ()).settings for pair in facts.pairs)
    assert re.search(r"at most 0.41\s% of one DUT core .*at most 0.12\s%", said["Cost of measuring"])
    none = [t.model_copy(update={"cpu": None}) for t in run.trials]
    said = dict(pair for facts in method(replace(run, trials=tuple(none)), ()).settings for pair in facts.pairs)
    assert said["Cost of measuring"] == "n/a: no trial recorded it"


def test_the_frequency_is_told_or_why_there_is_none(run: RunData) -> None:
    def said(source: str, hz: float | None, throttled: int | None) -> str | None:
        told = []
        for trial in run.trials:
            copy = trial.model_copy(deep=True)
            if copy.cpu is not None:
                copy.cpu.frequency_source = source
                for core in (core for core in copy.cpu.cores if core.given):
                    core.frequency = None if hz is None else Frequency(mean_hz=hz, least_hz=hz, most_hz=hz)
                    core.throttled = throttled
            told.append(copy)
        facts = method(replace(run, trials=tuple(told)), ()).settings
        return dict(pair for part in facts for pair in part.pairs).get("CPU frequency")

    assert said("", None, None) is None, "a run that was made before it was recorded"
    why = "not available: /dev/cpu/*/msr: Permission denied"
    assert said(why, None, None) == f"{why}; throttling: not available"
    known = said("APERF/MPERF", 2.4e9, 0)
    assert known == ("cores of the stacks: 2.40 to 2.40 GHz, means of trials (APERF/MPERF); throttled for heat 0 times")
