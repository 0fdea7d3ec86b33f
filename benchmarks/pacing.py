# SPDX-License-Identifier: Apache-2.0
"""How well xdpgen keeps its schedule, rate by rate, with the machine's pauses told apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import load_stream
from benchmarks.wire import TX, BenchWire
from harness.generator.xdpgen.native_dataplane import NativeDataplane
from harness.lab import in_netns

RATES = (10e3, 20e3, 50e3, 100e3, 200e3, 500e3, 1e6)
ON_TIME_NS = 2000


@dataclass(frozen=True)
class PacingRow:
    """One rate. Departure errors are from the scheduled time to the time written into the frame, for all frames but
    those due in a recorded pause (50 us or more in which the core was taken away): shorter interruptions are in them,
    and are counted besides. The flush delay is from the first such time of a flush until the flush is over; the wire
    error from the first scheduled time of a flush until then, for each of its frames an upper bound of both together.
    ``received`` are frames counted at the other end, ``real_s`` is from the first to the last departure."""

    rate_pps: float
    seconds: float
    asked: int
    sent: int
    refused: int
    received: int
    real_s: float
    skipped_stall: int
    skipped_receive: int
    skipped_saturated: int
    on_time: float
    error_p50_ns: int
    error_p99_ns: int
    frames_per_flush: float
    flush_p50_ns: int
    flush_p99_ns: int
    wire_on_time: float
    wire_p99_ns: int
    pauses: int
    paused_ms: float
    longest_pause_ms: float
    interruptions: int
    interrupted_ms: float
    interrupted_frames: int
    stolen: float

    @property
    def mean_error(self) -> float:
        """How much the rate outside recorded pauses falls short of the rate asked for."""
        paced = self.asked - self.skipped_stall
        return (self.skipped_saturated + self.skipped_receive) / paced if paced else 0.0

    @property
    def received_error(self) -> float:
        """How far the rate counted at the receiver is from the one asked for; departures in pauses are not missed."""
        paced = self.asked - self.skipped_stall
        sending_s = self.real_s + 1 / self.rate_pps
        return abs(1 - self.received / sending_s / (paced / self.seconds)) if paced else 0.0


def quantile(histogram: dict[int, int], share: float) -> int:
    """Upper edge of the bucket in which ``share`` of all entries is reached; 0 for an empty histogram."""
    wanted, seen = share * sum(histogram.values()), 0
    for edge, count in sorted(histogram.items()):
        seen += count
        if seen >= wanted:
            return edge
    return 0


def share_below(histogram: dict[int, int], limit: int) -> float:
    """Share of entries in buckets that end at or below ``limit``; 1 for an empty histogram."""
    total = sum(histogram.values())
    return sum(count for edge, count in histogram.items() if edge <= limit) / total if total else 1.0


def stolen_ticks(cores: tuple[int, ...]) -> int:
    """Clock ticks that a hypervisor has taken from these cores since boot."""
    lines = dict(line.split(" ", 1) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu"))
    return sum(int(lines[f"cpu{core}"].split()[7]) for core in cores)


def measure_pacing(wire: BenchWire, seconds: float) -> Iterator[PacingRow]:
    """One row after another, at RATES."""
    with _dataplane(wire) as plane:
        for number, rate in enumerate(RATES, 1):
            yield _row(wire, plane, number, rate, seconds)


@contextmanager
def _dataplane(wire: BenchWire) -> Iterator[NativeDataplane]:
    plane = in_netns(wire.tx_space, lambda: NativeDataplane([TX], [wire.send_core], table_cells=2000))
    try:
        yield plane
    finally:
        plane.close()


def _row(wire: BenchWire, plane: NativeDataplane, key: int, rate: float, seconds: float) -> PacingRow:
    before, delivered = plane.port_counters(0), wire.delivered()
    plane.reset_reports()
    stolen = stolen_ticks((wire.send_core, wire.receive_core))
    at = plane.now() + 0.05
    plane.start([load_stream(key, rate)], at, at + seconds)
    time.sleep(seconds + 0.05)
    while plane.active([key]):
        time.sleep(0.01)
    after, report = plane.port_counters(0), plane.reports()[0]
    stolen = stolen_ticks((wire.send_core, wire.receive_core)) - stolen
    delivered = _settled(wire) - delivered
    errors, delays = report.departure_error, report.flush_delay
    sent = after.tx_packets - before.tx_packets
    refused = after.tx_refused - before.tx_refused
    return PacingRow(
        rate_pps=rate,
        seconds=seconds,
        asked=round(rate * seconds),
        sent=sent,
        refused=refused,
        received=delivered,
        real_s=(report.last_departure_ns - report.first_departure_ns) / 1e9,
        skipped_stall=after.tx_skipped["stall"] - before.tx_skipped["stall"],
        skipped_receive=after.tx_skipped["receive"] - before.tx_skipped["receive"],
        skipped_saturated=after.tx_skipped["saturated"] - before.tx_skipped["saturated"],
        on_time=share_below(errors, ON_TIME_NS),
        error_p50_ns=quantile(errors, 0.5),
        error_p99_ns=quantile(errors, 0.99),
        frames_per_flush=(sent + refused) / report.flushes if report.flushes else 0.0,
        flush_p50_ns=quantile(delays, 0.5),
        flush_p99_ns=quantile(delays, 0.99),
        wire_on_time=share_below(report.wire_error, ON_TIME_NS),
        wire_p99_ns=quantile(report.wire_error, 0.99),
        pauses=report.pauses,
        paused_ms=report.paused_ns / 1e6,
        longest_pause_ms=report.longest_pause_ns / 1e6,
        interruptions=report.interruptions,
        interrupted_ms=report.interrupted_ns / 1e6,
        interrupted_frames=report.interrupted_frames,
        stolen=stolen / 100 / 2 / seconds,
    )


def _settled(wire: BenchWire) -> int:
    """Frames that the receiver has counted, once nothing more arrives."""
    count, last = wire.delivered(), -1
    while count != last:
        time.sleep(0.02)
        count, last = wire.delivered(), count
    return count
