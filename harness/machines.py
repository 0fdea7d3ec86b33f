# SPDX-License-Identifier: Apache-2.0
"""The machines of a run: the lab or a testbed's hosts, brought up, connected, and put back.

The runner asks for DUTs, the generator and pinning; here is decided how they are reached. For the lab: namespaces of
this machine, SSH over a socket made inside the DUT's namespace, xdpgen started on the generator's cores. For a testbed
file: SSH to every host, the agent beside TRex's client on the generator host.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from harness.errors import GeneratorDied, TestbedError
from harness.generator.astf import AstfGenerator
from harness.generator.channel import AgentClient
from harness.generator.contract import Generator
from harness.generator.tcpclient import TcpClientGenerator, check_client
from harness.generator.trex import TrexGenerator
from harness.generator.xdpgen import TABLE_CELLS
from harness.host.dut import SshDut
from harness.host.guard import check_ports
from harness.host.inventory import Request, Survey
from harness.host.topology import check_cores
from harness.host.tuning.napi import pin_napi
from harness.lab.lab import Lab
from harness.lab.turn import turn
from harness.measure.bystander import BystanderUnavailable, Connections, Unavailable, Watch
from harness.options import RunOptions
from harness.plan import H2LOAD, TREX_ASTF, BystanderSettings, Plan, PointPlan, PortPlan
from harness.planning import build_plan, table_cells
from harness.prepare import Prepared, prepare
from harness.sites import LabSite, Site, site_of
from harness.testbed import lab_testbed

#: SCHED_FIFO priority of NAPI threads that do a stack's whole work: below the pause probe's, above every program's.
_NAPI_PRIORITY = 50
#: How long a host's cores are watched for work of others.
_WATCH_S = 0.25


@dataclass(frozen=True)
class Surveyed:
    """A host as surveyed, and this machine's wall clock when the answer came (seconds since the epoch)."""

    survey: Survey
    received_s: float

    @property
    def ahead_s(self) -> float | None:
        """How far the host's wall clock is ahead of this machine's, to the time that the answer took to come."""
        told = self.survey.at("clock", "realtime_ns")
        return told / 1e9 - self.received_s if isinstance(told, int) else None


@dataclass
class Machines:
    """What the runner works with. Everything opened is on the caller's ExitStack or closed by :func:`machines_of`."""

    prepared: Prepared
    plan: Plan
    site: Site
    after_generator: Callable[[], None]
    generator: Generator = field(init=False)
    #: Whether all cores that stacks may be given are looked at, and not only those that some point uses.
    every_core: bool = False
    surveys: dict[str, Surveyed] = field(default_factory=dict)
    _duts: dict[str, SshDut] = field(default_factory=dict)
    #: Keeps a log (name, text) with the run.
    keep_log: Callable[[str, str], None] = lambda name, text: None
    #: Keeps a sentence with the run: what is questionable about a generator that is started for it.
    note: Callable[[str], None] = lambda remark: None
    _server: ExitStack = field(default_factory=ExitStack)
    _process: subprocess.Popen[bytes] | None = None

    def dut_names(self) -> list[str]:
        """DUTs that have points, in the testbed's order."""
        used = {point.host for point in self.plan.points}
        return [host.name for host in self.plan.hosts if host.name in used]

    def connect_dut(self, name: str, owned: ExitStack) -> SshDut:
        """Connect and look at the host; undone and disconnected by ``owned``."""
        self._duts[name] = owned.enter_context(self.site.open_dut(name, self._cores_used(name)))
        self.survey_dut(name)
        return self._duts[name]

    def survey_dut(self, name: str) -> None:
        """Look at a connected DUT, anew."""
        ends = [wire.dut for wire in self.plan.wires if wire.host == name]
        survey = self.dut(name).survey(_request(ends, self.cores_looked_at(name), _WATCH_S))
        self.surveys[name] = Surveyed(survey, time.time())

    def survey_generator(self) -> Surveyed:
        """Look at the generator's host. Raises HostError."""
        watch_s = 0.0 if self.plan.lab else _WATCH_S  # the lab's cores are one machine's, and the DUT's are watched
        survey = self.site.survey(_request(_tg_ports(self.plan), self.plan.generator.cores, watch_s))
        return Surveyed(survey, time.time())

    def cores_looked_at(self, name: str) -> list[int]:
        """Cores of a DUT that are checked: those that some point uses, or all that stacks may be given."""
        if not self.every_core:
            return self._cores_used(name)
        return sorted(next(host.cores for host in self.plan.hosts if host.name == name))

    def _cores_used(self, name: str) -> list[int]:
        """Cores of a DUT that some point uses."""
        return sorted({core for point in self.plan.points if point.host == name for core in point.cores})

    def core_remarks(self, name: str) -> list[str]:
        """What a connected DUT's own topology says of the cores it gives to stacks, a sentence each. Raises
        TestbedError when it does not have one of them."""
        ports = [wire.dut.ifname for wire in self.plan.wires if wire.host == name and wire.dut.ifname]
        management = next(host.management for host in self.plan.hosts if host.name == name)
        return check_cores(self.dut(name), self._cores_used(name), ports, management)

    def guard_ports(self, name: str) -> None:
        """Refuse a connected DUT of which a test port carries its SSH or its default route. Raises TestbedError."""
        management = next(host.management for host in self.plan.hosts if host.name == name)
        check_ports(self.dut(name), management, [wire.dut for wire in self.plan.wires if wire.host == name])

    def dut(self, name: str) -> SshDut:
        """A connected DUT."""
        return self._duts[name]

    def start_generator(self, owned: ExitStack) -> None:
        """Start (or attach to) the generator and connect to it; ``owned`` ends it."""
        owned.callback(self.stop_generator)
        self._start()

    def _start(self) -> None:
        if self.plan.generator.kind == H2LOAD:
            point = self.plan.points[0]
            self.generator = TcpClientGenerator(self.site.tcp_client(), point.wires[0], point.directions[0])
            self.after_generator()
            return
        with ExitStack() as undo:
            embedded = self.site.embedded()
            if embedded is not None:
                cells = table_cells(self.plan.points, self.plan.measure.latency_pps > 0)
                embedded = replace(embedded, table_cells=max(TABLE_CELLS, cells))
                self._process = undo.enter_context(embedded.run(self.site.spawn))
            agent = AgentClient(self.site.agent_channel())
            undo.callback(agent.close)
            undo.enter_context(self.site.serving(agent, lambda text: self.keep_log("trex.log", text), self.note))
            if self.plan.generator.kind == TREX_ASTF:
                self.generator = AstfGenerator(agent, self.site.server(), self.plan.points[0].directions[0].tx_port)
            else:
                ports = [port.index for port in _tg_ports(self.plan)]
                self.generator = TrexGenerator(agent, self.site.server(), ports)
            self.after_generator()
            self._server = undo.pop_all()

    def stop_generator(self) -> None:
        """End the connection, and the server that was started for this run. Idempotent."""
        generator: Generator | None = self.__dict__.pop("generator", None)
        server, self._server = self._server, ExitStack()
        with server:
            if generator is not None and (self._process is None or self._process.poll() is None):
                generator.close()

    def bystander(self, settings: BystanderSettings, owned: ExitStack) -> Watch:
        """The bystander of the run, ended by ``owned``; one that says why where this testbed has no place for it."""
        first = {point.wires[0].index: point.wires[0] for point in self.plan.points}
        try:
            prober = owned.enter_context(self.site.prober(tuple(first.values())))
        except BystanderUnavailable as error:
            return Unavailable(settings, str(error))
        return Connections(AgentClient(prober.channel), settings, prober.ssh_ports, prober.fifo)

    def generator_alive(self) -> bool:
        """Whether the server process that this run started still runs and the agent answers."""
        if not hasattr(self, "generator") or (self._process is not None and self._process.poll() is not None):
            return False
        return self.generator.alive()

    def restart_generator(self) -> Generator:
        """Bring a dead generator back. Raises GeneratorDied where that cannot be."""
        self._server.close()
        try:
            self._start()
        except TestbedError as error:
            raise GeneratorDied(f"the generator is gone and does not come back: {error}") from error
        return self.generator

    def pin(self, point: PointPlan, *, before_programs: bool) -> None:
        """Pin the NAPI threads of the point's DUT ports to its cores (kernel threads may be new after a deploy).

        ``before_programs``: they run as SCHED_FIFO. Softirq is never kept waiting by a program, a thread is: on the
        lab's kernel for up to a tick, in which 256 frames fill the ring. Threads that share their cores with a
        stack's program stay ordinary: as SCHED_FIFO they would starve it, where softirq hands over to ksoftirqd."""
        dut = self.dut(point.host)
        for wire in point.wires:
            # A stack may have taken the port from the kernel.
            if wire.dut.ifname and dut.exists(f"/sys/class/net/{wire.dut.ifname}"):
                pin_napi(dut, wire.dut.ifname, point.cores, fifo=_NAPI_PRIORITY if before_programs else 0)

    def nominal_hz(self, host: str) -> float | None:
        """Nominal frequency of the host's cores, None where it is not known."""
        value = self.dut(host).facts().get("cpu", {}).get("nominal_hz")
        return float(value) if value else None


@contextmanager
def machines_of(options: RunOptions, message: Callable[[str], None]) -> Iterator[Machines]:
    """Everything planned and, for the lab, built. Raises UsageError before anything is touched."""
    prepared = prepare(options)
    if not prepared.testbed.lab:
        # A generator in a namespace of this machine shares its cores as a lab does.
        shared = turn(message) if prepared.testbed.generator.netns else nullcontext()
        with shared, site_of(prepared.testbed, prepared.plan) as site:
            yield Machines(prepared, prepared.plan, site, after_generator=lambda: None)
        return
    if prepared.plan.generator.kind == H2LOAD:
        check_client()
    with turn(message):
        message("building the lab")
        with _lab_machines(prepared, options) as machines:
            yield machines


@contextmanager
def _lab_machines(prepared: Prepared, options: RunOptions) -> Iterator[Machines]:
    with Lab.up(wires=len(prepared.plan.wires)) as lab, _on_cores(lab.tg_cores):
        testbed = lab_testbed(lab.wires, lab.tg_cores, lab.dut_cores)
        plan = build_plan(
            prepared.scenario, testbed, only=options.only, repeat=options.repeat, seed=prepared.plan.seed,
            notes=[f"cores: generator {_listed(lab.tg_cores)}, DUT {_listed(lab.dut_cores)} (the quieter)"],
        )
        yield Machines(prepared, plan, LabSite(lab), after_generator=lambda: lab.pin_napi("tg"))


@contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Keep this process off the DUT's cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _listed(cores: Sequence[int]) -> str:
    return ", ".join(str(core) for core in cores)


def _request(ports: Sequence[PortPlan], cores: Sequence[int], load_s: float) -> Request:
    return Request(tuple(port.ifname for port in ports if port.ifname), tuple(port.pci for port in ports if port.pci),
                   tuple(cores), load_s=load_s)


def _tg_ports(plan: Plan) -> list[PortPlan]:
    """The generator's ports that have a wire, each once: behind a switch one has several."""
    return list({wire.tg.index: wire.tg for wire in plan.wires}.values())
