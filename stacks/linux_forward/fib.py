# SPDX-License-Identifier: Apache-2.0
"""Extra routes in the main routing table, so that a look-up has a table of some size to go through."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from itertools import islice
from socket import AF_INET, AF_INET6, inet_ntop

from harness.host.contract import Dut
from harness.plan import PointPlan

#: Marks the routes as ours (rtnetlink's rtm_protocol; 217 is assigned to nobody): they are removed by it.
PROTOCOL = "217"
#: Nobody's traffic goes there, so no route of ours can lead the host's own astray: what RFC 2544 and RFC 5180 set aside
#: for benchmarks, next to the test's own prefixes (a look-up for those descends as deep as there are neighbours), and
#: of IPv4 then the class E that nobody may use. A policy rule with a table of its own would be as safe, but after the
#: first rule the kernel looks up every packet of the network namespace in a slower way, for good.
UNUSED = {4: ("198.18.0.0/16", "240.0.0.0/8"), 6: ("2001:2:0:8000::/49",)}
#: Lines of one batch: what the agent takes at once has a limit.
_BATCH = 50_000
_BATCH_S = 60.0


def unused_addresses(point: PointPlan) -> Iterator[str]:
    """Addresses outside every prefix of the point's wires, in the order in which they get a route."""
    taken = [ipaddress.ip_network(prefix) for wire in point.wires
             for prefix in (wire.flow_prefix, wire.dut.ip, wire.tg.ip)]
    taken += [ipaddress.ip_interface(f"{wire.dut.ip}/{wire.dut.prefix_len}").network for wire in point.wires]
    ranges = [(int(net.network_address), int(net.broadcast_address)) for net in taken]
    family, size = (AF_INET6, 16) if point.ip_version == 6 else (AF_INET, 4)
    for net in map(ipaddress.ip_network, UNUSED[point.ip_version]):
        for address in _gaps(int(net.network_address), int(net.broadcast_address), ranges):
            yield inet_ntop(family, address.to_bytes(size, "big"))  # ipaddress takes five times as long


def _gaps(first: int, last: int, taken: Iterable[tuple[int, int]]) -> Iterator[int]:
    """The numbers from first to last that are in none of the ranges, ascending."""
    for low, high in sorted(taken):
        yield from range(first, min(low, last + 1))
        first = max(first, high + 1)
    yield from range(first, last + 1)


def add_routes(dut: Dut, point: PointPlan, count: int) -> None:
    """Add ``count`` host routes through the last wire's generator port; journalled. The wires' own routes must be
    there."""
    if not count:
        return
    last, version = point.wires[-1], point.ip_version
    length = 128 if version == 6 else 32
    dut.apply(["true"], ["ip", f"-{version}", "route", "flush", "table", "main", "proto", PROTOCOL])
    lines = (f"route add {address}/{length} via {last.tg.ip} dev {last.dut.ifname} proto {PROTOCOL}\n"
             for address in islice(unused_addresses(point), count))
    while batch := "".join(islice(lines, _BATCH)):
        dut.run(["ip", f"-{version}", "-batch", "-"], stdin=batch, timeout_s=_BATCH_S)
