# SPDX-License-Identifier: Apache-2.0
"""What the native process's raw figures mean. Pure functions over the layouts of ``native/*.h``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.generator.xdpgen.contract import CoreReport, LatencyCounters

PERIOD_NS = 500_000_000
_SUB = 1024
_ERROR_BUCKETS = 96
_FINE_BUCKETS = 64
_FINE_NS = 64
_PAUSE_LOG = 1024


def bucket_floor(bucket: int) -> int:
    """Lowest latency in ns that falls into a histogram's bucket."""
    if bucket < 2 * _SUB:
        return bucket
    shift = bucket // _SUB - 1
    return (bucket - shift * _SUB) << shift


def error_edge(bucket: int) -> int:
    """Upper edge in ns (exclusive) of a bucket of departure errors or flush delays."""
    if bucket < _FINE_BUCKETS:
        return (bucket + 1) * _FINE_NS
    return _FINE_BUCKETS * _FINE_NS << (bucket - _FINE_BUCKETS + 1)


def latency_counters(
    states: Sequence[tuple[int, ...]], histogram: npt.NDArray[np.uint64], now_ns: int
) -> LatencyCounters:
    """Merge the states of a group's indices (one for each sending core; ``struct latency_state``).

    Jitter and the smoothed mean are weighted by frames; maxima are the largest.
    """
    merged = LatencyCounters()
    seen = [state for state in states if state[6]]
    for state in states:
        received, dropped, out_of_order, duplicate, high, low = state[6:12]
        merged.received += received
        merged.dropped += dropped
        merged.out_of_order += out_of_order
        merged.duplicate += duplicate
        merged.seq_too_high += high
        merged.seq_too_low += low
        merged.sum_ns += state[14]
    if seen:
        merged.min_ns = min(state[12] for state in seen)
        merged.max_ns = max(state[13] for state in seen)
        merged.jitter_ns = sum(state[16] / 16 * state[6] for state in seen) / merged.received
        merged.average_ns = sum(_period(state, now_ns)[0] * state[6] for state in seen) / merged.received
        merged.last_max_ns = max(_period(state, now_ns)[1] for state in seen)
    merged.histogram = [(bucket_floor(int(b)), int(histogram[b])) for b in np.flatnonzero(histogram)]
    return merged


def _period(state: tuple[int, ...], now_ns: int) -> tuple[float, int]:
    """(smoothed mean, last maximum); the receiving program closes a period only when a frame arrives after it."""
    start, count, total, largest, average, last_max, periods = state[17:24]
    if not count or now_ns - start < PERIOD_NS:
        return average, last_max
    mean = total / count
    return ((average + mean) / 2 if periods else mean), largest


def core_report(core: int, raw: bytes, base: bytes) -> CoreReport:
    """One core's report (``struct report_reply`` and pause log), less what ``base`` (b"": nothing) already had."""
    counts, log = _split(raw)
    before = _split(base)[0] if base else np.zeros_like(counts)
    calls, busy, flushes, pauses, paused_ns, _longest = (int(n) for n in counts[:6] - before[:6])
    errors = counts[6 : 6 + _ERROR_BUCKETS] - before[6 : 6 + _ERROR_BUCKETS]
    delays = counts[6 + _ERROR_BUCKETS :] - before[6 + _ERROR_BUCKETS :]
    total = int(counts[3])
    kept = [log[i % _PAUSE_LOG] for i in range(total - min(pauses, _PAUSE_LOG), total)]
    return CoreReport(
        core=core,
        pauses=pauses,
        paused_ns=paused_ns,
        longest_pause_ns=int(counts[5]),
        utilisation=busy / calls if calls else 0.0,
        flushes=flushes,
        departure_error=_histogram(errors),
        flush_delay=_histogram(delays),
        pause_log=[(int(start), int(length)) for start, length in kept],
    )


def _split(raw: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    words = np.frombuffer(raw, np.int64)
    fixed = 6 + 2 * _ERROR_BUCKETS
    return words[:fixed], words[fixed:].reshape(_PAUSE_LOG, 2)


def _histogram(counts: npt.NDArray[np.int64]) -> dict[int, int]:
    return {error_edge(int(b)): int(counts[b]) for b in np.flatnonzero(counts)}
