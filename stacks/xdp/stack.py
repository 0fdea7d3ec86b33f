# SPDX-License-Identifier: Apache-2.0
"""Packets handled in the driver's receive path by our own XDP program; sockets and the IP stack see none of them.

The work is done in softirq or, with threaded NAPI, in the NAPI kernel threads of the ports: those are what the point's
cores mean here, and the runner pins them. The loader (``src/xdp_loader.c``) sleeps except while it answers ``stats``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import Field

from harness.errors import StackError
from harness.host.contract import Dut, RemoteProcess
from harness.host.undo import undone
from harness.plan import DirectionPlan, PointPlan, Role, WirePlan
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackCounters, StackParams
from harness.stacks.ports import interrupts_on_cores, keep_tags, missing_for_ports, set_up_ports
from harness.stacks.servers import RunningServer, build, missing_bpf_compiler, serving

#: XDP attachments that go away with their process (BPF links on XDP) exist from here on.
MIN_KERNEL = (5, 9)
COUNTS = ("received", "dropped", "sent", "redirected", "refused", "passed", "handed")
CPU_COUNTS = ("taken", "redirected", "refused")
#: The loader takes so many cores.
MAX_CPUS = 64


class XdpParams(StackParams):
    """How the program is attached."""

    mode: Literal["native", "generic"] = Field(
        "native",
        description="native: inside the driver, before a socket buffer exists; generic: after the kernel has built one,"
        " works with every driver, slower",
    )
    redirect: Literal["devmap", "cpumap"] = Field(
        "devmap",
        description="role forward: devmap: the core that receives a frame forwards it; cpumap: it hands the frame to"
        " one of the point's cores, by the flow's hash, whose kernel thread forwards it",
    )
    cpumap_ring: int = Field(
        2048, ge=8, le=16384, description="redirect: cpumap: frames that may wait for a core; more are lost"
    )


def direction_into(point: PointPlan, wire: WirePlan) -> DirectionPlan | None:
    """The direction whose frames arrive at the DUT over this wire, if any."""
    return next((d for d in point.directions if d.tx_port == wire.tg.index), None)


def port_argument(point: PointPlan, wire: WirePlan) -> str:
    """The loader's PORT argument for the DUT's end of a wire (see ``src/xdp_loader.c``)."""
    direction = direction_into(point, wire)
    if direction is None:
        return f"{wire.dut.ifname},pass"
    fields = [wire.dut.ifname, point.role.value, direction.flows.dst_ip, str(direction.flows.dst_port),
              "-" if direction.vlan is None else str(direction.vlan)]
    if point.role is Role.FORWARD:
        out = next((w for w in point.wires if w.tg.index == direction.rx_port), None)
        if out is None:
            raise StackError(f"xdp: no wire leads to generator port {direction.rx_port}; role forward needs one.")
        fields += [out.dut.ifname, out.dut.mac, out.tg.mac]
    return ",".join(fields)


def parse_stats(text: str) -> StackCounters:
    """Counters from the loader's answer: totals, and one mapping a port's queue. Raises ValueError, LookupError or
    TypeError when it is malformed.

    Frames that a port's driver refused to send are in the interface's own counters, not in these. Behind a cpumap the
    cores follow the queues. The kernel counts nowhere what its ring had no room for: it is what was handed to a core
    and not taken by it, exact once nothing is on its way.
    """
    ports = json.loads(text)["ports"]
    workers = tuple(
        {"port": index, "queue": int(queue["queue"])} | {name: int(queue[name]) for name in COUNTS}
        for index, port in enumerate(ports)
        for queue in port["queues"]
    )
    cores = tuple(
        {"port": index, "core": int(core["cpu"])} | {name: int(core[name]) for name in CPU_COUNTS}
        for index, port in enumerate(ports)
        for core in port["cpus"]
    )
    totals = {name: sum(worker[name] for worker in workers) for name in COUNTS}
    totals["discarded"] = totals.pop("dropped")
    if not cores:
        return StackCounters(totals=totals, per_worker=workers, losses={"application": totals["refused"]})
    totals["taken"] = sum(core["taken"] for core in cores)
    for name in ("redirected", "refused"):
        totals[name] += sum(core[name] for core in cores)
    losses = {"application": totals["refused"], "cpumap ring": max(0, totals["handed"] - totals["taken"])}
    return StackCounters(totals=totals, per_worker=(*workers, *cores), losses=losses)


class RunningXdp(RunningServer[StackCounters]):
    """The attached program, seen through its loader."""

    #: Kernel threads of a cpumap, one a core.
    thread_names = ("cpumap/",)

    def __init__(self, dut: Dut, loader: RemoteProcess) -> None:
        super().__init__(dut, loader, "xdp_loader", parse_stats)

    def counters(self) -> StackCounters:
        return self.stats()


def _cpumap(params: XdpParams, point: PointPlan) -> list[str]:
    """The loader's CPUMAP argument: all cores of the point forward."""
    if params.redirect == "devmap":
        return []
    return [",".join(map(str, ("cpumap", params.cpumap_ring, *point.cores)))]


class Xdp(Stack):
    """XDP programs of our own: the kernel's fast path without the kernel's stack."""

    name: ClassVar[str] = "xdp"
    summary: ClassVar[str] = "own XDP programs in the driver's receive path"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.DROP: RoleInfo("XDP_DROP", discard_counter="discarded"),
        Role.REFLECT: RoleInfo("XDP_TX, MACs swapped"),
        Role.ECHO: RoleInfo("XDP_TX; MACs, IP addresses and UDP ports swapped; no socket"),
        Role.FORWARD: RoleInfo("L3 to a fixed next hop, no route lookup: new MACs, TTL - 1, redirect", layer="l3"),
    }
    Params: ClassVar[type[StackParams]] = XdpParams
    features: ClassVar[frozenset[str]] = frozenset({"ipv6", "vlan"})
    ceiling_for: ClassVar[frozenset[Role]] = frozenset({Role.DROP, Role.REFLECT, Role.ECHO, Role.FORWARD})

    def in_softirq(self) -> bool:
        """Behind a cpumap the work is a kernel thread's, which softirq would starve."""
        assert isinstance(self.params, XdpParams)
        return self.params.redirect == "devmap"

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point)
        missing += missing_bpf_compiler(dut)
        assert isinstance(self.params, XdpParams)
        if self.params.redirect == "cpumap" and point.role is not Role.FORWARD:
            missing.append(Missing(f"a cpumap for role {point.role}", "leave redirect out; it is a way of forwarding"))
        if self.params.redirect == "cpumap" and len(point.cores) > MAX_CPUS:
            missing.append(Missing(f"a cpumap of {len(point.cores)} cores", f"give it at most {MAX_CPUS}"))
        if point.vlan is not None and dut.which("ethtool") is None:
            missing.append(Missing("the program ethtool", "apt-get install ethtool"))
        release = dut.read("/proc/sys/kernel/osrelease").strip()
        number = re.match(r"(\d+)\.(\d+)", release)
        if number is None or (int(number[1]), int(number[2])) < MIN_KERNEL:
            missing.append(Missing(f"kernel 5.9 or newer (this is {release})", "boot a newer kernel"))
        return missing

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        assert isinstance(self.params, XdpParams)
        dut, point = context.dut, context.point
        arguments = [port_argument(point, wire) for wire in point.wires]
        program = build(context, "xdp_loader")
        with undone(dut):
            set_up_ports(dut, point)
            interrupts_on_cores(dut, point)
            if point.vlan is not None:
                keep_tags(dut, [wire.dut.ifname for wire in point.wires])
            argv = [program, self.params.mode, *_cpumap(self.params, point), *arguments]
            hint = " A driver without native XDP takes mode: generic." if self.params.mode == "native" else ""
            with serving(dut, argv, "xdp_loader", hint=hint) as loader:
                yield RunningXdp(dut, loader)
