# SPDX-License-Identifier: Apache-2.0
"""What is handed to the dataplane for the streams of a client, and how runs begin, change and end (simulated)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from harness.generator.xdpgen import field_engine as fe
from harness.generator.xdpgen.contract import TxStream
from tests.unit.generator.rpc_client import FRAME, Direct, Refused, burst, cont, multi, stats, stream


@pytest.fixture
def server() -> Direct:
    return Direct()


def _sent(server: Direct) -> list[TxStream]:
    return server.dataplane.started


def test_latency_streams_keep_their_rate(server: Direct) -> None:
    server.add(1, stream(cont(1000)))
    server.add(2, stream(cont(100), flow_stats=stats(5, "latency")))
    assert server.start(kind="pps", value=5100)["multiplier"] == 5.0
    assert {tx.pps for tx in _sent(server)} == {5000.0, 100.0}
    server.call("update_traffic", port_id=0, mul={"type": "pps", "op": "abs", "value": 1100}, force=False)
    server.run(1.0)
    before = server.call("get_port_stats", port_id=0)["opackets"]
    server.run(1.0)
    assert server.call("get_port_stats", port_id=0)["opackets"] - before == pytest.approx(1100, abs=2)


def test_marked_and_counted_streams(server: Direct) -> None:
    server.add(1, stream(cont(10), xdpgen={"mark": True}))
    server.add(2, stream(cont(10), xdpgen={"mark": True}, flow_stats=stats(9)))
    server.add(3, stream(cont(10), flow_stats=stats(4, "latency")))
    server.add(4, stream(cont(10)))
    server.start()
    by_pps = {tx.key: (tx.trailer, tx.group, tx.ip_id) for tx in _sent(server)}
    assert list(by_pps.values()) == [
        ("mark", None, None), ("mark", 128, 0xFC00), ("latency", 0, 0xFFFF), (None, None, None)
    ]  # fmt: skip
    counted = _sent(server)[1]
    assert counted.template[18:20] == b"\xfc\x00"
    assert counted.headers[0, :60].tobytes() == counted.template[:60]
    assert counted.template[15] == 1


def test_tables_are_built_once_and_anew_for_new_streams(server: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    build = fe.build_table

    def count(*given: Any, **named: Any) -> fe.Table:
        built.append(len(given[0]))
        return build(*given, **named)

    monkeypatch.setattr(fe, "build_table", count)
    server.add(1, stream(cont(1000)))
    for _ in range(3):
        server.start(duration=0.1)
        server.run(0.5)
    assert built == [60]
    server.call("remove_stream", port_id=0, stream_id=1)
    server.add(1, stream(cont(1000), FRAME + b"longer"))
    server.start(duration=0.1)
    assert built == [60, 66]
    assert server.dataplane.started[-1].template.endswith(b"longer")


def _ipv6(payload: int) -> bytes:
    packet = Ether(src="02:00:00:00:10:00", dst="02:00:00:00:10:01") / IPv6(src="2001:2::1", dst="2001:2::2")
    return bytes(packet / UDP(sport=1000, dport=9) / bytes(range(payload)))


@pytest.mark.parametrize("payload", [16, 17, 100])
def test_a_checksum_to_be_kept_right_is_prepared_over_zeros(server: Direct, payload: int) -> None:
    fix = {"type": "fix_checksum_hw", "l2_len": 14, "l3_len": 40, "l4_type": 11}
    server.add(1, stream(cont(10), _ipv6(payload), [fix], xdpgen={"mark": True, "fix_checksum": True}))
    server.add(2, stream(cont(10), _ipv6(payload), [fix], xdpgen={"mark": True}))
    server.start()
    kept, left = _sent(server)
    assert (kept.checksum_at, left.checksum_at) == (60, None)
    zeroed = kept.headers[0].tobytes() + kept.template[kept.headers.shape[1]:]
    assert zeroed[-16:] == bytes(16)
    assert zeroed[60:62] == bytes(_with_checksum(zeroed))[60:62]


def _with_checksum(frame: bytes) -> Ether:
    again = Ether(frame)
    del again[UDP].chksum
    return Ether(bytes(again))


@pytest.mark.parametrize("frame", [FRAME[:23] + b"\x01" + FRAME[24:], _ipv6(15)])
def test_a_checksum_that_cannot_be_kept_right_is_refused(server: Direct, frame: bytes) -> None:
    server.add(1, stream(cont(10), frame, xdpgen={"mark": True, "fix_checksum": True}))
    with pytest.raises(Refused, match=r"fix_checksum needs a UDP or TCP header|has no room for the 16 bytes"):
        server.start()


def test_macs_come_from_the_port_unless_the_stream_says_otherwise() -> None:
    server = Direct(dst_macs={0: "02:00:00:00:99:99"})
    foreign = b"\xaa" * 12 + FRAME[12:]
    for number, flags in enumerate((0, 1, 2, 3)):
        server.add(number, stream(cont(1), foreign, flags=flags))
    server.start()
    port_dst, port_src = bytes.fromhex("020000009999"), bytes.fromhex("020000001000")
    expected = [(port_dst, port_src), (port_dst, b"\xaa" * 6), (b"\xaa" * 6, port_src), (b"\xaa" * 6, b"\xaa" * 6)]
    assert [(tx.template[:6], tx.template[6:12]) for tx in _sent(server)] == expected


def test_flows_are_spread_over_the_chosen_cores() -> None:
    server = Direct(cores=(4, 5, 6))
    vm = [
        {"type": "flow_var", "name": "p", "size": 2, "op": "inc", "init_value": 0, "min_value": 0, "max_value": 1023,
         "step": 1},
        {"type": "write_flow_var", "name": "p", "pkt_offset": 34, "add_value": 0, "is_big_endian": True},
    ]  # fmt: skip
    server.add(1, stream(cont(10), vm=vm))
    server.start()
    assert set(np.unique(_sent(server)[0].cores)) == {0, 1, 2}
    server.call("stop_traffic", port_id=0)
    server.start(core_mask=0b101)
    assert set(np.unique(_sent(server)[1].cores)) == {0, 2}
    server.call("stop_traffic", port_id=0)
    server.add(2, stream(cont(10), vm=vm, core_id=1))
    server.start()
    assert set(np.unique(_sent(server)[3].cores)) == {1}
    with pytest.raises(Refused, match="between 0 and 2"):
        server.add(3, stream(cont(10), core_id=3))


def test_chains_of_bursts_are_unrolled(server: Direct) -> None:
    server.add(1, stream(burst(1000, 51), next_stream_id=2))
    server.add(2, stream(multi(500, 6, 3, 40_000), self_start=False, isg=20_000))
    server.start()
    seen = [(round(tx.delay_s, 6), tx.total, tx.pps) for tx in _sent(server)]
    # 51 packets in 50 ms; 20 ms gap; bursts of 6 packets in 10 ms, 40 ms from last to first.
    assert seen == [(0.0, 51, 1000.0), (0.07, 6, 500.0), (0.12, 6, 500.0), (0.17, 6, 500.0)]
    server.run(1.0)
    assert server.call("get_port_stats", port_id=0)["opackets"] == 51 + 18
    assert server.events() == [(10, "_"), (0, 0), (14, "_"), (4, 0)]
    assert server.status()["state"] == "STREAMS"


def test_bursts_go_on_with_the_field_engine_where_they_stopped(server: Direct) -> None:
    vm = [
        {"type": "flow_var", "name": "p", "size": 1, "op": "inc", "init_value": 0, "min_value": 0, "max_value": 4,
         "step": 1},
        {"type": "write_flow_var", "name": "p", "pkt_offset": 35, "add_value": 0, "is_big_endian": True},
    ]  # fmt: skip
    server.add(1, stream(multi(100, 3, 3, 1000), vm=vm))
    server.start()
    assert [int(tx.headers[0, 35]) for tx in _sent(server)] == [0, 3, 1]


def test_a_stream_that_follows_itself_is_played_as_often_as_it_says(server: Direct) -> None:
    server.add(33, stream(burst(50, 2), next_stream_id=33, action_count=3, isg=10_000))
    server.start()
    assert [round(tx.delay_s, 6) for tx in _sent(server)] == [0.01, 0.04, 0.07]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (stream(burst(100, 5), next_stream_id=1), "chains of more than 256 bursts"),
        (stream(multi(100, 5, 1000, 10)), "multi_burst of 1000 bursts"),
        (stream(multi(100, 5, 0, 10)), "multi_burst of endless bursts"),
        (stream(multi(100, 5, 3, 10), flow_stats=stats(1, "latency")), "latency stream of more than one burst"),
        (stream(cont(5), vm=[{"type": "write_flow_var", "name": "x", "pkt_offset": 30, "add_value": 0,
                              "is_big_endian": True}]), "stream 1: .*no valid flow variable name 'x'"),
    ],
)  # fmt: skip
def test_what_is_not_implemented_is_refused_by_name(server: Direct, members: dict[str, object], reason: str) -> None:
    server.add(1, members)
    with pytest.raises(Refused, match=reason) as refused:
        server.start()
    assert refused.value.code == -32000
    assert server.status()["state"] == "STREAMS"
    server.call("remove_all_streams", port_id=0)


def test_a_timed_run_ends_by_itself_and_tells(server: Direct) -> None:
    server.add(1, stream(cont(1000)))
    server.start(duration=2.0)
    assert server.core.next_due() == pytest.approx(server.dataplane.now() + 2.02, abs=0.02)
    server.run(1.9)
    assert server.status()["state"] == "TX"
    server.run(0.3)
    assert server.status()["state"] == "STREAMS"
    assert server.call("get_port_stats", port_id=0)["opackets"] == pytest.approx(2000, abs=1)
    assert server.events() == [(10, "_"), (0, 0), (14, "_"), (4, 0)]
    assert server.core.next_due() is None


def test_a_stopped_timed_run_does_not_finish_later(server: Direct) -> None:
    server.add(1, stream(cont(1000)))
    server.start(duration=1.0)
    server.call("stop_traffic", port_id=0)
    server.run(3.0)
    assert server.events() == [(10, "_"), (0, 0), (11, "_"), (1, 0)]


def test_pausing_single_streams(server: Direct) -> None:
    server.add(1, stream(cont(1000)))
    server.add(2, stream(cont(500), start_paused=True))
    server.start()

    def rate() -> float:
        before = server.call("get_port_stats", port_id=0)["opackets"]
        server.run(1.0)
        return float(server.call("get_port_stats", port_id=0)["opackets"] - before)

    assert _sent(server)[1].pps == 0.0
    server.run(0.1)
    assert rate() == pytest.approx(1000, abs=2)
    server.call("resume_streams", port_id=0, stream_ids=[2])
    assert rate() == pytest.approx(1500, abs=2)
    server.call("pause_traffic", port_id=0)
    assert rate() == 0
    server.call("pause_streams", port_id=0, stream_ids=[1])
    server.call("resume_traffic", port_id=0)
    assert rate() == pytest.approx(500, abs=2)
    mul = {"type": "pps", "op": "abs", "value": 50}
    server.call("update_streams", port_id=0, stream_ids=[2], mul=mul, force=False)
    assert rate() == pytest.approx(50, abs=2)


def test_two_profiles_run_side_by_side(server: Direct) -> None:
    server.add(1, stream(cont(100)), profile_id="a")
    server.add(1, stream(cont(100)), profile_id="b")
    server.start(profile_id="a")
    server.start(profile_id="b", duration=0.5)
    server.run(1.0)
    assert server.events() == [(10, "a"), (0, 0), (10, "b"), (14, "b")]
    server.call("stop_traffic", port_id=0, profile_id="*")
    assert server.events() == [(11, "a"), (1, 0)]


def test_the_129th_latency_group_is_refused_at_start(server: Direct) -> None:
    for number in range(1, 130):
        server.add(number, stream(cont(1), flow_stats=stats(number, "latency")))
    with pytest.raises(Refused, match="Failed allocating statistic counter"):
        server.start()
    server.call("remove_stream", port_id=0, stream_id=129)
    server.start()
    assert sorted(tx.group for tx in _sent(server) if tx.group is not None) == list(range(128))


def test_a_slow_start_does_not_lose_the_first_second() -> None:
    """Rates count from the start, not from the last question before it."""
    server = Direct()
    server.add(1, stream(cont(1000)))
    server.call("get_port_stats", port_id=0)
    server.run(60.0)
    server.start()
    server.run(4.0)
    assert server.call("get_port_stats", port_id=0)["m_total_tx_pps"] == pytest.approx(1000, rel=0.02)
    assert server.call("get_global_stats")["m_cpu_util"] == 25.0
    server.call("stop_traffic", port_id=0)
    assert server.call("get_global_stats")["m_cpu_util"] == 0.0


def sent_by_port(server: Direct) -> list[int]:
    return [server.call("get_port_stats", port_id=port)["opackets"] for port in (0, 1)]


def test_ports_with_the_same_start_time_begin_as_one(server: Direct) -> None:
    handed: list[tuple[list[int], float, float | None]] = []
    start = server.dataplane.start

    def watch(streams: list[TxStream], at: float, until: float | None) -> None:
        handed.append(([tx.port for tx in streams], at, until))
        start(streams, at, until)

    server.dataplane.start = watch  # type: ignore[method-assign]
    at = server.dataplane.now() + 1.0
    for port in (0, 1):
        server.add(1, stream(cont(1000)), port=port)
        server.start(port, duration=2.0, start_at_ts=at)
    server.run(0.9)
    assert handed == []
    server.run(0.5)
    assert handed == [([0, 1], at, at + 2.0)]
    server.run(2.0)
    assert sent_by_port(server) == pytest.approx([2000, 2000], abs=1)
    assert server.status()["state"] == "STREAMS"


def test_traffic_that_waits_for_its_time_can_be_stopped_and_changed(server: Direct) -> None:
    at = server.dataplane.now() + 1.0
    for port in (0, 1):
        server.add(1, stream(cont(1000)), port=port)
        server.start(port, start_at_ts=at)
    server.call("stop_traffic", port_id=0)
    server.call("update_traffic", port_id=1, mul={"type": "pps", "op": "abs", "value": 100}, force=False)
    server.run(2.0)
    assert sent_by_port(server) == pytest.approx([0, 100], abs=1)
