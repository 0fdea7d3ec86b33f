# SPDX-License-Identifier: Apache-2.0
"""AF_XDP sockets under one worker per core: frames of the test leave the kernel in its driver, all others stay in it.

An XDP program of our own takes the test's UDP port (partial bypass) or everything (whole bypass) into the socket of the
queue that received it. Queues are dealt out to the point's cores; the sockets of one worker share their memory, so that
a frame is forwarded to another port without a copy in user space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from harness.errors import StackError
from harness.host.contract import Dut
from harness.host.undo import undone
from harness.plan import DirectionPlan, PointPlan, Role, WirePlan
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams
from harness.stacks.devices import receive_queues
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, set_up_ports
from harness.stacks.servers import build, missing_bpf_compiler, notices, serving

from .session import RunningAfXdp

#: XDP_SHARED_UMEM over several ports and queues, which one worker's sockets need.
MIN_KERNEL = (5, 10)
MAX_QUEUES = 64
#: While workers busy poll: how long the kernel leaves a device to them before it looks itself.
DEFER_HARD_IRQS, FLUSH_NS = "2", "200000"


class AfXdpParams(StackParams):
    """How frames reach user space, and how workers wait for them."""

    mode: Literal["zero-copy", "copy"] = Field(
        "zero-copy", description="zero-copy: the device writes into the sockets' memory where its driver can, otherwise"
        " copy mode comes and the result is marked degraded; copy: the kernel copies every frame")
    bypass: Literal["partial", "whole"] = Field(
        "partial", description="partial: the test's UDP port alone, the kernel keeps all else on the port; whole: every"
        " frame, nothing reaches the kernel")
    attach: Literal["native", "generic"] = Field(
        "native", description="where the XDP program runs: in the driver, or (any driver, slower, copy mode only) after"
        " the kernel has built a socket buffer")
    need_wakeup: bool = Field(
        True, description="XDP_USE_NEED_WAKEUP: the kernel says when it must be woken; otherwise a system call a send")
    wait: Literal["poll", "spin"] = Field(
        "poll", description="what a worker does without frames: sleep in poll(), or look again at once")
    busy_poll: int = Field(
        0, ge=0, le=1024, description="frames for which a worker may drive the device itself (SO_PREFER_BUSY_POLL,"
        " SO_BUSY_POLL_BUDGET); 0: off. In copy mode without effect from kernel 6.14 on")
    batch: int = Field(64, ge=1, le=256, description="frames taken from a socket at a time, at most")
    ring: int = Field(2048, ge=64, le=8192, description="entries of each ring of a socket, a power of two; a socket has"
                      " memory for twice as many frames")

    @model_validator(mode="after")
    def _fits_together(self) -> AfXdpParams:
        if self.ring & (self.ring - 1):
            raise ValueError(f"ring: {self.ring} is not a power of two; for example 2048")
        if self.attach == "generic" and self.mode == "zero-copy":
            raise ValueError("attach: generic has copy mode only; set mode: copy with it")
        return self


def direction_into(point: PointPlan, wire: WirePlan) -> DirectionPlan | None:
    """The direction whose frames arrive at the DUT over this wire, if any."""
    return next((d for d in point.directions if d.tx_port == wire.tg.index), None)


def port_argument(point: PointPlan, wire: WirePlan, queues: int) -> str:
    """The program's PORT argument for the DUT's end of a wire (see ``src/options.c``)."""
    direction = direction_into(point, wire)
    fields = [wire.dut.ifname, str(queues)]
    if direction is None:
        return ",".join(fields)
    fields += [direction.flows.dst_ip, str(direction.flows.dst_port)]
    if point.role is Role.FORWARD:
        out = next((w for w in point.wires if w.tg.index == direction.rx_port), None)
        if out is None:
            raise StackError(f"af-xdp: no wire leads to generator port {direction.rx_port}; role forward needs one.")
        fields += [out.dut.ifname, out.dut.mac, out.tg.mac]
    return ",".join(fields)


class AfXdp(Stack):
    """AF_XDP sockets of our own: the kernel bypassed for some traffic of a port, or all of it."""

    name: ClassVar[str] = "af-xdp"
    summary: ClassVar[str] = "own program on AF_XDP sockets: the test's UDP port, or the whole port, past the kernel"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.DROP: RoleInfo("taken from the socket's ring and freed", discard_counter="discarded"),
        Role.REFLECT: RoleInfo("MACs swapped in user space"),
        Role.ECHO: RoleInfo("MACs, IP addresses and UDP ports swapped in user space; no UDP socket"),
        Role.FORWARD: RoleInfo("L3 to a fixed next hop, no route lookup: new MACs, TTL - 1, in user space", layer="l3"),
    }
    Params: ClassVar[type[StackParams]] = AfXdpParams
    features: ClassVar[frozenset[str]] = frozenset({"ipv6", "vlan"})

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, AfXdpParams):
            raise TypeError(f"af-xdp needs AfXdpParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params

    def polls(self) -> bool:
        return self.settings.wait == "spin"

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point)
        missing += missing_bpf_compiler(dut)
        if not dut.exists("/usr/include/xdp/xsk.h"):
            missing.append(Missing("libxdp's headers", "apt-get install libxdp-dev"))
        release = dut.read("/proc/sys/kernel/osrelease").strip()
        number = re.match(r"(\d+)\.(\d+)", release)
        if number is None or (int(number[1]), int(number[2])) < MIN_KERNEL:
            missing.append(Missing(f"kernel 5.10 or newer (this is {release})", "boot a newer kernel"))
        return missing or _missing_queues(dut, point)

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        program = build(context, "af-xdp")
        with undone(dut):
            set_up_ports(dut, point)
            interrupts_on_cores(dut, point)
            ports = [port_argument(point, wire, receive_queues(dut, wire.dut.ifname)) for wire in point.wires]
            native = self.settings.attach == "native"
            hint = " A driver without native XDP takes attach: generic with mode: copy." if native else ""
            argv = [program, *self._arguments(point, ports)]
            with serving(dut, argv, "af-xdp", cores=point.cores, hint=hint) as process:
                said = notices(process.output())
                if self.settings.busy_poll and not any("busy polling" in notice for notice in said):
                    _leave_to_workers(dut, point)
                yield RunningAfXdp(dut, process, said, native=native)

    def _arguments(self, point: PointPlan, ports: list[str]) -> list[str]:
        settings = self.settings
        arguments = ["--role", point.role.value, "--cores", ",".join(map(str, point.cores)),
                     "--mode", settings.mode, "--bypass", settings.bypass, "--attach", settings.attach,
                     "--wait", settings.wait, "--batch", str(settings.batch), "--ring", str(settings.ring),
                     "--busy-budget", str(settings.busy_poll)]
        if settings.need_wakeup:
            arguments.append("--need-wakeup")
        for port in ports:
            arguments += ["--port", port]
        return arguments


def _missing_queues(dut: Dut, point: PointPlan) -> list[Missing]:
    """A core without a receive queue of its own would have nothing to do; a queue without a socket would leave the
    test's frames to the kernel."""
    missing = []
    for wire in point.wires:
        ifname, wanted = wire.dut.ifname, len(point.cores)
        there = receive_queues(dut, ifname)
        if there < wanted:
            missing.append(Missing(f"{wanted} receive queues of {ifname}, one a core (it has {there})",
                                   f"ethtool -L {ifname} combined {wanted}, or fewer cores"))
        if there > MAX_QUEUES:
            missing.append(Missing(f"at most {MAX_QUEUES} receive queues of {ifname}, each needs a socket",
                                   f"ethtool -L {ifname} combined {wanted}"))
    return missing


def _leave_to_workers(dut: Dut, point: PointPlan) -> None:
    """Busy polling: the device's interrupts stay off while the workers look often enough."""
    for wire in point.wires:
        dut.set_file(f"/sys/class/net/{wire.dut.ifname}/napi_defer_hard_irqs", DEFER_HARD_IRQS)
        dut.set_file(f"/sys/class/net/{wire.dut.ifname}/gro_flush_timeout", FLUSH_NS)
