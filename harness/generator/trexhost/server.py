# SPDX-License-Identifier: Apache-2.0
"""Who serves on TRex's RPC ports: attach to a server that runs, or start one and stop what was started.

Attaching disturbs nobody: the server is asked by RPCs that need no ownership, and a port that somebody owns is never
taken, unless the owner is a harness that is gone: this run holds the host's lock, so no other is at work there.
A server that is started is on the host's journal with everything made for it, so it ends with this run even when the
controller is killed.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import HostError, StackError, TestbedError
from harness.generator.channel import AgentClient
from harness.generator.trexhost.complaints import explain, plain
from harness.generator.trexhost.config import config_text
from harness.generator.trexhost.cores import CorePlan, TrexPort, plan_cores
from harness.generator.trexhost.release import INSIDE, Release, api_versions
from harness.host.contract import RemoteProcess
from harness.host.dut import AgentDut
from harness.host.guard import check_ports
from harness.host.pci import bound_to
from harness.host.topology import LSCPU, Topology
from harness.plan import PortPlan
from harness.stacks.binding import BIFURCATED, given_to_dpdk, missing_for_devices
from harness.stacks.ports import bring_up

Mode = Literal["stl", "astf"]
#: The user name under which the agent owns ports, as other users of the server see it.
USER = "harness"
#: Links of NICs take their time, ports are bound one by one.
_SERVES_S = 120.0
_LOOK_S, _POLL_S = 30.0, 0.1
_STOP_S = 15.0
_LOG_BYTES = 1 << 20
_HUGE_MOUNT = "/mnt/huge"
_HUGE_KB = 2048
_READ_SIZE = "68.w"
_DPDK_FOLDER = "/var/run/dpdk"
_BIRD_FOLDER = "/tmp/trex-bird"
#: Writes its first argument into the file of its second.
_WRITE = ("sh", "-c", 'echo "$1" > "$2"', "sh")


@dataclass(frozen=True)
class Wanted:
    """The server that a run needs. ``start``: whether one may be started where none serves. ``software``: --software,
    always on where ``ports`` are interfaces of the kernel. ``hugepages``: of 2 MiB, on each memory node of the ports;
    ``memory_mb``: of a server without them."""

    mode: Mode
    ports: tuple[TrexPort, ...]
    cores: tuple[int, ...]
    sync_port: int
    async_port: int
    start: bool
    software: bool
    speed_gbps: float
    hugepages: int
    memory_mb: int
    master: int | None = None
    latency: int | None = None

    @property
    def kernel(self) -> bool:
        """Whether the ports stay with the kernel (af_packet)."""
        return all(":" not in port.interface for port in self.ports)

    @property
    def limit_mb(self) -> int:
        """MiB that the server may take: of hugepages as many as were asked for, and not all that are free."""
        return self.memory_mb if self.kernel else self.hugepages * _HUGE_KB // 1024

    @property
    def where(self) -> str:
        """For messages."""
        return f"the generator's RPC port {self.sync_port}"


@contextmanager
def serving(host: AgentDut, agent: AgentClient, release: Release, wanted: Wanted,
            keep: Callable[[str], None], note: Callable[[str], None]) -> Iterator[bool]:
    """A server that fits, for as long as the block lasts; yields whether it was started for it. ``host``: the
    generator's, whose lock is held; ``agent``: the one beside TRex's client, not yet connected; ``keep`` takes the log
    of a server that was started, ``note`` what is questionable about its cores. Raises TestbedError: busy, of another
    mode, version or ports, or not startable."""
    found = look(agent, release, wanted)
    if found is not None:
        check(found, release, wanted)
        yield False
        return
    if not wanted.start:
        raise TestbedError(f"no TRex serves at {wanted.where}, and generator.trex.start is never; start it there: cd "
                           f"{release.directory} && ./{' '.join(command(wanted, '/etc/trex_cfg.yaml'))}")
    with started(host, agent, release, wanted, keep, note):
        yield True


# ------------------------------------------------------------------------------------------------------- attaching


def look(agent: AgentClient, release: Release, wanted: Wanted, *, starting: bool = False) -> Mapping[str, Any] | None:
    """What the server says of itself and its ports, by RPCs that change nothing; None where nobody listens, or one that
    is ``starting`` does not answer yet. Raises TestbedError when what listens there does not answer as TRex does."""
    found: Mapping[str, Any] = agent.call("look", {
        "trex_dir": release.directory, "server": "127.0.0.1", "sync_port": wanted.sync_port,
        "apis": api_versions()}, _LOOK_S)
    if found.get("stranger") and not starting:
        raise TestbedError(f"something listens at {wanted.where} and does not answer as TRex does "
                           f"({found['stranger']}): wait if it is a TRex that is busy, or choose other sync_port and "
                           "async_port under generator.trex")
    return found if found["serving"] else None


def check(found: Mapping[str, Any], release: Release, wanted: Wanted) -> None:
    """Raise TestbedError where a running server does not fit, with who has it."""
    ports = {int(port["index"]): port for port in found["ports"]}
    owners = {index: str(port["owner"]) for index, port in ports.items() if port["owner"]}
    held = "".join(f"; port {index} is owned by {owner!r}" for index, owner in sorted(owners.items()))
    if str(found["mode"]).lower() != wanted.mode:
        raise TestbedError(f"TRex at {wanted.where} runs in mode {found['mode']}, and this needs {wanted.mode.upper()}"
                           f"{held}. End it (the harness starts its own), or choose other sync_port and async_port")
    if found["version"] != release.version:
        raise TestbedError(f"TRex at {wanted.where} is {found['version']}, but {release.directory}, whose client would "
                           f"drive it, is {release.version}; name the installation that serves under "
                           f"generator.trex.dir, or end that server{held}")
    _check_ports(ports, wanted)
    # A port of our own name is of a harness that died: there is one at a time on a generator's host.
    others = {index: owner for index, owner in owners.items() if index < len(wanted.ports) and owner != USER}
    if others:
        index, owner = min(others.items())
        raise TestbedError(f"port {index} of TRex at {wanted.where} is owned by {owner!r}, who may be measuring; wait, "
                           "or have it released (trex-console: release). A port of somebody else is never taken")


def _check_ports(ports: Mapping[int, Mapping[str, Any]], wanted: Wanted) -> None:
    """The server's ports are the testbed's, in its order. Raises TestbedError."""
    for index, port in enumerate(wanted.ports):
        there = ports.get(index)
        if there is None:
            raise TestbedError(f"TRex at {wanted.where} has {len(ports)} ports, and the testbed's generator has "
                               f"{len(wanted.ports)}; end it, so that one with all is started, or correct the testbed")
        macs = [str(there["mac"]).lower(), str(there.get("src_mac") or "").lower()]
        if port.mac not in macs:
            raise TestbedError(f"port {index} of TRex at {wanted.where} has the MAC {macs[0]}, in the testbed file it "
                               f"is {port.mac}: the server serves other ports, or in another order (its own is that of "
                               "`interfaces` in its trex_cfg.yaml); correct generator.ports, or end that server")


# -------------------------------------------------------------------------------------------------------- starting


def command(wanted: Wanted, config: str) -> list[str]:
    """The program and its options. No keyboard and no screen: its log is kept. ``--hdrh``: fine latency histograms. In
    software mode its threads share cores; its watchdog aborts it when one has none for a second, as v3.08 did."""
    mode = ["--astf"] if wanted.mode == "astf" else ["--hdrh"]
    software = ["--software", "--no-watchdog"] if wanted.software or wanted.kernel else []
    return ["t-rex-64", "-i", *mode, "--cfg", config, *software, "--no-scapy-server", "--no-key", "--iom", "0"]


@contextmanager
def started(host: AgentDut, agent: AgentClient, release: Release, wanted: Wanted,
            keep: Callable[[str], None], note: Callable[[str], None]) -> Iterator[None]:
    """Start a server and stop it again; its host is put back as it was."""
    unknown = [index for index, port in enumerate(wanted.ports) if not port.interface]
    if unknown:
        raise TestbedError(f"no TRex serves at {wanted.where}, and none can be started: its port {unknown[0]} has "
                           "neither pci nor ifname in the testbed file; give pci (or ifname, for software mode)")
    with ExitStack() as undo:
        mark = host.undo_mark()
        undo.callback(host.undo_to, mark)
        _refuse_bird(host)
        cores = prepare(host, wanted, undo)
        for remark in cores.remarks:
            note(f"{host.name}: {remark}")
        _remove_files(host, wanted)
        path = f"{posixpath.dirname(str(host.agent['journal']))}/trex_cfg-{wanted.sync_port}.yaml"
        host.create_file(path, config_text(
            wanted.ports, cores, sync_port=wanted.sync_port, async_port=wanted.async_port,
            software=wanted.software or wanted.kernel, speed_gbps=wanted.speed_gbps, memory_mb=wanted.limit_mb,
            prefix=f"{USER}-{wanted.sync_port}"))
        program = command(wanted, path)
        process = host.spawn([*INSIDE, release.directory, f"./{program[0]}", *program[1:]], name="t-rex-64")
        undo.callback(_end, process, keep)
        check(_await(process, agent, release, wanted), release, wanted)
        yield


def _end(process: RemoteProcess, keep: Callable[[str], None]) -> None:
    try:
        process.stop(_STOP_S)
    finally:
        keep(plain(process.output(_LOG_BYTES)))


def _await(process: RemoteProcess, agent: AgentClient, release: Release, wanted: Wanted) -> Mapping[str, Any]:
    """Look until it serves. Raises TestbedError with what it complains of."""
    deadline = time.monotonic() + _SERVES_S
    while True:
        found = look(agent, release, wanted, starting=True)
        if found is not None:
            return found
        ended = not process.alive()
        if ended or time.monotonic() > deadline:
            how = (f"ended with status {process.returncode()}" if ended else
                   f"did not serve at {wanted.where} within {_SERVES_S:.0f} s")
            raise TestbedError(f"TRex {release.version} {how}: {explain(process.output(_LOG_BYTES))}")
        time.sleep(_POLL_S)


# ---------------------------------------------------------------------------------------------- the host around it


def prepare(host: AgentDut, wanted: Wanted, undo: ExitStack) -> CorePlan:
    """Guard, cores, and what the ports need: interfaces that are up, or devices bound and hugepages. Raises
    TestbedError before anything is changed where something is missing."""
    check_ports(host, "", _plans(wanted.ports))
    cores = plan_cores(wanted.cores, wanted.ports, _topology(host),
                       software=wanted.software or wanted.kernel, master=wanted.master, latency=wanted.latency)
    if wanted.kernel:
        for port in wanted.ports:
            if not host.exists(f"/sys/class/net/{port.interface}"):
                raise TestbedError(f"the generator's host has no interface {port.interface}; `ip link` there lists "
                                   "them, correct ifname under generator.ports")
        for port in wanted.ports:
            bring_up(host, port.interface)  # af_packet sends nothing through one that is down
        return cores
    missing = missing_for_devices(host, _plans(wanted.ports), "", "auto")
    if missing:
        raise TestbedError("TRex cannot have its ports: the generator's host lacks "
                           + "; ".join(f"{one.what} ({one.remedy})" for one in missing))
    _hugepages(host, wanted)
    for port in wanted.ports:
        _remember_read_size(host, port.interface)
    try:
        undo.enter_context(given_to_dpdk(host, [port.interface for port in wanted.ports], "auto", ""))
    except (StackError, HostError) as error:
        raise TestbedError(f"the generator's ports cannot be given to TRex: {error}") from error
    return cores


def _topology(host: AgentDut) -> Topology | None:
    done = host.run(list(LSCPU), check=False)
    if done.returncode != 0:
        return None
    return Topology.parse(done.stdout)


def _plans(ports: Sequence[TrexPort]) -> list[PortPlan]:
    """Ports as the guard and the binding know them."""
    return [PortPlan(index, "" if ":" in port.interface else port.interface, port.mac, "", 0,
                     port.interface if ":" in port.interface else "") for index, port in enumerate(ports)]


def _remember_pages(host: AgentDut) -> None:
    """TRex's start script reserves pages of either size on nodes 0 and 1, wherever its ports are, and leaves them: what
    there is now goes onto the journal, by commands, for nothing is changed yet."""
    for node in (0, 1):
        for size in (_HUGE_KB, 1 << 20):
            path = f"/sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages"
            if host.exists(path):
                host.apply(["true"], [*_WRITE, host.read(path).strip(), path])


def _remember_read_size(host: AgentDut, pci: str) -> None:
    """TRex's start script writes the size of read requests into a register of devices that DPDK shares with the kernel
    (MTU and pause frames too: those come back with the interfaces), and leaves it: what it is now goes onto the
    journal."""
    if bound_to(host, pci) not in BIFURCATED or host.which("setpci") is None:
        return
    said = host.run(["setpci", "-s", pci, _READ_SIZE], check=False).stdout.strip()
    if re.fullmatch(r"[0-9a-f]{4}", said):
        host.apply(["true"], ["setpci", "-s", pci, f"{_READ_SIZE}={said}"])


def _remove_files(host: AgentDut, wanted: Wanted) -> None:
    """What a server leaves on disk: its pages, which stay taken as long as their files are there, DPDK's folder and one
    of its prefix in it, and the folder that its start script makes for a router, which everybody may write to."""
    prefix = f"{USER}-{wanted.sync_port}"
    if not host.exists(_DPDK_FOLDER):
        host.apply(["true"], ["sh", "-c", '! [ -d "$1" ] || rmdir --ignore-fail-on-non-empty "$1"', "sh", _DPDK_FOLDER])
    host.apply(["true"], ["sh", "-c", 'rm -rf "/var/run/dpdk/$1"; rm -f /dev/hugepages/"$1"map_* /mnt/huge/"$1"map_*',
                          "sh", prefix])
    if not host.exists(_BIRD_FOLDER):
        host.apply(["true"], ["rm", "-rf", _BIRD_FOLDER])


def _refuse_bird(host: AgentDut) -> None:
    """TRex's start script ends every trex_bird of the host. Raises TestbedError where somebody has one."""
    found = host.run(["pgrep", "-x", "trex_bird"], check=False).stdout.split()
    if found:
        raise TestbedError(f"TRex's routing daemon (trex_bird, pid {', '.join(found)}) runs on the generator's host, "
                           "and TRex's start script would end it; end it, or start TRex yourself "
                           "(generator.trex.start: never)")


def _hugepages(host: AgentDut, wanted: Wanted) -> None:
    """As many pages as asked for on each memory node of a port, and a place where TRex's start script finds them
    mounted (it would mount one for good). Raises TestbedError."""
    _remember_pages(host)
    nodes = {port.node if port.node is not None and port.node >= 0 else 0 for port in wanted.ports}
    for node in sorted(nodes):
        path = f"/sys/devices/system/node/node{node}/hugepages/hugepages-{_HUGE_KB}kB/nr_hugepages"
        if not host.exists(path):
            raise TestbedError(f"the generator's host has no {_HUGE_KB} kB hugepages ({path}); TRex needs them on NICs")
        now, free = int(host.read(path)), int(host.read(path.replace("nr_", "free_")))
        if free >= wanted.hugepages:
            continue
        try:
            host.set_file(path, str(now + wanted.hugepages - free))
        except HostError as error:
            raise TestbedError(f"the generator's host cannot give TRex {wanted.hugepages} hugepages of {_HUGE_KB} kB "
                               f"on node {node}; free memory, or reserve them at boot (hugepages={wanted.hugepages} "
                               f"on the kernel's command line) ({error})") from error
    mounts = host.read("/proc/mounts", "")
    if f" {_HUGE_MOUNT} hugetlbfs " not in mounts:
        if not host.exists(_HUGE_MOUNT):
            host.create_directory(_HUGE_MOUNT)
        host.apply(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "nodev", _HUGE_MOUNT], ["umount", _HUGE_MOUNT])
