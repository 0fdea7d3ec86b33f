# SPDX-License-Identifier: Apache-2.0
"""The address plan of test wires (the lab's and, by default, a real testbed's) and the names and MACs of a lab.

Everything here is computed, nothing is touched: a Plan can be printed for a lab that does not exist yet.
The prefixes are those set aside for benchmarks: 198.18.0.0/15 (RFC 2544) and 2001:2::/48 (RFC 5180).
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import ip_address

from harness.lab.errors import LabNameError
from harness.plan import PortPlan, WirePlan

#: Wires of a lab: each has a /18 for its flows in 198.19.0.0/16.
MAX_WIRES = 4
#: Wires of a testbed: those beyond four have a /19 for their flows in 198.18.128.0/17.
MOST_WIRES = 8
LINK_PREFIX_LEN = {4: 24, 6: 64}
FLOW_PREFIX_LEN, FAR_FLOW_PREFIX_LEN = 18, 19
#: Nominal speed of a veth wire (design.md, "Plan").
LAB_SPEED_GBPS = 10.0
#: What the lab's DUT is called in plans and results.
DUT_HOST = "dut"

_NAME = re.compile(r"[a-z0-9]{1,8}\Z")


def check_name(name: str) -> str:
    """A lab's name: 1-8 of a-z and 0-9, so that device names fit into 15 characters. Raises LabNameError."""
    if not _NAME.match(name):
        raise LabNameError(f"lab name {name!r}: use 1 to 8 of a-z and 0-9, for example 'demo'")
    return name


def link_ip(wire: int, side: str, version: int = 4) -> str:
    """Address of one end of wire ``wire`` (0-based): DUT .1, TG .2 in 198.18.WIRE.0/24; ::1, ::2 in
    2001:2:0:WIRE::/64."""
    _check_wire(wire)
    host = 1 if side == "dut" else 2
    return str(ip_address(f"2001:2:0:{wire:x}::{host}")) if version == 6 else f"198.18.{wire}.{host}"


def link_prefix(wire: int) -> str:
    """The link's own IPv4 prefix, CIDR."""
    _check_wire(wire)
    return f"198.18.{wire}.0/{LINK_PREFIX_LEN[4]}"


def flow_prefix(wire: int, version: int = 4) -> str:
    """The prefix of every flow address behind the generator's end of a wire, CIDR: 16,384 addresses (beyond the fourth
    wire 8,192), or a /64."""
    _check_wire(wire)
    if version == 6:
        return f"2001:2:0:{0x100 + wire:x}::/64"
    if wire < MAX_WIRES:
        return f"198.19.{64 * wire}.0/{FLOW_PREFIX_LEN}"
    return f"198.18.{128 + 32 * (wire - MAX_WIRES)}.0/{FAR_FLOW_PREFIX_LEN}"


def _check_wire(wire: int) -> None:
    if not 0 <= wire < MOST_WIRES:
        raise ValueError(f"wire {wire}: the address plan has room for wires 0..{MOST_WIRES - 1}")


def netns_name(lab: str, side: str) -> str:
    """Namespace of one side ("tg" or "dut") of a lab."""
    return f"nsh-{lab}-{side}"


def device_name(lab: str, side: str, wire: int) -> str:
    """Name of a port, unique on the machine, since ``napi/DEVICE-ID`` kernel threads are told apart by it alone.
    With the usual three-character lab and an id of up to three digits even that fits into 15 characters."""
    return f"h{lab}{side[0]}{wire}"


def mac_address(lab: str, side: str, wire: int) -> str:
    """Locally administered, the same every time for the same port of a lab of the same name."""
    digest = hashlib.sha256(lab.encode("ascii")).digest()
    octets = (0x02, *digest[:3], 1 if side == "dut" else 2, wire)
    return ":".join(f"{octet:02x}" for octet in octets)


def _port(lab: str, side: str, wire: int) -> PortPlan:
    return PortPlan(index=wire, ifname=device_name(lab, side, wire), mac=mac_address(lab, side, wire),
                    ip=link_ip(wire, side), prefix_len=LINK_PREFIX_LEN[4])


def plan_wires(lab: str, wires: int = 2) -> tuple[WirePlan, ...]:
    """The wires of the lab named ``lab``. Raises LabNameError, or ValueError for more wires than there is room for."""
    check_name(lab)
    if not 1 <= wires <= MAX_WIRES:
        raise ValueError(f"{wires} wires: a lab has 1 to {MAX_WIRES}")
    return tuple(
        WirePlan(index=wire, host=DUT_HOST, tg=_port(lab, "tg", wire), dut=_port(lab, "dut", wire),
                 speed_gbps=LAB_SPEED_GBPS, flow_prefix=flow_prefix(wire), virtual=True)
        for wire in range(wires)
    )
