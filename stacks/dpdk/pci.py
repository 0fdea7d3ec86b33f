# SPDX-License-Identifier: Apache-2.0
"""PCI devices as sysfs shows them, and which of them must not be taken from the kernel."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import StackError
from harness.host.contract import Dut
from harness.plan import PointPlan, PortPlan, Role

from .interface import families, ip_json

DEVICES = "/sys/bus/pci/devices"
#: Bridges are part of an IOMMU group and stay with the kernel.
_BRIDGE_CLASS = "0x06"


def used_ports(point: PointPlan) -> list[PortPlan]:
    """The DUT's ports that the stack serves: those at which test frames arrive, and when forwarding leave."""
    return [w.dut for w in point.wires
            if point.role is Role.FORWARD or any(d.tx_port == w.tg.index for d in point.directions)]


def names(dut: Dut, folder: str) -> list[str]:
    """Names of what is in a folder; none where there is no folder."""
    return sorted(dut.run(["ls", folder]).stdout.split()) if dut.exists(folder) else []


def pci_address(dut: Dut, port: PortPlan) -> str:
    """The port's PCI address: the testbed's, or that of its interface; "" where neither is there."""
    if port.pci or not port.ifname:
        return port.pci
    path = dut.run(["readlink", "-f", f"/sys/class/net/{port.ifname}/device"], check=False).stdout.strip()
    # A virtio interface belongs to a device on the virtio bus, which is a child of the PCI device.
    return next((part for part in reversed(path.split("/")) if part and dut.exists(f"{DEVICES}/{part}")), "")


def bound_to(dut: Dut, pci: str) -> str:
    """The driver that has a device; "" for none."""
    path = dut.run(["readlink", f"{DEVICES}/{pci}/driver"], check=False).stdout.strip()
    return path.rpartition("/")[2]


def interfaces(dut: Dut, pci: str) -> list[str]:
    """Interfaces of a device; those of a virtio device are one level deeper."""
    device = f"{DEVICES}/{pci}"
    found = names(dut, f"{device}/net")
    for child in names(dut, device):
        if child.startswith("virtio"):
            found += names(dut, f"{device}/{child}/net")
    return found


def override(dut: Dut, pci: str) -> str:
    """The device's ``driver_override``, "(null)" for none."""
    return dut.read(f"{DEVICES}/{pci}/driver_override", "(null)").strip()


def numa_node(dut: Dut, pci: str) -> int | None:
    """The memory node a device is attached to; None where the host has one or does not say."""
    node = int(dut.read(f"{DEVICES}/{pci}/numa_node", "-1"))
    return node if node >= 0 and dut.exists(f"/sys/devices/system/node/node{node}") else None


def group_companions(dut: Dut, pci: str) -> list[str]:
    """Other devices of the IOMMU group, bridges left out: VFIO wants all of them, or bound to no driver."""
    others = [other for other in names(dut, f"{DEVICES}/{pci}/iommu_group/devices") if other != pci]
    return [other for other in others if not dut.read(f"{DEVICES}/{other}/class", "").startswith(_BRIDGE_CLASS)]


def protected(dut: Dut, management: str) -> dict[str, str]:
    """Interfaces that are never taken from the kernel, and why: the management interface, those with a default route,
    and everything that these are stacked on."""
    reasons = {management: "the management interface"} if management else {}
    for family in families(dut):
        for route in ip_json(dut, family, "route", "show", "default"):
            for hop in [route, *route.get("nexthops", [])]:
                if "dev" in hop:
                    reasons.setdefault(str(hop["dev"]), "an interface with a default route")
    for top, why in tuple(reasons.items()):
        for below in _below(dut, top):
            reasons.setdefault(below, f"what {top} is stacked on, {why}")
    return reasons


def _below(dut: Dut, ifname: str) -> Iterable[str]:
    for entry in names(dut, f"/sys/class/net/{ifname}"):
        if entry.startswith("lower_"):
            below = entry.removeprefix("lower_")
            yield below
            yield from _below(dut, below)


def refuse_protected(dut: Dut, management: str, pci: str) -> None:
    """Raise StackError when a device must not be taken, by name; called before anything is touched."""
    reasons = protected(dut, management)
    for ifname in interfaces(dut, pci):
        if ifname in reasons:
            raise StackError(f"dpdk: {ifname} ({pci}) of {dut.name} is {reasons[ifname]}; it is never taken from the "
                             "kernel. Name a port in the testbed file that carries test traffic only.")
