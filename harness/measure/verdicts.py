# SPDX-License-Identifier: Apache-2.0
"""Verdicts on one trial, from its own figures (design.md, "Verdicts")."""

from __future__ import annotations

from harness.generator.contract import TrafficResult
from harness.measure.pauses import PauseLog
from harness.records import Trial, Verdict

#: Sent less than asked by more than this is a shortfall.
SHORTFALL = 0.001
#: A trial that took this much longer than asked was stretched: share of the duration plus a fixed part for the call.
STRETCH, STRETCH_S = 0.01, 0.05
#: Loss without a place above this share of what was sent.
UNEXPLAINED = 0.01
#: Share of its time that the busiest sending core may be at work.
SATURATED = 0.95


def stalled(traffic: TrafficResult) -> int:
    """Departures left out because a sending core stood still."""
    return sum(d.skipped.get("stall", 0) for d in traffic.directions)


def short_of(traffic: TrafficResult) -> int:
    """Frames asked for and not sent, for reasons other than pauses."""
    asked = sum(d.asked for d in traffic.directions)
    sent = sum(d.sent for d in traffic.directions)
    return max(0, asked - sent - stalled(traffic))


def stretched(traffic: TrafficResult) -> bool:
    """Whether the generator took longer than it was told (duration stretching)."""
    report = traffic.report
    return report.real_s > report.asked_s * (1 + STRETCH) + STRETCH_S


def lost_in_pauses(trial: Trial, pauses: PauseLog) -> bool:
    """Whether the trial lost frames and recorded pauses account for every one of them."""
    losses = trial.losses | ({"unexplained": trial.unexplained} if trial.unexplained > 0 else {})
    return trial.lost > 0 and pauses.excuses(losses, trial.offered_pps)


def judge(trial: Trial, traffic: TrafficResult, pauses: PauseLog, *, lab: bool, live_queues: int) -> list[Verdict]:
    """Every verdict that this trial's figures call for, in a fixed order."""
    asked = sum(d.asked for d in traffic.directions)
    found = []
    if short_of(traffic) > SHORTFALL * asked or stretched(traffic) or traffic.report.utilisation > SATURATED:
        found.append(Verdict.GENERATOR_LIMITED)
    if stalled(traffic) > SHORTFALL * asked or lost_in_pauses(trial, pauses):
        found.append(Verdict.PAUSED)
    if trial.unexplained > UNEXPLAINED * max(trial.sent, 1):
        found.append(Verdict.UNEXPLAINED_LOSS)
    if lab:
        found.append(Verdict.LAB)
        if live_queues < 2:
            found.append(Verdict.LAB_RSS)
    if trial.cpu is not None and trial.cpu.extra:
        found.append(Verdict.EXTRA_CORE)
    if trial.cpu is not None and trial.cpu.other:
        found.append(Verdict.OTHER_LOAD)
    return found
