# SPDX-License-Identifier: Apache-2.0
"""What would give the gate an answer: more repeats, or, where runs differ from each other, more runs in the baseline.

Repeats average out the noise within a run and nothing else; how far whole runs differ (another placement in memory,
another temperature) stays, however many repeats there are. So only the part within is extrapolated. How far runs
differ is taken as known, though five runs tell it poorly: of simulated runs 4 % apart within and 0.6 % between, 86 %
and not ANSWERED got an answer with the repeats that were named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis.statistics import LEVEL, Array, t_quantile

#: Share of runs that are to get an answer with the number of repeats that is named.
ANSWERED = 0.95
MOST_REPEATS, MOST_RUNS = 1000, 100

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Noise:
    """Of figures, arrays of one shape. ``repeat``: variance of a repeat. ``between``: of the difference, what runs
    differ by (0: none seen, or fewer than three baseline runs), with ``between_df``, from ``runs`` baseline runs.
    ``within``, ``within_df``: variance of the difference that comes from repeats, as many as there are now."""

    repeat: Array
    between: Array
    between_df: Array
    runs: Array
    within: Array
    within_df: Array

    def chosen(self, which: npt.NDArray[np.bool_]) -> Noise:
        """Of some of the figures, in one row."""
        return Noise(*(np.broadcast_to(part, which.shape)[which] for part in (
            self.repeat, self.between, self.between_df, self.runs, self.within, self.within_df)))


def repeats(noise: Noise, estimate: Array, threshold: Array, level: float) -> Ints:
    """Repeats a side with which the interval is narrower than the threshold in ANSWERED of runs, and an estimate that
    is beyond the threshold (as this one) would be told from chance at ``level``; MOST_REPEATS + 1: not even those."""
    from scipy.special import chdtri

    counts = np.arange(3, MOST_REPEATS + 1)
    df = 2.0 * counts - 2
    spread = np.sqrt(2 / counts)
    unlucky = chdtri(df, 1 - ANSWERED) / df
    narrow = t_quantile((1 + LEVEL) / 2, df) * np.sqrt(unlucky) * spread
    tell = t_quantile(1 - level, df) * spread
    sd, threshold = np.sqrt(noise.repeat), np.broadcast_to(threshold, noise.repeat.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.searchsorted(-narrow, -threshold / sd)
        also = np.where(estimate > threshold, np.searchsorted(-tell, -np.abs(estimate) / sd), 0)
    found = np.maximum(wanted, also) + 3
    drifting = np.broadcast_to(noise.between, found.shape) > 0
    if drifting.any():
        found[drifting] = _drifting(noise.chosen(drifting), estimate[drifting], threshold[drifting], level)
    return found


def _drifting(noise: Noise, estimate: Array, threshold: Array, level: float) -> Ints:
    """The same where runs differ: tried at some numbers only, since each figure has degrees of freedom of its own."""
    from scipy.special import chdtri

    counts = np.unique(np.concatenate([np.arange(3, 40), np.geomspace(40, MOST_REPEATS, 60).round()])).astype(int)
    within_df = 2.0 * counts - 2
    within = 2 * noise.repeat[:, None] / counts
    between = noise.between[:, None]
    df = _combined(between, noise.between_df[:, None], within, within_df)
    unlucky = chdtri(within_df, 1 - ANSWERED) / within_df
    narrow = t_quantile((1 + LEVEL) / 2, df) * np.sqrt(between + within * unlucky) <= threshold[:, None]
    tell = t_quantile(1 - level, df) * np.sqrt(between + within) <= np.abs(estimate)[:, None]
    enough = narrow & (tell | (estimate <= threshold)[:, None])
    return np.where(enough.any(axis=1), counts[enough.argmax(axis=1)], MOST_REPEATS + 1)


def baseline_runs(noise: Noise, estimate: Array, threshold: Array, level: float) -> Ints:
    """Runs in the baseline, with repeats as they are, with which such figures (in one row) would get an answer: with
    more of them it is known better how far runs differ. MOST_RUNS + 1: not even those."""
    counts = np.arange(3, MOST_RUNS + 1)
    between: Array = (noise.between / (1 + 1 / noise.runs))[:, None] * (1 + 1 / counts)
    variance = between + noise.within[:, None]
    df = _combined(between, np.asarray(counts - 1, dtype=float), noise.within[:, None], noise.within_df[:, None])
    narrow = t_quantile((1 + LEVEL) / 2, df) * np.sqrt(variance) <= threshold[:, None]
    tell = t_quantile(1 - level, df) * np.sqrt(variance) <= np.abs(estimate)[:, None]
    enough = narrow & (tell | (estimate <= threshold)[:, None]) & (counts > noise.runs[:, None])
    return np.where(enough.any(axis=1), counts[enough.argmax(axis=1)], MOST_RUNS + 1)


def _combined(one: Array, one_df: Array, two: Array, two_df: Array) -> Array:
    """Degrees of freedom of the sum of two variances (Satterthwaite)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((one + two) ** 2 / (one ** 2 / one_df + two ** 2 / two_df))
