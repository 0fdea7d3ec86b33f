# SPDX-License-Identifier: Apache-2.0
"""What would change the answer: every verdict with its points, what is missing, how often it was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.noise import program
from harness.plan import PointPlan
from harness.records import Verdict
from harness.report.identity import clean, stack_name
from harness.report.numbers import count, plural, rate
from harness.report.summarise import PointSummary, RateSummary, repeated_for_pauses, repeated_trials
from harness.report.suspects import suspected
from harness.report.words import VERDICTS, of_role
from harness.rundata import RunData
from harness.store import LEFT_OUT


@dataclass(frozen=True)
class Caveat:
    """Something that would change the answer. ``verdict`` is the badge, "" for caveats without one."""

    verdict: str
    tone: str
    title: str
    text: str
    points: tuple[str, ...]


def caveats(run: RunData, points: Sequence[PointSummary]) -> tuple[Caveat, ...]:
    """What would change the answer, most serious first."""
    found = [*_incomplete(run, points), *_verdicts(run, points)]
    if run.plan.measure.repeat == 1:
        found.append(Caveat("", "warn", "One repeat", "Every point was measured once, so there is no spread: small "
                            "differences may be chance. Run with --repeat 5 before believing one.", ()))
    found += _pause_rule(points)
    order = {"bad": 0, "warn": 1, "info": 2}
    return tuple(sorted(found, key=lambda caveat: order[caveat.tone]))


def _incomplete(run: RunData, points: Sequence[PointSummary]) -> Iterable[Caveat]:
    for problem in run.problems:
        if run.info.state == "complete" and problem.endswith(LEFT_OUT):
            yield Caveat("", "info", "Resumed run", problem, ())
        else:
            yield Caveat("", "bad", "Incomplete run", problem, ())
    stopped = tuple(_title(point) for point in points if point.status == "interrupted")
    if stopped:
        yield Caveat("", "bad", "Point not finished", "The run ended, or its host was lost, before this was done; what "
                     "it had found until then is shown.", stopped)
    missing = tuple(_title(point) for point in points if point.status == "missing")
    if missing and run.info.state == "running":
        yield Caveat("", "bad", "Points still to come", "The run is under way; these have not been measured yet.",
                     missing)
    elif missing:
        yield Caveat("", "bad", "Points not reached", "The run ended before these were begun.", missing)


def _verdicts(run: RunData, points: Sequence[PointSummary]) -> Iterable[Caveat]:
    for verdict, text in VERDICTS.items():
        if verdict is Verdict.LAB and run.plan.lab:
            continue  # the head of the report says it at length
        marked = tuple(_title(point) + _detail(point, verdict) for point in points if verdict in point.verdicts)
        if marked:
            said = f"{text.means} What would change it: {text.change[0].lower()}{text.change[1:]}"
            yield Caveat(verdict.value, text.tone, "", of_role(run.plan.role, said), marked)


def _title(point: PointSummary) -> str:
    return point_title(point.plan)


def point_title(plan: PointPlan) -> str:
    """A point named in a list: label, cores, frame size."""
    size = f", {plan.frames.label}" if plan.frame_bytes else ""
    return f"{stack_name(plan)}, {plural(len(plan.cores), 'core')}{size}"


def _detail(point: PointSummary, verdict: Verdict) -> str:
    if verdict is Verdict.DEGRADED and point.degraded:
        return f" ({point.degraded})"
    if verdict is Verdict.EXTRA_CORE:
        extra = next((t.cpu.extra for t in point.trials if t.cpu is not None and t.cpu.extra), [])
        return f" ({clean('; '.join(extra[:3]), 200)})" if extra else ""
    if verdict is Verdict.NOISY:
        return f" ({clean(suspected(point.suspects), 300)})"
    if verdict is Verdict.CONTRADICTED:
        told = [f"{name} {bound.reason}" for o in point.outcomes for name, bound in (("NDR", o.ndr), ("PDR", o.pdr))
                if bound is not None and verdict in bound.verdicts]
        return f" ({clean('; '.join(told), 300)})" if told else ""
    if verdict is Verdict.OTHER_LOAD:
        # Most frequent first: the same program is seen in trial after trial, each time with another share.
        seen = Counter(program(text) for t in point.trials if t.cpu is not None for text in t.cpu.other)
        named = ", ".join(f"{name} in {plural(trials, 'trial')}" for name, trials in seen.most_common(4))
        return f" ({clean(named, 200)})" if named else ""
    return ""


def _pause_rule(points: Sequence[PointSummary]) -> Iterable[Caveat]:
    repeated, trials = repeated_trials(points)
    if not repeated:
        return
    changed = tuple(_first_attempts(point) for point in points
                    if repeated_trials([point])[0] and any(r.raw or r.raw_none for r in (point.ndr, point.pdr)))
    told = ("First attempts: highest load whose first attempt met the goal." if changed else
            "First attempts alone give the same rates.")
    counted = points[0].plan.role.counted
    pauses = repeated_for_pauses(points)
    why = [text for number, text in ((pauses, f"{count(pauses)} because they lost {counted} while a core stood still"),
                                     (repeated - pauses, f"{count(repeated - pauses)} because the generator fell short "
                                                         "of a load that it can send")) if number]
    yield Caveat("", "info", "Trials repeated",
                 f"{count(repeated)} of {count(trials)} search trials were repeated, {' and '.join(why)}. {told}",
                 changed)


def _first_attempts(point: PointSummary) -> str:
    """Found rates against those of first attempts, and how many trials of the point were repeated."""
    unit = point.plan.role.rate_unit
    rates = ", ".join(f"{r.name} {rate(r.rate.median, unit) if r.rate else 'n/a'}, first attempts {_first(r, unit)}"
                      for r in (point.ndr, point.pdr) if r.raw or r.raw_none)
    repeated, trials = repeated_trials([point])
    return f"{_title(point)}: {rates} ({count(repeated)} of {count(trials)} trials repeated)"


def _first(summary: RateSummary, unit: str) -> str:
    return rate(summary.raw.median, unit) if summary.raw is not None else "none passed"
