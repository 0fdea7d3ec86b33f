# SPDX-License-Identifier: Apache-2.0
"""One stream as added by a client: checked, typed, and kept verbatim (trex-stl-rpc.md 3.4)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from harness.generator.xdpgen import field_engine as fe
from harness.generator.xdpgen.contract import MIN_FRAME
from harness.generator.xdpgen.frames import Layout, layout
from harness.generator.xdpgen.rpc.errors import BadParams, ExecuteError
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.vm import MAX_INSTRUCTIONS, parse_instructions

MIN_PACKET, MAX_PACKET = 14, 9238
FCS = 4
_RATE_TYPES = ("pps", "bps_L1", "bps_L2", "percentage")
_KEEP_SRC_MAC = 1
_NULL_STREAM = 8


class Mode(Enum):
    """How many packets a stream sends."""

    CONTINUOUS = "continuous"
    SINGLE_BURST = "single_burst"
    MULTI_BURST = "multi_burst"


@dataclass(frozen=True)
class Rate:
    """A stream's own rate before any multiplier."""

    kind: str
    value: float


@dataclass(frozen=True)
class Burst:
    """Packets per burst, number of bursts, microseconds between them; all 0 for continuous streams."""

    packets: int = 0
    count: int = 0
    gap_us: float = 0.0


@dataclass(frozen=True)
class FlowStats:
    """The packet group a stream counts into; ``latency``: its frames carry the latency header."""

    pgid: int
    latency: bool


@dataclass(frozen=True)
class Stream:
    """One stream. ``source`` is the JSON as received; times in microseconds. ``fix_checksum`` (xdpgen's own): the UDP
    or TCP checksum stays right under what is written over the payload's end as the frame departs, which TRex leaves."""

    stream_id: int
    source: dict[str, Any]
    enabled: bool
    self_start: bool
    start_paused: bool
    flags: int
    action_count: int
    seed: int
    isg_us: float
    next_id: int
    core: int | None
    frame: bytes
    mode: Mode
    burst: Burst
    rate: Rate
    program: tuple[fe.Instruction, ...]
    cache: int
    flow_stats: FlowStats | None
    marked: bool
    fix_checksum: bool = False

    @property
    def latency(self) -> bool:
        """True for streams whose frames carry the latency header; their rate is never scaled."""
        return self.flow_stats is not None and self.flow_stats.latency

    @property
    def null(self) -> bool:
        """True for a dummy stream: it takes its time and sends nothing."""
        return bool(self.flags & _NULL_STREAM)

    @property
    def keeps_src_mac(self) -> bool:
        """True when the source MAC is the packet's own."""
        return bool(self.flags & _KEEP_SRC_MAC)

    @property
    def dst_mac_mode(self) -> int:
        """0: the port's destination MAC, 1: the packet's, 2: ARP."""
        return self.flags >> 1 & 3

    @cached_property
    def layout(self) -> Layout:
        """Where the template's headers lie."""
        return layout(self.frame)

    @cached_property
    def wire_bytes(self) -> float:
        """Mean frame size with FCS; ``ExecuteError`` if a trimming variable allows no length at all."""
        try:
            return fe.mean_length(self.program, len(self.frame)) + FCS
        except fe.FieldEngineError as error:
            raise ExecuteError(f"stream {self.stream_id}: {error}") from error

    def pps(self, speed_bps: float) -> float:
        """Packets per second at a port of ``speed_bps``, before any multiplier."""
        value, size = self.rate.value, self.wire_bytes
        if self.rate.kind == "pps":
            return value
        if self.rate.kind == "bps_L2":
            return value / (8 * size)
        bits = value if self.rate.kind == "bps_L1" else value / 100 * speed_bps
        return bits / (8 * (size + 20))


def _mode(p: Params) -> tuple[Mode, Burst]:
    kind = p.text("type")
    if kind == Mode.CONTINUOUS.value:
        return Mode.CONTINUOUS, Burst()
    if kind == Mode.SINGLE_BURST.value:
        packets = p.u32("total_pkts")
        if not packets:
            raise BadParams("single_burst: 'total_pkts' cannot be zero.")
        return Mode.SINGLE_BURST, Burst(packets, 1)
    if kind == Mode.MULTI_BURST.value:
        gap, count, packets = p.positive("ibg"), p.u32("count"), p.u32("pkts_per_burst")
        if not packets:
            raise BadParams("multi_burst: 'pkts_per_burst' cannot be zero.")
        return Mode.MULTI_BURST, Burst(packets, count, gap)
    raise BadParams(f"bad stream type provided: '{kind}'")


def _rate(p: Params) -> Rate:
    value = p.positive("value")
    kind = p.choice("type", _RATE_TYPES)
    if value <= 0:
        raise ExecuteError("Rate value should be positive.")
    return Rate(kind, value)


def _packet(p: Params) -> bytes:
    p.text("meta", "")
    try:
        frame = base64.b64decode(p.text("binary"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadParams("packet 'binary' is not base64") from error
    if not MIN_PACKET <= len(frame) <= MAX_PACKET:
        raise BadParams(f"Bad packet size provided: {len(frame)}. Should be between {MIN_PACKET} and {MAX_PACKET}")
    return frame.ljust(MIN_FRAME, b"\0")


def _flow_stats(p: Params, pinned: bool) -> FlowStats | None:
    if not p.boolean("enabled"):
        return None
    pgid = p.u32("stream_id")
    vxlan = p.boolean("vxlan", False)
    if p.boolean("ieee_1588", False):
        raise ExecuteError("Driver doesn't support IEEE-1588.")
    kind = p.text("rule_type")
    if kind != "stats" and pinned:
        raise ExecuteError("Core ID pinning is not supported for sequenced streams.")
    if kind == "tpg":
        raise ExecuteError("Trying to add a TPG stream but TPG isn't enabled in this port.")
    if kind not in ("stats", "latency"):
        raise ExecuteError(f"unknown flow_stats rule_type '{kind}'")
    if vxlan:
        raise ExecuteError("Driver doesn't support VXLAN flow statistics.")
    return FlowStats(pgid, kind == "latency")


def _core(p: Params, cores: int) -> int | None:
    core = p.i32("core_id", -1)
    if core < 0:
        return None
    if core >= cores:
        if cores == 1:
            raise ExecuteError("There is only one core, hence core ID must be 0.")
        raise ExecuteError(f"Core ID is: {core}. It must be an integer between 0 and {cores - 1} (inclusive).")
    return core


def _extra(p: Params, name: str) -> bool:
    """A member that only xdpgen knows."""
    return p.has("xdpgen") and p.object("xdpgen").boolean(name, False)


def parse_stream(stream_id: int, source: Params, cores: int) -> Stream:
    """A stream from its JSON. ``cores``: number of sending cores.

    Raises ``ExecuteError`` for everything that is wrong with it: TRex reports bad members of a stream so.
    """
    try:
        mode_json = source.object("mode")
        mode, burst = _mode(mode_json)
        rate = _rate(mode_json.object("rate"))
        vm = source.object("vm")
        core = _core(source, cores)
        return Stream(
            stream_id=stream_id,
            source=source.members,
            enabled=source.boolean("enabled"),
            self_start=source.boolean("self_start"),
            start_paused=source.boolean("start_paused", False),
            flags=source.i32("flags"),
            action_count=source.u32("action_count"),
            seed=source.u32("random_seed", 0),
            isg_us=source.positive("isg"),
            next_id=source.i32("next_stream_id"),
            core=core,
            frame=_packet(source.object("packet")),
            mode=mode,
            burst=burst,
            rate=rate,
            program=parse_instructions(vm.array("instructions", MAX_INSTRUCTIONS)),
            cache=vm.u16("cache", 0),
            flow_stats=_flow_stats(source.object("flow_stats"), core is not None),
            marked=_extra(source, "mark"),
            fix_checksum=_extra(source, "fix_checksum"),
        )
    except BadParams as error:
        raise ExecuteError(str(error)) from error
