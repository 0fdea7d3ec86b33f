# SPDX-License-Identifier: Apache-2.0
"""TCP accept over Linux sockets: a C server with pinned workers, one listening socket for all or one each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from harness.host.contract import Dut, RemoteProcess
from harness.host.undo import undone
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackCounters, StackParams
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, set_up_ports
from harness.stacks.servers import RunningServer, build, missing_compiler, missing_room, serving

_SOMAXCONN = "/proc/sys/net/core/somaxconn"
#: Entries of /proc/net/snmp and netstat that say what became of connections on this host.
_KERNEL = ("tcp.PassiveOpens", "tcp.AttemptFails", "tcp.EstabResets", "tcp.RetransSegs", "tcp.OutRsts",
           "tcpext.ListenOverflows", "tcpext.ListenDrops", "tcpext.SyncookiesSent", "tcpext.SyncookiesRecv",
           "tcpext.SyncookiesFailed", "tcpext.TCPReqQFullDoCookies", "tcpext.TCPReqQFullDrop",
           "tcpext.TCPTimeWaitOverflow", "tcpext.TW", "tcpext.TCPMigrateReqSuccess", "tcpext.TCPMigrateReqFailure")
_MOST_WORKERS = 1024


class LinuxTcpParams(StackParams):
    """Parameters of ``linux-tcp``."""

    reuseport: bool = Field(False, description="One listening socket per worker in a SO_REUSEPORT group; otherwise "
                                               "all workers share one.")
    steering: Literal["hash", "cpu"] = Field("hash", description="How a SO_REUSEPORT group picks the socket of a SYN: "
                                             "by the flow's hash, or by the CPU that received it "
                                             "(SO_ATTACH_REUSEPORT_CBPF).")
    mode: Literal["epoll", "block"] = Field("epoll", description="How a worker waits: in epoll_wait (EPOLLEXCLUSIVE on "
                                            "a shared socket) with many connections open, or blocked in accept4 with "
                                            "one.")
    backlog: int = Field(4096, ge=1, le=1_048_576, description="Connections that each listening socket holds until "
                         "they are accepted; net.core.somaxconn is raised to it for the time of the point.")
    workers: int = Field(1, ge=1, le=64, description="Workers on each core of the point.")

    @model_validator(mode="after")
    def _steering_needs_a_group(self) -> LinuxTcpParams:
        if self.steering == "cpu" and not self.reuseport:
            raise ValueError("steering: cpu picks a socket of a group; set reuseport: true with it")
        return self


class _Worker(BaseModel):
    """One worker in the server's answer to ``stats``; times in ns."""

    core: int
    accepted: int
    completed: int
    failed: int
    accept_errors: int
    wakeups: int
    empty_accepts: int
    cpu_ns: int
    voluntary_switches: int
    involuntary_switches: int
    #: None: the kernel keeps no such record (CONFIG_SCHED_INFO).
    wait_ns: int | None = None
    slices: int | None = None


class _Listener(BaseModel):
    """One listening socket: ``worker`` -1 is shared by all; ``waiting`` to be accepted, of ``backlog`` granted."""

    bind: str
    worker: int
    waiting: int
    backlog: int


class _Stats(BaseModel):
    workers: list[_Worker]
    listeners: list[_Listener]


class RunningLinuxTcp(RunningServer[_Stats]):
    """The server, asked through its standard input."""

    thread_names = ("accept-server", "accept-wrk/")
    remark = ("lock waits per connection: not available (schedstat tells of waits for a core, not of those for a lock; "
              "perf is not used)")

    def __init__(self, dut: Dut, process: RemoteProcess, backlog: int) -> None:
        super().__init__(dut, process, "accept-server", _Stats.model_validate_json)
        self._kernel_before = self._kernel()
        granted = min(listener.backlog for listener in self.stats().listeners)
        self.degraded = f"backlog {granted} where {backlog} was asked for" if granted < backlog else ""

    def counters(self) -> StackCounters:
        stats = self.stats()
        per_worker = tuple(worker.model_dump(exclude_none=True) for worker in stats.workers)
        totals = {name: sum(worker[name] for worker in per_worker) for name in per_worker[0] if name != "core"}
        totals |= {f"kernel.{name}": value - self._kernel_before[name] for name, value in self._kernel().items()}
        return StackCounters(totals, per_worker, {"application": totals["failed"]})

    def _kernel(self) -> Mapping[str, int]:
        now = self.dut.system_counters()
        return {name: now.get(name, 0) for name in _KERNEL}


class LinuxTcp(Stack):
    """Linux's listening sockets under pinned workers that answer one request a connection."""

    name = "linux-tcp"
    summary = "Linux TCP accept: pinned workers on one listening socket or a SO_REUSEPORT group, one reply a connection"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.ACCEPT: RoleInfo("accepted by an application on sockets, one HTTP request answered, closed by the server "
                              "(which keeps TIME-WAIT)", completed_counter="completed"),
    }
    ceiling_for: ClassVar[frozenset[Role]] = frozenset({Role.ACCEPT})
    Params = LinuxTcpParams

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, LinuxTcpParams):
            raise TypeError(f"linux-tcp needs LinuxTcpParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point) + missing_compiler(dut)
        return missing + missing_room(point, self.settings.workers, _MOST_WORKERS)

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        with undone(dut):
            program = build(context, "accept-server")
            set_up_ports(dut, point)
            interrupts_on_cores(dut, point)
            if int(dut.read(_SOMAXCONN)) < self.settings.backlog:
                dut.set_file(_SOMAXCONN, str(self.settings.backlog))
            with serving(dut, [program, *self._arguments(point)], "accept-server", cores=point.cores) as process:
                yield RunningLinuxTcp(dut, process, self.settings.backlog)

    def _arguments(self, point: PointPlan) -> list[str]:
        settings = self.settings
        arguments = ["--cores", ",".join(map(str, point.cores)), "--mode", settings.mode,
                     "--backlog", str(settings.backlog), "--per-core", str(settings.workers)]
        for wire in point.wires:
            arguments += ["--bind", f"{wire.dut.ip}:{point.directions[0].flows.dst_port}"]
        if settings.reuseport:
            arguments += ["--reuseport", "--steering", settings.steering]
        return arguments
