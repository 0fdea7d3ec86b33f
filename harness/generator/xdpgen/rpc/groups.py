# SPDX-License-Identifier: Apache-2.0
"""Packet groups: which streams count into which, and the dataplane's counters behind them (trex-stl-rpc.md 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from harness.generator.xdpgen.contract import Dataplane, GroupCounters
from harness.generator.xdpgen.frames import FLOW_ID_BASE, FLOW_ID_LATENCY
from harness.generator.xdpgen.rpc.compile import GroupSlot
from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.smoothing import LazyRate
from harness.generator.xdpgen.rpc.streams import FlowStats, Stream

#: Counters for latency and for flow statistics that can be in use at once.
LATENCY_SLOTS = 128
STATS_SLOTS = 1023

#: Port, profile, stream id.
Member = tuple[int, str, int]


@dataclass
class Group:
    """One packet group; ``slot`` is None until traffic of it was started."""

    pgid: int
    latency: bool
    protocol: tuple[int, int]
    version: int
    members: set[Member] = field(default_factory=set)
    slot: GroupSlot | None = None
    rates: dict[tuple[str, int], LazyRate] = field(default_factory=dict)

    def rate(self, name: str, port: int) -> LazyRate:
        """The lazily sampled rate of one counter at one port."""
        return self.rates.setdefault((name, port), LazyRate())


def _protocol(stream: Stream) -> tuple[int, int]:
    return stream.layout.version, stream.layout.proto


class Groups:
    """All packet groups of the server."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._groups: dict[int, Group] = {}
        self._next_version = 0

    def __iter__(self) -> Iterator[Group]:
        return iter(sorted(self._groups.values(), key=lambda group: group.pgid))

    def get(self, pgid: int) -> Group | None:
        """The group of a number, None if no stream belongs to it."""
        return self._groups.get(pgid)

    def select(self, pgids: Iterable[int]) -> list[Group]:
        """The existing groups among ``pgids``; all if empty."""
        wanted = set(pgids) or set(self._groups)
        return [self._groups[pgid] for pgid in sorted(wanted) if pgid in self._groups]

    def check(self, stream: Stream) -> None:
        """Raise ``ExecuteError`` if the stream cannot join its group."""
        if stream.flow_stats is None:
            return
        latency = stream.flow_stats.latency
        if not latency and not stream.layout.version:
            raise ExecuteError("Failed determining l3 proto for packet")
        group = self._groups.get(stream.flow_stats.pgid)
        if group is None:
            return
        if latency and group.latency:
            raise ExecuteError(
                "For payload rules: Can't have two streams with same pg_id, or same stream on more than one port"
            )
        if latency is not group.latency or group.protocol != _protocol(stream):
            raise ExecuteError("Can't use same pg_id for streams with different l4 protocol")

    def join(self, stream: Stream, member: Member) -> None:
        """Add a checked stream to its group; the first one creates it."""
        wanted = stream.flow_stats
        if wanted is None:
            return
        if wanted.pgid not in self._groups:
            group = Group(wanted.pgid, wanted.latency, _protocol(stream), self._next_version)
            self._groups[wanted.pgid] = group
            self._next_version += 1
        self._groups[wanted.pgid].members.add(member)

    def leave(self, wanted: FlowStats | None, member: Member) -> None:
        """Take a stream out; the last one takes the group and its counters along."""
        if wanted is None:
            return
        group = self._groups[wanted.pgid]
        group.members.discard(member)
        if not group.members:
            if group.slot is not None:
                self._dataplane.group_close(group.slot.number)
            del self._groups[wanted.pgid]

    def open(self, wanted: FlowStats) -> GroupSlot:
        """The slot of a group whose traffic starts; ``ExecuteError`` when all counters of the kind are taken."""
        group = self._groups[wanted.pgid]
        if group.slot is None:
            group.slot = self._free_slot(group.latency)
            kind = "latency" if group.latency else "stats"
            self._dataplane.group_open(group.slot.number, kind, group.slot.ip_id)
        return group.slot

    def _free_slot(self, latency: bool) -> GroupSlot:
        taken = {group.slot.number for group in self._groups.values() if group.slot is not None}
        first, count = (0, LATENCY_SLOTS) if latency else (LATENCY_SLOTS, STATS_SLOTS)
        for number in range(first, first + count):
            if number not in taken:
                return GroupSlot(number, FLOW_ID_LATENCY if latency else FLOW_ID_BASE + number - first)
        raise ExecuteError("Failed allocating statistic counter. Probably all are used for this rule type.")

    def renew(self, idle: Callable[[Group], bool]) -> None:
        """Zero the counters of the ``idle`` groups; as a group created anew, each gets a new version."""
        for group in self._groups.values():
            if group.slot is None or not idle(group):
                continue
            self._dataplane.group_close(group.slot.number)
            kind = "latency" if group.latency else "stats"
            self._dataplane.group_open(group.slot.number, kind, group.slot.ip_id)
            group.version, self._next_version = self._next_version, self._next_version + 1
            group.rates.clear()

    def any_open(self) -> bool:
        """True from the first start with flow statistics until the streams are removed."""
        return any(group.slot is not None for group in self._groups.values())

    def counters(self, group: Group) -> GroupCounters:
        """Counters of a group; zero before its first start."""
        if group.slot is None:
            return GroupCounters()
        return self._dataplane.group_counters(group.slot.number)

    def restart_rates(self, now: float, moving: Callable[[Group], bool]) -> None:
        """Begin new rate windows for the groups whose traffic starts now."""
        for group in self._groups.values():
            if moving(group):
                group.rates.clear()
                self.sample(group, now)

    def sample(self, group: Group, now: float) -> dict[str, dict[int, float]]:
        """Rates by counter name (``tp tb rp rb``, per second) and port."""
        counters = self.counters(group)
        rates: dict[str, dict[int, float]] = {}
        for info in self._dataplane.ports:
            sent, received = counters.tx.get(info.index, (0, 0)), counters.rx.get(info.index, (0, 0))
            for name, value in zip(("tp", "tb", "rp", "rb"), (*sent, *received), strict=True):
                rates.setdefault(name, {})[info.index] = group.rate(name, info.index).sample(now, value)
        return rates
