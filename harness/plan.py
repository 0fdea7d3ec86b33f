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
class PortPlan:
    """One end of a wire. ``index`` counts per side from 0; ``ifname`` is the kernel's name (or "" once bound away)."""

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
    """The flows of one direction: ``count`` = ``src_ips`` x ``src_ports`` exactly, UDP over IPv4.

    Flow i has source address ``src_ip_first`` + i mod src_ips and source port ``src_port_first`` + i // src_ips.
    With ``l4`` "tcp" (role accept) these are the ports among which the client's kernel picks one for each connection.
    """

    count: int
    src_ip_first: str
    src_ips: int
    src_port_first: int
    src_ports: int
    dst_ip: str
    dst_port: int
    l4: str = "udp"


@dataclass(frozen=True)
class DirectionPlan:
    """Frames go in at TG port ``tx_port`` and are expected back at TG port ``rx_port`` (None: role drop)."""

    tx_port: int
    rx_port: int | None
    src_mac: str
    dst_mac: str
    flows: FlowPlan


@dataclass(frozen=True)
class PointPlan:
    """One stack x parameters x frame size x core count on one DUT. ``cores``: the DUT's core ids it may use.
    ``frame_bytes`` and ``line_rate_pps`` are 0 for role accept: a connection has no frame size, so a wire's rate has no
    fixed number of them."""

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

    @property
    def udp_port(self) -> int:
        """The destination port of all test traffic."""
        return self.directions[0].flows.dst_port


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


@dataclass(frozen=True)
class HostPlan:
    """One DUT: which cores stacks may use, which interface must never be touched."""

    name: str
    cores: tuple[int, ...]
    management: str
    all_cores: int


@dataclass(frozen=True)
class GeneratorPlan:
    """The generator: ``kind`` "xdpgen", "trex" or, for role accept, "h2load" (a client that needs no server; its ports
    are 0), cores it may use, where its server listens."""

    kind: str
    cores: tuple[int, ...]
    trex_dir: str
    sync_port: int
    async_port: int


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
