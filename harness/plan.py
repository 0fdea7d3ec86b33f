# SPDX-License-Identifier: Apache-2.0
"""The Plan: every address, port, core and step, computed and frozen before anything is touched.

Stacks, generator and runner receive it and choose nothing themselves. ``--dry-run`` prints it.
All rates are frames per second in one direction; frame sizes are bytes on the wire including FCS. Role accept counts
TCP connections where the others count frames: its rates, asked, sent and lost are connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Ethernet preamble, start delimiter and inter-frame gap: bytes on the wire that belong to no frame (RFC 2544).
WIRE_OVERHEAD = 20
FCS = 4
#: Bytes of each header of the test traffic.
ETHERNET, VLAN_TAG, UDP = 14, 4, 8
IP_HEADER = {4: 20, 6: 40}
#: What results call the generator's host, beside the DUTs by their names.
GENERATOR_HOST = "generator"
#: Kinds of generator of role accept.
TREX_ASTF, H2LOAD = "trex-astf", "h2load"
#: Sizes of a mix.
MOST_SIZES = 8


class Role(StrEnum):
    """What a stack does with a frame; it makes stacks comparable (design.md, "Roles")."""

    DROP = "drop"
    FORWARD = "forward"
    REFLECT = "reflect"
    ECHO = "echo"
    ACCEPT = "accept"

    @property
    def counted(self) -> str:
        """What is sent, received and lost: "frames", or "connections" (role accept)."""
        return "connections" if self is Role.ACCEPT else "frames"

    @property
    def rate_unit(self) -> str:
        """Unit of its rates: "pps", or "connections/s"."""
        return "connections/s" if self is Role.ACCEPT else "pps"


def line_rate_pps(speed_gbps: float, frame_bytes: float) -> float:
    """Frames per second that fill a link: bps / (8 x (frame + 20)); 14.88 Mpps for 64 B at 10 Gbit/s."""
    return speed_gbps * 1e9 / (8 * (frame_bytes + WIRE_OVERHEAD))


@dataclass(frozen=True)
class FrameMix:
    """The frame sizes of a point: (bytes with FCS, frames of it in a round), ascending; one size is a mix of one.

    Loads and results of a mix are frames per second whatever their size; ``mean`` stands for the size in line rate.
    """

    parts: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """ValueError for what is no mix."""
        sizes, weights = self.sizes, [weight for _, weight in self.parts]
        if not 1 <= len(sizes) <= MOST_SIZES or list(sizes) != sorted(set(sizes)) or min(weights) < 1:
            raise ValueError(f"a mix is 1 to {MOST_SIZES} distinct sizes, ascending, each with at least one frame; not "
                             f"{self.parts[:MOST_SIZES + 1]}")

    @classmethod
    def of(cls, size: int) -> FrameMix:
        """Frames of one size."""
        return cls(((size, 1),))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes, ascending."""
        return tuple(size for size, _ in self.parts)

    @property
    def smallest(self) -> int:
        """The smallest size."""
        return self.parts[0][0]

    @property
    def single(self) -> bool:
        """Whether all frames have one size."""
        return len(self.parts) == 1

    @property
    def mean(self) -> float:
        """Mean frame size in bytes with FCS."""
        return sum(size * weight for size, weight in self.parts) / sum(weight for _, weight in self.parts)

    @property
    def shares(self) -> tuple[tuple[int, float], ...]:
        """(size, share of all frames 0..1)."""
        total = sum(weight for _, weight in self.parts)
        return tuple((size, weight / total) for size, weight in self.parts)

    @property
    def label(self) -> str:
        """What is printed wherever a size is: "64 B", "IMIX 7:4:1 (mean 361.8 B)"."""
        if self.single:
            return f"{self.smallest} B"
        ratio = ":".join(str(weight) for _, weight in self.parts)
        sizes = "" if self == SIMPLE_IMIX else f" of {'/'.join(map(str, self.sizes))} B"
        return f"IMIX {ratio}{sizes} (mean {self.mean:.1f} B)"

    @property
    def slug(self) -> str:
        """For ids: "64B", "imix", "imix-82x7-594x4"."""
        if self.single:
            return f"{self.smallest}B"
        return "imix" if self == SIMPLE_IMIX else "-".join(["imix", *(f"{size}x{n}" for size, n in self.parts)])


#: The field's "simple IMIX".
SIMPLE_IMIX = FrameMix(((64, 7), (594, 4), (1518, 1)))


@dataclass(frozen=True)
class PortPlan:
    """One end of a wire. ``index`` counts per side from 0; ``ifname`` is the kernel's name (or "" once bound away).
    ``ip``: of the test traffic's version."""

    index: int
    ifname: str
    mac: str
    ip: str
    prefix_len: int
    pci: str = ""


@dataclass(frozen=True)
class WirePlan:
    """One cable: generator port ``tg`` to port ``dut`` of host ``host``. ``flow_prefix`` (CIDR) holds every address
    behind the generator's end; the DUT routes it via ``tg.ip`` with a static neighbour."""

    index: int
    host: str
    tg: PortPlan
    dut: PortPlan
    speed_gbps: float
    flow_prefix: str
    virtual: bool


@dataclass(frozen=True)
class FlowPlan:
    """The flows of one direction: ``count`` = ``src_ips`` x ``src_ports`` exactly, UDP over IPv4 or IPv6.

    Flow i has source address ``src_ip_first`` + i mod src_ips and source port ``src_port_first`` + i // src_ips.
    With ``l4`` "tcp" (role accept) these are the addresses and ports among which the client picks for each connection.
    """

    count: int
    src_ip_first: str
    src_ips: int
    src_port_first: int
    src_ports: int
    dst_ip: str
    dst_port: int
    l4: str = "udp"

    @property
    def version(self) -> int:
        """IP version: 4 or 6."""
        return 6 if ":" in self.dst_ip else 4


@dataclass(frozen=True)
class DirectionPlan:
    """Frames go in at TG port ``tx_port`` and are expected back at TG port ``rx_port`` (None: role drop). ``vlan``: id
    of the 802.1Q tag on every frame, there and back."""

    tx_port: int
    rx_port: int | None
    src_mac: str
    dst_mac: str
    flows: FlowPlan
    vlan: int | None = None

    @property
    def l3(self) -> int:
        """Bytes before the IP header."""
        return ETHERNET + (VLAN_TAG if self.vlan is not None else 0)

    @property
    def headers(self) -> int:
        """Bytes before the UDP payload."""
        return self.l3 + IP_HEADER[self.flows.version] + UDP


@dataclass(frozen=True)
class PointPlan:
    """One stack x parameters x frame size x core count on one DUT. ``cores``: the DUT's core ids it may use.

    ``frame_bytes``: the smallest frame, of most points the only one; ``frames`` is what to use where a mix matters.
    It and ``line_rate_pps`` are 0 for role accept: a connection has no frame size, so a wire's rate has no fixed number
    of them.
    """

    id: str
    label: str
    stack: str
    params: Mapping[str, Any]
    role: Role
    host: str
    frame_bytes: int
    cores: tuple[int, ...]
    wires: tuple[WirePlan, ...]
    directions: tuple[DirectionPlan, ...]
    line_rate_pps: float
    #: Tuning of the host for this point: the profile's name, and its items (:mod:`harness.host.tuning.profile`).
    profile: str = "stock"
    tuning: Mapping[str, Any] = field(default_factory=dict)
    #: Whether the stack's cores poll, so that their being busy says nothing. None: not recorded.
    polling: bool | None = None
    #: The host's interface that carries SSH. No stack touches it, nor what it is stacked on.
    management: str = ""
    #: Where frames of several sizes are sent.
    mix: FrameMix | None = None
    #: Why no latency frames are sent although latency is asked for; empty where they are.
    no_latency: str = ""
    #: Whether a host may lack what the stack needs: the point is skipped then, and the run is complete without it.
    if_supported: bool = False

    def __post_init__(self) -> None:
        if self.mix is not None and self.mix.smallest != self.frame_bytes:
            raise ValueError(f"{self.id}: frame_bytes {self.frame_bytes} is not the smallest of {self.mix.label}")

    @property
    def frames(self) -> FrameMix:
        """The sizes of the frames sent; role accept: one of 0 bytes."""
        return self.mix or FrameMix.of(self.frame_bytes)

    @property
    def udp_port(self) -> int:
        """The destination port of all test traffic."""
        return self.directions[0].flows.dst_port

    @property
    def ip_version(self) -> int:
        """IP version of all test traffic: 4 or 6."""
        return self.directions[0].flows.version

    @property
    def vlan(self) -> int | None:
        """VLAN id of all test traffic, None when it is untagged."""
        return self.directions[0].vlan

    @property
    def payloads(self) -> tuple[int, ...]:
        """Lengths of the UDP payloads sent, ascending."""
        return tuple(size - FCS - self.directions[0].headers for size in self.frames.sizes)

    @property
    def traffic_label(self) -> str:
        """Frames and headers in words: "64 B", "82 B IPv6", "IMIX 7:4:1 (mean 361.8 B) in VLAN 7"."""
        headers = " IPv6" * (self.ip_version == 6) + (f" in VLAN {self.vlan}" if self.vlan is not None else "")
        return self.frames.label + headers


@dataclass(frozen=True)
class SearchSettings:
    """MLRsearch settings, recorded and part of comparability. Durations in seconds, ratios 0..1."""

    goals: tuple[str, ...]
    trial_s: float
    initial_trial_s: float
    width: float
    pdr_loss: float
    min_load_pps: float
    max_search_s: float
    #: Seconds of trials that decide a bound (0: one trial), and the share of them that may be bad.
    duration_sum_s: float = 0.0
    exceed_ratio: float = 0.0


@dataclass(frozen=True)
class BystanderSettings:
    """Somebody else's connections over the port under test: ``service`` that answers, ``rate`` a second, and how long
    a greeting may take before the attempt counts as lost."""

    service: str
    rate: float
    timeout_s: float


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured at every point."""

    search: SearchSettings | None
    latency_fractions: tuple[float, ...]
    latency_of: str
    latency_trial_s: float
    latency_pps: float
    load_rates_pps: tuple[float, ...]
    load_trial_s: float
    warmup_s: float
    repeat: int
    pause_retries: int = 3
    #: During the load curve; None: none.
    bystander: BystanderSettings | None = None
    #: A diagnostic trial at the highest load, in which the DUT's kernel tells why it drops packets.
    drop_reasons: bool = False

    @property
    def diagnose_trial_s(self) -> float:
        """Seconds of that trial."""
        return self.load_trial_s or (self.search.trial_s if self.search is not None else 1.0)


@dataclass(frozen=True)
class HostPlan:
    """One DUT: which cores stacks may use, which interface must never be touched."""

    name: str
    cores: tuple[int, ...]
    management: str
    all_cores: int


@dataclass(frozen=True)
class GeneratorPlan:
    """The generator: ``kind`` "xdpgen", "trex" or, for role accept, "trex-astf" (TRex's stateful mode) and "h2load" (a
    client that needs no server; its ports are 0), cores it may use, where its server listens. ``software``: whether a
    TRex that is started for the run receives in software (--software); ``software_for``: stacks of which there is
    latency only so."""

    kind: str
    cores: tuple[int, ...]
    trex_dir: str
    sync_port: int
    async_port: int
    software: bool = False
    software_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything about a run. ``sequence`` is the order: (repeat, point id), shuffled with ``seed`` per round."""

    scenario: str
    testbed: str
    lab: bool
    role: Role
    wires: tuple[WirePlan, ...]
    hosts: tuple[HostPlan, ...]
    generator: GeneratorPlan
    points: tuple[PointPlan, ...]
    measure: MeasureSettings
    sequence: tuple[tuple[int, str], ...]
    seed: int
    expected_trials: int
    expected_s: float
    notes: tuple[str, ...] = field(default=())

    def point(self, point_id: str) -> PointPlan:
        """The point with this id; KeyError when there is none."""
        for point in self.points:
            if point.id == point_id:
                return point
        raise KeyError(point_id)
