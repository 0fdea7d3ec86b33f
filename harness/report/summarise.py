# SPDX-License-Identifier: Apache-2.0
"""Trials and outcomes of a run, brought together by point. No words, no markup: numbers with their reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.analysis.noise import Suspect, suspects
from harness.analysis.statistics import Interval, interval
from harness.figures import PDR_LOSS, at_least, noisy, settled_verdicts
from harness.plan import Plan, PointPlan
from harness.records import Bound, Cpu, LatencyAt, Percentiles, Phase, PointOutcome, Trial, Verdict
from harness.report.numbers import Spread, finite, plural
from harness.rundata import RunData

#: Percentiles that a trial stores, with the field that holds each.
PERCENTILES = ((0.5, "p50_ns", "p50"), (0.9, "p90_ns", "p90"), (0.99, "p99_ns", "p99"), (0.999, "p999_ns", "p99.9"))
#: A given core that is this busy even at its lowest load polls, whether or not anybody counted the polls.
POLLING_SHARE = 0.97
ALWAYS_BUSY_BELOW = 0.5
SAME = 0.001
#: Why a rate is missing that the scenario does not ask for.
NOT_ASKED = "this goal was not asked for"
DEFAULT_WIDTH = 0.005


@dataclass(frozen=True)
class RateSummary:
    """MRR, NDR or PDR of one point over its repeats, pps. ``raw``: the highest load whose first attempt met the goal,
    None when it does not differ or there is none; ``raw_none``: there is a rate and no first attempt met its goal.
    ``rate`` None has its ``reason``. ``missing``: repeats that found none. ``at_least``: a lower bound,
    not the stack. ``attempts``: the most that the load of the bound took to pass."""

    name: str
    rate: Spread | None
    raw: Spread | None
    reason: str
    missing: int
    verdicts: tuple[Verdict, ...]
    at_least: bool = False
    raw_none: bool = False
    attempts: int = 0
    #: 95 % interval of the rate over its repeats; None below three.
    interval: Interval | None = None
    #: Repeat -> rate.
    by_repeat: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one point at one fraction of PDR (or NDR), ns. ``at``: spread of each percentile over repeats, by
    the names in PERCENTILES and "max". ``curve``: (ns, frames), all repeats merged."""

    fraction: float
    of: str
    load: Spread | None
    at: dict[str, Spread | None]
    samples: int
    curve: tuple[tuple[float, int], ...]
    reason: str
    trials: tuple[int, ...]
    #: Role accept: mean and longest time of the handshakes, ns; no distribution of them is known.
    handshake: tuple[Spread | None, Spread | None] = (None, None)
    #: The highest loss ratio of its trials; None where that is not known.
    loss_ratio: float | None = None


@dataclass(frozen=True)
class LoadSummary:
    """CPU of one point at one offered load, medians over repeats. Shares 0..1 by core. ``useful``: share of polls that
    found frames. ``cycles``: cycles per packet with ``cycles_source``. ``note``: why there is no CPU figure."""

    load_pps: float
    forwarding: Spread | None
    loss_ratio: float | None
    cores: dict[int, Spread]
    busy_cores: Spread | None
    cycles: Spread | None
    cycles_source: str
    useful: float | None
    polls_source: str
    indicative: bool
    phase: Phase
    note: str = ""


@dataclass(frozen=True)
class PointSummary:
    """All that is known of one point. ``status``: ok, partial (some repeats did not finish), interrupted (the run ended
    in its first repeat), failed, skipped or missing (the run ended first). ``repeats``: those with any finding, also
    one that was interrupted. ``polls``: its cores poll, so their being busy says nothing."""

    plan: PointPlan
    status: str
    reason: str
    log_tail: str
    repeats: int
    mrr: RateSummary
    ndr: RateSummary
    pdr: RateSummary
    latency: tuple[LatencySummary, ...]
    loads: tuple[LoadSummary, ...]
    polls: bool
    verdicts: tuple[Verdict, ...]
    semantics: str
    degraded: str
    paused_repeats: int
    outcomes: tuple[PointOutcome, ...]
    trials: tuple[Trial, ...]
    #: Of a noisy point: what was recorded that may be the cause.
    suspects: tuple[Suspect, ...] = ()

    def rates(self) -> tuple[RateSummary, RateSummary, RateSummary]:
        """NDR, PDR, MRR: the order in which they are printed."""
        return self.ndr, self.pdr, self.mrr


@dataclass(frozen=True)
class Limits:
    """What numbers are judged by: PDR's loss ratio, the search's relative width, repeats asked for."""

    pdr_loss: float
    width: float
    repeat: int

    @staticmethod
    def of(plan: Plan) -> Limits:
        """Of the plan's search; defaults without one."""
        search = plan.measure.search
        if search is None:
            return Limits(PDR_LOSS, DEFAULT_WIDTH, plan.measure.repeat)
        return Limits(search.pdr_loss, search.width, plan.measure.repeat)


def repeated_trials(points: Iterable[PointSummary]) -> tuple[int, int]:
    """(search trials that another one replaced, all search trials). A load tried four times counts three and four."""
    made = _search_trials(points)
    return sum(trial.superseded for trial in made), len(made)


def repeated_for_pauses(points: Iterable[PointSummary]) -> int:
    """Search trials that were replaced because they lost frames in a pause; others were short of their load."""
    return sum(t.superseded and (t.spoilt or Verdict.PAUSED in t.verdicts) for t in _search_trials(points))


def _search_trials(points: Iterable[PointSummary]) -> list[Trial]:
    return [t for p in points for t in p.trials if t.phase is Phase.SEARCH]


def summarise(run: RunData) -> tuple[PointSummary, ...]:
    """One summary a point, in the order of the plan; where it is there on several hosts, one after the other."""
    trials: dict[str, list[Trial]] = defaultdict(list)
    for trial in run.trials:
        trials[trial.point].append(trial)
    outcomes: dict[str, list[PointOutcome]] = defaultdict(list)
    for outcome in run.outcomes:
        outcomes[outcome.point].append(outcome)
    by_number = {trial.number: trial for trial in run.trials}
    going = run.info.state == "running"
    return tuple(_point(run.plan, point, outcomes[point.id], trials[point.id], by_number, going=going,
                        facts=run.info.hosts.get(point.host)) for point in _side_by_side(run.plan.points))


def _side_by_side(points: Sequence[PointPlan]) -> list[PointPlan]:
    """The points of several hosts by what they are: the first host's order, the others' equals behind each."""
    place: dict[str, int] = {}
    for point in points:
        place.setdefault(point.label.removesuffix(f", on {point.host}"), len(place))
    return sorted(points, key=lambda point: place[point.label.removesuffix(f", on {point.host}")])


def _point(plan: Plan, point: PointPlan, outcomes: list[PointOutcome], trials: list[Trial],
           by_number: dict[int, Trial], *, going: bool, facts: object) -> PointSummary:
    # An interrupted repeat counts with what it had found: a bound is stored only once its search is done.
    measured = [outcome for outcome in outcomes if outcome.status in ("ok", "interrupted")]
    status, reason = _status(outcomes, trials, plan.measure.repeat, going=going)
    loads = _loads(trials)
    bad = [outcome for outcome in outcomes if outcome.status != "ok"]
    limits = Limits.of(plan)
    summary = PointSummary(
        plan=point, status=status, reason=reason, log_tail=next((o.log_tail for o in bad if o.log_tail), ""),
        repeats=len(measured),
        mrr=_rate("MRR", measured, [o.mrr for o in measured], (), reason, limits),
        ndr=_rate("NDR", measured, [o.ndr for o in measured], [o.ndr_raw for o in measured], reason, limits),
        pdr=_rate("PDR", measured, [o.pdr for o in measured], [o.pdr_raw for o in measured], reason, limits),
        latency=_latencies(measured, by_number), loads=loads, polls=_polls(trials, loads, point),
        verdicts=(),
        semantics=next((o.semantics for o in outcomes if o.semantics), ""),
        degraded=next((o.degraded for o in outcomes if o.degraded), ""),
        paused_repeats=sum(o.paused_repeats for o in outcomes), outcomes=tuple(outcomes), trials=tuple(trials))
    verdicts = _verdicts(summary)
    return replace(summary, verdicts=verdicts, suspects=suspects(trials, facts) if Verdict.NOISY in verdicts else ())


def _status(outcomes: Sequence[PointOutcome], trials: Sequence[Trial], repeat: int, *,
            going: bool) -> tuple[str, str]:
    """Status of the point and, unless ok, the reason. ``going``: the run is still under way."""
    bad = [outcome for outcome in outcomes if outcome.status != "ok"]
    reason = next((o.reason for o in bad if o.reason), "")
    finished = len(outcomes) - len(bad)
    if not outcomes and not trials:
        return "missing", "not begun yet" if going else "the run ended before this point was begun"
    if not finished and (not outcomes or any(outcome.status == "interrupted" for outcome in bad)):
        made = plural(len(trials), "trial")
        return "interrupted", reason or (f"under way, {made} until now" if going else
                                         f"the run ended in the middle of this point, after {made}")
    if not finished:
        statuses = {outcome.status for outcome in bad}
        return ("skipped" if statuses == {"skipped"} else "failed"), reason or "no reason was recorded"
    if finished < repeat:
        return "partial", reason or f"{finished} of {repeat} repeats were finished"
    return "ok", ""


def _verdicts(point: PointSummary) -> tuple[Verdict, ...]:
    """Every verdict on the point or one of its rates, in the order in which Verdict lists them.

    ``generator-limited`` is what the rates say (of a point without rates, its trials): a generator that fell short only
    beyond what the stack carries limited nothing;
    ``noisy`` is a word about repeats, so only about rates that have some."""
    found = {verdict for outcome in point.outcomes for verdict in outcome.verdicts}
    found -= {Verdict.NOISY, Verdict.GENERATOR_LIMITED}
    for rate in point.rates():
        found.update(rate.verdicts)
    if all(rate.rate is None for rate in point.rates()) and any(
            Verdict.GENERATOR_LIMITED in t.verdicts for t in point.trials
            if t.phase in (Phase.LATENCY, Phase.LOAD) and not t.superseded):
        found.add(Verdict.GENERATOR_LIMITED)
    if point.status in ("failed", "skipped"):
        found.add(Verdict(point.status))
    if any(outcome.degraded for outcome in point.outcomes):
        found.add(Verdict.DEGRADED)
    return tuple(verdict for verdict in Verdict if verdict in found)


def _rate(name: str, outcomes: Sequence[PointOutcome], bounds: Sequence[Bound | None],
          raw: Sequence[Bound | None], point_reason: str, limits: Limits) -> RateSummary:
    known = [bound for bound in bounds if bound is not None]
    first = [bound for bound in raw if bound is not None]
    spread = Spread.of(bound.pps for bound in known)
    raw_spread = Spread.of(bound.pps for bound in first)
    reason = next((b.reason for b in known if finite(b.pps) is None and b.reason), "")
    if not reason and spread is None:
        reason = point_reason or NOT_ASKED
    verdicts = _rate_verdicts(name, known, limits)
    rates = {outcome.repeat: pps for outcome, bound in zip(outcomes, bounds, strict=True)
             if bound is not None and (pps := finite(bound.pps)) is not None}
    return RateSummary(name, spread, raw_spread if _differs(spread, raw_spread) else None, reason,
                       len(outcomes) - (spread.count if spread else 0), tuple(v for v in Verdict if v in verdicts),
                       at_least=any(at_least(bound, limits.pdr_loss) for bound in known),
                       raw_none=spread is not None and bool(first) and raw_spread is None,
                       attempts=max((bound.attempts for bound in known), default=0),
                       interval=interval(list(rates.values())), by_repeat=rates)


def _rate_verdicts(name: str, bounds: Sequence[Bound], limits: Limits) -> set[Verdict]:
    """Verdicts on one rate; generator-limited only where that makes it a lower bound."""
    verdicts = {verdict for bound in bounds for verdict in settled_verdicts(bound, limits.pdr_loss)}
    if Verdict.NOISY in verdicts and limits.repeat == 1:
        # Before there was a word of its own, this is what a search that ran out of time was marked with.
        verdicts = (verdicts - {Verdict.NOISY}) | {Verdict.CUT_SHORT}
    if noisy(pps for bound in bounds if (pps := finite(bound.pps)) is not None):
        verdicts.add(Verdict.NOISY)
    return verdicts


def _differs(one: Spread | None, other: Spread | None) -> bool:
    if one is None or other is None:
        return other is not None
    return any(abs(a - b) > SAME * max(abs(a), abs(b), 1.0)
               for a, b in ((one.median, other.median), (one.low, other.low), (one.high, other.high)))


def _latencies(outcomes: Sequence[PointOutcome], by_number: dict[int, Trial]) -> tuple[LatencySummary, ...]:
    groups: dict[tuple[float, str], list[LatencyAt]] = defaultdict(list)
    for outcome in outcomes:
        for entry in outcome.latency:
            if finite(entry.fraction) is not None:
                groups[entry.fraction, entry.of].append(entry)
    return tuple(_latency(*key, groups[key], by_number) for key in sorted(groups))


def _latency(fraction: float, of: str, entries: Sequence[LatencyAt],
             by_number: dict[int, Trial]) -> LatencySummary:
    found = [entry.percentiles for entry in entries if entry.percentiles is not None]
    at = {name: Spread.of(getattr(p, field) for p in found) for _, field, name in PERCENTILES}
    at["max"] = Spread.of(p.max_ns for p in found if p.samples)
    notes = [by_number[e.trial].latency_note for e in entries if e.trial in by_number]
    reason = next((text for text in [*(e.reason for e in entries), *notes] if text), "")
    lost = Spread.of(by_number[e.trial].loss_ratio for e in entries if e.trial in by_number)
    return LatencySummary(fraction, of, Spread.of(entry.load_pps for entry in entries if entry.load_pps > 0), at,
                          sum(p.samples for p in found), _merged(found, entries, by_number), reason,
                          tuple(entry.trial for entry in entries), _handshake(entries, by_number),
                          lost.high if lost else None)


def _handshake(entries: Sequence[LatencyAt], by_number: dict[int, Trial]) -> tuple[Spread | None, Spread | None]:
    times = [t.handshake for e in entries if (t := by_number.get(e.trial)) is not None and t.handshake is not None]
    return Spread.of(taken.mean_ns for taken in times), Spread.of(taken.max_ns for taken in times)


def _merged(found: Sequence[Percentiles], entries: Sequence[LatencyAt],
            by_number: dict[int, Trial]) -> tuple[tuple[float, int], ...]:
    """Histograms of all repeats as one; the trial's own where the outcome's copy has none."""
    sources = [p.histogram for p in found if p.histogram]
    if not sources:
        stored = [by_number[e.trial].latency for e in entries if e.trial in by_number]
        sources = [p.histogram for p in stored if p is not None and p.histogram]
    buckets: dict[float, int] = defaultdict(int)
    for low, frames in (bucket for source in sources for bucket in source):
        value = finite(low)
        if value is not None and value >= 0 and 0 < frames < 1 << 62:
            buckets[value] += frames
    return tuple(sorted(buckets.items()))


def _loads(trials: Iterable[Trial]) -> tuple[LoadSummary, ...]:
    """The load curve, and the latency trials, by phase and asked load."""
    polls = [trial for trial in trials if trial.phase is Phase.POLLS and trial.cpu is not None]
    groups: dict[tuple[Phase, float], list[Trial]] = defaultdict(list)
    for trial in trials:
        asked = finite(trial.asked_pps)
        usable = trial.status == "ok" and not trial.superseded
        if trial.phase is Phase.LOAD and usable and asked is not None:
            groups[trial.phase, asked].append(trial)
    return tuple(_load(phase, load, groups[phase, load], polls) for phase, load in sorted(groups))


def _load(phase: Phase, load: float, trials: Sequence[Trial], polls: Sequence[Trial]) -> LoadSummary:
    cpus = [trial.cpu for trial in trials if trial.cpu is not None]
    shares: dict[int, list[float]] = defaultdict(list)
    for cpu in cpus:
        for core in cpu.cores:
            shares[core.core].append(core.busy)
    cores = {core: spread for core, values in sorted(shares.items()) if (spread := Spread.of(values)) is not None}
    loss = Spread.of(trial.loss_ratio for trial in trials)
    useful, source = _useful(cpus, load, polls)
    return LoadSummary(load, Spread.of(t.forwarding_pps for t in trials), loss.median if loss else None, cores,
                       Spread.of(cpu.busy_cores for cpu in cpus), Spread.of(cpu.cycles_per_packet for cpu in cpus),
                       next((cpu.cycles_source for cpu in cpus if cpu.cycles_source), ""), useful, source,
                       any(cpu.indicative for cpu in cpus), phase,
                       "" if cpus else next((trial.cpu_note for trial in trials if trial.cpu_note), ""))


def _useful(cpus: Iterable[Cpu], load: float, polls: Iterable[Trial]) -> tuple[float | None, str]:
    """Share of useful polls at this load, from its own trials or from the pass that counted polls at this load."""
    near = [t.cpu for t in polls if t.cpu is not None and abs(t.asked_pps - load) <= 0.02 * load]
    for cpu in [*cpus, *near]:
        share = useful_share(cpu)
        if share is not None:
            return share, cpu.polls_source
    return None, ""


def useful_share(cpu: Cpu | None) -> float | None:
    """Useful polls of all polls, 0..1; None where they were not counted."""
    if cpu is None:
        return None
    useful, empty = finite(cpu.useful_polls), finite(cpu.empty_polls)
    if useful is None or empty is None or useful < 0 or empty < 0 or useful + empty == 0:
        return None
    return useful / (useful + empty)


def _polls(trials: Iterable[Trial], loads: Sequence[LoadSummary], point: PointPlan) -> bool:
    """Whether the point's cores poll: the plan says so or polls were counted; where the plan does not say (an older
    run), that a given core is busy at any load."""
    if point.polling or any(useful_share(trial.cpu) is not None for trial in trials):
        return True
    if point.polling is False:
        return False
    if not loads or loads[0].load_pps > ALWAYS_BUSY_BELOW * loads[-1].load_pps:
        return False
    lowest = [loads[0].cores[core].median for core in point.cores if core in loads[0].cores]
    return bool(lowest) and max(lowest) >= POLLING_SHARE
