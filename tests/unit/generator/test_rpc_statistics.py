# SPDX-License-Identifier: Apache-2.0
"""Counters, packet groups, latency and events as clients see them (simulated dataplane)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hdrh.histogram import HdrHistogram

from harness.generator.xdpgen.contract import CoreReport, LatencyCounters
from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.events import IDLE_LIMIT, EventHub, EventType
from harness.generator.xdpgen.rpc.latency import latency_entry
from harness.generator.xdpgen.rpc.port_stats import restart_port_rates
from harness.generator.xdpgen.rpc.smoothing import PERIOD, LazyRate
from tests.unit.generator.rpc_client import Direct, Refused, cont, stats, stream
from tests.unit.generator.simulated import WIRE_NS


def _pgid(server: Direct, *pgids: int) -> dict[str, object]:
    reply: dict[str, object] = server.call("get_pgid_stats", pgids=list(pgids))
    return reply


@pytest.fixture
def server() -> Direct:
    return Direct()


def test_group_counters_survive_stops_and_vanish_with_the_streams(server: Direct) -> None:
    server.add(1, stream(cont(1000), flow_stats=stats(7)))
    for total in (1000, 2000):
        server.start(duration=1.0)
        server.run(1.5)
        assert _pgid(server, 7)["flow_stats"]["7"]["rp"] == {"0": 0, "1": pytest.approx(total, abs=2)}  # type: ignore[index]
    assert _pgid(server, 7)["ver_id"] == {"7": 0}
    server.call("remove_all_streams", port_id=0)
    assert _pgid(server, 7) == {"flow_stats": None, "latency": {"g": None}, "ver_id": None}
    server.add(1, stream(cont(1000), flow_stats=stats(7)))
    again = _pgid(server, 7)
    assert again["ver_id"] == {"7": 1}
    assert again["flow_stats"]["7"]["tp"] == {"0": 0, "1": 0}  # type: ignore[index]


def test_a_new_trial_begins_with_zero_groups_of_a_new_version(server: Direct) -> None:
    server.add(1, stream(cont(1000), flow_stats=stats(7, "latency")))
    server.start(duration=1.0)
    server.run(0.5)
    server.call("x_reset_reports")
    assert _pgid(server, 7)["ver_id"] == {"7": 0}  # not while its traffic runs
    server.run(1.0)
    server.call("x_reset_reports")
    after = _pgid(server, 7)
    assert after["ver_id"] == {"7": 1}
    assert after["flow_stats"]["7"]["rp"] == {"0": 0, "1": 0}  # type: ignore[index]
    assert after["latency"]["7"]["lat"]["x_hist_ns"] == []  # type: ignore[index]


def test_reports_are_given_as_the_dataplane_has_them(server: Direct) -> None:
    report = CoreReport(core=3, pauses=1, paused_ns=2000, longest_pause_ns=1500, utilisation=0.5)
    report.departure_error = {128: 1, 64: 10}
    report.pause_log = [(5, 1500)]
    server.dataplane.reports = lambda: [report]  # type: ignore[method-assign]
    (seen,) = server.call("x_get_reports")
    assert seen["core"] == 3
    assert (seen["pauses"], seen["paused_ns"], seen["longest_pause_ns"], seen["utilisation"]) == (1, 2000, 1500, 0.5)
    assert seen["departure_error"] == [[64, 10], [128, 1]]
    assert seen["pause_log"] == [[5, 1500]]


def test_latency_in_every_form() -> None:
    histogram = [(900, 3), (9_999, 1), (10_000, 2), (99_000, 4), (123_456, 5), (2_000_000_000, 1)]
    counters = LatencyCounters(
        received=16, dropped=2, seq_too_high=1, min_ns=900, max_ns=2_000_000_000, jitter_ns=2_900.0,
        average_ns=55_500.0, last_max_ns=123_456, histogram=histogram,
    )  # fmt: skip
    entry = latency_entry(counters)
    lat = entry["lat"]
    assert entry["er"] == {"drp": 2, "sth": 1}
    assert lat["histogram"] == {"0": 4, "10": 2, "90": 4, "100": 5}  # from one second on nothing is binned
    assert (lat["average"], lat["last_max"], lat["total_min"], lat["jit"]) == (55.5, 123, 0, 2)
    assert lat["x_hist_ns"] == [list(one) for one in histogram]
    decoded = HdrHistogram.decode(lat["hdrh"])
    assert decoded.get_total_count() == 16
    assert decoded.get_value_at_percentile(90) == 123
    assert decoded.get_max_value() == pytest.approx(2_000_000, rel=0.001)


def test_nothing_received_is_not_an_error() -> None:
    lat = latency_entry(LatencyCounters())["lat"]
    assert "histogram" not in lat
    assert HdrHistogram.decode(lat["hdrh"]).get_total_count() == 0


def test_rates_are_smoothed_over_half_seconds() -> None:
    rate = LazyRate()
    rate.restart(10.0, 0)
    seen = [rate.sample(10.0 + PERIOD * n, 500 * n) for n in range(1, 4)]
    assert seen == [500.0, 750.0, 875.0]
    # One question after three periods gives what three questions give.
    lazy = LazyRate()
    lazy.restart(10.0, 0)
    assert lazy.sample(10.0 + 3 * PERIOD, 1500) == 875.0
    # Questions within a period change nothing.
    assert lazy.sample(10.0 + 3 * PERIOD + 0.1, 9999) == 875.0


def test_rates_at_both_ends_of_the_wire(server: Direct) -> None:
    server.add(1, stream(cont(1000)))
    server.start()
    restart_port_rates(server.state, server.dataplane.now())
    server.run(6.0)
    assert server.call("get_port_stats", port_id=0)["m_total_tx_bps"] == pytest.approx(64 * 8 * 1000, rel=0.01)
    sink = server.call("get_port_stats", port_id=1)
    assert sink["m_total_rx_pps"] == pytest.approx(1000, rel=0.01)
    assert sink["m_total_tx_pps"] == 0.0
    assert server.call("get_global_stats")["m_rx_drop_bps"] == 0.0


def test_what_the_receiving_driver_lost_is_ierrors(server: Direct) -> None:
    counters = replace(server.dataplane.port_counters(1), rx_dropped=7)
    server.dataplane.port_counters = lambda port: counters  # type: ignore[method-assign]
    assert server.call("get_port_stats", port_id=1)["ierrors"] == 7


def test_members_of_port_stats_can_be_added_up(server: Direct) -> None:
    """TRex's client adds every member over the ports."""
    assert all(isinstance(value, (int, float)) for value in server.call("get_port_stats", port_id=0).values())


def test_silent_sessions_miss_events_without_a_gap() -> None:
    clock = [0.0]
    hub = EventHub(lambda: clock[0])
    woken: list[None] = []
    hub.wake = lambda: woken.append(None)
    hub.register(1)
    hub.emit(EventType.PORT_STARTED, {"port_id": 0})
    clock[0] += IDLE_LIMIT + 1
    hub.emit(EventType.PORT_STOPPED, {"port_id": 0})
    assert [(one["type"], one["seq"]) for one in hub.take(1)] == [(0, 0)]
    hub.emit(EventType.PORT_PAUSED, {"port_id": 0})
    assert [(one["type"], one["seq"]) for one in hub.take(1)] == [(2, 1)]
    assert len(woken) == 3


def test_sessions_are_bounded() -> None:
    hub = EventHub(lambda: 0.0)
    for session in range(5000):
        hub.take(session)
    hub.emit(EventType.PORT_STARTED, {})
    assert hub.take(4999)
    assert hub.take(0) == []


def test_pushed_frames_leave_one_by_one(server: Direct) -> None:
    frames = [{"binary": "A" * 80, "use_port_src_mac": True, "use_port_dst_mac": True}] * 3
    server.call("push_pkts", port_id=0, pkts=frames, force=False, ipg_usec=100_000.0)
    seen = []
    for _ in range(4):
        seen.append(server.call("get_port_stats", port_id=0)["opackets"])
        server.run(0.11)
    assert seen == [1, 2, 3, 3]


def test_captures_keep_what_fits_and_matches(server: Direct) -> None:
    fixed = server.call("capture", command="start", limit=2, mode="fixed", tx=[0], rx=[], filter="")["capture_id"]
    cyclic = server.call("capture", command="start", limit=2, mode="cyclic", tx=[0], rx=[1], filter="")["capture_id"]
    for number in range(3):
        binary = ("AAAA" * 20)[:-4] + f"AAA{number}"
        frame = {"binary": binary, "use_port_src_mac": False, "use_port_dst_mac": False}
        server.call("push_pkts", port_id=0, pkts=[frame], force=False, ipg_usec=0)
        server.run(0.01)
    assert server.call("capture", command="stop", capture_id=fixed)["pkt_count"] == 2
    one = server.call("capture", command="fetch", capture_id=fixed, pkt_limit=10, snaplen=20)
    assert [packet["index"] for packet in one["pkts"]] == [1, 2]
    assert all(packet["wirelen"] == 60 and len(packet["binary"]) == 28 for packet in one["pkts"])
    other = server.call("capture", command="fetch", capture_id=cyclic, pkt_limit=10, snaplen=0)
    assert [packet["origin"] for packet in other["pkts"]] == ["TX", "RX"]
    assert other["pkts"][1]["ts"] - other["pkts"][0]["ts"] == pytest.approx(WIRE_NS / 1e9)
    with pytest.raises(Refused, match="endpoint"):
        server.call("capture", command="start", limit=1, mode="fixed", tx=[0], rx=[], endpoint="file:///etc/passwd")


def test_captures_are_bounded(server: Direct) -> None:
    for _ in range(32):
        server.call("capture", command="start", limit=1, mode="fixed", tx=[0], rx=[])
    with pytest.raises(Refused, match="at most 32 captures"):
        server.call("capture", command="start", limit=1, mode="fixed", tx=[0], rx=[])
    with pytest.raises(Refused, match="'limit' must be"):
        server.call("capture", command="start", limit=10**9, mode="fixed", tx=[0], rx=[])


def test_unknown_profiles_do_not_hurt(server: Direct) -> None:
    """Both are a segmentation fault in the real server."""
    for method in ("get_port_status", "validate"):
        with pytest.raises(Refused, match="profile_id nope does not exists") as refused:
            server.call(method, port_id=0, profile_id="nope")
        assert refused.value.code == ExecuteError.code
