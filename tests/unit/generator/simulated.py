# SPDX-License-Identifier: Apache-2.0
"""A simulated dataplane: virtual time, a perfect wire between neighbouring ports, known answers. No frame is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.generator.xdpgen.contract import (
    CoreReport,
    GroupCounters,
    LatencyCounters,
    PortCounters,
    PortInfo,
    TxStream,
)

#: One-way delay of the simulated wire.
WIRE_NS = 25_000


@dataclass
class _Active:
    stream: TxStream
    begin: float
    until: float | None
    pps: float
    since: float
    before: float = 0.0

    def sent(self, now: float) -> int:
        """Frames sent up to ``now``: the first at ``begin``, then one every 1/pps."""
        end = now if self.until is None else min(now, self.until)
        if end < self.begin:
            return 0
        count = self.before + max(0.0, end - self.since) * self.pps + (1 if self.pps and not self.before else 0)
        limit = self.stream.total if self.stream.total is not None else int(count)
        return min(int(count + 1e-9), limit)


@dataclass
class _Group:
    kind: str
    tx: dict[int, tuple[int, int]] = field(default_factory=dict)


class SimulatedDataplane:
    """Implements ``contract.Dataplane``; ``advance`` moves its clock. Every frame sent by port i arrives at i^1."""

    def __init__(self, ports: int = 2, cores: Sequence[int] = (0,), speed_gbps: float = 10.0) -> None:
        self.ports = [
            PortInfo(index, f"sim{index}", f"02:00:00:00:10:{index:02x}", speed_gbps, "simulated")
            for index in range(ports)
        ]
        self.cores = list(cores)
        self.clock = 100.0
        self.started: list[TxStream] = []
        self.closed = False
        self._active: dict[int, _Active] = {}
        self._done: dict[int, tuple[TxStream, int]] = {}
        self._groups: dict[int, _Group] = {}
        self._pushed: dict[int, list[bytes]] = {info.index: [] for info in self.ports}
        self._tap: dict[int, list[tuple[float, str, bytes]]] = {}

    def now(self) -> float:
        return self.clock

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.clock += seconds

    def start(self, streams: Sequence[TxStream], at: float, until: float | None) -> None:
        for stream in streams:
            assert stream.key not in self._active
            assert len(stream.headers) == len(stream.cores)
            assert len(stream.template) >= 60
            begin = at + stream.delay_s
            self._active[stream.key] = _Active(stream, begin, until, stream.pps, begin)
            self.started.append(stream)

    def set_rate(self, rates: Mapping[int, float]) -> None:
        for key, pps in rates.items():
            active = self._active.get(key)
            if active is not None:
                active.before, active.pps = float(active.sent(self.clock)), pps
                active.since = max(active.since, self.clock)

    def stop(self, keys: Sequence[int]) -> None:
        for key in keys:
            active = self._active.pop(key, None)
            if active is not None:
                self._done[key] = active.stream, active.sent(self.clock)

    def active(self, keys: Sequence[int]) -> bool:
        return any(self._is_active(self._active[key]) for key in keys if key in self._active)

    def _is_active(self, active: _Active) -> bool:
        if active.until is not None and self.clock >= active.until:
            return False
        total = active.stream.total
        return total is None or active.sent(self.clock) < total

    def _sent(self) -> list[tuple[TxStream, int]]:
        return [*self._done.values(), *((a.stream, a.sent(self.clock)) for a in self._active.values())]

    def port_counters(self, port: int) -> PortCounters:
        counters = PortCounters()
        for stream, count in self._sent():
            size = len(stream.template) + 4
            if stream.port == port:
                counters.tx_packets += count
                counters.tx_bytes += count * size
            if stream.port ^ 1 == port:
                counters.rx_packets += count
                counters.rx_bytes += count * size
                counters.rx_marked += count if stream.trailer else 0
        for frame in self._pushed[port]:
            counters.tx_packets += 1
            counters.tx_bytes += len(frame) + 4
        for frame in self._pushed.get(port ^ 1, []):
            counters.rx_packets += 1
            counters.rx_bytes += len(frame) + 4
        return counters

    def group_open(self, group: int, kind: str, ip_id: int) -> None:
        assert group not in self._groups
        self._groups[group] = _Group(kind)

    def group_close(self, group: int) -> None:
        del self._groups[group]
        self._done = {key: one for key, one in self._done.items() if one[0].group != group}

    def group_counters(self, group: int) -> GroupCounters:
        counters = GroupCounters()
        for stream, count in self._sent():
            if stream.group == group:
                size = len(stream.template) + 4
                for side, port in ((counters.tx, stream.port), (counters.rx, stream.port ^ 1)):
                    packets, octets = side.get(port, (0, 0))
                    side[port] = packets + count, octets + count * size
        return counters

    def latency(self, group: int) -> LatencyCounters:
        assert self._groups[group].kind == "latency"
        count = sum(packets for packets, _ in self.group_counters(group).rx.values())
        if not count:
            return LatencyCounters()
        return LatencyCounters(
            received=count,
            min_ns=WIRE_NS,
            max_ns=WIRE_NS,
            sum_ns=WIRE_NS * count,
            average_ns=float(WIRE_NS),
            last_max_ns=WIRE_NS,
            histogram=[(WIRE_NS, count)],
        )

    def reports(self) -> list[CoreReport]:
        busy = any(self._is_active(active) for active in self._active.values())
        return [CoreReport(core, utilisation=0.25 if busy else 0.0) for core in self.cores]

    def reset_reports(self) -> None:
        pass

    def send(self, port: int, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._pushed[port].append(frame)
            if port in self._tap:
                self._tap[port].append((self.clock, "TX", frame))
            if port ^ 1 in self._tap:
                self._tap[port ^ 1].append((self.clock + WIRE_NS / 1e9, "RX", frame))

    def capture(self, port: int, enabled: bool, limit: int) -> None:
        if enabled:
            self._tap[port] = []
        else:
            self._tap.pop(port, None)

    def captured(self, port: int) -> list[tuple[float, str, bytes]]:
        frames, self._tap[port] = self._tap[port], []
        return frames

    def close(self) -> None:
        self.closed = True
