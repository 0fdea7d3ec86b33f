# SPDX-License-Identifier: Apache-2.0
"""xdpgen's dataplane on real frames: one wire between two generator ports, another to a kernel."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from harness.errors import GeneratorDied, GeneratorError, TestbedError
from harness.generator.xdpgen.contract import MAGIC_LATENCY, TxStream
from harness.generator.xdpgen.native_dataplane import NativeDataplane
from harness.lab import in_netns, netns

pytestmark = pytest.mark.lab

FCS = 4
Frames = list[tuple[float, str, bytes]]


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _make_wire(tg: str, near: str, far: str, other: str) -> None:
    """A veth pair with NAPI at both ends and no frames of its own."""
    queues = ("numrxqueues", "2", "numtxqueues", "2")
    _run("ip", "-n", tg, "link", "add", near, *queues, "type", "veth", "peer", "name", far, *queues, "netns", other)
    for space, name in ((tg, near), (other, far)):
        _run("ip", "netns", "exec", space, "sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
        _run("ip", "netns", "exec", space, "ethtool", "-K", name, "gro", "on")
        _run("ip", "-n", space, "link", "set", name, "up")


@pytest.fixture(scope="module")
def spaces() -> Iterator[tuple[str, str]]:
    """A generator's namespace with ports t0 and t1 (one wire) and t2, whose far end d2 is in the second namespace."""
    tg, dut = f"xgt-{os.getpid()}", f"xgd-{os.getpid()}"
    netns.prepare_directory()
    for name in (tg, dut):
        netns.create(name)
    try:
        _make_wire(tg, "t0", "t1", tg)
        _make_wire(tg, "t2", "d2", dut)
        yield tg, dut
    finally:
        for name in (tg, dut):
            netns.delete(name)


@pytest.fixture
def plane(spaces: tuple[str, str]) -> Iterator[NativeDataplane]:
    dataplane = in_netns(spaces[0], lambda: NativeDataplane(["t0", "t1"], [0], table_cells=1 << 14))
    yield dataplane
    dataplane.close()


def _frame(plane: NativeDataplane, length: int = 60, *, sport: int = 1000, ip_id: int = 1) -> bytes:
    """A UDP frame from port 0 to port 1, ``length`` bytes without FCS."""
    head = Ether(dst=plane.ports[1].mac, src=plane.ports[0].mac) / IP(src="10.0.0.1", dst="10.0.1.1", id=ip_id)
    packet: Packet = head / UDP(sport=sport, dport=9, chksum=0) / Raw(bytes(i % 251 for i in range(length - 42)))
    return bytes(packet)


def _flows(template: bytes, count: int, width: int = 60) -> npt.NDArray[np.uint8]:
    """``count`` headers that differ in their UDP source port."""
    headers = np.tile(np.frombuffer(template[:width], np.uint8), (count, 1)).copy()
    headers[:, 34:36] = np.arange(count, dtype=">u2").reshape(-1, 1).view(np.uint8)
    return headers


def _stream(plane: NativeDataplane, key: int = 1, *, flows: int = 100, length: int = 60, pps: float = 20e3) -> TxStream:
    template = _frame(plane, length)
    return TxStream(
        key=key,
        port=0,
        template=template,
        headers=_flows(template, flows),
        cores=np.zeros(flows, np.uint16),
        lengths=None,
        pps=pps,
    )


def _wait(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


def _send_all(plane: NativeDataplane, *streams: TxStream, seconds: float | None = None) -> None:
    """Start streams, wait until they have ended and the far port has counted what went onto the wire."""
    at = plane.now() + 0.03
    plane.start(streams, at, None if seconds is None else at + seconds)
    _wait(lambda: not plane.active([stream.key for stream in streams]))
    _wait(lambda: plane.port_counters(1).rx_packets == plane.port_counters(0).tx_packets)


def _accounted(plane: NativeDataplane, port: int = 0) -> int:
    counters = plane.port_counters(port)
    return counters.tx_packets + counters.tx_refused + sum(counters.tx_skipped.values())


@pytest.mark.parametrize("pps", [1_000.0, 30_000.0, 400_000.0, 20_000_000.0])
def test_every_departure_is_sent_refused_or_skipped(plane: NativeDataplane, pps: float) -> None:
    _send_all(plane, _stream(plane, pps=pps), seconds=0.25)
    counters = plane.port_counters(0)
    assert _accounted(plane) == round(0.25 * pps)
    assert counters.tx_packets > 0
    assert counters.tx_bytes == counters.tx_packets * 64
    received = plane.port_counters(1)
    assert (received.rx_packets, received.rx_bytes) == (counters.tx_packets, counters.tx_bytes)
    assert received.rx_dropped == 0
    report = plane.reports()[0]
    assert counters.tx_skipped["stall"] == 0 or report.pauses > 0
    assert counters.tx_skipped["receive"] == 0 or report.receives > 0
    assert report.receive_ns + report.paused_ns < 0.5e9
    timed = sum(report.departure_error.values()) + report.paused_frames
    assert timed == counters.tx_packets + counters.tx_refused
    if pps > 10e6:
        assert counters.tx_skipped["saturated"] > 0
        assert report.utilisation > 0.5


def test_odd_rates_are_exact(plane: NativeDataplane) -> None:
    _send_all(plane, _stream(plane, pps=33_333.3), seconds=0.3)
    assert _accounted(plane) == pytest.approx(0.3 * 33_333.3, abs=1)


def test_a_stop_leaves_nothing_unaccounted(plane: NativeDataplane) -> None:
    begin = plane.now() + 0.5  # so early that it need not move, however busy the machine is
    plane.start([_stream(plane, pps=200_000)], begin, None)
    _wait(lambda: plane.now() > begin + 0.1)
    assert plane.active([1])
    before = plane.now()
    plane.stop([1, 77])
    after = plane.now()
    assert not plane.active([1])
    assert (before - begin) * 200e3 - 1 <= _accounted(plane) <= (after - begin) * 200e3 + 1
    frozen = plane.port_counters(0).tx_packets
    time.sleep(0.02)
    assert plane.port_counters(0).tx_packets == frozen


def test_a_burst_sends_exactly_its_total_in_order(plane: NativeDataplane) -> None:
    stream = replace(_stream(plane, flows=7, pps=50_000), total=1003)
    plane.capture(1, True, 2000)
    _send_all(plane, stream)
    assert plane.port_counters(0).tx_packets == 1003
    frames = [frame for _, origin, frame in plane.captured(1) if origin == "RX"]
    assert [int.from_bytes(f[34:36], "big") for f in frames] == [i % 7 for i in range(1003)]


def test_several_streams_keep_their_own_frames(plane: NativeDataplane) -> None:
    """Lengths, headers, payloads and trailers of four streams on one core, byte for byte."""
    long, middle = _frame(plane, 1514, ip_id=2), _frame(plane, 300, ip_id=3)
    wide = replace(_stream(plane, 1), template=long, headers=_flows(long, 3, width=200), cores=np.zeros(3, np.uint16))
    plain = replace(_stream(plane, 2), template=middle, headers=_flows(middle, 4), cores=np.zeros(4, np.uint16))
    short = _stream(plane, 3, flows=5)
    imix = _frame(plane, 1514, ip_id=4)
    lengths = np.array([60, 590, 1514, 61], np.uint16)
    mixed = replace(
        _stream(plane, 4), template=imix, headers=_flows(imix, 4), cores=np.zeros(4, np.uint16), lengths=lengths
    )
    wide, short, mixed = (replace(s, trailer="mark") for s in (wide, short, mixed))
    plane.capture(1, True, 5000, everything=True)
    _send_all(plane, *(replace(s, total=100, pps=10_000.0) for s in (wide, plain, short, mixed)))
    frames = [frame for _, _, frame in plane.captured(1)]
    assert len(frames) == 400
    for stream in (wide, plain, short, mixed):
        mine = [f for f in frames if f[18:20] == stream.template[18:20] and (len(f) > 60 or f[18:20] != b"\0\1")]
        if stream is short:
            mine = [f for f in frames if f[18:20] == b"\0\1"]
        assert len(mine) == 100
        for number, frame in enumerate(mine):
            _check_frame(stream, number, frame)


def _check_frame(stream: TxStream, number: int, frame: bytes) -> None:
    entry = number % len(stream.headers)
    length = len(stream.template) if stream.lengths is None else int(stream.lengths[entry])
    header = stream.headers[entry].tobytes()
    expected = (header + stream.template[len(header) :])[:length]
    assert len(frame) == length
    if stream.trailer is None:
        assert frame == expected
        return
    assert frame[:-16] == expected[:-16]
    magic, _, _, seq, stamp = struct.unpack("<BBHIQ", frame[-16:])
    assert (magic, seq) == (0xAC, (0xFFFFFFFE + number) % 2**32)
    assert abs(time.monotonic_ns() - stamp) < 10e9


def test_sixty_four_streams_each_at_its_rate(plane: NativeDataplane) -> None:
    streams = []
    for number in range(64):
        plane.group_open(200 + number, "stats", 0)
        streams.append(
            replace(_stream(plane, number, flows=3, pps=100.0 * (1 + number)), trailer="mark", group=200 + number)
        )
    _send_all(plane, *streams, seconds=0.2)
    assert _accounted(plane) == sum(round(0.2 * stream.pps) for stream in streams)
    skipped, refused = sum(plane.port_counters(0).tx_skipped.values()), plane.port_counters(0).tx_refused
    sent = [plane.group_counters(200 + n).tx[0] for n in range(64)]
    received = [plane.group_counters(200 + n).rx[1] for n in range(64)]
    missing = [round(0.2 * stream.pps) - sent[n][0] for n, stream in enumerate(streams)]
    assert min(missing) >= 0
    assert sum(missing) == skipped
    assert sum(s[0] - r[0] for s, r in zip(sent, received, strict=True)) == refused
    assert all(size == 64 * packets for packets, size in received)


def test_rates_change_and_streams_come_and_go_beside_each_other(plane: NativeDataplane) -> None:
    plane.group_open(5, "latency", 0xFFFF)
    steady = replace(_stream(plane, 1, pps=5_000.0), trailer="latency", group=5)
    other = _stream(plane, 2, pps=1_000.0)
    at = plane.now() + 0.03
    plane.start([steady], at, at + 0.4)
    plane.start([other], plane.now() + 0.01, None)
    plane.set_rate({2: 150_000.0})
    time.sleep(0.05)
    plane.set_rate({2: 0.0})
    _wait(lambda: _is_still(plane, steady.pps))
    paused = _accounted(plane)
    plane.set_rate({2: 20_000.0})
    time.sleep(0.05)
    assert _accounted(plane) > paused + 500
    plane.stop([2])
    _wait(lambda: not plane.active([1]))
    counters = plane.latency(5)
    sent = plane.group_counters(5).tx[0][0]
    assert counters.received + counters.dropped == sent <= 2000
    assert counters.duplicate == counters.out_of_order == 0


def _is_still(plane: NativeDataplane, background_pps: float) -> bool:
    first, begin = _accounted(plane), plane.now()
    time.sleep(0.02)
    return _accounted(plane) - first <= background_pps * (plane.now() - begin) + 5


def test_latency_agrees_with_itself(plane: NativeDataplane) -> None:
    plane.group_open(9, "latency", 0xFFFF)
    _send_all(plane, replace(_stream(plane, pps=5_000.0), trailer="latency", group=9), seconds=0.7)
    latency = plane.latency(9)
    sent = plane.port_counters(0)
    assert latency.received == sent.tx_packets == sum(count for _, count in latency.histogram)
    assert latency.dropped == sent.tx_refused
    assert 0 < latency.min_ns <= latency.sum_ns / latency.received <= latency.max_ns
    assert latency.histogram[0][0] <= latency.min_ns < latency.histogram[0][0] * (1 + 1 / 1024) + 1
    assert latency.histogram[-1][0] <= latency.max_ns <= latency.histogram[-1][0] * (1 + 1 / 1024) + 1
    assert latency.min_ns <= latency.average_ns <= latency.max_ns
    assert 0 < latency.last_max_ns <= latency.max_ns
    assert 0 < latency.jitter_ns < latency.max_ns
    assert plane.port_counters(1).rx_marked == latency.received
    plane.group_open(9, "latency", 0xFFFF)
    assert plane.latency(9).received == 0
    assert plane.latency(9).histogram == []
    plane.group_close(9)
    with pytest.raises(GeneratorError, match="not open"):
        plane.latency(9)


def _reference(seqs: list[int]) -> tuple[int, int, int, int, int]:
    """(dropped, out of order, duplicate, too high, too low) of trex-stl-rpc.md 4.2, from the first frame on."""
    expected, dropped, out_of_order, duplicate, high, low = 0xFFFFFFFE, 0, 0, 0, 0, 0
    for seq in seqs:
        ahead = (seq - expected + 2**31) % 2**32 - 2**31
        if ahead >= 0:
            dropped, high = dropped + ahead, high + (ahead > 0)
            expected = (seq + 1) % 2**32
            continue
        low += 1
        if ahead == -1:
            duplicate += 1
        else:
            out_of_order, dropped = out_of_order + 1, max(0, dropped - 1)
    return dropped, out_of_order, duplicate, high, low


def test_sequence_errors_follow_the_reference(plane: NativeDataplane) -> None:
    """Frames of a live stream's generation, pushed with gaps, duplicates and in the wrong order."""
    plane.group_open(0, "latency", 0xFFFF)
    plane.capture(1, True, 1, everything=True)
    _send_all(plane, replace(_stream(plane, flows=1), trailer="latency", group=0, total=1))
    template = plane.captured(1)[0][2]
    magic, generation, index, first, _ = struct.unpack("<BBHIQ", template[-16:])
    assert (magic, first) == (MAGIC_LATENCY, 0xFFFFFFFE)
    randomness = random.Random(7)
    seqs = [(0xFFFFFFFF + i) % 2**32 for i in range(300) if randomness.random() > 0.05]
    for position in randomness.sample(range(5, 250), 8):
        seqs.insert(position, seqs[position - 1])
        seqs[position - 3], seqs[position - 5] = seqs[position - 5], seqs[position - 3]
    for seq in seqs:
        trailer = struct.pack("<BBHIQ", magic, generation, index, seq, time.monotonic_ns())
        plane.send(0, [template[:-16] + trailer])
    _wait(lambda: plane.latency(0).received == 1 + len(seqs))
    seen = plane.latency(0)
    counted = (seen.dropped, seen.out_of_order, seen.duplicate, seen.seq_too_high, seen.seq_too_low)
    assert counted == _reference([first, *seqs])
    stale = struct.pack("<BBHIQ", magic, (generation - 1) % 256, index, 5, time.monotonic_ns())
    marked = plane.port_counters(1).rx_marked
    plane.send(0, [template[:-16] + stale])
    _wait(lambda: plane.port_counters(1).rx_packets == plane.port_counters(0).tx_packets)
    assert plane.latency(0).received == 1 + len(seqs)
    assert plane.port_counters(1).rx_marked == marked


def test_a_late_frame_is_not_marked_in_the_next_trial(plane: NativeDataplane) -> None:
    def marked_after_copy() -> int:
        plane.send(0, [frame[:-8] + struct.pack("<Q", time.monotonic_ns())])
        _wait(lambda: plane.port_counters(1).rx_packets == plane.port_counters(0).tx_packets)
        return plane.port_counters(1).rx_marked

    stream = replace(_stream(plane, flows=1), trailer="mark", total=1)
    plane.capture(1, True, 1, everything=True)
    _send_all(plane, stream)
    frame = plane.captured(1)[0][2]
    assert marked_after_copy() == 2
    plane.reset_reports()
    assert marked_after_copy() == 2
    _send_all(plane, replace(stream, key=2))
    assert plane.port_counters(1).rx_marked == 3
    endless = replace(stream, key=3, total=None, pps=1000.0)
    plane.start([endless], plane.now() + 0.02, None)
    _wait(lambda: plane.port_counters(1).rx_marked > 3)
    plane.reset_reports()
    before = plane.port_counters(1).rx_marked
    _wait(lambda: plane.port_counters(1).rx_marked > before + 10)
    plane.stop([3])


def test_groups_by_ip_id_and_flow_label(plane: NativeDataplane) -> None:
    """IPv4 and IPv6, without and behind one and two VLAN tags; the id counts only while its group is open."""
    ether = Ether(dst=plane.ports[1].mac, src=plane.ports[0].mac)
    ip4, ip6 = IP(id=0xFC01, src="10.0.0.1", dst="10.0.1.1"), IPv6(fl=0xFC02, src="fd00::1", dst="fd00::2")
    tail = UDP(sport=1, dport=2) / Raw(b"x" * 40)
    frames = [
        bytes(ether / tags / ip / tail) for ip in (ip4, ip6) for tags in (Dot1Q(vlan=5), Dot1AD(vlan=5) / Dot1Q(vlan=6))
    ]
    frames += [bytes(ether / ip4 / tail), bytes(ether / ip6 / tail), bytes(ether / IP(id=0xFC03) / tail)]
    plane.group_open(300, "stats", 0xFC01)
    plane.group_open(301, "stats", 0xFC02)
    plane.send(0, frames)
    _wait(lambda: plane.port_counters(1).rx_packets == len(frames))
    assert plane.group_counters(300).rx == {0: (0, 0), 1: (3, sum(len(f) + FCS for f in (*frames[:2], frames[4])))}
    assert plane.group_counters(301).rx[1] == (3, sum(len(f) + FCS for f in (*frames[2:4], frames[5])))
    plane.group_close(300)
    plane.send(0, frames)
    _wait(lambda: plane.port_counters(1).rx_packets == 2 * len(frames))
    assert plane.group_counters(301).rx[1][0] == 6


def test_capture_keeps_what_was_asked_for(plane: NativeDataplane) -> None:
    plane.capture(0, True, 10)
    plane.capture(1, True, 3)
    _send_all(plane, replace(_stream(plane, 1), trailer="mark", total=20))
    plane.send(0, [bytes([i]) * 64 for i in range(5)])
    _wait(lambda: plane.port_counters(1).rx_packets == 25)
    received, pushed = plane.captured(1), plane.captured(0)
    assert [(origin, frame) for _, origin, frame in received] == [("RX", bytes([i]) * 64) for i in range(3)]
    assert [(origin, frame) for _, origin, frame in pushed] == [("TX", bytes([i]) * 64) for i in range(5)]
    assert all(abs(plane.now() - moment) < 10 for moment, _, _ in received + pushed)
    assert plane.captured(1) == []
    plane.capture(1, False, 0)
    with pytest.raises(GeneratorError, match="capture is not on"):
        plane.captured(1)


def test_two_cores_divide_a_stream(spaces: tuple[str, str]) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    assert len(cores) == 2, "this test needs two cores"
    plane = in_netns(spaces[0], lambda: NativeDataplane(["t0", "t1"], cores, table_cells=1 << 14))
    try:
        plane.group_open(1, "latency", 0xFFFF)
        base = _stream(plane, flows=10, pps=10_000.0)
        split = replace(base, cores=np.array([0, 1, 0, 0, 1, 0, 1, 0, 0, 0], np.uint16), trailer="latency", group=1)
        _send_all(plane, replace(split, total=1234))
        counters, latency = plane.port_counters(0), plane.latency(1)
        assert counters.tx_packets + counters.tx_refused == 1234
        assert latency.received + latency.dropped == 1234
        assert latency.out_of_order == latency.duplicate == 0
        assert latency.min_ns <= latency.sum_ns / latency.received <= latency.max_ns
        _send_all(plane, replace(split, key=2), seconds=0.2)
        assert _accounted(plane) - 1234 == pytest.approx(2000, abs=2)
    finally:
        plane.close()


def test_both_directions_at_once(plane: NativeDataplane) -> None:
    back = replace(_stream(plane, 2, pps=3_000.0), port=1)
    at = plane.now() + 0.03
    plane.start([_stream(plane, 1, pps=5_000.0), back], at, at + 0.2)
    _wait(lambda: not plane.active([1, 2]))
    assert [_accounted(plane, 0), _accounted(plane, 1)] == [1000, 600]
    _wait(lambda: plane.port_counters(1).rx_packets == plane.port_counters(0).tx_packets)
    _wait(lambda: plane.port_counters(0).rx_packets == plane.port_counters(1).tx_packets)


def _udp_socket(address: tuple[str, int]) -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.bind(address)
    return udp


def test_the_kernel_still_answers_arp_and_nothing_else(spaces: tuple[str, str]) -> None:
    tg, dut = spaces
    _run("ip", "-n", tg, "address", "replace", "10.77.0.1/24", "dev", "t2")
    _run("ip", "-n", dut, "address", "replace", "10.77.0.2/24", "dev", "d2")
    plane = in_netns(tg, lambda: NativeDataplane(["t2"], [0], table_cells=1 << 10))
    try:
        server = in_netns(tg, lambda: _udp_socket(("10.77.0.1", 5555)))
        client = in_netns(dut, lambda: _udp_socket(("10.77.0.2", 0)))
        with server, client:
            client.sendto(b"hello", ("10.77.0.1", 5555))
            _wait(lambda: plane.port_counters(0).rx_packets >= 2)  # the question for the address, and the datagram
            with pytest.raises(BlockingIOError):
                server.recv(100)
        assert plane.ports[0].mac in _run("ip", "-n", dut, "neigh", "show", "10.77.0.1")
    finally:
        plane.close()


def test_a_full_ring_is_refused_and_counted(spaces: tuple[str, str]) -> None:
    """Nobody empties the far ring while its device is down: every frame is refused, none is lost from the count."""
    tg, dut = spaces
    plane = in_netns(tg, lambda: NativeDataplane(["t2"], [0], table_cells=1 << 10))
    try:
        _run("ip", "-n", dut, "link", "set", "d2", "down")
        template = bytes(Ether(src=plane.ports[0].mac, dst="02:00:00:00:00:01") / Raw(b"x" * 46))
        headers = np.frombuffer(template, np.uint8).reshape(1, -1)
        stream = TxStream(1, 0, template, headers, np.zeros(1, np.uint16), None, 10_000.0, total=500)
        plane.start([stream], plane.now() + 0.02, None)
        _wait(lambda: not plane.active([1]))
        counters = plane.port_counters(0)
        assert (counters.tx_packets, counters.tx_refused, counters.tx_bytes) == (0, 500, 0)
    finally:
        plane.close()
        _run("ip", "-n", dut, "link", "set", "d2", "up")


@pytest.mark.parametrize(
    ("ports", "cores", "reason"),
    [
        (["t0", "nowhere"], [0], "no interface nowhere"),
        (["lo"], [0], "no native XDP"),
        (["t0"], [1023], "core 1023"),
        (["t0"], [], "no cores"),
    ],
)
def test_what_cannot_work_is_said(spaces: tuple[str, str], ports: list[str], cores: list[int], reason: str) -> None:
    with pytest.raises(TestbedError, match=reason):
        in_netns(spaces[0], lambda: NativeDataplane(ports, cores))


def test_a_port_belongs_to_one_dataplane(spaces: tuple[str, str], plane: NativeDataplane) -> None:
    with pytest.raises(TestbedError, match="already has an XDP program"):
        in_netns(spaces[0], lambda: NativeDataplane(["t1"], [0]))


def test_bad_streams_are_refused_and_change_nothing(plane: NativeDataplane) -> None:
    good = _stream(plane, 1)
    at = plane.now() + 0.02
    for bad, reason in [
        (replace(good, headers=good.headers[:0]), "non-empty"),
        (replace(good, cores=good.cores + 1), "sending cores"),
        (replace(good, template=bytes(4000)), "too long"),
        (replace(good, pps=1e12), "out of range"),
        (replace(good, trailer="latency", group=3), "not open"),
        (_stream(plane, 1, flows=20_000), "tables are full"),
    ]:
        with pytest.raises(GeneratorError, match=reason):
            plane.start([good, bad], at, None)
        assert not plane.active([1])
    _send_all(plane, replace(good, total=10))
    assert plane.port_counters(0).tx_packets == 10


def test_the_native_process_dies_with_its_parent(spaces: tuple[str, str]) -> None:
    script = (
        "import sys, time\nfrom harness.generator.xdpgen.native_dataplane import NativeDataplane\n"
        "plane = NativeDataplane(['t0', 't1'], [0], table_cells=1024)\nprint(plane.pid, flush=True)\ntime.sleep(100)\n"
    )
    argv = ["ip", "netns", "exec", spaces[0], sys.executable, "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        native = int(parent.stdout.readline())
        assert "xdp" in _run("ip", "-n", spaces[0], "link", "show", "t0")
        parent.send_signal(signal.SIGKILL)
    _wait(lambda: not os.path.exists(f"/proc/{native}"))
    assert "xdp" not in _run("ip", "-n", spaces[0], "link", "show", "t0")


def test_the_death_of_the_native_process_is_an_error(plane: NativeDataplane) -> None:
    plane.start([_stream(plane, pps=1000.0)], plane.now() + 0.02, None)
    os.kill(plane.pid, signal.SIGKILL)
    with pytest.raises(GeneratorDied, match="exit status -9"):
        _wait(lambda: not plane.active([1]))
    plane.close()
    plane.close()
