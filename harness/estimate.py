# SPDX-License-Identifier: Apache-2.0
"""How many trials a plan will make and how long it will take, before and while it runs.

The search halves its interval in logarithmic steps, so its trials grow with log2(1 / width) for each of NDR and PDR:
2.5 x log2(1 / 0.5 %) = 19 each, 38 together; 35 to 42 were measured. Repetitions after pauses come on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.plan import MeasureSettings, SearchSettings

TRIALS_PER_HALVING = 2.5
#: Seconds beside the trials, as measured in the lab: start and settled stop of a trial; deploy, role check and undeploy
#: of a point; lab, generator and ceiling of a run.
PER_TRIAL_S, PER_POINT_S, PER_RUN_S = 0.25, 3.0, 10.0


@dataclass(frozen=True)
class Expected:
    """Trials and seconds; ``a + b`` and ``a * n`` add up and repeat."""

    trials: int
    seconds: float

    def __add__(self, other: Expected) -> Expected:
        return Expected(self.trials + other.trials, self.seconds + other.seconds)

    def __mul__(self, times: int) -> Expected:
        return Expected(self.trials * times, self.seconds * times)


def _trials(count: int, seconds: float) -> Expected:
    return Expected(count, count * (seconds + PER_TRIAL_S))


def search_trials(search: SearchSettings) -> int:
    """Expected trials of one search, MRR's included."""
    bounds = sum(goal in search.goals for goal in ("ndr", "pdr"))
    return math.ceil(bounds * TRIALS_PER_HALVING * math.log2(1 / search.width)) + ("mrr" in search.goals)


def point(measure: MeasureSettings, *, polls: bool = False) -> Expected:
    """One repeat of one point, deploy and undeploy included. ``polls``: the stack polls, so the load curve may be
    made a second time to count its polls (recording them costs something)."""
    total = Expected(0, PER_POINT_S)
    if measure.warmup_s > 0:
        total += _trials(1, measure.warmup_s)
    if measure.search is not None:
        count = search_trials(measure.search)
        # Coarse trials come first and are about half of all.
        mean_s = (measure.search.initial_trial_s + measure.search.trial_s) / 2
        found = _trials(count, mean_s)
        total += Expected(found.trials, min(found.seconds, measure.search.max_search_s))
    total += _trials(len(measure.latency_fractions), measure.latency_trial_s)
    return total + _trials(len(measure.load_rates_pps), measure.load_trial_s) * (2 if polls else 1)


def run(measure: MeasureSettings, polls: Sequence[bool], ceilings: int) -> Expected:
    """A whole run: a point for each of ``polls`` (see :func:`point`), each ``measure.repeat`` times, and ``ceilings``
    generator ceilings."""
    total = _trials(ceilings, measure.search.trial_s if measure.search else 1.0) + Expected(0, PER_RUN_S)
    for polling in polls:
        total += point(measure, polls=polling) * measure.repeat
    return total
