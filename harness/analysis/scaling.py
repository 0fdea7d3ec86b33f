# SPDX-License-Identifier: Apache-2.0
"""How throughput grows with cores: models fitted to the core counts measured, and what may be said beyond them.

Models, of n cores; every coefficient is at least 0, so no fit promises more than proportional growth:

``line``     a + b n                                              from 2 core counts on
``amdahl``   l n / (1 + s (n - 1))                                from 3
``usl``      l n / (1 + s (n - 1) + k n (n - 1))                  from 5; Universal Scalability Law, can fall

What is small is the relative error: the sum of squared logarithms of rate over fit (errors that are log-normal and of
one size make that the likeliest fit, which AICc presumes). Each model is linear in its coefficients (n / rate for the
latter two), so that a few rounds of non-negative least squares find the best fit without a start value. The lowest AICc
wins; the variance of the errors counts as a parameter. Models with as many coefficients as each other are ordered alike
by AICc and by their error. Where there are too few rates for one model's AICc, core counts are left out in turn and
foretold by the others, and the smallest error of that wins.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from harness.analysis.references import Kind, ReferencePoint

Array = np.ndarray[Any, np.dtype[np.float64]]

#: Core counts that a model needs.
NEEDS = {"line": 2, "amdahl": 3, "usl": 5}
#: Nothing is said beyond this many times the largest core count measured.
BEYOND = 2
#: Below this share of one core's rate, one more core is not worth having.
HALF_CORE = 0.5
RESAMPLES = 200
#: Rates are not known better than this (relative): below it one fit is as good as another.
_FINEST = 0.002
_LEAST_REPEATS = 3
#: Steps of a fit; it is done after two or three, where the rates are near a model.
_ROUNDS = 20
#: Of the normal distribution, what holds 95 % on both sides.
_NORMAL = 1.96
#: A difference in AICc that says little (Burnham and Anderson).
_NOT_TOLD_APART = 2.0


@dataclass(frozen=True)
class CountRates:
    """What was measured on so many cores: rates of the repeats, frames per second. ``at_least``: the highest of the
    repeats in which the generator or the wire was the limit; a bound, not a measurement. ``capped``: something other
    than the cores was the limit, and still is with more of them."""

    cores: int
    rates: tuple[float, ...]
    at_least: float | None = None
    capped: bool = False

    @property
    def rate(self) -> float | None:
        """Median of the repeats; None when there are only bounds."""
        return median(self.rates) if self.rates else None


@dataclass(frozen=True)
class Prediction:
    """Rate on ``cores``, frames per second. ``source``: measured, fitted (between measured counts) or extrapolated.
    ``low``, ``high``: 95 %, None where nothing tells. ``bounded``: by what was the limit with fewer cores, or by line
    rate."""

    cores: int
    rate: float
    low: float | None
    high: float | None
    source: str
    bounded: bool = False


@dataclass(frozen=True)
class Model:
    """One fitted model: its coefficients in the order above, and its AICc (None: too few rates)."""

    name: str
    coefficients: tuple[float, ...]
    aicc: float | None

    def rate(self, cores: float) -> float:
        """Frames per second on so many cores."""
        return float(_rates(self.name, np.array(self.coefficients), np.array([float(cores)]))[0])


@dataclass(frozen=True)
class Scaling:
    """What is known of one stack's rate against cores. ``model`` None: why is in ``reason``. ``draws``: coefficients
    of the resampled fits, by model. ``line_rate``: of the wire, frames per second; no number of cores carries more."""

    counts: tuple[CountRates, ...]
    model: Model | None
    reason: str
    draws: tuple[Model, ...] = ()
    line_rate: float | None = None

    @property
    def measured(self) -> dict[int, float]:
        """Rate by core count, of counts that have one; in order."""
        return {count.cores: count.rate for count in self.counts if count.rate is not None}

    @property
    def cap(self) -> float | None:
        """The rate at which something other than cores was the limit; None when that was never seen."""
        return min((count.rate for count in self.counts if count.capped and count.rate is not None), default=None)

    @property
    def most(self) -> int:
        """The largest core count measured, 0 without any."""
        return max(self.measured, default=0)

    def at(self, cores: int) -> Prediction | None:
        """The rate on so many cores; None when nothing can be said: fewer than were measured, more than twice as many,
        or no model."""
        count = next((count for count in self.counts if count.cores == cores), None)
        if count is not None and count.rate is not None:
            return Prediction(cores, count.rate, *_of_repeats(count.rates), "measured", count.capped)
        if self.model is None or not min(self.measured) <= cores <= BEYOND * self.most:
            return None
        floor = count.at_least if count is not None and count.at_least is not None else 0.0
        capped_at = [c.cores for c in self.counts if c.capped]
        cap = self.cap if capped_at and cores > min(capped_at) and self.cap is not None else math.inf
        cap = min(cap, self.line_rate or math.inf)
        low, high = self._interval(cores)
        rate = min(max(self.model.rate(cores), floor), cap)
        return Prediction(cores, rate, None if low is None else min(max(low, floor), cap),
                          None if high is None else min(max(high, floor), cap),
                          "extrapolated" if cores > self.most else "fitted", rate == cap)

    def _interval(self, cores: int) -> tuple[float | None, float | None]:
        if not self.draws:
            return None, None
        low, high = np.quantile([draw.rate(cores) for draw in self.draws], (0.025, 0.975))
        return float(low), float(high)

    def efficiency(self) -> dict[int, float]:
        """Rate over proportional growth from the smallest count measured, 1 is perfect; of the counts measured."""
        if not self.measured:
            return {}
        first, rate = next(iter(self.measured.items()))
        return {cores: found / (rate * cores / first) for cores, found in self.measured.items()}

    def half_core_at(self) -> Prediction | None:
        """The first core count from which one more core adds less than half of what one core does on average at the
        smallest count measured. Between measured counts the step is shared evenly; beyond, the fit is asked."""
        if len(self.measured) < 2:
            return None
        first, rate = next(iter(self.measured.items()))
        enough = HALF_CORE * rate / first
        known = list(self.measured.items())
        for (fewer, low), (more, high) in itertools.pairwise(known):
            if (high - low) / (more - fewer) < enough:
                return self.at(fewer)
        for cores in range(self.most, BEYOND * self.most):
            here, more_cores = self.at(cores), self.at(cores + 1)
            if here is not None and more_cores is not None and more_cores.rate - here.rate < enough:
                return Prediction(cores, here.rate, here.low, here.high, "extrapolated", here.bounded)
        return None


def fit(counts: Sequence[CountRates], *, seed: int = 1, resamples: int = RESAMPLES,
        line_rate: float | None = None) -> Scaling:
    """Fit the models that so many core counts allow, and keep the best. Counts with only bounds, and those that were
    capped by something else than cores, are not fitted. ``line_rate``: frames per second, None where there is none."""
    ordered = tuple(sorted(counts, key=lambda count: count.cores))
    usable = [count for count in ordered if count.rates and not count.capped]
    if len(usable) < NEEDS["line"]:
        return Scaling(ordered, None, _why_not(ordered, len(usable)), line_rate=line_rate)
    cores = np.array([float(count.cores) for count in usable for _ in count.rates])
    rates = np.array([rate for count in usable for rate in count.rates])
    models = _candidates(cores, rates)
    if not models:
        return Scaling(ordered, None, "no model can be fitted to these rates", line_rate=line_rate)
    draws = _draws(_plausible(models, cores, rates), cores, rates, seed, resamples)
    return Scaling(ordered, models[0], "", draws, line_rate)


def _why_not(counts: Sequence[CountRates], usable: int) -> str:
    bounds, capped = sum(not c.rates and c.at_least is not None for c in counts), sum(c.capped for c in counts)
    said = ["one core count was measured" if usable == 1 else "no core count has a rate of its own"]
    if bounds:
        said.append(f"{bounds} only as a bound (the generator or the wire was the limit)")
    if capped:
        said.append(f"{capped} limited by something other than cores")
    return ", ".join(said) + "; two are needed to say how it scales"


def _columns(name: str, cores: Array) -> Array:
    if name == "line":
        return np.column_stack((np.ones_like(cores), cores))
    terms = [np.ones_like(cores), cores - 1]
    return np.column_stack(terms if name == "amdahl" else [*terms, cores * (cores - 1)])


def _rates(name: str, coefficients: Array, cores: Array) -> Array:
    made: Array = _columns(name, cores) @ coefficients
    return made if name == "line" else cores / np.maximum(made, 1e-300)


def _solve(name: str, cores: Array, rates: Array) -> tuple[Array, float] | None:
    """Coefficients, and the sum of squared log errors, which is the smallest; None where the best fit is no rate at
    all."""
    from scipy.optimize import nnls

    columns, wanted = _columns(name, cores), rates if name == "line" else cores / rates
    best: tuple[Array, float] | None = None
    coefficients, _ = nnls(columns / wanted[:, None], np.ones_like(cores))
    for _ in range(_ROUNDS):
        if (not coefficients[0] and name != "line") or not coefficients.any():
            break
        fitted = columns @ coefficients
        errors = np.log(fitted / wanted)
        error = float(errors @ errors)
        before = math.inf if best is None else best[1]
        if error < before:
            best = coefficients, error
        if before - error <= max(1e-4 * error, 1e-12):
            break
        # Gauss and Newton's step: log(x) is log(f) + x / f - 1 near the fit f.
        coefficients, _ = nnls(columns / fitted[:, None], 1 - errors)
    return best


def _candidates(cores: Array, rates: Array) -> list[Model]:
    """Every model that so many core counts allow, fitted, best first; on a tie the later, curved one: its promise
    beyond what was measured is the smaller one."""
    found = []
    distinct = len(np.unique(cores))
    for name, least in NEEDS.items():
        solved = _solve(name, cores, rates) if distinct >= least else None
        if solved is not None:
            # Six digits: fits that come to the same, as two proportional ones do, tie.
            error = float(f"{max(solved[1], len(rates) * _FINEST ** 2):.6g}")
            found.append((Model(name, tuple(map(float, solved[0])), _aicc(error, len(rates), len(solved[0]))), error))
    if _alike([model for model, _ in found]):
        return [model for model, _ in sorted(reversed(found), key=lambda pair: pair[1])]
    if all(model.aicc is not None for model, _ in found):
        return sorted((model for model, _ in reversed(found)), key=lambda model: model.aicc or 0.0)
    return sorted((model for model, _ in reversed(found)), key=lambda model: _left_out(model.name, cores, rates))


def _alike(models: Sequence[Model]) -> bool:
    return len({len(model.coefficients) for model in models}) == 1


def _left_out(name: str, cores: Array, rates: Array) -> float:
    """Sum of squared log errors, each core count foretold from the others."""
    total = 0.0
    for count in np.unique(cores):
        out = cores == count
        solved = _solve(name, cores[~out], rates[~out])
        if solved is None:
            return math.inf
        errors = np.log(_rates(name, solved[0], cores[out]) / rates[out])
        total += max(float(errors @ errors), float(out.sum()) * _FINEST ** 2)
    return total


def _best(cores: Array, rates: Array) -> Model | None:
    return next(iter(_candidates(cores, rates)), None)


def _plausible(models: Sequence[Model], cores: Array, rates: Array) -> list[Model]:
    """The best, and those that the rates do not tell from it."""
    scores = [model.aicc for model in models]
    if None in scores:
        if _alike(models):
            return list(models)
        # Stone (1977): leaving out in turn orders models as Akaike's criterion does.
        scores = [len(rates) * math.log(_left_out(model.name, cores, rates)) for model in models]
    least = min(score for score in scores if score is not None)
    return [model for model, score in zip(models, scores, strict=True)
            if score is not None and score - least <= _NOT_TOLD_APART]


def _aicc(error: float, rates: int, coefficients: int) -> float | None:
    """Akaike's criterion, corrected for few observations; the variance of the errors is a parameter too."""
    parameters = coefficients + 1
    spare = rates - parameters - 1
    if spare < 1:
        return None
    return rates * math.log(error / rates) + 2 * parameters + 2 * parameters * (parameters + 1) / spare


def _draws(models: Sequence[Model], cores: Array, rates: Array, seed: int, resamples: int) -> tuple[Model, ...]:
    """Fits to rates made from each plausible model with its errors drawn anew, the model chosen anew each time; none
    where a fit has as many coefficients as there are rates."""
    random = np.random.default_rng(seed)
    made: list[Model] = []
    for model in models:
        spare = len(rates) - len(model.coefficients)
        if spare < 1:
            continue
        fitted = _rates(model.name, np.array(model.coefficients), cores)
        # A fit's errors are smaller than those of the rates, because its coefficients were bent to them; and of few
        # errors the spread is not well known (Student's t against the normal distribution).
        errors = np.log(rates / fitted) * (math.sqrt(len(rates) / spare) * _student(spare) / _NORMAL)
        for _ in range(resamples // len(models)):
            drawn = random.choice(errors, len(errors)) * random.choice((-1.0, 1.0), len(errors))
            chosen = _best(cores, fitted * np.exp(drawn))
            made += [] if chosen is None else [chosen]
    return tuple(made)


def _of_repeats(rates: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval of the mean rate, Student's t on logs; none below 3 repeats."""
    if len(rates) < _LEAST_REPEATS:
        return None, None
    logs = np.log(rates)
    half = _student(len(rates) - 1) * float(np.std(logs, ddof=1)) / math.sqrt(len(rates))
    middle = math.log(median(rates))
    return math.exp(middle - half), math.exp(middle + half)


@functools.cache
def _student(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def from_points(points: Mapping[int, ReferencePoint]) -> list[CountRates]:
    """Of a published series (:func:`harness.analysis.references.series`)."""
    return [CountRates(cores, (point.pps,), capped=point.kind is Kind.CAPPED) for cores, point in points.items()
            if point.pps is not None]
