# SPDX-License-Identifier: Apache-2.0
"""What the kernel of a DUT needs before a stack that uses its network code can serve a point.

Ports up with their addresses, a static neighbour and a route for the flows behind each wire, interrupts on the cores of
the point (NAPI threads are pinned for every stack alike, after deployment). What is there already, as in the lab, is
left alone; what is added is on the DUT's journal, with an undo that is harmless when repeated. A route that leads
elsewhere is never replaced: it belongs to someone. Addresses are of the IP version of the point's traffic; a port on
which IPv6 is off gets it without autoconfiguration, so that nothing but test traffic leaves it.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Sequence

from harness.errors import StackError
from harness.host.contract import Dut
from harness.host.guard import REMEDY, interfaces_of, protected
from harness.host.interrupts import queue_interrupts
from harness.host.iproute import ip_json
from harness.host.tuning.change import Target
from harness.host.tuning.steering import irqbalance
from harness.plan import PointPlan, WirePlan
from harness.stack import Missing

_CONF6 = "/proc/sys/net/ipv6/conf"
#: How long a link may take: it trains and negotiates once its port is set up, and again when the driver resets it to
#: change a feature or to take an XDP program. Seconds on copper.
LINK_S = 15.0
_POLL_S = 0.05
#: Empty polls after which a device goes back to interrupts, while its NAPI is paced.
_DEFER_HARD_IRQS = "2"
#: Many virtual interfaces have no state but "unknown".
_WITH_LINK = ("up", "unknown", "")
#: No link-local address, no router solicitation, nothing learnt from routers: the port stays silent.
_SILENT = (("addr_gen_mode", "1"), ("accept_ra", "0"), ("autoconf", "0"))


def missing_for_ports(dut: Dut, point: PointPlan) -> list[Missing]:
    """What keeps the kernel's ports of this point from being set up; changes nothing."""
    missing = [Missing(f"interface {wire.dut.ifname!r} of {dut.name}", "correct the port's name in the testbed file")
               for wire in point.wires if not dut.exists(f"/sys/class/net/{wire.dut.ifname}/ifindex")]
    if dut.which("ip") is None:
        return [*missing, Missing("the program ip", "apt-get install iproute2")]
    if point.ip_version == 6 and not dut.exists(_CONF6):
        return [*missing, Missing(f"IPv6 in the kernel of {dut.name}", "boot it without ipv6.disable=1")]
    reasons = protected(dut, point.management)
    missing += [Missing(f"a port of its own: {ifname} is {reasons[ifname]} of {dut.name}", REMEDY)
                for wire in point.wires for ifname in interfaces_of(dut, wire.dut) if ifname in reasons]
    return missing


def set_up_ports(dut: Dut, point: PointPlan) -> None:
    """Bring up every port of the point with its address, neighbour and route; journalled. Raises StackError."""
    for wire in point.wires:
        if point.ip_version == 6:
            enable_ipv6(dut, wire.dut.ifname)
        _address(dut, wire)
        _neighbour(dut, wire)
        _route(dut, wire)


def enable_ipv6(dut: Dut, ifname: str) -> None:
    """IPv6 on an interface that has none, without autoconfiguration; journalled. One that has it is left as it is."""
    switch = f"{_CONF6}/{ifname}/disable_ipv6"
    if dut.read(switch).strip() != "1":
        return
    for setting, value in _SILENT:
        path = f"{_CONF6}/{ifname}/{setting}"
        if dut.exists(path) and dut.read(path).strip() != value:
            dut.set_file(path, value)
    dut.set_file(switch, "0")


def bring_up(dut: Dut, ifname: str) -> bool:
    """Set an interface up where it is not; journalled. Returns whether it was down."""
    if int(dut.read(f"/sys/class/net/{ifname}/flags"), 16) & 1:  # IFF_UP
        return False
    dut.apply(["ip", "link", "set", ifname, "up"], ["ip", "link", "set", ifname, "down"])
    return True


def bring_up_silently(dut: Dut, ifname: str) -> bool:
    """As :func:`bring_up`, with IPv6 off on an interface that was down, so that it solicits no router, probes for no
    address and learns none. Off altogether: ``addr_gen_mode``, put back on a port that is down, leaves it a link-local
    address that it did not have. What addresses it has go with IPv6, and with being set down again; they come back."""
    if int(dut.read(f"/sys/class/net/{ifname}/flags"), 16) & 1:
        return False
    switch = f"{_CONF6}/{ifname}/disable_ipv6"
    if dut.read(switch, "").strip() == "0":  # nothing where the kernel has no IPv6
        for row in ip_json(dut, "-6", "addr", "show", "dev", ifname):
            for entry in row.get("addr_info", []):
                address = f"{entry['local']}/{entry['prefixlen']}"
                dut.apply(["true"], ["ip", "-6", "addr", "replace", address, "dev", ifname])
        dut.set_file(switch, "1")
    return bring_up(dut, ifname)


def await_links(dut: Dut, ifnames: Sequence[str]) -> list[str]:
    """Wait for the links of interfaces that are up; returns those whose link did not come within ``LINK_S``. What the
    kernel does not have, or what is set down, is passed over."""
    deadline, waiting = time.monotonic() + LINK_S, list(ifnames)
    while waiting := [name for name in waiting if _without_link(dut, name)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return waiting


def need_links(dut: Dut, ifnames: Sequence[str]) -> None:
    """As :func:`await_links`. Raises StackError naming what has no link."""
    missing = await_links(dut, ifnames)
    if missing:
        raise StackError(f"{', '.join(missing)} of {dut.name} has no link {LINK_S:g} s after it was set up; look at "
                         "the cable and at the other end's port")


def _without_link(dut: Dut, ifname: str) -> bool:
    """Whether a port that is up waits for its link. The kernel's own parts (a bridge, the queueing discipline) hear of
    a link when ``operstate`` changes, up to a second after ``carrier``."""
    folder = f"/sys/class/net/{ifname}"
    carrier = dut.read(f"{folder}/carrier", "").strip()  # cannot be read of a port that is down
    return carrier == "0" or (carrier == "1" and dut.read(f"{folder}/operstate", "").strip() not in _WITH_LINK)


def keep_neighbours(dut: Dut, ifname: str) -> None:
    """Journal the permanent neighbours of an interface whose MAC a stack's program is going to set, if only to what it
    was: the kernel forgets all neighbours then, the permanent ones too."""
    for version in (4, 6):
        for row in ip_json(dut, f"-{version}", "neigh", "show", "dev", ifname, "nud", "permanent"):
            if "dst" in row and "lladdr" in row:
                dut.apply(["true"], _permanent(str(row["dst"]), str(row["lladdr"]), ifname))


def keep_tags(dut: Dut, ifnames: Sequence[str]) -> None:
    """Have the ports leave VLAN tags in the frame (ethtool -K rxvlan off; journalled), where a program looks for them
    that sees the frame before the kernel's stack does. A port that cannot fails the role check."""
    for ifname in ifnames:
        shown = dut.run(["ethtool", "-k", ifname]).stdout
        if re.search(r"^rx-vlan-offload: on(?! \[fixed\])", shown, re.MULTILINE):
            dut.apply(["ethtool", "-K", ifname, "rxvlan", "off"], ["ethtool", "-K", ifname, "rxvlan", "on"])


def keep_lro(dut: Dut, ifnames: Sequence[str]) -> None:
    """Turn large receive offload off where it is on (journalled): the kernel does so by itself on a port that forwards
    or is below a VLAN device, and leaves it off. Without ethtool on the host it stays off."""
    for ifname in ifnames if dut.which("ethtool") is not None else ():
        shown = dut.run(["ethtool", "-k", ifname]).stdout
        if re.search(r"^large-receive-offload: on(?! \[fixed\])", shown, re.MULTILINE):
            dut.apply(["ethtool", "-K", ifname, "lro", "off"], ["ethtool", "-K", ifname, "lro", "on"])


def pace_napi(dut: Dut, ifname: str, microseconds: int) -> None:
    """Have the kernel look at a device at intervals (journalled; 0: as the host has it): beside a thread that polls on
    the same core, its NAPI thread takes what has come in one short turn, and is let in at once."""
    if microseconds:
        dut.set_file(f"/sys/class/net/{ifname}/napi_defer_hard_irqs", _DEFER_HARD_IRQS)
        dut.set_file(f"/sys/class/net/{ifname}/gro_flush_timeout", str(microseconds * 1000))


def interrupts_on_cores(dut: Dut, point: PointPlan) -> None:
    """Put the interrupts of every port's queues on the point's cores, queue 0 on the first of them; journalled. Those
    of no queue stay where they are, as do those in place; ports without any (virtual ones) are passed over. irqbalance
    is stopped for the time, whatever the profile: it would move them again. Where it cannot be stopped and does so, the
    outcome of the point says it (:mod:`harness.measure.placement`)."""
    interrupts = [found for wire in point.wires if wire.dut.ifname for found in queue_interrupts(dut, wire.dut.ifname)]
    if interrupts:
        list(irqbalance(Target(dut, (), ()), "stopped"))  # it is an iterator
    for interrupt in interrupts:
        _steer(dut, interrupt.affinity, point.cores[interrupt.queue % len(point.cores)])


def _version(address: str) -> int:
    return ipaddress.ip_interface(address).version


def _address(dut: Dut, wire: WirePlan) -> None:
    """Duplicate address detection is left out: it would keep the address from use for a second."""
    port, version = wire.dut, _version(wire.dut.ip)
    rows = [row for row in ip_json(dut, f"-{version}", "addr", "show", "dev", port.ifname) if row]
    there = {entry.get("local") for row in rows for entry in row.get("addr_info", [])}
    if port.ip not in there:
        address = [f"{port.ip}/{port.prefix_len}", "dev", port.ifname, *(["nodad"] if version == 6 else [])]
        dut.apply(["ip", "addr", "add", *address], _flush("addr", port.ifname, "to", port.ip))
    bring_up(dut, port.ifname)


def _neighbour(dut: Dut, wire: WirePlan) -> None:
    port, tg = wire.dut.ifname, wire.tg
    rows = ip_json(dut, f"-{_version(tg.ip)}", "neigh", "show", "to", tg.ip, "dev", port, "nud", "permanent")
    old = next((str(row["lladdr"]) for row in rows if row.get("dst") == tg.ip and "lladdr" in row), None)
    if old is not None and old.lower() == tg.mac.lower():
        return
    undo = _flush("neigh", port, "to", tg.ip, "nud", "permanent") if old is None else _permanent(tg.ip, old, port)
    dut.apply(_permanent(tg.ip, tg.mac, port), undo)


def _permanent(ip: str, mac: str, port: str) -> list[str]:
    return ["ip", "neigh", "replace", ip, "lladdr", mac, "dev", port, "nud", "permanent"]


def _flush(what: str, port: str, to: str, address: str, *more: str) -> list[str]:
    """A flush with a selector succeeds when nothing matches, unlike ``del``: an undo may run twice."""
    return ["ip", f"-{_version(address)}", what, "flush", to, address, *more, "dev", port]


def _route(dut: Dut, wire: WirePlan) -> None:
    prefix = ipaddress.ip_network(wire.flow_prefix)
    if prefix.prefixlen == 0:
        raise StackError(f"wire {wire.index}: flows behind {prefix} would take the default route of {dut.name}; "
                         "give the wire a prefix of its own in the testbed file")
    port, gateway = wire.dut.ifname, wire.tg.ip
    rows = ip_json(dut, f"-{prefix.version}", "route", "show", "exact", str(prefix))
    if any(row.get("dev") == port and row.get("gateway") == gateway for row in rows):
        return
    if rows:
        raise StackError(f"{dut.name} has a route to {prefix} already (via {rows[0].get('gateway', 'no gateway')} on "
                         f"{rows[0].get('dev')}); remove it, or give wire {wire.index} another prefix")
    dut.apply(["ip", "route", "add", str(prefix), "via", gateway, "dev", port],
              ["ip", f"-{prefix.version}", "route", "flush", "exact", str(prefix), "via", gateway, "dev", port])


def _steer(dut: Dut, path: str, core: int) -> None:
    if dut.read(path).strip() != str(core):
        dut.set_file(path, str(core))
