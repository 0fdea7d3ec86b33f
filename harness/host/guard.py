# SPDX-License-Identifier: Apache-2.0
"""Which interfaces of a host nothing may be done to, and whether a test port is one of them.

The runner asks once a host, before the first change. Stacks ask again, for a device that they take by its address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from harness.errors import StackError, TestbedError
from harness.host.contract import Dut
from harness.host.iproute import families, ip_json
from harness.host.pci import interfaces, names
from harness.plan import PortPlan

REMEDY = "name a port in the testbed file that carries test traffic only"


def protected(dut: Dut, management: str) -> dict[str, str]:
    """Interfaces that are left alone, and what each is: the management interface, those with a default route, the one
    by which this very session came in, and everything that these are stacked on. Raises HostError."""
    reasons = {name: "the management interface" for name in _real_names(dut, management)}
    for family in families(dut):
        for route in ip_json(dut, family, "route", "show", "default"):
            for hop in [route, *route.get("nexthops", [])]:
                if "dev" in hop:
                    reasons.setdefault(str(hop["dev"]), "an interface with a default route")
    for name in _session(dut):
        reasons.setdefault(name, "the interface that this SSH connection uses")
    for top, why in tuple(reasons.items()):
        for below in _below(dut, top):
            reasons.setdefault(below, f"what {top} is stacked on, {why}")
    return reasons


def _real_names(dut: Dut, ifname: str) -> set[str]:
    """An interface's name as given and, where that is an alternative name, the kernel's."""
    if not ifname or dut.exists(f"/sys/class/net/{ifname}") or dut.which("ip") is None:
        return {ifname} - {""}
    known = {str(row["ifname"]) for row in ip_json(dut, "link", "show")
             if "ifname" in row and ifname in row.get("altnames", [])}
    return {ifname, *known}


def _session(dut: Dut) -> Iterator[str]:
    """The interface that has the address to which this session's SSH client connected; none where the host's SSH
    server does not tell it, or is behind another namespace."""
    words = dut.run(["printenv", "SSH_CONNECTION"], check=False).stdout.split()
    try:
        server = ipaddress.ip_address(words[2].partition("%")[0]) if len(words) == 4 else None
    except ValueError:  # UNKNOWN, of a server that has no socket
        return
    if server is None:
        return
    mapped = getattr(server, "ipv4_mapped", None)
    for row in ip_json(dut, "addr", "show"):
        if str(mapped or server) in {str(entry.get("local")) for entry in row.get("addr_info", [])}:
            yield str(row.get("ifname", ""))


def _below(dut: Dut, ifname: str) -> list[str]:
    """Everything that an interface is stacked on: slaves of a bond, what is under a VLAN, a bridge's ports, ..."""
    found, to_do = list[str](), [ifname]
    while to_do:
        for entry in names(dut, f"/sys/class/net/{to_do.pop()}"):
            below = entry.removeprefix("lower_")
            if below != entry and below not in found:
                found.append(below)
                to_do.append(below)
    return found


def interfaces_of(dut: Dut, port: PortPlan) -> list[str]:
    """The interfaces a port is, whether it is known by name, by its PCI address, or by both."""
    return list(dict.fromkeys([*([port.ifname] if port.ifname else []),
                               *(interfaces(dut, port.pci) if port.pci else [])]))


def check_ports(dut: Dut, management: str, ports: Sequence[PortPlan]) -> None:
    """Raise TestbedError, by name, when a test port is one that nothing may be done to."""
    if dut.which("ip") is None:
        raise TestbedError(f"{dut.name} has no program ip, so nobody can tell which interfaces carry its default route "
                           "and its SSH; apt-get install iproute2")
    reasons = protected(dut, management)
    for port in ports:
        for ifname in interfaces_of(dut, port):
            if ifname in reasons:
                at = f" ({port.pci})" if port.pci else ""
                raise TestbedError(f"port {port.index} of {dut.name}: {ifname}{at} is {reasons[ifname]}; nothing has "
                                   f"been touched. {REMEDY.capitalize()}.")


def refuse_device(dut: Dut, management: str, pci: str) -> None:
    """Raise StackError when a device must not be taken from the kernel, by name; called before anything is touched."""
    reasons = protected(dut, management)
    for ifname in interfaces(dut, pci):
        if ifname in reasons:
            raise StackError(f"{ifname} ({pci}) of {dut.name} is {reasons[ifname]}; it is never taken from the kernel. "
                             f"{REMEDY.capitalize()}.")
