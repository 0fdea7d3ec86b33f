# SPDX-License-Identifier: Apache-2.0
"""Frames sent and captured one by one: ``push_pkts`` and ``capture`` (trex-stl-rpc.md 3.3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from harness.generator.xdpgen.contract import MIN_FRAME
from harness.generator.xdpgen.frames import mac_bytes
from harness.generator.xdpgen.rpc.bpf_filter import BpfFilter, FilterError
from harness.generator.xdpgen.rpc.captures import MAX_FRAMES, Capture
from harness.generator.xdpgen.rpc.errors import BadParams, ExecuteError
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.ports import Port
from harness.generator.xdpgen.rpc.state import PendingSend, ServerState
from harness.generator.xdpgen.rpc.streams import MAX_PACKET, MIN_PACKET

#: A push may take so long in all (seconds), as in TRex.
_MAX_PUSH = 1.0
_MAX_PUSHED = 10_000
#: Bytes of captured frames that one fetch returns at most, so that the reply comes in time.
_FETCH_BYTES = 4 << 20


def _frame(port: Port, p: Params) -> bytes:
    try:
        frame = base64.b64decode(p.text("binary"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadParams("packet 'binary' is not base64") from error
    if not MIN_PACKET <= len(frame) <= MAX_PACKET:
        raise ExecuteError(f"Bad packet size provided: {len(frame)}. Should be between {MIN_PACKET} and {MAX_PACKET}")
    dst = mac_bytes(port.layer.dst_mac) if p.boolean("use_port_dst_mac", False) else frame[:6]
    src = mac_bytes(port.info.mac) if p.boolean("use_port_src_mac", False) else frame[6:12]
    return (dst + src + frame[12:]).ljust(MIN_FRAME, b"\0")


def _push_pkts(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    p.boolean("force", False)
    gap = p.positive("ipg_usec", 0) / 1e6
    items = p.array("pkts", _MAX_PUSHED)
    if gap * len(items) > _MAX_PUSH:
        raise BadParams("TX batch total transmit time exceeds the limit of 1 second")
    if not all(isinstance(item, dict) for item in items):
        raise BadParams("'pkts' must be a list of objects")
    frames = [_frame(port, Params(item)) for item in items]
    now = state.now()
    state.pending += [PendingSend(now + number * gap, port.index, frame) for number, frame in enumerate(frames)]
    state.pending.sort(key=lambda one: one.due)
    send_due(state)
    return {"sent": len(frames), "ts": now}


def send_due(state: ServerState) -> None:
    """Hand pushed frames whose time has come to the dataplane."""
    now = state.now()
    while state.pending and state.pending[0].due <= now:
        port = state.pending[0].port
        frames = []
        while state.pending and state.pending[0].due <= now and state.pending[0].port == port:
            frames.append(state.pending.pop(0).frame)
        state.dataplane.send(port, frames)


def _ports(state: ServerState, p: Params, name: str) -> frozenset[int]:
    chosen = frozenset(p.whole_numbers(name, limit=256))
    if not chosen <= set(state.ports):
        raise ExecuteError("invalid port id - should be: " + " ".join(str(known) for known in state.ports))
    return chosen


def _start(state: ServerState, p: Params) -> Any:
    limit, mode = p.u32("limit"), p.choice("mode", ("fixed", "cyclic"))
    if not 1 <= limit <= MAX_FRAMES:
        raise BadParams(f"'limit' must be 1 to {MAX_FRAMES}")
    if p.text("endpoint", ""):
        raise ExecuteError("capture endpoints are not implemented by xdpgen")
    tx, rx = _ports(state, p, "tx"), _ports(state, p, "rx")
    if not tx | rx:
        raise BadParams("a capture needs at least one TX or RX port")
    expression = p.text("filter", "")
    try:
        pattern = BpfFilter(expression)
    except FilterError as error:
        raise BadParams(f"BPF filter: {error}") from error
    state.captures.pull()
    now = state.now()
    capture = Capture(
        capture_id=state.captures.next_id(),
        limit=limit,
        cyclic=mode == "cyclic",
        tx=tx,
        rx=rx,
        pattern=pattern,
        snaplen=p.u32("snaplen", 0),
        started=now,
    )
    state.captures.add(capture)
    return {"capture_id": capture.capture_id, "start_ts": now}


def _stop(state: ServerState, p: Params) -> Any:
    capture = state.captures.stop(p.u32("capture_id"))
    return {"pkt_count": len(capture.frames), "endpoint": ""}


def _fetch(state: ServerState, p: Params) -> Any:
    state.captures.pull()
    capture = state.captures.get(p.u32("capture_id"))
    wanted, snaplen = p.u32("pkt_limit"), p.u32("snaplen", 0)
    packets: list[dict[str, Any]] = []
    size = 0
    while capture.frames and len(packets) < wanted and size < _FETCH_BYTES:
        frame = capture.frames.popleft()
        size += len(frame.data)
        packets.append(frame.reply(snaplen or capture.snaplen))
    capture.fetched += len(packets)
    return {"pkts": packets, "pending": len(capture.frames), "start_ts": capture.started}


def _status(state: ServerState, p: Params) -> Any:
    state.captures.pull()
    return [capture.status() for capture in state.captures.all()]


def _remove(state: ServerState, p: Params) -> Any:
    state.captures.remove(p.u32("capture_id"))
    return {}


_COMMANDS: dict[str, Callable[[ServerState, Params], Any]] = {
    "start": _start,
    "stop": _stop,
    "fetch": _fetch,
    "status": _status,
    "remove": _remove,
}


def _capture(state: ServerState, p: Params) -> Any:
    return _COMMANDS[p.choice("command", tuple(_COMMANDS))](state, p)


METHODS = {"push_pkts": Method(_push_pkts), "capture": Method(_capture)}
