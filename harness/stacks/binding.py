# SPDX-License-Identifier: Apache-2.0
"""Taking PCI devices from the kernel and giving them back, all of it on the DUT's journal.

The order in the journal makes the undo: it is replayed newest first, so what the interface has to be again stands
before the binding, and the module before both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HostError, HostNotRestored, StackError
from harness.host.contract import Dut
from harness.host.guard import REMEDY, protected, refuse_device
from harness.host.pci import DEVICES, bound_to, interfaces, pci_address
from harness.plan import PointPlan, PortPlan
from harness.stack import Missing
from harness.stacks import modules
from harness.stacks.devices import group_companions, override, used_ports
from harness.stacks.interface import InterfaceState, snapshot

#: Drivers that hand a device to user space.
USER_SPACE = ("vfio-pci", "uio_pci_generic", "igb_uio")
#: Drivers that DPDK shares a device with: nothing is bound, the kernel keeps its interface.
BIFURCATED = ("mlx5_core", "mlx4_core")
#: Modules in the order they are loaded. VFIO asks for its IOMMU part by itself, so it would be left behind.
_MODULES = {"vfio-pci": ("vfio_iommu_type1", "vfio-pci"), "uio_pci_generic": ("uio_pci_generic",)}
_REBIND = Path(__file__).with_name("rebind.py")
_GROUP_REMEDY = "put the NIC into another slot, or choose bind: uio_pci_generic"
_MASTER_REMEDY = f"take it out for the test, or {REMEDY}"


def wanted_driver(dut: Dut, pci: str, bind: str) -> str:
    """The driver a device is to have: what it has when that will do, or when nothing is to be bound."""
    now = bound_to(dut, pci)
    if bind == "none" or now in BIFURCATED or (bind == "auto" and now in USER_SPACE):
        return now
    if bind != "auto":
        return bind
    return "vfio-pci" if dut.exists(f"{DEVICES}/{pci}/iommu_group") else "uio_pci_generic"


def missing_for_binding(dut: Dut, point: PointPlan, bind: str) -> list[Missing]:
    """What keeps the point's ports from being handed to DPDK; changes nothing."""
    return missing_for_devices(dut, used_ports(point), point.management, bind)


def missing_for_devices(dut: Dut, ports: Sequence[PortPlan], management: str, bind: str) -> list[Missing]:
    """What keeps ports of a host from being handed to DPDK; changes nothing."""
    if dut.which("ip") is None:
        return [Missing("the program ip", "apt-get install iproute2")]
    missing: list[Missing] = []
    reasons = protected(dut, management)
    taken = [pci_address(dut, port) for port in ports]
    for port, pci in zip(ports, taken, strict=True):
        missing += _missing_of_port(dut, port, pci, bind, reasons) or _missing_of_driver(dut, pci, bind, taken)
    return missing


def _missing_of_port(dut: Dut, port: PortPlan, pci: str, bind: str, reasons: dict[str, str]) -> list[Missing]:
    if not pci:
        return [Missing(f"the PCI address of the DUT's port {port.index}",
                        "give it in the testbed file (pci: 0000:01:00.0), or choose driver: af_xdp")]
    if not dut.exists(f"{DEVICES}/{pci}"):
        return [Missing(f"a PCI device {pci} on {dut.name}", "correct pci in the testbed file; lspci lists them")]
    found, taken = list[Missing](), wanted_driver(dut, pci, bind) != bound_to(dut, pci)
    for ifname in interfaces(dut, pci):
        if ifname in reasons:
            found.append(Missing(f"a port of its own: {ifname} ({pci}) is {reasons[ifname]}",
                                 REMEDY))
        tied = _tied_to(dut, ifname)
        if tied:
            found.append(Missing(f"{ifname} ({pci}) free of {', '.join(tied)}, which would break", _MASTER_REMEDY))
        lost = snapshot(dut, ifname).lost if taken and not found and dut.which("python3") else ()
        if lost:
            found.append(Missing(f"{ifname} ({pci}) without {'; '.join(lost)}: unbinding it would lose them for good",
                                 _MASTER_REMEDY))
    return found


def _tied_to(dut: Dut, ifname: str) -> list[str]:
    """Bonds, bridges, VLAN and other devices that an interface is part of."""
    entries = dut.run(["ls", f"/sys/class/net/{ifname}"]).stdout.split()
    return [entry.removeprefix("upper_") for entry in entries if entry.startswith("upper_")]


def _missing_of_driver(dut: Dut, pci: str, bind: str, taken: Sequence[str]) -> list[Missing]:
    driver, now = wanted_driver(dut, pci, bind), bound_to(dut, pci)
    if bind == "none":
        return [] if now in (*USER_SPACE, *BIFURCATED) else [
            Missing(f"{pci} bound to a DPDK driver (it is bound to {now or 'none'})",
                    f"leave bind: none out, or dpdk-devbind.py --bind=vfio-pci {pci}")]
    found = []
    if driver != now and not _loaded(dut, driver) and dut.which("modprobe") is None:
        found.append(Missing("the program modprobe", "apt-get install kmod"))
    elif driver != now and not (_loaded(dut, driver) or _loadable(dut, driver)):
        found.append(Missing(f"the kernel module {driver}", "install the modules of the running kernel (Debian: linux-"
                             "image-amd64; Ubuntu: linux-modules-extra-$(uname -r)), or choose another bind"))
    if driver == "vfio-pci" and not dut.exists(f"{DEVICES}/{pci}/iommu_group"):
        found.append(Missing(f"an IOMMU group of {pci}", "turn the IOMMU on (BIOS, and intel_iommu=on iommu=pt on the "
                                                         "kernel's command line), or choose bind: uio_pci_generic"))
    if driver == "vfio-pci":
        others = _kept_by_kernel(dut, pci, taken)
        found += [Missing(f"an IOMMU group of its own: {pci} shares it with {', '.join(others)}",
                          _GROUP_REMEDY)] * bool(others)
    return found


def _kept_by_kernel(dut: Dut, pci: str, taken: Sequence[str]) -> list[str]:
    """Devices of its IOMMU group that the kernel drives and goes on to: with them VFIO hands none of the group out."""
    return [other for other in group_companions(dut, pci)
            if other not in taken and bound_to(dut, other) not in ("", "vfio-pci")]


def _loaded(dut: Dut, driver: str) -> bool:
    return dut.exists(f"/sys/bus/pci/drivers/{driver}")


def _loadable(dut: Dut, driver: str) -> bool:
    return dut.run(["modprobe", "--dry-run", driver], check=False).returncode == 0


@contextmanager
def given_to_dpdk(dut: Dut, addresses: Sequence[str], bind: str, management: str, *,
                  made: bool = False) -> Iterator[None]:
    """Bind devices for the block. One that stays with the kernel keeps its interfaces, of which the program (and TRex's
    start script) sets MTU, pause frames and flags as it likes: they are put back too. On leaving, once the journal has
    been undone, what the interfaces were is compared with what they are. ``made``: the devices were made for the test,
    and go with it. Raises StackError before anything is touched, HostNotRestored when something did not come back."""
    for pci in addresses:
        refuse_device(dut, management, pci)
    mark, states = dut.undo_mark(), list[InterfaceState]()
    try:
        for pci in addresses:
            driver = wanted_driver(dut, pci, bind)
            if driver == "vfio-pci":
                _refuse_shared_group(dut, pci, addresses)
            if driver and driver != bound_to(dut, pci):
                there = [snapshot(dut, ifname) for ifname in interfaces(dut, pci)]
                _refuse_losses(dut, there)
                states += there
                load_module(dut, driver)
                take(dut, pci, driver, there)
            elif driver in BIFURCATED and not made:
                states += (there := [snapshot(dut, ifname) for ifname in interfaces(dut, pci)])
                remember(dut, there)
        yield
    finally:
        dut.undo_to(mark)
        _check_restored(dut, states)


def _refuse_shared_group(dut: Dut, pci: str, taken: Sequence[str]) -> None:
    """Of a virtual function it is known only once it is there: its port is in the same group where nothing in its slot
    isolates them."""
    others = _kept_by_kernel(dut, pci, taken)
    if others:
        raise StackError(f"{pci} of {dut.name} shares its IOMMU group with {', '.join(others)}, which the kernel "
                         f"drives: {_GROUP_REMEDY}")


def _refuse_losses(dut: Dut, states: Sequence[InterfaceState]) -> None:
    for state in states:
        if state.lost:
            raise StackError(f"{state.ifname} of {dut.name} has {'; '.join(state.lost)}: unbinding it would lose them "
                             f"for good; {_MASTER_REMEDY}")


def load_module(dut: Dut, driver: str) -> None:
    """Load a driver's modules where they are not; removed again on undo."""
    for module in _MODULES.get(driver, (driver,)):
        if not _loaded(dut, module):
            modules.load(dut, module)


def remember(dut: Dut, states: Sequence[InterfaceState]) -> None:
    """Write onto the journal what interfaces are; nothing is changed."""
    for state in states:
        for command in reversed(state.commands()):
            dut.apply(["true"], command)


def take(dut: Dut, pci: str, driver: str, states: Sequence[InterfaceState]) -> None:
    """Bind one device to ``driver``; what its interfaces were (``states``) is on the journal. Raises StackError."""
    before, was = bound_to(dut, pci), override(dut, pci)
    remember(dut, states)
    rebind = ["python3", "-c", _REBIND.read_text(encoding="utf-8"), pci]
    # A device with several interfaces has them all back once the first is.
    undo = [*rebind, before, was, states[0].ifname if states else ""]
    try:
        dut.apply([*rebind, driver, was, ""], undo)
    except HostError as error:
        said = str(error).rpartition("status 1: ")[2]
        raise StackError(f"{pci} of {dut.name} could not be bound to {driver}: {said}") from error


@contextmanager
def kept(dut: Dut, ifnames: Sequence[str]) -> Iterator[None]:
    """Interfaces that stay with the kernel while their device is changed under them, for the block: to make virtual
    functions a driver sets its port up anew, with queues and rings of its own choice. On leaving, once the journal has
    been undone, they are compared with what they were. Raises HostNotRestored when something did not come back."""
    mark, states = dut.undo_mark(), [snapshot(dut, ifname) for ifname in ifnames]
    try:
        remember(dut, states)
        yield
    finally:
        dut.undo_to(mark)
        _check_restored(dut, states)


def _check_restored(dut: Dut, states: Sequence[InterfaceState]) -> None:
    wrong = [f"{state.ifname}: {text}" for state in states
             for text in state.differences(snapshot(dut, state.ifname))]
    if wrong:
        raise HostNotRestored(f"{dut.name} is not as it was: {'; '.join(wrong)}")
