# SPDX-License-Identifier: Apache-2.0
"""Ports, their owners and profiles, and the state machine of traffic (trex-stl-rpc.md 3.1, 3.2)."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from harness.generator.xdpgen.contract import PortInfo
from harness.generator.xdpgen.rpc.compile import BuiltTables
from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.graph import Graph
from harness.generator.xdpgen.rpc.streams import Stream

DEFAULT_PROFILE = "_"
ALL_PROFILES = "*"
MAX_STREAMS = 20_000
MAX_PROFILES = 256
MAX_NAME = 128
_TOKEN_ALPHABET = string.ascii_letters + string.digits


class State(Enum):
    """State of a profile, and of a port (the most active of its profiles)."""

    IDLE = "IDLE"
    STREAMS = "STREAMS"
    TX = "TX"
    PAUSE = "PAUSE"


def token() -> str:
    """Eight random alphanumerics: API handles and port handlers."""
    return "".join(secrets.choice(_TOKEN_ALPHABET) for _ in range(8))


@dataclass(frozen=True)
class Owner:
    """Who holds a port; ``handler`` proves it."""

    user: str
    session_id: int
    handler: str


@dataclass
class Run:
    """Traffic of one profile while it is TX or PAUSE. Times are the dataplane's clock in seconds.

    ``streams``: dataplane key -> stream id; ``pps``: key -> rate now set (0 while a stream is paused).
    ``end``: when all frames are sent, None for traffic that goes on until stopped.
    """

    graph: Graph
    factor: float
    timed: bool
    streams: dict[int, int]
    pps: dict[int, float]
    end: float | None
    all_continuous: bool
    scalable: bool
    paused_streams: set[int] = field(default_factory=set)
    recheck: float = 0.001


@dataclass
class Profile:
    """An independent set of streams with a state of its own."""

    profile_id: str
    streams: dict[int, Stream] = field(default_factory=dict)
    run: Run | None = None
    paused: bool = False
    tables: BuiltTables = field(default_factory=BuiltTables)

    @property
    def state(self) -> State:
        """Where the profile is in the state machine."""
        if self.run is not None:
            return State.PAUSE if self.paused else State.TX
        return State.STREAMS if self.streams else State.IDLE

    def require(self, command: str, *allowed: State) -> None:
        """Raise ``ExecuteError`` unless the state is one of ``allowed``."""
        if self.state not in allowed:
            raise ExecuteError(
                f"command '{command}' cannot be executed on current state: "
                f"'{self.state.value} on profile_id({self.profile_id})."
            )

    def running(self) -> Run:
        """The traffic of an active profile."""
        if self.run is None:
            raise ExecuteError(f"profile_id {self.profile_id} has no traffic")
        return self.run


@dataclass
class LayerConfig:
    """Addresses that ``set_l2``/``set_l3`` gave a port; ``ipv4`` None: L2 mode."""

    dst_mac: str
    resolved: bool = True
    ipv4: tuple[str, str] | None = None


@dataclass
class Port:
    """One port as clients see it."""

    info: PortInfo
    layer: LayerConfig
    owner: Owner | None = None
    profiles: dict[str, Profile] = field(default_factory=lambda: {DEFAULT_PROFILE: Profile(DEFAULT_PROFILE)})
    promiscuous: bool = False
    multicast: bool = False
    vlan: list[int] = field(default_factory=list)
    service: bool = False
    filtered: bool = False
    link_up: bool = True

    @property
    def index(self) -> int:
        """Port number."""
        return self.info.index

    @property
    def speed_bps(self) -> float:
        """Line rate in bits/s."""
        return self.info.speed_gbps * 1e9

    @property
    def state(self) -> State:
        """The most active state among the profiles."""
        states = {profile.state for profile in self.profiles.values()}
        return next(state for state in (State.TX, State.PAUSE, State.STREAMS, State.IDLE) if state in states)

    def attributes(self) -> dict[str, Any]:
        """The attributes that events of type 8 carry."""
        return {
            "speed": self.info.speed_gbps,
            "link": {"up": self.link_up},
            "fc": {"mode": -1},
            "promiscuous": {"enabled": self.promiscuous},
            "multicast": {"enabled": self.multicast},
            "rx_filter_mode": "all" if self.service else "hw",
            "vxlan_fs": [],
        }

    def active_profiles(self) -> Iterator[Profile]:
        """Profiles with traffic."""
        return iter([profile for profile in self.profiles.values() if profile.run is not None])

    def profile(self, profile_id: str) -> Profile:
        """An existing profile; ``ExecuteError`` if there is none of that name."""
        if profile_id not in self.profiles:
            raise ExecuteError(f"profile_id {profile_id} does not exists")
        return self.profiles[profile_id]

    def profile_for_add(self, profile_id: str) -> Profile:
        """The profile a stream is added to, made if new."""
        if profile_id not in self.profiles:
            if profile_id == ALL_PROFILES or not profile_id or len(profile_id) > MAX_NAME:
                raise ExecuteError(f"profile_id must be a name of 1 to {MAX_NAME} characters other than '*'")
            if len(self.profiles) >= MAX_PROFILES:
                raise ExecuteError(f"Reached limit of {MAX_PROFILES} profiles at the port.")
            self.profiles[profile_id] = Profile(profile_id)
        return self.profiles[profile_id]

    def stream_count(self) -> int:
        """Streams of all profiles."""
        return sum(len(profile.streams) for profile in self.profiles.values())

    def check_handler(self, handler: str) -> None:
        """Raise ``ExecuteError`` unless ``handler`` is the present owner's."""
        if self.owner is None:
            # An empty handler is what TRex's client sends after a failed acquire.
            raise ExecuteError("please acquire the port before modifying port state")
        if not secrets.compare_digest(self.owner.handler.encode(), handler.encode("utf-8", "replace")):
            raise ExecuteError("port is not owned by you or your current executing session")
