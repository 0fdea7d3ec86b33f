# SPDX-License-Identifier: Apache-2.0
"""The answer in words: the headline, the sentence below it, and what would change the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.plan import PointPlan
from harness.records import Verdict
from harness.report.identity import Look, stack_key, stack_name
from harness.report.load import RunData
from harness.report.numbers import Spread, count, percent, plural, rate, seconds, significant
from harness.report.summarise import Limits, PointSummary, RateSummary, repeated_trials
from harness.report.words import VERDICTS, verb

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Answer:
    """``headline``: one sentence. ``deck``: the sentences below it."""

    headline: str
    deck: tuple[str, ...]


@dataclass(frozen=True)
class Caveat:
    """Something that would change the answer. ``verdict`` is the badge, "" for caveats without one."""

    verdict: str
    tone: str
    title: str
    text: str
    points: tuple[str, ...]


@dataclass(frozen=True)
class _Ranked:
    """A point in the comparison the headline makes."""

    point: PointSummary
    spread: Spread
    at_least: bool


def cores_text(number: int) -> str:
    """"one core", "12 cores"."""
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} core{'' if number == 1 else 's'}"


def answer(run: RunData, points: Sequence[PointSummary], looks: dict[str, Look]) -> Answer:
    """Headline and deck of one run."""
    ranked, metric = _ranked(points)
    return Answer(_headline(run, ranked, metric, looks), tuple(_deck(run, points)))


def _ranked(points: Sequence[PointSummary]) -> tuple[list[_Ranked], str]:
    """The fairest group to compare (same frame size, same number of cores, most stacks measured) by the strictest
    rate that most of its points have, best first."""
    groups: dict[tuple[int, int], list[PointSummary]] = defaultdict(list)
    for point in points:
        groups[point.plan.frame_bytes, len(point.plan.cores)].append(point)
    best: list[_Ranked] = []
    name = ""
    for group in groups.values():
        for index, metric in enumerate(("NDR", "PDR", "MRR")):
            have = [_Ranked(p, spread, p.rates()[index].at_least) for p in group
                    if (spread := p.rates()[index].rate) is not None]
            if len(have) > len(best):
                best, name = have, metric
    return sorted(best, key=lambda entry: -entry.spread.median), name


def _headline(run: RunData, ranked: Sequence[_Ranked], metric: str, looks: dict[str, Look]) -> str:
    if not ranked:
        return "Nothing was measured: every point failed, was skipped, or was not reached"
    best = ranked[0]
    plan = best.point.plan
    limits = Limits.of(run.plan)
    how = {"NDR": "without loss", "PDR": f"at {percent(limits.pdr_loss, 1)} loss", "MRR": "at full load"}[metric]
    least = "at least " if best.at_least else ""
    said = (f"{_name(best.point, looks)} {verb(plan.role)} {least}{rate(best.spread.median)} of "
            f"{plan.frame_bytes}-byte frames {how} on {cores_text(len(plan.cores))}")
    others = [_against(best.spread, other, _name(other.point, looks), limits.width) for other in ranked[1:4]]
    if not others:
        return said
    return f"{said}: {_listing(others)}"


def _against(best: Spread, ranked: _Ranked, name: str, width: float) -> str:
    """How the best compares: level within the search's width or where the repeats of both overlap."""
    other = ranked.spread
    name += f" (at least {rate(other.median)})" if ranked.at_least else ""
    if best.overlaps(other) or other.median >= (1 - width) * best.median:
        return f"level with {name}"
    if other.median <= 0:
        return f"{name} none"
    ratio = best.median / other.median
    if ratio < 1.995:
        return f"{significant((ratio - 1) * 100, 2)} % more than {name}"
    return f"{significant(ratio, 2)} times {name}"


def _listing(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _name(point: PointSummary, looks: dict[str, Look]) -> str:
    return looks[stack_key(point.plan)].name


def _deck(run: RunData, points: Sequence[PointSummary]) -> Iterable[str]:
    """What was compared, on what, how often."""
    plan = run.plan
    stacks = len({stack_key(point.plan) for point in points})
    frames = sorted({point.plan.frame_bytes for point in points})
    flows = sorted({d.flows.count for point in points for d in point.plan.directions})
    cores = sorted({len(point.plan.cores) for point in points})
    directions = max((len(point.plan.directions) for point in points), default=1)
    sizes = ", ".join(map(str, frames)) or "no"
    yield (f"Compared: {plural(stacks, 'stack configuration')} in the role {plan.role.value}, "
           f"{sizes} B frames, {' or '.join(f'{n:,}' for n in flows) or 'no'} UDP flows, "
           f"{'one direction' if directions == 1 else 'both directions at once, rates per direction'}, "
           f"{' and '.join(cores_text(n) for n in cores)}.")
    yield (f"{plural(len(points), 'point')} × {plural(plan.measure.repeat, 'repeat')}, "
           f"{plural(len(run.trials), 'trial')}"
           + (f", {seconds(run.info.wall_s)}." if run.info.wall_s is not None else "."))
    yield from _stood_still(points)


def _stood_still(points: Sequence[PointSummary]) -> Iterable[str]:
    """Said once where it concerns every point that was measured."""
    measured = [point for point in points if point.repeats]
    if measured and all(Verdict.PAUSED in point.verdicts for point in measured):
        repeated, trials = repeated_trials(points)
        yield f"This machine stood still often: {count(repeated)} of {count(trials)} search trials were repeated."


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
        yield Caveat("", "bad", "Incomplete run", problem, ())
    missing = tuple(_title(point) for point in points if point.status == "missing")
    if missing:
        yield Caveat("", "bad", "Points not reached", "The run ended before these were measured.", missing)


def _verdicts(run: RunData, points: Sequence[PointSummary]) -> Iterable[Caveat]:
    for verdict, text in VERDICTS.items():
        if verdict is Verdict.LAB and run.plan.lab:
            continue  # the head of the report says it at length
        marked = tuple(_title(point) + _detail(point, verdict) for point in points if verdict in point.verdicts)
        if marked:
            yield Caveat(verdict.value, text.tone, "", f"{text.means} What would change it: {text.change[0].lower()}"
                         f"{text.change[1:]}", marked)


def _title(point: PointSummary) -> str:
    return point_title(point.plan)


def point_title(plan: PointPlan) -> str:
    """A point named in a list: label, cores, frame size."""
    return f"{stack_name(plan)}, {plural(len(plan.cores), 'core')}, {plan.frame_bytes} B"


def _detail(point: PointSummary, verdict: Verdict) -> str:
    if verdict is Verdict.DEGRADED and point.degraded:
        return f" ({point.degraded})"
    if verdict is Verdict.EXTRA_CORE:
        extra = next((t.cpu.extra for t in point.trials if t.cpu is not None and t.cpu.extra), [])
        return f" ({'; '.join(extra[:3])})" if extra else ""
    return ""


def _pause_rule(points: Sequence[PointSummary]) -> Iterable[Caveat]:
    repeated, trials = repeated_trials(points)
    if not repeated:
        return
    changed = tuple(_first_attempts(point) for point in points
                    if any(r.raw or r.raw_none for r in (point.ndr, point.pdr)))
    told = ("First attempts: highest load whose first attempt met the goal." if changed else
            "First attempts alone give the same rates.")
    yield Caveat("", "info", "Trials repeated for a pause",
                 f"{count(repeated)} of {count(trials)} search trials lost frames while a core stood still and were "
                 f"repeated. {told}", changed)


def _first_attempts(point: PointSummary) -> str:
    """Found rates against those of first attempts, and how many trials of the point were repeated."""
    rates = ", ".join(f"{r.name} {rate(r.rate.median) if r.rate else 'n/a'}, first attempts {_first(r)}"
                      for r in (point.ndr, point.pdr) if r.raw or r.raw_none)
    repeated, trials = repeated_trials([point])
    return f"{_title(point)}: {rates} ({count(repeated)} of {count(trials)} trials repeated)"


def _first(summary: RateSummary) -> str:
    return rate(summary.raw.median) if summary.raw is not None else "none passed"
