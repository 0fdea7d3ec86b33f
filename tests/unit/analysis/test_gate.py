# SPDX-License-Identifier: Apache-2.0
"""harness gate as a CI job sees it: exit codes, words, files, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.cli import invoke
from harness.records import RunInfo
from tests.unit.analysis.runs import POINTS, make

LATER = "2025-11-23T20:00:00Z"
Gate = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Gate:
    """Gate a run (its settings) against a base (its settings): exit code and JSON."""
    def run_gate(*arguments: str, base: dict[str, Any] | None = None, **run: Any) -> tuple[int, dict[str, Any]]:
        one = make(tmp_path, "base", **{"noise": 0.005, **(base or {})})
        two = make(tmp_path, "run", **{"noise": 0.005, "started": LATER, **run})
        code = invoke(["gate", str(two), "--baseline", str(one), "--json", *arguments])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else {"error": said.err}

    return run_gate


def states(result: dict[str, Any]) -> dict[str, str]:
    """Outcome of each figure."""
    return {f"{check['point']['stack']} {check['metric']}": check["state"] for check in result["checks"]}


def test_a_regression_beyond_the_threshold_and_the_noise_fails(gate: Gate) -> None:
    code, result = gate(ndr={"xdp": [752e3, 758e3, 760e3, 762e3, 768e3]})
    assert code == result["exit_code"] == 1
    assert states(result) == {"linux-udp ndr": "pass", "xdp ndr": "FAIL", "dpdk ndr": "pass"}
    xdp = next(check for check in result["checks"] if check["point"]["stack"] == "xdp")
    assert xdp["change"] == pytest.approx(-0.05, abs=0.001)
    assert xdp["low"] < xdp["change"] < xdp["high"] < -0.03
    assert xdp["p"] < 0.001


def test_a_change_within_the_threshold_passes_and_a_gain_is_reported(gate: Gate) -> None:
    code, result = gate("--strict", ndr={"xdp": [782e3, 784e3, 784e3, 785e3, 786e3],
                                         "dpdk": [330e3, 331e3, 330e3, 332e3, 331e3]})
    assert code == 0
    assert states(result) == {"linux-udp ndr": "pass", "xdp ndr": "pass", "dpdk ndr": "improved"}


def test_noise_beyond_the_threshold_cannot_be_told_and_names_the_repeats(gate: Gate) -> None:
    code, result = gate(noise=0.03, base={"noise": 0.03})
    assert (code, set(states(result).values())) == (0, {"cannot tell"})
    for check in result["checks"]:
        assert 12 <= check["repeats_needed"] <= 15
        assert check["reason"] == (f"the noise is larger than the threshold; {check['repeats_needed']} repeats a side "
                                   "would tell")


def test_strict_makes_cannot_tell_an_exit_code(gate: Gate) -> None:
    assert gate("--strict", noise=0.03, base={"noise": 0.03})[0] == 5


@pytest.mark.parametrize(("base", "run", "factor", "state"), [
    ((), ("xdp",), 0.9, "cannot tell"), (("xdp",), (), 1.0, "cannot tell"), (("xdp",), (), 0.9, "FAIL"),
    ((), ("xdp",), 1.0, "pass"),
])
def test_lower_bounds(gate: Gate, base: tuple[str, ...], run: tuple[str, ...], factor: float, state: str) -> None:
    _, result = gate(base={"limited": base}, limited=run, factor=factor)
    xdp = next(check for check in result["checks"] if check["point"]["stack"] == "xdp")
    assert xdp["state"] == state
    assert xdp["reason"].startswith("generator-limited") is (state == "cannot tell")


def test_every_kind_of_figure_has_its_scale(gate: Gate) -> None:
    """+0.1 % of loss are percentage points; latency and cores are worse when they rise."""
    limits = {"ndr": -0.03, "latency.p99@50%": 0.10, "loss@200k": 0.001, "cores@200k": 0.05}
    code, result = gate(base={"loss": [0.0, 0.0, 0.0, 0.0001, 0.0]}, loss=[0.004, 0.0041, 0.0042, 0.0041, 0.004],
                        gate=limits, p99_ns=65_000.0)
    told = {check["metric"]: (check["state"], check["change"]) for check in result["checks"]
            if check["point"]["stack"] == "xdp"}
    assert code == 1
    assert told["ndr"][0] == "pass"
    assert told["latency.p99@50%"] == ("FAIL", pytest.approx(0.30, abs=0.001))
    assert told["loss@200k"] == ("FAIL", pytest.approx(0.00406, abs=1e-5))
    assert told["cores@200k"] == ("pass", pytest.approx(0.0081, abs=1e-4))


@pytest.mark.parametrize(("limit", "p99_ns", "state", "reason"), [
    (0.10, 51_500.0, "cannot tell", "is coarser than the threshold"),
    (0.10, 46_000.0, "cannot tell", "is coarser than the threshold"),
    (0.30, 51_500.0, "pass", ""),
    (0.30, 62_000.0, "cannot tell", "leaves open whether it is beyond the threshold"),
    (0.10, 125_000.0, "FAIL", ""),
])
def test_a_latency_within_its_sources_resolution_is_no_regression(gate: Gate, limit: float, p99_ns: float, state: str,
                                                                  reason: str) -> None:
    """Around 45 us, in buckets of 10 us: 51.5 us reads as 50 for 40, +25 %, in every repeat."""
    _, result = gate(gate={"latency.p99@50%": limit}, base={"p99_ns": 45_000.0, "resolution_ns": 10_000}, p99_ns=p99_ns,
                     resolution_ns=10_000)
    assert {(check["state"], check["reason"]) for check in result["checks"]} == {
        (state, reason and f"resolution: the source tells 10us apart (25%), which {reason}")}
    assert {check["repeats_needed"] for check in result["checks"]} == {None}


def test_repeats_that_are_all_alike_are_certain(gate: Gate) -> None:
    _, result = gate(noise=0.0, base={"noise": 0.0}, ndr={"xdp": [760e3] * 5})
    assert states(result) == {"linux-udp ndr": "pass", "xdp ndr": "FAIL", "dpdk ndr": "pass"}


def test_the_command_line_overrides_the_scenario(gate: Gate) -> None:
    assert gate("--threshold", "ndr=-12%", factor=0.9)[0] == 0


def test_a_stack_that_fails_now_fails_the_gate_with_its_reason(gate: Gate) -> None:
    code, result = gate(failed={"dpdk": "testpmd did not start"})
    dpdk = next(check for check in result["checks"] if check["point"]["stack"] == "dpdk")
    assert (code, dpdk["state"]) == (1, "FAIL")
    assert dpdk["reason"] == "no value any more: failed: testpmd did not start"


def test_a_point_that_vanished_cannot_be_told_unless_it_is_left_out_on_purpose(gate: Gate, tmp_path: Path) -> None:
    xml = tmp_path / "gate.xml"
    code, result = gate("--strict", "--junit", str(xml), models=POINTS[:1])
    assert code == 5
    told = [(check["point"]["stack"], check["state"], check["run"]["reason"]) for check in result["checks"]]
    assert told == [("linux-udp", "pass", "")] + [(stack, "cannot tell", "not in this run")
                                                  for stack in ("linux-udp", "xdp", "dpdk")]
    suite = ElementTree.parse(xml).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("errors")) == ("4", "3")


def test_only_common_narrows_the_gate_and_says_so(gate: Gate) -> None:
    code, result = gate("--strict", "--only-common", models=POINTS[:1])
    assert (code, states(result)) == (0, {"linux-udp ndr": "pass"})
    assert sum("in the baseline, but not in this run" in note for note in result["notes"]) == 3


@pytest.mark.parametrize(("before", "now", "state"), [(0, 2, "cannot tell"), (1, 2, "cannot tell"), (2, 2, "pass"),
                                                      (2, 0, "pass")])
def test_repeats_that_fail_now_and_did_not_before_are_no_pass(gate: Gate, before: int, now: int, state: str) -> None:
    code, result = gate("--strict", base={"crashed": {"xdp": before}}, crashed={"xdp": now})
    xdp = next(check for check in result["checks"] if check["point"]["stack"] == "xdp")
    assert (code, xdp["state"]) == (5 if state == "cannot tell" else 0, state)
    if state == "cannot tell":
        assert xdp["reason"] == ("2 of 5 repeats failed: the stack died: signal 11 "
                                 f"({'fewer' if before else 'none'} in the baseline)")
    assert [check["state"] for check in result["checks"] if check is not xdp] == ["pass"] * 3


def test_one_repeat_and_no_numbers_cannot_be_told(gate: Gate) -> None:
    _, result = gate(ndr={"xdp": [float("nan")] * 5}, base={"repeats": 1, "noise": 0.0})
    reasons = {check["point"]["stack"]: check["reason"] for check in result["checks"]}
    assert reasons["dpdk"] == "repeats: 1 in the baseline, 5 in the run; noise is unknown below 3 a side"
    assert reasons["xdp"] == "no value any more: its values are no numbers"
    assert set(states(result).values()) == {"cannot tell"}


def other_cpu(info: RunInfo) -> None:
    info.hosts["dut"]["cpu"]["model"] = "Another CPU"


@pytest.mark.parametrize(("arguments", "base", "run", "message"), [
    ([], {"info": other_cpu}, {}, "dut.cpu.model: Another CPU | Simulated CPU @ 2.10GHz"),
    ([], {"state": "interrupted"}, {}, "this run is interrupted, not complete"),
    ([], {}, {"state": "died"}, "this run is died, not complete"),
    ([], {}, {"gate": {}}, "its scenario has no gate"),
    ([], {}, {"gate": {"pdr": -0.03}}, "nothing of what is gated (pdr) was measured"),
    (["--threshold", "ndr=3%"], {}, {}, "has no sign"),
    (["--threshold", "ndr=+3%"], {}, {}, "does not say how far it may fall"),
    (["--threshold", "speed=-3%"], {}, {}, "'speed' is nothing that is measured"),
    (["--last", "3"], {}, {}, "--last 3 takes a directory"),
])
def test_bad_input_is_one_clear_message(gate: Gate, arguments: list[str], base: dict[str, Any], run: dict[str, Any],
                                        message: str) -> None:
    code, result = gate(*arguments, base=base, **run)
    assert code == 2
    assert message in result["error"]
    assert result["error"].startswith("harness: ")


def test_across_gates_and_says_so(gate: Gate) -> None:
    code, result = gate("--across", base={"info": other_cpu})
    assert code == 0
    assert {"item": "dut.cpu.model", "a": "Another CPU", "b": "Simulated CPU @ 2.10GHz"} in result["differences"]


def test_a_directory_gives_the_newest_comparable_complete_run(tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history"
    for day, settings in enumerate(({}, {"factor": 1.001}, {"info": other_cpu}, {"state": "interrupted"}), 1):
        make(history, f"day{day}", started=f"2025-11-0{day}T20:00:00Z", noise=0.005, **settings)  # type: ignore[arg-type]
    make(history, "tomorrow", started="2025-12-01T20:00:00Z")
    newer = make(history, "newer", started="2025-11-05T20:00:00Z")
    (newer / "run.json").write_text((newer / "run.json").read_text().replace('"schema_version": ',
                                                                            '"schema_version": 9'))
    run = make(tmp_path, "run", started=LATER, noise=0.005)
    assert invoke(["gate", str(run), "--baseline", str(history), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"] == ["day2"]
    assert any("newer" in note and "schema version" in note for note in found["notes"])
    assert invoke(["gate", str(run), "--baseline", str(history), "--last", "5"]) == 0
    said = capsys.readouterr().out
    assert "run against day2, day1" in said
    assert "2 comparable complete runs, 5 asked for" in said
    assert said.splitlines()[-1] == "gate: pass (4 pass)"


def against_history(tmp_path: Path, capsys: pytest.CaptureFixture[str], factors: tuple[float, ...], *arguments: str,
                    **run: Any) -> dict[str, Any]:
    """Gate a run against its history, a run a factor: JSON."""
    for day, factor in enumerate(factors, 1):
        make(tmp_path / "history", f"day{day}", started=f"2025-11-0{day}T20:00:00Z", factor=factor, noise=0.002)
    new = make(tmp_path, "run", **{"started": LATER, "noise": 0.002, **run})
    invoke(["gate", str(new), "--baseline", str(tmp_path / "history"), "--last", str(len(factors)), "--json",
            *arguments])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_figures_printed_are_the_ones_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run of three is far off: a pooled median would not move, the mean of run means does, as printed."""
    skewed = [700e3, 790e3, 800e3, 805e3, 806e3]
    found = against_history(tmp_path, capsys, (1.0, 1.0, 0.8), ndr={"xdp": skewed})
    for check in found["checks"]:
        assert check["change"] == pytest.approx(check["run"]["value"] / check["baseline"]["value"] - 1)
    xdp = next(check for check in found["checks"] if check["point"]["stack"] == "xdp")
    assert xdp["run"]["value"] == pytest.approx(geometric_mean(skewed))
    assert xdp["baseline"]["value"] == pytest.approx(800e3 * 0.8 ** (1 / 3))
    code = invoke(["gate", str(tmp_path / "run"), "--baseline", str(tmp_path / "history"), "--last", "3"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "xdp" in line)
    assert code == 0
    assert "742.7 kpps" in row
    assert "779.1 kpps" in row
    assert "+4.9 %" in row


@pytest.mark.parametrize(("factors", "least", "most"), [((0.99, 1.0, 1.01), 4, 12),
                                                      ((0.97, 0.99, 1.0, 1.01, 1.03), 101, 101)])
def test_where_runs_differ_more_runs_are_named_and_no_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                              factors: tuple[float, ...], least: int,
                                                              most: int) -> None:
    for check in against_history(tmp_path, capsys, factors)["checks"]:
        assert (check["state"], check["repeats_needed"]) == ("cannot tell", None)
        assert "differ too much from each other, which more repeats do not help" in check["reason"]
        assert least <= check["baseline_runs_needed"] <= most
        assert ("nor 100 runs in the baseline" in check["reason"]) is (least > 100)


@pytest.mark.parametrize(("lines", "baseline", "message"), [
    ("", ["day3", "day2", "day1"], ""),
    ("day2\n", ["day3", "day2"], "1 older left out"),
    ("day2\nday3\n\n", ["day3"], "2 older left out"),
    ("day1\nrun\n", None, "the baseline begins with run ("),
    ("day4\n", None, "'day4' is no run in"),
    ("day2\n\x1b[2J\n", None, "is no run in"),
])
def test_a_baseline_begins_where_its_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str,
                                               baseline: list[str] | None, message: str) -> None:
    history = tmp_path / "history"
    for day in (1, 2, 3):
        make(history, f"day{day}", started=f"2025-11-0{day}T20:00:00Z", noise=0.005)
    (history / "baseline-from").write_text(lines)
    run = make(tmp_path, "run", started=LATER, noise=0.005)
    code = invoke(["gate", str(run), "--baseline", str(history), "--last", "3", "--json"])
    said = capsys.readouterr()
    assert (code, json.loads(said.out)["baseline"] if said.out else None) == (0 if baseline else 2, baseline)
    assert message in said.out + said.err
    assert "\x1b" not in said.err


@pytest.mark.parametrize(("settings", "message"), [
    (None, "no run of scenario udp-echo-64b begun before run"),
    ({"info": other_cpu}, "old: differs in dut.cpu.model (Another CPU | Simulated CPU @ 2.10GHz)"),
    ({"state": "failed"}, "old: failed, not complete"),
])
def test_a_directory_without_a_baseline_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                       settings: dict[str, Any] | None, message: str) -> None:
    history = tmp_path / "history"
    history.mkdir()
    if settings is not None:
        make(history, "old", **settings)
    run = make(tmp_path, "run", started=LATER)
    assert invoke(["gate", str(run), "--baseline", str(history)]) == 2
    assert message in capsys.readouterr().err


def test_files_for_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JUnit XML that parses whatever a label holds; skipped, or under --strict an error, for what cannot be told."""
    def rename(info: RunInfo) -> None:
        for point in info.plan["points"]:
            point["label"] += " <b>&\x1b\ufffe|"

    base = make(tmp_path, "base", noise=0.03)
    run = make(tmp_path, "run", started=LATER, noise=0.03, info=rename)
    for strict, word in ((False, "skipped"), (True, "error")):
        xml, md = tmp_path / f"{word}.xml", tmp_path / f"{word}.md"
        code = invoke(["gate", str(run), "--baseline", str(base), "--junit", str(xml), "--markdown", str(md),
                       *(["--strict"] if strict else [])])
        assert code == (5 if strict else 0)
        suite = ElementTree.parse(xml).getroot().find("testsuite")
        assert suite is not None
        assert (suite.get("tests"), suite.get("failures"), suite.get({"error": "errors"}.get(word, word))) == (
            "4", "0", "4")
        assert len(suite.findall(f"testcase/{word}")) == 4
        text = md.read_text(encoding="utf-8")
        assert text.startswith("### gate: cannot tell (4 cannot tell)")
        assert "&lt;b&gt;&amp;" in text
        assert "<b>" not in text
    assert "\x1b" not in capsys.readouterr().out
