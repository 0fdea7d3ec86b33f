# SPDX-License-Identifier: Apache-2.0
"""Packets handled in user space through netmap: the NIC's rings mapped into a program that sleeps in poll().

Whole NIC: drop by netmap's pkt-gen, forward by netmap's bridge, reflect and echo by our own program. Partial bypass:
our own program for every role; the kernel keeps all traffic but the test's, by a filter of the NIC or by host rings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from harness.errors import HostError, StackError
from harness.host.contract import Dut, RemoteProcess
from harness.host.undo import undone
from harness.plan import PointPlan, PortPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, set_up_ports
from harness.stacks.servers import notices

from . import host, parse, ports
from .running import REPORT_MS, RunningBridge, RunningPktGen, RunningWorker

READY_S = 30.0


class NetmapParams(StackParams):
    """Parameters of ``netmap``."""

    bypass: Literal["whole", "partial"] = Field(
        "whole",
        description="whole: netmap has the NIC, the kernel sees nothing of it; partial: netmap takes the test's UDP"
        " port only, everything else stays with the kernel",
    )
    steering: Literal["auto", "ntuple", "host-rings"] = Field(
        "auto",
        description="partial: how the rest reaches the kernel. ntuple: a filter of the NIC sends the test's flows to"
        " one ring, netmap opens that alone; host-rings: netmap has all rings and hands the rest on; auto: ntuple where"
        " the NIC can",
    )
    adapter: Literal["native", "any"] = Field(
        "native",
        description="native: the interface's driver has to be patched for netmap; any: netmap's generic adapter over"
        " another driver will do (slower, marked degraded)",
    )
    zero_copy: bool = Field(
        True,
        description="frames go from ring to ring by exchanging buffers; false: by a copy, for drivers that do not send"
        " exchanged buffers (netmap's vmxnet3 of 2026-02)",
    )


def served(point: PointPlan) -> list[PortPlan]:
    """The DUT's ports that netmap opens: both for forward, the one where frames arrive otherwise."""
    if point.role is Role.FORWARD:
        return [wire.dut for wire in point.wires]
    return [wire.dut for wire in point.wires if any(d.tx_port == wire.tg.index for d in point.directions)][:1]


def worker_arguments(point: PointPlan, names: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """netmap-worker's arguments; ``suffixes``: netmap's ring syntax for each of the point's cores."""
    workers = [f"{core}=" + ",".join(f"netmap:{name}{suffix}/x" for name in names)
               for core, suffix in zip(point.cores, suffixes, strict=True)]
    return [point.role.value, str(point.udp_port), *workers]


class Netmap(Stack):
    """netmap: a kernel module that maps a NIC's rings into programs."""

    name: ClassVar[str] = "netmap"
    summary: ClassVar[str] = "netmap: the NIC's rings mapped into a program, for the whole NIC or the test's flows only"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.DROP: RoleInfo("pkt-gen rx (partial: own program): received through netmap and dropped",
                            discard_counter="discarded"),
        Role.REFLECT: RoleInfo("own netmap program: MACs swapped"),
        Role.ECHO: RoleInfo("own netmap program: MACs, IP addresses and UDP ports swapped; no socket"),
        Role.FORWARD: RoleInfo("netmap's bridge (partial: own program): the frame as it is, zero copy", layer="l2"),
    }
    Params: ClassVar[type[StackParams]] = NetmapParams

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, NetmapParams):
            raise TypeError(f"netmap needs NetmapParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point) + host.missing_module(dut)
        if dut.which("ethtool") is None:
            missing.append(Missing("the program ethtool", "apt-get install ethtool"))
        if missing:
            return missing  # what follows asks the module, ethtool and the interfaces
        partial = self.settings.bypass == "partial"
        if partial or point.role in (Role.REFLECT, Role.ECHO):
            missing += host.missing_to_build(dut)
        elif point.role is Role.DROP and dut.which(host.PKT_GEN) is None:
            missing.append(host.missing_program(host.PKT_GEN))
        elif point.role is Role.FORWARD and host.find_bridge(dut) is None:
            missing.append(host.missing_program("bridge"))
        if self.settings.adapter == "native":
            missing += [item for port in served(point) for item in host.missing_driver(dut, port)]
        return missing + (self._missing_for_partial(dut, point) if partial else self._missing_for_whole(dut, point))

    def _missing_for_whole(self, dut: Dut, point: PointPlan) -> list[Missing]:
        if point.role is Role.FORWARD and len(point.cores) > 1:
            return [Missing("a bridge with several threads: netmap's has one", "give forward one core")]
        return host.missing_rings(dut, point, served(point))

    def _missing_for_partial(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = []
        if len(point.cores) > 1:
            missing.append(Missing("partial bypass on several cores: one ring, or the host rings, go to one program",
                                   "give it one core, or bypass: whole"))
        if self.settings.steering == "ntuple":
            missing += [Missing(f"filters by UDP port and a second receive ring on {port.ifname}",
                                "choose steering: host-rings, or a NIC with ntuple filters (ethtool -k, -L)")
                        for port in served(point) if not ports.can_steer(dut, port.ifname)]
        return missing

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        names = [port.ifname for port in served(point)]
        own = self.settings.bypass == "partial" or point.role in (Role.REFLECT, Role.ECHO)
        program = dut.program(Path(context.source) / "src", "netmap-worker") if own else ""
        with undone(dut):
            suffixes = self._prepare(dut, point, names)
            process = self._start(dut, point, names, program, suffixes)
            try:
                for name in names:
                    ports.await_link(dut, name)
                yield _running(dut, point, process, names, own, self._degraded(dut, names, process))
            finally:
                process.stop()

    def _prepare(self, dut: Dut, point: PointPlan, names: Sequence[str]) -> list[str]:
        """Prepare the interfaces; returns the rings to open, in netmap's syntax, for each core."""
        if self.settings.bypass == "partial":
            set_up_ports(dut, point)
        for name in names:
            ports.bring_up(dut, name)
            if point.role is Role.FORWARD:
                ports.promiscuous(dut, name)
        interrupts_on_cores(dut, point)
        if self.settings.bypass == "whole":
            return [""] if len(point.cores) == 1 else [f"-{ring}" for ring in range(len(point.cores))]
        if self.settings.steering != "host-rings" and all(ports.can_steer(dut, name) for name in names):
            rings = {ports.steer(dut, name, point.udp_port) for name in names}
            if len(rings) > 1:
                raise StackError("netmap: the two ports have different numbers of receive rings; make them equal with "
                                 "ethtool -L, or choose steering: host-rings.")
            return [f"-{rings.pop()}"]
        for name in names:
            ports.offloads_off(dut, name)
        return ["*"]

    def _start(self, dut: Dut, point: PointPlan, names: Sequence[str], program: str, suffixes: Sequence[str],
               ) -> RemoteProcess:
        copies = [] if self.settings.zero_copy else ["-c"]
        if program:
            argv, ready = [program, *copies, *worker_arguments(point, names, suffixes)], r"^ready$"
        elif point.role is Role.DROP:
            argv = [host.PKT_GEN, "-i", f"netmap:{names[0]}/x", "-f", "rx", "-N", "-T", str(REPORT_MS), "-w", "0",
                    "-c", str(len(point.cores)), "-p", str(len(point.cores))]
            ready = r" reading from netmap:"
        else:
            bridge = host.find_bridge(dut)
            if bridge is None:
                raise StackError(f"netmap: {dut.name} has no bridge of netmap's; see requirements.")
            argv = [bridge, "-w", "0", *copies, *(word for name in names for word in ("-i", f"netmap:{name}/x"))]
            ready = r" Ready to go, "
        process = dut.spawn(argv, name=Path(argv[0]).name, cores=point.cores)
        try:
            process.wait_output(ready, READY_S)
        except HostError as error:
            output = process.output(1 << 16)
            why = parse.reason(output) or "its last words say why"
            hint = " Another program has the port open." if "busy" in why else ""
            raise StackError(f"netmap: {Path(argv[0]).name} did not start: {why}.{hint}", output[:4096]) from error
        return process

    def _degraded(self, dut: Dut, names: Sequence[str], process: RemoteProcess) -> str:
        generic = [name for name in names if not host.is_patched(dut, host.driver_of(dut, name))]
        said = [f"netmap's generic adapter ({', '.join(generic)}): the driver is not patched"] * bool(generic)
        said += notices(process.output())
        ready = parse.bridge_ready(process.output())
        if self.settings.zero_copy and ready is not None and not ready.zero_copy:
            said.append("bridge copies every frame: the ports have memory of their own")
        return "; ".join(said)


def _running(dut: Dut, point: PointPlan, process: RemoteProcess, names: Sequence[str], own: bool, degraded: str,
             ) -> RunningStack:
    if own:
        return RunningWorker(dut, process, degraded)
    if point.role is Role.DROP:
        return RunningPktGen(dut, process, degraded)
    return RunningBridge(dut, process, degraded, names)
