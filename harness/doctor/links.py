# SPDX-License-Identifier: Apache-2.0
"""Links of the test ports: up, as fast as the testbed says, long enough frames."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.doctor.contract import Finding, HostView, PortView, each_port, judged, no_matter, unknown
from harness.host.inventory import line_of, whole_of
from harness.plan import ETHERNET, FCS, VLAN_TAG

_UP = 1


def link(host: HostView) -> Iterable[Finding]:
    """Administratively up, with carrier."""
    def check(port: PortView) -> Finding:
        flags = line_of(host.survey.at("interfaces", port.ifname, "flags")) or ""
        carrier = line_of(host.survey.at("interfaces", port.ifname, "carrier"))
        if not re.fullmatch(r"0x[0-9a-f]{1,8}", flags):
            return unknown(port.label, "up", "the kernel does not tell its state")
        up = bool(int(flags, 16) & _UP)
        if not up and not host.lab:  # whoever takes the port brings it up
            return unknown(port.label, "up", "it is set down, and a stack that uses it sets it up: `ip link set dev "
                                             f"{port.label} up` lets it be checked")
        value = "up" if up and carrier == "1" else "no carrier" if up else "set down"
        return judged(port.label, value, "up", value == "up",
                      f"ip link set dev {port.label} up" if not up else "look at the cable, the transceivers and the "
                      "other end's port")

    return each_port(host, "up", check)


def link_speed(host: HostView) -> Iterable[Finding]:
    """As the testbed says of the wire."""
    def check(port: PortView) -> Finding:
        speed, wanted = host.nic(port)["speed_mbps"], port.wire.speed_gbps
        expected = f"{wanted:g} Gbit/s"
        if port.wire.virtual and (speed is None or speed != wanted * 1000):
            return no_matter(port.label, "the wire is virtual, its speed is nominal")
        if speed is None:
            return unknown(port.label, expected, "the driver tells no speed; without a link there is none")
        return judged(port.label, f"{speed / 1000:g} Gbit/s", expected, speed == wanted * 1000,
                      f"look at `ethtool {port.label}` on both ends; or correct the wire's speed in the testbed file")

    return each_port(host, "the wire's speed", check)


def mtu(host: HostView) -> Iterable[Finding]:
    """Room for the longest frame."""
    needed = max(host.largest - ETHERNET - FCS - (VLAN_TAG if host.vlan else 0), 0)

    def check(port: PortView) -> Finding:
        value = whole_of(host.survey.at("interfaces", port.ifname, "mtu"))
        expected = f"at least {needed}, for frames of {host.largest} bytes"
        if value is None:
            return unknown(port.label, expected, "the kernel tells no MTU")
        return judged(port.label, str(value), expected, value >= needed, f"ip link set dev {port.label} mtu {needed}")

    return each_port(host, f"at least {needed}", check)
