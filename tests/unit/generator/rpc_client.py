# SPDX-License-Identifier: Apache-2.0
"""A server on a simulated dataplane with direct calls, for tests of what methods do. No socket, virtual time."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from harness.generator.xdpgen.rpc.dispatch import RpcCore
from harness.generator.xdpgen.rpc.state import ServerState
from tests.unit.generator.simulated import SimulatedDataplane

#: Ethernet, IPv4 16.0.0.1 -> 48.0.0.1, UDP 1025 -> 12 without checksum, 18 bytes of payload.
FRAME = (
    bytes.fromhex("02000000100102000000100008004500002e0001000040113abd10000001300000010401000c001a0000") + b"x" * 18
)


class Refused(Exception):
    """An error reply."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("specific_err") or error["message"])
        self.code = error["code"]


def cont(pps: float) -> dict[str, Any]:
    """A continuous mode."""
    return {"type": "continuous", "rate": {"type": "pps", "value": pps}}


def burst(pps: float, packets: int) -> dict[str, Any]:
    """A single burst."""
    return {"type": "single_burst", "total_pkts": packets, "rate": {"type": "pps", "value": pps}}


def multi(pps: float, packets: int, count: int, gap_us: float) -> dict[str, Any]:
    """Several bursts."""
    rate = {"type": "pps", "value": pps}
    return {"type": "multi_burst", "pkts_per_burst": packets, "count": count, "ibg": gap_us, "rate": rate}


def stats(pgid: int, rule: str = "stats") -> dict[str, Any]:
    """Flow statistics of a stream."""
    return {"enabled": True, "rule_type": rule, "stream_id": pgid}


def stream(mode: dict[str, Any], frame: bytes = FRAME, vm: Sequence[Any] = (), **members: Any) -> dict[str, Any]:
    """A stream's JSON with TRex's defaults."""
    return {
        "flags": 3, "action_count": 0, "enabled": True, "self_start": True, "isg": 0.0, "next_stream_id": -1,
        "mode": mode, "packet": {"binary": base64.b64encode(frame).decode(), "meta": ""},
        "vm": {"instructions": list(vm)}, "flow_stats": {"enabled": False},
    } | members  # fmt: skip


class Direct:
    """Both ports acquired by one session; calls are methods."""

    session = 7

    def __init__(self, ports: int = 2, cores: Sequence[int] = (0,), **state: Any) -> None:
        self.dataplane = SimulatedDataplane(ports, cores)
        self.state = ServerState(self.dataplane, **state)
        self.core = RpcCore(self.state)
        self.handlers: dict[int, str] = {}
        for port in range(ports):
            acquired = self.call("acquire", port_id=port, user="t", session_id=self.session, force=False)
            self.handlers[port] = acquired
        self.events()

    def call(self, method: str, **params: Any) -> Any:
        """The result of a request; ``Refused`` if there is none."""
        members = {"api_h": self.state.api_handle} | params
        if "port_id" in params and "handler" not in params and hasattr(self, "handlers"):
            members["handler"] = self.handlers.get(params["port_id"], "")
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": members}
        reply = json.loads(self.core.handle(json.dumps(request).encode()))
        if "error" in reply:
            raise Refused(reply["error"])
        return reply["result"]

    def add(self, number: int, members: dict[str, Any], port: int = 0, **params: Any) -> None:
        """Add a stream."""
        self.call("add_stream", port_id=port, stream_id=number, stream=members, **params)

    def start(self, port: int = 0, kind: str = "raw", value: float = 1, duration: float = -1, **params: Any) -> Any:
        """Start traffic."""
        mul = {"type": kind, "op": "abs", "value": value}
        defaults = {"mul": mul, "duration": duration, "force": False}
        return self.call("start_traffic", port_id=port, **(defaults | params))

    def run(self, seconds: float) -> None:
        """Let virtual time pass, with the looks that the server takes on its own."""
        end = self.dataplane.now() + seconds
        while (due := self.core.next_due()) is not None and due < end:
            self.dataplane.clock = max(self.dataplane.clock, due)
            self.core.tick()
        self.dataplane.clock = end
        self.core.tick()

    def events(self) -> list[tuple[int, Any]]:
        """Type and profile (or port) of the events since the last call."""
        data = self.call("get_async_events", session_id=self.session, user="sub")["data"]
        return [(one["type"], one["data"].get("profile_id", one["data"].get("port_id"))) for one in data]

    def status(self, port: int = 0) -> Any:
        """Port status with all profiles."""
        return self.call("get_port_status", port_id=port, profile_id="*")
