# SPDX-License-Identifier: Apache-2.0
"""The virtual machine's wires: taps inside the generator's namespace, made there, gone with it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.lab import netns
from harness.lab.addresses import mac_address, netns_name
from harness.lab.vm.recipe import HOST_IP, PREFIX_LEN
from harness.lab.wires import run_tool
from harness.plan import WirePlan

#: A wire number beyond every data wire's: the management link's MAC.
_MANAGEMENT_WIRE = 0xFF
#: Frames that wait for QEMU: as many as the longest ring of the NICs it offers.
_QUEUE = 4096


def management_tap(lab: str) -> str:
    """Name of the host's end of the management link."""
    return f"h{lab}m"


def management_mac(lab: str) -> str:
    """MAC of the guest's end of the management link."""
    return mac_address(lab, "dut", _MANAGEMENT_WIRE)


def make(lab: str, wires: Sequence[WirePlan]) -> None:
    """Make the taps, up; those of the data wires without an address, as the generator's ends of a lab are."""
    lines = "link set dev lo up\n"
    for wire in wires:
        lines += _tap(wire.tg.ifname) + (f"link set dev {wire.tg.ifname} address {wire.tg.mac} "
                                         f"txqueuelen {_QUEUE} up\n")
    tap = management_tap(lab)
    lines += _tap(tap) + f"address add {HOST_IP}/{PREFIX_LEN} dev {tap}\nlink set dev {tap} up\n"
    netns.in_netns(netns_name(lab, "tg"), lambda: run_tool(["ip", "-batch", "-"], lines))


def _tap(name: str) -> str:
    return f"tuntap add dev {name} mode tap\n"
