# SPDX-License-Identifier: Apache-2.0
"""What the native process's raw figures mean. Pure functions over the layouts of ``native/*.h``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.generator.xdpgen.contract import CoreReport, LatencyCounters

PERIOD_NS = 500_000_000
_SUB = 1024
_ERROR_BUCKETS = 96
#: Words of ``struct report_reply`` before its three histograms.
_WORDS = 14
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


class LatencyState(NamedTuple):
    """``struct latency_state``: one index on the wire. Times in ns; ``jitter16`` is sixteen times the jitter."""

    lock: int = 0
    expected: int = 0
    open: int = 0
    generation: int = 0
    pad: int = 0
    pad2: int = 0
    received: int = 0
    dropped: int = 0
    out_of_order: int = 0
    duplicate: int = 0
    too_high: int = 0
    too_low: int = 0
    min: int = 0
    max: int = 0
    sum: int = 0
    transit: int = 0
    jitter16: int = 0
    period_start: int = 0
    period_count: int = 0
    period_sum: int = 0
    period_max: int = 0
    average: int = 0
    last_max: int = 0
    periods: int = 0


def latency_counters(states: Sequence[LatencyState], histogram: npt.NDArray[np.uint64], now_ns: int) -> LatencyCounters:
    """Merge the states of a group's indices, one for each sending core.

    Jitter and the smoothed mean are weighted by frames; maxima are the largest.
    """
    merged = LatencyCounters(
        received=sum(state.received for state in states),
        dropped=sum(state.dropped for state in states),
        out_of_order=sum(state.out_of_order for state in states),
        duplicate=sum(state.duplicate for state in states),
        seq_too_high=sum(state.too_high for state in states),
        seq_too_low=sum(state.too_low for state in states),
        sum_ns=sum(state.sum for state in states),
        histogram=[(bucket_floor(int(b)), int(histogram[b])) for b in np.flatnonzero(histogram)],
    )
    seen = [state for state in states if state.received]
    if seen:
        merged.min_ns = min(state.min for state in seen)
        merged.max_ns = max(state.max for state in seen)
        merged.jitter_ns = sum(state.jitter16 / 16 * state.received for state in seen) / merged.received
        merged.average_ns = sum(_period(state, now_ns)[0] * state.received for state in seen) / merged.received
        merged.last_max_ns = max(_period(state, now_ns)[1] for state in seen)
    return merged


def _period(state: LatencyState, now_ns: int) -> tuple[float, int]:
    """(smoothed mean, last maximum); the receiving program closes a period only when a frame arrives after it."""
    if not state.period_count or now_ns - state.period_start < PERIOD_NS:
        return state.average, state.last_max
    mean = state.period_sum / state.period_count
    return ((state.average + mean) / 2 if state.periods else mean), state.period_max


def core_report(core: int, raw: bytes, base: bytes) -> CoreReport:
    """One core's report (``struct report_reply`` and pause log), less what ``base`` (b"": nothing) already had."""
    counts, log = _split(raw)
    before = _split(base)[0] if base else np.zeros_like(counts)
    calls, busy, flushes, pauses, paused_ns = (int(n) for n in counts[:5] - before[:5])
    interruptions, interrupted_ns, interrupted_frames = (int(n) for n in counts[8:11] - before[8:11])
    receives, receive_ns, paused_frames = (int(n) for n in counts[11:14] - before[11:14])
    histograms = counts[_WORDS:] - before[_WORDS:]
    total = int(counts[3])
    kept = [log[i % _PAUSE_LOG] for i in range(total - min(pauses, _PAUSE_LOG), total)]
    return CoreReport(
        core=core,
        pauses=pauses,
        paused_ns=paused_ns,
        longest_pause_ns=int(counts[5]),
        first_departure_ns=int(counts[6]),
        last_departure_ns=int(counts[7]),
        interruptions=interruptions,
        interrupted_ns=interrupted_ns,
        interrupted_frames=interrupted_frames,
        receives=receives,
        receive_ns=receive_ns,
        paused_frames=paused_frames,
        utilisation=busy / calls if calls else 0.0,
        flushes=flushes,
        departure_error=_histogram(histograms[:_ERROR_BUCKETS]),
        flush_delay=_histogram(histograms[_ERROR_BUCKETS : 2 * _ERROR_BUCKETS]),
        wire_error=_histogram(histograms[2 * _ERROR_BUCKETS :]),
        pause_log=[(int(start), int(length)) for start, length in kept],
    )


def _split(raw: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    words = np.frombuffer(raw, np.int64)
    fixed = _WORDS + 3 * _ERROR_BUCKETS
    return words[:fixed], words[fixed:].reshape(_PAUSE_LOG, 2)


def _histogram(counts: npt.NDArray[np.int64]) -> dict[int, int]:
    return {error_edge(int(b)): int(counts[b]) for b in np.flatnonzero(counts)}
