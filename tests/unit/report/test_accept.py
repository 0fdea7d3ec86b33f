# SPDX-License-Identifier: Apache-2.0
"""The report of role accept: connections per second everywhere, no frames, no line rate; what workers did for each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.report import write_report
from harness.report.identity import looks
from harness.report.summarise import PointSummary, summarise
from harness.report.tables import latency_table, name_points
from harness.report.work import work_table
from harness.rundata import load_run
from harness.store import RUN, TRIALS
from tests.unit.report.synthetic import MODELS, make_run


def as_accept(folder: Path) -> Path:
    """The simulated run, as if its frames had been connections."""
    run = json.loads((folder / RUN).read_text())
    plan = run["plan"]
    plan |= {"role": "accept", "scenario": "tcp-accept", "generator": plan["generator"] | {"kind": "h2load"}}
    plan["measure"]["latency_pps"] = 0.0
    for point in plan["points"]:
        point |= {"role": "accept", "frame_bytes": 0, "line_rate_pps": 0.0, "stack": "linux-tcp",
                  "label": point["label"].replace("udp", "tcp")}
        for direction in point["directions"]:
            direction["flows"]["l4"] = "tcp"
    for ceiling in run["ceilings"]:
        ceiling["frame_bytes"] = 0
    run["generator"] = {"kind": "h2load", "version": "nghttp2/1.52.0"}
    run["scenario_text"], run["notes"], plan["notes"] = "role: accept\n", [], []
    (folder / RUN).write_text(json.dumps(run))
    trials = [json.loads(line) for line in (folder / TRIALS).read_text().splitlines()]
    (folder / TRIALS).write_text("".join(json.dumps(connections(trial)) + "\n" for trial in trials))
    return folder


def connections(trial: dict[str, Any]) -> dict[str, Any]:
    """What a TCP client and linux-tcp say of a trial. One worker took three of four connections."""
    done = trial["received"]
    trial["handshake"] = {"min_ns": 20_000, "max_ns": 4_170_000, "mean_ns": 98_300, "sd_ns": 40_000}
    trial["losses"] = {"listen queue": trial["lost"]} if trial["lost"] else {}
    trial["counters"] = {
        "stack": {"accepted": done, "completed": done, "cpu_ns": 15_500 * done, "wait_ns": 40_000 * done,
                  "voluntary_switches": done, "involuntary_switches": done // 4, "wakeups": done // 2,
                  "kernel.tcpext.ListenOverflows": 1234},
        "workers": [{"accepted": 3 * (done // 4)}, {"accepted": done // 4}],
    }
    return trial


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_accept(make_run(tmp_path_factory.mktemp("accept"), repeat=2, models=MODELS[:2]))


def test_nothing_is_said_of_frames_packets_or_line_rate(folder: Path, tmp_path: Path) -> None:
    page = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    glossary = page.index("<h2>Words</h2>")  # it explains all words of all roles
    body = re.sub(r"<style>.*?</style>|<script.*?</script>|<svg.*?</svg>", "", page[:glossary], flags=re.DOTALL)
    shown = re.sub(r"<[^>]+>", " ", body)
    lab = shown.index("The wire is virtual"), shown.index("Differences between two settings")
    shown = shown[:lab[0]] + shown[lab[1]:]
    for word in ("pps", "frame", "Frame", "packet", "line rate", "per direction", "UDP"):
        assert word not in shown, (word, shown[shown.index(word) - 80: shown.index(word) + 80])
    assert "accepts 101,000 connections/s without loss on one core" in " ".join(shown.split())
    assert "h2load nghttp2/1.52.0" in shown
    assert "Handshake mean" in shown
    drawn = " ".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "line rate" not in drawn
    assert "Time from request to reply" in drawn


def test_what_workers_did_is_given_for_each_connection_with_their_shares(folder: Path) -> None:
    run = load_run(folder)
    points = summarise(run)
    table = work_table(points, name_points(points, looks(point.plan for point in points), ""))
    assert table is not None
    assert [f"{h.text} {h.unit}" for h in table.headings] == [
        "Offered connections/s", "Workers’ CPU µs per connection", "Run-queue wait µs per connection",
        "Context switches per connection", "Wake-ups per connection", "Shares of workers %", "Listen queue connections"]
    first = [cell.main for cell in table.rows[0][1]]
    assert first == ["50,000", "15.5", "40.0", "1.25", "0.500", "75 25", "ListenOverflows 2,468"]


def test_stacks_that_count_no_scheduling_have_no_such_table(points: tuple[PointSummary, ...]) -> None:
    assert work_table(points, {}) is None


def test_times_are_explained_by_the_client_that_took_them(folder: Path) -> None:
    run = load_run(folder)
    points = summarise(run)
    names = name_points(points, looks(point.plan for point in points), "")
    by_client = {kind: str(latency_table(points, names, kind)) for kind in ("h2load", "trex-astf")}
    assert "makes connections in batches" in by_client["h2load"]
    assert "packets TRex captured" in by_client["trex-astf"]
    assert "batches" not in by_client["trex-astf"]
