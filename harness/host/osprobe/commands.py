# SPDX-License-Identifier: Apache-2.0
"""The probe of a host without an agent: a command before the trial and one after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.errors import HostError, TestbedError
from harness.host.contract import CpuSample, Sampling
from harness.host.osprobe.bsd import Bsd
from harness.host.osprobe.contract import Runs, System
from harness.host.osprobe.illumos import Illumos

WARNING = ("{host} ({system}) has no agent: it is read by plain commands before and after each trial, so pauses are "
           "not seen and work is not named; there is no lease, so what a run changed stays changed if the harness dies")

#: What `uname -s` prints -> how that system is read. illumos and Solaris both call themselves SunOS.
_SYSTEMS: Mapping[str, Callable[[], System]] = {"FreeBSD": Bsd, "DragonFly": Bsd, "SunOS": Illumos}


class CommandProbe:
    """Two readings of every core around a trial. Anything a host prints is parsed, bounded and never believed."""

    def __init__(self, host: Runs, system: System, name: str) -> None:
        """``name``: the host's, for messages."""
        self._host, self._system, self._name = host, system, name
        self.warning = WARNING.format(host=name, system=system.name)
        self._first: CpuSample | None = None

    def start(self, period_s: float, probe_cores: Sequence[int]) -> None:
        self._first = self._read_cpu()

    def stop(self) -> Sampling:
        if self._first is None:
            raise HostError(f"{self._name}: stop without start")
        first, self._first = self._first, None
        return Sampling(samples=[first, self._read_cpu()], pauses=[], cost_s=0.0)

    def _read_cpu(self) -> CpuSample:
        try:
            return self._system.read_cpu(self._host)
        except ValueError as error:
            raise HostError(f"{self._name}: CPU times of {self._system.name} cannot be read: {error}") from error

    def interface_counters(self, ifnames: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, Mapping[str, int]] = {}
        for ifname in ifnames:
            try:
                found[ifname] = self._system.read_interface(self._host, ifname)
            except ValueError as error:
                raise HostError(f"{self._name}: counters of {ifname} cannot be read: {error}") from error
        return found


def command_probe(host: Runs, name: str) -> CommandProbe:
    """The probe for a host that has no agent, by what it calls itself. Raises TestbedError for a system that nobody has
    taught the harness to read."""
    system = host.run(["uname", "-s"]).stdout.strip()[:40]
    if system not in _SYSTEMS:
        raise TestbedError(f"{name} calls itself {system!r}; without an agent {', '.join(_SYSTEMS)} can be read. On "
                           "Linux install Python 3.6 or later (apt-get install python3) for the agent")
    return CommandProbe(host, _SYSTEMS[system](), name)
