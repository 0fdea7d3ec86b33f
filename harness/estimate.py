# SPDX-License-Identifier: Apache-2.0
"""How many trials a plan will make and how long it will take, before and while it runs.

The search halves its interval in logarithmic steps, so its trials grow with log2(1 / width) for each of NDR and PDR:
2.5 x log2(1 / 0.5 %) = 19 each, 38 together; 35 to 42 were measured. Repetitions after pauses come on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.plan import MeasureSettings, PointPlan, Role, SearchSettings

TRIALS_PER_HALVING = 2.5
#: Trials from which a ceiling is taken: at line rate, and at what those sent; one more before them warms the path up.
FLOODED_TRIALS, KEPT_TRIALS = 2, 2
#: Load at which the floor of latency is measured, unless the latency stream alone needs more.
FLOOR_PPS = 10_000.0
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


def has_floor(measure: MeasureSettings, like: PointPlan) -> bool:
    """Whether latency is asked for and frames come back to be timed."""
    return measure.latency_pps > 0 and like.role not in (Role.DROP, Role.ACCEPT) and not like.no_latency


def point(measure: MeasureSettings, *, polls_apart: bool = False) -> Expected:
    """One repeat of one point, deploy and undeploy included. ``polls_apart``: the load curve is made a second time to
    count polls (recording them costs something)."""
    total = Expected(0, PER_POINT_S)
    if measure.warmup_s > 0:
        total += _trials(1, measure.warmup_s)
    if measure.search is not None:
        count = search_trials(measure.search)
        # Coarse trials come first and are about half of all; several that decide together are mostly two in three.
        several = max(1.0, (measure.search.duration_sum_s or measure.search.trial_s) / measure.search.trial_s * 2 / 3)
        count = math.ceil(count * several)
        mean_s = (measure.search.initial_trial_s + measure.search.trial_s) / 2
        found = _trials(count, mean_s)
        total += Expected(found.trials, min(found.seconds, measure.search.max_search_s))
    total += _trials(len(measure.latency_fractions), measure.latency_trial_s)
    if measure.bystander is not None:  # once without load
        total += Expected(0, measure.load_trial_s)
    if measure.drop_reasons:
        total += _trials(1, measure.diagnose_trial_s)
    return total + _trials(len(measure.load_rates_pps), measure.load_trial_s) * (2 if polls_apart else 1)


def run(measure: MeasureSettings, polls_apart: Sequence[bool], ceilings: int, *, floors: bool = False) -> Expected:
    """A whole run: a point for each of ``polls_apart`` (see :func:`point`), each ``measure.repeat`` times, and
    ``ceilings`` generator ceilings, with their ``floors``."""
    trials = _trials(1 + FLOODED_TRIALS + KEPT_TRIALS, measure.search.trial_s if measure.search else 1.0)
    if floors:
        trials += _trials(1, measure.latency_trial_s)
    total = (trials + Expected(0, PER_POINT_S)) * ceilings + Expected(0, PER_RUN_S)
    for apart in polls_apart:
        total += point(measure, polls_apart=apart) * measure.repeat
    return total
