# SPDX-License-Identifier: Apache-2.0
"""The exchanges recorded from a real TRex v3.08 server, and how they are played against another server.

What the recording leaves out (requests that were not written down, waiting times) is added from the tables here.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.generator.xdpgen.rpc.codec import MAX_REQUEST, encode
from harness.generator.xdpgen.rpc.dispatch import RpcCore
from harness.generator.xdpgen.rpc.state import ServerState
from tests.unit.generator.simulated import SimulatedDataplane

RECORDING = Path(__file__).parents[2] / "data" / "trex-v3.08-rpc.jsonl"
#: Line before which the real server was restarted.
_RESTART = 59
#: Line -> seconds that passed before it, where it matters (traffic runs or ends).
_WAITED = {
    102: 3.0, 158: 1.7, 189: 1.0, 204: 1.0, 215: 1.3, 216: 1.3, 283: 0.1, 298: 0.1, 309: 2.0, 314: 0.8, 355: 1.5,
    360: 3.0, 362: 1.0, 367: 1.2, 375: 0.1, 404: 3.0, 409: 1.0,
}  # fmt: skip
_LATENCY_GROUPS_UNRECORDED = 130


@dataclass
class Exchange:
    """One recorded request with its reply."""

    line: int
    method: str
    params: dict[str, Any]
    reply: Any


@dataclass
class Played:
    """A recorded exchange and what our server answered."""

    exchange: Exchange
    ours: Any


def exchanges() -> list[Exchange]:
    """All recorded exchanges in order."""
    lines = RECORDING.read_text(encoding="utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    return [Exchange(number, one["method"], one["params"], one["reply"]) for number, one in enumerate(items)]


@dataclass
class Player:
    """Plays the recording against a server on a simulated dataplane."""

    dataplane: SimulatedDataplane = field(default_factory=SimulatedDataplane)
    link: bool = True
    #: Recorded handles and port handlers -> ours. (One of each has the same text in the recording.)
    handles: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A fresh server."""
        self.dataplane = SimulatedDataplane()
        self.state = ServerState(self.dataplane, link_up=lambda name: self.link or name != "sim0")
        self.core = RpcCore(self.state)
        self.ping_offset = 0.0

    def play(self) -> Iterator[Played]:
        """Every recorded exchange with our reply."""
        for exchange in exchanges():
            if exchange.line == _RESTART:
                self.restart()
            self._unrecorded(exchange.line)
            self.dataplane.advance(_WAITED.get(exchange.line, 0.001))
            ours = self._ask(exchange)
            self._learn(exchange, ours)
            yield Played(exchange, ours)

    def call(self, method: str, **params: Any) -> Any:
        """One request of ours; the result."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"api_h": self.state.api_handle}}
        reply = json.loads(self.core.handle(json.dumps(message).encode()))
        assert "result" in reply, (method, reply)
        return reply["result"]

    def _ask(self, exchange: Exchange) -> Any:
        if exchange.method == "(raw)":
            return self._ask_raw(exchange.params)
        request = {"jsonrpc": "2.0", "id": exchange.reply["id"], "method": exchange.method}
        request["params"] = self._translated(exchange)
        return json.loads(self.core.handle(json.dumps(request).encode()))

    def _ask_raw(self, params: dict[str, Any]) -> Any:
        if params["raw"].startswith("1 100 068"):
            plain = b"[" + b" " * (1_100_068 - 2) + b"]"
            assert len(plain) > MAX_REQUEST
        else:
            plain = params["raw"].encode()
        if not params["zipped_request"]:
            return json.loads(self.core.handle(plain))
        head = encode(None, zipped=True)[:4] + len(plain).to_bytes(4, "big")
        answer = self.core.handle(head + zlib.compress(plain))
        zipped = answer.startswith(head[:4])
        return json.loads(zlib.decompress(answer[8:]) if zipped else answer)

    def _translated(self, exchange: Exchange) -> dict[str, Any]:
        params = dict(exchange.params)
        for name, known in (("api_h", self.handles), ("handler", self.names)):
            if name in params:
                params[name] = known.get(params[name], params[name])
        if params.get("start_at_ts"):
            params["start_at_ts"] += self.ping_offset
        return params

    def _learn(self, exchange: Exchange, ours: Any) -> None:
        """Remember what the two servers call the same thing."""
        if not isinstance(exchange.reply, dict) or "result" not in exchange.reply or "result" not in ours:
            return
        if exchange.method == "api_sync_v2":
            self.handles[exchange.reply["result"]["api_h"]] = ours["result"]["api_h"]
        if exchange.method == "acquire":
            self.names[exchange.reply["result"]] = ours["result"]
        if exchange.method == "ping":
            self.ping_offset = ours["result"]["ts"] - exchange.reply["result"]["ts"]

    def _take(self, session: int, user: str, handlers: list[str]) -> None:
        for port, handler in enumerate(handlers):
            params = {"port_id": port, "user": user, "session_id": session, "force": True}
            self.names[handler] = self.call("acquire", **params)

    def _unrecorded(self, line: int) -> None:
        """Requests that must have been made although they are not in the recording."""
        if line == 181:
            self._take(847847023, "alice", ["Di0KyF77", "HshFdIh7"])
        elif line == 289:
            self.call("capture", command="stop", capture_id=2)
        elif line == 290:
            self.call("capture", command="remove", capture_id=2)
        elif line == 291:
            self.call("capture", command="stop", capture_id=3)
        elif line == 292:
            self.call("capture", command="remove", capture_id=3)
        elif line == 321:
            self._take(862296020, "alice", ["024ocCu6", "unused-1"])
            self.call("remove_all_streams", port_id=0, handler=self.names["024ocCu6"])
            self.call("get_async_events", session_id=862296020, user="sub")
        elif line == 357:
            self.call("remove_all_streams", port_id=0, handler=self.names["024ocCu6"])
            self._take(1822175168, "alice", ["uhl3cCCs", "UbvIkGAc"])
            self.call("get_async_events", session_id=1822175168, user="sub")
        elif line in (392, 393):
            self.link = line == 393
        elif line == 394:
            self._many_latency_streams()
        elif line == 400:
            self._take(559364389, "alice", ["yf6VsLpX", "L3x1Qh4V"])
            self.call("get_async_events", session_id=559364389, user="sub")
            self.call("remove_all_streams", port_id=0, handler=self.names["yf6VsLpX"])

    def _many_latency_streams(self) -> None:
        frame = base64.b64encode(bytes(12) + b"\x08\x00\x45" + bytes(45)).decode()
        for number in range(1, _LATENCY_GROUPS_UNRECORDED + 1):
            stream = {
                "flags": 3, "action_count": 0, "enabled": True, "self_start": True, "isg": 0.0, "next_stream_id": -1,
                "mode": {"type": "continuous", "rate": {"type": "pps", "value": 1}},
                "packet": {"binary": frame, "meta": ""}, "vm": {"instructions": []},
                "flow_stats": {"enabled": True, "rule_type": "latency", "stream_id": 1000 + number},
            }  # fmt: skip
            handler = self.names["uhl3cCCs"]
            self.call("add_stream", port_id=0, handler=handler, stream_id=number, stream=stream)
