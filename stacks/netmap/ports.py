# SPDX-License-Identifier: Apache-2.0
"""Interfaces as netmap needs them, journalled: up, promiscuous, without offloads, one ring steered to."""

from __future__ import annotations

import re
import time

from harness.errors import HostError, StackError
from harness.host.contract import Dut

from .host import rings_of

#: What a host ring cannot do for the kernel: netmap moves frames as they are, so the kernel has to finish its own.
#: In this order off, so that undoing turns each on after those that it needs.
OFFLOADS = ("large-receive-offload", "generic-receive-offload", "generic-segmentation-offload",
            "tcp-segmentation-offload", "scatter-gather", "rx-checksumming", "tx-checksumming")
#: Our filter's place in the NIC's table: given, so that exactly this one is removed.
_PLACE = "0"
_LINK_S = 15.0
_POLL_S = 0.05
_IFF_UP, _IFF_PROMISC = 0x1, 0x100


def bring_up(dut: Dut, ifname: str) -> None:
    """Up, unless it is."""
    if not _flags(dut, ifname) & _IFF_UP:
        dut.apply(["ip", "link", "set", "dev", ifname, "up"], ["ip", "link", "set", "dev", ifname, "down"])


def promiscuous(dut: Dut, ifname: str) -> None:
    """Frames for other addresses are received too, unless they are already."""
    if not _flags(dut, ifname) & _IFF_PROMISC:
        dut.apply(["ip", "link", "set", "dev", ifname, "promisc", "on"],
                  ["ip", "link", "set", "dev", ifname, "promisc", "off"])


def await_link(dut: Dut, ifname: str) -> None:
    """Wait for the link: opening a port for netmap resets the device, and what is sent before it is back is lost."""
    deadline = time.monotonic() + _LINK_S
    while dut.read(f"/sys/class/net/{ifname}/carrier", "0").strip() != "1":
        if time.monotonic() > deadline:
            raise StackError(f"netmap: the link of {ifname} is not up {_LINK_S:g} s after netmap took the port.")
        time.sleep(_POLL_S)


def offloads_off(dut: Dut, ifname: str) -> None:
    """Turn off whatever is on of OFFLOADS and can be; undone feature by feature."""
    states = features(dut.run(["ethtool", "-k", ifname]).stdout)
    for feature in OFFLOADS:
        if states.get(feature) == "on":
            dut.apply(["ethtool", "-K", ifname, feature, "off"], ["ethtool", "-K", ifname, feature, "on"])


def features(text: str) -> dict[str, str]:
    """``ethtool -k``: feature -> "on", "off", or with "[fixed]" behind it when it cannot be changed."""
    return {name: state.strip() for name, state in re.findall(r"^([a-z0-9-]+): ((?:on|off)(?: \[fixed\])?)", text,
                                                              re.MULTILINE)}


def can_steer(dut: Dut, ifname: str) -> bool:
    """Whether the NIC takes filters and has a ring to spare for the test's flows."""
    state = features(dut.run(["ethtool", "-k", ifname], check=False).stdout).get("ntuple-filters", "off [fixed]")
    return state in ("on", "off") and rings_of(dut, ifname) > 1


def steer(dut: Dut, ifname: str, udp_port: int) -> int:
    """Send the test's flows to the last receive ring and hash everything else over the others; returns that ring.
    Raises StackError when the NIC refuses, or its table of hashed rings is not the default (it could not be put back).
    """
    ring = rings_of(dut, ifname) - 1
    _only_default_table(dut, ifname, ring + 1)
    if features(dut.run(["ethtool", "-k", ifname]).stdout).get("ntuple-filters") == "off":
        dut.apply(["ethtool", "-K", ifname, "ntuple", "on"], ["ethtool", "-K", ifname, "ntuple", "off"])
    try:
        dut.apply(["ethtool", "-X", ifname, "equal", str(ring)], ["ethtool", "-X", ifname, "default"])
        rule = ["flow-type", "udp4", "dst-port", str(udp_port), "action", str(ring), "loc", _PLACE]
        dut.apply(["ethtool", "-N", ifname, *rule], ["ethtool", "-N", ifname, "delete", _PLACE],
                  made=["ethtool", "-n", ifname, "rule", _PLACE])
    except HostError as error:
        raise StackError(f"netmap: {ifname} does not take the filter: {error}. steering: host-rings needs none."
                         ) from error
    return ring


def _only_default_table(dut: Dut, ifname: str, rings: int) -> None:
    rows = re.findall(r"^ *\d+:((?: +\d{1,9})+)$", dut.run(["ethtool", "-x", ifname]).stdout, re.MULTILINE)
    table = [int(entry) for row in rows for entry in row.split()]
    if table != [n % rings for n in range(len(table))]:
        raise StackError(f"netmap: the table of hashed rings of {ifname} is not the default, which is all that could "
                         f"be put back; `ethtool -X {ifname} default`, or steering: host-rings.")
    taken = dut.run(["ethtool", "-n", ifname, "rule", _PLACE], check=False)
    if taken.returncode == 0:
        raise StackError(f"netmap: {ifname} has a filter at place {_PLACE} already; remove it (ethtool -N {ifname} "
                         f"delete {_PLACE}), or choose steering: host-rings.")


def _flags(dut: Dut, ifname: str) -> int:
    return int(dut.read(f"/sys/class/net/{ifname}/flags"), 16)
