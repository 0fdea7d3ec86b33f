# SPDX-License-Identifier: Apache-2.0
"""The host that TRex runs on, under an agent: its lock is held for the run, and what is changed there is undone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.generator.channel import AgentClient
from harness.generator.trexhost.cores import TrexPort
from harness.generator.trexhost.release import Release, find_release
from harness.generator.trexhost.server import Mode, Wanted, look, serving
from harness.generator.trexhost.software import remark
from harness.host.channel import ByteChannel, PipeChannel
from harness.host.dut import RUN_DIR, STATE_DIR, AgentDut, SshDut
from harness.host.link import GENERATOR_PART, Member
from harness.host.local import local_dut
from harness.host.pci import numa_node
from harness.host.ssh import Target
from harness.host.topology import MOST_CPUS
from harness.plan import GENERATOR_HOST, TREX_ASTF, Plan
from harness.testbed import Port, Testbed, Trex


class TrexHost:
    """``host``: connected, by SSH or a program of this machine."""

    def __init__(self, host: AgentDut, testbed: Testbed, plan: Plan) -> None:
        self.host = host
        self._generator = testbed.generator
        self._mode: Mode = "astf" if plan.generator.kind == TREX_ASTF else "stl"
        self._testbed = testbed
        self._plan = plan.generator
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
            # As the account that logged in: it asks a server on loopback, and nothing of that takes root.
            return self.host.connection.start([python, "-c", agent.read_text(encoding="utf-8")], as_root=False)
        return PipeChannel([python, str(agent)])

    @contextmanager
    def serving(self, agent: AgentClient, keep: Callable[[str], None], note: Callable[[str], None]) -> Iterator[None]:
        """A TRex that serves as the plan needs it, for the block. ``agent``: started, not yet connected; ``keep`` takes
        the log of a server that was started for it, ``note`` what is questionable about its cores, a sentence each.
        Raises TestbedError."""
        wanted, release = self._wanted(), self.release()
        with serving(self.host, agent, release, wanted, keep, note) as started:
            if self._plan.software_for:
                said = remark(self._plan, look(agent, release, wanted) or {}, started=started)
                if said:
                    note(said)
            yield

    def _wanted(self) -> Wanted:
        generator, trex = self._generator, self.settings
        return Wanted(
            mode=self._mode, ports=tuple(self._port(index, port) for index, port in enumerate(generator.ports)),
            cores=generator.cores, sync_port=trex.sync_port, async_port=trex.async_port, start=trex.start == "auto",
            software=self._plan.software, speed_gbps=max(wire.speed for wire in self._testbed.wires),
            hugepages=trex.hugepages, memory_mb=trex.memory_mb, master=trex.master_core, latency=trex.latency_core,
        )

    def _port(self, index: int, port: Port) -> TrexPort:
        """A port without a wire gets its own MAC as its peer's, one at a switch that of the first host."""
        peers = {wire.tg: self._testbed.dut(wire.host).ports[wire.port].mac for wire in reversed(self._testbed.wires)}
        node = numa_node(self.host, port.pci) if port.pci else None
        return TrexPort(port.pci or port.ifname, port.mac, peers.get(index, port.mac), node)


@contextmanager
def locked_generator(testbed: Testbed, target: Target, run: str) -> Iterator[SshDut]:
    """The generator's host over SSH, under an agent that holds its lock for the block: two runs never drive one
    generator, whatever DUTs they measure. ``run`` as for :func:`open_trex_host`. Raises TestbedError."""
    with SshDut.connect(GENERATOR_HOST, target, home_cores=_home_cores(testbed),
                        member=Member(run, GENERATOR_PART)) as host:
        yield host


def _home_cores(testbed: Testbed) -> Sequence[int]:
    """Off the cores that send; of those listed the agent takes what the host has."""
    return [core for core in range(MOST_CPUS) if core not in testbed.generator.cores]


@contextmanager
def open_trex_host(testbed: Testbed, plan: Plan, target: Target | None, run: str) -> Iterator[TrexHost]:
    """Connect to the generator's host; ``target`` None: this machine. ``run``: the secret with which a DUT on the same
    machine shares its lock; it has a journal of its own. Raises TestbedError."""
    if target is None:
        # Without root nothing can be started; a server that runs can be used all the same, by one of our runs a user.
        root = os.geteuid() == 0
        own = str(Path(tempfile.gettempdir(), f"netstack-harness-agent-{os.geteuid()}"))
        with local_dut(name=GENERATOR_HOST, home_cores=_home_cores(testbed),
                       state_dir=STATE_DIR if root else own, run_dir=RUN_DIR if root else own,
                       member=Member(run, GENERATOR_PART)) as local:
            yield TrexHost(local, testbed, plan)
        return
    with locked_generator(testbed, target, run) as host:
        yield TrexHost(host, testbed, plan)
