# SPDX-License-Identifier: Apache-2.0
"""Capacity planning: the cores each stack of a run needs for a load, and its CPU and latency there.

The load asked for may take at most 1 - headroom of the rate (PDR unless told otherwise) that the cores carry.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.analysis.crossover import Crossing, crossings
from harness.analysis.loadcurve import Curve, Reading, busy_cores, curve_of, p99
from harness.analysis.metrics import Kind, Metric, PointKey, Sample, samples
from harness.analysis.refuted import Refuted, refuted
from harness.analysis.scaling import BEYOND, CountRates, Prediction, Scaling, fit
from harness.errors import UsageError
from harness.figures import PDR_LOSS
from harness.plan import PointPlan, Role
from harness.records import Phase, PointOutcome, Trial, Verdict, in_order
from harness.rundata import RunData
from harness.units import format_rate

#: From this share of line rate on the wire is the limit.
_WIRE = 0.99
#: A core busier than this was full. Below, when frames are lost, something other than cores is the limit.
_FULL = 0.9
#: A given core that is this busy at every load polls, where an older run does not say.
_ALWAYS_BUSY = 0.97
_COUNT_IN_LABEL = re.compile(r",? \d+ cores?$")


@dataclass(frozen=True)
class Ask:
    """What is planned for: frames per second and direction, p99 in ns, share of the rate kept free, which rate."""

    target: float
    p99_ns: float | None = None
    headroom: float = 0.3
    rate: Kind = Kind.PDR

    @property
    def needed(self) -> float:
        """The rate that the cores have to carry."""
        return self.target / (1 - self.headroom)


@dataclass(frozen=True)
class Need:
    """Cores for the rate. ``cores`` None has its ``reason``, and ``carries`` is then the most that can be told.
    ``low``, ``high``: 95 %, None where nothing tells; ``open_ended``: the upper end is beyond what can be told."""

    cores: int | None
    carries: Prediction | None
    low: int | None = None
    high: int | None = None
    open_ended: bool = False
    reason: str = ""


@dataclass(frozen=True)
class StackPlan:
    """One stack. ``p99_met`` None: not asked for, or not known (``p99.reason``). ``cores_for_p99``: the first count
    that carries the rate and meets it. ``lost``: share of the frames lost at MRR, where that is planned with."""

    key: PointKey
    label: str
    polls: bool
    scaling: Scaling
    curves: tuple[Curve, ...]
    need: Need
    cpu: Reading
    p99: Reading
    p99_met: bool | None
    cores_for_p99: int | None
    verdicts: tuple[Verdict, ...]
    missing: tuple[str, ...]
    refuted: tuple[Refuted, ...] = ()
    lost: float | None = None


@dataclass(frozen=True)
class CapacityPlan:
    """The answer. ``line_rate`` per direction of the smallest frame, 0 where there is none."""

    run_id: str
    role: Role
    lab: bool
    ask: Ask
    line_rate: float
    stacks: tuple[StackPlan, ...]
    crossings: tuple[Crossing, ...]
    notes: tuple[str, ...]


def plan_capacity(run: RunData, ask: Ask) -> CapacityPlan:
    """Raises UsageError where the run cannot answer at all: it measured no such rate, or no wire carries the load."""
    if not 0 <= ask.headroom < 1:
        raise UsageError("headroom is a share of the rate to keep free: 0% to below 100%")
    found = samples(run)
    stacks = tuple(_stack(run, points, found, ask) for points in _groups(run.plan.points))
    if not any(stack.scaling.counts or stack.refuted for stack in stacks):
        raise UsageError(f"{run.info.run_id}: no point has a {ask.rate.upper()}: {_why_none(run, found)}")
    lines = [point.line_rate_pps for point in run.plan.points if point.line_rate_pps > 0]
    return CapacityPlan(run.info.run_id, run.plan.role, run.plan.lab, ask, max(lines, default=0.0), stacks,
                        crossings(stacks, ask.target), tuple(_notes(run, stacks, ask, max(lines, default=0.0))))


def _why_none(run: RunData, found: Mapping[str, Mapping[Metric, list[Sample]]]) -> str:
    known = {metric.kind for metrics in found.values() for metric, values in metrics.items()
             if any(math.isfinite(sample.value) for sample in values)}
    for kind in (Kind.PDR, Kind.NDR, Kind.MRR):
        if kind in known:
            return f"it has {kind.upper()}; plan by that with `--rate {kind}`"
    bad = next((f"{o.point} {o.status}: {o.reason}" for o in run.outcomes if o.status != "ok"), "")
    if bad:
        return f"{bad[:200]}; see `harness results show`"
    if run.info.state != "complete":
        return f"the run is {run.info.state}; go on with it: `harness run --resume`"
    return "its scenario asks for other goals; add it to measure.throughput.goals"


def plural(number: int, one: str) -> str:
    """1 core, 2 cores."""
    return f"{number} {one}" + ("" if number == 1 else "s")


def _groups(points: Sequence[PointPlan]) -> list[list[PointPlan]]:
    """Points that differ only in their cores, in the order of the plan."""
    groups: dict[tuple[PointKey, str], list[PointPlan]] = {}
    for point in points:
        key = dataclasses.replace(PointKey.of(point), cores=0, label="")
        groups.setdefault((key, point.host), []).append(point)
    return list(groups.values())


def _stack(run: RunData, points: Sequence[PointPlan], found: Mapping[str, Mapping[Metric, list[Sample]]],
           ask: Ask) -> StackPlan:
    loss = run.plan.measure.search.pdr_loss if run.plan.measure.search else PDR_LOSS
    counts, curves, missing, wrong = [], [], [], []
    by_point = {point.id: [trial for trial in run.trials if trial.point == point.id] for point in points}
    polls = any(_polls(point, by_point[point.id]) for point in points)
    for point in points:
        outcomes = [outcome for outcome in run.outcomes if outcome.point == point.id]
        mine = found.get(point.id, {})
        count = _count(point, mine.get(Metric(ask.rate), ()), by_point[point.id], polls, loss)
        if count is None:
            missing.append(f"{plural(len(point.cores), 'core')}: {_missing(outcomes, run)}")
        elif (against := _against(count, outcomes, by_point[point.id], ask.rate, loss)) is not None:
            wrong.append(against)
            count = CountRates(count.cores, (), at_least=against.rate) if against.low else None
        if count is not None:
            counts.append(count)
        curves.append(curve_of(len(point.cores), None if count is None else count.rate or count.at_least, mine,
                               outcomes, by_point[point.id], loss))
    scaling = fit(counts, line_rate=max((point.line_rate_pps for point in points), default=0.0) or None)
    ordered = tuple(sorted(curves, key=lambda curve: curve.cores))
    need = _need(scaling, ask.needed)
    if not counts and wrong:
        need = dataclasses.replace(need, reason=f"its {ask.rate.upper()} is refuted by the same run")
    ended = [outcome for point in points for outcome in run.outcomes if outcome.point == point.id]
    return StackPlan(PointKey.of(points[0]), _COUNT_IN_LABEL.sub("", points[0].label), polls, scaling, ordered, need,
                     *_there(scaling, ordered, need, ask, polls),
                     tuple(in_order(verdict for outcome in ended for verdict in outcome.verdicts)), tuple(missing),
                     tuple(wrong), _lost(ended) if ask.rate is Kind.MRR else None)


def _lost(outcomes: Sequence[PointOutcome]) -> float | None:
    """The largest share of the frames lost at MRR."""
    return max((o.mrr.loss_ratio for o in outcomes if o.mrr is not None and o.mrr.loss_ratio is not None), default=None)


def _against(count: CountRates, outcomes: Sequence[PointOutcome], trials: Sequence[Trial], kind: Kind,
             pdr_loss: float) -> Refuted | None:
    """What the run's other trials hold against a rate; that more was carried than a bound says nothing new."""
    rate = count.rate or count.at_least
    found = None if rate is None else refuted(count.cores, rate, kind, outcomes, trials, pdr_loss)
    return None if found is None or (found.low and not count.rates) else found


def _count(point: PointPlan, rates: Iterable[Sample], trials: Sequence[Trial], polls: bool,
           loss: float) -> CountRates | None:
    exact: list[float] = []
    bounds: list[float] = []
    for sample in rates:
        if not (math.isfinite(sample.value) and sample.value > 0):
            continue
        limited = sample.at_least or 0 < _WIRE * point.line_rate_pps <= sample.value
        (bounds if limited else exact).append(sample.value)
    if not exact and not bounds:
        return None
    # A rate that only some repeats could measure is higher than the others say: it is a bound as a whole.
    if bounds:
        return CountRates(len(point.cores), (), at_least=max(median([*exact, *bounds]), min(bounds)))
    return CountRates(len(point.cores), tuple(exact), capped=not polls and _idle_under_loss(point, trials, loss))


def _idle_under_loss(point: PointPlan, trials: Sequence[Trial], loss: float) -> bool:
    """Whether frames were lost at the highest load while none of the stack's cores was full."""
    lossy = [t for t in trials if t.phase is Phase.SEARCH and t.status == "ok" and not t.superseded
             and t.cpu is not None and t.loss_ratio is not None and t.loss_ratio > loss
             and Verdict.PAUSED not in t.verdicts]
    if not lossy:
        return False
    most = max(trial.asked_pps for trial in lossy)
    shares = [max((core.busy for core in t.cpu.cores if core.core in point.cores), default=1.0)
              for t in lossy if t.cpu is not None and t.asked_pps >= 0.99 * most]
    return median(shares) < _FULL


def _polls(point: PointPlan, trials: Sequence[Trial]) -> bool:
    if point.polling is not None:
        return point.polling
    cpus = [trial.cpu for trial in trials if trial.cpu is not None and trial.phase is Phase.LOAD]
    return bool(cpus) and all(cpu.busy_cores >= _ALWAYS_BUSY * len(point.cores) for cpu in cpus)


def _missing(outcomes: Sequence[PointOutcome], run: RunData) -> str:
    bad = next((outcome for outcome in outcomes if outcome.status != "ok"), None)
    if bad is not None:
        return f"{bad.status}: {bad.reason[:160] or 'no reason was recorded'}"
    return "no such rate was found" if outcomes else f"not measured, the run is {run.info.state}"


def _enough(scaling: Scaling, cores: int) -> Prediction | None:
    """What so many cores carry; of a count that has only a bound, the bound."""
    count = next((count for count in scaling.counts if count.cores == cores), None)
    if count is not None and not count.rates and count.at_least is not None:
        return Prediction(cores, count.at_least, None, None, "bound")
    return scaling.at(cores)


def _candidates(scaling: Scaling) -> list[Prediction]:
    counts = [count.cores for count in scaling.counts]
    if not counts:
        return []
    able = (_enough(scaling, cores) for cores in range(min(counts), BEYOND * max(counts) + 1))
    return [carried for carried in able if carried is not None]


def _need(scaling: Scaling, needed: float) -> Need:
    able = _candidates(scaling)
    first = next((carried for carried in able if carried.rate >= needed), None)
    if first is None:
        return Need(None, max(able, key=lambda carried: carried.rate, default=None), reason=_not_reached(scaling, able))
    if first.low is None and first.high is None:
        return Need(first.cores, first)
    low = next(c.cores for c in able if (c.high if c.high is not None else c.rate) >= needed)
    high = next((c.cores for c in able if c.low is not None and c.low >= needed), None)
    return Need(first.cores, first, min(low, first.cores), None if high is None else max(high, first.cores),
                high is None)


def _not_reached(scaling: Scaling, able: Sequence[Prediction]) -> str:
    if not able:
        return scaling.reason or "no rate was measured"
    best = max(able, key=lambda carried: carried.rate)
    most = max(count.cores for count in scaling.counts)
    if scaling.line_rate is not None and best.rate >= scaling.line_rate:
        return f"line rate is the limit from {plural(best.cores, 'core')} on"
    if scaling.cap is not None and best.bounded:
        return f"something other than its cores is the limit from {plural(best.cores, 'core')} on"
    if scaling.model is None:
        return f"more than was measured on {plural(most, 'core')}; {scaling.reason}"
    return f"not reached with {BEYOND * most} cores, twice the most measured; beyond, nothing is said"


def _there(scaling: Scaling, curves: Sequence[Curve], need: Need, ask: Ask,
           polls: bool) -> tuple[Reading, Reading, bool | None, int | None]:
    """CPU and p99 at the load on the cores needed, whether p99 is met, and the first count that meets it."""
    if need.cores is None or need.carries is None:
        bound = need.carries is not None and need.carries.source == "bound"
        nothing = Reading(None, reason="too few cores" if need.carries and not bound else "cannot tell")
        return nothing, nothing, None, None
    cpu = busy_cores(curves, need.cores, ask.target, polls=polls, carries=need.carries.rate)
    there = p99(curves, need.cores, ask.target, need.carries.rate)
    if ask.p99_ns is None:
        return cpu, there, None, None
    met = None if there.value is None else there.value <= ask.p99_ns
    for able in _candidates(scaling):
        if able.cores >= need.cores and able.rate >= ask.needed:
            found = p99(curves, able.cores, ask.target, able.rate)
            if found.value is not None and found.value <= ask.p99_ns:
                return cpu, there, met, able.cores
    return cpu, there, met, None


def _unprovable(run: RunData, stacks: Sequence[StackPlan]) -> Iterable[str]:
    """What is foretold beyond the generator's ceiling. Its cores carry that or do not: the ceiling is no bound of
    theirs, but no run on this testbed shows it."""
    beyond: dict[float, list[str]] = {}
    for stack in stacks:
        carries, ceiling = stack.need.carries, _ceiling(run, stack)
        if stack.need.cores is not None and carries is not None and ceiling and carries.rate > ceiling \
                and carries.source in ("fitted", "extrapolated"):
            beyond.setdefault(ceiling, []).append(stack.label)
    for ceiling, labels in beyond.items():
        yield (f"{', '.join(labels)}: foretold beyond the generator's ceiling ({format_rate(ceiling)}), so that no run "
               "on this testbed could confirm it.")


def _ceiling(run: RunData, stack: StackPlan) -> float | None:
    return max((found.kept_pps or found.sent_pps or 0.0 for found in run.info.ceilings
                if found.host == stack.key.host and found.frames.label == stack.key.frames), default=None)


def _notes(run: RunData, stacks: Sequence[StackPlan], ask: Ask, line_rate: float) -> Iterable[str]:
    if line_rate and ask.target > line_rate:
        yield (f"The target is {ask.target / line_rate:.3g} times line rate ({line_rate / 1e6:.4g} Mpps): it takes "
               "more wires, and what one wire's run says about several is not known.")
    elif line_rate and ask.needed > line_rate:
        yield f"With its headroom the target is above line rate ({line_rate / 1e6:.4g} Mpps per direction)."
    yield from _unprovable(run, stacks)
    if not any(stack.need.cores for stack in stacks):
        yield "No stack of this run is known to carry the target with its headroom."
    if run.info.state != "complete":
        yield f"The run is {run.info.state}: points may be missing, and `harness run --resume` goes on with it."
    if run.plan.lab:
        yield ("Measured in the lab, on virtual wires: it shows how to plan, not what hardware carries.")
    yield from run.problems
