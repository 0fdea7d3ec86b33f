# SPDX-License-Identifier: Apache-2.0
"""Packets handled by DPDK's ``dpdk-testpmd`` in user space: over AF_XDP in the lab, over PCI on hosts.

Every core of the point is an lcore that polls. testpmd's main thread only waits for commands, on a core that the point
was not given where there is one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import Field

from harness.errors import HostError, StackError
from harness.host.contract import Dut, RemoteProcess
from harness.host.facts import expand
from harness.host.tuning.memory import hugepages
from harness.plan import PointPlan, PortPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams
from harness.stacks.ports import interrupts_on_cores, keep_neighbours, missing_for_ports, set_up_ports, undone

from .command import Layout, af_packet_devices, af_xdp_devices, command, memory_mib, pci_devices
from .session import RunningTestpmd

PROGRAM = "dpdk-testpmd"
#: Drivers through which DPDK reaches a PCI device; the last two share it with the kernel.
PCI_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio", "mlx5_core", "mlx4_core")
#: Empty polls after which a device goes back to interrupts, while ``coalesce_us`` paces it.
DEFER_HARD_IRQS = "2"
RELEASE_S = 5.0
HUGEPAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB"
RUNTIME_DIR = "/var/run/dpdk"
IFF_PROMISC = 0x100
MAX_QUEUES = 64


class DpdkParams(StackParams):
    """How testpmd reaches its ports, and the sizes of its rings and bursts."""

    driver: Literal["auto", "af_xdp", "af_packet", "pci"] = Field(
        "auto",
        description="pci: the device itself; af_xdp, af_packet: through the kernel's driver of the interface; auto: pci"
        " on hosts, af_xdp on a virtual wire",
    )
    rxq: int = Field(
        0,
        ge=0,
        le=MAX_QUEUES,
        description="receive and transmit queues of a port; 0: one a core (pci, af_packet), or as many as the interface"
        " has (af_xdp, which has to serve them all)",
    )
    burst: int = Field(32, ge=1, le=512, description="frames asked for in one poll")
    descriptors: int = Field(0, ge=0, le=8192, description="entries of each ring; 0: the driver's own choice")
    mbufs: int = Field(16384, ge=2048, le=1 << 20, description="packet buffers of the pool")
    busy_budget: int = Field(
        64,
        ge=0,
        le=1024,
        description="af_xdp: frames for which a poll may drive the device itself (preferred busy polling); 0: off. In"
        " copy mode the kernel cannot do it from 6.14 on",
    )
    coalesce_us: int = Field(
        50,
        ge=0,
        le=10_000,
        description="af_xdp, af_packet: microseconds between two looks of the kernel at the device (gro_flush_timeout),"
        " so that its NAPI thread and the polling thread share a core in short turns; 0: the host's setting",
    )
    hugepages: Literal["auto", "yes", "no"] = Field(
        "auto", description="2 MiB hugepages for DPDK's memory; auto: on hosts yes, on a virtual wire no"
    )


def driver_of(params: DpdkParams, dut: Dut) -> str:
    """The driver that ``auto`` means here."""
    if params.driver != "auto":
        return params.driver
    return "af_xdp" if dut.virtual else "pci"


def served_ports(point: PointPlan) -> list[PortPlan]:
    """The DUT's ports at which test frames arrive."""
    return [w.dut for w in point.wires if any(d.tx_port == w.tg.index for d in point.directions)]


def queues_of(dut: Dut, ifname: str) -> int:
    """Receive queues that an interface has at present."""
    return next(n for n in range(MAX_QUEUES + 1) if not dut.exists(f"/sys/class/net/{ifname}/queues/rx-{n}"))


def main_core(online: str, given: tuple[int, ...]) -> int:
    """Where the thread that waits for commands goes: the first core that does no work, or the first there is."""
    return next((core for core in expand(online) if core not in given), given[0])


class Dpdk(Stack):
    """DPDK's own test application: the kernel bypassed, as far as the wire allows it."""

    name: ClassVar[str] = "dpdk"
    summary: ClassVar[str] = "DPDK's testpmd: polling in user space"
    polling: ClassVar[bool] = True
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.DROP: RoleInfo("testpmd rxonly: received and freed", discard_counter="discarded"),
        Role.REFLECT: RoleInfo("testpmd macswap: MACs swapped"),
        Role.ECHO: RoleInfo("testpmd 5tswap: MACs, IP addresses and UDP ports swapped; no socket"),
    }
    Params: ClassVar[type[StackParams]] = DpdkParams

    def poll_pass(self, role: Role) -> bool:
        return role is not Role.DROP

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        assert isinstance(self.params, DpdkParams)
        missing = []
        if dut.which(PROGRAM) is None:
            missing.append(Missing(PROGRAM, "apt-get install dpdk-dev (Debian, Ubuntu), or a DPDK build's in PATH"))
        if dut.which("stdbuf") is None:
            missing.append(Missing("stdbuf", "apt-get install coreutils"))
        if driver_of(self.params, dut) == "pci":
            return missing + _missing_for_pci(dut, point)
        missing += missing_for_ports(dut, point)
        return missing or _missing_queues(dut, point, self.params)

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        assert isinstance(self.params, DpdkParams)
        dut, point = context.dut, context.point
        program = dut.which(PROGRAM)
        if program is None:
            raise StackError(f"dpdk: {dut.name} has no {PROGRAM}; apt-get install dpdk-dev (Debian, Ubuntu).")
        with undone(dut):
            layout, degraded = _prepare(dut, point, self.params)
            argv = command(program, point.role, layout, mbufs=self.params.mbufs, burst=self.params.burst,
                           descriptors=self.params.descriptors)
            used = used_hugepages(dut)
            testpmd = dut.spawn(argv, name=PROGRAM, env={"LIBXDP_SKIP_DISPATCHER": "1"})
            try:
                running = RunningTestpmd(testpmd, drops=point.role is Role.DROP, degraded=degraded,
                                         misses=not dut.virtual)
                running.start()
                yield running
            finally:
                _stop(dut, testpmd, used)


def _missing_for_pci(dut: Dut, point: PointPlan) -> list[Missing]:
    missing = []
    for port in served_ports(point):
        if not port.pci:
            missing.append(Missing(f"the PCI address of the DUT's port {port.index}",
                                   "give it in the testbed file (pci: 0000:01:00.0), or choose driver: af_xdp"))
            continue
        path = dut.run(["readlink", f"/sys/bus/pci/devices/{port.pci}/driver"], check=False).stdout.strip()
        bound = path.rpartition("/")[2]
        if bound not in PCI_DRIVERS:
            missing.append(Missing(f"{port.pci} bound to a DPDK driver (it is bound to {bound or 'none'})",
                                   f"dpdk-devbind.py --bind=vfio-pci {port.pci}"))
    return missing


def _missing_queues(dut: Dut, point: PointPlan, params: DpdkParams) -> list[Missing]:
    """af_xdp: a core without a receive queue of its own would have nothing to poll."""
    if driver_of(params, dut) != "af_xdp":
        return []
    ports = served_ports(point)
    there, wanted = sum(queues_of(dut, port.ifname) for port in ports), len(point.cores)
    if there >= wanted:
        return []
    names = ", ".join(port.ifname for port in ports)
    return [Missing(f"{wanted} receive queues, one a core ({names}: {there})",
                    f"ethtool -L {ports[0].ifname} combined {wanted} (or rx {wanted} tx {wanted}), or fewer cores")]


def _prepare(dut: Dut, point: PointPlan, params: DpdkParams) -> tuple[Layout, str]:
    """Prepare the host, journalled; returns testpmd's layout, and what is slower than DPDK ought to be."""
    driver = driver_of(params, dut)
    ports = served_ports(point)
    queues, degraded = params.rxq or len(point.cores), ""
    if driver == "pci":
        devices = pci_devices([port.pci for port in ports])
    else:
        set_up_ports(dut, point)
        interrupts_on_cores(dut, point)
        for port in ports:
            keep_neighbours(dut, port.ifname)  # af_packet sets the interface's MAC as it starts
            _prepare_port(dut, port.ifname, params.coalesce_us)
        if driver == "af_xdp":
            devices, queues, degraded = _af_xdp(dut, ports, params)
        else:
            devices, degraded = _af_packet(dut, ports, queues), "af_packet: every frame is copied by the kernel"
    huge = params.hugepages == "yes" or (params.hugepages == "auto" and not dut.virtual)
    if huge:
        _reserve(dut, memory_mib(params.mbufs))
    prefix = f"netstack-harness-{secrets.token_hex(4)}"
    _remove_runtime_files(dut, prefix)
    main = main_core(dut.read("/sys/devices/system/cpu/online"), point.cores)
    return Layout(devices, queues, main, point.cores, prefix, huge), degraded


def _af_xdp(dut: Dut, ports: list[PortPlan], params: DpdkParams) -> tuple[tuple[str, ...], int, str]:
    """One device a queue, so one queue a device."""
    queues = [(port.ifname, params.rxq or queues_of(dut, port.ifname)) for port in ports]
    devices = af_xdp_devices(queues, params.busy_budget)
    if dut.virtual:
        return devices, 1, "AF_XDP copy mode on a virtual wire; the polling thread and NAPI share the core"
    return devices, 1, "AF_XDP through the kernel's driver, not DPDK's own"


def _af_packet(dut: Dut, ports: list[PortPlan], queues: int) -> tuple[str, ...]:
    """The kernel gets every frame too and would answer it (port unreachable): it is made to drop them on ingress."""
    for port in ports:
        table = f"netdev netstack_harness_{port.index}"
        dut.apply(
            ["nft", f'add table {table}; add chain {table} in {{ type filter hook ingress device "{port.ifname}"'
                    " priority 0; policy drop; }"],
            ["nft", f"add table {table}; delete table {table}"],
        )
    return af_packet_devices([port.ifname for port in ports], queues)


def _prepare_port(dut: Dut, ifname: str, coalesce_us: int) -> None:
    """Pace the kernel's part of the work, and arrange for the undoing of what testpmd leaves on an interface:
    promiscuous mode always, its XDP program when it is killed."""
    if coalesce_us:
        dut.set_file(f"/sys/class/net/{ifname}/napi_defer_hard_irqs", DEFER_HARD_IRQS)
        dut.set_file(f"/sys/class/net/{ifname}/gro_flush_timeout", str(coalesce_us * 1000))
    undo = ["ip", "link", "set", "dev", ifname]
    if not int(dut.read(f"/sys/class/net/{ifname}/flags"), 16) & IFF_PROMISC:
        undo += ["promisc", "off"]
    dut.apply(["ip", "link", "set", "dev", ifname, "xdp", "off"], [*undo, "xdp", "off"])


def _remove_runtime_files(dut: Dut, prefix: str) -> None:
    """EAL makes a folder of this name, and its parent, and leaves them."""
    if not dut.exists(RUNTIME_DIR):
        dut.apply(["true"], ["rmdir", "--ignore-fail-on-non-empty", RUNTIME_DIR])
    dut.apply(["true"], ["rm", "-rf", f"{RUNTIME_DIR}/{prefix}"])


def used_hugepages(dut: Dut) -> int:
    """2 MiB hugepages that someone uses at present."""
    return int(dut.read(f"{HUGEPAGES}/nr_hugepages", "0")) - int(dut.read(f"{HUGEPAGES}/free_hugepages", "0"))


def _reserve(dut: Dut, mib: int) -> None:
    try:
        hugepages(dut, -(-mib // 2))
    except HostError as error:
        raise StackError(f"dpdk: {error}") from error


def _stop(dut: Dut, testpmd: RemoteProcess, used: int) -> None:
    """INT: testpmd closes its ports, which takes the XDP program off. The kernel lets go of an AF_XDP socket's memory
    a moment after its process has ended; hugepages can be given back only then. ``used``: by others, before."""
    testpmd.stop(10.0)
    deadline = time.monotonic() + RELEASE_S
    while used_hugepages(dut) > used and time.monotonic() < deadline:
        time.sleep(0.02)
