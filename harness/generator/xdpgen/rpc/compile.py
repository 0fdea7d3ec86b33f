# SPDX-License-Identifier: Apache-2.0
"""Streams of a profile to what the dataplane sends: chains unrolled into bursts, templates into header tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.generator.xdpgen import field_engine as fe
from harness.generator.xdpgen.contract import TRAILER, TxStream
from harness.generator.xdpgen.frames import IPPROTO_TCP, IPPROTO_UDP, clear_flow_id, mac_bytes, write_flow_id
from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.streams import Mode, Stream
from harness.generator.xdpgen.toeplitz import sending_cores

#: Bursts that one start may be unrolled into, over all chains of a profile.
MAX_SEGMENTS = 256


@dataclass(frozen=True)
class Segment:
    """One uninterrupted piece of a stream: first packet at ``delay_s``, ``packets`` of them (None: endless).

    ``first``: how many packets of the stream's sequence went before.
    """

    stream: Stream
    delay_s: float
    packets: int | None
    first: int
    pps: float


@dataclass(frozen=True)
class PortFacts:
    """What a template takes from its port."""

    index: int
    src_mac: str
    dst_mac: str
    cores: tuple[int, ...]


@dataclass(frozen=True)
class GroupSlot:
    """Where a packet group counts: the dataplane's group number and the id written into packets."""

    number: int
    ip_id: int


class _Unroller:
    """Follows the chains of a profile."""

    def __init__(self, streams: Mapping[int, Stream], pps: Callable[[Stream], float]) -> None:
        self.streams = streams
        self.pps = pps
        self.segments: list[Segment] = []

    def chain(self, root: Stream) -> None:
        """All segments from a stream that starts by itself."""
        plays: dict[int, int] = {}
        at, stream = 0.0, root
        while True:
            at = self._play(stream, at)
            plays[stream.stream_id] = plays.get(stream.stream_id, 0) + 1
            ended = stream.action_count and plays[stream.stream_id] >= stream.action_count
            if stream.next_id == -1 or ended:
                return
            if len(self.segments) > MAX_SEGMENTS or plays[stream.stream_id] > MAX_SEGMENTS:
                raise ExecuteError(
                    f"stream {stream.stream_id}: chains of more than {MAX_SEGMENTS} bursts (or endless ones) are not "
                    "implemented by xdpgen: use a continuous stream or an action_count"
                )
            stream = self.streams[stream.next_id]

    def _play(self, stream: Stream, at: float) -> float:
        pps = self.pps(stream)
        begin = at + stream.isg_us / 1e6
        if stream.mode is Mode.CONTINUOUS:
            self._add(Segment(stream, begin, None, 0, pps))
            return begin
        burst = stream.burst
        if not burst.count or burst.count > MAX_SEGMENTS:
            raise ExecuteError(
                f"stream {stream.stream_id}: a multi_burst of {burst.count or 'endless'} bursts is not implemented by "
                f"xdpgen; at most {MAX_SEGMENTS} are"
            )
        length = (burst.packets - 1) / pps
        for number in range(burst.count):
            delay = begin + number * (length + burst.gap_us / 1e6)
            self._add(Segment(stream, delay, burst.packets, number * burst.packets, pps))
        return begin + burst.count * length + (burst.count - 1) * burst.gap_us / 1e6

    def _add(self, segment: Segment) -> None:
        if segment.stream.null:
            return
        self.segments.append(segment)


def unroll(streams: Mapping[int, Stream], pps: Callable[[Stream], float]) -> list[Segment]:
    """Segments of the enabled streams. ``pps``: the rate each stream sends at.

    Raises ``ExecuteError`` for chains that are too long, and for latency streams of more than one burst: their
    sequence numbers would begin anew with each.
    """
    enabled = {number: stream for number, stream in streams.items() if stream.enabled}
    unroller = _Unroller(enabled, pps)
    for stream in enabled.values():
        if stream.self_start:
            unroller.chain(stream)
    seen: set[int] = set()
    for segment in unroller.segments:
        number = segment.stream.stream_id
        if segment.stream.latency and number in seen:
            raise ExecuteError(f"stream {number}: a latency stream of more than one burst is not implemented by xdpgen")
        seen.add(number)
    return unroller.segments


def template_of(stream: Stream, port: PortFacts, slot: GroupSlot | None) -> bytes:
    """The frame with the port's MACs where the stream asks for them, and the group's id."""
    dst = stream.frame[:6] if stream.dst_mac_mode == 1 else mac_bytes(port.dst_mac)
    src = stream.frame[6:12] if stream.keeps_src_mac else mac_bytes(port.src_mac)
    frame = dst + src + stream.frame[12:]
    return clear_flow_id(frame) if slot is None else write_flow_id(frame, slot.ip_id)


def _rolled(rows: npt.NDArray[np.uint8], first: int) -> npt.NDArray[np.uint8]:
    return np.roll(rows, -(first % len(rows)), axis=0) if first % len(rows) else rows


#: Where UDP and TCP keep their checksum, from the start of their header.
_CHECKSUM = {IPPROTO_UDP: 6, IPPROTO_TCP: 16}


def _checksum_at(stream: Stream) -> int | None:
    """Offset of the checksum that is to be kept right; ``ExecuteError`` where there is none, or where the trailer would
    lie over the headers."""
    if not stream.fix_checksum:
        return None
    place = stream.layout
    if place.l4 is None or place.proto not in _CHECKSUM:
        raise ExecuteError(f"stream {stream.stream_id}: fix_checksum needs a UDP or TCP header")
    at = place.l4 + _CHECKSUM[place.proto]
    if len(stream.frame) - TRAILER < at + 2:
        raise ExecuteError(f"stream {stream.stream_id}: a frame of {len(stream.frame)} bytes has no room for the "
                           f"{TRAILER} bytes written over its payload's end")
    return at


def _trailer(stream: Stream, template: bytes) -> str | None:
    if stream.latency:
        return "latency"
    if stream.marked and len(template) >= TRAILER:
        return "mark"
    return None


Built = tuple[bytes, fe.Table, npt.NDArray[np.uint16]]


class BuiltTables:
    """Tables of a profile's streams from earlier starts: a million flows take half a second to prepare."""

    def __init__(self) -> None:
        self._built: dict[int, tuple[object, Stream, Built]] = {}

    def get(self, stream: Stream, key: object) -> Built | None:
        """What was built for this very stream under this key."""
        found = self._built.get(stream.stream_id)
        return found[2] if found is not None and found[0] == key and found[1] is stream else None

    def put(self, stream: Stream, key: object, built: Built) -> None:
        """Remember the latest table of a stream."""
        self._built[stream.stream_id] = key, stream, built

    def keep(self, streams: Mapping[int, Stream]) -> None:
        """Forget streams that are gone."""
        self._built = {number: entry for number, entry in self._built.items() if streams.get(number) is entry[1]}


class Tables:
    """Header tables and sending cores of streams, as a port's start needs them; ``built``: those of earlier starts."""

    def __init__(self, port: PortFacts, built: BuiltTables) -> None:
        self.port = port
        self._built = built

    def of(self, stream: Stream, slot: GroupSlot | None) -> Built:
        """Template, table and the sending core of every row; ``ExecuteError`` for programs that cannot be built."""
        key = self.port, slot
        built = self._built.get(stream, key)
        if built is None:
            template = template_of(stream, self.port, slot)
            if _checksum_at(stream) is not None:  # the sums are prepared without what is written live
                template = template[:-TRAILER] + bytes(TRAILER)
            packets = stream.burst.packets * stream.burst.count
            try:
                table = fe.build_table(template, stream.program, stream.cache, stream.seed, packets)
            except fe.FieldEngineError as error:
                raise ExecuteError(f"stream {stream.stream_id}: {error}") from error
            allowed: Sequence[int] = self.port.cores if stream.core is None else (stream.core,)
            cores = sending_cores(table.headers, template, allowed)
            built = template, table, cores
            self._built.put(stream, key, built)
        return built


def tx_stream(segment: Segment, key: int, tables: Tables, slot: GroupSlot | None) -> TxStream:
    """One segment for the dataplane."""
    stream = segment.stream
    template, table, cores = tables.of(stream, slot)
    rolled = segment.first % len(table.headers)
    return TxStream(
        key=key,
        port=tables.port.index,
        template=template,
        headers=_rolled(table.headers, rolled),
        cores=np.roll(cores, -rolled),
        lengths=None if table.lengths is None else np.roll(table.lengths, -rolled),
        pps=0.0 if stream.start_paused else segment.pps,
        trailer=_trailer(stream, template),
        group=None if slot is None else slot.number,
        ip_id=None if slot is None else slot.ip_id,
        checksum_at=_checksum_at(stream),
        total=segment.packets,
        delay_s=segment.delay_s,
    )
