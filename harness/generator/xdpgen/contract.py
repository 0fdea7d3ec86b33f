# SPDX-License-Identifier: Apache-2.0
"""What the RPC server of xdpgen asks of a dataplane, and nothing else.

The server owns ports, owners, profiles, streams, rates, events and statistics' meaning. The dataplane owns
frames: it sends prepared headers at absolute times and counts what comes back. Two implement it:
``native.NativeDataplane`` (XDP live frames) and ``tests/unit`` ' simulated one, labelled so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

#: Frame bytes without FCS that Ethernet requires; shorter templates are zero-padded to this.
MIN_FRAME = 60
#: Bytes of the header written over a frame's end, as TRex does (trex-stl-rpc.md 4.4).
TRAILER = 16
#: First trailer byte of TRex's latency frames, and of xdpgen's own marked load frames.
MAGIC_LATENCY = 0xAB
MAGIC_MARK = 0xAC


@dataclass(frozen=True)
class PortInfo:
    """One generator port. ``speed_gbps`` is nominal (a veth has none of its own)."""

    index: int
    ifname: str
    mac: str
    speed_gbps: float
    driver: str


@dataclass(frozen=True)
class TxStream:
    """One continuous or bursting stream, ready to send.

    ``headers``: array (n, width) uint8, the first ``width`` bytes of n successive frames, complete with
    checksums; the sequence repeats after n. ``cores``: array (n,) of indices into ``Dataplane.cores``: the
    core that sends each entry (its Toeplitz hash names it). ``lengths``: array (n,) of frame lengths without FCS, or
    None when every frame is ``len(template)`` long. ``template``: the whole frame without FCS, at least 60 B;
    bytes beyond ``width`` come from it.
    """

    key: int
    port: int
    template: bytes
    headers: npt.NDArray[np.uint8]
    cores: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.uint16] | None
    pps: float
    #: None: an ordinary stream; "mark": trailer with MAGIC_MARK; "latency": trailer with MAGIC_LATENCY.
    trailer: str | None = None
    #: Offset of the UDP or TCP checksum that stays right under the trailer; ``headers`` hold it as over a trailer of
    #: zeros. None: the trailer is written and no checksum corrected, as TRex does.
    checksum_at: int | None = None
    #: Receive group (0..127 latency, any int for mark/stats) under which received frames are counted.
    group: int | None = None
    #: IP id / flow label to write (0xFC00 + i, or 0xFFFF); already in ``headers``, repeated for the receiver.
    ip_id: int | None = None
    #: Frames to send in total; None = until stopped.
    total: int | None = None
    #: Seconds after the start of the profile at which the first frame is due.
    delay_s: float = 0.0


@dataclass
class PortCounters:
    """Monotonic counts since the dataplane started. Bytes include the 4-byte FCS."""

    tx_packets: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    rx_bytes: int = 0
    #: Received frames that carry this server's trailer (mark or latency).
    rx_marked: int = 0
    #: Frames that this port's driver lost while receiving, where it counts them.
    rx_dropped: int = 0
    #: Frames that the wire refused (the peer's ring was full): handed to the driver and not sent.
    tx_refused: int = 0
    #: Departures left out because their time had passed, by reason: "stall" (something else had the core),
    #: "receive" (the core received frames meanwhile), "saturated" (no time left).
    tx_skipped: dict[str, int] = field(default_factory=dict)


@dataclass
class GroupCounters:
    """Per packet group. ``tx``/``rx`` map port index to (packets, bytes with FCS)."""

    tx: dict[int, tuple[int, int]] = field(default_factory=dict)
    rx: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass
class LatencyCounters:
    """Per latency group, merged over sending cores. Sequence errors as trex-stl-rpc.md 4.2. Times in ns."""

    received: int = 0
    dropped: int = 0
    out_of_order: int = 0
    duplicate: int = 0
    seq_too_high: int = 0
    seq_too_low: int = 0
    min_ns: int = 0
    max_ns: int = 0
    sum_ns: int = 0
    jitter_ns: float = 0.0
    #: Mean of the last 0.5 s period smoothed (old + new) / 2, and the maximum of the last finished period.
    average_ns: float = 0.0
    last_max_ns: int = 0
    #: Sparse histogram: (lowest value of the bucket in ns, count), relative bucket width <= 1/1024.
    histogram: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class CoreReport:
    """The generator's verdict on one sending core, over the last (or current) activity."""

    core: int
    #: Time in which the core could not call the program, from gaps between calls >= 50 us without what the receiving
    #: program took of them: count, sum, longest (ns).
    pauses: int = 0
    paused_ns: int = 0
    longest_pause_ns: int = 0
    #: CLOCK_MONOTONIC of the first and the last departure (ns); 0 when nothing was sent.
    first_departure_ns: int = 0
    last_departure_ns: int = 0
    #: Shorter ones, from 2 us, seen while the core only waited for a departure: count, sum (ns), frames due meanwhile.
    interruptions: int = 0
    interrupted_ns: int = 0
    interrupted_frames: int = 0
    #: Gaps of 50 us and more in which the core received: count, and the receiving in them (ns). No pause.
    receives: int = 0
    receive_ns: int = 0
    #: Share of program calls that sent a frame: near 1.0 means that the core has no time left (saturated).
    utilisation: float = 0.0
    #: Flushes to the driver that held at least one frame.
    flushes: int = 0
    #: Frames sent after a pause in which they were due.
    paused_frames: int = 0
    #: Departure error histogram: upper edge in ns -> frames (all but ``paused_frames``).
    departure_error: dict[int, int] = field(default_factory=dict)
    #: From the time stamp of the first frame of a flush until the flush is over: upper edge in ns -> frames.
    flush_delay: dict[int, int] = field(default_factory=dict)
    #: From the time at which the first frame of a flush was due until the flush is over, without pauses: upper edge in
    #: ns -> frames. Departure error and flush delay together; for the later frames of a flush an upper bound.
    wire_error: dict[int, int] = field(default_factory=dict)
    #: Recorded pauses: (start ns CLOCK_MONOTONIC, length ns), the latest 1024.
    pause_log: list[tuple[int, int]] = field(default_factory=list)


class Dataplane(Protocol):
    """Sends and receives frames on a fixed set of ports with a fixed set of cores."""

    ports: Sequence[PortInfo]
    cores: Sequence[int]

    def now(self) -> float:
        """CLOCK_MONOTONIC in seconds; the clock of every time below."""

    def start(self, streams: Sequence[TxStream], at: float, until: float | None) -> None:
        """Begin sending these streams (keys not active yet) at ``at``; end them at ``until`` by itself.

        Streams of other ports or profiles that are active go on undisturbed.
        """

    def set_rate(self, rates: Mapping[int, float]) -> None:
        """Change pps of active streams by key; 0 pauses a stream."""

    def stop(self, keys: Sequence[int]) -> None:
        """Return when none of these streams sends any more. Unknown keys are ignored."""

    def active(self, keys: Sequence[int]) -> bool:
        """True while any of these streams has frames left to send."""

    def port_counters(self, port: int) -> PortCounters:
        """Counters of one port."""

    def group_open(self, group: int, kind: str, ip_id: int) -> None:
        """Create (zeroed) receive counters of a packet group; kind "stats" or "latency"."""

    def group_close(self, group: int) -> None:
        """Forget a group."""

    def group_counters(self, group: int) -> GroupCounters:
        """Counters of one group."""

    def latency(self, group: int) -> LatencyCounters:
        """Latency of one group of kind "latency"."""

    def reports(self) -> list[CoreReport]:
        """One report per sending core since ``reset_reports``."""

    def reset_reports(self) -> None:
        """Forget pauses, utilisation and departure errors. Unless marked streams are active, marked frames that are
        still under way no longer count as marked."""

    def send(self, port: int, frames: Sequence[bytes]) -> None:
        """Send these few frames now, once each, outside any stream (push_pkts)."""

    def capture(self, port: int, enabled: bool, limit: int, everything: bool = False) -> None:
        """Keep copies of received frames without trailer (``everything``: all) and pushed frames for ``captured``."""

    def captured(self, port: int) -> list[tuple[float, str, bytes]]:
        """(time, "TX"|"RX", frame) since the last call; capture must be on."""

    def close(self) -> None:
        """Stop everything and detach from the ports. Idempotent."""
