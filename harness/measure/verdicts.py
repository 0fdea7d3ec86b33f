# SPDX-License-Identifier: Apache-2.0
"""Verdicts on one trial, from its own figures (design.md, "Verdicts")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.generator.contract import DirectionResult, SelfReport
from harness.measure.pauses import PauseLog
from harness.records import Direction, Trial, Verdict, in_order

#: Sent less than asked by more than this is a shortfall.
SHORTFALL = 0.001
#: A trial that took this much longer than asked was stretched: share of the duration plus a fixed part for the call.
STRETCH, STRETCH_S = 0.01, 0.05
#: Loss without a place above this share of what was sent.
UNEXPLAINED = 0.01
#: Up to this share of its ceiling the generator is expected to send what it is asked for.
_SURELY_REACHED = 0.9
#: Share of its time that the busiest sending core may be at work.
SATURATED = 0.95


class Offered(Protocol):
    """What the generator was asked and did, by direction: a trial, or the traffic it was made of."""

    @property
    def directions(self) -> Sequence[Direction | DirectionResult]: ...


def stalled(offered: Offered) -> int:
    """Departures left out because a sending core stood still."""
    return sum(d.skipped.get("stall", 0) for d in offered.directions)


def short_of(offered: Offered) -> int:
    """Frames asked for and not sent, for reasons other than pauses."""
    return max(0, sum(d.asked - d.sent for d in offered.directions) - stalled(offered))


def shortfall(offered: Offered) -> int:
    """``short_of``, or 0 when that is too little for ``generator-limited``."""
    short = short_of(offered)
    return short if short > SHORTFALL * sum(d.asked for d in offered.directions) else 0


def fell_short(trial: Trial, reachable_pps: float) -> bool:
    """Whether the generator left out departures at a load that it is known to reach: the trial then says nothing of a
    stack that lost no more than its goal allows, and nothing of the generator's limit."""
    return shortfall(trial) > 0 and trial.asked_pps <= _SURELY_REACHED * reachable_pps


def stretched(report: SelfReport) -> bool:
    """Whether the generator took longer than it was told (duration stretching)."""
    return report.real_s > report.asked_s * (1 + STRETCH) + STRETCH_S


def lost_in_pauses(trial: Trial, pauses: PauseLog) -> bool:
    """Whether the trial lost frames and recorded pauses account for every one of them."""
    return trial.lost > 0 and pauses.excuses(with_unexplained(trial), trial.offered_pps)


def with_unexplained(trial: Trial) -> dict[str, int]:
    """Lost frames by place, those without one too."""
    return trial.losses | ({"unexplained": trial.unexplained} if trial.unexplained > 0 else {})


def judge(trial: Trial, report: SelfReport, *, lab: bool, live_queues: int) -> list[Verdict]:
    """Every verdict that this trial's figures call for, in order."""
    asked = sum(d.asked for d in trial.directions)
    calls = {
        Verdict.GENERATOR_LIMITED: shortfall(trial) > 0 or stretched(report) or (report.utilisation or 0.0) > SATURATED,
        Verdict.PAUSED: trial.spoilt or stalled(trial) > SHORTFALL * asked,
        Verdict.UNEXPLAINED_LOSS: trial.unexplained > UNEXPLAINED * max(trial.sent, 1),
        Verdict.LAB: lab,
        Verdict.LAB_RSS: live_queues < 2,
        Verdict.EXTRA_CORE: trial.cpu is not None and bool(trial.cpu.extra),
        Verdict.OTHER_LOAD: trial.cpu is not None and bool(trial.cpu.other),
        Verdict.FAILED: trial.surplus > 0,
    }
    return in_order(verdict for verdict, holds in calls.items() if holds)
