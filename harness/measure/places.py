# SPDX-License-Identifier: Apache-2.0
"""Which counter of a port says that a frame was lost, and where: by driver, as ``ethtool -S`` names them.

A driver is known by a counter that only it has. Its counters of one place count different events, so they add up; what
it reports under a second name is left out. Drivers that are not listed have the kernel's names
(``/sys/class/net/*/statistics``), which every port has and of which one event may raise several: the largest is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Counters of one interface: name -> count. ``ethtool.NAME``: the driver's, where the kernel has one of that name.
Counters = Mapping[str, int]

#: Frames that arrived damaged.
WIRE = "wire"
#: The NIC had no room for the frame, in its own buffer or in the ring; on veth the ring alone.
DUT_RING = "DUT ring"
#: The driver took the frame from the ring and could not pass it on.
DRIVER = "driver"
#: Handed to the port for sending, and not sent.
RETURN = "return path"
#: Dropped by the port's queueing discipline before its driver saw it. What a filter drops on its way in or out (clsact)
#: is in none of its counters.
QDISC = "qdisc"
_QDISC_DROPS = r"qdisc\..+\.drops"


@dataclass(frozen=True)
class Driver:
    """Patterns of counter names, by place. ``known_by``: a counter that no other driver here has. ``meant``: of those
    in ``DRIVER``, what an XDP program dropped on purpose."""

    known_by: str
    places: Mapping[str, tuple[str, ...]]
    meant: str = ""


DRIVERS: Mapping[str, Driver] = {
    # tx_dropped holds what XDP could not send, too.
    "veth": Driver(r"peer_ifindex", {DUT_RING: (r"rx_queue_\d+_drops",), RETURN: (r"tx_dropped",)}),
    "mlx5": Driver(r"rx_out_of_buffer", {
        WIRE: (r"rx_crc_errors_phy",), DUT_RING: (r"rx_discards_phy", r"rx_out_of_buffer"),
        RETURN: (r"tx_queue_dropped", r"tx_discards_phy", r"(rx_xdp_tx|tx_xdp)_(full|err)")}),
    # The port's own buffer, and the ring's: rx_dropped, since 2025 rx_missed_errors. The kernel's rx_dropped would hold
    # frames that nobody wanted, too.
    "i40e": Driver(r"port\.rx_(dropped|discards)", {
        WIRE: (r"port\.rx_crc_errors",),
        DUT_RING: (r"port\.rx_(dropped|discards)", r"ethtool\.rx_dropped", r"ethtool\.rx_missed_errors"),
        DRIVER: (r"rx_alloc_fail", r"rx_pg_alloc_fail"),
        RETURN: (r"ethtool\.tx_dropped", r"port\.tx_dropped_link_down")}),
    "ice": Driver(r"rx_dropped\.nic", {
        WIRE: (r"rx_crc_errors\.nic",), DUT_RING: (r"rx_dropped\.nic", r"ethtool\.rx_dropped"),
        DRIVER: (r"rx_alloc_fail", r"rx_pg_alloc_fail"), RETURN: (r"tx_dropped", r"tx_dropped_link_down\.nic")}),
    "ixgbe": Driver(r"rx_no_dma_resources", {
        WIRE: (r"rx_crc_errors",), DUT_RING: (r"rx_missed_errors", r"rx_no_dma_resources"),
        DRIVER: (r"alloc_rx_page_failed", r"alloc_rx_buff_failed"), RETURN: (r"tx_dropped",)}),
    "ena": Driver(r"admin_q_pause", {DUT_RING: (r"rx_drops",), RETURN: (r"tx_drops",)}),
    # What finds no room in its ring is dropped by the virtual machine's host and counted there alone.
    "virtio_net": Driver(r"rx(_queue_)?\d+_kicks", {DRIVER: (r"rx(_queue_)?\d+_drops",), RETURN: (r"tx_dropped",)},
                         meant=r"rx(_queue_)?\d+_xdp_drops"),
    "vmxnet3": Driver(r"pkts rx (OOB|out of buf)", {
        DUT_RING: (r"pkts rx (OOB|out of buf)",), DRIVER: (r"drv dropped rx total",),
        RETURN: (r"pkts tx discard", r"drv dropped tx total")}),
}

#: Of any other driver: the first of these that the port has.
_OTHER_RX = ((r"rx_queue_\d+_drops",), (r"rx_missed_errors", r"rx_fifo_errors", r"rx_over_errors"))
_OTHER_TX = ((r"tx_dropped",), (r"rx_queue_\d+_xdp_tx_errors",), (r"tx_queue_\d+_xdp_xmit_errors",))


def driver_of(names: Iterable[str]) -> Driver | None:
    """The driver that has counters of these names; None: one that is not listed."""
    every = list(names)
    return next((driver for driver in DRIVERS.values() if any(re.fullmatch(driver.known_by, n) for n in every)), None)


def _total(changes: Counters, pattern: str) -> int:
    return sum(count for name, count in changes.items() if re.fullmatch(pattern, name))


def _of_any(names: Iterable[str], changes: Counters, groups: tuple[tuple[str, ...], ...]) -> int:
    """The largest of the first group that the port has."""
    every = list(names)
    for group in groups:
        if any(re.fullmatch(pattern, name) for pattern in group for name in every):
            return max(_total(changes, pattern) for pattern in group)
    return 0


def counts_qdisc(names: Iterable[str]) -> bool:
    """Whether these counters of a port have its queueing discipline's among them."""
    return any(re.fullmatch(_QDISC_DROPS, name) for name in names)


def port_losses(names: Iterable[str], changes: Counters) -> dict[str, int]:
    """Frames lost at one port by place. ``names``: of all its counters; ``changes``: those that rose, by how much."""
    return _of_driver(names, changes) | {QDISC: _total(changes, _QDISC_DROPS)}


def _of_driver(names: Iterable[str], changes: Counters) -> dict[str, int]:
    every = list(names)
    driver = driver_of(every)
    if driver is None:
        return {DUT_RING: _of_any(every, changes, _OTHER_RX), RETURN: _of_any(every, changes, _OTHER_TX)}
    found = {place: sum(_total(changes, pattern) for pattern in patterns) for place, patterns in driver.places.items()}
    if driver.meant:
        found[DRIVER] = max(0, found[DRIVER] - _total(changes, driver.meant))
    return found
