# SPDX-License-Identifier: Apache-2.0
"""How the programs of a run reach their machines: the lab's two namespaces, or a testbed's hosts over SSH."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from harness.errors import TestbedError
from harness.generator.embedded import EmbeddedServer, on_cores
from harness.generator.trex import Server
from harness.host.channel import ByteChannel, PipeChannel, spawn_here
from harness.host.dut import CACHE_DIR, SshDut
from harness.host.ssh import SshConnection, SshTarget
from harness.lab.lab import Lab
from harness.paths import with_home
from harness.testbed import Ssh, Testbed

_GENERATOR = Path(__file__).parent / "generator"
AGENT, STL = _GENERATOR / "agent.py", _GENERATOR / "stl.py"
_LOOPBACK = "127.0.0.1"
#: Interpreters that TRex's client runs under, tried in this order on the generator host: 3.13 lacks what it imports.
_TREX_PYTHONS = ("python3.12", "python3.11", "python3.10", "python3.9", "python3.8", "python3.7", "python3.6")


class Site(Protocol):
    """Where a testbed's programs run: how to start one on the generator's side, how to reach a DUT."""

    def open_dut(self, name: str) -> SshDut:
        """Connect to a DUT and start its agent; holds the host's lock until closed."""

    def agent_channel(self) -> ByteChannel:
        """Start the generator's agent."""

    def server(self) -> Server:
        """The server that the agent is to drive, and with which client."""

    def embedded(self) -> EmbeddedServer | None:
        """The generator to start first; None when it is somebody else's server."""

    def spawn(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        """Start a program of the generator's side on this machine."""


class LabSite:
    """The lab's two namespaces."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def open_dut(self, name: str) -> SshDut:
        return SshDut.connect(name, self._lab.ssh, home_cores=self._lab.tg_cores, virtual=True,
                              state_dir=str(self._lab.dut_state_dir))

    def spawn(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        name = "xdpgen" if "harness.generator.xdpgen" in argv else "generator-agent"
        return self._lab.spawn("tg", argv, name=name, **streams)

    def embedded(self) -> EmbeddedServer:
        return EmbeddedServer(
            ifnames=self._lab.ifnames("tg"), dst_macs=tuple(wire.dut.mac for wire in self._lab.wires),
            cores=self._lab.tg_cores, sync_port=self._lab.sync_port, async_port=self._lab.async_port,
            speed_gbps=self._lab.wires[0].speed_gbps,
        )

    def agent_channel(self) -> ByteChannel:
        return PipeChannel(on_cores(self._lab.tg_cores, [sys.executable, str(AGENT)]), self.spawn)

    def server(self) -> Server:
        return Server("stl", _LOOPBACK, self._lab.sync_port, self._lab.async_port, stl_path=str(STL), here=True)


class HostSite:
    """Hosts of a testbed file. A context manager: leaving it closes the connection to the generator host.

    The generator is a server that already serves: TRex (``t-rex-64 -i``) on the generator host, driven by its own
    client there; or ``harness xdpgen`` started by hand, driven by the built-in client. With no ``ssh`` for the
    generator and no TRex, this machine is the generator and xdpgen is started here.
    """

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._generator: SshConnection | None = None
        self._owned = ExitStack()

    def __enter__(self) -> Self:
        ssh = self._testbed.generator.ssh
        if ssh is not None:
            self._generator = self._owned.enter_context(SshConnection.open(target_of(ssh)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._owned.close()

    def open_dut(self, name: str) -> SshDut:
        ssh = self._testbed.dut(name).ssh
        assert ssh is not None  # testbed files are refused without it
        given = set(self._testbed.dut(name).cores)
        home = [core for core in range(self._testbed.dut(name).all_cores) if core not in given]
        return SshDut.connect(name, target_of(ssh), home_cores=home)

    def spawn(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        return spawn_here(argv, **streams)

    def embedded(self) -> EmbeddedServer | None:
        generator = self._testbed.generator
        if generator.trex is not None or generator.ssh is not None:
            return None
        peers = {wire.tg: self._testbed.dut(wire.host).ports[wire.port].mac for wire in self._testbed.wires}
        return EmbeddedServer(
            ifnames=tuple(port.ifname for port in generator.ports),
            dst_macs=tuple(peers.get(i, port.mac) for i, port in enumerate(generator.ports)),
            cores=generator.cores, sync_port=generator.sync_port, async_port=generator.async_port,
            speed_gbps=max(wire.speed for wire in self._testbed.wires),
        )

    def agent_channel(self) -> ByteChannel:
        if self._generator is None:
            return PipeChannel(on_cores(self._testbed.generator.cores, [sys.executable, str(AGENT)]))
        python = self._python(self._generator)
        path = self._generator.deploy(AGENT.read_bytes(), CACHE_DIR, AGENT.name)
        return self._generator.start([python, path])

    def _python(self, connection: SshConnection) -> str:
        """An interpreter that suits the client: TRex's does not import on 3.13, the built-in one needs pyzmq."""
        trex = self._testbed.generator.trex is not None
        module = "ctypes" if trex else "zmq"
        for python in _TREX_PYTHONS if trex else ("python3", *_TREX_PYTHONS):
            if connection.run([python, "-c", f"import {module}"], check=False).returncode == 0:
                return python
        needs = "Python 3.6 to 3.12 (apt-get install python3.11)" if trex else "pyzmq (apt-get install python3-zmq)"
        raise TestbedError(f"the generator host lacks what the generator's client needs; install {needs} there")

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


def target_of(ssh: Ssh) -> SshTarget:
    """A testbed file's way to a host, for the SSH layer."""
    key = with_home(ssh.key) if ssh.key else None
    return SshTarget(hostname=ssh.address, known_hosts=with_home(ssh.known_hosts), port=ssh.port,
                     user=ssh.user, key_path=key, sudo=ssh.user != "root")
