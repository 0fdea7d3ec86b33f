# SPDX-License-Identifier: Apache-2.0
"""Ports that DPDK reaches through the kernel's driver of an interface: AF_XDP and AF_PACKET."""

from __future__ import annotations

from collections.abc import Sequence

from harness.host.contract import Dut
from harness.plan import PointPlan, PortPlan
from harness.stack import Missing
from harness.stacks.devices import receive_queues, used_ports
from harness.stacks.ports import interrupts_on_cores, keep_neighbours, keep_tags, pace_napi, set_up_ports

from .command import af_packet_devices, af_xdp_devices

IFF_PROMISC = 0x100


def missing_queues(dut: Dut, point: PointPlan) -> list[Missing]:
    """af_xdp: a core without a receive queue of its own would have nothing to poll; ports that forward to one another
    have as many queues each."""
    ports = used_ports(point)
    counts = {port.ifname: receive_queues(dut, port.ifname) for port in ports}
    shown, wanted = ", ".join(f"{name}: {count}" for name, count in counts.items()), len(point.cores)
    if len(set(counts.values())) > 1:
        return [Missing(f"as many receive queues on every port ({shown})",
                        f"ethtool -L {ports[0].ifname} combined {min(counts.values())} (or rx and tx), or rxq: 1")]
    if sum(counts.values()) >= wanted:
        return []
    return [Missing(f"{wanted} receive queues, one a core ({shown})",
                    f"ethtool -L {ports[0].ifname} combined {wanted} (or rx {wanted} tx {wanted}), or fewer cores")]


def prepare_kernel_ports(dut: Dut, point: PointPlan, coalesce_us: int) -> None:
    """Bring the ports up, pace the kernel's part of the work, arrange for the undoing of what testpmd leaves; all of it
    journalled."""
    set_up_ports(dut, point)
    interrupts_on_cores(dut, point)
    for port in used_ports(point):
        keep_neighbours(dut, port.ifname)  # af_packet sets the interface's MAC as it starts
        _prepare_port(dut, port.ifname, coalesce_us)
    if point.vlan is not None:
        keep_tags(dut, [port.ifname for port in used_ports(point)])


def _prepare_port(dut: Dut, ifname: str, coalesce_us: int) -> None:
    """testpmd leaves promiscuous mode on always, its XDP program when it is killed."""
    pace_napi(dut, ifname, coalesce_us)
    undo = ["ip", "link", "set", "dev", ifname]
    if not int(dut.read(f"/sys/class/net/{ifname}/flags"), 16) & IFF_PROMISC:
        undo += ["promisc", "off"]
    dut.apply(["ip", "link", "set", "dev", ifname, "xdp", "off"], [*undo, "xdp", "off"])


def af_xdp(dut: Dut, ports: Sequence[PortPlan], rxq: int, busy_budget: int) -> tuple[tuple[str, ...], str]:
    """Devices, one a queue, and what is slower than DPDK ought to be."""
    devices = af_xdp_devices([(port.ifname, rxq or receive_queues(dut, port.ifname)) for port in ports], busy_budget)
    if dut.virtual:
        return devices, "AF_XDP copy mode on a virtual wire; the polling thread and NAPI share the core"
    return devices, "AF_XDP through the kernel's driver, not DPDK's own"


def af_packet(dut: Dut, ports: Sequence[PortPlan], queues: int) -> tuple[tuple[str, ...], str]:
    """The kernel gets every frame too and would answer it (port unreachable): it is made to drop them on ingress."""
    for port in ports:
        table = f"netdev netstack_harness_{port.index}"
        dut.apply(
            ["nft", f'add table {table}; add chain {table} in {{ type filter hook ingress device "{port.ifname}"'
                    " priority 0; policy drop; }"],
            ["nft", f"add table {table}; delete table {table}"],
        )
    devices = af_packet_devices([port.ifname for port in ports], queues)
    return devices, "af_packet: every frame is copied by the kernel"
