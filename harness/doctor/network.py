# SPDX-License-Identifier: Apache-2.0
"""Who else is on the network: addresses, firewalls, packet sockets, XDP programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from harness.doctor.contract import Finding, HostView, each_port, judged, listed, no_matter, unknown
from harness.host.inventory import whole_of

_EVERYTHING = "0003"  # ETH_P_ALL
_MOST_INTERFACES, _MOST_OBJECTS = 256, 10_000


def duplicate_addresses(host: HostView) -> Iterable[Finding]:
    """Addresses of the test networks, and MACs of its ports, nowhere but on the wire that they belong to."""
    expected = "test addresses on their own ports only"
    interfaces = host.survey.json_of("addresses")
    if interfaces is None:
        yield unknown("", expected, f"`ip -j address` gave nothing: {host.survey.why('addresses')}")
        return
    found = [*_addresses(host, interfaces), *_macs(host, interfaces)]
    yield judged("", listed([text for text, _ in found]) or "none twice", expected, not found,
                 "; ".join(dict.fromkeys(fix for _, fix in found[:4])))


def _entries(interfaces: list[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for entry in interfaces[:_MOST_INTERFACES]:
        if isinstance(entry, Mapping):
            yield str(entry.get("ifname"))[:40], entry


def _addresses(host: HostView, interfaces: list[Any]) -> Iterator[tuple[str, str]]:
    own = {(port.ifname, port.plan.ip) for port in host.ports}
    networks: list[IPv4Network | IPv6Network] = []
    for wire in host.wires:
        networks += [ip_network(f"{wire.dut.ip}/{wire.dut.prefix_len}", strict=False), ip_network(wire.flow_prefix)]
    for name, entry in _entries(interfaces):
        rows = entry.get("addr_info")
        for row in rows[:64] if isinstance(rows, list) else ():
            text = str(row.get("local"))[:60] if isinstance(row, Mapping) else ""
            try:
                address = ip_address(text)
            except ValueError:
                continue
            if (name, text) not in own and any(address in network for network in networks):
                yield f"{text} on {name}", f"ip address del {text}/{whole_of(row.get('prefixlen')) or 32} dev {name}"


def _macs(host: HostView, interfaces: list[Any]) -> Iterator[tuple[str, str]]:
    ports = {mac: end.index for wire in host.wires for end, mac in ((wire.tg, wire.tg.mac), (wire.dut, wire.dut.mac))}
    mine = {port.ifname: port for port in host.ports if port.ifname}
    for name, entry in _entries(interfaces):
        mac = str(entry.get("address")).lower()
        stacked = entry.get("link") in mine or name in {str(host.survey.at("interfaces", port, "master"))
                                                        for port in mine}
        if mac in ports and not stacked and (name not in mine or mine[name].plan.mac != mac):
            yield f"MAC {mac} on {name}", f"give {name} its own MAC address"


def firewall(host: HostView) -> Iterable[Finding]:
    """No rules that frames pass."""
    rules = _nftables(host)
    for family in ("iptables", "ip6tables"):
        if host.survey.at("commands", family) is not None and host.survey.output(family) is None:
            yield unknown("", "no rules", f"{family} has tables, but {family}-legacy-save gave nothing: "
                                          f"{host.survey.why(family)}")
            return
        lines = (host.survey.output(family) or "").splitlines()
        count = sum(line.startswith(("-A", "[")) and "-A " in line for line in lines)
        refused = sum(line.startswith(":") and " DROP " in line for line in lines)
        if count or refused:
            rules = [*(rules or ()), f"{family}: {count} rules" + (f", {refused} chains that drop" if refused else "")]
    if rules is None:
        yield unknown("", "no rules", f"`nft list ruleset` gave nothing: {host.survey.why('nftables')}")
        return
    running = [name for name in ("firewalld", "ufw") if name in host.survey.rows("programs")]
    yield judged("", "; ".join([*rules, *(f"{name} is running" for name in running)]) or "no rules", "no rules",
                 not rules and not running, "stop what makes the rules (firewalld, nftables, ufw, docker); `nft list "
                                            "ruleset` shows them")


def _nftables(host: HostView) -> list[str] | None:
    """A table a line; None where nft does not answer."""
    try:
        told = json.loads(host.survey.output("nftables") or "null")
    except (ValueError, RecursionError):
        return None
    objects = told.get("nftables") if isinstance(told, Mapping) else None
    if not isinstance(objects, list):
        return None
    tables: dict[str, list[int]] = {}
    for entry in objects[:_MOST_OBJECTS]:
        for kind in ("rule", "chain"):
            what = entry.get(kind) if isinstance(entry, Mapping) else None
            if isinstance(what, Mapping) and (kind == "rule" or what.get("hook")):
                counts = tables.setdefault(f"{what.get('family')} {what.get('table')}"[:60], [0, 0])
                counts[kind == "chain"] += 1
    return [f"nftables {name}: {rules} rules in {hooks} hooked chains" for name, (rules, hooks) in tables.items()]


def packet_sockets(host: HostView) -> Iterable[Finding]:
    """Nobody listens on the test ports."""
    if host.survey.at("packet_sockets") is None:
        yield unknown("", "none on test ports", "the kernel does not list packet sockets")
        return
    found = []
    for row in host.survey.rows("packet_sockets"):
        index = whole_of(row.get("ifindex")) if isinstance(row, Mapping) else None
        where = "every interface" if index == 0 else host.port_number(index) if index is not None else None
        if where and str(row.get("protocol")) != "0000" and (index or row.get("protocol") == _EVERYTHING):
            found.append(f"{str(row.get('name'))[:40] or 'a program'} (pid {row.get('pid')}) on {where}")
    yield judged("", listed(found) or "none", "none on test ports", not found, "end these programs")


def xdp_programs(host: HostView) -> Iterable[Finding]:
    """No XDP program is attached to a port of the DUT."""
    if host.side == "generator":
        return [no_matter(port.label, "the generator has its own there") for port in host.ports]
    interfaces = host.survey.json_of("addresses")
    attached = {name for name, entry in _entries(interfaces or []) if entry.get("xdp")}
    if interfaces is None:
        return [unknown("", "none", f"`ip -j address` gave nothing: {host.survey.why('addresses')}")]
    return each_port(host, "none", lambda port: judged(
        port.label, "attached" if port.ifname in attached else "none", "none", port.ifname not in attached,
        f"ip link set dev {port.label} xdp off"))
