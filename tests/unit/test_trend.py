# SPDX-License-Identifier: Apache-2.0
"""Histories: changes found where they were made and nowhere else, gaps, and runs that are not comparable."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.analysis import environment
from harness.analysis.changepoints import change_points
from harness.analysis.trend import Step
from harness.cli import invoke
from harness.records import RunInfo
from harness.report.trendtext import told_once
from tests.unit.report.synthetic import MODELS, make_plan, run_info

RANDOM_SEED = 5


def history(results: Path, levels: Sequence[float | None], **fields: dict[str, Any]) -> None:
    """A run a level, NDR in kpps of one point; None: the point failed. ``fields``: of run.json, by run."""
    plan = make_plan(MODELS[:1], 1, 1)
    for number, level in enumerate(levels):
        info = run_info(plan, f"r{number:03d}").model_dump(mode="json")
        info["started_at"] = f"2026-01-{number // 24 + 1:02d}T{number % 24:02d}:00:00Z"
        folder = results / f"r{number:03d}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(info | fields.get(f"r{number:03d}", {})))
        (folder / "trials.jsonl").write_text("")
        outcome: dict[str, Any] = {"schema_version": 2, "point": plan.points[0].id, "repeat": 0}
        outcome |= ({"status": "failed", "reason": "did not start"} if level is None else
                    {"ndr": {"pps": level * 1e3, "load_pps": level * 1e3, "upper_pps": None, "loss_ratio": 0.0}})
        (folder / "points.jsonl").write_text(json.dumps(outcome) + "\n")


def trend(results: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, Any], str]:
    assert invoke(["trend", "--results", str(results), "--metric", "ndr", "--json", *options]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def test_known_changes_are_found_and_few_others() -> None:
    """60 runs at 2 % noise, a step of 10 % for each of 40 histories, and 60 without one; one run in 30 is 30 % low."""
    random = np.random.default_rng(RANDOM_SEED)
    found, false = 0, 0
    for number in range(100):
        at = 20 + number % 25 if number < 40 else 60
        values = random.normal(100, 2, 60)
        values[at:] *= 0.9
        values[random.random(60) < 1 / 30] *= 0.7
        places = [change.index for change in change_points(values.tolist())]
        near = [place for place in places if abs(place - at) <= 2]
        found += bool(near)
        false += len(places) > len(near[:1])
    print(f"found {found} of 40, false alarms in {false} of 100")
    assert found >= 38
    assert false <= 5


def test_one_bad_run_is_no_regression_and_progression() -> None:
    """Histories of 6 to 40 runs at 0.5 to 2 % noise in which one run, neither first nor last, is 30 or 90 % low."""
    random = np.random.default_rng(RANDOM_SEED)
    pairs = false = 0
    for number in range(300):
        size = (6, 8, 12, 20, 40)[number % 5]
        values = random.normal(100, (0.5, 1, 2)[number % 3], size)
        values[random.integers(1, size - 1)] *= (0.7, 0.1)[number % 2]
        found = len(change_points(values.tolist()))
        pairs, false = pairs + (found > 1), false + (found > 0)
    print(f"one bad run: two changes in {pairs} of 300 histories, one in {false - pairs}")
    assert pairs == 0
    assert false <= 9


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [5.0] * 30, [0.0] * 30, [0.0, 1.0] * 10])
def test_too_little_and_no_noise_at_all_is_no_change(values: list[float]) -> None:
    assert change_points(values) == []


def test_a_regression_is_named_with_its_runs_and_a_failed_point_is_a_gap(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(RANDOM_SEED).normal(1, 0.01, 40)
    levels: list[float | None] = [float(value) * (100 if place < 25 else 88) for place, value in enumerate(noise)]
    levels[10] = levels[25] = None
    history(tmp_path, levels)
    found, _ = trend(tmp_path, capsys)
    series, = found["series"]
    change, = series["changes"]
    assert (change["kind"], change["last"], change["first"]) == ("regression", "r024", "r026")
    assert change["ratio"] == pytest.approx(-0.12, abs=0.01)
    assert change["differences"] == []
    assert series["values"][10] is None
    assert series["values"][25] is None
    page, charts = tmp_path / "new/page.html", tmp_path / "charts"
    assert invoke(["trend", "--results", str(tmp_path), "--html", str(page), "--charts", str(charts), "--size", "slide",
                   "--theme", "dark", "--format", "png"]) == 0
    assert f"written: {page}" in capsys.readouterr().err
    assert sorted(file.name for file in charts.iterdir()) == ["trend-ndr.csv", "trend-ndr.slide.dark.png"]
    with Image.open(charts / "trend-ndr.slide.dark.png") as image:
        assert image.size == (2560, 1440)
    rows = list(csv.DictReader((charts / "trend-ndr.csv").read_text().splitlines()))
    assert [row["value"] == "" for row in rows] == [level is None for level in levels]
    text = page.read_text()
    assert "<th scope=\"row\">regression</th>" in text
    assert text.count("<figure>") == 1  # only NDR was measured
    assert "NDR by run in kpps, 64 B frames, udp-echo-64b" in text
    assert "r024" in text


def test_runs_of_another_kernel_are_a_series_of_their_own_and_the_kernel_is_named(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(RANDOM_SEED).normal(1, 0.01, 40)
    hosts = run_info(make_plan(MODELS[:1], 1, 1), "x").hosts
    newer = json.loads(json.dumps(hosts).replace("6.18.0", "6.19.0"))
    history(tmp_path, [float(value) * (100 if place < 20 else 110) for place, value in enumerate(noise)],
            **{f"r{number:03d}": {"hosts": newer} for number in range(20, 40)})
    found, _ = trend(tmp_path, capsys)
    assert [run["set"] for run in found["runs"]] == [0] * 20 + [1] * 20
    change, = found["series"][0]["changes"]
    assert change["transition"]
    assert change["kind"] == "progression"
    assert any("kernel" in item and "6.19.0" in after for item, _, after in change["differences"])
    across, _ = trend(tmp_path, capsys, "--across")
    change, = across["series"][0]["changes"]
    assert (change["transition"], change["first"]) == (False, "r020")


def test_a_host_that_only_one_run_measured_parts_no_runs_as_compare_says(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = run_info(make_plan(MODELS[:1], 1, 1), "r").plan
    (host,), (point,) = plan["hosts"], plan["points"]
    first = plan | {"hosts": [host, host | {"name": "second"}]}
    both = first | {"points": [point, point | {"id": "on-second", "host": "second"}]}
    facts = {"second": {"cpu": {"model": "another"}}}
    history(tmp_path, [100, 101], r000={"plan": first, "hosts": facts}, r001={"plan": both, "hosts": facts})
    items = [environment.comparability(RunInfo.model_validate_json((tmp_path / run / "run.json").read_text()))
             for run in ("r000", "r001")]
    assert items[0]["dut2"] == "not measured"
    assert items[1]["dut2.cpu.model"] == "another"
    assert environment.apart(*items) == []
    result, _ = trend(tmp_path, capsys)
    assert [run["set"] for run in result["runs"]] == [0, 0]
    assert all(not series["changes"] for series in result["series"])


def test_what_is_no_part_of_the_history_is_left_out_and_named(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history(tmp_path, [100.0, 100.0, 100.0, 100.0], r001={"state": "interrupted"}, r002={"schema_version": 99},
            r003={"run_id": "odd\x1b[2J"})
    file = tmp_path / "r003" / "points.jsonl"
    file.write_text(file.read_text().replace("100000.0", "NaN"))
    found, said = trend(tmp_path, capsys)
    assert [run["run"] for run in found["runs"]] == ["r000", "r003"]
    assert found["series"][0]["values"] == [100000.0, None]
    assert "r001 is left out: it is interrupted, not complete" in said
    assert "r002 is left out" in said
    assert "newer harness" in said


def test_one_run_is_shown_and_an_unknown_scenario_is_told_what_there_is(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history(tmp_path, [100.0])
    assert invoke(["trend", "--results", str(tmp_path)]) == 0
    assert "One run is no history" in capsys.readouterr().out
    assert invoke(["trend", "nothing", "--results", str(tmp_path)]) == 2
    assert "there are runs of: udp-echo-64b" in capsys.readouterr().err
    assert invoke(["trend", "--results", str(tmp_path), "--metric", "speed"]) == 2
    assert "nothing that is measured" in capsys.readouterr().err


def test_a_lower_bound_is_marked_everywhere_and_a_rise_from_it_is_none(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(RANDOM_SEED).normal(1, 0.01, 40)
    history(tmp_path, [float(value) * (100 if place < 20 else 130) for place, value in enumerate(noise)])
    for number in range(20):
        file = tmp_path / f"r{number:03d}" / "points.jsonl"
        file.write_text(file.read_text().replace('"upper_pps"', '"verdicts": ["generator-limited"], "upper_pps"'))
    found, _ = trend(tmp_path, capsys)
    series, = found["series"]
    assert series["at_least"] == [True] * 20 + [False] * 20
    change, = series["changes"]
    assert (change["kind"], change["ratio"]) == ("cannot tell, generator-limited", None)
    page = tmp_path / "page.html"
    assert invoke(["trend", "--results", str(tmp_path), "--metric", "ndr", "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert "cannot tell, generator-limited: ndr" in said
    assert ": >= 99.8 kpps → 129 kpps" in said
    text = page.read_text()
    assert "Hollow marks: lower bounds (≥)" in text
    assert "&gt;= 99.8 kpps → 129 kpps" in text
    assert "NDR by run in kpps" in text


def test_what_differs_between_two_runs_is_listed_once() -> None:
    step = Step("a", "b", 1.0, 2.0, None, True, True, (("dut.kernel.release", "6.18", "6.19"),))
    other = replace(step, first="c", differences=())
    assert told_once([step, step, other, other]) == [
        "dut.kernel.release: 6.18 → 6.19", "the same 1 item as above",
        *["nothing recorded differs between the two runs"] * 2]
