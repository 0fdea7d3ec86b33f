# SPDX-License-Identifier: Apache-2.0
"""The dataplane's pure parts: dividing streams, reading raw figures, the build's cache, the benchmark's tables."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import generator as bench
from benchmarks.contenders import udp_frame
from benchmarks.pacing import PacingRow, quantile, share_below
from harness.errors import GeneratorError, TestbedError
from harness.generator.xdpgen import build, readings
from harness.generator.xdpgen.contract import TxStream
from harness.generator.xdpgen.readings import LatencyState
from harness.generator.xdpgen.shares import CELL, Share, shares_of


def _stream(entries: int = 6, width: int = 60, length: int = 60) -> TxStream:
    headers = np.arange(entries * width, dtype=np.uint32).astype(np.uint8).reshape(entries, width)
    template = bytes((7 * i) % 256 for i in range(length))
    return TxStream(3, 0, template, headers, np.zeros(entries, np.uint16), None, 1000.0)


def _frames(share: Share, template: bytes) -> Iterator[bytes]:
    """What the sending program makes of a share, as send.bpf.h does it."""
    for cells in share.cells:
        length = int.from_bytes(cells[0, 60:].tobytes(), "little")
        covered = cells[0, :60].tobytes() + cells[1:].tobytes()
        yield (covered[: share.covered] + template[share.covered :])[:length]


@pytest.mark.parametrize(("width", "length"), [(60, 60), (64, 64), (61, 1514), (128, 128), (200, 300), (54, 60)])
def test_cells_hold_header_over_template(width: int, length: int) -> None:
    stream = _stream(5, width, length)
    (share,) = shares_of(stream, 1)
    expected = [row.tobytes() + stream.template[width:] for row in stream.headers]
    assert list(_frames(share, stream.template)) == expected
    assert share.cells.shape == (5, 1 + -(-max(0, width - 60) // CELL), CELL)


def test_lengths_vary_by_entry() -> None:
    lengths = np.array([60, 61, 300, 100, 60, 299], np.uint16)
    stream = replace(_stream(6, 70, 300), lengths=lengths)
    (share,) = shares_of(stream, 1)
    assert [len(frame) for frame in _frames(share, stream.template)] == lengths.tolist()


def test_short_templates_are_padded() -> None:
    stream = replace(_stream(1, 14, 60), template=bytes(range(20)), headers=np.full((1, 14), 9, np.uint8))
    (share,) = shares_of(stream, 1)
    assert next(_frames(share, b"")) == bytes([9] * 14) + bytes(range(14, 20)) + bytes(40)


@pytest.mark.parametrize("total", [None, 1, 5, 6, 7, 100])
def test_cores_divide_entries_and_totals(total: int | None) -> None:
    cores = np.array([2, 0, 0, 2, 0, 0], np.uint16)
    stream = replace(_stream(6), cores=cores, total=total)
    shares = shares_of(stream, 3)
    assert [share.core for share in shares] == [0, 2]
    assert [share.entries for share in shares] == [4, 2]
    assert [share.offset for share in shares] == [1, 0]
    assert all(share.all_entries == 6 for share in shares)
    if total is None:
        assert [share.total for share in shares] == [None, None]
    else:
        order = [cores[i % 6] for i in range(total)]
        assert [share.total for share in shares] == [order.count(0), order.count(2)]


def _changed(**changes: object) -> TxStream:
    return replace(_stream(), **changes)  # type: ignore[arg-type]


def _headers(shape: tuple[int, ...], kind: type = np.uint8) -> npt.NDArray[np.uint8]:
    return np.zeros(shape, kind)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (_changed(headers=_headers((0, 60))), "non-empty"),
        (_changed(headers=_headers((6, 60), np.int32)), "uint8"),
        (_changed(cores=np.zeros(5, np.uint16)), "sending cores"),
        (_changed(cores=np.full(6, 2, np.uint16)), "one of 2 sending cores"),
        (_changed(template=bytes(3073)), "too long"),
        (_changed(pps=-1.0), "out of range"),
        (_changed(pps=float("nan")), "out of range"),
        (_changed(total=0), "at least 1"),
        (_changed(lengths=np.full(6, 61, np.uint16)), "between 60 and"),
        (_changed(lengths=np.full(5, 60, np.uint16)), "must hold 6"),
    ],
)
def test_what_cannot_be_sent_is_refused(stream: TxStream, reason: str) -> None:
    with pytest.raises(GeneratorError, match=f"stream 3: .*{reason}"):
        shares_of(stream, 2)


def _bucket(age: int) -> int:
    """latency_bucket() of receive.bpf.h."""
    shift = max(0, age.bit_length() - 11)
    return (shift << 10) + (age >> shift)


@pytest.mark.parametrize("age", [0, 1, 1023, 1024, 2047, 2048, 2049, 4095, 4096, 123_456, 10**9, 2**34 - 1])
def test_buckets_are_narrow_and_start_where_they_say(age: int) -> None:
    floor, following = readings.bucket_floor(_bucket(age)), readings.bucket_floor(_bucket(age) + 1)
    assert floor <= age < following
    assert following - floor == 1 or (following - floor) / floor <= 1 / 1024
    assert _bucket(floor) == _bucket(age)
    assert _bucket(2**34 - 1) == 25 * 1024 - 1


def test_error_buckets_ascend_without_gaps() -> None:
    edges = [readings.error_edge(bucket) for bucket in range(96)]
    assert edges[:2] == [64, 128]
    assert edges[63:66] == [4096, 8192, 16384]
    assert edges == sorted(set(edges))


def test_latency_is_merged_over_cores() -> None:
    one = LatencyState(
        received=30, dropped=2, too_high=1, min=500, max=900, sum=21_000, jitter16=160, average=700, last_max=800
    )
    two = LatencyState(
        received=10, duplicate=1, too_low=1, min=400, max=700, sum=5_000, jitter16=320, average=500, last_max=600
    )
    histogram = np.zeros(25 * 1024, np.uint64)
    histogram[[400, 700, _bucket(5000)]] = (10, 29, 1)
    merged = readings.latency_counters([one, two, LatencyState()], histogram, 10**9)
    assert (merged.received, merged.dropped, merged.duplicate, merged.seq_too_high, merged.seq_too_low) == (
        40,
        2,
        1,
        1,
        1,
    )
    assert (merged.min_ns, merged.max_ns, merged.sum_ns) == (400, 900, 26_000)
    assert merged.jitter_ns == (10 * 30 + 20 * 10) / 40
    assert merged.average_ns == (700 * 30 + 500 * 10) / 40
    assert merged.last_max_ns == 800
    assert merged.histogram == [(400, 10), (700, 29), (readings.bucket_floor(_bucket(5000)), 1)]


def test_nothing_received_is_all_zero() -> None:
    empty = readings.latency_counters([LatencyState(), LatencyState()], np.zeros(25 * 1024, np.uint64), 10**9)
    assert (empty.received, empty.min_ns, empty.max_ns, empty.average_ns, empty.histogram) == (0, 0, 0, 0.0, [])


def test_a_period_that_ended_without_a_frame_after_it_counts() -> None:
    state = LatencyState(received=4, period_start=1_000, period_count=4, period_sum=400, period_max=150)
    histogram = np.zeros(25 * 1024, np.uint64)
    running = readings.latency_counters([state], histogram, 1_000 + readings.PERIOD_NS - 1)
    over = readings.latency_counters([state], histogram, 1_000 + readings.PERIOD_NS)
    assert (running.average_ns, running.last_max_ns) == (0.0, 0)
    assert (over.average_ns, over.last_max_ns) == (100.0, 150)
    smoothed = LatencyState(
        received=8,
        period_start=1_000,
        period_count=4,
        period_sum=400,
        period_max=150,
        average=300,
        last_max=9,
        periods=1,
    )
    assert readings.latency_counters([smoothed], histogram, 10**12).average_ns == 200.0


_SCHEDULE = """
#include <linux/types.h>
#include "schedule.h"
static struct core core;
void begin(void) { schedule_nothing(&core); }
void set(__u32 i, __u64 next) { schedule(&core, i, next); }
__u32 best(void) { return core.best; }
__u64 due(void) { return core.due; }
"""


@pytest.mark.parametrize("streams", [1, 2, 5, 256])
def test_the_earliest_departure_is_next(tmp_path: Path, streams: int) -> None:
    native = Path(build.__file__).parent / "native"
    library = tmp_path / "schedule.so"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", str(native), "-x", "c",
                    "-o", str(library), "-"], input=_SCHEDULE, text=True, check=True)  # fmt: skip
    schedule = ctypes.CDLL(str(library))
    schedule.set.argtypes = [ctypes.c_uint32, ctypes.c_uint64]
    schedule.due.restype = ctypes.c_uint64
    never, chance = 2**64 - 1, random.Random(streams)
    slots = chance.sample(range(256), streams)
    following = dict.fromkeys(range(256), never)
    schedule.begin()
    for step in range(20_000):
        # Mostly the one that departed, at its next time, as the program does; else a command to any of them.
        departs = following[schedule.best()] != never and chance.random() < 0.9
        slot = schedule.best() if departs else chance.choice(slots)
        gap = chance.choice([0, 1, 10, 100]) if chance.random() < 0.99 else never
        following[slot] = min(never, (following[slot] if departs else step) + gap)
        schedule.set(slot, following[slot])
        assert schedule.due() == min(following.values()) == following[schedule.best()]


def _raw_report(calls: int, busy: int, pauses: int) -> bytes:
    log = [(1000 + i, 50_000 + i) for i in range(1024)]
    counts = [calls, busy, busy // 2, pauses, pauses * 60_000, 99_000, 5_000, 6_000]
    counts += [2 * pauses, 5000 * pauses, 3 * pauses, 7 * pauses, 9000 * pauses, 11 * pauses]
    low, high = [busy] + [0] * 95, [0] * 95 + [busy]
    return struct.pack(f"={14 + 288 + 2048}q", *counts, *low, *high, *low, *sum(log, ()))


def test_reports_count_from_their_base() -> None:
    report = readings.core_report(4, _raw_report(1000, 400, 5), _raw_report(500, 100, 3))
    assert (report.core, report.pauses, report.paused_ns, report.longest_pause_ns) == (4, 2, 120_000, 99_000)
    assert (report.first_departure_ns, report.last_departure_ns) == (5_000, 6_000)
    assert (report.interruptions, report.interrupted_ns, report.interrupted_frames) == (4, 10_000, 6)
    assert (report.paused_frames, report.wire_error) == (22, {64: 300})
    assert (report.receives, report.receive_ns) == (14, 18_000)
    assert report.utilisation == 300 / 500
    assert report.flushes == 150
    assert report.departure_error == {64: 300}
    assert report.flush_delay == {readings.error_edge(95): 300}
    assert report.pause_log == [(1003, 50_003), (1004, 50_004)]
    fresh = readings.core_report(4, _raw_report(1000, 400, 2000), b"")
    assert len(fresh.pause_log) == 1024
    assert fresh.pause_log[-1] == (1000 + 1999 % 1024, 50_000 + 1999 % 1024)


def test_missing_tools_are_named_as_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert {"clang", "gcc", "make"} <= set(build.missing_packages())
    with pytest.raises(TestbedError, match=r"apt-get install .*clang.* make"):
        build.native_programs()
    assert not list(tmp_path.rglob("xdpgen-dp"))


def test_a_failing_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("clang", "cc", "make"):
        (tools / name).write_text("#!/bin/sh\necho no such luck >&2\nexit 2\n")
        (tools / name).chmod(0o755)
    monkeypatch.setattr(build, "missing_packages", list)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(TestbedError, match="no such luck"):
        build.native_programs()
    assert list((tmp_path / "cache" / "netstack-harness").iterdir()) == []


def test_the_benchmarks_frame_is_a_valid_datagram() -> None:
    frame = udp_frame()
    assert len(frame) == 60
    words = struct.unpack(">10H", frame[14:34])
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert int.from_bytes(frame[16:18], "big") == 46 == 20 + int.from_bytes(frame[38:40], "big")


def test_quantiles_of_buckets() -> None:
    assert quantile({}, 0.5) == 0
    assert quantile({64: 98, 128: 1, 4096: 1}, 0.99) == 128
    assert share_below({64: 98, 1984: 1, 2048: 1}, 2000) == 0.99


def test_a_counter_is_timed_by_its_quickest_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 1.0, 1.25, 2.0, 2.0005, 9.0])
    monkeypatch.setattr("benchmarks.generator.time.monotonic", lambda: next(clock))
    values = iter("abc")
    at, value = bench.timed(lambda: next(values))
    assert (at, value) == (pytest.approx(2.00025), "c")
    slow = iter([0.0, 0.5, 1.0, 1.25, *([2.0, 3.0] * 18)])
    monkeypatch.setattr("benchmarks.generator.time.monotonic", lambda: next(slow))
    numbers = iter(range(20))
    assert bench.timed(lambda: next(numbers)) == (1.125, 1)


def test_the_benchmark_judges_medians() -> None:
    rates = {"trafgen": (0.4e6, 0.5e6, 0.6e6), "testpmd": (1e6, 1e6, 9e6), "xdpgen": (2.6e6, 3e6, 1e6)}
    rounds = [bench.Round(name, 2 * rate, rate, rate, 0.0) for name, values in rates.items() for rate in values]
    rows = bench.summarise(rounds)
    assert [row["xdpgen_ratio"] for row in rows] == [2.6e6 / 0.5e6, 2.6, 1.0]
    kept = PacingRow(1e4, 1, 10_000, 9_900, 0, 9_900, 0.9999, 100, 0, 0, 0.995, 64, 128, 1, 500, 900, 0.9, 2_048, 3, 10,
                     5, 8, 0.1, 7, 0)
    unseen = replace(kept, received=9_800)
    assert (kept.mean_error, unseen.mean_error) == (0, 0)
    assert unseen.received_error == pytest.approx(0.0101, rel=0.01)
    assert not bench.judge(rows, [unseen])["pacing at 10 kpps"]
    assert replace(kept, skipped_receive=99).mean_error == 0.01
    lost = replace(kept, rate_pps=1e6, skipped_stall=0, skipped_saturated=100)
    verdicts = bench.judge(rows, [kept, lost])
    assert verdicts == {">= 2.5 x testpmd": True, ">= 5.0 x trafgen": True, ">= 4 Mpps offered": True,
                        "pacing at 10 kpps": True, "pacing at 1000 kpps": False}  # fmt: skip
    lines = bench.pacing_table([kept, lost]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "1.000%" in lines[2]
    assert "2.6 x" in bench.contender_table(rows)
