# SPDX-License-Identifier: Apache-2.0
"""Port and global counters (trex-stl-rpc.md 4.1). Bytes and bits are L2 with FCS; rates are computed on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.generator.xdpgen.contract import PortCounters
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.smoothing import LazyRate
from harness.generator.xdpgen.rpc.state import ServerState

#: ``m_rx_drop_bps`` is reported from this share of the transmitted rate on, as in TRex.
_DROP_SHARE = 0.1
_RATES = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
_XSTATS: dict[str, Callable[[PortCounters], int]] = {
    "rx_good_packets": lambda c: c.rx_packets,
    "tx_good_packets": lambda c: c.tx_packets,
    "rx_good_bytes": lambda c: c.rx_bytes,
    "tx_good_bytes": lambda c: c.tx_bytes,
    "rx_marked_packets": lambda c: c.rx_marked,
    "tx_refused_packets": lambda c: c.tx_refused,
    "tx_skipped_packets": lambda c: sum(c.tx_skipped.values()),
}
#: Members of TRex's reply that have no meaning here: there are no connections, NAT or templates.
_ALWAYS_ZERO = [
    "m_active_sockets",
    "m_total_alloc_error",
    "m_total_clients",
    "m_total_nat_active",
    "m_total_nat_learn_error",
    "m_total_nat_no_fid",
    "m_total_nat_open",
    "m_total_nat_syn_wait",
    "m_total_nat_time_out",
    "m_total_nat_time_out_wait_ack",
    "m_total_queue_drop",
    "m_total_servers",
]
_ALWAYS_ZERO_FLOATS = [
    "m_active_flows",
    "m_open_flows",
    "m_rx_cpu_util",
    "m_socket_util",
    "m_tx_cps",
    "m_tx_expected_bps",
    "m_tx_expected_cps",
    "m_tx_expected_pps",
]


def _rates(state: ServerState, port: int, counters: PortCounters) -> dict[str, float]:
    """Per-second rates of the four counters of one port."""
    now = state.now()
    return {
        name: state.port_rates.setdefault((port, name), LazyRate()).sample(now, getattr(counters, name))
        for name in _RATES
    }


def restart_port_rates(state: ServerState, now: float) -> None:
    """Begin new rate windows at all ports."""
    for index in state.ports:
        counters = state.dataplane.port_counters(index)
        for name in _RATES:
            state.port_rates.setdefault((index, name), LazyRate()).restart(now, getattr(counters, name))


def _mean_cpu(state: ServerState) -> float:
    percent = state.core_percent()
    state.utilisation.note(state.now(), percent)
    return sum(percent) / len(percent) if percent else 0.0


def _get_port_stats(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    counters = state.dataplane.port_counters(port.index)
    rates = _rates(state, port.index, counters)
    return {
        "opackets": counters.tx_packets,
        "obytes": counters.tx_bytes,
        "ipackets": counters.rx_packets,
        "ibytes": counters.rx_bytes,
        "ierrors": counters.rx_dropped,
        "oerrors": counters.tx_refused,
        "m_total_tx_bps": rates["tx_bytes"] * 8,
        "m_total_tx_pps": rates["tx_packets"],
        "m_total_rx_bps": rates["rx_bytes"] * 8,
        "m_total_rx_pps": rates["rx_packets"],
        "m_cpu_util": _mean_cpu(state),
        "x_marked_ipackets": counters.rx_marked,
        "x_tx_refused": counters.tx_refused,
        # Numbers only: TRex's client adds every member up over the ports.
        **{f"x_tx_skipped_{reason}": count for reason, count in counters.tx_skipped.items()},
    }


def _get_global_stats(state: ServerState, p: Params) -> Any:
    counters = {index: state.dataplane.port_counters(index) for index in state.ports}
    rates = [_rates(state, index, one) for index, one in counters.items()]
    tx_bps = sum(rate["tx_bytes"] for rate in rates) * 8
    rx_bps = sum(rate["rx_bytes"] for rate in rates) * 8
    cpu = _mean_cpu(state)
    missing = tx_bps - rx_bps
    return {
        **dict.fromkeys(_ALWAYS_ZERO, 0),
        **dict.fromkeys(_ALWAYS_ZERO_FLOATS, 0.0),
        "m_platform_factor": 1.0,
        "m_tx_bps": tx_bps,
        "m_tx_pps": sum(rate["tx_packets"] for rate in rates),
        "m_rx_bps": rx_bps,
        "m_rx_pps": sum(rate["rx_packets"] for rate in rates),
        "m_rx_core_pps": sum(rate["rx_packets"] for rate in rates),
        "m_rx_drop_bps": missing if tx_bps > 0 and missing >= _DROP_SHARE * tx_bps else 0.0,
        "m_cpu_util": cpu,
        "m_cpu_util_raw": cpu,
        "m_bw_per_core": tx_bps / 1e7 / cpu / len(state.dataplane.cores) if cpu > 0 else 0.0,
        "m_total_tx_pkts": sum(one.tx_packets for one in counters.values()),
        "m_total_rx_pkts": sum(one.rx_packets for one in counters.values()),
        "m_total_tx_bytes": sum(one.tx_bytes for one in counters.values()),
        "m_total_rx_bytes": sum(one.rx_bytes for one in counters.values()),
        "m_total_queue_full": sum(one.tx_refused for one in counters.values()),
    }


def _get_port_xstats_names(state: ServerState, p: Params) -> Any:
    state.port(p)
    return {"xstats_names": list(_XSTATS)}


def _get_port_xstats_values(state: ServerState, p: Params) -> Any:
    counters = state.dataplane.port_counters(state.port(p).index)
    return {"xstats_values": [read(counters) for read in _XSTATS.values()]}


def _get_utilization(state: ServerState, p: Params) -> Any:
    _mean_cpu(state)
    busy = [port.index for port in state.ports.values() if any(port.active_profiles())]
    ports = [*busy, -1, -1][: max(2, len(busy))]
    cpu = [{"history": [round(value) for value in one], "ports": ports} for one in state.utilisation.history]
    return {"cpu": cpu, "mbuf_stats": {"cpu-socket-0": {}}}


METHODS = {
    "get_port_stats": Method(_get_port_stats),
    "get_global_stats": Method(_get_global_stats),
    "get_port_xstats_names": Method(_get_port_xstats_names),
    "get_port_xstats_values": Method(_get_port_xstats_values),
    "get_utilization": Method(_get_utilization),
}
