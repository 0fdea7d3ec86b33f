# SPDX-License-Identifier: Apache-2.0
"""Everything the server knows, shared by all methods. One thread uses it; nothing here is locked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import GeneratorDied
from harness.generator.xdpgen.contract import CoreReport, Dataplane
from harness.generator.xdpgen.rpc.captures import Captures
from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.events import EventHub, EventType
from harness.generator.xdpgen.rpc.groups import Groups
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.ports import LayerConfig, Port, token
from harness.generator.xdpgen.rpc.schedule import Schedule
from harness.generator.xdpgen.rpc.smoothing import LazyRate

#: Seconds between two entries of the utilisation history.
_HISTORY_STEP = 0.5
_HISTORY = 20


@dataclass(frozen=True)
class PendingSend:
    """Frames pushed by a client, due one by one."""

    due: float
    port: int
    frame: bytes


class Utilisation:
    """CPU utilisation per core in percent, sampled when somebody asks."""

    def __init__(self, cores: int) -> None:
        self.history: list[list[float]] = [[0.0] * _HISTORY for _ in range(cores)]
        self._sampled_at: float | None = None

    def note(self, now: float, values: list[float]) -> None:
        """Put a sample in front of the history, at most one per half second."""
        if self._sampled_at is not None and now - self._sampled_at < _HISTORY_STEP:
            return
        self._sampled_at = now
        for history, value in zip(self.history, values, strict=True):
            history.insert(0, value)
            del history[_HISTORY:]


class ServerState:
    """The server without its sockets.

    ``dst_macs``: destination MAC by port; a port without one gets the MAC of its neighbour (0-1, 2-3, ...), or its
    own. ``link_up``: tells whether an interface has a link.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        dst_macs: Mapping[int, str] | None = None,
        link_up: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.dataplane = dataplane
        self.api_handle = token()
        self.started = time.time()
        self.events = EventHub(dataplane.now)
        self.groups = Groups(dataplane)
        self.captures = Captures(dataplane)
        self.utilisation = Utilisation(len(dataplane.cores))
        self.link_up = link_up
        self.schedule = Schedule(dataplane)
        self.pending: list[PendingSend] = []
        self.port_rates: dict[tuple[int, str], LazyRate] = {}
        self.next_key = 1
        self.shutdown = False
        #: Set once the dataplane is gone: the server answers what it was asked, then ends with this.
        self.died: GeneratorDied | None = None
        macs = {info.index: info.mac for info in dataplane.ports}
        chosen = {index: macs.get(index ^ 1, mac) for index, mac in macs.items()} | dict(dst_macs or {})
        self.ports = {info.index: Port(info, LayerConfig(chosen[info.index])) for info in dataplane.ports}

    def now(self) -> float:
        """The dataplane's clock in seconds."""
        return self.dataplane.now()

    def port(self, p: Params) -> Port:
        """The port named by ``port_id``."""
        index = p.byte("port_id")
        if index not in self.ports:
            raise ExecuteError("invalid port id - should be: " + " ".join(str(known) for known in self.ports))
        return self.ports[index]

    def refresh_link(self, port: Port) -> None:
        """Read a port's link state; a change is an event."""
        up = self.link_up(port.info.ifname)
        if up is not port.link_up:
            port.link_up = up
            event = {"port_id": port.index, "attr": port.attributes()}
            self.events.emit(EventType.PORT_ATTR_CHANGED, event)

    def take_key(self) -> int:
        """A key for the dataplane that was never used before."""
        key, self.next_key = self.next_key, self.next_key + 1
        return key

    def sending(self) -> bool:
        """True while any profile has traffic."""
        return any(profile.run is not None for port in self.ports.values() for profile in port.profiles.values())

    def core_reports(self) -> list[CoreReport]:
        """The dataplane's reports, one per core."""
        return self.dataplane.reports()

    def core_percent(self) -> list[float]:
        """Present utilisation of every core in percent; 0 while nothing is sent."""
        if not self.sending():
            return [0.0] * len(self.dataplane.cores)
        by_core = {report.core: report.utilisation * 100 for report in self.core_reports()}
        return [round(by_core.get(core, 0.0), 2) for core in self.dataplane.cores]
