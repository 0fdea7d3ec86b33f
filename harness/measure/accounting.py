# SPDX-License-Identifier: Apache-2.0
"""Where the lost frames of a trial went: sent = received + losses by place + unexplained.

From counters read before and after on every hop. Each place takes the first of its counters that the device has, so
that a driver which reports one event under two names is not counted twice. "unexplained" is shown, never hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.generator.contract import TrafficResult

#: Counters of one interface: name -> count.
Counters = Mapping[str, int]

DUT_RING = "DUT ring"
BACKLOG = "softirq backlog"
SOCKET = "socket buffer"
NO_SOCKET = "no socket"
RETURN = "return path"
TG_RECEIVE = "generator receive"

#: Receive side of a port: the ring was full. veth counts per queue (lab-facts.md); NIC drivers under other names.
_RX_RING = (r"rx_queue_\d+_drops", r"rx_missed_errors", r"rx_out_of_buffer", r"rx_fifo_errors", r"imissed")
#: Transmit side: frames the DUT handed to a full ring towards the generator. veth's tx_dropped holds those of XDP too.
_TX_RING = (r"tx_dropped", r"rx_queue_\d+_xdp_tx_errors", r"tx_queue_\d+_xdp_xmit_errors")


@dataclass
class Readings:
    """One reading of every hop. ``dut``: per test interface; ``system``: Dut.system_counters; ``stack``: losses by
    place from the stack itself, ``in_port_drops`` of which the interfaces count among their receive drops, too."""

    dut: Mapping[str, Counters] = field(default_factory=dict)
    system: Counters = field(default_factory=dict)
    stack: Counters = field(default_factory=dict)
    in_port_drops: int = 0


def rise(before: Counters, after: Counters) -> dict[str, int]:
    """Counters that rose, by how much. A counter that is new counts from zero."""
    return {k: v - before.get(k, 0) for k, v in after.items() if v - before.get(k, 0) > 0}


def _first(changes: Counters, patterns: tuple[str, ...]) -> int:
    for pattern in patterns:
        total = sum(v for k, v in changes.items() if re.fullmatch(pattern, k))
        if total:
            return total
    return 0


def losses_by_place(before: Readings, after: Readings, traffic: TrafficResult) -> dict[str, int]:
    """Lost frames by place, places without loss left out."""
    places, port_drops = {RETURN: 0}, 0
    for name, counters in after.dut.items():
        changes = rise(before.dut.get(name, {}), counters)
        port_drops += _first(changes, _RX_RING)
        places[RETURN] += _first(changes, _TX_RING)
    port_drops -= min(port_drops, after.in_port_drops - before.in_port_drops)
    places[DUT_RING] = sum(d.refused for d in traffic.directions) + port_drops
    system = rise(before.system, after.system)
    places[BACKLOG] = sum(v for k, v in system.items() if re.fullmatch(r"softnet\.\d+\.dropped", k))
    stack = rise(before.stack, after.stack)
    if SOCKET not in after.stack:
        places[SOCKET] = system.get("udp.RcvbufErrors", 0) + system.get("udp6.RcvbufErrors", 0)
    places[NO_SOCKET] = system.get("udp.NoPorts", 0) + system.get("udp6.NoPorts", 0)
    for place, count in stack.items():
        places[place] = places.get(place, 0) + count
    places[TG_RECEIVE] = sum(traffic.report.extra.get("receive_drops", {}).values())
    return {place: count for place, count in places.items() if count}
