# SPDX-License-Identifier: Apache-2.0
"""Packets handled by DPDK's ``dpdk-testpmd`` in user space: over AF_XDP in the lab, over PCI on hosts.

Every core of the point is an lcore that polls. testpmd's main thread only waits for commands, on a core that the point
was not given where there is one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from harness.errors import StackError
from harness.host.contract import Dut, RemoteProcess
from harness.host.pci import bound_to, pci_address
from harness.host.undo import undone
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams
from harness.stacks.binding import given_to_dpdk, missing_for_binding
from harness.stacks.devices import used_ports
from harness.stacks.modules import remove_if_it_comes
from harness.stacks.placement import await_released, main_core, reserve, used_hugepages
from harness.stacks.ports import missing_for_ports

from . import l3fwd
from .command import MAX_QUEUES, Layout, command, mbufs_for, memory_mib, pci_devices
from .kernelports import af_packet, af_xdp, missing_queues, prepare_kernel_ports
from .session import RunningTestpmd
from .telemetry import RUNTIME_DIR, Telemetry
from .vf import functions_on, missing_for_vf

#: The kernel loads these when DPDK's drivers for Mellanox look for their devices, whether there are any or not.
_RDMA = ("ib_core", "ib_uverbs")
PROGRAMS = {"testpmd": "dpdk-testpmd", "l3fwd": l3fwd.PROGRAM}
_REMEDIES = {
    "testpmd": "apt-get install dpdk-dev (Debian, Ubuntu), or a DPDK build's in PATH",
    "l3fwd": "build DPDK with -Dexamples=l3fwd (22.03 or newer; no Debian package has it) and put it in PATH",
}


class DpdkParams(StackParams):
    """How testpmd reaches its ports, and the sizes of its rings and bursts."""

    app: Literal["testpmd", "l3fwd"] = Field(
        "testpmd", description="l3fwd: DPDK's example router instead of testpmd, role forward only"
    )
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
    mbufs: int = Field(
        16384,
        ge=2048,
        le=1 << 20,
        description="packet buffers of the pool, at least: it has as many as fill all rings",
    )
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
    bind: Literal["auto", "vfio-pci", "uio_pci_generic", "none"] = Field(
        "auto",
        description="pci: the driver a port is bound to while the stack is deployed; auto: what it is bound to where"
        " DPDK can use that, else vfio-pci where there is an IOMMU, uio_pci_generic elsewhere; none: bound already",
    )
    vf: bool = Field(
        False, description="pci: use an SR-IOV virtual function made on the port, which the kernel keeps"
    )
    rss: Literal["udp", "ip"] = Field(
        "udp", description="pci, several queues: the NIC chooses one by addresses and ports, or by addresses only"
    )

    @model_validator(mode="after")
    def _pci_only(self) -> DpdkParams:
        if self.driver in ("af_xdp", "af_packet") and (self.vf or self.bind != "auto"):
            raise ValueError(f"vf and bind are for driver: pci, not {self.driver}; leave them out")
        if self.vf and self.bind == "none":
            raise ValueError("a virtual function is bound to no driver when it is made; leave bind: none out")
        return self


def driver_of(params: DpdkParams, dut: Dut) -> str:
    """The driver that ``auto`` means here."""
    if params.driver != "auto":
        return params.driver
    return "af_xdp" if dut.virtual else "pci"


class Dpdk(Stack):
    """DPDK's own test application: the kernel bypassed, as far as the wire allows it."""

    name: ClassVar[str] = "dpdk"
    summary: ClassVar[str] = "DPDK's testpmd: polling in user space"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.DROP: RoleInfo("testpmd rxonly: received and freed", discard_counter="discarded"),
        Role.REFLECT: RoleInfo("testpmd macswap: MACs swapped"),
        Role.ECHO: RoleInfo("testpmd 5tswap: MACs, IP addresses and UDP ports swapped; no socket"),
        Role.FORWARD: RoleInfo("testpmd io: L2, the frame unchanged out of the other port", layer="l2"),
    }
    Params: ClassVar[type[StackParams]] = DpdkParams
    features: ClassVar[frozenset[str]] = frozenset({"ipv6", "vlan"})

    def takes(self) -> frozenset[str]:
        """testpmd takes frames as they come; l3fwd's routes are IPv4's."""
        return frozenset() if self._app == "l3fwd" else self.features

    def role_info(self, role: Role) -> RoleInfo:
        if role is Role.FORWARD and self._app == "l3fwd":
            return RoleInfo("l3fwd: L3, TTL - 1, routes by longest prefix", layer="l3")
        return self.roles[role]

    def polls(self) -> bool:
        return True

    def polls_apart(self, role: Role) -> bool:
        """Of drop, testpmd tells it from DPDK 23.03 on; the plan does not know the host's version."""
        return role is not Role.DROP and self._app == "testpmd"

    @property
    def _app(self) -> str:
        assert isinstance(self.params, DpdkParams)
        return self.params.app

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        assert isinstance(self.params, DpdkParams)
        missing = []
        if self._app == "l3fwd" and point.role is not Role.FORWARD:
            return [Missing(f"a role that l3fwd fills: it does not {point.role}", "leave app: l3fwd out")]
        if dut.which(PROGRAMS[self._app]) is None:
            missing.append(Missing(PROGRAMS[self._app], _REMEDIES[self._app]))
        if point.vlan is not None and dut.which("ethtool") is None:
            missing.append(Missing("the program ethtool", "apt-get install ethtool"))
        if dut.which("python3") is None:
            missing.append(Missing("python3", "apt-get install python3-minimal"))
        if dut.which("stdbuf") is None:
            missing.append(Missing("stdbuf", "apt-get install coreutils"))
        driver = driver_of(self.params, dut)
        if driver == "pci":
            missing += missing_for_binding(dut, point, self.params.bind)
            missing += _missing_for_l3fwd(dut, point) if self._app == "l3fwd" else []
            return missing + (missing_for_vf(dut, point) if self.params.vf else [])
        if self._app == "l3fwd":
            missing.append(Missing(f"a device that checks checksums: l3fwd demands it, {driver} has none",
                                   "driver: pci on a NIC"))
        if driver == "af_packet" and dut.which("nft") is None:
            missing.append(Missing("nft", "apt-get install nftables"))
        missing += missing_for_ports(dut, point)
        return missing or (missing_queues(dut, point) if driver == "af_xdp" else [])

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        assert isinstance(self.params, DpdkParams)
        dut, point = context.dut, context.point
        with undone(dut), _layout(dut, point, self.params) as (layout, degraded):
            argv = self._command(dut, point, layout)
            used = used_hugepages(dut)
            process = dut.spawn(argv, name=PROGRAMS[self._app], env={"LIBXDP_SKIP_DISPATCHER": "1"})
            try:
                telemetry, misses = Telemetry(dut, layout.prefix), not dut.virtual
                running: RunningTestpmd | l3fwd.RunningL3fwd
                if self._app == "l3fwd":
                    running = l3fwd.RunningL3fwd(process, telemetry, ports=layout.ports, degraded=degraded,
                                                 misses=misses)
                else:
                    running = RunningTestpmd(process, telemetry, drops=point.role is Role.DROP, degraded=degraded,
                                             misses=misses)
                running.start()
                yield running
            finally:
                _stop(dut, process, used)

    def _command(self, dut: Dut, point: PointPlan, layout: Layout) -> list[str]:
        params, name = self.params, PROGRAMS[self._app]
        assert isinstance(params, DpdkParams)
        program = dut.which(name)
        if program is None:
            raise StackError(f"dpdk: {dut.name} has no {name}; {_REMEDIES[self._app]}.")
        if self._app == "l3fwd":
            wires = l3fwd.in_port_order(layout, point.wires)
            return l3fwd.command(program, layout, wires, l3fwd.write_rules(dut, wires, layout.prefix))
        mbufs = mbufs_for(layout, params.mbufs, params.descriptors)
        return command(program, point.role, layout, mbufs=mbufs, burst=params.burst,
                       descriptors=params.descriptors)


def _missing_for_l3fwd(dut: Dut, point: PointPlan) -> list[Missing]:
    drivers = {pci: bound_to(dut, pci) for port in used_ports(point) if (pci := pci_address(dut, port))}
    return [Missing(f"a device that checks IPv4 checksums: l3fwd demands it, {pci} ({driver}) has none",
                    "leave app: l3fwd out, or use another NIC")
            for pci, driver in drivers.items() if driver in l3fwd.WITHOUT_CHECKSUMS]


@contextmanager
def _layout(dut: Dut, point: PointPlan, params: DpdkParams) -> Iterator[tuple[Layout, str]]:
    """Prepare the host, journalled; testpmd's layout, and what is slower than DPDK ought to be."""
    driver, prefix = driver_of(params, dut), f"netstack-harness-{secrets.token_hex(4)}"
    ports, queues = used_ports(point), params.rxq or len(point.cores)
    huge = params.hugepages == "yes" or (params.hugepages == "auto" and not dut.virtual)
    main = main_core(dut, point.cores)
    _remove_runtime_files(dut, prefix)
    for module in _RDMA:
        remove_if_it_comes(dut, module)
    if driver == "pci":
        with (_devices(dut, point, params) as taken,
              given_to_dpdk(dut, taken, params.bind, point.management, made=params.vf)):
            layout = Layout(pci_devices(taken), queues, main, point.cores, prefix, huge, params.rss)
            if huge:
                reserve(dut, _memory_mib(layout, params), (main, *point.cores), taken)
            yield layout, ""
        return
    prepare_kernel_ports(dut, point, params.coalesce_us)
    if driver == "af_xdp":
        devices, degraded = af_xdp(dut, ports, params.rxq, params.busy_budget)
        queues = 1  # of a device: there is one for each queue
    else:
        devices, degraded = af_packet(dut, ports, queues)
    layout = Layout(devices, queues, main, point.cores, prefix, huge)
    if huge:
        reserve(dut, _memory_mib(layout, params), (main, *point.cores))
    yield layout, degraded


@contextmanager
def _devices(dut: Dut, point: PointPlan, params: DpdkParams) -> Iterator[list[str]]:
    """PCI addresses that DPDK takes: the ports', or those of functions made on them for the block."""
    if params.vf:
        with functions_on(dut, used_ports(point), point.role, point.management) as made:
            yield made
        return
    yield [pci_address(dut, port) for port in used_ports(point)]


def _memory_mib(layout: Layout, params: DpdkParams) -> int:
    """Of hugepages, on every node. l3fwd has its own pool, as large as all rings."""
    mbufs = mbufs_for(layout, params.mbufs, params.descriptors)
    if params.app == "l3fwd":
        return l3fwd.MEMORY_MIB + max(0, memory_mib(mbufs) - memory_mib(l3fwd.COVERED_MBUFS))
    return memory_mib(mbufs)


def _remove_runtime_files(dut: Dut, prefix: str) -> None:
    """EAL makes a folder of this name, and its parent, and leaves them."""
    if not dut.exists(RUNTIME_DIR):
        dut.apply(["true"], ["rmdir", "--ignore-fail-on-non-empty", RUNTIME_DIR], made=["test", "-d", RUNTIME_DIR])
    dut.apply(["true"], ["rm", "-rf", f"{RUNTIME_DIR}/{prefix}"])


def _stop(dut: Dut, process: RemoteProcess, used: int) -> None:
    """INT: it closes its ports, which takes the XDP program off. ``used``: hugepages, by others, before."""
    process.stop(10.0)
    await_released(dut, used)
