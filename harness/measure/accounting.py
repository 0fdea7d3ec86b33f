# SPDX-License-Identifier: Apache-2.0
"""Where the lost frames of a trial went: sent = received + losses by place + unexplained.

From counters read before and after on every hop; :mod:`harness.measure.places` says which counter of a port means what.
Counters of a whole host or port see other traffic, too, so together they explain no more than was lost; the rest is
recorded as other traffic's. "unexplained" is shown, never hidden.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from harness.generator.contract import TrafficResult
from harness.measure.places import DRIVER, DUT_RING, QDISC, RETURN, WIRE, Counters, counts_qdisc, port_losses

__all__ = ["BACKLOG", "DUT_RING", "NO_SOCKET", "QDISC", "RETURN", "SOCKET", "TG_RECEIVE", "Counters", "Readings",
           "bounded", "losses_by_place", "rise", "unread"]

BACKLOG = "softirq backlog"
SOCKET = "socket buffer"
NO_SOCKET = "no socket"
TG_RECEIVE = "generator receive"


@dataclass
class Readings:
    """One reading of every hop. ``dut``: per test interface; ``system``: Dut.system_counters; ``stack``: losses by
    place from the stack itself, ``in_port_drops`` of which the interfaces count among their receive drops, too."""

    dut: Mapping[str, Counters] = field(default_factory=dict)
    system: Counters = field(default_factory=dict)
    stack: Counters = field(default_factory=dict)
    in_port_drops: int = 0


#: Counters that the kernel keeps in 32 bits, and which come back to zero after 4 billion.
_WRAPPING = re.compile(r"qdisc\..+\.drops|softnet\.\d+\.(processed|dropped|time_squeeze|received_rps)")


def rise(before: Counters, after: Counters) -> dict[str, int]:
    """Counters that rose, by how much. A counter that is new counts from zero; one that fell was set back, and how much
    it rose since is not known: it is left out, unless it is one of 32 bits that went once round."""
    found = {name: value - before.get(name, 0) for name, value in after.items()}
    for name, more in found.items():
        if more < 0 and _WRAPPING.fullmatch(name) and more + 2**32 < 2**31:
            found[name] = more + 2**32
    return {name: more for name, more in found.items() if more > 0}


def unread(before: Readings, after: Readings) -> dict[str, str]:
    """Places of which no counter told, with the reason: what was lost there is not known."""
    missing = [name for name in after.dut
               if not (counts_qdisc(after.dut[name]) and counts_qdisc(before.dut.get(name, {})))]
    return {QDISC: f"the kernel does not tell what the queueing discipline of {', '.join(missing)} drops"} if missing \
        else {}


def losses_by_place(before: Readings, after: Readings, traffic: TrafficResult,
                    cores: Collection[int] | None = None) -> dict[str, int]:
    """Lost frames by place, places without loss left out; those that are surely the test's come first, those that a
    counter of the whole host tells last. ``cores``: of which the softirq backlog is the test's (None: all)."""
    places = rise(before.stack, after.stack)
    places[TG_RECEIVE] = sum(traffic.report.extra.get("receive_drops", {}).values())
    ports = dict.fromkeys((RETURN, QDISC, DUT_RING, WIRE, DRIVER), 0)
    for name, counters in after.dut.items():
        for place, count in port_losses(counters, rise(before.dut.get(name, {}), counters)).items():
            ports[place] += count
    if unread(before, after):
        ports[QDISC] = 0
    ports[DUT_RING] -= min(ports[DUT_RING], max(0, after.in_port_drops - before.in_port_drops))
    ports[DUT_RING] += sum(d.refused for d in traffic.directions)
    system = rise(before.system, after.system)
    ports[BACKLOG] = sum(count for name, count in system.items() if _backlog(name, cores))
    if SOCKET not in after.stack:
        ports[SOCKET] = system.get("udp.RcvbufErrors", 0) + system.get("udp6.RcvbufErrors", 0)
    ports[NO_SOCKET] = system.get("udp.NoPorts", 0) + system.get("udp6.NoPorts", 0)
    for place, count in ports.items():
        places[place] = places.get(place, 0) + count
    return {place: count for place, count in places.items() if count}


def _backlog(name: str, cores: Collection[int] | None) -> bool:
    found = re.fullmatch(r"softnet\.(\d+)\.dropped", name)
    return found is not None and (cores is None or int(found[1]) in cores)


def bounded(places: Mapping[str, int], lost: int) -> tuple[dict[str, int], int]:
    """(losses by place that together are no more than ``lost``, what the counters saw beyond that). Places are given
    theirs in the order of :func:`losses_by_place`."""
    left, kept = max(0, lost), dict[str, int]()
    for place, count in places.items():
        if here := min(count, left):
            kept[place] = here
            left -= here
    return kept, sum(places.values()) - sum(kept.values())
