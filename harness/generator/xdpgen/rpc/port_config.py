# SPDX-License-Identifier: Apache-2.0
"""Port configuration (trex-stl-rpc.md 3.3)."""

from __future__ import annotations

import ipaddress
from typing import Any

from harness.generator.xdpgen.frames import mac_bytes
from harness.generator.xdpgen.rpc.errors import BadParams, ExecuteError
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.ports import LayerConfig
from harness.generator.xdpgen.rpc.state import ServerState

_UNSUPPORTED = ("link_status", "led_status", "flow_ctrl_mode", "vxlan_fs")
#: Largest receive queue.
_MAX_QUEUE = 100_000


def _set_port_attr(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    attributes = p.object("attr")
    for name in attributes.members:
        if name in _UNSUPPORTED:
            raise ExecuteError(f"Error applying {name}: operation is not supported for this NIC.")
        if name not in ("promiscuous", "multicast"):
            raise ExecuteError(f"unknown attribute type: '{name}'")
        # The XDP program sees every frame whatever the interface's filter: only the setting is kept.
        setattr(port, name, attributes.object(name).boolean("enabled"))
    return {}


def _service(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    enabled, filtered = p.boolean("enabled"), p.boolean("filtered", False)
    p.byte("mask", 0)
    if not enabled and state.captures.queue(port.index) is not None:
        raise ExecuteError("unable to disable service mode - please remove RX queue")
    if not enabled and port.service and state.captures.watched(port.index):
        raise ExecuteError(f"unable to disable service mode - an active capture on port {port.index} exists")
    port.service = enabled
    port.filtered = enabled and filtered
    return {}


def _mac(text: str) -> str:
    try:
        return ":".join(f"{byte:02x}" for byte in mac_bytes(text))
    except ValueError as error:
        raise BadParams(f"'invalid MAC address: '{text}'") from error


def _ipv4(text: str, which: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise BadParams(f"invalid {which} IPv4 address: '{text}'") from error


def _set_l2(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    port.layer = LayerConfig(_mac(p.text("dst_mac")))
    return {}


def _set_l3(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    addresses = (_ipv4(p.text("src_addr"), "source"), _ipv4(p.text("dst_addr"), "destination"))
    resolved = p.has("resolved_mac")
    mac = _mac(p.text("resolved_mac")) if resolved else port.layer.dst_mac
    port.layer = LayerConfig(mac, resolved, addresses)
    return {}


def _set_vlan(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    tags = p.whole_numbers("vlan", limit=64)
    if len(tags) > 2:
        raise BadParams(f"Maximal number of stacked VLANs is 2, got: {len(tags)}")
    for tag in tags:
        if not 1 <= tag <= 4095:
            raise BadParams(f"invalid VLAN tag: '{tag}'")
    port.vlan = tags
    return {}


def _conf_ipv6(state: ServerState, p: Params) -> Any:
    state.port(p)
    if p.boolean("enabled"):
        raise ExecuteError("Could not configure IPv6: IPv6 is not supported with current stack")
    return {}


def _set_rx_feature(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    kind = p.choice("type", ("queue",))
    enabled = p.boolean("enabled")
    if not enabled:
        state.captures.queue_off(port.index)
        return {}
    size = p.u32("size")
    if not port.service:
        raise ExecuteError(f"setting RX {kind} is only available under service mode")
    if not 1 <= size <= _MAX_QUEUE:
        raise BadParams(f"queue size must be 1 to {_MAX_QUEUE}")
    state.captures.queue_on(port.index, size)
    return {}


def _get_rx_queue_pkts(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    if not port.service:
        raise ExecuteError("fetching RX queue packets is only available under service mode")
    state.captures.pull()
    queue = state.captures.queue(port.index)
    if queue is None:
        raise ExecuteError("RX queue is not active: set_rx_feature first")
    packets = [frame.reply(0) for frame in queue]
    queue.clear()
    return {"pkts": packets}


METHODS = {
    "set_port_attr": Method(_set_port_attr),
    "service": Method(_service, owned=True),
    "set_l2": Method(_set_l2),
    "set_l3": Method(_set_l3),
    "set_vlan": Method(_set_vlan),
    "conf_ipv6": Method(_conf_ipv6),
    "set_rx_feature": Method(_set_rx_feature),
    "get_rx_queue_pkts": Method(_get_rx_queue_pkts),
}
