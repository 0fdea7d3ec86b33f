# SPDX-License-Identifier: Apache-2.0
"""One rule for lower bounds and one for noise, whoever prints the number."""

from __future__ import annotations

import pytest

from harness.figures import bound_text, noisy, pdr_loss_of, point_verdicts, settled_verdicts
from harness.progress import describe_outcome
from harness.records import Bound, PointOutcome, Verdict


def limited(loss: float | None) -> Bound:
    """412 kpps, at which the generator fell short."""
    return Bound(pps=412_000, load_pps=412_000, upper_pps=None, loss_ratio=loss,
                 verdicts=[Verdict.GENERATOR_LIMITED])


@pytest.mark.parametrize(("bound", "text"), [
    (limited(0.0), ">= 412 kpps"), (limited(0.005), ">= 412 kpps"),
    (limited(0.4), "412 kpps"),  # the stack lost most of it: the generator limited nothing
    (limited(None), "412 kpps"), (limited(0.0).model_copy(update={"verdicts": []}), "412 kpps"),
    (limited(0.0).model_copy(update={"pps": None}), "n/a"), (None, "n/a"),
])
def test_a_lower_bound_is_printed_as_one(bound: Bound | None, text: str) -> None:
    assert bound_text(bound) == text


def test_the_console_prints_bounds_and_exact_rates_apart() -> None:
    outcome = PointOutcome(point="p", repeat=0, mrr=limited(0.4), ndr=limited(0.0), pdr=limited(0.008))
    assert describe_outcome(outcome) == "MRR 412 kpps, NDR >= 412 kpps, PDR 412 kpps"
    assert describe_outcome(outcome, 0.01) == "MRR 412 kpps, NDR >= 412 kpps, PDR >= 412 kpps"


def test_the_loss_that_pdr_allows_comes_from_the_plan() -> None:
    assert pdr_loss_of({"measure": {"search": {"pdr_loss": 0.02}}}) == 0.02
    assert pdr_loss_of({"measure": {"search": None}}) == pdr_loss_of({}) == 0.005


def test_noisy_is_an_interval_wider_than_five_per_cent_and_of_two_repeats_their_distance() -> None:
    # t(2) = 4.303: the interval is 2 x 4.303 x 1 / sqrt(3) = 4.97 wide, then 5.02.
    assert not noisy([99, 100, 101])
    assert noisy([98.98, 100, 101.02])
    assert noisy([100, 105.2])
    assert not noisy([100, 105])
    assert not noisy([100])
    assert not noisy([])


def test_an_interrupted_point_shows_the_rates_it_had_found() -> None:
    outcome = PointOutcome(point="p", repeat=0, status="interrupted", reason="Ctrl-C", mrr=limited(0.4))
    assert describe_outcome(outcome) == "interrupted: Ctrl-C, MRR 412 kpps"
    failed = outcome.model_copy(update={"status": "failed", "reason": "it died"})
    assert describe_outcome(failed) == "failed: it died"


def test_a_point_is_generator_limited_only_where_a_rate_is() -> None:
    lossy = Bound(pps=50e3, load_pps=90e3, upper_pps=None, loss_ratio=0.4,
                  verdicts=[Verdict.GENERATOR_LIMITED, Verdict.PAUSED])
    bare = lossy.model_copy(update={"loss_ratio": 0.0})
    said = [Verdict.GENERATOR_LIMITED, Verdict.PAUSED]
    assert settled_verdicts(lossy) == [Verdict.PAUSED]
    assert settled_verdicts(bare) == said
    assert point_verdicts(PointOutcome(point="p", repeat=0, mrr=lossy, verdicts=said)) == [Verdict.PAUSED]
    assert point_verdicts(PointOutcome(point="p", repeat=0, mrr=lossy, ndr=bare, verdicts=said)) == said
    assert point_verdicts(PointOutcome(point="p", repeat=0, verdicts=said)) == said  # no search
