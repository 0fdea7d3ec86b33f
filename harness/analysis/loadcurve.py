# SPDX-License-Identifier: Apache-2.0
"""CPU and latency of a stack at a load that was not measured: read between, or a little beyond, those that were.

Loads at which more than PDR's loss was lost are left out: there CPU and latency are of what was forwarded, not of the
load.
Latency is never interpolated: it is that of the next higher load measured, which it does not exceed while latency grows
with load.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.analysis.metrics import Kind, Metric, Sample
from harness.analysis.scaling import BEYOND
from harness.records import LatencyAt, Phase, PointOutcome, Trial


@dataclass(frozen=True)
class Curve:
    """What one point (a stack on so many cores) showed. ``busy``: (load, busy cores), ``p99``: (load, ns or None,
    why there is none), loads ascending, frames per second; medians over repeats. ``cycles``: (load, cycles per packet
    times the load), empty unless every load of ``busy`` has them from one source, ``cycles_source``."""

    cores: int
    rate: float | None
    busy: tuple[tuple[float, float], ...]
    p99: tuple[tuple[float, float | None, str], ...]
    useful: tuple[tuple[float, float], ...] = ()
    cycles: tuple[tuple[float, float], ...] = ()
    cycles_source: str = ""


@dataclass(frozen=True)
class Reading:
    """A value at a load. ``source``: measured, between (two loads), extrapolated, or "from N cores"; ``load``: of the
    measurement it stands on. ``value`` None has its ``reason``."""

    value: float | None
    source: str = ""
    load: float | None = None
    reason: str = ""


def curve_of(cores: int, rate: float | None, found: Mapping[Metric, Sequence[Sample]],
             outcomes: Sequence[PointOutcome], trials: Sequence[Trial], loss: float) -> Curve:
    """The curve of a point from its metrics (:func:`harness.analysis.metrics.samples`), outcomes and trials."""
    def at(kind: Kind, load: float) -> float | None:
        values = [sample.value for sample in found.get(Metric(kind, at=load), ())]
        return median(values) if values else None

    loads = sorted(metric.at for metric in found if metric.kind is Kind.CORES)
    busy = [(load, value) for load in loads if (value := at(Kind.CORES, load)) is not None
            and (at(Kind.LOSS, load) or 0.0) <= loss]
    cycles = [(load, each * load) for load, _ in busy if (each := at(Kind.CYCLES, load)) is not None]
    sources = {trial.cpu.cycles_source for trial in trials
               if trial.phase is Phase.LOAD and trial.cpu is not None and trial.cpu.cycles_per_packet is not None}
    told = len(cycles) == len(busy) and len(sources) == 1
    return Curve(cores, rate, tuple(busy), tuple(_latencies(outcomes, trials, loss)), _useful(trials),
                 tuple(cycles) if told else (), next(iter(sources)) if told else "")


def _latencies(outcomes: Sequence[PointOutcome], trials: Sequence[Trial],
               loss: float) -> list[tuple[float, float | None, str]]:
    lost = {trial.number: trial.loss_ratio or 0.0 for trial in trials}
    by_fraction: dict[float, list[LatencyAt]] = {}
    for outcome in outcomes:
        for entry in outcome.latency if outcome.status == "ok" else ():
            if entry.load_pps > 0:
                by_fraction.setdefault(entry.fraction, []).append(entry)
    found: list[tuple[float, float | None, str]] = []
    for entries in by_fraction.values():
        load, share = median(entry.load_pps for entry in entries), median(lost.get(e.trial, 0.0) for e in entries)
        if share > loss:
            reason = f"{share * 100:.3g} % was lost at the next higher load, more than PDR allows"
            found.append((load, None, reason))
            continue
        ns = _middle([e.percentiles.p99_ns if e.percentiles is not None else None for e in entries])
        recorded = next((e.reason for e in entries if e.reason), "too few samples for p99")
        found.append((load, ns, "" if ns is not None else f"at the next higher load: {recorded[:160]}"))
    return sorted(found, key=lambda entry: entry[0])


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _useful(trials: Sequence[Trial]) -> tuple[tuple[float, float], ...]:
    """(load, share of polls that found frames) of every trial that counted them."""
    found = []
    for trial in trials:
        cpu = trial.cpu
        if cpu is not None and cpu.useful_polls is not None and cpu.empty_polls is not None \
                and cpu.useful_polls + cpu.empty_polls > 0:
            found.append((trial.asked_pps, cpu.useful_polls / (cpu.useful_polls + cpu.empty_polls)))
    return tuple(sorted(found))


def busy_cores(curves: Sequence[Curve], cores: int, load: float, *, polls: bool, carries: float) -> Reading:
    """Busy cores of a stack on ``cores`` at ``load``; those of a poller are all of them. ``carries``: the rate on so
    many cores. A count without a curve takes that of the nearest count, at the same load a core."""
    if polls:
        return Reading(float(cores), "polling", load)
    near = _nearest([curve for curve in curves if curve.busy], cores)
    if near is None:
        return Reading(None, reason="no load curve without loss; the scenario's measure.load_curve asks for one")
    factor = cores / near.cores
    found = between(near.busy, load / factor)
    if found.value is None:
        return found
    source = found.source if near.cores == cores else f"from {_cores(near.cores)}"
    # A load the stack does carry cannot take more than the cores it has.
    return Reading(min(found.value * factor, float(cores)) if load <= carries else None, source, found.load,
                   "" if load <= carries else "these cores do not carry the load")


def between(points: Sequence[tuple[float, float]], load: float) -> Reading:
    """Linear between measured loads; below the lowest, that one (it cannot be more); beyond the highest in proportion,
    as far as twice."""
    low, high = points[0], points[-1]
    if load <= low[0]:
        return Reading(low[1], "measured" if load == low[0] else "at most", low[0])
    for (here, less), (there, more) in itertools.pairwise(points):
        if load <= there:
            return Reading(less + (more - less) * (load - here) / (there - here),
                           "measured" if load == there else "between", there)
    if load <= BEYOND * high[0]:
        return Reading(high[1] * load / high[0], "extrapolated", high[0])
    return Reading(None, reason="the load curve ends below half of this load")


def p99(curves: Sequence[Curve], cores: int, load: float, rate: float) -> Reading:
    """p99 in ns on ``cores`` at ``load``: that of the next higher load measured. A count without latency takes that of
    the nearest count at the same share of its ``rate``."""
    near = _nearest([curve for curve in curves if any(ns is not None for _, ns, _ in curve.p99)], cores)
    if near is None:
        own = next((curve for curve in curves if curve.cores == cores and curve.p99), None)
        if own is None:
            return Reading(None, reason="no p99 was measured")
        near = own
    factor = 1.0
    if near.cores != cores:
        if not near.rate:
            return Reading(None, reason=f"no rate on {_cores(near.cores)} to take the load's share of")
        factor = rate / near.rate
    for measured, ns, reason in near.p99:
        if measured * factor >= load * 0.999:
            if ns is None:
                return Reading(None, load=measured * factor, reason=reason)
            return Reading(ns, "measured" if near.cores == cores else f"from {_cores(near.cores)}", measured * factor)
    return Reading(None, reason="latency was not measured at so high a load")


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count != 1)}"


def _nearest(curves: Sequence[Curve], cores: int) -> Curve | None:
    return min(curves, key=lambda curve: (abs(curve.cores - cores), curve.cores), default=None)
