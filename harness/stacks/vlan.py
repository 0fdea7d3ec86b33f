# SPDX-License-Identifier: Apache-2.0
"""VLAN devices over a point's ports, for stacks of the kernel that take tagged traffic at the IP layer.

Programs that see the frame itself (XDP, DPDK, a bridge) need none.
"""

from __future__ import annotations

from dataclasses import replace

from harness.host.contract import Dut
from harness.plan import PointPlan, WirePlan
from harness.stack import Missing
from harness.stacks.ports import bring_up, keep_lro

#: Name of the device over the port of wire ``index``.
NAME = "nsh-vlan{index}"
#: There as soon as the kernel's 802.1Q code is.
_THERE = "/proc/net/vlan"


def missing_vlan(dut: Dut, point: PointPlan) -> list[Missing]:
    """What keeps tagged traffic of the point from the IP layer; none where it has no tags. Changes nothing."""
    if point.vlan is None:
        return []
    missing = []
    if not dut.exists(_THERE) and not _loadable(dut):
        missing.append(Missing("VLAN devices in the kernel (module 8021q)", "boot a kernel with CONFIG_VLAN_8021Q "
                               "(Debian's and Ubuntu's have it), or choose a stack that sees the frame itself"))
    for name in (NAME.format(index=wire.index) for wire in point.wires):
        if dut.exists(f"/sys/class/net/{name}"):
            missing.append(Missing(f"the name {name} for a VLAN device (there is an interface of that name)",
                                   f"ip link del dev {name}"))
    return missing


def _loadable(dut: Dut) -> bool:
    return (dut.which("modprobe") is not None
            and dut.run(["modprobe", "--dry-run", "--quiet", "8021q"], check=False).returncode == 0)


def over_vlan(dut: Dut, point: PointPlan) -> PointPlan:
    """Make the VLAN devices of the point, silent and without an address; journalled. Returns the point with them as its
    ports, for :func:`harness.stacks.ports.set_up_ports`; the same point where its frames have no tag. A route of the
    port itself to the flows behind its wire is taken away meanwhile: it would lead replies out untagged."""
    if point.vlan is None:
        return point
    return replace(point, wires=tuple(_over(dut, wire, point.vlan) for wire in point.wires))


def _over(dut: Dut, wire: WirePlan, tag: int) -> WirePlan:
    port, name = wire.dut.ifname, NAME.format(index=wire.index)
    bring_up(dut, port)
    # The kernel turns it off below a device that has none, and leaves it so when that device is gone.
    keep_lro(dut, [port])
    dut.apply(["ip", "link", "add", "link", port, "name", name, "type", "vlan", "id", str(tag)],
              ["ip", "link", "del", "dev", name], made=["ip", "link", "show", "dev", name])
    # No link-local address: neighbour discovery would leave on the test's ports.
    dut.run(["ip", "link", "set", "dev", name, "addrgenmode", "none"])
    _vacate(dut, wire)
    return replace(wire, dut=replace(wire.dut, ifname=name))


def _vacate(dut: Dut, wire: WirePlan) -> None:
    port, version = wire.dut.ifname, f"-{6 if ':' in wire.dut.ip else 4}"
    shown = dut.run(["ip", version, "route", "show", "exact", wire.flow_prefix, "dev", port]).stdout
    for words in (line.split() for line in shown.splitlines()):
        if f" via {wire.tg.ip} " in f" {' '.join(words)} ":
            # A port that is down shows its routes with words that ip does not take back.
            route = [*(word for word in words if word not in ("linkdown", "dead")), "dev", port]
            dut.apply(["ip", version, "route", "del", *route], ["ip", version, "route", "replace", *route])
