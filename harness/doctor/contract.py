# SPDX-License-Identifier: Apache-2.0
"""What the checks look at and what they find; :mod:`harness.doctor.examine` makes :class:`harness.records.Check` of it.

A check is a function of a :class:`HostView` that yields findings. It judges; what that is worth is the policy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.host.facts import nic
from harness.host.inventory import Survey, whole_of
from harness.plan import PortPlan, WirePlan


@dataclass(frozen=True)
class Finding:
    """``good``: as expected; None: the host cannot tell, or (``applies`` false) the question has no meaning there, for
    ``reason``. ``target``: an interface or a core."""

    target: str
    value: str
    expected: str
    good: bool | None
    remedy: str = ""
    reason: str = ""
    applies: bool = True


def judged(target: str, value: str, expected: str, good: bool, remedy: str) -> Finding:
    """What the host told, against what is expected."""
    return Finding(target, value, expected, good, "" if good else remedy)


def unknown(target: str, expected: str, reason: str) -> Finding:
    """The host cannot tell."""
    return Finding(target, "", expected, None, reason=reason)


def no_matter(target: str, reason: str) -> Finding:
    """The question has no meaning there."""
    return Finding(target, "", "", None, reason=reason, applies=False)


@dataclass(frozen=True)
class PortView:
    """A test port of a host: as planned, its wire, and the kernel's interface that it is; "" where the kernel does not
    have it, for ``gone``."""

    plan: PortPlan
    wire: WirePlan
    ifname: str
    gone: str = ""

    @property
    def label(self) -> str:
        """How it is called in findings."""
        return self.ifname or self.plan.ifname or self.plan.pci or f"port {self.plan.index}"


@dataclass(frozen=True)
class HostView:
    """A host as surveyed. ``side``: "dut" or "generator". ``cores``: those that stacks are given, or the generator has.
    ``tuning``: items that every point's profile sets. ``largest``: the longest frame that is sent, bytes with FCS.
    ``wires``: all of the testbed. ``ahead_s``: of its wall clock against this machine's."""

    name: str
    side: str
    survey: Survey
    ports: tuple[PortView, ...]
    cores: tuple[int, ...]
    lab: bool
    wires: tuple[WirePlan, ...]
    largest: int
    vlan: bool = False
    tuning: Mapping[str, Any] = field(default_factory=dict)
    ahead_s: float | None = None

    def nic(self, port: PortView) -> dict[str, Any]:
        """Facts of a port's interface."""
        return nic(self.survey, port.ifname)

    def physical(self, port: PortView) -> bool:
        """Whether the port is a device on a bus, and not of software."""
        return self.survey.at("interfaces", port.ifname, "device") is not None

    def port_number(self, ifindex: int) -> str | None:
        """The test port with this index of the kernel."""
        return next((port.ifname for port in self.ports if port.ifname and
                     whole_of(self.survey.at("interfaces", port.ifname, "ifindex")) == ifindex), None)


CheckFunction = Callable[[HostView], Iterable[Finding]]


def each_port(host: HostView, expected: str, check: Callable[[PortView], Finding]) -> Iterable[Finding]:
    """A check of every port that the kernel has; of the others it says why not."""
    for port in host.ports:
        yield check(port) if port.ifname else unknown(port.label, expected, port.gone)


def listed(names: Sequence[str], most: int = 6) -> str:
    """A few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
