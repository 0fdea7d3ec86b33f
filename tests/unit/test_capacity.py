# SPDX-License-Identifier: Apache-2.0
"""``harness plan``: what it says of runs whose capacities are known, of a real one, and of runs that cannot answer."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import references
from harness.analysis.capacity import Ask, CapacityPlan, StackPlan, plan_capacity
from harness.analysis.crossover import crossings
from harness.analysis.loadcurve import Curve, busy_cores, p99
from harness.analysis.metrics import Kind
from harness.cli import invoke
from harness.errors import UsageError
from harness.measure.contradiction import contradict
from harness.records import Phase, Trial, Verdict
from harness.report import capacity
from harness.report.charts.published import published_points
from harness.rundata import RunData, load_run
from tests.unit.report.synthetic import Model, make_run

TOP = Path(__file__).parents[2]
SHIPPED = TOP / "tests/data/plan/20261125-104444-quickstart-45ca"
# The simulated CPU of a kernel stack is cores x load / (1.05 x mrr); a poller's is all its cores.
MODELS = (
    Model("linux-udp", "linux-udp", {}, (0,), 150e3, 170e3, 180e3, 30),
    Model("linux-udp", "linux-udp", {}, (0, 1), 250e3, 300e3, 300e3, 30),
    Model("linux-udp", "linux-udp", {}, (0, 1, 2, 3), 420e3, 450e3, 500e3, 30),
    Model("dpdk", "dpdk", {}, (1,), 500e3, 700e3, 720e3, 12, polling=True, split=True),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return load_run(make_run(tmp_path_factory.mktemp("plan"), repeat=3, models=MODELS))


def _by_label(plan: CapacityPlan) -> dict[str, StackPlan]:
    return {stack.label: stack for stack in plan.stacks}


def test_cores_cpu_latency_and_crossing_of_known_stacks(run: RunData) -> None:
    plan = plan_capacity(run, Ask(210e3, p99_ns=200e3, headroom=0.25))  # 280 kpps are needed
    kernel, poller = _by_label(plan)["linux-udp"], _by_label(plan)["dpdk"]
    assert (kernel.need.cores, poller.need.cores) == (2, 1)
    assert kernel.cpu.value == pytest.approx(2 * 210e3 / (1.05 * 300e3), rel=0.03)
    assert (poller.cpu.value, poller.cpu.source) == (1.0, "polling")
    assert kernel.p99.load is not None
    assert kernel.p99.load == pytest.approx(0.9 * 300e3, rel=0.03)
    assert kernel.scaling.efficiency()[4] == pytest.approx(450 / (4 * 170), rel=0.03)
    half = kernel.scaling.half_core_at()
    assert half is not None
    assert half.cores == 2  # from 2 to 4 each core adds 75 kpps, less than half of 170
    (crossing,) = plan.crossings
    assert crossing.at == pytest.approx(1.05 * 300e3 / 2, rel=0.03)
    assert crossing.cheaper == "dpdk"
    assert crossing.unit == "cores"  # this poller has no cycles


def _staircase(run: RunData, poller_cycles: str, kernel_cycles: str) -> CapacityPlan:
    """A poller of 1 core up to 1 Mpps and 2 up to 2.5 Mpps against a kernel of 1.05 cores (2100 cycles a packet) a Mpps
    up to 3 Mpps; the poller's cores have 3e9 cycles a second. The cycles' sources as given, "" for none."""
    def per_second(points: Sequence[tuple[float, float]], source: str) -> tuple[tuple[float, float], ...]:
        return tuple(points) if source else ()

    ask = Ask(1.5e6, headroom=0)
    kernel, poller = (_by_label(plan_capacity(run, ask))[name] for name in ("linux-udp", "dpdk"))
    ends = (0.5e6, 3e6)
    kernel = dataclasses.replace(kernel, curves=(Curve(
        4, 3e6, tuple((load, 1.05e-6 * load) for load in ends), (),
        cycles=per_second([(load, 2100 * load) for load in ends], kernel_cycles), cycles_source=kernel_cycles),))
    poller = dataclasses.replace(poller, curves=tuple(Curve(
        cores, rate, ((0.5e6, float(cores)),), (), cycles=per_second([(0.5e6, cores * 3e9)], poller_cycles),
        cycles_source=poller_cycles) for cores, rate in ((1, 1e6), (2, 2.5e6))))
    plan = plan_capacity(run, ask)
    return dataclasses.replace(plan, crossings=crossings([kernel, poller], ask.target))


def test_a_poller_is_cheaper_in_intervals_as_its_cost_rises_in_steps(run: RunData) -> None:
    plan = _staircase(run, "perf", "time x nominal frequency")
    (found,) = plan.crossings
    assert found.intervals == (pytest.approx((1e6 / 1.05, 1e6)), pytest.approx((2e6 / 1.05, 2.5e6)))
    assert (found.at, found.top, found.cheaper) == (found.intervals[1][0], 2.5e6, "linux-udp")
    (line,) = capacity.crossing_lines(plan)
    assert ("costs fewer cores from 952 kpps to 1.00 Mpps and from 1.90 Mpps to 2.50 Mpps, the highest load that both "
            "carry; at the target linux-udp is cheaper (2.00 cores polling, 1.57 busy); cores are compared") in line
    assert line in capacity.html(plan)
    said = json.loads(json.dumps(capacity.data(plan)))["crossings"][0]
    assert said["intervals"] == [list(span) for span in found.intervals]


def test_cycles_are_compared_where_both_sides_have_them_from_one_source(run: RunData) -> None:
    plan = _staircase(run, "perf", "perf")
    (found,) = plan.crossings  # 3e9 / 2100 is beyond the one core's 1 Mpps, 6e9 / 2100 beyond the two cores' 2.5 Mpps
    assert (found.unit, found.intervals, found.at, found.cheaper) == ("cycles", (), None, "linux-udp")
    assert (found.poller_cycles, found.kernel_cycles) == (pytest.approx(4000), pytest.approx(2100))
    (line,) = capacity.crossing_lines(plan)
    assert "never costs fewer cycles from 500 kpps to 2.50 Mpps" in line
    assert "the cycles are perf" in line
    assert _staircase(run, "", "").crossings[0].unit == "cores"


def test_extrapolation_is_marked_bounded_and_refused_beyond_twice(run: RunData) -> None:
    six = _by_label(plan_capacity(run, Ask(520e3, headroom=0)))["linux-udp"]
    assert six.need.cores is not None
    assert 4 < six.need.cores <= 8
    assert six.need.carries is not None
    assert six.need.carries.source == "extrapolated"
    assert six.need.low is not None
    assert six.need.low <= six.need.cores
    far = _by_label(plan_capacity(run, Ask(5e6, headroom=0)))
    assert far["linux-udp"].need.cores is None
    assert "8 cores" in far["linux-udp"].need.reason
    assert "one core count" in far["dpdk"].need.reason
    beyond = plan_capacity(run, Ask(20e6))
    assert any("line rate" in note for note in beyond.notes)
    assert any("No stack" in note for note in beyond.notes)


def test_line_rate_bounds_what_is_foretold_and_what_no_run_here_could_confirm_is_said(run: RunData) -> None:
    narrow = tuple(dataclasses.replace(point, line_rate_pps=500e3) for point in run.plan.points)
    wire = dataclasses.replace(run, plan=dataclasses.replace(run.plan, points=narrow))
    kernel = _by_label(plan := plan_capacity(wire, Ask(490e3, headroom=0.1)))["linux-udp"]
    assert kernel.need.cores is None
    assert kernel.need.carries is not None
    assert kernel.need.carries.rate == 500e3
    assert "line rate is the limit from" in capacity.text(plan)
    assert "ceiling" not in capacity.text(plan)
    low = dataclasses.replace(run, info=run.info.model_copy(deep=True))
    low.info.ceilings[0].sent_pps = low.info.ceilings[0].kept_pps = 460e3
    said = capacity.text(plan_capacity(low, Ask(520e3, headroom=0)))
    assert "beyond the generator's ceiling (460 kpps)" in said
    two = tuple(point for point in run.plan.points if "4c" not in point.id)
    said = capacity.text(plan_capacity(dataclasses.replace(run, plan=dataclasses.replace(run.plan, points=two)),
                                       Ask(400e3, headroom=0)))
    assert "linux-udp: two core counts allow only a straight line" in said


def test_more_cores_are_found_where_latency_asks_for_them(run: RunData) -> None:
    def slow(share: float) -> int:
        return 50_000 if share < 0.6 else 900_000

    for outcome in (slowed := [o.model_copy(deep=True) for o in run.outcomes]):
        for entry in outcome.latency:
            if entry.percentiles is not None:
                entry.percentiles.p99_ns = slow(entry.fraction)
    plan = plan_capacity(dataclasses.replace(run, outcomes=tuple(slowed)), Ask(210e3, p99_ns=100e3, headroom=0.25))
    kernel = _by_label(plan)["linux-udp"]
    assert (kernel.need.cores, kernel.p99_met, kernel.cores_for_p99) == (2, False, 4)
    assert "not met; met on 4 cores" in capacity.text(plan)


def _changed(run: RunData, change: Callable[[Any], None]) -> RunData:
    outcomes = [outcome.model_copy(deep=True) for outcome in run.outcomes]
    for outcome in outcomes:
        change(outcome)
    return dataclasses.replace(run, outcomes=tuple(outcomes))


def test_generator_limited_counts_are_bounds_and_said(run: RunData) -> None:
    def limit(outcome: Any) -> None:
        if "4c" in outcome.point:
            outcome.pdr.verdicts = [Verdict.GENERATOR_LIMITED]

    plan = plan_capacity(_changed(run, limit), Ask(400e3, headroom=0))
    kernel = _by_label(plan)["linux-udp"]
    assert kernel.scaling.model is not None
    assert kernel.scaling.model.name == "line"  # two counts are left
    assert "4: >= 4" in capacity.text(plan)
    assert "left out of the fit" in capacity.text(plan)


def test_idle_cores_under_loss_are_a_cap(run: RunData) -> None:
    trials = [trial.model_copy(deep=True) for trial in run.trials]
    for trial in trials:
        if "4c" in trial.point and trial.cpu is not None:
            for core in trial.cpu.cores:
                core.run = min(core.run or 0.0, 0.5)
                core.user = core.system = core.softirq = 0.1
    kernel = _by_label(plan_capacity(dataclasses.replace(run, trials=tuple(trials)), Ask(600e3)))["linux-udp"]
    assert kernel.scaling.cap == pytest.approx(450e3, rel=0.03)
    assert "something other than its cores" in kernel.need.reason


def test_points_that_failed_are_named_and_a_number_that_is_none_is_not_used(run: RunData) -> None:
    def spoil(outcome: Any) -> None:
        if "2c" in outcome.point:
            outcome.status, outcome.reason = "failed", "the queue\x1b[2J was gone"
        elif "4c" in outcome.point and outcome.repeat == 0:
            outcome.pdr.pps = float("nan")

    plan = plan_capacity(_changed(run, spoil), Ask(100e3))
    kernel = _by_label(plan)["linux-udp"]
    assert sorted(kernel.scaling.measured) == [1, 4]
    assert len(kernel.scaling.counts[-1].rates) == 2
    assert "2 cores: failed: the queue?[2J was gone" in capacity.text(plan)
    json.dumps(capacity.data(plan), allow_nan=False)


def _lossy(run: RunData, share: float, repeats: Iterable[int]) -> tuple[list[Trial], list[Trial]]:
    """The run's trials, and of them those of latency on two cores that have been made to lose a share of the frames."""
    trials = [trial.model_copy(deep=True) for trial in run.trials]
    hit = [t for t in trials if "linux-udp" in t.point and "2c" in t.point and t.phase is Phase.LATENCY
           and t.asked_pps < 0.8 * 300e3 and t.repeat in repeats]
    for trial in hit:
        trial.loss_ratio, trial.verdicts, trial.lost = share, [], round(share * trial.sent)
        for direction in trial.directions:
            direction.lost = round(share * direction.sent)
    return trials, hit


def test_the_rule_is_that_of_the_verdict_and_a_minority_of_repeats_refutes_nothing(run: RunData) -> None:
    for repeats, refuted in ((range(1), False), (range(2), True)):
        trials, hit = _lossy(run, 0.327, repeats)
        changed = dataclasses.replace(run, trials=tuple(trials))
        bounds = [o.pdr.model_copy(deep=True) for o in run.outcomes if o.point == hit[0].point and o.pdr is not None]
        assert len(bounds) == 3
        for repeat, bound in enumerate(bounds):
            contradict(bound, 0.005, [t for t in trials if t.point == hit[0].point and t.repeat == repeat])
            assert (Verdict.CONTRADICTED in bound.verdicts) is (repeat in repeats)
        kernel = _by_label(plan_capacity(changed, Ask(150e3)))["linux-udp"]
        assert [wrong.cores for wrong in kernel.refuted] == [2] * refuted


def test_a_rate_that_its_own_run_refutes_is_not_planned_with_nor_latency_of_a_lossy_load(run: RunData) -> None:
    trials, hit = _lossy(run, 0.327, repeats=range(3))
    kernel = _by_label(plan := plan_capacity(dataclasses.replace(run, trials=tuple(trials)), Ask(150e3)))["linux-udp"]
    assert hit
    assert sorted(kernel.scaling.measured) == [1, 4]
    assert [(wrong.cores, wrong.low, wrong.by.share) for wrong in kernel.refuted] == [
        (2, False, pytest.approx(0.327, abs=1e-4))]
    assert "it is not planned with" in capacity.text(plan)
    (two,) = (curve for curve in kernel.curves if curve.cores == 2)
    lossy = [reason for load, ns, reason in two.p99 if load < 0.8 * 300e3 and ns is None]
    assert lossy
    assert all("32.7 % was lost" in reason for reason in lossy)


def test_mrr_shows_its_loss_a_bound_cannot_tell_and_a_quotient_of_a_bound_is_one(
        capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", str(SHIPPED), "--target", "40k", "--rate", "mrr"]) == 0
    said = capsys.readouterr().out
    assert "726 kpps, 38.23 % lost" in said
    assert "dpdk: MRR is no capacity" in said
    assert invoke(["plan", str(SHIPPED), "--target", "100M"]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("xdp "))
    assert "n/a: cannot tell" in row
    assert invoke(["plan", str(SHIPPED), "--target", "1"]) == 0
    said = capsys.readouterr().out
    assert "<= 414 ms" in said
    assert "no room for a latency stream" in said


def test_a_run_without_load_curve_or_without_latency_says_so(run: RunData) -> None:
    def strip(outcome: Any) -> None:
        outcome.load_curve, outcome.latency = [], []

    plan = plan_capacity(_changed(run, strip), Ask(100e3, p99_ns=1e5))
    kernel = _by_label(plan)["linux-udp"]
    assert "measure.load_curve" in kernel.cpu.reason
    assert (kernel.p99.reason, kernel.p99_met) == ("no p99 was measured", None)
    assert plan.crossings == ()


def test_a_run_without_rates_or_that_was_interrupted_is_refused_with_the_remedy(run: RunData) -> None:
    with pytest.raises(UsageError, match="no point has a PDR: it has NDR; plan by that with `--rate ndr`"):
        plan_capacity(_changed(run, lambda outcome: setattr(outcome, "pdr", None)), Ask(1e5, rate=Kind.PDR))
    bare = _changed(run, lambda outcome: [setattr(outcome, rate, None) for rate in ("ndr", "pdr", "mrr")])
    with pytest.raises(UsageError, match=r"measure\.throughput\.goals"):
        plan_capacity(bare, Ask(1e5))
    ended = dataclasses.replace(run, outcomes=(), info=run.info.model_copy(update={"state": "interrupted"}))
    with pytest.raises(UsageError, match="--resume"):
        plan_capacity(ended, Ask(1e5))


def test_what_stands_on_one_core_says_so_in_the_singular() -> None:
    one = Curve(1, 100e3, ((50e3, 0.5),), ((50e3, 20e3, ""),))
    assert busy_cores([one], 2, 100e3, polls=False, carries=200e3).source == "from 1 core"
    assert p99([one], 2, 100e3, 200e3).source == "from 1 core"
    assert p99([dataclasses.replace(one, rate=None)], 2, 1.0, 1.0).reason.startswith("no rate on 1 core to take")


def test_the_shipped_example_prints_what_the_documentation_shows(capsys: pytest.CaptureFixture[str],
                                                                 tmp_path: Path) -> None:
    page = tmp_path / "new" / "plan.html"
    assert invoke(["plan", str(SHIPPED), "--target", "40k", "--p99", "2ms", "--html", str(page)]) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert captured.err == f"written: {page}\n"
    shown = (TOP / "docs/capacity-planning.md").read_text().split("<!-- plan:begin -->")[1]
    shown = shown.split("<!-- plan:end -->")[0]
    assert [line.strip() for line in printed.splitlines()] == \
        [line.strip() for line in shown.strip().splitlines()[2:]]
    html = page.read_text()
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "src=" not in html.split("</style>")[1]
    assert "linux-udp reuseport=false" in html
    assert "`" not in html.split("</style>")[1]
    assert "<code>cores: [1, 2, 4]</code> measures more" in html


def test_a_hostile_label_is_escaped(run: RunData) -> None:
    points = tuple(dataclasses.replace(point, label="<script>alert(1)</script>") for point in run.plan.points)
    plan = plan_capacity(dataclasses.replace(run, plan=dataclasses.replace(run.plan, points=points)), Ask(1e5))
    assert "<script" not in capacity.html(plan)
    assert "&lt;script&gt;" in capacity.html(plan)


@pytest.mark.parametrize(("options", "says"), [
    (["--target", "2Gbps"], "--target: '2Gbps' is in bits"),
    (["--target", "0"], "--target: '0' is too small"),
    (["--target", "nan"], "--target: 'nan' is not a quantity"),
    (["--target", "1M", "--headroom", "100%"], "--headroom: 100% leaves nothing"),
    (["--target", "1M", "--headroom", "130%"], "--headroom: '130%' is out of range"),
    (["--target", "1M", "--p99", "100"], "--p99: '100' has no unit"),
    (["--target", "1M", "--p99", "0"], "--p99: no latency is zero"),
    (["--target", "1M", "--html", "/proc/none/plan.html"], "cannot be written"),
])
def test_what_makes_no_sense_is_refused_in_one_line(options: list[str], says: str,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", str(SHIPPED), *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_json_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", str(SHIPPED), "--target", "40k", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [stack["need"]["cores"] for stack in made["stacks"]] == [1, 1, 1, None]
    assert made["ask"]["target"] == 40_000


def test_reference_points_have_sources_and_match_by_role_frame_and_cores() -> None:
    assert len(references.points()) == 274
    found = references.matching("drop", 64, 4)
    assert {"xdp18-linux-raw-4c", "xdp18-xdpdrop-nocqe-4c"} <= {point.id for point in found}
    assert all((p.role, p.frame_bytes, p.cores) == ("drop", 64, 4) and p.source and p.source_ref for p in found)
    assert references.matching("drop", 65, 4) == ()


def test_what_came_through_a_flood_is_no_capacity() -> None:
    flooded = {point.id for point in references.points() if "livelock" in point.note or "flood" in point.note}
    assert {"netconf23-iouring-same", "netconf23-iouring-same-nf"} <= flooded
    drawn = {entry.row["id"] for entry in published_points()} | {
        point.id for point in references.matching("echo", 64, 1)}
    assert drawn
    assert not drawn & flooded


@pytest.mark.parametrize(("column", "value", "says"), [
    ("mpps", "-3", "mpps is -3"), ("mpps", "nan", "mpps is nan"), ("role", "fly", "role 'fly'"),
    ("source_ref", "", "no source_ref"), ("cores", "1.5", "cores is 1.5"), ("note", "x", "kind="),
    ("exact_or_read_off", "guess", "'guess'")])
def test_a_reference_that_is_wrong_is_refused_with_its_line(tmp_path: Path, column: str, value: str,
                                                            says: str) -> None:
    source = TOP / "harness/analysis/data/reference_points.csv"
    with source.open(newline="") as stream:
        rows = list(csv.DictReader(stream))[:2]
    rows[1][column] = value
    file = tmp_path / "points.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(UsageError, match="line 3") as error:
        list(references.read(file))
    assert says in str(error.value)
