# SPDX-License-Identifier: Apache-2.0
"""Where the level of a history changes: jumpavg's groups, looked for without lone outliers, each jump confirmed.

FD.io's jumpavg and Apache Otava were tried on simulated histories with known changes (``make bench-changepoints``, the
figures are in tests/data/changepoints.json). Alone, jumpavg takes every outlier for two changes: with one run in twenty
30 % off, it reports something false in 73 % of the histories. With outliers set aside and every jump confirmed by
Welch's test at 0.001 that is 4 % (2 % without outliers), and a step of 5 % at 1-2 % noise is found in 62 % of histories
of 20 runs, 97 % of 60 and 100 % of 200. Otava 0.8.0 in one window finds more small steps where there are no outliers
(71 % of all steps against 55 %), fewer where there are (46 % against 54 %), and reports something false in 10 %; shown
no outliers it finds 70 % of the steps and something false in 11 to 14 %. In its default windows of 50 it raises
ValueError for many longer histories (a change found in two windows is counted twice). Its package also pins numpy and
needs clients of BigQuery, Slack and PostgreSQL: it cannot be installed beside this one.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

#: jumpavg takes time with the square of the length; longer histories are looked at in windows, half overlapping.
WINDOW = 60
#: Chance with which two samples of one level would differ so much (Welch).
MAX_P = 0.001
#: Values farther from the median of their neighbours than this many robust standard deviations are outliers.
OUTLIER = 3.5
NEIGHBOURS = 5
MOST_OUTLIERS = 0.125


@dataclass(frozen=True)
class Change:
    """``index``: of the first value after the change. ``before``, ``after``: means of the two levels, in the unit of
    the values. ``p``: chance of such a difference without a change."""

    index: int
    before: float
    after: float
    p: float


#: Groupings already made, by the values: with a file behind it, a longer history costs only its newest windows.
Memo = dict[str, list[int]]


def jumps(values: Sequence[float], memo: Memo | None = None) -> list[int]:
    """Indices at which jumpavg's groups begin, the first left out. Nothing for values that are not positive."""
    if len(values) < 2 or max(values) <= 0:
        return []
    memo = {} if memo is None else memo
    key = hashlib.sha256(array("d", values).tobytes()).hexdigest()[:24]
    if key not in memo:
        memo[key] = _jumps(values)
    return memo[key]


def _jumps(values: Sequence[float]) -> list[int]:
    from jumpavg import classify

    starts, at = [], 0
    for group in classify(list(values)):
        starts.append(at)
        at += len(group.run_list)
    return starts[1:]


def change_points(values: Sequence[float], memo: Memo | None = None) -> list[Change]:
    """Every change of level, in order. Values are finite numbers, in the order made.

    A level of one run with others on both sides is an outlier too: one bad run is no regression and progression."""
    kept = [index for index, odd in enumerate(outliers(values)) if not odd]
    while True:
        steady = [float(values[index]) for index in kept]
        cuts = sorted({start + jump for start in _starts(len(steady))
                       for jump in jumps(steady[start:start + WINDOW], memo)})
        found = _confirmed(steady, cuts)
        alone = {one.index for one, other in pairwise(found) if other.index == one.index + 1}
        if not alone:
            return [Change(kept[change.index], change.before, change.after, change.p) for change in found]
        kept = [index for place, index in enumerate(kept) if place not in alone]


def _starts(length: int) -> range:
    return range(0, max(1, length - WINDOW // 2), WINDOW // 2)


def outliers(values: Sequence[float]) -> list[bool]:
    """Which values stand alone, away from those before and those after; none where many do."""
    size = len(values)
    found = []
    for index in range(size):
        low = max(0, min(index - NEIGHBOURS, size - 2 * NEIGHBOURS - 1))
        before = [values[i] for i in range(max(0, index - NEIGHBOURS), index)]
        after = [values[i] for i in range(index + 1, min(size, index + NEIGHBOURS + 1))]
        around = [values[i] for i in range(low, min(size, low + 2 * NEIGHBOURS + 1)) if i != index]
        found.append(all(_far(values[index], side, around) for side in (before, after) if len(side) > 1)
                     and len(around) >= NEIGHBOURS)
    return found if sum(found) <= MOST_OUTLIERS * size else [False] * size


def _far(value: float, side: Sequence[float], around: Sequence[float]) -> bool:
    """Whether a value is farther from one side's median than that side's own spread explains."""
    middle = statistics.median(side)
    spread = 1.4826 * statistics.median(abs(v - statistics.median(around)) for v in around)
    return abs(value - middle) > OUTLIER * max(spread, 1e-12 * abs(middle))


def _confirmed(values: Sequence[float], cuts: Sequence[int]) -> list[Change]:
    """The weakest cut is taken out until every one left separates two levels that differ significantly."""
    cuts = [cut for cut in cuts if 0 < cut < len(values)]
    while cuts:
        edges = [0, *cuts, len(values)]
        found = [change(values[a:b], values[b:c], b) for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)]
        weakest = max(found, key=lambda change: change.p)
        if weakest.p <= MAX_P:
            return found
        cuts.remove(weakest.index)
    return []


def change(left: Sequence[float], right: Sequence[float], index: int) -> Change:
    """Two levels side by side, by Welch's test; p is 1 where neither side has two values."""
    from scipy.special import stdtr

    before, after = statistics.fmean(left), statistics.fmean(right)
    # One value has no spread of its own: that of the other side stands for it.
    spreads = [statistics.variance(side) for side in (left, right) if len(side) > 1]
    if not spreads:
        return Change(index, before, after, 1.0)
    parts = [(statistics.variance(side) if len(side) > 1 else spreads[0]) / len(side) for side in (left, right)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Change(index, before, after, 0.0 if before != after else 1.0)
    freedom = sum(parts) ** 2 / sum(part ** 2 / max(1, len(side) - 1)
                                    for part, side in zip(parts, (left, right), strict=True))
    return Change(index, before, after, float(2 * stdtr(freedom, -abs(before - after) / error)))
