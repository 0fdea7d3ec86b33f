# SPDX-License-Identifier: Apache-2.0
"""Packet-group statistics (trex-stl-rpc.md 4.2)."""

from __future__ import annotations

from typing import Any

from harness.generator.xdpgen.rpc.groups import Group
from harness.generator.xdpgen.rpc.latency import latency_entry
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.state import ServerState

#: Groups one request may name, as in TRex.
_MAX_PGIDS = 1152


def _get_active_pgids(state: ServerState, p: Params) -> Any:
    groups = list(state.groups)
    return {
        "ids": {
            "flow_stats": [group.pgid for group in groups if not group.latency],
            "latency": [group.pgid for group in groups if group.latency],
        }
    }


def is_sending(state: ServerState, group: Group) -> bool:
    """True while a profile with a stream of the group has traffic."""
    return any(state.ports[port].profiles[profile].run is not None for port, profile, _ in group.members)


def _flow_entry(state: ServerState, group: Group) -> dict[str, dict[str, float]]:
    """Packets, bytes and their rates by port; rates are 0 while nothing of the group is sent."""
    counters = state.groups.counters(group)
    rates = state.groups.sample(group, state.now())
    moving = is_sending(state, group)
    entry: dict[str, dict[str, float]] = {name: {} for name in ("tp", "tb", "rp", "rb", "tps", "tbs", "rps", "rbs")}
    for port in state.ports:
        name = str(port)
        entry["tp"][name], entry["tb"][name] = counters.tx.get(port, (0, 0))
        entry["rp"][name], entry["rb"][name] = counters.rx.get(port, (0, 0))
        for rate, source, scale in (("tps", "tp", 1), ("tbs", "tb", 8), ("rps", "rp", 1), ("rbs", "rb", 8)):
            entry[rate][name] = round(rates[source][port] * scale, 2) if moving else 0.0
    return entry


def _get_pgid_stats(state: ServerState, p: Params) -> Any:
    groups = state.groups.select(p.whole_numbers("pgids", _MAX_PGIDS))
    latency: dict[str, Any] = {"g": None}
    for group in groups:
        if group.latency and group.slot is not None:
            latency[str(group.pgid)] = latency_entry(state.dataplane.latency(group.slot.number))
    return {
        "flow_stats": {str(group.pgid): _flow_entry(state, group) for group in groups} or None,
        "latency": latency,
        "ver_id": {str(group.pgid): group.version for group in groups} or None,
    }


METHODS = {
    "get_active_pgids": Method(_get_active_pgids),
    "get_pgid_stats": Method(_get_pgid_stats),
}
