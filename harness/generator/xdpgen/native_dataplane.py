# SPDX-License-Identifier: Apache-2.0
"""The dataplane on XDP live frames: a native process (``native/dp.c``) that sends, receives and counts.

This module turns streams into header tables, asks that process (``dataplane_process.py``) and gives its numbers the
contract's meaning. Nothing here runs while frames are sent unless a caller asks for a figure.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.errors import GeneratorError
from harness.generator.xdpgen import TABLE_CELLS
from harness.generator.xdpgen.contract import (
    MAGIC_LATENCY,
    MAGIC_MARK,
    CoreReport,
    GroupCounters,
    LatencyCounters,
    PortCounters,
    PortInfo,
    TxStream,
)
from harness.generator.xdpgen.dataplane_process import (
    CAPTURE_RECORD,
    GROUP_REPLY,
    LATENCY_STATE,
    PORT_REPLY,
    RATE_RECORD,
    START_RECORD,
    DataplaneProcess,
    Op,
)
from harness.generator.xdpgen.interfaces import port_info
from harness.generator.xdpgen.readings import LatencyState, core_report, latency_counters
from harness.generator.xdpgen.shares import Share, padded, shares_of

NEVER = 2**64 - 1
FCS = 4
NO_GROUP = 0xFFFF
LATENCY_GROUPS = 128
STATS_GROUPS = 1024
#: Shares that fit into one message.
_START_AT_ONCE = 800
_MAGIC = {None: 0, "latency": MAGIC_LATENCY, "mark": MAGIC_MARK}
_CAPTURE_OTHERS, _CAPTURE_ALL = 1, 2


@dataclass
class _Copies:
    """A port's capture: frames that ``captured`` has not handed out yet."""

    limit: int
    pushed: list[tuple[float, str, bytes]] = field(default_factory=list)
    received: list[tuple[float, str, bytes]] = field(default_factory=list)


def _raw_socket(ifname: str) -> socket.socket:
    """A socket that only sends; it belongs to the namespace in which it was made."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.bind((ifname, 0))
    return wire


@contextlib.contextmanager
def _memory_file() -> Iterator[int]:
    fd = os.memfd_create("xdpgen-tables")
    try:
        yield fd
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class NativeDataplane:
    """Sends and receives on ``ports`` (interfaces of the caller's network namespace), sending from ``cores``.

    Implements ``contract.Dataplane``. Every port's driver needs native XDP, and the peer of a veth port NAPI (GRO on,
    or an XDP program). Received frames of the generator end here; ARP and IPv6 neighbour discovery go on to the
    kernel, any other frame is counted and dropped. Raises TestbedError when the machine is not fit, GeneratorError
    for a request that cannot be done, GeneratorDied when the native process is gone. Thread-safe.
    """

    def __init__(
        self, ports: Sequence[str], cores: Sequence[int], *, speed_gbps: float = 10.0, table_cells: int = TABLE_CELLS
    ) -> None:
        self.ports: Sequence[PortInfo] = tuple(port_info(i, name, speed_gbps) for i, name in enumerate(ports))
        self.cores: Sequence[int] = tuple(cores)
        self._slots: dict[int, int] = {}
        self._pushed: dict[int, tuple[int, int]] = {}
        self._copies: dict[int, _Copies] = {}
        self._refused: dict[int, int] = {}
        self._base = [b""] * len(self.cores)
        self._lock = threading.RLock()
        self._wires = contextlib.ExitStack()
        self._process = DataplaneProcess(ports, cores, table_cells)
        self._sockets = [self._wires.enter_context(_raw_socket(name)) for name in ports]

    @property
    def pid(self) -> int:
        """Process id of the native process."""
        return self._process.pid

    def now(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return time.monotonic()

    def start(self, streams: Sequence[TxStream], at: float, until: float | None) -> None:
        """Begin sending at ``at``, or as soon as the cores are ready; ``until`` moves by as much as ``at`` had to.

        Give ``at`` about 50 ms ahead, so that it need not move: an idle core takes 10 to 40 ms to begin.
        """
        with self._lock:
            planned = [(stream, share) for stream in streams for share in shares_of(stream, len(self.cores))]
            planned = [(stream, share) for stream, share in planned if share.total != 0]
            for first in range(0, len(planned), _START_AT_ONCE):
                self._start(planned[first : first + _START_AT_ONCE], at, until)

    def _start(self, planned: Sequence[tuple[TxStream, Share]], at: float, until: float | None) -> None:
        records, offset = [], 0
        with _memory_file() as fd:
            for stream, share in planned:
                template = padded(stream.template)
                records.append(self._record(stream, share, at, until, offset))
                _write(fd, share.cells.tobytes())
                _write(fd, template)
                offset += share.cells.nbytes + len(template)
            self._process.ask(Op.START, body=b"".join(records), fd=fd)

    def _record(self, stream: TxStream, share: Share, at: float, until: float | None, offset: int) -> bytes:
        lead = share.offset / stream.pps if stream.pps else 0.0
        first = round(at * 1e9)
        start = first + round((stream.delay_s + lead) * 1e9)
        end = NEVER if until is None else first + round((until - at) * 1e9)  # so that the duration is exact
        index, slot = self._group_of(stream, share.core)
        length = len(padded(stream.template))
        return START_RECORD.pack(
            start, end, NEVER if share.total is None else share.total,
            offset, offset + share.cells.nbytes, stream.pps, stream.key, share.entries, share.all_entries,
            share.core, stream.port, share.cells.shape[1], length, share.covered, index, slot,
            _MAGIC[stream.trailer], stream.lengths is None, stream.checksum_at or 0, 0,
        )  # fmt: skip

    def _group_of(self, stream: TxStream, core: int) -> tuple[int, int]:
        """(index in the trailer, group slot) of a stream's share."""
        if stream.group is None:
            return NO_GROUP, NO_GROUP
        slot = self._slot(stream.group)
        if stream.trailer != "latency":
            return slot, slot
        if slot >= LATENCY_GROUPS:
            raise GeneratorError(f"stream {stream.key}: packet group {stream.group} was not opened for latency")
        return slot + LATENCY_GROUPS * core, slot

    def _slot(self, group: int) -> int:
        try:
            return self._slots[group]
        except KeyError:
            raise GeneratorError(f"packet group {group} is not open") from None

    def set_rate(self, rates: Mapping[int, float]) -> None:
        """Change pps of active streams; the new interval counts from the last departure."""
        body = b"".join(RATE_RECORD.pack(pps, key, 0) for key, pps in rates.items())
        self._process.ask(Op.RATE, body=body)

    def stop(self, keys: Sequence[int]) -> None:
        """Return when none of these streams sends any more and their last frames are flushed."""
        self._process.ask(Op.STOP, body=np.asarray(keys, np.uint32).tobytes())

    def active(self, keys: Sequence[int]) -> bool:
        """True while any of these streams has frames left to send."""
        return self._process.ask(Op.ACTIVE, body=np.asarray(keys, np.uint32).tobytes()) != bytes(4)

    def port_counters(self, port: int) -> PortCounters:
        """Counters of one port. ``tx_packets`` is the driver's own count of frames on the wire where it has one."""
        with self._lock:
            reply = PORT_REPLY.unpack(self._process.ask(Op.PORT, self._port(port)))
            handed, handed_bytes, wire, refused, stall, receive, saturated, rx, rx_bytes, marked = reply[:10]
            dropped, exact, idle = reply[14:]
            if exact and idle:  # whatever was handed over and is not on the wire was refused, counted or not
                refused = max(refused, handed - wire)
            refused = self._refused[port] = max(refused, self._refused.get(port, 0))
            pushed, pushed_bytes = self._pushed.get(port, (0, 0))
        sent = wire if exact else handed
        sent_bytes = handed_bytes - round((handed - sent) * handed_bytes / handed) if handed else 0
        return PortCounters(
            tx_packets=sent + pushed,
            tx_bytes=sent_bytes + pushed_bytes,
            rx_packets=rx,
            rx_bytes=rx_bytes,
            rx_marked=marked,
            rx_dropped=dropped,
            tx_refused=refused,
            tx_skipped={"stall": stall, "receive": receive, "saturated": saturated},
        )

    def _port(self, port: int) -> int:
        if not 0 <= port < len(self.ports):
            raise GeneratorError(f"there is no port {port}")
        return port

    def group_open(self, group: int, kind: str, ip_id: int) -> None:
        """Create (zeroed) receive counters; ``kind`` "latency" needs a group of 0..127."""
        with self._lock:
            if kind == "latency":
                if not 0 <= group < LATENCY_GROUPS:
                    raise GeneratorError(f"latency group {group} is out of range: 0 to {LATENCY_GROUPS - 1}")
                slot = group
            else:
                used = set(self._slots.values())
                free = (s for s in range(LATENCY_GROUPS, LATENCY_GROUPS + STATS_GROUPS) if s not in used)
                slot = self._slots.get(group, next(free, -1))
                if slot < 0:
                    raise GeneratorError(f"more than {STATS_GROUPS} packet groups")
            self._process.ask(Op.GROUP_OPEN, slot, ip_id)
            self._slots[group] = slot

    def group_close(self, group: int) -> None:
        """Forget a group; unknown ones are ignored."""
        with self._lock:
            slot = self._slots.pop(group, None)
            if slot is not None:
                self._process.ask(Op.GROUP_CLOSE, slot)

    def group_counters(self, group: int) -> GroupCounters:
        """Counters of one group; ``tx`` counts frames handed to the driver, so refused ones too."""
        reply = self._process.ask(Op.GROUP, self._slot(group))
        counters = GroupCounters()
        for port, (tx, tx_bytes, rx, rx_bytes) in enumerate(GROUP_REPLY.iter_unpack(reply)):
            counters.tx[port] = (tx, tx_bytes)
            counters.rx[port] = (rx, rx_bytes)
        return counters

    def latency(self, group: int) -> LatencyCounters:
        """Latency of one group of kind "latency", merged over sending cores."""
        slot = self._slot(group)
        if slot >= LATENCY_GROUPS:
            raise GeneratorError(f"packet group {group} was not opened for latency")
        states = [LatencyState(*raw) for raw in LATENCY_STATE.iter_unpack(self._process.ask(Op.LATENCY, slot))]
        return latency_counters(states, self._process.histogram(slot), time.monotonic_ns())

    def reports(self) -> list[CoreReport]:
        """One report per sending core since ``reset_reports``."""
        with self._lock:
            return [
                core_report(core, self._process.ask(Op.REPORT, i), self._base[i]) for i, core in enumerate(self.cores)
            ]

    def reset_reports(self) -> None:
        """Forget pauses, utilisation and departure errors; late marked frames no longer count as marked."""
        with self._lock:
            self._process.ask(Op.RESET_REPORTS)
            self._base = [self._process.ask(Op.REPORT, i) for i in range(len(self.cores))]

    def send(self, port: int, frames: Sequence[bytes]) -> None:
        """Send these few frames now, once each, outside any stream; they count as sent."""
        self._port(port)
        for frame in frames:
            whole = padded(frame)
            try:
                self._sockets[port].send(whole)
            except OSError as error:
                name = self.ports[port].ifname
                raise GeneratorError(f"cannot send {len(whole)} bytes on {name}: {error.strerror}") from error
            self._note_pushed(port, whole)

    def _note_pushed(self, port: int, frame: bytes) -> None:
        with self._lock:
            packets, size = self._pushed.get(port, (0, 0))
            self._pushed[port] = (packets + 1, size + len(frame) + FCS)
            copies = self._copies.get(port)
            if copies is not None and len(copies.pushed) < copies.limit:
                copies.pushed.append((time.monotonic(), "TX", frame))

    def capture(self, port: int, enabled: bool, limit: int, everything: bool = False) -> None:
        """Keep copies of the first ``limit`` received frames without this generator's trailer (``everything``: with
        it as well) and of the first ``limit`` pushed frames, for ``captured``. Calling it again starts anew."""
        with self._lock:
            self._collect()
            mode = 0 if not enabled else _CAPTURE_ALL if everything else _CAPTURE_OTHERS
            self._process.ask(Op.CAPTURE, self._port(port), mode, max(0, min(limit, 2**31 - 1)))
            self._copies.pop(port, None)
            if enabled:
                self._copies[port] = _Copies(limit)

    def captured(self, port: int) -> list[tuple[float, str, bytes]]:
        """(CLOCK_MONOTONIC seconds, "TX"|"RX", frame without FCS) since the last call, oldest first."""
        with self._lock:
            self._collect()
            copies = self._copies.get(port)
            if copies is None:
                raise GeneratorError(f"capture is not on at port {port}")
            frames = sorted(copies.pushed + copies.received, key=lambda copy: copy[0])
            copies.pushed, copies.received = [], []
            return frames

    def _collect(self) -> None:
        """Take what waits in the ring, which all ports share."""
        while reply := self._process.ask(Op.CAPTURED):
            at = 0
            while at < len(reply):
                nanoseconds, port, length = CAPTURE_RECORD.unpack_from(reply, at)
                at += CAPTURE_RECORD.size
                if port in self._copies:
                    self._copies[port].received.append((nanoseconds / 1e9, "RX", reply[at : at + length]))
                at += -(-(CAPTURE_RECORD.size + length) // 8) * 8 - CAPTURE_RECORD.size

    def close(self) -> None:
        """Stop everything and detach from the ports. Idempotent."""
        self._process.close()
        self._wires.close()
