# SPDX-License-Identifier: Apache-2.0
"""Trials and outcomes by point: medians, what is missing and why, who polls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.records import Phase, Verdict
from harness.report.identity import stack_name
from harness.report.summarise import PointSummary, summarise, useful_share
from harness.rundata import RunData


def by_label(points: tuple[PointSummary, ...], label: str, cores: int = 1) -> PointSummary:
    """The point of that label and number of cores."""
    return next(p for p in points if stack_name(p.plan) == label and len(p.plan.cores) == cores)


def test_medians_and_ranges_over_repeats(run: RunData, points: tuple[PointSummary, ...]) -> None:
    point = by_label(points, "xdp")
    found = sorted(o.ndr.pps for o in run.outcomes if o.point == point.plan.id and o.ndr and o.ndr.pps)
    assert point.ndr.rate is not None
    assert (point.ndr.rate.low, point.ndr.rate.high) == (found[0], found[-1])
    assert point.ndr.rate.median == pytest.approx(sum(found) / 2)
    assert point.repeats == 2


def test_raw_is_given_where_it_differs_only(points: tuple[PointSummary, ...]) -> None:
    point = by_label(points, "xdp")
    assert point.ndr.raw is not None
    assert point.ndr.rate is not None
    assert point.ndr.raw.median < point.ndr.rate.median
    assert point.pdr.raw is None


def test_a_rate_without_a_number_has_its_reason(points: tuple[PointSummary, ...]) -> None:
    point = by_label(points, "linux-udp reuseport=true", 2)
    assert point.ndr.rate is None
    assert "smallest load" in point.ndr.reason
    assert point.pdr.rate is not None


def test_a_failed_point_has_status_reason_and_log(points: tuple[PointSummary, ...]) -> None:
    point = by_label(points, "dpdk", 2)
    assert point.status == "failed"
    assert "testpmd did not start" in point.reason
    assert "Invalid number of RX queues" in point.log_tail
    assert point.mrr.rate is None
    assert point.mrr.reason == point.reason
    assert Verdict.FAILED in point.verdicts


def test_polls_are_known_by_count(points: tuple[PointSummary, ...]) -> None:
    assert by_label(points, "dpdk").polls
    assert not by_label(points, "linux-udp reuseport=false").polls
    loads = by_label(points, "dpdk").loads
    assert all(load.useful is not None for load in loads)


def test_polls_are_known_by_a_core_that_is_always_busy(run: RunData) -> None:
    trials = []
    for trial in run.trials:
        copy = trial.model_copy(deep=True)
        if copy.cpu is not None:
            copy.cpu.useful_polls = copy.cpu.empty_polls = None
        trials.append(copy)
    plan = replace(run.plan, points=tuple(replace(point, polling=None) for point in run.plan.points))
    points = summarise(replace(run, trials=tuple(trials), plan=plan))
    assert by_label(points, "dpdk").polls
    assert by_label(points, "dpdk").loads[0].useful is None
    assert not by_label(points, "xdp").polls


def test_a_busy_machine_makes_no_poller(run: RunData) -> None:
    trials = [trial.model_copy(deep=True) for trial in run.trials]
    for core in (core for trial in trials if trial.cpu is not None for core in trial.cpu.cores):
        core.run = 1.0
    points = summarise(replace(run, trials=tuple(trials)))
    assert not by_label(points, "xdp").polls
    assert by_label(points, "dpdk").polls


def test_the_load_curve_leaves_repeated_and_failed_trials_out(run: RunData) -> None:
    trials = [t.model_copy(deep=True) for t in run.trials]
    loads = [t for t in trials if t.phase is Phase.LOAD and "xdp" in t.point]
    for trial in loads[:1]:
        trial.status, trial.reason = "failed", "generator died"
    before = by_label(summarise(run), "xdp").loads[0].busy_cores
    after = by_label(summarise(replace(run, trials=tuple(trials))), "xdp").loads
    same = next(load for load in after if load.load_pps == loads[0].asked_pps)
    assert before is not None
    assert same.busy_cores is not None
    assert same.busy_cores.count == before.count - 1


def test_latency_merges_the_histograms_of_all_repeats(points: tuple[PointSummary, ...]) -> None:
    entry = by_label(points, "xdp").latency[1]
    assert entry.fraction == 0.5
    assert entry.samples == sum(frames for _, frames in entry.curve) == 20_000
    p99 = entry.at["p99"]
    assert p99 is not None
    assert p99.count == 2


def test_useful_share_needs_both_counts(run: RunData) -> None:
    cpu = next(t.cpu for t in run.trials if t.cpu is not None and t.cpu.useful_polls is not None).model_copy()
    assert useful_share(cpu) == pytest.approx(cpu.useful_polls / (cpu.useful_polls + cpu.empty_polls), abs=1e-6)
    cpu.empty_polls = None
    assert useful_share(cpu) is None
    assert useful_share(None) is None
