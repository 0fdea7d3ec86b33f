# SPDX-License-Identifier: Apache-2.0
"""The search against a simulated DUT with a known capacity (a known answer needs a simulation)."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest

from harness.figures import worst_loss
from harness.measure.search import bounds_so_far, raw_bound, search
from harness.plan import SearchSettings
from harness.records import Direction, Phase, Trial, Verdict

SETTINGS = SearchSettings(
    goals=("mrr", "ndr", "pdr"), trial_s=1.0, initial_trial_s=0.5, width=0.005, pdr_loss=0.005,
    min_load_pps=1000.0, max_search_s=600.0,
)


def simulated_trial(rate: float, duration: float, forwarded: float, sent: float | None = None) -> Trial:
    asked = round(rate * duration)
    offered = asked if sent is None else round(sent * duration)
    received = min(offered, round(forwarded * duration))
    return Trial(
        number=1, point="p", repeat=0, phase=Phase.SEARCH, started_at="", asked_pps=rate, duration_s=duration,
        real_s=duration, sent=offered, received=received, lost=offered - received, offered_pps=offered / duration,
        forwarding_pps=received / duration, loss_ratio=(offered - received) / offered,
        directions=[Direction(tx_port=0, rx_port=0, asked=asked, sent=offered, received=received,
                              lost=offered - received)],
    )


class SimulatedDut:
    """Forwards up to ``capacity`` frames per second; the generator sends at most ``ceiling``."""

    def __init__(self, capacity: float, ceiling: float = float("inf")) -> None:
        self.capacity, self.ceiling, self.trials = capacity, ceiling, 0

    def measure(self, duration: float, load: float) -> Trial:
        self.trials += 1
        sent = min(load, self.ceiling)
        return simulated_trial(load, duration, min(sent, self.capacity), sent)


@pytest.mark.parametrize("capacity", [37_000.0, 480_000.0, 2_900_000.0])
def test_ndr_and_pdr_bracket_a_known_capacity(capacity: float) -> None:
    dut = SimulatedDut(capacity)
    told: list[str] = []
    found = search(SETTINGS, 5_000_000.0, dut.measure, lambda goal, low, high: told.append(goal))
    ndr, pdr, mrr = found.bounds["ndr"], found.bounds["pdr"], found.bounds["mrr"]
    assert ndr.load_pps is not None
    assert ndr.upper_pps is not None
    assert ndr.load_pps <= capacity <= ndr.upper_pps
    assert ndr.upper_pps - ndr.load_pps <= 0.0051 * ndr.upper_pps
    assert pdr.load_pps is not None
    assert pdr.load_pps == pytest.approx(capacity / 0.995, rel=0.006)
    assert mrr.pps == pytest.approx(capacity, rel=1e-6)
    assert set(told) == {"ndr", "pdr"}
    assert dut.trials <= 60


def test_no_loss_up_to_the_maximum_is_generator_limited_not_a_capacity() -> None:
    found = search(SETTINGS, 1_000_000.0, SimulatedDut(9e9).measure, lambda *_: None)
    assert found.bounds["ndr"].upper_pps is None
    assert found.bounds["ndr"].verdicts == [Verdict.GENERATOR_LIMITED]
    assert "no upper bound" in found.bounds["ndr"].reason


def test_a_load_beyond_what_the_generator_sends_is_never_an_ndr() -> None:
    found = search(SETTINGS, 2_000_000.0, SimulatedDut(9e9, ceiling=700_000.0).measure, lambda *_: None)
    assert found.bounds["ndr"].load_pps is not None
    assert found.bounds["ndr"].load_pps <= 700_000.0
    assert found.bounds["ndr"].upper_pps is None
    assert found.bounds["ndr"].verdicts == [Verdict.GENERATOR_LIMITED]
    assert "the generator fell short" in found.bounds["ndr"].reason


def test_a_bound_carries_the_words_of_the_trial_that_decided_it() -> None:
    def paused(duration: float, load: float) -> Trial:
        trial = simulated_trial(load, duration, min(load, 400_000.0))
        trial.verdicts, trial.attempt = [Verdict.PAUSED, Verdict.LAB], 2
        return trial

    ndr = search(SETTINGS, 1_000_000.0, paused, lambda *_: None).bounds["ndr"]
    assert ndr.verdicts == [Verdict.PAUSED, Verdict.INCONCLUSIVE]
    assert ndr.attempts == 3


def test_a_search_out_of_time_keeps_its_bracket_and_says_so() -> None:
    hurried = dataclasses.replace(SETTINGS, max_search_s=1e-9)
    ndr = search(hurried, 1_000_000.0, SimulatedDut(400_000.0).measure, lambda *_: None).bounds["ndr"]
    assert Verdict.CUT_SHORT in ndr.verdicts
    assert "cut short" in ndr.reason


def test_loss_at_every_load_gives_no_bound_and_a_reason() -> None:
    found = search(SETTINGS, 100_000.0, lambda d, load: simulated_trial(load, d, load * 0.5), lambda *_: None)
    assert found.bounds["ndr"].pps is None
    assert "every load" in found.bounds["ndr"].reason


def test_the_worst_direction_decides() -> None:
    trial = simulated_trial(1000.0, 1.0, 1000.0)
    trial.directions = [
        Direction(tx_port=0, rx_port=1, asked=1000, sent=1000, received=1000, lost=0),
        Direction(tx_port=1, rx_port=0, asked=1000, sent=1000, received=990, lost=10),
    ]
    trial.sent = 2000
    assert worst_loss(trial) == 20


def test_brackets_from_trials_are_conservative() -> None:
    trials = [simulated_trial(r, 1.0, f) for r, f in ((100, 100), (200, 190), (300, 300))]
    assert bounds_so_far(trials, 0.0, 1.0) == (100, 200)
    assert bounds_so_far(trials, 0.06, 1.0) == (300, None)
    assert raw_bound(trials, 0.0, 1.0).pps == 100
    assert raw_bound([], 0.0, 1.0).reason


@pytest.mark.parametrize("seed", range(20))
def test_loss_in_a_short_trial_is_the_stacks_and_never_called_the_generators(seed: int) -> None:
    """A ring that overflows now and then at any load, at a generator without limits."""
    chance = random.Random(seed)

    def noisy(duration: float, load: float) -> Trial:
        lost = 300 / duration if chance.random() < 0.4 else 0.0
        return simulated_trial(load, duration, min(load, 400_000.0) - lost)

    settings = dataclasses.replace(SETTINGS, initial_trial_s=0.2, width=0.05)
    found = search(settings, 1_000_000.0, noisy, lambda *_: None)
    for goal in ("ndr", "pdr"):
        assert Verdict.GENERATOR_LIMITED not in found.bounds[goal].verdicts
        assert found.bounds[goal].upper_pps is not None


def test_a_share_of_several_trials_may_be_bad() -> None:
    """FD.io's way: of three trials at a load one may be bad; the bound is what the others forwarded."""
    count = itertools.count()

    def every_third_loses(duration: float, load: float) -> Trial:
        lost = 300 / duration if next(count) % 3 == 0 else 0.0
        return simulated_trial(load, duration, min(load, 400_000.0) - lost)

    settings = dataclasses.replace(SETTINGS, initial_trial_s=1.0, width=0.05, duration_sum_s=3.0, exceed_ratio=0.5)
    strict = search(dataclasses.replace(settings, exceed_ratio=0.0), 1_000_000.0, every_third_loses, lambda *_: None)
    ndr = search(settings, 1_000_000.0, every_third_loses, lambda *_: None).bounds["ndr"]
    assert ndr.load_pps == pytest.approx(400_000.0, rel=0.06)
    assert ndr.loss_ratio == 0.0
    assert strict.bounds["ndr"].pps is None or strict.bounds["ndr"].pps < 0.5 * ndr.load_pps


def test_a_least_load_beyond_the_generator_is_said() -> None:
    settings = dataclasses.replace(SETTINGS, min_load_pps=2e6)
    found = search(settings, 1_300_000.0, SimulatedDut(9e9).measure, lambda *_: None)
    assert found.bounds["ndr"].pps is found.bounds["pdr"].pps is None
    assert "lower measure.throughput.min_load" in found.bounds["ndr"].reason
    assert found.bounds["mrr"].pps is not None
