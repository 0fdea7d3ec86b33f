# SPDX-License-Identifier: Apache-2.0
"""Role accept: which connections count as completed, and where those that failed were lost.

A connection is completed when both ends say so. Counters at the places below count packets or events, of which a lost
connection may cause several, so no place is given more than is still to be explained.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.generator.contract import TrafficResult
from harness.measure.accounting import BACKLOG, DUT_RING, QDISC, RETURN, TG_RECEIVE, Readings, losses_by_place, rise

REFUSED = "refused (RST)"
APPLICATION = "application"
LISTEN = "listen queue"
LATE = "answered too late"


def completed(traffic: TrafficResult, by_server: int) -> int:
    """Connections that the client got a whole reply on and the server closed after one: the smaller of both counts.
    What only one of them counts is lost, and no place explains it."""
    return min(sum(d.received or 0 for d in traffic.directions), by_server)


def lost_connections(before: Readings, after: Readings, traffic: TrafficResult, by_server: int) -> dict[str, int]:
    """Failed connections by place, places without any left out.

    ``by_server``: completed by the server's count. Exact: refused (a SYN that met a RST), answered too late (completed
    by the server, when the client had given up or counted it as late) and application (accepted, not served). Bounded
    by what is left: the listen queue (ListenDrops), the ring, the softirq backlog, the return path, the port's queueing
    discipline, the generator's receiver. A client that repeats its SYNs makes late connections of those that a place
    has dropped: such a place comes first. Any other disagreement of the two ends is left over, for "unexplained".
    """
    client = sum(d.received or 0 for d in traffic.directions)
    lost = sum(d.sent for d in traffic.directions) - completed(traffic, by_server)
    told: Mapping[str, int] = traffic.report.extra.get("client", {})
    late = min(max(0, by_server - client), told.get("late", 0))
    repeated = min(late, told.get("repeated_syns", 0))
    late -= repeated
    left = lost - abs(client - by_server) + repeated
    frames = losses_by_place(Readings(before.dut, before.system), Readings(after.dut, after.system), traffic)
    system = rise(before.system, after.system)
    found: dict[str, int] = {LATE: late} if late else {}
    for place, count in (
        (REFUSED, told.get("refused", 0)),
        *rise(before.stack, after.stack).items(),
        (LISTEN, system.get("tcpext.ListenDrops", 0)),
        *((place, frames.get(place, 0)) for place in (DUT_RING, BACKLOG, RETURN, QDISC, TG_RECEIVE)),
    ):
        here = max(0, min(count, left))
        left -= here
        if here:
            found[place] = found.get(place, 0) + here
    return found
