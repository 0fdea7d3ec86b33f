# SPDX-License-Identifier: Apache-2.0
"""Where to measure: the machines, ports, wires and cores of a testbed, from a file or from the lab on this machine.

:func:`load_testbed` reads a file; the name ``lab`` stands for the embedded one, whose names and addresses come from
:mod:`harness.lab`. A :class:`Testbed` is frozen and holds no secret: SSH uses key files or the agent, never passwords.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from harness import units
from harness.doctor.items import ITEMS, Policy, Setting, read_settings
from harness.errors import UsageError
from harness.host.topology import LSCPU, NearPort, Topology, listed, remarks
from harness.host.tuning.profile import PROFILES, NamedProfile, named_profile
from harness.lab.addresses import DUT_HOST, MOST_WIRES
from harness.plan import GENERATOR_HOST, PortPlan, WirePlan
from harness.units import shown
from harness.yamlfile import Document, Location, load

#: The builtin testbed.
LAB = "lab"
#: Cores of a DUT: chosen by its topology.
AUTO = "auto"
#: Characters of a topology: a line for each of 4096 CPUs.
_MOST_TOPOLOGY = 1 << 17

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PCI = re.compile(r"([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_HOST_PORT = re.compile(r"([A-Za-z0-9_.-]+)/(\d{1,2})")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_ADDRESS = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,252}$"
#: The kernel's limit is 15 characters; a leading dash would read as an option.
_IFNAME = r"^[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,14}$"
_PATH = r"^[A-Za-z0-9/~_.+ -]*$"
#: A file name below /run/netns.
_NETNS = r"^$|^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _mac(value: object) -> object:
    if not isinstance(value, str) or not _MAC.fullmatch(value.lower()):
        raise ValueError(f"{shown(value)} is not a MAC address; write it like 3c:fd:fe:a0:00:01")
    if int(value[:2], 16) & 1:
        raise ValueError(f"{value} is a multicast address; write the port's own MAC")
    return value.lower()


def _pci(value: object) -> object:
    if value == "":
        return value
    if not isinstance(value, str) or not _PCI.fullmatch(value.lower()):
        raise ValueError(f"{shown(value)} is not a PCI address; write it like 0000:03:00.0")
    return value.lower() if value.count(":") == 2 else f"0000:{value.lower()}"


def _cores(value: object) -> tuple[int, ...]:
    """``[2, 3, 8-11]``: core ids and ranges."""
    cores: list[int] = []
    for item in value if isinstance(value, list | tuple) else [value]:
        first, dash, last = str(item).partition("-")
        lowest = units.parse_count(first, what="a core id", most=4095)
        cores += range(lowest, (units.parse_count(last, what="a core id", most=4095) if dash else lowest) + 1)
    if not cores or len(set(cores)) != len(cores):
        raise ValueError(f"{shown(value)} is not a list of distinct cores; write them like [2, 3, 8-11]")
    return tuple(cores)


def _cores_or_auto(value: object) -> tuple[int, ...]:
    """As :func:`_cores`; ``auto`` is an empty tuple until the host's topology fills it."""
    return () if value == AUTO else _cores(value)


def _topology(value: object) -> object:
    if isinstance(value, str) and len(value) <= _MOST_TOPOLOGY:
        Topology.parse(value)
        return value
    raise ValueError(f"{shown(value)} is no topology; paste what `{' '.join(LSCPU)}` prints on the host")


Mac = Annotated[str, BeforeValidator(_mac)]
Pci = Annotated[str, BeforeValidator(_pci)]
Cores = Annotated[tuple[int, ...], BeforeValidator(_cores), WithJsonSchema(
    {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}})]


AutoCores = Annotated[tuple[int, ...], BeforeValidator(_cores_or_auto), WithJsonSchema(
    {"anyOf": [{"const": AUTO}, {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}]})]


class Jump(_Section):
    """An SSH server. Its key has to be in ``known_hosts`` already: unknown keys are refused."""

    address: str = Field(pattern=_ADDRESS, description="host name or address")
    user: str = Field(default="root", pattern=r"^[a-z_][a-z0-9_-]{0,31}$", description="account; root, or has sudo")
    port: int = Field(default=22, ge=1, le=65535, description="TCP port of the SSH server")
    key: str = Field(default="", pattern=_PATH, description="Private key file; the SSH agent's keys when left out")
    known_hosts: str = Field(default="~/.ssh/known_hosts", pattern=_PATH, description="File with the host's key")


class Ssh(Jump):
    """How to reach a host; ``jump``: through which other one."""

    jump: Jump | None = Field(default=None, description="Host through which it is reached (its SSH server forwards TCP)"
                                                        ": {address, user, port, key, known_hosts}; any account there")
    netns: str = Field(default="", pattern=_NETNS, description="Network namespace of this machine from which the host "
                                                               "is reached, as `ip netns` names it")


class Port(_Section):
    """A network port, of the generator or of a DUT."""

    mac: Mac = Field(description="the port's MAC address, like 3c:fd:fe:a0:00:01")
    ifname: str = Field(default="", pattern=rf"^$|{_IFNAME}", description="The kernel's interface name")
    pci: Pci = Field(default="", description="PCI address; needed by stacks that take the port from the kernel")


class Trex(_Section):
    """A TRex installation on the generator host."""

    dir: str = Field(pattern=r"^/[A-Za-z0-9/_.+ -]+$", description="TRex's directory, such as /opt/trex/v3.08")
    sync_port: int = Field(default=4501, ge=1, le=65535, description="Port of the server's RPC")
    async_port: int = Field(default=4500, ge=1, le=65535, description="Port of the server's events")
    start: Literal["auto", "never"] = Field(default="auto", description="auto: where no TRex serves, one is started "
                                                                        "for the run; never: only attach to one")
    software: bool | Literal["auto"] = Field(
        default="auto", description="Whether it is started with --software: frames are received in software, at a "
                                    "lower rate. auto: where latency of role echo needs it (replies of sockets, which "
                                    "no filter of a NIC knows again); always so for ports without pci")
    master_core: int | None = Field(default=None, ge=0, le=63, description="Core of its control thread, of all its "
                                                                           "threads where they share one; chosen "
                                                                           "from cores when left out")
    latency_core: int | None = Field(default=None, ge=0, le=63, description="Core that receives and times latency "
                                                                            "frames; chosen from cores when left out, "
                                                                            "refused where all threads share one")
    hugepages: int = Field(default=2048, ge=256, le=1 << 20, description="Pages of 2 MiB on each memory node of a "
                                                                         "port; set for the run and put back")
    memory_mb: int = Field(default=1024, ge=256, le=1 << 20, description="Its memory in MiB where ports have no pci")


class GeneratorHost(_Section):
    """The traffic generator: TRex where ``trex`` names an installation, xdpgen otherwise."""

    ssh: Ssh | None = Field(default=None, description="How to reach it; this machine when left out")
    cores: Cores = Field(description="cores the generator may use, like [2, 3, 8-11]")
    ports: tuple[Port, ...] = Field(min_length=1, max_length=8, description="the generator's ports, in its own order")
    netns: str = Field(default="", pattern=_NETNS, description="Network namespace of this machine that holds the ports,"
                                                               " where xdpgen runs; only without ssh and trex")
    trex: Trex | None = Field(default=None, description="The TRex installation; xdpgen is used when left out")
    sync_port: int = Field(default=4501, ge=1, le=65535, description="xdpgen: port of its RPC")
    async_port: int = Field(default=4500, ge=1, le=65535, description="xdpgen: port of its events")

    @property
    def kind(self) -> Literal["trex", "xdpgen"]:
        """Which generator it is."""
        return "trex" if self.trex else "xdpgen"


class HostTopology(_Section):
    """What is known of a DUT's cores: for ``cores: auto``, and for a word about the cores that are listed."""

    cpus: Annotated[str, BeforeValidator(_topology)] = Field(
        description=f"what `{' '.join(LSCPU)}` prints on the host, as a block of text (cpus: |)")
    node: int | None = Field(default=None, ge=-1, le=1023, description="NUMA node of the test ports' NIC: cat "
                                                                       "/sys/class/net/PORT/device/numa_node")
    busy: Cores | tuple[()] = Field(default=(), description="Cores on which interrupts of the management interface "
                                                            "arrive; given out last")
    siblings: bool = Field(default=False, description="cores: auto also gives out SMT siblings, after every physical "
                                                      "core; false: one worker a physical core")


class DutHost(_Section):
    """A device under test."""

    name: str = Field(pattern=_NAME, description="a short name for results")
    ssh: Ssh | None = Field(default=None, description="how to reach it: address, user, port, key, known_hosts")
    management: str = Field(pattern=_IFNAME, description="the interface that carries SSH; it is never touched")
    cores: AutoCores = Field(description="cores stacks may use, in the order they are given out, like [2, 3, 8-11]; or "
                                         "auto, with topology")
    topology: HostTopology | None = Field(default=None, description="The host's cores: {cpus, node, busy, siblings}")
    all_cores: int = Field(ge=1, le=4096, description="how many cores the host has")
    ports: tuple[Port, ...] = Field(min_length=1, max_length=8, description="the host's test ports")
    tuning: Annotated[NamedProfile, BeforeValidator(named_profile), WithJsonSchema(
        {"anyOf": [{"enum": sorted(PROFILES)}, {"type": "object"}]})] = Field(
        default=named_profile("stock"),
        description="How to tune this host where the scenario says nothing: stock, tuned, or items")


class Wire(_Section):
    """A way from a generator port to a DUT port: a cable, or through a switch. Several wires of one generator port, to
    different hosts, are the ways through a switch."""

    tg: int = Field(ge=0, le=7, description="index of the generator's port")
    dut: str = Field(description="DUT and index of its port, such as sut1/0")
    speed: Annotated[float, BeforeValidator(units.parse_speed_gbps), WithJsonSchema(
        {"type": "string", "examples": ["10G"]})] = Field(description="the link's speed, such as 10G (Gbit/s)")
    virtual: bool = Field(default=False, description="No cable but a virtual machine's tap or the like; the report says"
                                                     " so")

    @property
    def host(self) -> str:
        """Name of the DUT."""
        return self.dut.rpartition("/")[0]

    @property
    def port(self) -> int:
        """Index of the DUT's port."""
        return int(self.dut.rpartition("/")[2])


_POLICY = {"enum": [str(policy) for policy in Policy]}
_CHECKS_SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False,
    "properties": {name: {"anyOf": [_POLICY, {"type": "object", "additionalProperties": False, "properties": {
        "policy": _POLICY, "expect": {"type": "string", "maxLength": 200}}}]} for name in ITEMS},
}


class Testbed(_Section):
    """A testbed: a generator, one or more DUTs, and the wires between them. Speeds are in Gbit/s."""

    __test__ = False  # the name begins with "Test", pytest must not collect it

    name: str = Field(pattern=_NAME, description="a short name for results")
    generator: GeneratorHost = Field(description="the traffic generator: cores, ports, ssh, trex")
    duts: tuple[DutHost, ...] = Field(min_length=1, max_length=8, description="list the devices under test")
    wires: tuple[Wire, ...] = Field(min_length=1, max_length=MOST_WIRES, description="list the wires, like {tg: 0, "
                                                                                    "dut: sut1/0, speed: 10G}")
    checks: Annotated[Mapping[str, Setting], BeforeValidator(read_settings), WithJsonSchema(_CHECKS_SCHEMA)] = Field(
        default_factory=dict, description="What the checks before every run are worth here, by name: ignore, warn, "
                                          "fail, or {policy, expect: VALUE}; `harness doctor` lists them")

    @property
    def lab(self) -> bool:
        """Whether this is the embedded lab (its wires are virtual)."""
        return self.name == LAB

    def dut(self, name: str) -> DutHost:
        """The DUT of this name; KeyError when there is none."""
        for dut in self.duts:
            if dut.name == name:
                return dut
        raise KeyError(name)

    def wires_of(self, host: str) -> tuple[tuple[int, Wire], ...]:
        """(index, wire) of each wire to a DUT, in order."""
        return tuple((index, wire) for index, wire in enumerate(self.wires) if wire.host == host)


def load_testbed(path: Path) -> Testbed:
    """Read and check a testbed file. Raises UsageError with one line a problem."""
    return check_testbed(load(path))


def check_testbed(document: Document) -> Testbed:
    """What a testbed file says. Raises UsageError with one line a problem."""
    testbed = document.validate(Testbed)
    problems = [str(document.error(location, message)) for location, message in _contradictions(testbed)]
    if problems:
        raise UsageError("\n".join(problems))
    return testbed.model_copy(update={"duts": tuple(map(_with_cores, testbed.duts))})


def _with_cores(dut: DutHost) -> DutHost:
    """The DUT with ``cores: auto`` chosen by its topology."""
    if dut.cores or dut.topology is None:
        return dut
    told = dut.topology
    return dut.model_copy(update={"cores": Topology.parse(told.cpus).order(told.node, told.busy,
                                                                           siblings=told.siblings)})


def core_notes(testbed: Testbed, most: int) -> tuple[str, ...]:
    """What a testbed file's topologies say about the first ``most`` cores of each DUT, a line each."""
    notes: list[str] = []
    for dut in testbed.duts:
        if dut.topology is not None:
            given = dut.cores[:most]
            port = NearPort(dut.ports[0].ifname or dut.ports[0].pci, dut.topology.node)
            said = remarks(Topology.parse(dut.topology.cpus), given, [port], dut.topology.busy, dut.management)
            notes += [f"{dut.name}: {remark}" for remark in said]
    return tuple(notes)


def lab_testbed(wires: Sequence[WirePlan], tg_cores: Sequence[int], dut_cores: Sequence[int]) -> Testbed:
    """The embedded lab as a testbed, from its wires and its split of cores (:mod:`harness.lab`)."""
    return Testbed(
        name=LAB,
        generator=GeneratorHost(cores=tuple(tg_cores), ports=tuple(_lab_port(wire.tg) for wire in wires)),
        duts=(DutHost(name=DUT_HOST, management="lo", cores=tuple(dut_cores), all_cores=os.cpu_count() or 1,
                      ports=tuple(_lab_port(wire.dut) for wire in wires)),),
        wires=tuple(Wire.model_validate({"tg": wire.tg.index, "dut": f"{wire.host}/{wire.dut.index}",
                                         "speed": f"{wire.speed_gbps:g}G"}) for wire in wires),
    )


def _lab_port(port: PortPlan) -> Port:
    return Port(mac=port.mac, ifname=port.ifname)


def _contradictions(testbed: Testbed) -> list[tuple[Location, str]]:
    problems: list[tuple[Location, str]] = []
    if testbed.name == LAB:
        problems.append((("name",), "lab is the embedded testbed; choose another name"))
    if testbed.generator.netns and (testbed.generator.ssh or testbed.generator.trex):
        problems.append((("generator", "netns"), "is for xdpgen on this machine; remove it, or ssh and trex"))
    problems += _trex_problems(testbed.generator)
    for index, dut in enumerate(testbed.duts):
        at: Location = ("duts", index)
        if dut.name == GENERATOR_HOST:
            problems.append(((*at, "name"), f"results call the generator's host {dut.name}; choose another name"))
        if dut.name in [other.name for other in testbed.duts[:index]]:
            problems.append(((*at, "name"), f"{dut.name} is given twice; choose another name"))
        if dut.ssh is None:
            problems.append((at, "ssh is missing; how to reach it: {address: ..., user: root}"))
        if dut.management in [port.ifname for port in dut.ports]:
            problems.append(((*at, "management"), f"{dut.management} is also a test port; SSH would be cut off"))
        problems += [((*at, *place), message) for place, message in _topology_problems(dut)]
        beyond = [core for core in dut.cores if core >= dut.all_cores]
        if beyond:
            problems.append(((*at, "cores"), f"core {beyond[0]} does not exist; all_cores says {dut.all_cores}, so "
                                             f"cores are 0 to {dut.all_cores - 1}"))
        problems += [((*at, "ports", number), "is known by neither ifname nor pci; give one of them")
                     for number, port in enumerate(dut.ports) if not (port.ifname or port.pci)]
    return problems + _wire_problems(testbed) + _mac_problems(testbed)


def _trex_problems(generator: GeneratorHost) -> list[tuple[Location, str]]:
    """What keeps TRex from being started with these ports and cores."""
    trex, at = generator.trex, ("generator", "trex")
    if trex is None:
        return []
    problems: list[tuple[Location, str]] = []
    if trex.sync_port == trex.async_port:
        problems.append(((*at, "async_port"), f"{trex.async_port} is sync_port too; TRex listens on both"))
    for name, core in (("master_core", trex.master_core), ("latency_core", trex.latency_core)):
        if core is not None and core not in generator.cores:
            problems.append(((*at, name), f"core {core} is not in generator.cores; add it there"))
    if trex.master_core is not None and trex.master_core == trex.latency_core:
        problems.append(((*at, "latency_core"), f"core {trex.latency_core} is master_core too; they cannot share one"))
    without = [index for index, port in enumerate(generator.ports) if port.ifname and not port.pci]
    if trex.start == "auto" and without and any(port.pci for port in generator.ports):
        problems.append((("generator", "ports", without[0]), "has no pci, others have; TRex takes PCI devices or "
                                                             "kernel interfaces, not both"))
    return problems


def _topology_problems(dut: DutHost) -> list[tuple[Location, str]]:
    if dut.topology is None:
        return [] if dut.cores else [(("cores",), "auto needs topology: {cpus: ...} with what "
                                                  f"`{' '.join(LSCPU)}` prints on the host; or list the cores")]
    cpus = {cpu.cpu for cpu in Topology.parse(dut.topology.cpus).cpus}
    problems: list[tuple[Location, str]] = []
    if max(cpus) >= dut.all_cores:
        problems.append((("all_cores",), f"{dut.all_cores}, but topology has core {max(cpus)}; one of them is wrong"))
    absent = [core for core in dut.cores if core not in cpus]
    if absent:
        problems.append((("cores",), f"{listed(absent)} {'is' if len(absent) == 1 else 'are'} not in the topology"))
    return problems


def _wire_problems(testbed: Testbed) -> list[tuple[Location, str]]:
    problems: list[tuple[Location, str]] = []
    tg_ends, dut_ends = set[tuple[int, str]](), set[tuple[str, int]]()
    names = {dut.name: dut for dut in testbed.duts}
    for index, wire in enumerate(testbed.wires):
        at: Location = ("wires", index)
        match = _HOST_PORT.fullmatch(wire.dut)
        if match is None or wire.host not in names or wire.port >= len(names[wire.host].ports):
            known = [f"{dut.name}/{port}" for dut in testbed.duts for port in range(len(dut.ports))]
            problems.append(((*at, "dut"), f"{shown(wire.dut)} is no port of a DUT; one of {', '.join(known)}"))
            continue
        if wire.tg >= len(testbed.generator.ports):
            problems.append(((*at, "tg"), f"the generator has no port {wire.tg}; it has "
                                          f"{len(testbed.generator.ports)}, counted from 0"))
        if (wire.host, wire.port) in dut_ends:
            problems.append((at, f"port {wire.port} of {wire.host} already has a wire"))
        elif (wire.tg, wire.host) in tg_ends:
            problems.append((at, f"port {wire.tg} of generator already has a wire to {wire.host}; another one, "
                                 "through a switch, goes to another host"))
        tg_ends.add((wire.tg, wire.host))
        dut_ends.add((wire.host, wire.port))
    wired = {wire.host for wire in testbed.wires}
    problems += [(("duts", index), f"{dut.name} has no wire; add one under wires")
                 for index, dut in enumerate(testbed.duts) if dut.name not in wired]
    return problems


def _mac_problems(testbed: Testbed) -> list[tuple[Location, str]]:
    places: list[tuple[Location, Port]] = [
        (("generator", "ports", i), port) for i, port in enumerate(testbed.generator.ports)]
    places += [(("duts", d, "ports", i), p) for d, dut in enumerate(testbed.duts) for i, p in enumerate(dut.ports)]
    seen: dict[str, Location] = {}
    problems: list[tuple[Location, str]] = []
    for location, port in places:
        if port.mac in seen:
            problems.append(((*location, "mac"), f"{port.mac} is given twice; every port has its own MAC"))
        seen[port.mac] = location
    return problems


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a testbed file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Testbed.model_json_schema(),
            "title": "Harness testbed"}

