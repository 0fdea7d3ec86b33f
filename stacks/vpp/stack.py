# SPDX-License-Identifier: Apache-2.0
"""Forwarding by FD.io VPP: an L2 cross-connect or IPv4 routing, over DPDK, AF_XDP or af_packet.

VPP runs in the foreground from a generated startup.conf; ports and routes are made over its command line, each command
checked, since a startup script that fails does so silently.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from harness.errors import StackError
from harness.host.contract import Dut
from harness.host.pci import bound_to, pci_address
from harness.host.undo import undone
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams
from harness.stacks.binding import USER_SPACE, given_to_dpdk, missing_for_binding
from harness.stacks.devices import receive_queues
from harness.stacks.placement import await_released, keep_hugepages, main_core, reserve, used_hugepages
from harness.stacks.ports import (
    interrupts_on_cores,
    keep_neighbours,
    keep_tags,
    missing_for_ports,
    pace_napi,
    set_up_ports,
)

from . import config
from .config import Layout
from .session import RunningVpp, Vppctl

PROGRAMS = ("vpp", "vppctl")
REMEDY = ("install FD.io's packages vpp, vpp-plugin-core and vpp-plugin-dpdk (fd.io, \"Installing VPP\"; Debian has "
          "none), or name the folder of a build in the parameter dir")
#: Bytes of one buffer with its headers; VPP keeps them in hugepages where there are any.
BUFFER_BYTES = 2496
#: What DPDK inside VPP takes besides the buffers: rings, ports.
BASE_MIB = 64
IFF_PROMISC = 0x100
L2, L3 = RoleInfo("L2 cross-connect: frames leave as they came", layer="l2"), RoleInfo("L3, TTL - 1", layer="l3")


class VppParams(StackParams):
    """How VPP forwards and how it reaches its ports."""

    forward: Literal["ip4", "l2"] = Field("ip4", description="ip4: routing with static neighbours; l2: the two ports "
                                                             "connected crosswise")
    driver: Literal["auto", "dpdk", "af_xdp", "af_packet"] = Field(
        "auto", description="dpdk: the PCI device itself; af_xdp, af_packet: through the kernel's driver; auto: dpdk "
                            "on hosts, af_packet on a virtual wire")
    queues: int = Field(0, ge=0, le=64, description="receive queues of a port, given to the workers in turn; 0: one a "
                                                    "core, or (af_xdp, which has to serve them all) as many as it has")
    rx_mode: Literal["polling", "interrupt", "adaptive"] = Field("polling", description="how workers wait for frames")
    tpacket: Literal["v2", "v3"] = Field("v2", description="af_packet: version of the kernel's ring; v3, VPP's own "
                                                           "choice, gives frames in blocks, when full or after 1 ms")
    coalesce_us: int = Field(50, ge=0, le=10_000, description="af_packet, af_xdp: microseconds between two looks of "
                                                              "the kernel at the device; 0: the host's setting")
    buffers: int = Field(16384, ge=2048, le=1 << 20, description="packet buffers a NUMA node")
    dir: str = Field("", max_length=200, pattern=r"^(/[A-Za-z0-9_.+-]+)*$",
                     description="folder on the DUT that has vpp and vppctl, such as one of several builds; empty: the "
                                 "search path")


class Vpp(Stack):
    """FD.io's Vector Packet Processor."""

    name = "vpp"
    summary = "FD.io VPP: L2 cross-connect or IPv4 forwarding in vectors, in user space"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {Role.FORWARD: L3}
    Params = VppParams
    features: ClassVar[frozenset[str]] = frozenset({"ipv6", "vlan"})

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, VppParams):
            raise TypeError(f"vpp needs VppParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params

    def polls(self) -> bool:
        return self.settings.rx_mode == "polling"

    def takes(self) -> frozenset[str]:
        """The cross-connect takes frames as they come; what is routed is IPv4."""
        return self.features if self.settings.forward == "l2" else frozenset()

    def role_info(self, role: Role) -> RoleInfo:
        return L2 if self.settings.forward == "l2" else self.roles[role]

    def driver(self, dut: Dut) -> str:
        """The driver that ``auto`` means here."""
        if self.settings.driver != "auto":
            return self.settings.driver
        return "af_packet" if dut.virtual else "dpdk"

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = [Missing(f"the program {program}", REMEDY)
                   for program in self._programs() if dut.which(program) is None]
        if len(point.wires) != 2:
            missing.append(Missing(f"two wires to forward between (the point has {len(point.wires)})",
                                   "give the testbed two wires to this host"))
        if self.driver(dut) == "dpdk":
            return missing + missing_for_binding(dut, point, "auto")
        if self.driver(dut) == "af_packet" and dut.which("nft") is None:
            missing.append(Missing("the program nft", "apt-get install nftables"))
        if self.driver(dut) == "af_packet" and self.settings.rx_mode == "adaptive":
            missing.append(Missing("a driver that VPP can switch between polling and interrupts (af_packet it cannot)",
                                   "rx_mode: polling or interrupt, or driver: af_xdp"))
        if point.vlan is not None and dut.which("ethtool") is None:
            missing.append(Missing("the program ethtool", "apt-get install ethtool"))
        missing += missing_for_ports(dut, point)
        return missing or self._missing_queues(dut, point)

    def _programs(self) -> list[str]:
        """Of vpp and vppctl, as they are called."""
        return [f"{self.settings.dir}/{name}" if self.settings.dir else name for name in PROGRAMS]

    def _queues(self, dut: Dut, point: PointPlan) -> tuple[int, ...]:
        """Receive queues of each port."""
        if self.driver(dut) == "af_xdp" and not self.settings.queues:
            return tuple(receive_queues(dut, wire.dut.ifname) for wire in point.wires)
        return tuple(self.settings.queues or len(point.cores) for _ in point.wires)

    def _missing_queues(self, dut: Dut, point: PointPlan) -> list[Missing]:
        """A queue without a worker would be the kernel's, and a worker without a queue idle."""
        queues, workers = self._queues(dut, point), len(point.cores)
        if sum(queues) < workers:
            return [Missing(f"a receive queue for each of {workers} workers (VPP is given {sum(queues)})",
                            "more queues (ethtool -L), or fewer cores")]
        if self.driver(dut) != "af_xdp":
            return []
        there = [(wire.dut.ifname, receive_queues(dut, wire.dut.ifname)) for wire in point.wires]
        return [Missing(f"{ifname} with {count} receive queues (it has {has})",
                        f"ethtool -L {ifname} combined {count} (or rx {count} tx {count}), or leave queues out")
                for (ifname, has), count in zip(there, queues, strict=True) if has != count]

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        program, vppctl = (dut.which(name) for name in self._programs())
        if program is None or vppctl is None:
            raise StackError(f"vpp: {dut.name} has no vpp or no vppctl.")
        with undone(dut), self._layout(dut, point) as layout:
            _prepare_ports(dut, point, layout.driver, self.settings.coalesce_us)
            _write_config(dut, layout, point)
            used = used_hugepages(dut)
            process = dut.spawn([program, "-c", f"{layout.folder}/startup.conf"], name="vpp",
                                env={"LIBXDP_SKIP_DISPATCHER": "1"})
            try:
                control = Vppctl(dut, process, vppctl, layout.socket)
                control.await_ready()
                self._configure(control, layout, point)
                running = RunningVpp(process, control, config.names(layout, point), _degraded(layout.driver),
                                     _given(dut, point) if layout.driver == "af_packet" else None)
                running.counters()
                yield running
            finally:
                process.stop(10.0)
                await_released(dut, used)

    @contextmanager
    def _layout(self, dut: Dut, point: PointPlan) -> Iterator[Layout]:
        """Where VPP runs; over DPDK with the ports taken from the kernel, and memory for them, for the block."""
        main = main_core(dut, point.cores)
        layout = Layout(driver=self.driver(dut), folder=f"/run/netstack-harness-vpp-{secrets.token_hex(4)}", main=main,
                        workers=point.cores, queues=self._queues(dut, point), buffers=self.settings.buffers,
                        rx_mode=self.settings.rx_mode, tpacket=self.settings.tpacket,
                        huge=self.driver(dut) == "dpdk" or not dut.virtual)
        buffers = -(-self.settings.buffers * BUFFER_BYTES // 2**20)
        if layout.driver != "dpdk":
            if layout.huge:
                keep_hugepages(dut)
                reserve(dut, buffers, (main, *point.cores))
            yield layout
            return
        taken = tuple(pci_address(dut, wire.dut) for wire in point.wires)
        with given_to_dpdk(dut, taken, "auto", point.management):
            keep_hugepages(dut)
            reserve(dut, BASE_MIB + buffers, (main, *point.cores), taken)
            bound = {bound_to(dut, pci) for pci in taken} & set(USER_SPACE)
            yield replace(layout, devices=taken, bound=bound.pop() if len(bound) == 1 else "")

    def _configure(self, control: Vppctl, layout: Layout, point: PointPlan) -> None:
        for words, printed in config.create(layout, point):
            control.tell(words, printed)
        forward = config.forward_l2 if self.settings.forward == "l2" else config.forward_ip4
        for words in [*forward(layout, point), *config.serve(layout, point)]:
            control.tell(words)


def _prepare_ports(dut: Dut, point: PointPlan, driver: str, coalesce_us: int) -> None:
    """Ports of the kernel's drivers: up, promiscuous (frames for the far end arrive too). With af_packet the kernel
    gets every frame as well and would answer or forward it: it is made to drop them on ingress."""
    if driver == "dpdk":
        return
    set_up_ports(dut, point)
    interrupts_on_cores(dut, point)
    if point.vlan is not None:
        keep_tags(dut, [wire.dut.ifname for wire in point.wires])
    for port in (wire.dut for wire in point.wires):
        keep_neighbours(dut, port.ifname)
        pace_napi(dut, port.ifname, coalesce_us)
        if not int(dut.read(f"/sys/class/net/{port.ifname}/flags"), 16) & IFF_PROMISC:
            dut.apply(["ip", "link", "set", "dev", port.ifname, "promisc", "on"],
                      ["ip", "link", "set", "dev", port.ifname, "promisc", "off"])
        if driver == "af_packet":
            table = f"netdev netstack_harness_{port.index}"
            dut.apply(["nft", f"add table {table}; add chain {table} in {{ type filter hook ingress device "
                              f'"{port.ifname}" priority 0; policy drop; }}'],
                      ["nft", f"add table {table}; delete table {table}"])
        else:  # a killed VPP leaves its XDP program on the interface
            dut.apply(["true"], ["ip", "link", "set", "dev", port.ifname, "xdp", "off"])


def _given(dut: Dut, point: PointPlan) -> Callable[[], int]:
    """Reads what the kernel received at the ports: all of it is for VPP's packet sockets, too."""
    ifnames = [wire.dut.ifname for wire in point.wires]
    return lambda: sum(counters["rx_packets"] for counters in dut.interface_counters(ifnames).values())


def _write_config(dut: Dut, layout: Layout, point: PointPlan) -> None:
    """VPP's folder with startup.conf; it goes with everything VPP puts there, and the segments a killed VPP leaves."""
    segments = [f"/dev/shm/{layout.prefix}-{name}" for name in ("global_vm", "vpe-api")]
    dut.apply(["mkdir", "-m", "700", layout.folder], ["rm", "-rf", layout.folder, *segments])
    dut.run(["tee", f"{layout.folder}/startup.conf"], stdin=config.startup(layout, point))


def _degraded(driver: str) -> str:
    return {"dpdk": "", "af_packet": "af_packet: every frame is copied by the kernel",
            "af_xdp": "AF_XDP through the kernel's driver, not VPP's own"}[driver]
