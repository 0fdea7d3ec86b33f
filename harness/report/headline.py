# SPDX-License-Identifier: Apache-2.0
"""The answer in one sentence, and the sentences below it that say what it is worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.compare import Finding
from harness.analysis.statistics import LEAST_REPEATS
from harness.plan import FrameMix, PointPlan, Role
from harness.records import Verdict
from harness.report.bystander import answered_under_load
from harness.report.differences import Pair, more, pair, sentence
from harness.report.identity import Look, configurations, one_line, stack_key
from harness.report.numbers import Spread, count, percent, plural, rate, seconds, set_rate
from harness.report.summarise import (
    Limits,
    LoadSummary,
    PointSummary,
    RateSummary,
    repeated_for_pauses,
    repeated_trials,
)
from harness.report.summarytable import RATE_VERDICTS, named_load
from harness.report.words import verb
from harness.rundata import RunData

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: How many others the best is compared with.
_OTHERS = 3
#: Verdicts on a whole point that limit what a comparison with it is worth.
_POINT_VERDICTS = (Verdict.EXTRA_CORE, Verdict.DEGRADED, Verdict.OTHER_LOAD)
#: Verdicts on a compared figure with which a factor between two figures may be noise.
_NO_FACTOR = (Verdict.PAUSED, Verdict.CONTRADICTED, Verdict.OTHER_LOAD)


@dataclass(frozen=True)
class Answer:
    """``headline``: one sentence. ``deck``: the sentences below it."""

    headline: str
    deck: tuple[str, ...]


@dataclass(frozen=True)
class _Ranked:
    """A point in the comparison the headline makes, by one of its rates."""

    point: PointSummary
    summary: RateSummary
    spread: Spread
    name: str

    @property
    def at_least(self) -> bool:
        """Whether the rate is a lower bound."""
        return self.summary.at_least

    @property
    def figure(self) -> str:
        """The rate in words."""
        return ("at least " if self.at_least else "") + rate(self.spread.median, self.point.plan.role.rate_unit)


def cores_text(number: int) -> str:
    """"one core", "12 cores"."""
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} core{'' if number == 1 else 's'}"


def answer(run: RunData, points: Sequence[PointSummary], looks: dict[str, Look]) -> Answer:
    """Headline and deck of one run."""
    ranked, metric = _ranked(points, looks)
    compared = ranked[: _OTHERS + 1]
    if compared:
        said = _rates(run, compared, metric)
    else:
        said = _bystander(run, points, looks) or _loads(run, points, looks) or _nothing(run, points)
    worth = _worth(run, compared, metric) if compared else _marked(
        (_name(p, looks), _point_marks(p)) for p in points if p.loads)
    return Answer(said, (*_deck(run, points), *worth, *_stood_still(points)))


def _ranked(points: Sequence[PointSummary], looks: dict[str, Look]) -> tuple[list[_Ranked], str]:
    """The fairest group to compare (same frame size, same number of cores, most stacks measured) by the strictest
    rate that most of its points have, best first."""
    best: list[_Ranked] = []
    name = ""
    for group in _groups(points):
        for index, metric in enumerate(("NDR", "PDR", "MRR")):
            have = [_Ranked(p, p.rates()[index], spread, _name(p, looks)) for p in group
                    if (spread := p.rates()[index].rate) is not None]
            if len(have) > len(best):
                best, name = have, metric
    return sorted(best, key=lambda entry: -entry.spread.median), name


def _groups(points: Sequence[PointSummary]) -> list[list[PointSummary]]:
    """Points that may be compared with each other: same frame size, same number of cores."""
    groups: dict[tuple[FrameMix, int], list[PointSummary]] = defaultdict(list)
    for point in points:
        groups[point.plan.frames, len(point.plan.cores)].append(point)
    return list(groups.values())


def _all_limited(compared: Sequence[_Ranked], how: str) -> str:
    """Where the best rates are all lower bounds nobody has won: the least of them is what is known of all."""
    plan, least = compared[0].point.plan, compared[-1]
    others = [f"{_NUMBERS[len(compared) - 2]} more"] if len(compared) > 2 else []
    names = _listing([*(entry.name for entry in compared[:2]), *others])
    return (f"The generator was the limit: {least.figure}{_of_frames(plan)} {how} on {cores_text(len(plan.cores))} "
            f"with each of {names}")


def _rates(run: RunData, compared: Sequence[_Ranked], metric: str) -> str:
    best, plan = compared[0], compared[0].point.plan
    limits = Limits.of(run.plan)
    how = {"NDR": "without loss", "PDR": f"at {percent(limits.pdr_loss, 1)} loss", "MRR": "at full load"}[metric]
    if len(compared) > 1 and all(entry.at_least for entry in compared):
        return _all_limited(compared, how)
    said = (f"{best.name} {verb(plan.role)} {best.figure}{_of_frames(plan)} {how} on "
            f"{cores_text(len(plan.cores))}")
    factors = not _no_factor(compared)
    others = [other for other in compared[1:] if not other.at_least]
    exact = [_against(best, other, found, factors=factors)
             for other, found in zip(others, _pairs(run, compared, metric), strict=True)]
    if exact:
        said += f": {_listing(exact)}"
    elif len(compared) > 1:
        said += ", the most that was measured"
    return said


def _no_factor(compared: Sequence[_Ranked]) -> str:
    """Why the rates are said without the factors between them; "" where factors mean something."""
    fewest = min(entry.spread.count for entry in compared)
    if fewest < LEAST_REPEATS:
        return "measured once" if fewest == 1 else "measured twice"
    marks = {verdict for entry in compared for verdict in (*entry.summary.verdicts, *entry.point.verdicts)
             if verdict in entry.summary.verdicts or verdict in _POINT_VERDICTS}
    return ", ".join(verdict.value for verdict in _NO_FACTOR if verdict in marks)


def _pairs(run: RunData, compared: Sequence[_Ranked], metric: str) -> list[Pair | None]:
    """The best against each exact rate; None of too few repeats."""
    repeats = [repeat for repeat, _ in run.plan.sequence]
    return [pair(other.name, metric, compared[0].summary, other.summary, width=Limits.of(run.plan).width,
                 rounds=repeats == sorted(repeats)) for other in compared[1:] if not other.at_least]


def _against(best: _Ranked, other: _Ranked, found: Pair | None, *, factors: bool) -> str:
    """How the best compares with an exact rate. A best that is a lower bound gives a lower bound. Without ``factors``,
    and where nothing tells a difference from noise, the other's rate is said."""
    if other.spread.median <= 0:
        return f"{other.name} none"
    if found is not None and found.finding is Finding.NONE:
        return f"no difference seen from {other.name}"
    if found is None or found.factor is None or not factors:
        return f"{other.name} {other.figure}"
    return ("at least " if best.at_least else "") + more(found.factor, other.name)


def _bystander(run: RunData, points: Sequence[PointSummary], looks: dict[str, Look]) -> str:
    """For a run without rates that watched a bystander: who was answered while the load ran; "" for other runs."""
    found = answered_under_load(points)
    if run.plan.measure.bystander is None or not found:
        return ""
    alike: dict[tuple[int, int], list[str]] = defaultdict(list)
    for point, tried, there in sorted(found, key=lambda entry: -entry[2] / entry[1]):
        alike[there, tried].append(_name(point, looks))
    parts = [f"{count(there) if there else 'none'} of {count(tried)} with {_listing(names[: _OTHERS + 1])}"
             + (f" and {count(len(names) - _OTHERS - 1)} more" if len(names) > _OTHERS + 1 else "")
             for (there, tried), names in alike.items()]
    shown = parts if len(parts) <= _OTHERS + 1 else [*parts[:_OTHERS], parts[-1]]
    service = one_line(run.plan.measure.bystander.service, 20).upper()
    return f"{service} connections over the port under load that were answered: {'; '.join(shown)}"


def _loads(run: RunData, points: Sequence[PointSummary], looks: dict[str, Look]) -> str:
    """For a run without rates: what the cores did at the load of the curve that most points carried; "" without one."""
    load = named_load(points, Limits.of(run.plan).pdr_loss)
    groups = [[(p, at) for p in group for at in p.loads if at.load_pps == load] for group in _groups(points)]
    shown = max(groups, key=len, default=[])
    if load is None or not shown:
        return ""
    plan = shown[0][0].plan
    order = sorted(shown, key=lambda entry: (entry[0].polls, entry[1].busy_cores is None,
                                             entry[1].busy_cores.median if entry[1].busy_cores else 0))
    parts = [f"{_name(point, looks)} {_work(point, at)}" for point, at in order[: _OTHERS + 1]]
    return (f"At {set_rate(load, plan.role.rate_unit)}{_of_frames(plan)} on {cores_text(len(plan.cores))}: "
            f"{_listing(parts)}")


def _of_frames(plan: PointPlan) -> str:
    """The frames that a rate is a rate of; nothing in role accept, whose unit says it."""
    if plan.role is Role.ACCEPT:
        return ""
    headers = plan.traffic_label.removeprefix(plan.frames.label)
    return f" of {plan.frame_bytes}-byte{headers} frames" if plan.frames.single else f" of {plan.traffic_label}"


def _work(point: PointSummary, at: LoadSummary) -> str:
    lost = f" (loses {percent(at.loss_ratio)})" if at.loss_ratio else ""
    if point.polls:
        useful = f", {percent(at.useful, 0)} of its polls useful" if at.useful is not None else ""
        return f"polls{useful}{lost}"
    if at.busy_cores is None:
        done = rate(at.forwarding.median if at.forwarding else None, point.plan.role.rate_unit)
        return f"{'completes' if point.plan.role is Role.ACCEPT else 'forwards'} {done}{lost}"
    return f"uses {at.busy_cores.median * 100:.0f} core-%{lost}"


def _nothing(run: RunData, points: Sequence[PointSummary]) -> str:
    """Why there is no figure to begin with."""
    under_way = next((point for point in points if point.status == "interrupted"), None)
    if under_way is not None or (run.trials and any(point.status == "missing" for point in points)):
        where = f" in the middle of {one_line(under_way.plan.label, 60)}" if under_way is not None else ""
        if run.info.state == "running":
            return f"No point is finished yet: the run is under way{where}"
        return f"No point was finished: the run ended{where or ' early'}"
    if any(trial.status == "ok" and trial.point in {p.plan.id for p in points} for trial in run.trials):
        return "No rate was found: every point failed, was skipped, or was not reached"
    return "Nothing was measured: every point failed, was skipped, or was not reached"


def _listing(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _name(point: PointSummary, looks: dict[str, Look]) -> str:
    return looks[stack_key(point.plan)].name


def _deck(run: RunData, points: Sequence[PointSummary]) -> Iterable[str]:
    """What was compared, on what, how often."""
    plan = run.plan
    stacks = configurations(point.plan for point in points)
    hosts = list(dict.fromkeys(one_line(point.plan.host, 20) for point in points))
    where = f" on {plural(len(hosts), 'host')} ({', '.join(hosts)})" if len(hosts) > 1 else ""
    ordered = sorted((point.plan for point in points), key=lambda each: each.frames.mean)
    flows = sorted({d.flows.count for point in points for d in point.plan.directions})
    cores = sorted({len(point.plan.cores) for point in points})
    directions = max((len(point.plan.directions) for point in points), default=1)
    sizes = ", ".join(dict.fromkeys(each.traffic_label for each in ordered)) or "no"
    sent = ("TCP connections of one request each, " if plan.role is Role.ACCEPT else
            f"{sizes} frames, {' or '.join(f'{n:,}' for n in flows) or 'no'} UDP flows, "
            f"{'one direction' if directions == 1 else 'both directions at once, rates per direction'}, ")
    yield (f"Compared: {plural(stacks, 'stack configuration')}{where} in the role {plan.role.value}, {sent}"
           f"{' and '.join(cores_text(n) for n in cores)}.")
    yield (f"{plural(len(points), 'point')} × {plural(plan.measure.repeat, 'repeat')}, "
           f"{plural(len(run.trials), 'trial')}"
           + (f", {seconds(run.info.wall_s)}." if run.info.wall_s is not None else "."))


def _worth(run: RunData, compared: Sequence[_Ranked], metric: str) -> Iterable[str]:
    """What the comparison is worth: too few repeats to tell it from chance, verdicts on the very rates compared."""
    if len(compared) < 2:
        return
    unbounded = [f"{other.name} ({other.figure})" for other in compared[1:] if other.at_least]
    nobody = all(entry.at_least for entry in compared)  # has won; the headline says so
    why = "" if nobody else _no_factor(compared)
    if why:
        yield f"No factor is given between rates that were {'' if why.startswith('measured') else 'marked '}{why}."
    told = [] if nobody else [found for found in _pairs(run, compared, metric)
                              if found is not None and (not why or found.finding is Finding.NONE)]
    if told:
        yield sentence(compared[0].name, told)
    if unbounded and not nobody:
        yield (f"No ratio can be given to {_listing(unbounded)}: {'it' if len(unbounded) == 1 else 'they'} may be "
               "faster than measured.")
    repeats = min(entry.spread.count for entry in compared)
    if repeats < LEAST_REPEATS and not nobody:
        times = "One repeat" if repeats == 1 else f"{_NUMBERS[repeats].capitalize()} repeats"
        exact = [other.spread.median for other in compared[1:] if not other.at_least]
        yield (f"{times}: a difference of this size may be chance."
               if any(compared[0].spread.median < 2 * median for median in exact) else
               f"{times}: which is the fastest may be chance.")
    yield from _marked((entry.name, _marks(entry)) for entry in compared)


def _marked(marks: Iterable[tuple[str, Sequence[str]]]) -> Iterable[str]:
    marked = [f"{name}: {', '.join(verdicts)}" for name, verdicts in marks if verdicts]
    if marked:
        yield f"Marks on the numbers compared: {'; '.join(marked)}."


def _marks(entry: _Ranked) -> list[str]:
    rate_marks = [verdict.value for verdict in RATE_VERDICTS if verdict in entry.summary.verdicts]
    return rate_marks + _point_marks(entry.point)


def _point_marks(point: PointSummary) -> list[str]:
    return [verdict.value for verdict in _POINT_VERDICTS if verdict in point.verdicts]


def _stood_still(points: Sequence[PointSummary]) -> Iterable[str]:
    """Said once where pauses concern every point that was measured and made trials to be repeated."""
    measured = [point for point in points if point.repeats]
    repeated, (_, trials) = repeated_for_pauses(points), repeated_trials(points)
    if repeated and measured and all(Verdict.PAUSED in point.verdicts for point in measured):
        yield (f"This machine stood still often: {count(repeated)} of {count(trials)} search trials were repeated "
               "for a pause.")
