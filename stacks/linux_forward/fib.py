# SPDX-License-Identifier: Apache-2.0
"""Extra routes in the main routing table, so that a look-up has a table of some size to go through."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import chain, islice

from harness.host.contract import Dut
from harness.plan import PointPlan

#: Marks the routes as ours (rtnetlink's rtm_protocol; 217 is assigned to nobody): they are removed by it.
PROTOCOL = "217"
#: Nobody's traffic goes there, so no route of ours can lead the host's own astray: what RFC 2544 set aside for
#: benchmarks, next to the test's own prefixes (a look-up for those descends as deep as there are neighbours), and then
#: the class E that nobody may use. A policy rule with a table of its own would be as safe, but after the first rule the
#: kernel looks up every packet of the network namespace in a slower way, for good.
UNUSED = ("198.18.0.0/16", "240.0.0.0/8")
#: Lines of one batch: what the agent takes at once has a limit.
_BATCH = 50_000
_BATCH_S = 60.0


def unused_addresses(point: PointPlan) -> Iterator[str]:
    """Addresses outside every prefix of the point's wires, in the order in which they get a route."""
    taken = [ipaddress.ip_network(prefix) for wire in point.wires
             for prefix in (wire.flow_prefix, f"{wire.dut.ip}/32", f"{wire.tg.ip}/32")]
    taken += [ipaddress.ip_interface(f"{wire.dut.ip}/{wire.dut.prefix_len}").network for wire in point.wires]
    ranges = [(int(net.network_address), int(net.broadcast_address)) for net in taken]
    every = chain.from_iterable(range(int(net[0]), int(net[-1]) + 1) for net in map(ipaddress.ip_network, UNUSED))
    return (str(ipaddress.ip_address(address)) for address in every
            if not any(low <= address <= high for low, high in ranges))


def add_routes(dut: Dut, point: PointPlan, count: int) -> None:
    """Add ``count`` host routes through the last wire's generator port; journalled. The wires' own routes must be
    there."""
    if not count:
        return
    last = point.wires[-1]
    dut.apply(["true"], ["ip", "-4", "route", "flush", "table", "main", "proto", PROTOCOL])
    lines = (f"route add {address}/32 via {last.tg.ip} dev {last.dut.ifname} proto {PROTOCOL}\n"
             for address in islice(unused_addresses(point), count))
    while batch := "".join(islice(lines, _BATCH)):
        dut.run(["ip", "-batch", "-"], stdin=batch, timeout_s=_BATCH_S)
