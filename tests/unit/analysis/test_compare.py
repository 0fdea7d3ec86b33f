# SPDX-License-Identifier: Apache-2.0
"""harness compare: what it finds, what it refuses, and how it says so."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import environment
from harness.analysis.compare import Comparison, Finding, _against, compare
from harness.analysis.metrics import Kind, Metric
from harness.analysis.noise import Cause, suspects
from harness.analysis.sides import RunView, views
from harness.analysis.statistics import t_quantile
from harness.cli import invoke
from harness.errors import UsageError
from harness.records import Frequency, RunInfo, Trial, Verdict
from harness.report import comparison
from harness.report.suspects import suspected
from harness.rundata import RunData, load_run
from tests.unit.analysis.runs import NAMES, POINTS, around, make
from tests.unit.report.hostile import PAYLOAD
from tests.unit.report.synthetic import make_run

NDR = Metric(Kind.NDR)


def both(tmp_path: Path, **other: object) -> Comparison:
    """A run against a base, the same but for ``other``."""
    base = make(tmp_path, "a", noise=0.005)
    return compare([load_run(base), load_run(make(tmp_path, "b", noise=0.005, **other))])[0]  # type: ignore[arg-type]


def found(result: Comparison, metric: Metric = NDR) -> dict[str, Finding]:
    """Findings of a metric by point."""
    return {row.place.key.label.split(",")[0]: row.finding for row in result.rows if row.metric == metric}


def test_points_are_matched_and_differences_found(tmp_path: Path) -> None:
    result = both(tmp_path, ndr={"xdp": around(840e3, 0.005, 5, 1), "dpdk": around(285e3, 0.005, 5, 2)},
                  loss=[0.0] * 5)
    assert found(result) == dict(zip(NAMES, (Finding.NONE, Finding.NONE, Finding.BETTER, Finding.WORSE), strict=True))
    xdp = next(row for row in result.rows if row.place.key.stack == "xdp" and row.metric == NDR)
    assert xdp.difference.value == pytest.approx(0.05)
    assert xdp.difference.interval is not None
    assert xdp.difference.interval.low == pytest.approx(0.0424, abs=2e-4)  # 1.05 exp(-2.306 x 0.005 sqrt(2 / 5)) - 1
    same = next(row for row in result.rows if row.place.key.label.startswith(NAMES[0]) and row.metric == NDR)
    # One of so many rows, so at a level of 5 % / rows: (t(1 - 0.025 / rows, 8) + 0.889) x 0.005 sqrt(2 / 5).
    visible = float(t_quantile(1 - 0.025 / len(result.rows), 8.0)) + 0.889
    assert same.smallest == pytest.approx(math.expm1(visible * 0.005 * math.sqrt(2 / 5)), abs=1e-5)
    p99 = found(result, Metric(Kind.LATENCY, "p99", 0.5))
    assert set(p99.values()) == {Finding.NONE}
    only = {(gap.place.key.stack, gap.metric.name if gap.metric else "", gap.missing) for gap in result.gaps}
    assert ("xdp", "loss@200k", "a") in only


def test_a_difference_within_the_search_width_is_none(tmp_path: Path) -> None:
    result = both(tmp_path, ndr={"xdp": around(800e3 * 1.004, 0.0001, 5, 1)})
    row = next(row for row in result.rows if row.place.key.stack == "xdp" and row.metric == NDR)
    assert row.resolution == 0.005
    assert row.finding is Finding.NONE
    assert row.smallest is not None
    assert row.smallest >= 0.005


def test_a_latency_that_moved_by_one_bucket_of_its_source_is_no_difference(tmp_path: Path) -> None:
    p99 = Metric(Kind.LATENCY, "p99", 0.5)
    base, other, more = (load_run(make(tmp_path, name, p99_ns=centre, resolution_ns=10_000))
                         for name, centre in (("a", 45_000.0), ("b", 53_000.0), ("c", 65_000.0)))
    near, far = compare([base, other, more])
    rows = [row for row in near.rows if row.metric == p99]
    assert {row.base.values for row in rows} == {(40_000.0,) * 5}
    assert {row.other.values for row in rows} == {(50_000.0,) * 5}
    assert [(row.smallest, row.finding) for row in rows] == [(0.25, Finding.NONE)] * 4
    assert set(found(far, p99).values()) == {Finding.WORSE}


def test_many_rows_of_unchanged_runs_are_not_called_different(tmp_path: Path) -> None:
    """Repeats drawn at random, 40 comparisons of 4 NDRs and their latencies: a level of 5 % a row would call some of
    most comparisons better or worse, adjusted 5 % of comparisons."""
    rng = np.random.default_rng(8)
    base, same = (load_run(make(tmp_path, name)) for name in "ab")
    view, other = views([base, same])
    raw, called, rows = 0, 0, 0
    for _ in range(40):
        one, two = (noisy(run, rng) for run in (view, other))
        found = _against(one, two, ())
        rows += len(found.rows)
        raw += sum(row.difference.seen for row in found.rows)
        called += any(row.finding in (Finding.BETTER, Finding.WORSE) for row in found.rows)
    print(f"\n{rows} rows of unchanged runs: {raw} with an interval beyond zero; {called} of 40 comparisons name one")
    assert raw > 0.03 * rows
    assert called <= 6


def noisy(view: RunView, rng: np.random.Generator) -> RunView:
    """The same run with other repeats: the same centre a figure, 5 % of noise, far beyond any resolution."""
    return replace(view, samples={
        point: {metric: [replace(sample, value=1e6 * math.exp(rng.normal(0, 0.05)), resolution=0.0)
                         for sample in found] for metric, found in metrics.items()}
        for point, metrics in view.samples.items()})


def test_p_of_a_row_is_kept_beside_the_adjusted_one(tmp_path: Path) -> None:
    """Found by itself at p = 0.03, not among 20 rows."""
    at = {"xdp": around(800e3 * math.exp(2.64 * 0.005 * math.sqrt(2 / 5)), 0.005, 5, 1)}
    alike = both(tmp_path, ndr=at)
    row = next(row for row in comparison.data([alike])[0]["rows"] if row["point"]["stack"] == "xdp"
               and row["metric"] == "ndr")
    assert row["difference"]["p"] == pytest.approx(0.03, abs=0.002)
    assert row["difference"]["p_adjusted"] == pytest.approx(20 * row["difference"]["p"])
    assert row["finding"] == str(Finding.NONE)
    assert "Benjamini-Hochberg" in comparison.text([alike])


@pytest.mark.parametrize(("base", "other", "factor", "finding"), [
    ((), ("xdp",), 1.0, Finding.LIMITED), ((), ("xdp",), 0.9, Finding.LIMITED), ((), ("xdp",), 1.1, Finding.BETTER),
    (("xdp",), (), 1.0, Finding.LIMITED), (("xdp",), (), 1.1, Finding.LIMITED), (("xdp",), (), 0.9, Finding.WORSE),
])
def test_a_lower_bound_supports_no_more_than_it_can(tmp_path: Path, base: tuple[str, ...], other: tuple[str, ...],
                                                    factor: float, finding: Finding) -> None:
    runs = [load_run(make(tmp_path, "a", limited=base, noise=0.005)),
            load_run(make(tmp_path, "b", limited=other, noise=0.005, factor=factor))]
    result = compare(runs)[0]
    assert found(result)["xdp"] is finding
    line = next(line for line in comparison.lines(result) if line.cells[0].startswith("xdp") and line.cells[1] == "ndr")
    assert [cell.startswith(">=") for cell in line.cells[2:4]] == [bool(base), bool(other)]
    if finding is not Finding.LIMITED:
        assert line.cells[4] == ("<= -10.0 %" if base else ">= +10.0 %")
    # What depends on where above the bound the value is has no size.
    hidden = finding is Finding.LIMITED
    assert [cell == "n/a" for cell in line.cells[4:8]] == [hidden] * 4
    assert (line.drawn is None) is hidden
    row = next(row for row in comparison.data([result])[0]["rows"] if row["metric"] == "ndr"
               and row["point"]["stack"] == "xdp")
    assert {row["difference"][part] is None for part in ("value", "interval", "p", "smallest")} == {hidden}


def test_a_bound_of_one_repeat_is_no_matter_of_repeats(tmp_path: Path) -> None:
    runs = [load_run(make(tmp_path, "a", limited=("xdp",), repeats=1)),
            load_run(make(tmp_path, "b", repeats=1, factor=2.0))]
    assert found(compare(runs)[0])["xdp"] is Finding.LIMITED
    assert found(compare([runs[1], runs[0]])[0])["xdp"] is Finding.LIMITED  # half of it, but it may be more
    assert found(compare(runs)[0])["dpdk"] is Finding.FEW


def new_kernel(info: RunInfo) -> None:
    info.hosts["dut"]["kernel"]["release"] = "6.19.0-simulated"


def test_unlike_runs_are_refused_and_across_says_what_differs_beside_every_number(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(make(tmp_path, "a")), str(make(tmp_path, "b", info=new_kernel))]
    assert invoke(["compare", *runs]) == 2
    said = capsys.readouterr().err
    assert "a and b are not comparable" in said
    assert "dut.kernel.release: 6.18.0-simulated | 6.19.0-simulated" in said
    assert "--across" in said
    assert invoke(["compare", *runs, "--across"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " ndr " in line or "latency." in line]
    assert len(lines) == 20
    assert all("differs: dut.kernel.release 6.18.0-simulated | 6.19.0-simulated" in line for line in lines)


def test_what_only_one_run_has_is_named_with_its_reason(tmp_path: Path) -> None:
    result = both(tmp_path, failed={"dpdk": "testpmd did not start"}, models=(*POINTS[:2], POINTS[3]))
    told = [comparison.gap_text(gap) for gap in result.gaps]
    assert told == ["xdp, 1 core, 64 B: nothing in b: not in this run",
                    "dpdk, 1 core, 64 B: nothing in b: failed: testpmd did not start"]


def test_no_common_point_is_one_message(tmp_path: Path) -> None:
    runs = [load_run(make(tmp_path, "a", models=POINTS[:1])), load_run(make(tmp_path, "b", models=POINTS[2:3]))]
    with pytest.raises(UsageError, match=r"no point in common .*a has linux-udp.*b has xdp"):
        compare(runs)


def test_other_traffic_is_another_point(tmp_path: Path) -> None:
    base, other = load_run(make(tmp_path, "a")), load_run(make(tmp_path, "b"))
    points = tuple(replace(point, directions=tuple(replace(d, flows=replace(d.flows, count=16)) for d in
                                                   point.directions)) if point.stack == "xdp" else point
                   for point in other.plan.points)
    result = compare([base, replace(other, plan=replace(other.plan, points=points))], across=True)[0]
    assert "xdp" not in found(result)
    assert result.gaps[0].reason == "this run measured it with 16 flows, IPv4, udp instead of 1024 flows, IPv4, udp"


def test_one_repeat_has_no_interval_and_nan_is_left_out(tmp_path: Path) -> None:
    once = compare([load_run(make(tmp_path, "a", repeats=1)), load_run(make(tmp_path, "b", repeats=1, factor=0.5))])[0]
    assert set(found(once).values()) == {Finding.FEW}
    line = comparison.lines(once)[0]
    assert (line.cells[5], line.cells[6], line.cells[7]) == ("n/a", "n/a", "n/a")
    assert "one repeat: noise is unknown below 3" in line.cells[9]
    nan = compare([load_run(make(tmp_path, "c")),
                   load_run(make(tmp_path, "d", ndr={"xdp": [float("nan"), 8e5, 8.01e5, 8.02e5, 8.03e5]}))])[0]
    row = next(line for line in comparison.lines(nan) if line.cells[0].startswith("xdp") and line.cells[1] == "ndr")
    assert "1 of 5 values are no numbers (B)" in row.cells[9]
    assert "nan" not in " ".join(row.cells)


def test_an_interrupted_run_is_compared_and_said(tmp_path: Path) -> None:
    result = both(tmp_path, state="interrupted")
    assert "B: The run is marked “interrupted”: what was measured until then is shown." in comparison.remarks(result)


def test_json_markdown_and_page_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(make(tmp_path, "a")), str(make(tmp_path, "b", factor=0.9))]
    page = tmp_path / "out/compare.html"
    assert invoke(["compare", *runs, "--json", "--html", str(page)]) == 0
    data = json.loads(capsys.readouterr().out)
    row = next(row for row in data[0]["rows"] if row["metric"] == "ndr" and row["point"]["stack"] == "xdp")
    assert (row["finding"], row["unit"], len(row["base"]["values"])) == ("worse", "pps", 5)
    assert row["difference"]["value"] == pytest.approx(-0.1)
    html = page.read_text(encoding="utf-8")
    assert html.count('<span class="badge bad">worse</span>') == 4
    assert html.count("<svg ") == 20
    assert "-10.0 %" in html
    assert "http" not in html.replace("http-equiv", "")
    assert invoke(["compare", *runs, "--markdown"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 22
    assert len({line.count("|") - line.count("\\|") for line in table}) == 1


def test_a_hostile_run_writes_no_markup_and_no_control_characters(tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    def poison(info: RunInfo) -> None:
        info.hosts["dut"]["kernel"]["release"] = PAYLOAD + "\x1b[2J"
        info.plan["testbed"] = PAYLOAD
        for point in info.plan["points"]:
            point["label"] += PAYLOAD + "|x"

    runs = [str(make(tmp_path, "a")), str(make(tmp_path, "b", info=poison))]
    assert invoke(["compare", *runs]) == 2
    page = tmp_path / "page.html"
    assert invoke(["compare", *runs, "--across", "--html", str(page)]) == 0
    assert invoke(["compare", *reversed(runs), "--across", "--markdown"]) == 0
    told = capsys.readouterr()
    assert not any(ord(c) < 32 and c != "\n" for c in told.out + told.err)
    assert "<script" not in told.out.partition("\n### ")[2]
    html = page.read_text(encoding="utf-8")
    assert "<script>window" not in html
    assert "<img" not in html


@pytest.mark.parametrize(("arguments", "message"), [
    (["compare", "{a}"], "name at least two"),
    (["compare", "{a}", "nosuch", "--results", "{root}"], "no run of that name"),
    (["compare", "{a}", "{empty}"], "not a run directory"),
    (["compare", "{a}", "{newer}"], "schema version"),
    (["compare", "{a}", "{b}", "--markdown", "--json"], "one of them"),
    (["compare", "{a}", "{b}", "--html", "/dev/null/x.html"], "cannot be written"),
])
def test_bad_input_is_one_clear_message(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str],
                                        message: str) -> None:
    newer = make(tmp_path, "newer")
    (newer / "run.json").write_text((newer / "run.json").read_text().replace('"schema_version": ',
                                                                            '"schema_version": 9'))
    (tmp_path / "empty").mkdir()
    names = {"a": make(tmp_path, "a"), "b": make(tmp_path, "b"), "newer": newer, "empty": tmp_path / "empty",
             "root": tmp_path}
    assert invoke([text.format(**names) for text in arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def measured(trials: list[Trial], hz: list[float], throttled: int) -> None:
    """Each trial has this frequency on every core, and none but the last was throttled."""
    for number, (trial, mean) in enumerate(zip(trials, hz, strict=True), 1):
        assert trial.cpu is not None
        for core in trial.cpu.cores:
            core.frequency = Frequency(mean_hz=mean, least_hz=mean, most_hz=mean)
            core.throttled = throttled if number == len(trials) else 0


def test_noise_names_what_was_recorded(tmp_path: Path) -> None:
    run: RunData = load_run(make_run(tmp_path, repeat=3))
    point = run.plan.points[0]
    trials = [trial.model_copy(deep=True) for trial in run.trials if trial.point == point.id]
    kinds = {suspect.cause: suspect for suspect in suspects(trials)}
    assert set(kinds) == {Cause.PAUSES}
    assert (kinds[Cause.PAUSES].trials, kinds[Cause.PAUSES].worst) == (3, 1_700_000)
    for trial in trials[4:6]:
        assert trial.cpu is not None
        trial.cpu.other = ["core 1: cron 5.2 %"]
        for core in trial.cpu.cores:
            core.steal = 0.03
    facts = {"cpu": {"governor": "powersave", "turbo": True}}
    told = {suspect.cause: suspect for suspect in suspects(trials, facts)}
    assert set(told) == set(Cause) - {Cause.THROTTLING}
    assert (told[Cause.STEAL].trials, told[Cause.STEAL].worst) == (2, 0.03)
    assert told[Cause.OTHER_LOAD].names == ("cron",)
    assert told[Cause.FREQUENCY].names == ("governor powersave", "turbo on")
    measured(trials, [3.0e9] * len(trials), throttled=0)
    steady = {suspect.cause for suspect in suspects(trials, facts)}
    assert steady == set(Cause) - {Cause.FREQUENCY, Cause.THROTTLING}, "what could change was seen not to"
    measured(trials, [3.0e9] * (len(trials) - 2) + [3.05e9, 2.1e9], throttled=4)
    changed = {suspect.cause: suspect for suspect in suspects(trials, facts)}
    assert set(changed) == set(Cause)
    assert (changed[Cause.FREQUENCY].trials, changed[Cause.FREQUENCY].worst) == (1, pytest.approx(0.3))
    assert changed[Cause.THROTTLING].trials == 1
    assert "the frequency changed in 1 of" in suspected([changed[Cause.FREQUENCY]])
    assert "(by up to 30.0 %)" in suspected([changed[Cause.FREQUENCY]])
    assert "throttled for heat in 1 of" in suspected([changed[Cause.THROTTLING]])
    for trial in trials:
        trial.verdicts = [v for v in trial.verdicts if v is not Verdict.PAUSED]
        trial.cpu = None
    assert suspects(trials, {"cpu": {"governor": "performance", "turbo": False}}) == ()


def test_a_latency_carries_its_trials_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = both(tmp_path, marks=[Verdict.LAB, Verdict.PAUSED, Verdict.UNEXPLAINED_LOSS])
    (row,) = (row for row in result.rows if row.place.key.stack == "dpdk" and row.metric.name == "latency.p99@50%")
    assert (row.base.verdicts, set(row.other.verdicts)) == ((), {Verdict.PAUSED, Verdict.UNEXPLAINED_LOSS})
    rate = next(row for row in result.rows if row.place.key.stack == "dpdk" and row.metric == NDR)
    assert Verdict.PAUSED not in rate.other.verdicts
    assert invoke(["gate", str(tmp_path / "b"), "--baseline", str(tmp_path / "a"), "--threshold", "latency.p99@50%=+10%"
                   ]) == 0
    assert capsys.readouterr().out.count("paused (run)") >= 4


def test_many_differing_items_do_not_bury_the_answer(tmp_path: Path) -> None:
    many = tuple(environment.Difference(f"dut.item{number}", "1", "2") for number in range(101))
    result = replace(both(tmp_path), differences=many)
    for said in (comparison.text([result]), comparison.markdown([result])):
        assert "101 items differ: first 5 and 96 more" in said
        listed = [line for line in said.splitlines() if line.lstrip("- ").startswith("differs: dut.item")]
        assert len(listed) == 5
    page = comparison.page([result])
    assert "<details><summary>101 items differ</summary>" in page
    assert page.count("<li>differs: dut.item") == 101
    assert comparison.differing(many[:2]) == ["differs: dut.item0: 1 | 2", "differs: dut.item1: 1 | 2"]


@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_run_named_twice_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    run = str(make(tmp_path, "a"))
    assert invoke([command, run, run]) == 2
    assert "a is named twice; name each run once" in capsys.readouterr().err
