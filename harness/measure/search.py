# SPDX-License-Identifier: Apache-2.0
"""MRR, NDR and PDR in one search: FD.io's MLRsearch behind ``measure(duration, load) -> Trial``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from MLRsearch import (
    AbstractMeasurer,
    Config,
    GoalResult,
    MeasurementResult,
    MultipleLossRatioSearch,
    SearchGoal,
)

from harness.figures import worst_loss
from harness.measure.verdicts import shortfall
from harness.plan import SearchSettings
from harness.records import Bound, Trial, Verdict, in_order

#: One trial at (duration in seconds, load in pps per direction); pauses already dealt with.
Measure = Callable[[float, float], Trial]
#: Told after each trial: goal name, lower bound, upper bound (pps, None while unknown).
Watch = Callable[[str, float | None, float | None], None]

#: Verdicts of a trial that belong beside the rate it decided.
_BESIDE = (Verdict.GENERATOR_LIMITED, Verdict.PAUSED, Verdict.UNEXPLAINED_LOSS, Verdict.EXTRA_CORE, Verdict.OTHER_LOAD)
#: A load that passed only after more attempts than this may not pass next time.
_BELIEVABLE_ATTEMPTS = 2
#: Share of the highest load that has to have been offered for a maximum receive rate to be one without a word.
_FULL_LOAD = 0.95


@dataclass
class SearchResult:
    """``bounds`` by goal name ("mrr", "ndr", "pdr"); ``trials`` as given to the search, in order."""

    bounds: dict[str, Bound] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)


class _Measurer(AbstractMeasurer):  # type: ignore[misc]
    """Hands MLRsearch the offered and lost counts of each trial.

    A generator that fell short (by more than the verdict ``generator-limited`` forgives, and not for a pause) counts as
    loss: MLRsearch then takes the load for too high, so a load beyond the generator is never an NDR.
    """

    def __init__(self, measure: Measure, result: SearchResult, report: Callable[[], None]) -> None:
        self._measure, self._result, self._report = measure, result, report

    def measure(self, intended_duration: float, intended_load: float) -> MeasurementResult:
        trial = self._measure(intended_duration, intended_load)
        self._result.trials.append(trial)
        self._report()
        return MeasurementResult(
            intended_duration=intended_duration, intended_load=intended_load, offered_count=trial.sent,
            loss_count=worst_loss(trial), intended_count=trial.sent + shortfall(trial),
        )


def search(settings: SearchSettings, max_load_pps: float, measure: Measure, watch: Watch, unit: str = "pps",
           ) -> SearchResult:
    """Find the goals' bounds between ``settings.min_load_pps`` and ``max_load_pps`` (the generator's ceiling or line
    rate). A goal without a lower bound has pps None and a reason. ``unit``: of rates, for that."""
    result = SearchResult()
    goals = _goals(settings)
    if goals and max_load_pps > settings.min_load_pps:
        algorithm = MultipleLossRatioSearch(config=_config(settings, goals, max_load_pps))
        measurer = _Measurer(measure, result, lambda: _tell(watch, goals, result.trials))
        try:
            found = algorithm.search(measurer)
        except RuntimeError:  # MLRsearch's only type: time is up
            for name, goal in goals.items():
                result.bounds[name] = _cut_short(goal, result.trials, settings)
        else:
            for name, goal in goals.items():
                result.bounds[name] = _bound(found[goal], goal, result.trials, settings, max_load_pps, unit)
    elif goals:
        why = (f"the least load to try, {settings.min_load_pps:,.0f} {unit}, is not below {max_load_pps:,.0f} {unit}, "
               "the most the generator or the wire can carry; lower measure.throughput.min_load")
        result.bounds |= {name: Bound(pps=None, load_pps=None, upper_pps=None, reason=why) for name in goals}
    if "mrr" in settings.goals:
        result.bounds["mrr"] = _mrr(measure, settings.trial_s, max_load_pps, result, unit)
    return result


def _goals(settings: SearchSettings) -> dict[str, SearchGoal]:
    """By default one trial of full length decides each bound and no trial may be bad (RFC 2544's way); with a longer
    ``duration_sum`` and an ``exceed_ratio`` a share of several may (FD.io's way)."""
    ratios = {"ndr": 0.0, "pdr": settings.pdr_loss}
    return {
        name: SearchGoal(
            loss_ratio=ratios[name], exceed_ratio=settings.exceed_ratio, relative_width=settings.width,
            initial_trial_duration=settings.initial_trial_s, final_trial_duration=settings.trial_s,
            duration_sum=settings.duration_sum_s or settings.trial_s, preceding_targets=2, expansion_coefficient=2,
            fail_fast=False,
        )
        for name in ("ndr", "pdr") if name in settings.goals
    }


def _config(settings: SearchSettings, goals: dict[str, SearchGoal], max_load_pps: float) -> Config:
    config = Config()
    config.goals = list(goals.values())
    config.min_load, config.max_load = settings.min_load_pps, max_load_pps
    config.search_duration_max = settings.max_search_s
    config.warmup_duration = None  # the runner's own warm-up has been made and is stored
    return config


def _bound(found: GoalResult, goal: SearchGoal, trials: Sequence[Trial], settings: SearchSettings, max_load_pps: float,
           unit: str) -> Bound:
    """The relevant bounds as rates that were measured: offered and forwarded by the trials that decided them."""
    lower, upper = found.relevant_lower_bound, found.relevant_upper_bound
    upper_pps = None if upper is None else float(upper)
    if lower is None:
        reason = f"losses above the goal at every load down to {settings.min_load_pps:,.0f} {unit}"
        return Bound(pps=None, load_pps=None, upper_pps=upper_pps, reason=reason)
    verdicts, reason = [], ""
    if upper_pps is None:
        reason = f"no upper bound up to {max_load_pps:,.0f} {unit}, the most the generator or the wire can carry"
    elif not any(worst_loss(t) > goal.loss_ratio * t.sent for t in _at(trials, upper_pps, 0.0)):
        reason = f"at {upper_pps:,.0f} {unit} the generator fell short, not the stack"
        upper_pps = None
    if upper_pps is None:
        verdicts.append(Verdict.GENERATOR_LIMITED)
    at = _at(trials, float(lower), settings.trial_s)
    good = [trial for trial in at if _meets(trial, goal.loss_ratio)]
    if len(good) < len(at):
        reason = "; ".join(filter(None, [f"{len(good)} of {len(at)} trials at this load met the goal", reason]))
    return _measured(good or at, upper_pps, reason, verdicts)


def _at(trials: Sequence[Trial], load_pps: float, trial_s: float) -> list[Trial]:
    """Trials at a load, at least (nearly) so long."""
    return [t for t in trials if abs(t.asked_pps - load_pps) < 1e-3 and t.duration_s >= trial_s * 0.999]


def _cut_short(goal: SearchGoal, trials: Sequence[Trial], settings: SearchSettings) -> Bound:
    """What is known when the time is up: the bracket so far, said to be one."""
    bound = raw_bound(trials, goal.loss_ratio, settings.trial_s)
    known = "no load met the goal so far" if bound.pps is None else "it is at least this"
    bound.reason = f"the search was cut short after {settings.max_search_s:g} s: {known}"
    bound.verdicts.append(Verdict.CUT_SHORT)
    return bound


def _measured(at: Sequence[Trial], upper_pps: float | None, reason: str = "", verdicts: Sequence[Verdict] = (),
              ) -> Bound:
    """Of several trials at the load the least favourable: what was forwarded, what was sent, the loss, the verdicts."""
    worst = max(at, key=lambda t: t.loss_ratio or 0.0)
    attempts = worst.attempt + 1
    said = {*verdicts, *(v for v in worst.verdicts if v in _BESIDE)}
    if attempts > _BELIEVABLE_ATTEMPTS:
        said.add(Verdict.INCONCLUSIVE)
    return Bound(pps=worst.forwarding_pps, load_pps=worst.offered_pps, upper_pps=upper_pps, attempts=attempts,
                 loss_ratio=worst.loss_ratio, reason=reason, verdicts=in_order(said))


def _mrr(measure: Measure, trial_s: float, max_load_pps: float, result: SearchResult, unit: str) -> Bound:
    """Forwarding rate at maximum offered load: of the search's trial there, or of one made now."""
    at_max = [t for t in result.trials if t.asked_pps >= max_load_pps * 0.9999 and t.duration_s >= trial_s * 0.999]
    if not at_max:
        at_max = [measure(trial_s, max_load_pps)]
        result.trials.append(at_max[0])
    trial = max(at_max, key=lambda t: t.offered_pps)
    reason = ""
    if trial.offered_pps < _FULL_LOAD * max_load_pps:
        reason = f"only {trial.offered_pps:,.0f} of {max_load_pps:,.0f} {unit} were offered"
    return Bound(
        pps=trial.forwarding_pps, load_pps=trial.offered_pps, upper_pps=None, loss_ratio=trial.loss_ratio,
        reason=reason, verdicts=[v for v in trial.verdicts if v in _BESIDE],
    )


def _meets(trial: Trial, loss_ratio: float) -> bool:
    """What MLRsearch makes of the counts it is given."""
    short = shortfall(trial)
    return worst_loss(trial) + short <= loss_ratio * (trial.sent + short)


Bracket = tuple[float | None, float | None]


def bounds_so_far(trials: Sequence[Trial], loss_ratio: float, min_duration_s: float) -> Bracket:
    """(highest load that met the goal in a trial of full length, below the lowest that failed it in any; that lowest):
    a trial that is cut off early can show too much loss, but not that there is none."""
    upper = min((t.asked_pps for t in trials if t.sent and not _meets(t, loss_ratio)), default=None)
    full = [t for t in trials if t.duration_s >= min_duration_s * 0.999 and t.sent]
    good = [t.asked_pps for t in full if _meets(t, loss_ratio)]
    return max((load for load in good if upper is None or load < upper), default=None), upper


def raw_bound(first_attempts: Sequence[Trial], loss_ratio: float, trial_s: float) -> Bound:
    """The highest load whose first attempt met the goal, below the lowest whose first attempt did not."""
    lower, upper = bounds_so_far(first_attempts, loss_ratio, trial_s)
    if lower is None:
        return Bound(pps=None, load_pps=None, upper_pps=upper, reason="no first attempt of full length met the goal")
    return _measured(_at(first_attempts, lower, trial_s), upper)


def _tell(watch: Watch, goals: dict[str, SearchGoal], trials: Sequence[Trial]) -> None:
    for name, goal in goals.items():
        lower, upper = bounds_so_far(trials, goal.loss_ratio, goal.initial_trial_duration)
        watch(name, lower, upper)
