# SPDX-License-Identifier: Apache-2.0
"""Which ports of a point a stack in user space takes, and what else of a PCI device it has to know."""

from __future__ import annotations

from harness.host.contract import Dut
from harness.host.pci import DEVICES, names
from harness.plan import PointPlan, PortPlan, Role

#: Bridges are part of an IOMMU group and stay with the kernel.
_BRIDGE_CLASS = "0x06"
_MOST_QUEUES = 4096


def used_ports(point: PointPlan) -> list[PortPlan]:
    """The DUT's ports that the stack serves: those at which test frames arrive, and when forwarding leave."""
    return [w.dut for w in point.wires
            if point.role is Role.FORWARD or any(d.tx_port == w.tg.index for d in point.directions)]


def override(dut: Dut, pci: str) -> str:
    """The device's ``driver_override``, "(null)" for none."""
    return dut.read(f"{DEVICES}/{pci}/driver_override", "(null)").strip()


def group_companions(dut: Dut, pci: str) -> list[str]:
    """Other devices of the IOMMU group, bridges left out: VFIO wants all of them, or bound to no driver."""
    others = [other for other in names(dut, f"{DEVICES}/{pci}/iommu_group/devices") if other != pci]
    return [other for other in others if not dut.read(f"{DEVICES}/{other}/class", "").startswith(_BRIDGE_CLASS)]


def receive_queues(dut: Dut, ifname: str) -> int:
    """Receive queues that an interface has at present; 0 where there is no such interface."""
    return next((n for n in range(_MOST_QUEUES) if not dut.exists(f"/sys/class/net/{ifname}/queues/rx-{n}")),
                _MOST_QUEUES)
