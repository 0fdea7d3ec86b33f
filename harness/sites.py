# SPDX-License-Identifier: Apache-2.0
"""How the programs of a run reach their machines: the lab's two namespaces, or a testbed's hosts over SSH."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.errors import TestbedError
from harness.generator.channel import AgentClient
from harness.generator.embedded import EmbeddedServer, on_cores
from harness.generator.side import OverSsh, ThisMachine, survey
from harness.generator.tcpclient import ClientHost
from harness.generator.trex import Server
from harness.generator.trexhost.host import TrexHost, locked_generator, open_trex_host
from harness.host.channel import ByteChannel
from harness.host.child import Spawn, spawn_here
from harness.host.dut import SshDut
from harness.host.inventory import Request, Survey
from harness.host.link import DUT_PART, Member, new_run
from harness.host.ssh import SshTarget
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
        cores = lab.tg_cores
        self._side = ThisMachine(lambda argv, **streams: self.spawn(on_cores(cores, argv), **streams),
                                 lambda argv: lab.exec_argv("tg", on_cores(cores, argv)))

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
        return survey(self._side, request)

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
        return self._side.start([self._side.python_for_client(), self._side.place(AGENT)])

    def server(self) -> Server:
        return Server("stl", _LOOPBACK, self._lab.sync_port, self._lab.async_port, stl_path=self._side.place(STL),
                      here=True)

    @contextmanager
    def prober(self, wires: Sequence[WirePlan]) -> Iterator[Prober]:
        with ExitStack() as owned:
            for wire in wires:
                owned.enter_context(self._lab.ssh_on_wire(wire))
            argv = [self._side.python, "-I", self._side.place(PROBER)]
            channel = owned.enter_context(closing(self._side.start(argv)))
            yield Prober(channel, {wire.host: SSH_PORT for wire in wires}, fifo=_PROBER_PRIORITY)


class HostSite:
    """Hosts of a testbed file, whatever generates. ``run``: the secret by which generator and DUT share a host's lock
    where they are one machine, under whatever names."""

    def __init__(self, testbed: Testbed, run: str) -> None:
        self._testbed, self._generator, self._run = testbed, testbed.generator, run

    def open_dut(self, name: str, used: Sequence[int]) -> SshDut:
        dut = self._testbed.dut(name)
        assert dut.ssh is not None  # testbed files are refused without it
        if dut.topology is not None:
            home: Sequence[int] = Topology.parse(dut.topology.cpus).apart_from(used)
        else:
            home = [core for core in range(dut.all_cores) if core not in dut.cores]
        return SshDut.connect(name, target_of(dut.ssh), home_cores=home, member=Member(self._run, DUT_PART))

    def spawn(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        return _spawner(self._generator.netns)(argv, **streams)

    def tcp_client(self) -> ClientHost:
        """Only where the generator's ports are in a namespace of this machine: the client is a program here."""
        namespace = self._generator.netns
        if not namespace:
            raise TestbedError("role accept on a testbed needs TRex, which opens the connections; name its directory "
                               "under generator.trex.dir")
        return ClientHost(self.spawn, lambda call: in_netns(namespace, call), self._generator.cores)


class TrexSite(HostSite):
    """The generator is TRex on its host, driven by its own client there: the server that runs, or one started for the
    run."""

    def __init__(self, testbed: Testbed, trex: TrexHost, run: str) -> None:
        super().__init__(testbed, run)
        self._trex = trex

    def survey(self, request: Request) -> Survey:
        return self._trex.host.survey(request)

    def embedded(self) -> None:
        return None

    def serving(self, agent: AgentClient, keep: Callable[[str], None], note: Callable[[str], None]
                ) -> AbstractContextManager[None]:
        return self._trex.serving(agent, keep, note)

    def agent_channel(self) -> ByteChannel:
        return self._trex.agent_channel(AGENT)

    def server(self) -> Server:
        trex = self._trex.settings
        return Server("trex", _LOOPBACK, trex.sync_port, trex.async_port, trex_dir=trex.dir)

    def prober(self, wires: Sequence[WirePlan]) -> AbstractContextManager[Prober]:
        raise BystanderUnavailable("TRex has taken the generator's ports from the kernel, so nothing there can open a "
                                   "connection over the wire; xdpgen leaves them to the kernel")


class XdpgenSite(HostSite):
    """The generator is ``harness xdpgen``, driven by the built-in client beside it: started by hand on a host that is
    reached over SSH, whose lock is held for the run, or started here, for the run."""

    def __init__(self, testbed: Testbed, side: ThisMachine | OverSsh, run: str) -> None:
        super().__init__(testbed, run)
        self._side = side
        self._here = isinstance(side, ThisMachine)

    def survey(self, request: Request) -> Survey:
        return survey(self._side, request)

    def embedded(self) -> EmbeddedServer | None:
        generator = self._generator
        if not self._here:
            return None
        # Of several hosts behind a switch the first: streams name their own, this is for who else drives the server.
        peers = {wire.tg: self._testbed.dut(wire.host).ports[wire.port].mac for wire in reversed(self._testbed.wires)}
        return EmbeddedServer(
            ifnames=tuple(port.ifname for port in generator.ports),
            dst_macs=tuple(peers.get(i, port.mac) for i, port in enumerate(generator.ports)),
            cores=generator.cores, sync_port=generator.sync_port, async_port=generator.async_port,
            speed_gbps=max(wire.speed for wire in self._testbed.wires),
        )

    def serving(self, agent: AgentClient, keep: Callable[[str], None], note: Callable[[str], None]
                ) -> AbstractContextManager[None]:
        return nullcontext()

    def agent_channel(self) -> ByteChannel:
        argv = [self._side.python_for_client(), self._side.place(AGENT)]
        return self._side.start(on_cores(self._generator.cores, argv) if self._here else argv)

    def server(self) -> Server:
        generator = self._generator
        return Server("stl", _LOOPBACK, generator.sync_port, generator.async_port, stl_path=self._side.place(STL),
                      here=self._here)

    @contextmanager
    def prober(self, wires: Sequence[WirePlan]) -> Iterator[Prober]:
        """Nothing is changed on the generator host, which keeps no journal: its ports must be the kernel's and carry
        the wires' addresses already."""
        for wire in wires:
            self._need_address(wire.tg)
        argv = [self._side.python, "-I", self._side.place(PROBER)]
        with closing(self._side.start(argv)) as channel:
            yield Prober(channel, {wire.host: self._ssh_port(wire.host) for wire in wires})

    def _need_address(self, port: PortPlan) -> None:
        if not port.ifname:
            raise BystanderUnavailable(f"the generator's port {port.index} has no ifname in the testbed file")
        done = self._side.run(["ip", "-j", "-4", "address", "show", "dev", port.ifname], check=False)
        if done.returncode or f'"local":"{port.ip}"' not in done.stdout.replace(" ", ""):
            raise BystanderUnavailable(
                f"the generator's port {port.ifname} does not have the wire's address {port.ip}; give it to it: "
                f"ip address add {port.ip}/{port.prefix_len} dev {port.ifname}")

    def _ssh_port(self, host: str) -> int:
        ssh = self._testbed.dut(host).ssh
        return ssh.port if ssh is not None else SSH_PORT


@contextmanager
def site_of(testbed: Testbed, plan: Plan) -> Iterator[Site]:
    """The hosts of a testbed file, connected to the generator's for the time of the block. Raises TestbedError."""
    generator = testbed.generator
    target = target_of(generator.ssh) if generator.ssh is not None else None
    run = new_run()
    if generator.trex is not None:
        with open_trex_host(testbed, plan, target, run) as trex:
            yield TrexSite(testbed, trex, run)
    elif target is not None:
        with locked_generator(testbed, target, run) as host:
            yield XdpgenSite(testbed, OverSsh(host.connection), run)
    else:
        namespace = generator.netns
        inside = partial(enter_argv, namespace) if namespace else list
        yield XdpgenSite(testbed, ThisMachine(_spawner(namespace), inside), run)


def _spawner(namespace: str) -> Spawn:
    """Starts a program of this machine, inside a namespace when one is named."""
    def spawn(argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        return in_netns(namespace, lambda: spawn_here(enter_argv(namespace, argv), **streams))

    return spawn if namespace else spawn_here


def target_of(ssh: Ssh) -> SshTarget:
    """A testbed file's way to a host, for the SSH layer. What ``netns`` says is of the first hop."""
    if ssh.jump is None:
        return _hop(ssh, ssh.netns, sudo=ssh.user != "root")
    return replace(_hop(ssh, "", sudo=ssh.user != "root"), jump=_hop(ssh.jump, ssh.netns, sudo=False))


def _hop(ssh: Jump, namespace: str, *, sudo: bool) -> SshTarget:
    key = with_home(ssh.key) if ssh.key else None
    return SshTarget(hostname=ssh.address, known_hosts=with_home(ssh.known_hosts), port=ssh.port,
                     user=ssh.user, key_path=key, sudo=sudo, netns=namespace)
