# SPDX-License-Identifier: Apache-2.0
"""Who owns a port, and what a port is doing (trex-stl-rpc.md 2.2, 3.1)."""

from __future__ import annotations

from typing import Any

from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.events import EventType
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.ports import ALL_PROFILES, MAX_NAME, Owner, Port, token
from harness.generator.xdpgen.rpc.state import ServerState


def _acquire(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    user, session, force = p.text("user"), p.u32("session_id"), p.boolean("force")
    if not user or len(user) > MAX_NAME:
        raise ExecuteError(f"user must be a name of 1 to {MAX_NAME} characters")
    owner = port.owner
    if owner is not None and not force:
        if owner.user != user:
            raise ExecuteError(f"port is already taken by '{owner.user}'")
        if owner.session_id != session:
            raise ExecuteError(f"port is already owned by another session of '{user}'")
    if owner is None or force:
        port.owner = Owner(user, session, token())
    event = {"port_id": port.index, "who": user, "session_id": session, "force": force and owner is not None}
    state.events.emit(EventType.PORT_ACQUIRED, event)
    # As in TRex, the new session is not told of its own first acquire.
    state.events.register(session)
    return port.owner.handler if port.owner else ""


def _release(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    owner = port.owner
    port.owner = None
    if owner is not None:
        event = {"port_id": port.index, "who": owner.user, "session_id": owner.session_id}
        state.events.emit(EventType.PORT_RELEASED, event)
    return {}


def _get_owner(state: ServerState, p: Params) -> Any:
    owner = state.port(p).owner
    return {"owner": owner.user if owner else "<FREE>"}


def _layer_config(port: Port) -> dict[str, Any]:
    layer = port.layer
    ipv4: dict[str, Any] = {"state": "none"}
    if layer.ipv4 is not None:
        source, destination = layer.ipv4
        ipv4 = {"state": "resolved" if layer.resolved else "unresolved", "src": source, "dst": destination}
    return {
        "ether": {
            "src": port.info.mac,
            "dst": layer.dst_mac,
            "state": "configured" if layer.resolved else "unconfigured",
        },
        "ipv4": ipv4,
        "ipv6": {"enabled": False},
    }


def _rx_info(state: ServerState, port: Port) -> dict[str, Any]:
    queue = state.captures.queue(port.index)
    features = {name: {"is_active": False} for name in ("grat_arp", "capture_port", "capwap_proxy")}
    queue_info: dict[str, Any] = {"is_active": queue is not None}
    if queue is not None:
        queue_info |= {"count": len(queue), "size": queue.maxlen}
    active = state.groups.any_open()
    return features | {"latency": {"is_active": active}, "queue": queue_info, "stack": {"is_active": True}}


def _get_port_status(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    state.refresh_link(port)
    state.captures.pull()
    status: dict[str, Any] = {
        "owner": port.owner.user if port.owner else "",
        "state": port.state.value,
        "max_stream_id": max((number for one in port.profiles.values() for number in one.streams), default=0),
        "profile_count": len(port.profiles),
        "service": port.service,
        "service_filtered": port.filtered,
        "attr": port.attributes() | {"layer_cfg": _layer_config(port), "vlan": {"tags": port.vlan}},
        "rx_info": _rx_info(state, port),
    }
    if p.has("profile_id"):
        wanted = p.text("profile_id")
        if wanted == ALL_PROFILES:
            status["state_profile"] = {name: profile.state.value for name, profile in port.profiles.items()}
        else:
            status["state_profile"] = port.profile(wanted).state.value
    return status


METHODS = {
    "acquire": Method(_acquire),
    "release": Method(_release, owned=True),
    "get_owner": Method(_get_owner),
    "get_port_status": Method(_get_port_status),
}
