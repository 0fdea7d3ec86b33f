# SPDX-License-Identifier: Apache-2.0
"""Rates that other trials of the same point refute, on simulated trials."""

from __future__ import annotations

import pytest

from harness.figures import bound_text
from harness.measure.contradiction import contradict
from harness.records import Bound, Direction, Phase, Trial, Verdict


def trial(load: float, lost: int, *, phase: Phase = Phase.LOAD, spoilt: bool = False,
          superseded: bool = False) -> Trial:
    sent = round(load)
    return Trial(number=7, point="p", repeat=0, phase=phase, started_at="", asked_pps=load, duration_s=1.0, real_s=1.0,
                 offered_pps=load, sent=sent, received=sent - lost, lost=lost, spoilt=spoilt, superseded=superseded,
                 directions=[Direction(tx_port=0, rx_port=0, asked=sent, sent=sent, received=sent - lost, lost=lost)])


@pytest.mark.parametrize(("goal", "other", "refuted"), [
    (0.005, trial(90_000, 8_000), True),
    (0.005, trial(90_000, 8_000, phase=Phase.LATENCY), True),
    (0.005, trial(110_000, 110), True),
    (0.0, trial(90_000, 1), True),
    (0.005, trial(90_000, 450), False),  # what the goal allows
    (0.005, trial(110_000, 551), False),  # more than it allows, above: as the search said
    (0.0, trial(99_500, 1), False),  # within the margin
    (0.005, trial(101_000, 0), False),  # between the bounds and within the margin
    (0.005, trial(90_000, 8_000, phase=Phase.SEARCH), False),
    (0.005, trial(90_000, 8_000, spoilt=True), False),
    (0.005, trial(90_000, 8_000, superseded=True), False),
])
def test_only_a_clear_other_trial_refutes_a_bound(goal: float, other: Trial, refuted: bool) -> None:
    bound = Bound(pps=100_000.0, load_pps=100_000.0, upper_pps=100_500.0, loss_ratio=0.0)
    contradict(bound, goal, [other])
    assert (Verdict.CONTRADICTED in bound.verdicts) is refuted
    assert ("contradicted by trial 7" in bound.reason) is refuted
    assert bound_text(bound).endswith("(contradicted)") is refuted


def test_no_upper_bound_cannot_be_refuted_from_above() -> None:
    bound = Bound(pps=100_000.0, load_pps=100_000.0, upper_pps=None, loss_ratio=0.0)
    contradict(bound, 0.0, [trial(200_000, 0)])
    assert not bound.verdicts
