# SPDX-License-Identifier: Apache-2.0
"""How streams of a profile follow each other: link checks and the rate over time (trex-stl-rpc.md 3.4, 3.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.streams import Mode, Stream

#: A burst of fewer packets counts as ``_SMALL`` in the rate graph.
SMALL_BURST = 1000


@dataclass(frozen=True)
class Bandwidth:
    """Packets/s, bits/s with FCS, bits/s with preamble and gap too."""

    pps: float = 0.0
    bps_l2: float = 0.0
    bps_l1: float = 0.0

    def __add__(self, other: Bandwidth) -> Bandwidth:
        return Bandwidth(self.pps + other.pps, self.bps_l2 + other.bps_l2, self.bps_l1 + other.bps_l1)

    def __neg__(self) -> Bandwidth:
        return Bandwidth(-self.pps, -self.bps_l2, -self.bps_l1)

    def peak(self, other: Bandwidth) -> Bandwidth:
        """The larger of each component."""
        return Bandwidth(max(self.pps, other.pps), max(self.bps_l2, other.bps_l2), max(self.bps_l1, other.bps_l1))


_SMALL = Bandwidth(1.0, 14 * 8.0, (14 + 20) * 8.0)


@dataclass(frozen=True)
class RateEvent:
    """At ``time_us`` the offered rate changes by ``change``."""

    time_us: float
    stream_id: int
    change: Bandwidth


@dataclass(frozen=True)
class Graph:
    """Rate of a profile over time. ``variable``: peak of what a multiplier scales; ``fixed``: latency streams.

    ``duration_us``: expected, -1 for endless traffic.
    """

    events: list[RateEvent]
    variable: Bandwidth
    fixed: Bandwidth
    duration_us: float


def bandwidth(stream: Stream, speed_bps: float) -> Bandwidth:
    """What a stream offers while it sends."""
    pps = stream.pps(speed_bps)
    bits = pps * stream.wire_bytes * 8
    return Bandwidth(pps, bits, bits + pps * 160)


def _peak_of(stream: Stream, speed_bps: float) -> Bandwidth:
    if stream.mode is not Mode.CONTINUOUS and stream.burst.packets < SMALL_BURST:
        return _SMALL
    return bandwidth(stream, speed_bps)


def _length_us(stream: Stream, speed_bps: float) -> float:
    """Time a finite stream takes, as TRex's graph counts it: one gap per burst of a multi burst."""
    burst = (stream.burst.packets - 1) / stream.pps(speed_bps) * 1e6
    if stream.mode is Mode.MULTI_BURST:
        return (burst + stream.burst.gap_us) * stream.burst.count
    return burst


class _Walk:
    """Collects the rate events of all chains."""

    def __init__(self, streams: Mapping[int, Stream], speed_bps: float) -> None:
        self.streams = streams
        self.speed = speed_bps
        self.events: list[RateEvent] = []
        self.fixed = Bandwidth()
        self.endless = False

    def chain(self, root: Stream) -> None:
        """Follow one chain from its first stream to its end or its first repetition."""
        seen: set[int] = set()
        offset, stream = 0.0, root
        while True:
            seen.add(stream.stream_id)
            offset = self._play(stream, offset)
            if stream.next_id == -1:
                return
            if stream.next_id in seen:
                self.endless = True
                return
            if stream.next_id not in self.streams:
                raise ExecuteError(f"stream id {stream.next_id} does not exists")
            stream = self.streams[stream.next_id]

    def _play(self, stream: Stream, offset: float) -> float:
        if stream.latency:
            self.fixed = self.fixed + bandwidth(stream, self.speed)
            return offset
        begin, peak = offset + stream.isg_us, _peak_of(stream, self.speed)
        self.events.append(RateEvent(begin, stream.stream_id, peak))
        if stream.mode is Mode.CONTINUOUS:
            self.endless = True
            return begin
        end = begin + _length_us(stream, self.speed)
        self.events.append(RateEvent(end, stream.stream_id, -peak))
        return end


def build_graph(streams: Iterable[Stream], speed_bps: float) -> Graph:
    """The rate graph of the enabled streams that start by themselves and of their successors."""
    enabled = {stream.stream_id: stream for stream in streams if stream.enabled}
    walk = _Walk(enabled, speed_bps)
    for stream in enabled.values():
        if stream.self_start:
            walk.chain(stream)
    events = sorted(walk.events, key=lambda event: event.time_us)
    now = variable = Bandwidth()
    for event in events:
        now = now + event.change
        variable = variable.peak(now)
    last = events[-1].time_us if events else 0.0
    return Graph(events, variable, walk.fixed, -1 if walk.endless else last)


def _next_problem(stream: Stream, streams: Mapping[int, Stream]) -> str:
    number, following = stream.stream_id, streams.get(stream.next_id)
    if following is None:
        return f"stream {number} is pointing to a non-existent stream {stream.next_id}"
    if not following.enabled:
        return f"stream {number} is pointing to disabled stream {stream.next_id}"
    if stream.latency:
        return (
            f"Sequenced stream {number} is pointing to a non-sequenced stream {stream.next_id} (mixing is not allowed)"
        )
    return f"Non-sequenced stream {number} is pointing to a sequenced stream {stream.next_id} (mixing is not allowed)"


def _check_kind(nodes: dict[int, Stream], streams: Mapping[int, Stream]) -> None:
    """Check the links among streams of one kind (latency or not)."""
    for stream in nodes.values():
        if stream.mode is Mode.CONTINUOUS and stream.next_id != -1:
            raise ExecuteError(f"error: continous stream '{stream.stream_id}' cannot point to another stream")
    for stream in nodes.values():
        if stream.next_id == -1:
            continue
        if stream.next_id not in nodes:
            raise ExecuteError("error: " + _next_problem(stream, streams))
        if stream.core != nodes[stream.next_id].core:
            raise ExecuteError(
                f"error: stream {stream.stream_id} points at stream {stream.next_id}, "
                "hence they must be pinned to the same core."
            )
    reached: set[int] = set()
    todo = [stream.stream_id for stream in nodes.values() if stream.self_start]
    while todo:
        number = todo.pop()
        if number not in reached and number in nodes:
            reached.add(number)
            todo.append(nodes[number].next_id)
    lost = [f"stream {number} is unreachable from any other stream\n" for number in nodes if number not in reached]
    if lost:
        raise ExecuteError("error: " + "".join(lost))


def check_links(streams: Mapping[int, Stream]) -> None:
    """Raise ``ExecuteError`` for links that cannot be followed and enabled streams that are never reached."""
    for latency in (False, True):
        nodes = {number: s for number, s in streams.items() if s.enabled and s.latency is latency}
        _check_kind(nodes, streams)
