# SPDX-License-Identifier: Apache-2.0
"""UDP over Linux sockets: a C server with pinned workers, with and without SO_REUSEPORT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from harness.host.contract import Dut, RemoteProcess
from harness.host.undo import undone
from harness.plan import PointPlan, Role
from harness.stack import Missing, PollUsage, RoleInfo, RunningStack, Stack, StackContext, StackCounters, StackParams
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, set_up_ports
from harness.stacks.servers import RunningServer, build, missing_compiler, missing_room, notices, serving
from harness.stacks.vlan import missing_vlan, over_vlan
from harness.units import parse_bytes

#: Entries of /proc/net/snmp (snmp6) that say what became of UDP datagrams on this host.
_SNMP = ("InDatagrams", "NoPorts", "InErrors", "OutDatagrams", "RcvbufErrors", "SndbufErrors", "InCsumErrors")
#: MAX_WORKERS of the server.
_MOST_WORKERS = 1024


def _read_bytes(value: object) -> int:
    return parse_bytes(value, least=0, most=2**30)


class LinuxUdpParams(StackParams):
    """Parameters of ``linux-udp``."""

    reuseport: bool = Field(False, description="One socket per worker in a SO_REUSEPORT group; otherwise all workers "
                                               "share one socket.")
    steering: Literal["hash", "cpu", "ebpf", "incoming-cpu"] = Field(
        "hash", description="How a SO_REUSEPORT group picks the socket: by the flow's hash; by the CPU that received "
                            "the packet (SO_ATTACH_REUSEPORT_CBPF); by the sender's address and port, in turn "
                            "(SO_ATTACH_REUSEPORT_EBPF); or by SO_INCOMING_CPU of each socket.")
    mode: Literal["block", "epoll", "busy"] = Field("block", description="How a worker waits: blocked in recvmmsg, in "
                                                    "epoll_wait, or by asking again at once.")
    busy_poll_us: int = Field(0, ge=0, le=1_000_000, description="SO_BUSY_POLL: microseconds for which an empty "
                              "receive call polls the device itself; 0 leaves it off.")
    workers: int = Field(1, ge=1, le=64, description="Workers on each core of the point.")
    batch: int = Field(32, ge=1, le=64, description="Datagrams per recvmmsg and sendmmsg call, at most.")
    rcvbuf: Annotated[int, BeforeValidator(_read_bytes)] = Field(
        4_194_304, description="Receive buffer of each socket in bytes (SO_RCVBUFFORCE); 0 leaves the host's default. "
                               "A 64-byte frame may occupy 4 KiB of it.")

    @model_validator(mode="after")
    def _steering_needs_a_group(self) -> LinuxUdpParams:
        if self.steering != "hash" and not self.reuseport:
            raise ValueError(f"steering: {self.steering} picks a socket of a group; set reuseport: true with it")
        return self


class _Worker(BaseModel):
    """One worker in the server's answer to ``stats``."""

    core: int
    received: int
    sent: int
    send_errors: int
    discarded: int
    other: int
    batches: int
    empty_polls: int
    cpu_ns: int
    voluntary_switches: int
    involuntary_switches: int
    #: None: the kernel keeps no such record (CONFIG_SCHED_INFO).
    run_queue_wait_ns: int | None = None


class _Socket(BaseModel):
    """One socket in the server's answer: ``core`` -1 is shared by all workers, ``drops`` from SO_MEMINFO."""

    bind: str
    core: int
    drops: int
    queued_bytes: int


class _Stats(BaseModel):
    workers: list[_Worker]
    sockets: list[_Socket]


class RunningLinuxUdp(RunningServer[_Stats]):
    """The server, asked through its standard input."""

    thread_names = ("udp-server", "udp-worker/")

    def __init__(self, dut: Dut, process: RemoteProcess, polls: bool, version: int = 4) -> None:
        super().__init__(dut, process, "udp-server", _Stats.model_validate_json)
        self._polls = polls
        self._names = [f"{'udp6' if version == 6 else 'udp'}.{name}" for name in _SNMP]
        self._snmp_before = self._snmp()
        self.degraded = "; ".join(notices(process.output()))

    def counters(self) -> StackCounters:
        stats = self.stats()
        per_worker = tuple(worker.model_dump(exclude_none=True) for worker in stats.workers)
        totals = {name: sum(worker[name] for worker in per_worker) for name in per_worker[0] if name != "core"}
        totals |= {f"snmp.{name}": value - self._snmp_before[name] for name, value in self._snmp().items()}
        losses = {"socket buffer": sum(s.drops for s in stats.sockets), "tx": totals["send_errors"]}
        return StackCounters(totals, per_worker, losses)

    def poll_usage(self) -> PollUsage | None:
        if not self._polls:
            return None
        workers = self.stats().workers
        return PollUsage(sum(w.batches for w in workers), sum(w.empty_polls for w in workers),
                         "recvmmsg calls with and without a datagram")

    def _snmp(self) -> Mapping[str, int]:
        now = self.dut.system_counters()
        return {name: now.get(name, 0) for name in self._names}


class LinuxUdp(Stack):
    """Linux's UDP sockets under pinned workers (recvmmsg, sendmmsg)."""

    name = "linux-udp"
    summary = "Linux UDP sockets: recvmmsg/sendmmsg, pinned workers, with or without SO_REUSEPORT"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.ECHO: RoleInfo("UDP echo by an application on sockets; the reply has a new IP header",
                            checks_checksum=True, new_ip_header=True),
        Role.DROP: RoleInfo("received by an application on sockets, counted and thrown away",
                            discard_counter="discarded", checks_checksum=True),
    }
    Params = LinuxUdpParams
    features: ClassVar[frozenset[str]] = frozenset({"ipv6", "vlan"})

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, LinuxUdpParams):
            raise TypeError(f"linux-udp needs LinuxUdpParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params

    def polls(self) -> bool:
        """In mode busy the server does, and counts its polls; with busy_poll_us the kernel does, and counts none."""
        return self.settings.mode == "busy" or self.settings.busy_poll_us > 0

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point) + missing_vlan(dut, point) + missing_compiler(dut)
        return missing + missing_room(point, self.settings.workers, _MOST_WORKERS)

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        with undone(dut):
            program = build(context, "udp-server")
            set_up_ports(dut, over_vlan(dut, point))
            interrupts_on_cores(dut, point)
            with serving(dut, [program, *self._arguments(point)], "udp-server", cores=point.cores) as process:
                yield RunningLinuxUdp(dut, process, self.settings.mode == "busy", point.ip_version)

    def _arguments(self, point: PointPlan) -> list[str]:
        settings = self.settings
        arguments = ["--role", point.role.value, "--cores", ",".join(map(str, point.cores)), "--mode", settings.mode,
                     "--batch", str(settings.batch), "--busy-poll-us", str(settings.busy_poll_us),
                     "--rcvbuf", str(settings.rcvbuf), "--per-core", str(settings.workers)]
        for wire in point.wires:
            address = f"[{wire.dut.ip}]" if point.ip_version == 6 else wire.dut.ip
            arguments += ["--bind", f"{address}:{point.udp_port}"]
        if settings.reuseport:
            arguments += ["--reuseport", "--steering", settings.steering]
        if point.role is Role.DROP:
            arguments += ["--payload", ",".join(map(str, point.payloads))]
        return arguments
