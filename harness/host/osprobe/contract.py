# SPDX-License-Identifier: Apache-2.0
"""What the measurement asks of a DUT's operating system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.host.contract import Completed, CpuSample, Sampling


class OsProbe(Protocol):
    """Reads per-core CPU over a trial and counters of interfaces. Names and units are Linux's on every system."""

    #: What of the measurement this way of reading goes without; empty where nothing.
    warning: str

    def start(self, period_s: float, probe_cores: Sequence[int]) -> None:
        """Begin: the first reading is taken before it returns. ``probe_cores``: where pauses are looked for."""

    def stop(self) -> Sampling:
        """The readings since ``start``, the last of them taken now; pauses and threads where the system tells."""

    def interface_counters(self, ifnames: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """Of each interface: rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped and more as
        the system has them. Raises HostError for an interface that does not exist."""


class Runs(Protocol):
    """A host that runs commands (an SSH connection): all that a probe by plain commands needs."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed:
        """Run to completion; ``check``: a non-zero status is a HostError."""


class System(Protocol):
    """An operating system's commands, and what they print. Parsers raise ValueError for what they cannot read."""

    name: str

    def read_cpu(self, host: Runs) -> CpuSample:
        """Every core's times since boot, with the host's own monotonic clock. Raises HostError, ValueError."""

    def read_interface(self, host: Runs, ifname: str) -> Mapping[str, int]:
        """Counters of one interface. Raises HostError, ValueError."""
