# SPDX-License-Identifier: Apache-2.0
"""The numbers that runs are compared by: what each is called, its unit, which way is better, and where it is found.

One vocabulary for ``gate:`` in a scenario, compare, gate, trend and exports:

``ndr`` ``pdr`` ``mrr``                 rate found, frames (role accept: connections) per second and direction
``latency.p99@50%``                     ns at that fraction of PDR (or NDR); p50 p90 p99 p99.9 max
``cores@200k``                          DUT cores busy at that offered load of the load curve
``cycles@200k``                         cycles per packet there
``loss@200k``                           loss ratio there
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.figures import at_least
from harness.plan import PointPlan
from harness.records import Bound, LatencyAt, PointOutcome, Trial, Verdict
from harness.rundata import RunData
from harness.units import parse_rate

PERCENTILES = {"p50": "p50_ns", "p90": "p90_ns", "p99": "p99_ns", "p99.9": "p999_ns", "max": "max_ns"}
_RATE = re.compile(r"mrr|ndr|pdr")
_LATENCY = re.compile(r"latency\.(p50|p90|p99|p99\.9|max)@(\d+(?:\.\d+)?)%")
_LOAD = re.compile(r"(cores|cycles|loss)@(\S+)")


class Kind(StrEnum):
    """What is measured; the part of a metric's name before ``.`` or ``@``."""

    MRR = "mrr"
    NDR = "ndr"
    PDR = "pdr"
    LATENCY = "latency"
    CORES = "cores"
    CYCLES = "cycles"
    LOSS = "loss"


_UNITS = {Kind.LATENCY: "ns", Kind.CORES: "cores", Kind.CYCLES: "cycles", Kind.LOSS: "ratio"}


@dataclass(frozen=True, order=True)
class Metric:
    """``percentile``: of latency. ``at``: fraction of PDR (latency), or frames per second (load curve); 0 for rates."""

    kind: Kind
    percentile: str = ""
    at: float = 0.0

    @staticmethod
    def parse(text: str) -> Metric:
        """By its name, as in a scenario's ``gate``. Raises ValueError."""
        if _RATE.fullmatch(text):
            return Metric(Kind(text))
        if match := _LATENCY.fullmatch(text):
            return Metric(Kind.LATENCY, match[1], float(match[2]) / 100)
        if match := _LOAD.fullmatch(text):
            return Metric(Kind(match[1]), at=parse_rate(match[2]))
        raise ValueError(f"{text[:60]!r} is nothing that is measured; mrr, ndr, pdr, or like latency.p99@50%, "
                         "cores@200k, cycles@200k, loss@200k")

    @property
    def name(self) -> str:
        """As :meth:`parse` takes it."""
        if self.kind is Kind.LATENCY:
            return f"latency.{self.percentile}@{self.at * 100:g}%"
        if self.at:
            return f"{self.kind}@{_short(self.at)}"
        return str(self.kind)

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better."""
        return self.kind in (Kind.MRR, Kind.NDR, Kind.PDR)

    @property
    def unit(self) -> str:
        """pps (role accept: connections/s), ns, cores, cycles, or ratio."""
        return _UNITS.get(self.kind, "pps")

    @property
    def is_ratio(self) -> bool:
        """Whether the value may be zero, so that differences are taken as they are and not as ratios."""
        return self.kind is Kind.LOSS


def check_threshold(metric: Metric, limit: float) -> None:
    """Raises ValueError where a gate's threshold (relative; absolute for loss) allows what nobody minds."""
    if not math.isfinite(limit) or limit == 0 or limit <= -1 or (limit < 0) != metric.higher_is_better:
        way, example = ("fall", '"-3%"') if metric.higher_is_better else ("rise", '"+10%"')
        raise ValueError(f"{limit * 100:+g}% does not say how far it may {way}; write for example {example}")


def _short(pps: float) -> str:
    """A rate as a scenario writes it, to the digit: 200k, 2.5M."""
    size, letter = next(((size, letter) for size, letter in ((1e6, "M"), (1e3, "k")) if pps >= size), (1.0, ""))
    return f"{pps / size:.10g}{letter}"


@dataclass(frozen=True, order=True)
class PointKey:
    """What makes two points of two runs the same: stack, parameters and tuning (JSON), role, frame sizes, cores given.

    ``host``: the DUT's name in its testbed, told apart only within one run."""

    stack: str
    params: str
    tuning: str
    role: str
    frames: str
    cores: int
    host: str = field(default="", compare=False)
    label: str = field(default="", compare=False)

    @staticmethod
    def of(point: PointPlan) -> PointKey:
        """Of a planned point."""
        tuning = {"profile": point.profile, **point.tuning} if point.tuning or point.profile != "stock" else {}
        return PointKey(point.stack, _json(point.params), _json(tuning), str(point.role), point.frames.label,
                        len(point.cores), point.host, point.label)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True, default=str)


@dataclass(frozen=True)
class Sample:
    """One repeat's value of a metric, in the metric's unit. ``at_least``: the generator was the limit, so that the
    stack may be faster. ``resolution``: what its source cannot tell apart, in the same unit; 0: not known."""

    repeat: int
    value: float
    at_least: bool = False
    verdicts: tuple[Verdict, ...] = ()
    resolution: float = 0.0


def samples(run: RunData) -> dict[str, dict[Metric, list[Sample]]]:
    """Every metric of every point (by its id in the plan), a sample a repeat that has one, in the order of repeats.

    Points that failed or were skipped have none: nothing stands in for what was not measured."""
    trials = {trial.number: trial for trial in run.trials}
    loss = run.plan.measure.search.pdr_loss if run.plan.measure.search else None
    found: dict[str, dict[Metric, list[Sample]]] = {}
    for outcome in sorted(run.outcomes, key=lambda outcome: outcome.repeat):
        if outcome.status != "ok":
            continue
        for metric, sample in _of(outcome, trials, loss):
            found.setdefault(outcome.point, {}).setdefault(metric, []).append(sample)
    return found


def _of(outcome: PointOutcome, trials: Mapping[int, Trial], pdr_loss: float | None) -> Iterator[tuple[Metric, Sample]]:
    for kind, bound in ((Kind.MRR, outcome.mrr), (Kind.NDR, outcome.ndr), (Kind.PDR, outcome.pdr)):
        if bound is not None and bound.pps is not None:
            yield Metric(kind), Sample(outcome.repeat, bound.pps, _limited(bound, pdr_loss), tuple(bound.verdicts))
    for entry in outcome.latency:
        yield from _latency(outcome.repeat, entry, trials.get(entry.trial))
    for point in outcome.load_curve:
        if point.trial in trials:
            yield from _load(outcome.repeat, point.load_pps, trials[point.trial])


def _limited(bound: Bound, pdr_loss: float | None) -> bool:
    return at_least(bound) if pdr_loss is None else at_least(bound, pdr_loss)


def _latency(repeat: int, entry: LatencyAt, trial: Trial | None) -> Iterator[tuple[Metric, Sample]]:
    if entry.percentiles is None:
        return
    verdicts = tuple(trial.verdicts) if trial is not None else ()
    resolution = float(entry.percentiles.resolution_ns)
    for name, attribute in PERCENTILES.items():
        value = getattr(entry.percentiles, attribute)
        if value is not None:
            yield (Metric(Kind.LATENCY, name, entry.fraction),
                   Sample(repeat, float(value), verdicts=verdicts, resolution=resolution))


def _load(repeat: int, load_pps: float, trial: Trial) -> Iterator[tuple[Metric, Sample]]:
    if trial.status != "ok":
        return
    verdicts = tuple(trial.verdicts)
    if trial.loss_ratio is not None:
        yield Metric(Kind.LOSS, at=load_pps), Sample(repeat, trial.loss_ratio, verdicts=verdicts)
    if trial.cpu is None:
        return
    yield Metric(Kind.CORES, at=load_pps), Sample(repeat, trial.cpu.busy_cores, verdicts=verdicts)
    if trial.cpu.cycles_per_packet is not None:
        yield Metric(Kind.CYCLES, at=load_pps), Sample(repeat, trial.cpu.cycles_per_packet, verdicts=verdicts)
