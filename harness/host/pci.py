# SPDX-License-Identifier: Apache-2.0
"""PCI devices as sysfs shows them, and the interfaces they have."""

from __future__ import annotations

from harness.host.contract import Dut
from harness.plan import PortPlan

DEVICES = "/sys/bus/pci/devices"


def names(dut: Dut, folder: str) -> list[str]:
    """Names of what is in a folder; none where there is no folder."""
    return sorted(dut.run(["ls", folder]).stdout.split()) if dut.exists(folder) else []


def pci_address(dut: Dut, port: PortPlan) -> str:
    """The port's PCI address: the testbed's, or that of its interface; "" where neither is there."""
    return port.pci or (pci_of(dut, port.ifname) if port.ifname else "")


def pci_of(dut: Dut, ifname: str) -> str:
    """The PCI address of an interface; "" where it has none."""
    path = dut.run(["readlink", "-f", f"/sys/class/net/{ifname}/device"], check=False).stdout.strip()
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


def numa_node(dut: Dut, pci: str) -> int | None:
    """The memory node a device is attached to; None where the host has one or does not say."""
    node = int(dut.read(f"{DEVICES}/{pci}/numa_node", "-1"))
    return node if node >= 0 and dut.exists(f"/sys/devices/system/node/node{node}") else None
