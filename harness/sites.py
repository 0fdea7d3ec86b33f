# SPDX-License-Identifier: Apache-2.0
"""How the programs of a run reach their machines: the lab's two namespaces, or a testbed's hosts over SSH."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from harness.errors import HostError, TestbedError
from harness.generator.channel import AgentClient
from harness.generator.embedded import EmbeddedServer, on_cores
from harness.generator.tcpclient import ClientHost
from harness.generator.trex import Server
from harness.generator.trexhost.host import TrexHost, open_trex_host
from harness.host.channel import ByteChannel, PipeChannel
from harness.host.child import spawn_here
from harness.host.dut import CACHE_DIR, SshDut
from harness.host.inventory import SURVEY_S, Request, Survey
from harness.host.ssh import SshConnection, SshTarget
from harness.host.topology import Topology
from harness.lab.lab import Lab, enter_argv
from harness.lab.netns import in_netns
from harness.lab.sshd import PORT as SSH_PORT
from harness.measure.bystander import BystanderUnavailable
from harness.paths import with_home
from harness.plan import Plan, PortPlan, WirePlan
from harness.testbed import Jump, Ssh, Testbed

_GENERATOR = Path(__file__).parent / "generator"
AGENT, STL, PROBER = (_GENERATOR / name for name in ("agent.py", "stl.py", "prober.py"))
_LOOPBACK = "127.0.0.1"
#: In the lab the prober shares the cores on which senders spin: above them, below the NAPI threads that receive.
_PROBER_PRIORITY = 5
T = TypeVar("T")
#: Interpreters that are looked at for pyzmq.
_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(13, 5, -1)))


@dataclass(frozen=True)
class Prober:
    """A prober that was started: its channel, the TCP port of SSH by host, its real-time priority (0: none)."""

    channel: ByteChannel
    ssh_ports: Mapping[str, int]
    fifo: int = 0


class Site(Protocol):
    """Where a testbed's programs run: how to start one on the generator's side, how to reach a DUT."""

    def open_dut(self, name: str, used: Sequence[int]) -> SshDut:
        """Connect to a DUT and start its agent, off the cores that stacks use; holds the host's lock until closed."""

    def agent_channel(self) -> ByteChannel:
        """Start the generator's agent."""

    def server(self) -> Server:
        """The server that the agent is to drive, and with which client."""

    def tcp_client(self) -> ClientHost:
        """Where the client of role accept runs. Raises TestbedError where it cannot."""

    def survey(self, request: Request) -> Survey:
        """Look at the generator's host, from where its ports are. Raises HostError."""

    def embedded(self) -> EmbeddedServer | None:
        """The xdpgen to start first; None where the generator is another server."""

    def serving(self, agent: AgentClient, keep: Callable[[str], None], note: Callable[[str], None]
                ) -> AbstractContextManager[None]:
        """See that the server that is none of :meth:`embedded` serves, for the block. ``agent``: not yet connected;
        ``keep``: takes the log of a server that was started, ``note`` what is questionable about its cores, a
        sentence each. Entering raises TestbedError."""

    def spawn(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        """Start a program of the generator's side on this machine."""

    def prober(self, wires: Sequence[WirePlan]) -> AbstractContextManager[Prober]:
        """The bystander's program, from which the DUT's ends of these wires can be reached. Entering raises
        BystanderUnavailable where there is no such place."""


class LabSite:
    """The lab's two namespaces."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def open_dut(self, name: str, used: Sequence[int]) -> SshDut:
        return SshDut.connect(name, self._lab.ssh, home_cores=self._lab.tg_cores, virtual=True,
                              state_dir=str(self._lab.dut_state_dir))

    def spawn(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        name = "xdpgen" if "harness.generator.xdpgen" in argv else "generator-agent"
        name = "prober" if str(PROBER) in argv else name
        return self._lab.spawn("tg", argv, name=name, **streams)

    def tcp_client(self) -> ClientHost:
        return ClientHost(self._spawn_client, self._inside_tg, self._lab.tg_cores)

    def _spawn_client(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        return self._lab.spawn("tg", argv, name="tcp-client", **streams)

    def _inside_tg(self, call: Callable[[], T]) -> T:
        return in_netns(self._lab.tg_netns, call)

    def survey(self, request: Request) -> Survey:
        argv = on_cores(self._lab.tg_cores, request.argv(sys.executable))
        return _survey_here(self._lab.exec_argv("tg", argv))

    def embedded(self) -> EmbeddedServer:
        return EmbeddedServer(
            ifnames=self._lab.ifnames("tg"), dst_macs=tuple(wire.dut.mac for wire in self._lab.wires),
            cores=self._lab.tg_cores, sync_port=self._lab.sync_port, async_port=self._lab.async_port,
            speed_gbps=self._lab.wires[0].speed_gbps,
        )

    def serving(self, agent: AgentClient, keep: Callable[[str], None], note: Callable[[str], None]
                ) -> AbstractContextManager[None]:
        return nullcontext()

    def agent_channel(self) -> ByteChannel:
        return PipeChannel(on_cores(self._lab.tg_cores, [sys.executable, str(AGENT)]), self.spawn)

    def server(self) -> Server:
        return Server("stl", _LOOPBACK, self._lab.sync_port, self._lab.async_port, stl_path=str(STL), here=True)

    @contextmanager
    def prober(self, wires: Sequence[WirePlan]) -> Iterator[Prober]:
        with ExitStack() as owned:
            for wire in wires:
                owned.enter_context(self._lab.ssh_on_wire(wire))
            argv = on_cores(self._lab.tg_cores, [sys.executable, "-I", str(PROBER)])
            channel = owned.enter_context(closing(PipeChannel(argv, self.spawn)))
            yield Prober(channel, {wire.host: SSH_PORT for wire in wires}, fifo=_PROBER_PRIORITY)


class HostSite:
    """Hosts of a testbed file. A context manager: leaving it closes the connection to the generator host.

    The generator is TRex on the generator host, driven by its own client there: the server that runs, or one started
    for the run. Or it is ``harness xdpgen`` started by hand, driven by the built-in client. With no ``ssh`` for the
    generator and no TRex, this machine is the generator and xdpgen is started here.
    """

    def __init__(self, testbed: Testbed, plan: Plan) -> None:
        self._testbed, self._plan = testbed, plan
        self._generator: SshConnection | None = None
        self._trex: TrexHost | None = None
        self._owned = ExitStack()

    def __enter__(self) -> Self:
        generator = self._testbed.generator
        target = target_of(generator.ssh) if generator.ssh is not None else None
        if generator.trex is not None:
            self._trex = self._owned.enter_context(open_trex_host(self._testbed, self._plan, target))
            host = self._trex.host
            self._generator = host.connection if isinstance(host, SshDut) else None
        elif target is not None:
            self._generator = self._owned.enter_context(SshConnection.open(target))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._owned.close()

    def serving(self, agent: AgentClient, keep: Callable[[str], None], note: Callable[[str], None]
                ) -> AbstractContextManager[None]:
        return nullcontext() if self._trex is None else self._trex.serving(agent, keep, note)

    def open_dut(self, name: str, used: Sequence[int]) -> SshDut:
        dut = self._testbed.dut(name)
        assert dut.ssh is not None  # testbed files are refused without it
        if dut.topology is not None:
            home: Sequence[int] = Topology.parse(dut.topology.cpus).apart_from(used)
        else:
            home = [core for core in range(dut.all_cores) if core not in dut.cores]
        return SshDut.connect(name, target_of(dut.ssh), home_cores=home)

    def spawn(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        namespace = self._testbed.generator.netns
        if not namespace:
            return spawn_here(argv, **streams)
        inside = enter_argv(namespace, argv)
        return in_netns(namespace, lambda: spawn_here(inside, **streams))

    def tcp_client(self) -> ClientHost:
        """Only where the generator's ports are in a namespace of this machine: the client is a program here."""
        namespace = self._testbed.generator.netns
        if not namespace:
            raise TestbedError("role accept on a testbed needs TRex, which opens the connections; name its directory "
                               "under generator.trex.dir")
        return ClientHost(self.spawn, lambda call: in_netns(namespace, call), self._testbed.generator.cores)

    def survey(self, request: Request) -> Survey:
        if self._trex is not None:
            return self._trex.host.survey(request)
        if self._generator is not None:
            return Survey.parse(self._generator.run(request.argv(), timeout_s=SURVEY_S).stdout)
        argv, namespace = request.argv(sys.executable), self._testbed.generator.netns
        return _survey_here(enter_argv(namespace, argv) if namespace else argv)

    def embedded(self) -> EmbeddedServer | None:
        generator = self._testbed.generator
        if generator.trex is not None or generator.ssh is not None:
            return None
        # Of several hosts behind a switch the first: streams name their own, this is for who else drives the server.
        peers = {wire.tg: self._testbed.dut(wire.host).ports[wire.port].mac for wire in reversed(self._testbed.wires)}
        return EmbeddedServer(
            ifnames=tuple(port.ifname for port in generator.ports),
            dst_macs=tuple(peers.get(i, port.mac) for i, port in enumerate(generator.ports)),
            cores=generator.cores, sync_port=generator.sync_port, async_port=generator.async_port,
            speed_gbps=max(wire.speed for wire in self._testbed.wires),
        )

    def agent_channel(self) -> ByteChannel:
        if self._trex is not None:
            return self._trex.agent_channel(AGENT)
        if self._generator is None:
            return PipeChannel(on_cores(self._testbed.generator.cores, [sys.executable, str(AGENT)]), self.spawn)
        python = self._python(self._generator)
        path = self._generator.deploy(AGENT.read_bytes(), CACHE_DIR, AGENT.name)
        return self._generator.start([python, path])

    @contextmanager
    def prober(self, wires: Sequence[WirePlan]) -> Iterator[Prober]:
        """Nothing is changed on the generator host, which keeps no journal: its ports must be the kernel's and carry
        the wires' addresses already."""
        generator = self._testbed.generator
        if generator.trex is not None:
            raise BystanderUnavailable("TRex has taken the generator's ports from the kernel, so nothing there can "
                                       "open a connection over the wire; xdpgen leaves them to the kernel")
        for wire in wires:
            self._need_address(wire.tg)
        with closing(self._start_prober()) as channel:
            yield Prober(channel, {wire.host: self._ssh_port(wire.host) for wire in wires})

    def _need_address(self, port: PortPlan) -> None:
        if not port.ifname:
            raise BystanderUnavailable(f"the generator's port {port.index} has no ifname in the testbed file")
        argv = ["ip", "-j", "-4", "address", "show", "dev", port.ifname]
        if self._generator is not None:
            done = self._generator.run(argv, check=False)
            shown = done.stdout if done.returncode == 0 else ""
        else:
            shown = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30).stdout
        if f'"local":"{port.ip}"' not in shown.replace(" ", ""):
            raise BystanderUnavailable(
                f"the generator's port {port.ifname} does not have the wire's address {port.ip}; give it to it: "
                f"ip address add {port.ip}/{port.prefix_len} dev {port.ifname}")

    def _start_prober(self) -> ByteChannel:
        if self._generator is None:
            return PipeChannel([sys.executable, "-I", str(PROBER)])
        path = self._generator.deploy(PROBER.read_bytes(), CACHE_DIR, PROBER.name)
        return self._generator.start(["python3", "-I", path])

    def _ssh_port(self, host: str) -> int:
        ssh = self._testbed.dut(host).ssh
        return ssh.port if ssh is not None else SSH_PORT

    def _python(self, connection: SshConnection) -> str:
        """An interpreter with the pyzmq that the built-in client needs."""
        for python in _PYTHONS:
            if connection.run([python, "-c", "import zmq"], check=False).returncode == 0:
                return python
        raise TestbedError("the generator host lacks what the generator's client needs; install pyzmq (apt-get install "
                           "python3-zmq) there")

    def server(self) -> Server:
        generator = self._testbed.generator
        if generator.trex is not None:
            return Server("trex", _LOOPBACK, generator.trex.sync_port, generator.trex.async_port,
                          trex_dir=generator.trex.dir)
        stl = str(STL)
        if self._generator is not None:
            stl = self._generator.deploy(STL.read_bytes(), CACHE_DIR, STL.name)
        return Server("stl", _LOOPBACK, generator.sync_port, generator.async_port, stl_path=stl,
                      here=self._generator is None)


def _survey_here(argv: Sequence[str]) -> Survey:
    """Survey this machine."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SURVEY_S, check=False,
                              stdin=subprocess.DEVNULL, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise HostError(f"the survey of this machine was not done within {SURVEY_S:g} s") from error
    if done.returncode:
        raise HostError(f"the survey of this machine ended with status {done.returncode}: {done.stderr[-500:].strip()}")
    return Survey.parse(done.stdout)


def target_of(ssh: Ssh) -> SshTarget:
    """A testbed file's way to a host, for the SSH layer. What ``netns`` says is of the first hop."""
    if ssh.jump is None:
        return _hop(ssh, ssh.netns, sudo=ssh.user != "root")
    return replace(_hop(ssh, "", sudo=ssh.user != "root"), jump=_hop(ssh.jump, ssh.netns, sudo=False))


def _hop(ssh: Jump, namespace: str, *, sudo: bool) -> SshTarget:
    key = with_home(ssh.key) if ssh.key else None
    return SshTarget(hostname=ssh.address, known_hosts=with_home(ssh.known_hosts), port=ssh.port,
                     user=ssh.user, key_path=key, sudo=sudo, netns=namespace)
