# SPDX-License-Identifier: Apache-2.0
"""How the best rate of a run differs from the others, by compare's rules: interval, p, what could have been seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.compare import Finding, finding
from harness.analysis.metrics import Kind, Metric
from harness.analysis.sides import Side
from harness.analysis.statistics import LEAST_REPEATS, LEVEL, POWER, Difference, difference
from harness.report.comparison import change_text, interval_text, p_text
from harness.report.numbers import finite, percent, significant
from harness.report.summarise import RateSummary


@dataclass(frozen=True)
class Pair:
    """``found``: how the best differs from ``other`` (its base). ``width``: of the search, relative; a difference below
    it is none. ``paired``: by the rounds that both were measured in. ``bound``: the best is a lower bound."""

    other: str
    metric: Metric
    found: Difference
    finding: Finding
    width: float
    paired: bool
    bound: bool

    @property
    def factor(self) -> float | None:
        """Best / other, of geometric means; None where no difference in the best's favour was seen."""
        return 1 + self.found.value if self.finding is Finding.BETTER and self.found.relative else None

    def text(self) -> str:
        """"dpdk +180.0 % (+175.0 to +185.0 %, p <0.001)"."""
        found = self.found
        assert found.interval is not None
        span = interval_text(self.metric, found.interval.low, found.interval.high, relative=found.relative)
        noise = f"{span}, p {p_text(found.p)}"
        if self.finding is Finding.NONE:
            smallest = None if found.smallest is None else max(found.smallest, self.width)
            seen = change_text(self.metric, smallest, relative=found.relative, sign=False)
            return f"{self.other} {self.finding} ({noise}; would have seen: {seen})"
        value = (">= " if self.bound else "") + change_text(self.metric, found.value, relative=found.relative)
        return f"{self.other} {value} ({noise})"


def pair(name: str, metric: str, best: RateSummary, other: RateSummary, *, width: float, rounds: bool) -> Pair | None:
    """The best against another rate ("NDR", "PDR", "MRR"); None where too few repeats tell noise from a difference.

    ``rounds``: every round measured all points, so repeats of one number are a pair."""
    one, two = ({repeat: value for repeat, value in side.by_repeat.items() if finite(value) is not None}
                for side in (best, other))
    common = sorted(one.keys() & two.keys())
    if min(len(one), len(two)) < LEAST_REPEATS:
        return None
    paired = rounds and len(common) >= LEAST_REPEATS
    values = [one[r] for r in common] if paired else list(one.values())
    base = [two[r] for r in common] if paired else list(two.values())
    kind = Metric(Kind(metric.lower()))
    found = difference(base, values, paired=paired)
    width = 0.0 if kind.kind is Kind.MRR else width
    said = finding(kind, Side(tuple(base), other.at_least), Side(tuple(values), best.at_least), found, width)
    return Pair(name, kind, found, said, width, paired, best.at_least)


def sentence(best: str, pairs: Sequence[Pair]) -> str:
    """All of them with what they are worth; "" without one."""
    told = [each for each in pairs if each.finding is not Finding.LIMITED]
    if not told:
        return ""
    how = "paired by round, differences" if all(each.paired for each in told) else "differences"
    seen = (f"; would have seen: with a probability of {percent(POWER, 0)}"
            if any(each.finding is Finding.NONE for each in told) else "")
    return (f"{best} against {', '.join(each.text() for each in told)}: {how} of geometric means, "
            f"{percent(LEVEL, 0)} interval, p{seen}.")


def more(factor: float, name: str) -> str:
    """"37 % more than dpdk", "2.8 times dpdk"."""
    if factor < 1.995:
        return f"{significant((factor - 1) * 100, 2)} % more than {name}"
    return f"{significant(factor, 2)} times {name}"
