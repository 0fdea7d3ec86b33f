# SPDX-License-Identifier: Apache-2.0
"""Extra routes in the main routing table, so that a look-up has a table of some size to go through.

All of them go through one nexthop object: the kernel removes them with it, in one call and whatever came of their
adding, and refuses those that a program would still add then. Kernels before 5.8 get routes with a gateway each, which
are found again by what they have in common.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import StackError
from harness.host.contract import Dut
from harness.plan import PointPlan
from harness.stack import Missing
from harness.stacks.probes import missing_programs

#: Marks nexthop and routes as ours (rtnetlink's rtm_protocol; 217 is assigned to nobody): they are removed by it.
PROTOCOL = "217"
_NEXTHOP = "2170217"
#: Nobody's traffic goes there, so no route of ours can lead the host's own astray: what RFC 2544 and RFC 5180 set aside
#: for benchmarks, next to the test's own prefixes (a look-up for those descends as deep as there are neighbours), and
#: of IPv4 then the class E that nobody may use. A policy rule with a table of its own would be as safe, but after the
#: first rule the kernel looks up every packet of the network namespace in a slower way, for good.
UNUSED = {4: ("198.18.0.0/16", "240.0.0.0/8"), 6: ("2001:2:0:8000::/49",)}
#: There since kernel 5.8; nexthop objects themselves are, since 5.3, but not to be seen without asking for one.
_HAS_NEXTHOPS = "/proc/sys/net/ipv4/nexthop_compat_mode"
_SCRIPT = Path(__file__).with_name("many_routes.py")
_ADD_S = 60.0
_TAIL = 500

Range = tuple[int, int]


def unused_ranges(point: PointPlan, count: int) -> list[Range]:
    """(first, last) of ``count`` addresses outside every prefix of the point's wires, in the order in which they get a
    route."""
    taken = [ipaddress.ip_network(prefix) for wire in point.wires
             for prefix in (wire.flow_prefix, wire.dut.ip, wire.tg.ip)]
    taken += [ipaddress.ip_interface(f"{wire.dut.ip}/{wire.dut.prefix_len}").network for wire in point.wires]
    used = [(int(net.network_address), int(net.broadcast_address)) for net in taken]
    found: list[Range] = []
    for net in map(ipaddress.ip_network, UNUSED[point.ip_version]):
        for first, last in _gaps(int(net.network_address), int(net.broadcast_address), used):
            if count:
                found.append((first, min(last, first + count - 1)))
                count -= found[-1][1] - first + 1
    return found


def _gaps(first: int, last: int, taken: Iterable[Range]) -> Iterator[Range]:
    """What of first to last is in none of the ranges, ascending."""
    for low, high in sorted(taken):
        if first < min(low, last + 1):
            yield first, min(low - 1, last)
        first = max(first, high + 1)
    if first <= last:
        yield first, last


def missing_for_routes(dut: Dut) -> list[Missing]:
    """What the host lacks to add routes with."""
    return missing_programs(dut, ("python3", "python3-minimal"))


def add_routes(dut: Dut, point: PointPlan, count: int) -> None:
    """Add ``count`` host routes through the last wire's generator port; journalled. The wires' own routes must be
    there. Raises StackError naming the first route that the kernel refuses."""
    if not count:
        return
    last, version = point.wires[-1], f"-{point.ip_version}"
    ours = ["dev", last.dut.ifname, "proto", PROTOCOL]
    through = ["via", last.tg.ip, *ours]
    there = ["test", "-e", f"/sys/class/net/{last.dut.ifname}"]  # they go with the interface
    nexthop = _NEXTHOP if dut.exists(_HAS_NEXTHOPS) else "0"
    if nexthop == "0":
        dut.apply(["true"], ["ip", version, "route", "flush", "table", "main", *through], made=there)
    else:
        dut.apply(["ip", version, "nexthop", "add", "id", nexthop, *through],
                  ["ip", version, "nexthop", "flush", *ours], made=there)
    script = ["python3", "-c", _SCRIPT.read_text(encoding="utf-8"), version[1:], PROTOCOL, nexthop, last.tg.ip,
              last.dut.ifname, json.dumps(unused_ranges(point, count))]
    done = dut.run(script, timeout_s=_ADD_S, check=False)
    if done.returncode != 0:
        raise StackError(f"{dut.name}: not all of {count} routes could be added: {done.stderr.strip()[-_TAIL:]}; "
                         f"{', '.join(UNUSED[point.ip_version])} have to be free of routes of the host's own")
