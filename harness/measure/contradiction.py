# SPDX-License-Identifier: Apache-2.0
"""Whether the other trials of a point refute a rate that its search found. The one rule for that: the runner marks
rates by it, as does whoever reads a run (:func:`settle`), and capacity planning reads which trials they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.figures import worst_loss
from harness.records import Bound, Phase, PointOutcome, Trial, Verdict, in_order
from harness.units import format_rate

#: How far a load has to be from a bound, relative to it, to say anything against it.
MARGIN = 0.01


@dataclass(frozen=True)
class Against:
    """A trial that refutes a rate. ``lost``: it lost more than the goal allows at a lower load; otherwise it lost no
    more at a higher one."""

    trial: Trial
    lost: bool


def against(bound: Bound, goal: float, trials: Iterable[Trial]) -> Iterator[Against]:
    """Of the latency and load trials of the bound's point and repeat, those below it that lost more than ``goal`` (a
    ratio) and those above its upper load (pps per direction) that lost no more."""
    if bound.pps is None or bound.load_pps is None:
        return
    for trial in trials:
        if (trial.phase not in (Phase.LATENCY, Phase.LOAD) or trial.spoilt or trial.superseded
                or trial.status != "ok" or not trial.sent):
            continue
        lost = worst_loss(trial) > goal * trial.sent
        below = trial.offered_pps <= bound.load_pps * (1 - MARGIN)
        above = bound.upper_pps is not None and trial.offered_pps >= bound.upper_pps * (1 + MARGIN)
        if (below and lost) or (above and not lost):
            yield Against(trial, lost)


def contradict(bound: Bound, goal: float, trials: Iterable[Trial], unit: str = "pps") -> None:
    """Mark ``bound`` as contradicted, with the trials in its reason, where some are against it. ``unit``: of rates."""
    told = [_told(found.trial, unit) for found in against(bound, goal, trials)]
    if told:
        bound.verdicts = in_order([*bound.verdicts, Verdict.CONTRADICTED])
        bound.reason = "; ".join(filter(None, [bound.reason, "contradicted by " + _first(told)]))


def settle(outcomes: Iterable[PointOutcome], trials: Iterable[Trial], pdr_loss: float, unit: str = "pps") -> None:
    """Mark what a run's own trials refute, which older harnesses did not do; ``unit``: of its rates.

    A rate refuted in half of the repeats of a point, in less than half of them by loss, is a lower bound
    (``Bound.exceeded_pps``) in those that a higher load refutes."""
    of_repeat: dict[tuple[str, int], list[Trial]] = {}
    for trial in trials:
        if trial.phase in (Phase.LATENCY, Phase.LOAD):
            of_repeat.setdefault((trial.point, trial.repeat), []).append(trial)
    by_point: dict[str, list[PointOutcome]] = {}
    for outcome in outcomes:
        if outcome.status == "ok":
            by_point.setdefault(outcome.point, []).append(outcome)
    for point, repeats in by_point.items():
        for name, goal in (("ndr", 0.0), ("pdr", pdr_loss)):
            found = []
            for outcome in repeats:
                bound: Bound | None = getattr(outcome, name)
                if bound is not None and bound.pps is not None:
                    found.append((bound, list(against(bound, goal, of_repeat.get((point, outcome.repeat), ())))))
                    if found[-1][1] and Verdict.CONTRADICTED not in bound.verdicts:
                        contradict(bound, goal, of_repeat[point, outcome.repeat], unit)
                        outcome.verdicts = in_order([*outcome.verdicts, Verdict.CONTRADICTED])
            _exceeded(found)


def _exceeded(repeats: Sequence[tuple[Bound, Sequence[Against]]]) -> None:
    told = [(bound, found) for bound, found in repeats if found]
    lossy = sum(any(one.lost for one in found) for _, found in told)
    if 2 * len(told) < len(repeats) or (lossy and 2 * lossy >= len(repeats)):
        return
    for bound, found in told:
        if not any(one.lost for one in found):
            bound.exceeded_pps = max(one.trial.offered_pps for one in found)


def _told(trial: Trial, unit: str) -> str:
    return f"trial {trial.number} ({format_rate(trial.offered_pps, unit)} lost {worst_loss(trial) / trial.sent:.2%})"


def _first(told: Sequence[str]) -> str:
    return told[0] if len(told) == 1 else f"{told[0]} and {len(told) - 1} more"
