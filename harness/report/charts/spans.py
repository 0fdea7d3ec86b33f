# SPDX-License-Identifier: Apache-2.0
"""The thin lines that charts draw across a rate: its 95 % interval where there are repeats enough for one, with two
repeats the lowest and the highest; and what a caption says of them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.statistics import LEAST_REPEATS
from harness.report.summarise import RateSummary


def span(summary: RateSummary) -> tuple[float, float] | None:
    """(from, to) in frames per second; None with one repeat."""
    if summary.interval is not None:
        return summary.interval.low, summary.interval.high
    if summary.rate is None or summary.rate.count < 2:
        return None
    return summary.rate.low, summary.rate.high


def span_end(summary: RateSummary) -> float:
    """The largest rate that is drawn, frames per second; 0 without one."""
    if summary.rate is None:
        return 0.0
    return max(summary.rate.median, (span(summary) or (0.0, 0.0))[1])


def span_words(summaries: Iterable[RateSummary], lines: str) -> str:
    """What ``lines`` ("Thin lines") are, a sentence for a caption; "" where there are none."""
    drawn = [summary for summary in summaries if span(summary) is not None]
    methods = sorted({s.interval.method for s in drawn if s.interval is not None})
    names = " or ".join({"t": "Student’s t on logarithms"}.get(method, method) for method in methods)
    known = f"95 % intervals of the mean ({names})" if methods else ""
    few = "lowest and highest repeat" + (f", too few for an interval (below {LEAST_REPEATS})" if not known else
                                         f" where there are fewer than {LEAST_REPEATS}")
    pair = few if any(s.interval is None for s in drawn) else ""
    return f"{lines}: {', '.join(filter(None, [known, pair]))}." if drawn else ""


def span_data(summary: RateSummary) -> dict[str, object]:
    """The columns of a chart's data that say how a rate's repeats lie."""
    spread, found = summary.rate, summary.interval
    return {"median_pps": spread.median if spread else None, "lowest_pps": spread.low if spread else None,
            "highest_pps": spread.high if spread else None, "repeats": spread.count if spread else 0,
            "interval95_low_pps": found.low if found else None, "interval95_high_pps": found.high if found else None,
            "interval95_method": found.method if found else ""}
