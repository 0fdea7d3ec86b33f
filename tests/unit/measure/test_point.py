# SPDX-License-Identifier: Apache-2.0
"""The order within a point and its rules on repeating, with a simulated generator, DUT and stack."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.errors import GeneratorDied, StackError
from harness.generator.contract import DirectionResult, SelfReport, TrafficResult, TrafficSpec
from harness.host.contract import CpuSample, Sampling
from harness.measure.point import PointMeasurement, Watcher
from harness.measure.trial import Bench, make_trial
from harness.plan import DirectionPlan, FlowPlan, MeasureSettings, PointPlan, Role, SearchSettings
from harness.records import Phase, PointOutcome, Trial, Verdict
from harness.stack import RunningStack, StackCounters

S = 1_000_000_000
CAPACITY = 300_000.0
SEARCH = SearchSettings(("mrr", "ndr", "pdr"), 1.0, 0.5, 0.05, 0.005, 1000.0, 60.0)
SETTINGS = MeasureSettings(SEARCH, (0.5,), "pdr", 1.0, 1000.0, (500.0, 50_000.0), 2.0, 0.5, 1)
DIRECTION = DirectionPlan(0, 0, "02:00:00:00:02:00", "02:00:00:00:01:00", FlowPlan(1, "198.19.0.1", 1, 1024, 1, "x", 9))
POINT = PointPlan("p", "p", "s", {}, Role.ECHO, "dut", 64, (1,), (), (DIRECTION,), 1e7)


class SimulatedDut:
    """Loses what is beyond its capacity at its ring; ``pauses`` (start, length, core) are handed out once each."""

    def __init__(self) -> None:
        self.lost, self.pauses, self.probe_period_s = 0, list[tuple[int, int, int]](), 0.004

    def interface_counters(self, ifnames: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        return {"d0": {"rx_queue_0_drops": self.lost}}

    def system_counters(self) -> Mapping[str, int]:
        return {}

    def which(self, program: str) -> None:
        return None

    def exists(self, path: str) -> bool:
        return False

    def start_sampling(self, period_s: float, probe_cores: Sequence[int]) -> None:
        assert period_s >= 0.01

    def stop_sampling(self) -> Sampling:
        found, self.pauses = self.pauses, []
        samples = [CpuSample(n * S // 4, {1: {"user": n / 8, "idle": n / 8}}, None) for n in range(9)]
        return Sampling(samples, found, 0.0, {}, {1: self.probe_period_s})


class SimulatedGenerator:
    """Sends what it is asked; may die, and may have the DUT pause in a trial."""

    def __init__(self, dut: SimulatedDut) -> None:
        self.dut, self.configured, self.die_at, self.trials, self.sent = dut, list[TrafficSpec](), -1, 0, 0
        self.pause_in, self.short_in, self.pause_ns = set[int](), set[int](), S // 2
        self.dies_configuring = False

    def configure(self, traffic: TrafficSpec) -> None:
        if self.dies_configuring:
            self.dies_configuring = False
            raise GeneratorDied("simulated death")
        self.configured.append(traffic)

    def trial(self, rate_pps: float, duration_s: float) -> TrafficResult:
        self.trials += 1
        if self.trials == self.die_at:
            raise GeneratorDied("simulated death")
        sent = round(rate_pps * duration_s)
        lost = max(0, sent - round(CAPACITY * duration_s))
        if self.trials in self.pause_in:
            lost += 100
            self.dut.pauses = [(S // 10, self.pause_ns, 1)]
        left_out = round(sent * 0.01) if self.trials in self.short_in else 0
        lost = max(0, lost - left_out)
        self.dut.lost += lost
        self.sent += sent - left_out
        result = DirectionResult(tx_port=0, rx_port=0, asked=sent, sent=sent - left_out,
                                 received=sent - left_out - lost, skipped={"receive": left_out})
        return TrafficResult([result], [], SelfReport(duration_s, duration_s, 0, round(duration_s * S), 0.5, 0))


class SimulatedStack(RunningStack):
    def __init__(self) -> None:
        self.recording, self.switched = False, list[bool]()

    def check_alive(self) -> None:
        pass

    def counters(self) -> StackCounters:
        return StackCounters({})

    def record_polls(self, on: bool) -> bool:
        self.switched.append(on)
        return True


class Run:
    """A measurement ready to run, and all that it told."""

    def __init__(self, settings: MeasureSettings = SETTINGS) -> None:
        self.dut = SimulatedDut()
        self.generator = SimulatedGenerator(self.dut)
        self.stack, self.trials, self.restarts = SimulatedStack(), list[Trial](), 0
        bench: Any = Bench(self.generator, self.dut, POINT, self.stack, "", 2e9, True, 2, (), ["d0"])  # type: ignore[arg-type]
        numbers = iter(range(10_000))
        watcher = Watcher(self.trials.append, lambda *_: None, lambda *_: None, lambda: next(numbers))
        self.outcome = PointOutcome(point="p", repeat=0)
        self.point = PointMeasurement(bench, settings, 0, 1e6, watcher, self.restart, self.outcome)

    def restart(self) -> Any:
        self.restarts += 1
        return self.generator


def test_everything_is_measured_in_order_and_polls_in_a_pass_of_their_own() -> None:
    run = Run()
    run.point.run()
    phases = list(dict.fromkeys(t.phase for t in run.trials))
    assert phases == [Phase.WARMUP, Phase.SEARCH, Phase.LATENCY, Phase.LOAD, Phase.POLLS]
    assert run.outcome.ndr is not None
    assert run.outcome.ndr.load_pps == pytest.approx(CAPACITY, rel=0.06)
    assert run.stack.switched == [True, False]
    assert run.outcome.trials == len(run.trials)


def test_the_diagnosis_is_the_last_trial_at_the_highest_load_and_says_what_the_host_lacks() -> None:
    run = Run(dataclasses.replace(SETTINGS, drop_reasons=True))
    run.point.run()
    last = run.trials[-1]
    assert [t.phase for t in run.trials].count(Phase.DIAGNOSE) == 1
    assert (last.phase, last.asked_pps, last.duration_s) == (Phase.DIAGNOSE, 50_000.0, 2.0)
    assert last.drop_reasons is not None
    assert last.drop_reasons.counts is None
    assert "clang is missing (apt-get install clang)" in last.drop_reasons.reason
    assert last.number not in {entry.trial for entry in run.outcome.load_curve}
    rates = Run(dataclasses.replace(SETTINGS, drop_reasons=True, load_rates_pps=()))
    rates.point.run()
    assert rates.outcome.mrr is not None
    assert (rates.trials[-1].phase, rates.trials[-1].asked_pps) == (Phase.DIAGNOSE, rates.outcome.mrr.load_pps)


def test_a_load_too_small_for_latency_frames_says_so_in_the_record() -> None:
    run = Run()
    run.point.run()
    small, large = [t for t in run.trials if t.phase is Phase.LOAD]
    assert "no room for a latency stream" in small.latency_note
    assert large.latency_note == ""
    assert [c.latency_pps for c in run.generator.configured] == [0.0, 1000.0, 0.0, 1000.0, 0.0, 1000.0][
        : len(run.generator.configured)]


def test_a_search_trial_whose_losses_are_a_pauses_is_repeated_and_both_are_kept() -> None:
    run = Run()
    run.generator.pause_in = {4}
    run.point.run()
    spoilt = [t for t in run.trials if t.superseded]
    assert [(t.attempt, t.phase) for t in spoilt] == [(0, Phase.SEARCH)]
    again = run.trials[run.trials.index(spoilt[0]) + 1]
    assert (again.attempt, again.asked_pps, again.superseded) == (1, spoilt[0].asked_pps, False)
    assert run.outcome.paused_repeats == 1


def test_repeating_ends_after_three_and_the_last_attempt_counts() -> None:
    run = Run()
    run.generator.pause_in = set(range(2, 1000))
    run.point.run()
    assert max(t.attempt for t in run.trials) == 3
    assert not [t for t in run.trials if t.attempt == 3 and t.superseded]
    assert run.outcome.ndr is not None
    assert run.outcome.ndr.pps is None


def test_a_pause_may_have_begun_since_the_probes_last_look() -> None:
    """100 frames at 200 kpps: more than arrive in 0.26 ms, fewer than in that and a period of 4 ms."""
    spoilt = []
    for period_s in (0.004, 0.0):
        run = Run()
        run.dut.probe_period_s, run.generator.pause_ns, run.generator.pause_in = period_s, 260_000, {1}
        trial = make_trial(run.point.bench, number=1, repeat=0, phase=Phase.SEARCH, attempt=0, rate_pps=200_000.0,
                           duration_s=1.0)
        assert trial.lost == 100
        spoilt.append(trial.spoilt)
    assert spoilt == [True, False]


def test_a_trial_short_of_a_load_that_the_generator_can_send_is_repeated() -> None:
    run = Run()
    run.generator.short_in = set(range(2, 1000, 2))
    run.point.run()
    below = [t for t in run.trials if t.phase is Phase.SEARCH and t.asked_pps <= 0.9e6
             and sum(t.directions[0].skipped.values())]
    assert below
    assert all(t.superseded for t in below)
    assert run.outcome.short_repeats == len(below)
    assert run.outcome.ndr is not None
    assert run.outcome.ndr.load_pps == pytest.approx(CAPACITY, rel=0.06)


class Dropping(SimulatedStack):
    """Counts the test's frames as discarded, and somebody else's: one before the reading ``idle``, one in every trial
    after the first ``clean``."""

    def __init__(self, generator: SimulatedGenerator, idle: int, clean: int) -> None:
        super().__init__()
        self.generator, self.idle, self.clean, self.readings = generator, idle, clean, 0

    def counters(self) -> StackCounters:
        self.readings += 1
        strays = (self.readings >= self.idle) + max(0, self.generator.trials - self.clean)
        return StackCounters({"discarded": self.generator.sent - self.generator.dut.lost + strays})


def dropping(monkeypatch: pytest.MonkeyPatch, *, idle: int = 10**9, clean: int = 10**9) -> Run:
    monkeypatch.setattr("harness.measure.trial._STILL_S", 0.0)
    monkeypatch.setattr("harness.measure.point.IDLE_S", 0.0)
    run = Run(dataclasses.replace(SETTINGS, load_rates_pps=()))
    bench = run.point.bench
    bench.point, bench.exact_counter = dataclasses.replace(POINT, role=Role.DROP), "discarded"
    bench.stack = Dropping(run.generator, idle, clean)
    return run


def test_others_frames_are_seen_before_the_trials_and_where_more_is_discarded_than_sent(
        monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = dropping(monkeypatch)
    quiet.point.run()
    assert quiet.outcome.ndr is not None
    assert (quiet.outcome.strays, quiet.outcome.stray_repeats) == ("", 0)
    idle = dropping(monkeypatch, idle=3)  # two readings make the count before
    idle.point.run()
    assert idle.outcome.strays.endswith("s: 1; losses may go unseen")
    always = dropping(monkeypatch, clean=1)
    with pytest.raises(StackError, match=r"pps 1 more came out of it than were sent: others' frames \(LLDP"):
        always.point.run()
    last = always.trials[-1 - SETTINGS.pause_retries:]
    assert [t.superseded for t in last] == [True] * SETTINGS.pause_retries + [False]
    assert all(t.surplus == 1 and t.status == "failed" and Verdict.FAILED in t.verdicts for t in last)
    assert always.outcome.stray_repeats >= SETTINGS.pause_retries > 0


def test_a_generator_that_dies_between_trials_is_restarted() -> None:
    run = Run()
    run.generator.dies_configuring = True
    run.point.run()
    assert run.restarts == 1
    assert run.outcome.pdr is not None


def test_every_point_says_that_its_wire_is_virtual() -> None:
    run = Run(dataclasses.replace(SETTINGS, latency_fractions=(), load_rates_pps=()))
    run.point.run()
    assert Verdict.LAB in run.outcome.verdicts


def test_a_generator_that_dies_is_restarted_once_and_the_lost_trial_recorded() -> None:
    run = Run()
    run.generator.die_at = 3
    run.point.run()
    assert run.restarts == 1
    (failed,) = [t for t in run.trials if t.status == "failed"]
    assert failed.superseded
    assert "simulated death" in failed.reason


def test_polls_are_switched_off_when_the_pass_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(dataclasses.replace(SETTINGS, search=None, latency_fractions=(), warmup_s=0.0))

    def dead() -> None:
        raise StackError("simulated")

    trial = run.generator.trial

    def trial_then_dead(rate: float, duration: float) -> TrafficResult:
        if run.stack.switched:
            monkeypatch.setattr(run.stack, "check_alive", dead)
        return trial(rate, duration)

    monkeypatch.setattr(run.generator, "trial", trial_then_dead)
    with pytest.raises(StackError, match="simulated"):
        run.point.run()
    assert run.stack.switched == [True, False]


def test_verdicts_of_the_point_are_in_a_fixed_order() -> None:
    run = Run()
    run.generator.pause_in = set(range(2, 1000))
    run.point.run()
    assert run.outcome.verdicts == [v for v in Verdict if v in run.outcome.verdicts]
