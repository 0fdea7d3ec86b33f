# SPDX-License-Identifier: Apache-2.0
"""The host that TRex runs on, under an agent: its lock is held for the run, and what is changed there is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import TestbedError
from harness.generator.channel import AgentClient
from harness.generator.trexhost.config import TrexPort
from harness.generator.trexhost.release import Release, find_release
from harness.generator.trexhost.server import Wanted, numa_node, serving
from harness.host.channel import ByteChannel, PipeChannel
from harness.host.dut import CACHE_DIR, STATE_DIR, AgentDut, SshDut
from harness.host.guard import check_ports
from harness.host.local import local_dut
from harness.host.ssh import Target
from harness.plan import GENERATOR_HOST, TREX_ASTF, Plan, PortPlan
from harness.stacks.binding import given_to_dpdk, missing_for_devices
from harness.stacks.ports import bring_up
from harness.testbed import Testbed, Trex

#: Asking who serves imports TRex's client.
_LOOK_S = 60.0


class TrexHost:
    """``host``: connected, by SSH or a program of this machine."""

    def __init__(self, host: AgentDut, testbed: Testbed, plan: Plan) -> None:
        self.host = host
        self._generator = testbed.generator
        self._mode = "astf" if plan.generator.kind == TREX_ASTF else "stl"
        self._plan, self._testbed = plan, testbed
        self._release: Release | None = None

    @property
    def settings(self) -> Trex:
        """The testbed's section."""
        assert self._generator.trex is not None
        return self._generator.trex

    def release(self) -> Release:
        """What is in the directory; looked at once. Raises TestbedError."""
        if self._release is None:
            self._release = find_release(self.host, self.settings.dir, self._mode)
        return self._release

    def agent_channel(self, agent: Path) -> ByteChannel:
        """Start the generator's agent beside TRex's client, under a Python that suits it."""
        python = self.release().python
        if isinstance(self.host, SshDut):
            connection = self.host.connection
            return connection.start([python, connection.deploy(agent.read_bytes(), CACHE_DIR, agent.name)])
        return PipeChannel([python, str(agent)])

    @contextmanager
    def serving(self, agent: AgentClient, keep: Callable[[str], None]) -> Iterator[None]:
        """A TRex that serves as the plan needs it, for the block. ``agent``: started, not yet connected; ``keep`` takes
        the log of a server that was started for it. Raises TestbedError."""
        asked = {"trex_dir": self.settings.dir, "mode": self._mode, "server": "127.0.0.1",
                 "sync_port": self.settings.sync_port}

        def look() -> dict[str, object]:
            return dict(agent.call("look", asked, _LOOK_S))

        with ExitStack() as undo:
            if not look()["serving"] and self.settings.start == "auto":
                self._prepare(undo)
            undo.enter_context(serving(self.host, self._wanted(), look, keep))
            yield

    def _wanted(self) -> Wanted:
        return Wanted(release=self.release(), mode=self._mode, ports=tuple(map(self._port, self._ports())),
                      cores=self._generator.cores, sync_port=self.settings.sync_port,
                      async_port=self.settings.async_port, start=self.settings.start == "auto",
                      software=self.settings.software)

    def _ports(self) -> list[PortPlan]:
        """All of the generator's ports, wired or not."""
        return [PortPlan(index, port.ifname, port.mac, "", 0, port.pci)
                for index, port in enumerate(self._generator.ports)]

    def _port(self, port: PortPlan) -> TrexPort:
        peers = {wire.tg: self._testbed.dut(wire.host).ports[wire.port].mac for wire in reversed(self._testbed.wires)}
        node = numa_node(self.host, port.pci) if port.pci else -1
        return TrexPort(port.pci or port.ifname, port.mac, peers.get(port.index, port.mac), node)

    def _prepare(self, undo: ExitStack) -> None:
        """Hand the ports over: interfaces are set up, devices taken from the kernel; both are put back by ``undo``."""
        ports = self._ports()
        if not self.settings.software and not any(port.pci for port in ports):
            raise TestbedError("generator.ports have no pci, so they are interfaces of the kernel, which TRex drives "
                               "in software mode only: set software: true under generator.trex, or give their pci")
        check_ports(self.host, "", ports)
        mark = self.host.undo_mark()
        undo.callback(self.host.undo_to, mark)
        for port in ports:
            if port.pci:
                continue
            if not self.host.exists(f"/sys/class/net/{port.ifname}"):
                raise TestbedError(f"{self.host.name} has no interface {port.ifname}; correct generator.ports")
            bring_up(self.host, port.ifname)
        devices = [port.pci for port in ports if port.pci]
        if devices:
            missing = missing_for_devices(self.host, ports, "", "auto")
            if missing:
                raise TestbedError(f"TRex cannot have its ports of {self.host.name}: it lacks " + "; ".join(
                    f"{one.what} ({one.remedy})" for one in missing))
            undo.enter_context(given_to_dpdk(self.host, devices, "auto", ""))


@contextmanager
def open_trex_host(testbed: Testbed, plan: Plan, target: Target | None) -> Iterator[TrexHost]:
    """Connect to the generator's host; ``target`` None: this machine. A DUT on the same machine has a lock and journal
    of its own. Raises TestbedError."""
    if target is None:
        with local_dut(name=GENERATOR_HOST) as local:
            yield TrexHost(local, testbed, plan)
        return
    ssh = testbed.generator.ssh
    assert ssh is not None
    here = (ssh.address, ssh.port, ssh.netns)
    shared = any(dut.ssh is not None and (dut.ssh.address, dut.ssh.port, dut.ssh.netns) == here for dut in testbed.duts)
    with SshDut.connect(GENERATOR_HOST, target, state_dir=f"{STATE_DIR}-generator" if shared else "") as host:
        yield TrexHost(host, testbed, plan)

