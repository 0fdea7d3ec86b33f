# SPDX-License-Identifier: Apache-2.0
"""Statistics of repeats: intervals of one value, differences of two, and what could not have been seen.

Values are compared by their logarithms (rates, times, cores and cycles scale; a difference is a percentage of the
base, and the quantity estimated is the geometric mean), or as they are where one may be zero (loss ratios).

==========  =====================================================================================================
repeats     interval of 95 %
==========  =====================================================================================================
1, 2        none: too few to tell noise from a difference
3 to 19     Student's t; of two samples Welch's
20 and more BCa bootstrap (``scipy.stats.bootstrap``, seeded). A bootstrap of n values is too narrow by about
            sqrt((n - 1) / n) and takes the normal's quantile for Student's, 93 % instead of 95 % at n = 20; so it is
            asked for the level that makes good for both (Hesterberg 2015, "expanded percentile interval").
==========  =====================================================================================================

Repeats of two points of one run are pairs where the order was interleaved (a round meets the same drift): ``paired``.
Two runs never are: their rounds share nothing but a number. The p-value is Student's (Welch's) at any size.
scipy is imported when something is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
#: Repeats below which there is no interval, and from which it is bootstrapped.
LEAST_REPEATS, BOOTSTRAP_FROM = 3, 20
#: Of seeing a difference of the size called the smallest that could have been seen.
POWER = 0.80
#: Width of an interval, relative to its middle, beyond which a rate is ``noisy``.
NOISY = 0.05
RESAMPLES, _SEED = 4999, 20240229

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """95 % interval; unit of the values, or of the difference it belongs to. ``method``: "t", "Welch t", "paired t",
    "BCa bootstrap"."""

    low: float
    high: float
    method: str

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside."""
        return not self.low <= value <= self.high


@dataclass(frozen=True)
class Difference:
    """How ``other`` differs from ``base``.

    ``value``, ``interval``, ``smallest``: relative to the base (0.03: 3 % more) where ``relative``, else in the unit of
    the values. ``p``: two-sided. ``smallest``: the difference that would have been seen with a probability of POWER.
    ``repeats``: values on each side. ``smallest`` is None where all repeats are alike. Without an interval ``p`` and
    ``smallest`` are None too and ``reason`` says why.
    """

    relative: bool
    value: float
    repeats: tuple[int, int]
    interval: Interval | None = None
    p: float | None = None
    smallest: float | None = None
    reason: str = ""

    @property
    def seen(self) -> bool:
        """Whether it is outside the noise."""
        return self.interval is not None and self.interval.excludes(0.0)


@dataclass(frozen=True)
class Moments:
    """Means of samples and the variance of those means; ``df`` belongs to ``variance``. Arrays of one shape."""

    mean: Array
    variance: Array
    df: Array

    @staticmethod
    def of(values: npt.ArrayLike) -> Moments:
        """Of samples along the last axis, at least two values each."""
        array = np.asarray(values, dtype=float)
        count = array.shape[-1]
        variance = np.asarray(array.var(axis=-1, ddof=1) / count)
        return Moments(np.asarray(array.mean(axis=-1)), variance, np.full(variance.shape, count - 1.0))

    def minus(self, base: Moments) -> Moments:
        """Of the difference of means of independent samples (Welch-Satterthwaite)."""
        variance = self.variance + base.variance
        with np.errstate(divide="ignore", invalid="ignore"):
            df = variance ** 2 / (self.variance ** 2 / self.df + base.variance ** 2 / base.df)
        return Moments(self.mean - base.mean, variance, np.where(variance > 0, df, self.df + base.df))

    def half_width(self, level: float = LEVEL) -> Array:
        """Half the width of Student's interval."""
        return t_quantile((1 + level) / 2, self.df) * np.sqrt(self.variance)

    def p(self) -> Array:
        """Two-sided p of "the mean is zero"; samples without any spread are certain."""
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.variance > 0, np.abs(self.mean) / np.sqrt(self.variance),
                         np.where(self.mean == 0, 0.0, np.inf))
        return np.asarray(2 * stdtr(self.df, -t))

    def smallest(self, level: float = LEVEL) -> Array:
        """The mean that would have been told from zero at ``level`` with a probability of POWER."""
        return (t_quantile((1 + level) / 2, self.df) + t_quantile(POWER, self.df)) * np.sqrt(self.variance)


def t_quantile(probability: float, df: npt.ArrayLike) -> Array:
    """Student's quantile."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.asarray(df, dtype=float), probability))


def finite(values: Sequence[float]) -> list[float]:
    """The values that are numbers."""
    return [value for value in values if math.isfinite(value)]


def interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of the geometric mean of finite values, in their unit; of the mean where one is zero or less. None
    below LEAST_REPEATS."""
    if len(values) < LEAST_REPEATS:
        return None
    logarithmic = min(values) > 0
    array = np.log(values) if logarithmic else np.asarray(values, dtype=float)
    low, high, method = _interval_of_mean(array, "t")
    return Interval(math.exp(low), math.exp(high), method) if logarithmic else Interval(low, high, method)


def is_noisy(found: Interval) -> bool:
    """Whether an interval is wider than 5 % of its middle."""
    return found.high - found.low > NOISY * (found.high + found.low) / 2


def difference(base: Sequence[float], other: Sequence[float], *, relative: bool = True,
               paired: bool = False) -> Difference:
    """How ``other`` differs from ``base``: finite values, at least one each; ``paired``: of the same rounds, in order.

    ``relative`` is kept only where every value is positive."""
    if not base or not other:
        raise ValueError("a difference needs a value on both sides")
    if paired and len(base) != len(other):
        raise ValueError("pairs need as many values on both sides")
    relative = relative and min(*base, *other) > 0
    one, two = (np.log(side) if relative else np.asarray(side, dtype=float) for side in (base, other))
    back = math.expm1 if relative else float
    sizes = (len(base), len(other))
    value = back(float(two.mean() - one.mean()))
    if min(sizes) < LEAST_REPEATS:
        few = "one repeat" if min(sizes) == 1 else f"{min(sizes)} repeats"
        return Difference(relative, value, sizes, reason=f"{few}: noise is unknown below {LEAST_REPEATS}")
    if paired:
        moments = Moments.of(two - one)
        low, high, method = _interval_of_mean(two - one, "paired t")
    else:
        moments = Moments.of(two).minus(Moments.of(one))
        low, high, method = _interval_between(one, two, moments)
    # Repeats that are all alike are as fine as their source's resolution, which is not known here.
    smallest = back(float(moments.smallest())) if moments.variance > 0 else None
    return Difference(relative, value, sizes, Interval(back(low), back(high), method), float(moments.p()), smallest)


def smallest_seen(base: Sequence[float], other: Sequence[float], *, relative: bool, level: float) -> float:
    """The difference of such samples, at least two values each, that would have been seen at ``level`` with a
    probability of POWER; 0 where the values of each side are all alike. ``relative``: of positive values."""
    one, two = (Moments.of(np.log(side) if relative else side) for side in (base, other))
    found = float(two.minus(one).smallest(level))
    return math.expm1(found) if relative else found


def _interval_of_mean(array: Array, name: str) -> tuple[float, float, str]:
    moments = Moments.of(array)
    if len(array) >= BOOTSTRAP_FROM and moments.variance > 0:
        low, high = bca_of_mean(array)
        return float(low), float(high), "BCa bootstrap"
    half = float(moments.half_width())
    return float(moments.mean) - half, float(moments.mean) + half, name


def _interval_between(one: Array, two: Array, moments: Moments) -> tuple[float, float, str]:
    if min(len(one), len(two)) >= BOOTSTRAP_FROM and min(one.var(), two.var()) > 0:
        low, high = bca_of_difference(one, two)
        return float(low), float(high), "BCa bootstrap"
    half = float(moments.half_width())
    return float(moments.mean) - half, float(moments.mean) + half, "Welch t"


def bca_of_mean(values: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = _SEED) -> tuple[Array, Array]:
    """Expanded BCa interval of the means of samples (last axis), as arrays of their shape without it."""
    array = np.asarray(values, dtype=float)
    count = array.shape[-1]
    level = _expanded(math.sqrt(count / (count - 1)), count - 1)
    return _bootstrap((array,), lambda sample, axis: sample.mean(axis=axis), level, resamples, seed)


def bca_of_difference(base: npt.ArrayLike, other: npt.ArrayLike, resamples: int = RESAMPLES,
                      seed: int = _SEED) -> tuple[Array, Array]:
    """Expanded BCa interval of mean(other) - mean(base), independent samples along the last axis.

    Of several samples at once all are asked for the level of the typical one."""
    one, two = np.asarray(base, dtype=float), np.asarray(other, dtype=float)
    moments = Moments.of(two).minus(Moments.of(one))
    resampled = one.var(axis=-1) / one.shape[-1] + two.var(axis=-1) / two.shape[-1]
    level = _expanded(float(np.median(np.sqrt(moments.variance / resampled))), float(np.median(moments.df)))
    return _bootstrap((two, one), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), level, resamples, seed)


def _expanded(narrow: float, df: float) -> float:
    """The level to ask a bootstrap for that is too narrow by the factor ``narrow`` and ignores ``df``."""
    from scipy.special import ndtr

    return float(1 - 2 * ndtr(-narrow * t_quantile((1 + LEVEL) / 2, df)))


def _bootstrap(samples: tuple[Array, ...], statistic: Any, level: float, resamples: int,
               seed: int) -> tuple[Array, Array]:
    from scipy.stats import bootstrap

    found = bootstrap(samples, statistic, n_resamples=resamples, confidence_level=level, method="BCa",
                      vectorized=True, axis=-1, rng=np.random.default_rng(seed)).confidence_interval
    return np.asarray(found.low), np.asarray(found.high)
