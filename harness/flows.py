# SPDX-License-Identifier: Apache-2.0
"""Wires, flows and directions of a Plan: which addresses, ports and MACs the test frames carry, and where they go.

The prefixes of a wire are those of :mod:`harness.lab.addresses`, on every testbed, numbered over all its hosts: where a
switch joins a generator port with several hosts, each still has addresses of its own. Flows of wire w come from
198.19.<64 w + 1>.0 and up; forwarded ones go to 198.19.<64 w>.1 behind the wire they leave by. IPv6 likewise: from
2001:2:0:<0x100 + w>::100 and up, to 2001:2:0:<0x100 + w>::1.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from harness.errors import UsageError
from harness.lab.addresses import LINK_PREFIX_LEN, flow_prefix, link_ip
from harness.plan import DirectionPlan, FlowPlan, PortPlan, Role, WirePlan
from harness.testbed import Port, Testbed

#: Destination port of all test traffic, UDP or TCP: no service's, and below the ephemeral range.
UDP_PORT = 9000
FIRST_SOURCE_PORT = 1024
MOST_SOURCE_IPS = 256
MOST_SOURCE_PORTS = 65536 - FIRST_SOURCE_PORT


def wire_plans(testbed: Testbed, version: int = 4) -> tuple[WirePlan, ...]:
    """Every wire of a testbed with its addresses of an IP version."""
    plans = []
    for index, wire in enumerate(testbed.wires):
        dut_port = testbed.dut(wire.host).ports[wire.port]
        tg_port = testbed.generator.ports[wire.tg]
        plans.append(WirePlan(
            index=index, host=wire.host, tg=_port(tg_port, wire.tg, link_ip(index, "tg", version)),
            dut=_port(dut_port, wire.port, link_ip(index, "dut", version)), speed_gbps=wire.speed,
            flow_prefix=flow_prefix(index, version), virtual=testbed.lab or wire.virtual,
        ))
    return tuple(plans)


def _port(port: Port, index: int, ip: str) -> PortPlan:
    prefix_len = LINK_PREFIX_LEN[ipaddress.ip_address(ip).version]
    return PortPlan(index=index, ifname=port.ifname, mac=port.mac, ip=ip, prefix_len=prefix_len, pci=port.pci)


def wires_needed(role: Role) -> int:
    """How many wires of a DUT a role uses: forward goes in on one and out on another."""
    return 2 if role is Role.FORWARD else 1


def factor_flows(count: int) -> tuple[int, int]:
    """(source addresses, source ports) whose product is ``count``: as many addresses as divide it, at most 256.

    Raises UsageError naming the nearest counts that work when the ports left over do not fit in UDP's."""
    addresses = _addresses(count)
    if addresses is None:
        near = [n for n in (_nearest(count, -1), _nearest(count, 1)) if n is not None]
        raise UsageError(f"{count} flows cannot be made of at most {MOST_SOURCE_IPS} addresses x {MOST_SOURCE_PORTS} "
                         f"ports; nearest that can: {', '.join(map(str, near))}")
    return addresses, count // addresses


def _addresses(count: int) -> int | None:
    largest = next(n for n in range(min(count, MOST_SOURCE_IPS), 0, -1) if count % n == 0)
    return largest if count // largest <= MOST_SOURCE_PORTS else None


def _nearest(count: int, step: int) -> int | None:
    # A multiple of 256 always works up to 16.5 M flows, so the walk is short.
    for candidate in range(count + step, count + step * (MOST_SOURCE_IPS + 1), step):
        if 0 < candidate <= MOST_SOURCE_IPS * MOST_SOURCE_PORTS and _addresses(candidate) is not None:
            return candidate
    return None


def directions(role: Role, wires: tuple[WirePlan, ...], flows: int, *, bidirectional: bool, vlan: int | None = None,
               own_tcp: bool = False) -> tuple[DirectionPlan, ...]:
    """Where frames of a role go in and come back, with their flows, addressed to the DUT's ports. ``wires``: those the
    role uses, in order. ``vlan``: id of the tag on every frame. ``own_tcp``: of role accept, the generator has a TCP
    stack of its own (TRex) and uses every address behind its end of the wire."""
    if role is Role.ACCEPT:
        return (_from_prefix(wires[0]) if own_tcp else _connections(wires[0]),)
    if role is Role.FORWARD:
        there = _direction(wires[0], wires[1].tg.index, _sink(wires[1]), flows, vlan)
        back = _direction(wires[1], wires[0].tg.index, _sink(wires[0]), flows, vlan)
        return (there, back) if bidirectional else (there,)
    returns_to = None if role is Role.DROP else wires[0].tg.index
    return (_direction(wires[0], returns_to, wires[0].dut.ip, flows, vlan),)


def addressed(there: tuple[DirectionPlan, ...], wires: tuple[WirePlan, ...], layer: str) -> tuple[DirectionPlan, ...]:
    """The same directions with the destination MAC that a DUT of this layer (``RoleInfo.layer``) takes in: the far
    generator port's for "l2", the DUT port's own for all others. ``wires``: those the directions use."""

    def mac(direction: DirectionPlan) -> str:
        if layer == "l2":
            return next(wire.tg.mac for wire in wires if wire.tg.index == direction.rx_port)
        return next(wire.dut.mac for wire in wires if wire.tg.index == direction.tx_port)

    return tuple(replace(direction, dst_mac=mac(direction)) for direction in there)


def _connections(wire: WirePlan) -> DirectionPlan:
    """TCP from the generator's own address. One is enough: the server keeps every TIME-WAIT, so a port is free for the
    next connection as soon as the last one's exchange is over."""
    ports = FlowPlan(
        count=MOST_SOURCE_PORTS, src_ip_first=wire.tg.ip, src_ips=1, src_port_first=FIRST_SOURCE_PORT,
        src_ports=MOST_SOURCE_PORTS, dst_ip=wire.dut.ip, dst_port=UDP_PORT, l4="tcp",
    )
    return DirectionPlan(tx_port=wire.tg.index, rx_port=wire.tg.index, src_mac=wire.tg.mac, dst_mac=wire.dut.mac,
                         flows=ports)


def _from_prefix(wire: WirePlan) -> DirectionPlan:
    """TCP from all flow addresses of a wire, of which each trial uses its own (:mod:`harness.generator.astf`)."""
    addresses = ipaddress.ip_network(wire.flow_prefix).num_addresses - MOST_SOURCE_IPS
    there = _connections(wire)
    return replace(there, flows=replace(there.flows, src_ip_first=_first_source(wire), src_ips=addresses,
                                        count=addresses * MOST_SOURCE_PORTS))


def _sink(wire: WirePlan) -> str:
    return str(ipaddress.ip_network(wire.flow_prefix)[1])


def _first_source(wire: WirePlan) -> str:
    return str(ipaddress.ip_network(wire.flow_prefix)[MOST_SOURCE_IPS])


def _direction(wire: WirePlan, rx_port: int | None, dst_ip: str, flows: int, vlan: int | None) -> DirectionPlan:
    addresses, ports = factor_flows(flows)
    return DirectionPlan(
        tx_port=wire.tg.index, rx_port=rx_port, src_mac=wire.tg.mac, dst_mac=wire.dut.mac,
        flows=FlowPlan(
            count=flows, src_ip_first=_first_source(wire), src_ips=addresses,
            src_port_first=FIRST_SOURCE_PORT, src_ports=ports, dst_ip=dst_ip, dst_port=UDP_PORT,
        ), vlan=vlan,
    )
