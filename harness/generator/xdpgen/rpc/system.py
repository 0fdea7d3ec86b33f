# SPDX-License-Identifier: Apache-2.0
"""Handshake and facts about the server (trex-stl-rpc.md 2)."""

from __future__ import annotations

import datetime
import platform
import socket
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness import __version__
from harness.generator.xdpgen.rpc.errors import BadParams, ExecuteError
from harness.generator.xdpgen.rpc.events import EventType
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.ports import Port
from harness.generator.xdpgen.rpc.state import ServerState

API_NAME, API_MAJOR, API_MINOR = "STL", 5, 1
#: The version clients compare with theirs; the suffix says what this really is.
VERSION = "v3.08-xdpgen"


def _check_api(name: str, major: int, minor: int) -> None:
    if name != API_NAME:
        raise ExecuteError(
            f"RPC configuration mismatch - server RPC configuration: '{API_NAME}', client RPC configuration: '{name}'"
        )
    detail = f"\n(API type '{API_NAME}':  - server: '{API_MAJOR}.{API_MINOR}', client: '{major}.{minor}')"
    if major < API_MAJOR:
        raise ExecuteError("RPC version mismatch: a newer client version is required" + detail)
    if (major, minor) > (API_MAJOR, API_MINOR):
        raise ExecuteError("Version mismatch: your client version is too new to be supported by the server" + detail)


def _api_sync_v2(state: ServerState, p: Params) -> Any:
    _check_api(p.text("name"), p.i32("major"), p.i32("minor"))
    return {"api_h": state.api_handle}


def _api_sync(state: ServerState, p: Params) -> Any:
    versions = p.array("api_vers", 1)
    if len(versions) != 1 or not isinstance(versions[0], dict):
        raise BadParams("'api_vers' should be a list of size 1")
    version = Params(versions[0])
    kind = version.text("type")
    _check_api(API_NAME, version.i32("major"), version.i32("minor"))
    return {"api_vers": [{"type": kind, "api_h": state.api_handle}]}


def _get_version(state: ServerState, p: Params) -> Any:
    started = datetime.datetime.fromtimestamp(state.started)
    return {
        "version": VERSION,
        "mode": API_NAME,
        "build_date": started.strftime("%b %d %Y"),
        "build_time": started.strftime("%H:%M:%S"),
        "built_by": f"xdpgen {__version__}",
    }


@lru_cache(maxsize=1)
def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _port_info(state: ServerState, port: Port) -> dict[str, Any]:
    info = port.info
    unsupported = ("link", "fc", "led", "vxlan", "ieee1588")
    return {
        "index": info.index,
        "driver": info.driver,
        "description": info.ifname,
        "hw_mac": info.mac,
        "pci_addr": "N/A",
        "numa": -1,
        "stack": "legacy",
        "cores": list(range(len(state.dataplane.cores))),
        "supp_speeds": [],
        "is_virtual": True,
        "is_prom_supported": True,
        **{f"is_{feature}_supported": False for feature in unsupported},
        "rx": {"caps": ["flow_stats", "latency", "rx_bytes"], "counters": 1023},
    }


def _get_system_info(state: ServerState, p: Params) -> Any:
    cores = len(state.dataplane.cores)
    return {
        "hostname": socket.gethostname(),
        "uptime": datetime.datetime.fromtimestamp(state.started).strftime("%b %d %Y @ %H:%M:%S"),
        "core_type": _cpu_model(),
        "dp_core_count": cores,
        "dp_core_count_per_port": cores,
        "is_multiqueue_mode": False,
        "advanced_per_stream_stats": True,
        "port_count": len(state.ports),
        "ports": [_port_info(state, port) for port in state.ports.values()],
    }


def _ping(state: ServerState, p: Params) -> Any:
    return {"ts": state.now()}


def _publish_now(state: ServerState, p: Params) -> Any:
    p.u32("key")
    p.boolean("baseline", False)
    state.events.wake()
    return {}


def _get_async_events(state: ServerState, p: Params) -> Any:
    p.text("user", "")
    for port in state.ports.values():
        state.refresh_link(port)
    return {"data": state.events.take(p.u32("session_id"))}


def _shutdown(state: ServerState, p: Params) -> Any:
    user, force = p.text("user"), p.boolean("force")
    for port in state.ports.values():
        if port.owner is not None and not force:
            raise ExecuteError(f"port {port.index} is owned by '{port.owner.user}' - specify 'force' for override")
    state.events.emit(EventType.SERVER_STOPPED, {"cause": f"RPC server has received 'shutdown' request from {user}"})
    state.shutdown = True
    return {}


_NO_TPG = {
    "enabled": False,
    "data": {"acquired_ports": [], "rx_ports": [], "username": "-", "num_tpgids": 0, "num_tags": 0},
}


def _get_tpg_status(state: ServerState, p: Params) -> Any:
    if p.has("port_id"):
        state.port(p)
    return _NO_TPG


METHODS = {
    "api_sync": Method(_api_sync, api=False),
    "api_sync_v2": Method(_api_sync_v2, api=False),
    "get_version": Method(_get_version, api=False),
    "ping": Method(_ping, api=False),
    "get_system_info": Method(_get_system_info),
    "get_tpg_status": Method(_get_tpg_status),
    "publish_now": Method(_publish_now),
    "get_async_events": Method(_get_async_events),
    "shutdown": Method(_shutdown),
}
