# SPDX-License-Identifier: Apache-2.0
"""An SR-IOV virtual function for DPDK, while the kernel keeps the port it is made on (the physical function).

Frames of the test are addressed to the MAC that the testbed file gives the port, so the function takes that one. Where
it is the port's own, the port has a locally administered one for the time; write another into the testbed file and the
port keeps its own. Before a function is made, nothing has been touched; a port that has functions already is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.errors import HostError, StackError
from harness.host.contract import Dut
from harness.host.guard import refuse_device
from harness.host.pci import DEVICES, bound_to, interfaces, pci_address
from harness.plan import PointPlan, PortPlan, Role
from harness.stack import Missing
from harness.stacks.binding import BIFURCATED, kept
from harness.stacks.devices import used_ports
from harness.stacks.interface import IFF_UP
from harness.stacks.modules import function_modules, remove_if_it_comes
from harness.stacks.ports import keep_neighbours

#: Drivers make the device a moment after the count was written.
_APPEAR_S = 5.0


def missing_for_vf(dut: Dut, point: PointPlan) -> list[Missing]:
    """What keeps a virtual function from being made on every port of the point; changes nothing."""
    missing = []
    for port in used_ports(point):
        pci = pci_address(dut, port)
        device = f"{DEVICES}/{pci}"
        if not pci or not dut.exists(device):
            continue  # said by the binding's own check
        if int(dut.read(f"{device}/sriov_totalvfs", "0")) == 0:
            missing.append(Missing(f"SR-IOV on {pci}", "turn it on (BIOS, the NIC's firmware), or leave vf out"))
        elif (there := int(dut.read(f"{device}/sriov_numvfs"))) > 0:
            missing.append(Missing(f"{pci} without virtual functions: it has {there} that are not the harness's",
                                   f"echo 0 > {device}/sriov_numvfs, when nobody needs them"))
        elif not interfaces(dut, pci):
            missing.append(Missing(f"{pci} bound to its kernel driver, which makes the virtual function",
                                   f"echo {pci} > /sys/bus/pci/drivers_probe, or leave vf out"))
    return missing


@contextmanager
def functions_on(dut: Dut, ports: Sequence[PortPlan], role: Role, management: str) -> Iterator[list[str]]:
    """One function on each port for the block, as :func:`make_vf`; their PCI addresses. The ports' own interfaces are
    what they were afterwards. Raises StackError and HostNotRestored."""
    devices = [pci_address(dut, port) for port in ports]
    for pci in devices:
        refuse_device(dut, management, pci)
    with kept(dut, [ifname for pci in devices for ifname in interfaces(dut, pci)]):
        yield [make_vf(dut, port, role, management) for port in ports]


def make_vf(dut: Dut, port: PortPlan, role: Role, management: str) -> str:
    """Make one function on a port, journalled, bound to no driver (a bifurcated one: to the kernel's); returns its PCI
    address. Raises StackError."""
    pci = pci_address(dut, port)
    refuse_device(dut, management, pci)
    device, (pf, *_) = f"{DEVICES}/{pci}", interfaces(dut, pci)
    if int(dut.read(f"{device}/sriov_numvfs")) > 0:
        raise StackError(f"dpdk: {pf} ({pci}) has virtual functions that are not the harness's; it is left alone.")
    _bring_up(dut, pf)
    if dut.read(f"/sys/class/net/{pf}/address").strip().lower() == port.mac:
        _lend_mac(dut, pf, port.mac)
    try:
        # Left on, the kernel's driver takes the function and makes an interface of it: as a bifurcated one has to.
        probed = bound_to(dut, pci) in BIFURCATED
        if not probed and dut.read(f"{device}/sriov_drivers_autoprobe", "0").strip() != "0":
            dut.set_file(f"{device}/sriov_drivers_autoprobe", "0")
        for module in function_modules(dut, pci):
            remove_if_it_comes(dut, module)
        dut.set_file(f"{device}/sriov_numvfs", "1")
        function = ["ip", "link", "set", "dev", pf, "vf", "0"]
        # These settings end with the function.
        dut.apply([*function, "mac", port.mac], ["true"])
        if role is Role.FORWARD:
            # It takes frames for others in, and sends them on with the senders' addresses.
            dut.apply([*function, "spoofchk", "off"], ["true"])
            dut.apply([*function, "trust", "on"], ["true"])
    except HostError as error:
        raise StackError(f"dpdk: no virtual function could be set up on {pf} ({pci}): {error}") from error
    return _await_function(dut, pf, device, probed)


def _bring_up(dut: Dut, pf: str) -> None:
    """A function has a link only while its port has."""
    if not int(dut.read(f"/sys/class/net/{pf}/flags"), 16) & IFF_UP:
        dut.apply(["ip", "link", "set", "dev", pf, "up"], ["ip", "link", "set", "dev", pf, "down"])


def other_mac(mac: str) -> str:
    """A locally administered unicast MAC that is not this one."""
    first = int(mac[:2], 16)
    return f"{(first | 0x02) ^ (0x04 if first & 0x02 else 0):02x}{mac[2:]}"


def _lend_mac(dut: Dut, pf: str, mac: str) -> None:
    keep_neighbours(dut, pf)
    set_mac = ["ip", "link", "set", "dev", pf, "address"]
    dut.apply([*set_mac, other_mac(mac)], [*set_mac, mac])


def _await_function(dut: Dut, pf: str, device: str, probed: bool) -> str:
    deadline = time.monotonic() + _APPEAR_S
    while True:
        path = dut.run(["readlink", f"{device}/virtfn0"], check=False).stdout.strip()
        function = path.rpartition("/")[2]
        if function and (not probed or bound_to(dut, function)):
            return function
        if time.monotonic() > deadline:
            raise StackError(f"dpdk: the driver of {pf} made no virtual function within {_APPEAR_S:g} s; see dmesg.")
        time.sleep(0.05)
