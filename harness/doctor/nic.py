# SPDX-License-Identifier: Apache-2.0
"""The NICs of the test ports: flow control, offloads, rings, PCIe link, firmware, NUMA node."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.doctor.contract import Finding, HostView, PortView, each_port, judged, listed, no_matter, unknown
from harness.host.facts import topology
from harness.host.inventory import line_of, whole_of
from harness.host.topology import Topology

_SOFTWARE = "the port is of software"
_SILENT = "the driver does not say"
#: Descriptors that outlast a pause of 70 us at line rate of 10 Gbit/s.
_RING = 1024
#: Offload by ethtool's name: whether it is to be on; and those that the lab's wires need on top.
_OFFLOADS = {"large-receive-offload": False, "rx-gro-hw": False, "rx-checksumming": True}
_LAB_OFFLOADS = {"generic-receive-offload": True, "tcp-segmentation-offload": False,
                 "generic-segmentation-offload": False, "tx-checksumming": False, "tx-vlan-offload": False}


def _nothing(host: HostView, port: PortView, expected: str) -> Finding:
    return unknown(port.label, expected, _SILENT) if host.physical(port) else no_matter(port.label, _SOFTWARE)


def pause_frames(host: HostView) -> Iterable[Finding]:
    """No flow control in either direction."""
    def check(port: PortView) -> Finding:
        told = host.nic(port)["pause"]
        if not told:
            return _nothing(host, port, "off")
        on = [way for way in ("rx", "tx") if told.get(way)]
        return judged(port.label, " and ".join(on) + " on" if on else "off", "off", not on,
                      f"ethtool -A {port.label} autoneg off rx off tx off, or tuning: tuned")

    return each_port(host, "off", check)


def offloads(host: HostView) -> Iterable[Finding]:
    """No aggregation in hardware, checksums checked; in the lab as its wires need them."""
    wanted = {**_OFFLOADS, **(_LAB_OFFLOADS if host.lab else {})}
    expected = ", ".join(f"{name} {_on(value)}" for name, value in wanted.items())

    def check(port: PortView) -> Finding:
        told = host.nic(port)["offloads"]
        if told is None:
            return unknown(port.label, expected, _SILENT)
        wrong = {name: told[name] for name, value in wanted.items() if name in told and told[name] is not value}
        value = ", ".join(f"{name} {_on(is_on)}" for name, is_on in wrong.items()) or "as expected"
        fix = " ".join(f"{name} {_on(not is_on)}" for name, is_on in wrong.items())
        return judged(port.label, value, expected, not wrong, f"ethtool -K {port.label} {fix}")

    return each_port(host, expected, check)


def _on(value: bool) -> str:
    return "on" if value else "off"


def rings(host: HostView) -> Iterable[Finding]:
    """Receive rings that outlast short pauses."""
    expected = f"at least {_RING}, or the most there can be"

    def check(port: PortView) -> Finding:
        size = whole_of(host.survey.at("interfaces", port.ifname, "rings", "rx"))
        most = whole_of(host.survey.at("interfaces", port.ifname, "rings", "rx_max"))
        if not size or not most:
            return _nothing(host, port, expected)
        return judged(port.label, f"rx {size} of {most}", expected, size >= min(_RING, most),
                      f"ethtool -G {port.label} rx {min(most, 4 * _RING)}, or tuning: tuned")

    return each_port(host, expected, check)


def pcie(host: HostView) -> Iterable[Finding]:
    """As fast and as wide as device and slot can."""
    def check(port: PortView) -> Finding:
        at = ("interfaces", port.ifname, "pci")
        speed, best = (line_of(host.survey.at(*at, f"{which}_link_speed")) for which in ("current", "max"))
        width, widest = (whole_of(host.survey.at(*at, f"{which}_link_width")) for which in ("current", "max"))
        if not speed or not best or not width or not widest or widest > 32:
            return unknown(port.label, "the device's most", "the bus tells no link (virtual machine)"
                           ) if host.physical(port) else no_matter(port.label, _SOFTWARE)
        good = _rate(speed) >= _rate(best) and width >= widest
        return judged(port.label, f"{speed} x{width}", f"{best} x{widest}", good,
                      "put the card into a slot that is wide enough, or look at the slot's set-up in the firmware")

    return each_port(host, "the device's most", check)


def _rate(text: str) -> float:
    found = re.match(r"(\d+(?:\.\d+)?) ?GT/s", text)
    return float(found[1]) if found else 0.0


def firmware(host: HostView) -> Iterable[Finding]:
    """Known, and one version for all ports of a driver."""
    about = {port.label: host.nic(port) for port in host.ports if port.ifname}

    def check(port: PortView) -> Finding:
        mine = about[port.label]
        if not mine["firmware"] or mine["firmware"] == "N/A":
            return _nothing(host, port, "the same on all ports")
        others = sorted({str(one["firmware"]) for one in about.values() if one["driver"] == mine["driver"]})
        return judged(port.label, mine["firmware"], "the same on all ports", len(others) == 1,
                      f"bring the ports to one version: they have {listed(others)}")

    return each_port(host, "the same on all ports", check)


def numa(host: HostView) -> Iterable[Finding]:
    """Cores and NIC on one node."""
    try:
        cpus = Topology.parse(topology(host.survey) or "")
    except ValueError:
        cpus = None

    def check(port: PortView) -> Finding:
        node = host.nic(port)["numa_node"]
        if not host.physical(port):
            return no_matter(port.label, _SOFTWARE)
        if cpus is None:
            return unknown(port.label, "one node", "lscpu tells no topology")
        nodes = {cpu.node for cpu in cpus.cpus if cpu.cpu in host.cores}
        if len({cpu.node for cpu in cpus.cpus}) < 2:
            return judged(port.label, "the host has one node", "one node", True, "")
        if node is None or node < 0:
            return unknown(port.label, "one node", "the bus does not tell the NIC's node")
        where = ", ".join(map(str, sorted(nodes)))
        return judged(port.label, f"NIC on node {node}, cores on {where}", "one node", nodes == {node},
                      f"take cores of node {node}")

    return each_port(host, "one node", check)
