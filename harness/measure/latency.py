# SPDX-License-Identifier: Apache-2.0
"""Latency of one trial from what the generator recorded per direction."""

from __future__ import annotations

from collections.abc import Sequence

from harness.generator.contract import LatencyResult
from harness.generator.histogram import merge, percentile, thin
from harness.records import Percentiles


def percentiles(results: Sequence[LatencyResult]) -> Percentiles | None:
    """All directions merged into one distribution; None when no latency frame came back.

    Loss counts sent minus received: the sequence errors' own estimate misses frames lost at the end of a trial.
    """
    received = sum(r.received for r in results)
    if not received:
        return None
    histogram = merge([r.histogram for r in results])
    live = [r for r in results if r.received]
    return Percentiles(
        samples=sum(count for _, count in histogram),
        lost=sum(r.sent - r.received for r in results),
        out_of_order=sum(r.out_of_order for r in results),
        duplicate=sum(r.duplicate for r in results),
        min_ns=min(r.min_ns for r in live),
        max_ns=max(r.max_ns for r in live),
        mean_ns=sum(r.mean_ns * r.received for r in live) / received,
        jitter_ns=max(r.jitter_ns for r in live),
        p50_ns=percentile(histogram, 0.50),
        p90_ns=percentile(histogram, 0.90),
        p99_ns=percentile(histogram, 0.99),
        p999_ns=percentile(histogram, 0.999),
        resolution_ns=max(r.resolution_ns for r in results),
        histogram=thin(histogram),
    )
