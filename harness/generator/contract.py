# SPDX-License-Identifier: Apache-2.0
"""The Generator contract: what the measurement asks of a traffic generator, whichever it is.

Rates are frames per second per direction; for role accept read "connections" for "frames", here and below. Counters
are differences over one trial, read once after a settled stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.plan import DirectionPlan, FrameMix


@dataclass(frozen=True)
class TrafficSpec:
    """What to send at a point: the load in the ratio of ``frames``, each size over all flows. ``latency_pps``: rate of
    the latency streams of each direction (0: none), sent on top of the load and counted in it, in the same ratio and
    over the same flows."""

    directions: tuple[DirectionPlan, ...]
    frames: FrameMix
    latency_pps: float = 0.0


@dataclass(frozen=True)
class GeneratorPort:
    """A port as the generator sees it."""

    index: int
    mac: str
    speed_gbps: float
    driver: str
    link_up: bool


@dataclass
class DirectionResult:
    """One direction of one trial, in frames. ``sent`` is what went onto the wire; ``asked`` = rate x duration.

    ``received`` counts marked frames at the receiving port (None: role drop). ``refused``: the wire did not take them
    (the peer's ring was full; on hardware these are sent and lost in the DUT's ring). ``skipped``: departures the
    generator left out, by reason.
    """

    tx_port: int
    rx_port: int | None
    asked: int
    sent: int
    received: int | None
    refused: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass
class LatencyResult:
    """Round trip of latency frames of one direction, ns. ``histogram``: (lowest ns of bucket, count) ascending.
    ``resolution_ns`` is the granularity of the source: 1 for xdpgen, 1000 for TRex's HDR histogram, and for its decimal
    one, whose buckets are up to as wide as their lowest value, the widest bucket with a sample."""

    rx_port: int
    sent: int
    received: int
    lost: int
    out_of_order: int
    duplicate: int
    min_ns: int
    max_ns: int
    mean_ns: float
    jitter_ns: float
    histogram: list[tuple[int, int]]
    resolution_ns: int


@dataclass
class SelfReport:
    """The generator's verdict on itself over one trial. Times in seconds unless named otherwise.

    ``asked_s``/``real_s``: a longer real time is duration stretching; ``timed``: it is that of the traffic itself, by
    its packets, and rates are computed with it. ``utilisation``: busiest sending core 0..1, None where a trial is too
    short to tell.
    ``pauses``: (start ns, length ns) with which a sending core stood still, CLOCK_MONOTONIC of that host.
    """

    asked_s: float
    real_s: float
    started_ns: int
    ended_ns: int
    utilisation: float | None
    queue_full: int
    pauses: list[tuple[int, int]] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = False


@dataclass
class TrafficResult:
    """All that one trial's traffic says. ``latency`` is empty without latency streams; ``latency_unavailable`` says
    why there is none although asked for."""

    directions: list[DirectionResult]
    latency: list[LatencyResult]
    report: SelfReport
    latency_unavailable: str = ""


@dataclass(frozen=True)
class CapturedFrame:
    """A frame at one of the generator's ports, without FCS. ``at``: seconds since the epoch, that host's clock;
    ``sent``: by the port, otherwise received."""

    at: float
    sent: bool
    frame: bytes


class Generator(Protocol):
    """A traffic generator under control of this run. Every call has a deadline and raises GeneratorError."""

    def describe(self) -> Mapping[str, Any]:
        """Kind ("xdpgen", "trex"), version, client ("stl", "trex.stl.api"), python, cores: for run.json."""

    def ports(self) -> Sequence[GeneratorPort]:
        """The ports, by index."""

    def configure(self, traffic: TrafficSpec) -> None:
        """Replace the streams. Takes effect with the next trial."""

    def trial(self, rate_pps: float, duration_s: float) -> TrafficResult:
        """Send at ``rate_pps`` per direction for ``duration_s``, let stragglers arrive, return the counts."""

    def exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[bytes]:
        """Send a few frames once each from ``port``; return all frames that ``rx_port`` received within ``wait_s``
        (without FCS). Used for role checks, never for measuring."""

    def capture(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[CapturedFrame]:
        """As ``exchange``, with what ``port`` sent as well, in order of time: evidence, never for measuring."""

    def alive(self) -> bool:
        """Whether it still answers; when it does not, a restart may help."""

    def close(self) -> None:
        """Release the ports and end the agent. Idempotent."""
