# SPDX-License-Identifier: Apache-2.0
"""Latency histograms as sorted lists of (lowest ns of the bucket, count), whatever the generator keeps them in."""

from __future__ import annotations

from collections.abc import Sequence

from hdrh.histogram import HdrHistogram

Histogram = list[tuple[int, int]]


def decode_hdr(encoded: str) -> Histogram:
    """TRex's ``hdrh``: HdrHistogram V2, base64, 1 us units, 1 .. 10,000,000 (trex-stl-rpc.md 4.2) -> ns buckets."""
    decoded = HdrHistogram.decode(encoded)
    buckets = []
    for item in decoded.get_recorded_iterator():
        buckets.append((int(item.value_iterated_to) * 1000, int(item.count_added_in_this_iter_step)))
    return buckets


def merge(histograms: Sequence[Histogram]) -> Histogram:
    """Counts of equal buckets added, ascending."""
    total: dict[int, int] = {}
    for histogram in histograms:
        for low, count in histogram:
            total[low] = total.get(low, 0) + count
    return sorted(total.items())


def percentile(histogram: Histogram, fraction: float) -> int | None:
    """The bucket in which the fraction-quantile lies (its lowest value, ns), or None when fewer than
    10 / (1 - fraction) samples stand behind it (design.md, "Latency")."""
    samples = sum(count for _, count in histogram)
    if samples == 0 or samples * (1.0 - fraction) < 10 - 1e-9:
        return None
    wanted, seen = fraction * samples, 0
    for low, count in histogram:
        seen += count
        if seen >= wanted:
            return low
    return histogram[-1][0]


def thin(histogram: Histogram, limit: int = 400) -> Histogram:
    """At most ``limit`` buckets, neighbours added up; totals stay exact."""
    if len(histogram) <= limit:
        return histogram
    step = -(-len(histogram) // limit)
    return [
        (histogram[i][0], sum(count for _, count in histogram[i : i + step])) for i in range(0, len(histogram), step)
    ]
