# SPDX-License-Identifier: Apache-2.0
"""Scaling: laws that are known are found again, bounds are bounds, and 6 cores are foretold from 4."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest

from harness.analysis import references
from harness.analysis.scaling import CountRates, Scaling, fit, from_points


def _law(cores: int, serial: float, crosstalk: float) -> float:
    return 5e6 * cores / (1 + serial * (cores - 1) + crosstalk * cores * (cores - 1))


@pytest.mark.parametrize(("serial", "crosstalk", "model"), [(0.05, 0.02, "usl"), (0.08, 0.0, "amdahl")])
def test_a_known_law_is_found_again_in_noise_and_its_interval_holds_the_truth(
        serial: float, crosstalk: float, model: str) -> None:
    random = np.random.default_rng(3)
    counts = [CountRates(n, tuple(_law(n, serial, crosstalk) * np.exp(random.normal(0, 0.01, 5))))
              for n in (1, 2, 3, 4, 6, 8)]
    found = fit(counts, resamples=40)
    assert found.model is not None
    assert found.model.name == model
    at = found.at(12)
    assert at is not None
    assert at.low is not None
    assert at.high is not None
    assert at.source == "extrapolated"
    assert at.low < _law(12, serial, crosstalk) < at.high
    assert at.high / at.low < 1.25


def test_intervals_of_many_simulated_runs_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    inside = 0
    for run in range(60):
        counts = [CountRates(n, tuple(_law(n, 0.05, 0) * np.exp(random.normal(0, 0.02, 5)))) for n in (1, 2, 3, 4)]
        at = fit(counts, seed=run, resamples=100).at(6)
        assert at is not None
        assert at.low is not None
        assert at.high is not None
        inside += at.low <= _law(6, 0.05, 0) <= at.high
    print(f"\n95 % intervals on 6 cores from 1 to 4, 5 repeats: {inside} of 60 hold the truth")
    assert inside >= 54


def test_the_model_is_one_that_so_many_core_counts_allow() -> None:
    counts = [CountRates(n, (_law(n, 0.1, 0.02),)) for n in range(1, 8)]
    names = {n: model.name for n in range(2, 8) if (model := fit(counts[:n], resamples=0).model) is not None}
    assert names == {2: "line", 3: "amdahl", 4: "amdahl", 5: "usl", 6: "usl", 7: "usl"}
    one = fit(counts[:1])
    assert one.model is None
    assert "one core count" in one.reason


def test_nothing_is_said_beyond_twice_and_no_fit_grows_more_than_proportionally() -> None:
    found = fit([CountRates(1, (1e6,)), CountRates(2, (2.4e6,)), CountRates(4, (5e6,))])
    assert found.at(9) is None
    eight = found.at(8)
    assert eight is not None
    assert eight.rate <= 8 * 1.25e6 * 1.001
    assert fit([CountRates(2, (1e6,)), CountRates(4, (2e6,))]).at(1) is None


def test_bounds_are_not_fitted_and_hold_what_is_foretold_up() -> None:
    exact = [CountRates(1, (1e6,)), CountRates(2, (1.5e6,))]
    plain, bounded = fit(exact), fit([*exact, CountRates(3, (), at_least=2.4e6)])
    assert plain.model == bounded.model
    three = bounded.at(3)
    assert three is not None
    assert three.rate == 2.4e6
    capped = fit([*exact, CountRates(3, (1.6e6,), capped=True)])
    four = capped.at(4)
    assert four is not None
    assert (four.rate, four.bounded) == (1.6e6, True)


def test_verdict_efficiency_and_the_core_that_adds_less_than_half() -> None:
    found = fit([CountRates(1, (1e6,)), CountRates(2, (1.8e6,)), CountRates(4, (2.6e6,)), CountRates(8, (3e6,))])
    assert found.efficiency() == pytest.approx({1: 1, 2: 0.9, 4: 0.65, 8: 0.375})
    half = found.half_core_at()
    assert half is not None
    assert (half.cores, half.source) == (2, "measured")
    straight = fit([CountRates(n, (n * 1e6,)) for n in (1, 2, 3)])
    assert straight.half_core_at() is None


def _foretold(counts: list[CountRates], at: int) -> tuple[Scaling, float]:
    found = fit([count for count in counts if count.cores <= 4 and count.cores != at], resamples=0)
    foretold, truth = found.at(at), next(count.rate for count in counts if count.cores == at)
    assert foretold is not None
    assert truth is not None
    return found, foretold.rate / truth - 1


def test_published_series_six_cores_foretold_from_up_to_four() -> None:
    """Held back: 6 cores of every series that has 1, 2, 3, 4 and 6. What the source says was limited by something other
    than cores (NIC, PCIe) is told to the planner at up to 4 cores, as a run tells it; without that is printed too."""
    told, blind = [], []
    print("\nseries                      model    error   (not told what was capped)")
    for name, points in references.series().items():
        if not {1, 2, 3, 4, 6} <= set(points):
            continue
        found, error = _foretold(from_points(points), 6)
        _, without = _foretold([CountRates(n, (p.pps,)) for n, p in points.items() if p.pps is not None], 6)
        told.append(abs(error))
        blind.append(abs(without))
        capped = [n for n, p in points.items() if p.kind == "capped"]
        note = f"capped at {', '.join(map(str, capped))} cores" if capped else ""
        assert found.model is not None
        print(f"{name:27} {found.model.name:7} {error:+7.1%}   {without:+7.1%}  {note}")
    print(f"{len(told)} series: median error {median(told):.1%}, worst {max(told):.1%}; "
          f"not told what was capped: median {median(blind):.1%}, worst {max(blind):.1%}")
    assert len(told) == 9
    assert median(told) <= 0.10
