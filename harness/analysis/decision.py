# SPDX-License-Identifier: Apache-2.0
"""The gate's decision rule: estimates, their noise and thresholds in; pass, fail, cannot tell out.

Everything is an array whose last axis runs over the gated figures of one run (point x metric); leading axes are
simulated runs. Estimates are oriented: positive is worse, on the logarithmic scale (absolute for loss ratios).

**Rule.** A figure *fails* when its estimate is beyond the threshold and "not worse than the baseline" is refuted by a
one-sided t-test, Benjamini-Hochberg over all figures at 0.8 %. Otherwise the gate *cannot tell* when half the 95 %
interval is wider than the threshold (unless all of it is an improvement), or the estimate is beyond the threshold all
the same. Everything else *passes*, and has *improved* where the same test says so of the other direction.

**Why** (`make bench-statistics` prints these figures anew, 40,000 simulated runs each).
With every figure unchanged Benjamini-Hochberg is Simes' test, so the share of unchanged runs that fail does not grow
with the number of figures, and noise beyond the threshold cannot raise it. An uncorrected 95 % interval a figure fails
2.5 % of unchanged runs with one figure and 15 % and more with eight. The correction is paid for in degrees of freedom:
5 repeats a side leave a figure 8 of its own, and a loss of 5 % at 1.5 % noise in one figure of eight would be found in
71 % of cases. So the variances of figures of one kind are moderated (Smyth 2004, as in limma): each is drawn to their
common value as far as they agree, and not where they differ; with that it is 97 %. What is borrowed is kept to half the
others' degrees of freedom, and the level to 0.8 %: with the full amount and 1 %, figures whose noise differs twofold
and more brought 1.4 % of false alarms, with these 1.1 %.

Unchanged runs that fail, at any noise from 0.5 to 10 %: at most 0.8 % where figures are alike in noise, 1.1 % where
they differ twofold and more. A loss of 5 % in one figure, threshold 3 %:

=======  ==========================  ==========================  ============================
figures  1.5 % noise, 5 repeats      3 % noise, 15 repeats       3 % noise, 5 repeats
=======  ==========================  ==========================  ============================
1        fails in 95.6 %             96.6 %                      37.6 %, cannot tell 60.9 %
4        96.6 %                      95.0 %                      31.3 %, cannot tell 67.9 %
16       96.5 %                      90.9 %                      22.0 %, cannot tell 78.2 %
=======  ==========================  ==========================  ============================

Where any one of 16 figures may have lost 5 %, at 3 % noise and 15 repeats, no test that fails at most 1 % of unchanged
runs finds the loss in 95 %: the most powerful one there is (Neyman and Pearson's, told the noise and the size of the
loss, figures independent) finds it in 92.9 % (of 8 figures in 95.3 %, of 4 in 97.0 %). More repeats do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis import enough
from harness.analysis.enough import MOST_REPEATS, Ints, Noise
from harness.analysis.statistics import Array, Moments

#: Level of the test; with it at most 1 % of unchanged runs fail.
FALSE_ALARMS = 0.008
PASS, FAIL, CANNOT_TELL, IMPROVED = 0, 1, 2, 3
#: Degrees of freedom that a figure borrows, at most, as a share of all others'.
_BORROWED = 0.5


@dataclass(frozen=True)
class Figures:
    """What is decided about, arrays (..., figures). ``worse``: estimated change, positive is worse. ``repeats_factor``:
    1/n + 1/m of its two sides. ``threshold``: positive. ``kind``: figures of one number share their noise.
    ``between``: the part of ``worse.variance`` that is how far whole runs differ, known from ``runs`` baseline runs."""

    worse: Moments
    repeats_factor: Array
    threshold: Array
    kind: Ints
    between: Array | float = 0.0
    runs: Array | float = 0.0


@dataclass(frozen=True)
class Decision:
    """``state``: PASS, FAIL, CANNOT_TELL or IMPROVED. ``p``: one-sided, adjusted (Benjamini-Hochberg).
    ``half``: half width of the 95 % interval. ``repeats``: those a side with which enough.ANSWERED of such runs would
    get an answer; 0 where there is one, MOST_REPEATS + 1 where that many are too few. ``runs``: where they are too few
    because whole runs differ, the baseline runs that would do (MOST_RUNS + 1: not even those); else 0."""

    state: Ints
    p: Array
    half: Array
    repeats: Ints
    runs: Ints


def decide(figures: Figures) -> Decision:
    """The rule of this module."""
    worse = moderated(figures)
    p = adjusted(_one_sided(worse))
    half = worse.half_width()
    beyond = worse.mean > figures.threshold
    failed = beyond & (p <= FALSE_ALARMS)
    unknown = ~failed & (beyond | (half > figures.threshold) & (worse.mean + half > 0))
    better = adjusted(_one_sided(Moments(-worse.mean, worse.variance, worse.df))) <= FALSE_ALARMS
    improved = ~failed & ~unknown & better & (-worse.mean > figures.threshold)
    state = np.select([failed, unknown, improved], [FAIL, CANNOT_TELL, IMPROVED], PASS)
    return Decision(state, p, half, *_wanted(figures, worse, unknown))


def _wanted(figures: Figures, worse: Moments, unknown: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Repeats and baseline runs that would give an answer; ``worse``: with moderated variances, which are drawn to
    their common value with both their parts."""
    repeats, runs = (np.zeros(unknown.shape, dtype=np.int64) for _ in range(2))
    if not unknown.any():
        return repeats, runs
    raw, level = figures.worse, FALSE_ALARMS / unknown.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(raw.variance > 0, figures.between / raw.variance, 0.0)
        own = np.maximum(np.asarray(figures.runs) - 1.0, 1.0)
        within_df = (1 - share) ** 2 / np.maximum(1 / raw.df - share ** 2 / own, 1e-9)
    within = worse.variance * (1 - share)
    noise = Noise(within / figures.repeats_factor, worse.variance * share, own + worse.df - raw.df,
                  np.asarray(figures.runs, dtype=float), within, within_df).chosen(unknown)
    estimate = worse.mean[unknown]
    threshold = np.broadcast_to(figures.threshold, unknown.shape)[unknown]
    wanted = enough.repeats(noise, estimate, threshold, level)
    repeats[unknown] = wanted
    hidden = (noise.between > 0) & (wanted > MOST_REPEATS)
    if hidden.any():
        more = np.zeros(wanted.shape, dtype=np.int64)
        more[hidden] = enough.baseline_runs(noise.chosen(hidden), estimate[hidden], threshold[hidden], level)
        runs[unknown] = more
    return repeats, runs


def _one_sided(moments: Moments) -> Array:
    """p of "the mean is not above zero"."""
    two = moments.p()
    return np.where(moments.mean > 0, two / 2, 1 - two / 2)


def adjusted(p: Array) -> Array:
    """Benjamini-Hochberg over the last axis."""
    count = p.shape[-1]
    order = np.argsort(p, axis=-1)
    scaled = np.take_along_axis(p, order, axis=-1) * count / np.arange(1, count + 1)
    least = np.minimum.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.minimum(least, 1.0), axis=-1)
    return found


def moderated(figures: Figures) -> Moments:
    """Variances of figures of one kind drawn to their common value, as far as they agree with each other."""
    worse, variance, df = figures.worse, figures.worse.variance.copy(), figures.worse.df.copy()
    for kind in np.unique(figures.kind):
        chosen = np.flatnonzero(figures.kind == kind)
        if len(chosen) > 1:
            factor = np.broadcast_to(figures.repeats_factor, variance.shape)[..., chosen]
            unit, total = _squeezed(variance[..., chosen] / factor, df[..., chosen])
            variance[..., chosen], df[..., chosen] = unit * factor, total
    return Moments(worse.mean, variance, df)


def _squeezed(variance: Array, df: Array) -> tuple[Array, Array]:
    """Smyth's moderated variances (last axis: figures) and their degrees of freedom."""
    from scipy.special import polygamma, psi

    count = variance.shape[-1]
    middle = np.median(variance, axis=-1, keepdims=True)
    floored = np.where(middle > 0, np.maximum(variance, 1e-4 * middle), 1.0)
    level = np.log(floored) - psi(df / 2) + np.log(df / 2)
    centre = level.mean(axis=-1, keepdims=True)
    extra = ((level - centre) ** 2).sum(axis=-1, keepdims=True) / (count - 1) - polygamma(1, df / 2).mean(
        axis=-1, keepdims=True)
    borrowed = np.minimum(2 * _trigamma_inverse(np.maximum(extra, 1e-8)),
                          (df.sum(axis=-1, keepdims=True) - df) * _BORROWED)
    prior = np.exp(centre + psi(borrowed / 2) - np.log(borrowed / 2))
    squeezed = (df * floored + borrowed * prior) / (df + borrowed)
    return np.where(middle > 0, squeezed, variance), np.where(middle > 0, df + borrowed, df)


def _trigamma_inverse(value: Array) -> Array:
    """Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(8):
        trigamma = polygamma(1, x)
        x = x + trigamma * (1 - trigamma / value) / polygamma(2, x)
    return x


@dataclass(frozen=True)
class Against:
    """A run against a history. ``between``: the part of ``worse.variance`` that is how far whole runs differ."""

    worse: Moments
    between: Array


def with_history(new: Moments, runs: Moments) -> Against:
    """``new`` minus the mean of several baseline runs, (..., runs) in ``runs``.

    From three runs on their means tell how far runs differ beyond the noise within them; a new run differs from them by
    as much, so that variance is part of both sides."""
    count = runs.mean.shape[-1]
    within = Moments(runs.mean.mean(axis=-1), runs.variance.sum(axis=-1) / count ** 2, runs.df.sum(axis=-1))
    plain = new.minus(within)
    if count < 3:
        return Against(plain, np.zeros(plain.variance.shape))
    between = np.maximum(runs.mean.var(axis=-1, ddof=1) - runs.variance.mean(axis=-1), 0.0) * (1 + 1 / count)
    variance = plain.variance + between
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance ** 2 / (plain.variance ** 2 / plain.df + between ** 2 / (count - 1))
    return Against(Moments(plain.mean, variance, np.where(variance > 0, df, plain.df)), np.asarray(between))
