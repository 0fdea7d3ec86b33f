# SPDX-License-Identifier: Apache-2.0
"""Latency of a packet group as TRex's clients read it (trex-stl-rpc.md 4.2)."""

from __future__ import annotations

from typing import Any

from hdrh.histogram import HdrHistogram

from harness.generator.xdpgen.contract import LatencyCounters

#: Range and precision of the ``hdrh`` member, microseconds.
_LOWEST, _HIGHEST, _DIGITS = 1, 10_000_000, 3
#: From this on (microseconds) TRex does not bin.
_BIN_LIMIT = 1_000_000


def _bins(histogram: list[tuple[int, int]]) -> dict[str, int]:
    """TRex's decimal histogram: lower edge in microseconds -> packets; under 10 in "0"."""
    bins: dict[int, int] = {}
    for low_ns, count in histogram:
        value = low_ns // 1000
        if value >= _BIN_LIMIT:
            continue
        scale = 10 ** (len(str(value)) - 1)
        edge = value // scale * scale if value >= 10 else 0
        bins[edge] = bins.get(edge, 0) + count
    return {str(edge): bins[edge] for edge in sorted(bins)}


def encoded_hdr(histogram: list[tuple[int, int]]) -> str:
    """The histogram in HdrHistogram's V2 compressed form, base64; microseconds."""
    hdr = HdrHistogram(_LOWEST, _HIGHEST, _DIGITS)
    for low_ns, count in histogram:
        hdr.record_value(min(low_ns // 1000, _HIGHEST), count)
    encoded: bytes = hdr.encode()
    return encoded.decode("ascii")


def _errors(counters: LatencyCounters) -> dict[str, int]:
    members = {
        "drp": counters.dropped,
        "ooo": counters.out_of_order,
        "dup": counters.duplicate,
        "sth": counters.seq_too_high,
        "stl": counters.seq_too_low,
    }
    return {name: value for name, value in members.items() if value}


def latency_entry(counters: LatencyCounters) -> dict[str, Any]:
    """One group's entry under ``latency``; times in microseconds, in members that end in ``_ns`` nanoseconds."""
    lat: dict[str, Any] = {
        "average": round(counters.average_ns / 1000, 3),
        "last_max": counters.last_max_ns // 1000,
        "total_max": counters.max_ns // 1000,
        "total_min": counters.min_ns // 1000,
        "jit": int(counters.jitter_ns / 1000),
        "hdrh": encoded_hdr(counters.histogram),
        "x_hist_ns": [list(bucket) for bucket in counters.histogram],
        "x_exact_ns": {
            "min": counters.min_ns,
            "max": counters.max_ns,
            "mean": counters.sum_ns / counters.received if counters.received else 0.0,
            "jitter": counters.jitter_ns,
        },
    }
    bins = _bins(counters.histogram)
    if bins:
        lat["histogram"] = bins
    errors = _errors(counters)
    return {"lat": lat} | ({"er": errors} if errors else {})
