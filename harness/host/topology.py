# SPDX-License-Identifier: Apache-2.0
"""Which cores of a host to give to stacks: physical cores near the NIC, never two threads of one core, core 0 last.

A topology is what ``lscpu -p=CPU,CORE,SOCKET,NODE`` prints: one line a logical CPU, here called a core as everywhere in
this project. Two logical CPUs of one physical core are SMT siblings: two workers on them share one pipeline, and what
they achieve is not what two cores achieve.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from harness.errors import TestbedError
from harness.host.contract import Dut
from harness.host.interrupts import vectors

#: What :meth:`Topology.parse` reads: CPU, physical core, socket, NUMA node.
LSCPU = ("lscpu", "-p=CPU,CORE,SOCKET,NODE")
MOST_CPUS = 4096
_MOST_ID = 65535


@dataclass(frozen=True)
class Cpu:
    """A logical CPU. ``core``: its physical core (unique on the host), ``node``: its NUMA node, -1 where unknown."""

    cpu: int
    core: int
    socket: int
    node: int


@dataclass(frozen=True)
class Topology:
    """The online CPUs of a host, ascending."""

    cpus: tuple[Cpu, ...]

    @classmethod
    def parse(cls, text: str) -> Topology:
        """From the output of :data:`LSCPU`. Raises ValueError with the line that is wrong and what would be right."""
        cpus = [_cpu(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not cpus or len(cpus) > MOST_CPUS or len({cpu.cpu for cpu in cpus}) != len(cpus):
            raise ValueError(f"{len(cpus)} CPUs, of which {len({cpu.cpu for cpu in cpus})} are distinct; paste what "
                             f"`{' '.join(LSCPU)}` prints on the host, a line for each of its CPUs")
        return cls(tuple(sorted(cpus, key=lambda cpu: cpu.cpu)))

    def find(self, cpu: int) -> Cpu | None:
        """The CPU of this id, None where the host has none."""
        return next((one for one in self.cpus if one.cpu == cpu), None)

    def siblings(self, cpu: int) -> tuple[int, ...]:
        """The other CPUs of its physical core, ascending."""
        found = self.find(cpu)
        return tuple(one.cpu for one in self.cpus if found is not None and one.core == found.core and one.cpu != cpu)

    def order(self, node: int | None, busy: Collection[int] = (), *, siblings: bool = False) -> tuple[int, ...]:
        """The cores in the order in which they are best given out, one of each physical core.

        First those of the NIC's ``node`` (None or -1: not known), then of the same socket, then the others; within
        each by id. The physical cores of core 0 (timers, housekeeping, interrupts that nobody moved) and of ``busy``
        ones (the management interface's interrupts) come last. ``siblings``: after all of them their SMT siblings too,
        in the same order.
        """
        avoided = {cpu.core for cpu in self.cpus if cpu.cpu == 0 or cpu.cpu in busy}
        sockets = {cpu.socket for cpu in self.cpus if node is not None and node >= 0 and cpu.node == node}

        def rank(cpu: Cpu) -> tuple[bool, int, int]:
            distance = 0 if not sockets or cpu.node == node else 1 if cpu.socket in sockets else 2
            return cpu.core in avoided, distance, cpu.cpu

        first: dict[int, Cpu] = {}
        for cpu in self.cpus:
            first.setdefault(cpu.core, cpu)
        best = sorted(first.values(), key=rank)
        others = [cpu for one in best for cpu in self.cpus if cpu.core == one.core and cpu != one] if siblings else []
        return tuple(cpu.cpu for cpu in (*best, *others))

    def apart_from(self, given: Collection[int]) -> tuple[int, ...]:
        """The CPUs of physical cores of which none is given: where other programs do not slow the given ones."""
        used = {cpu.core for cpu in self.cpus if cpu.cpu in given}
        return tuple(cpu.cpu for cpu in self.cpus if cpu.core not in used)


def _cpu(line: str) -> Cpu:
    fields = line.strip().split(",")
    numbers = [int(field) if field.isdecimal() and len(field) <= 5 else None for field in fields]
    cpu, core, socket, node = (*numbers, None, None, None, None)[:4]
    nodeless = len(fields) == 4 and fields[3] in ("", "-")
    if len(fields) != 4 or cpu is None or core is None or socket is None or (node is None and not nodeless):
        raise ValueError(f"{line.strip()[:60]!r} is no line of `{' '.join(LSCPU)}`; it reads CPU,CORE,SOCKET,NODE, "
                         "such as 12,6,0,0")
    if max(cpu, core, socket, node or 0) > _MOST_ID:
        raise ValueError(f"{line.strip()[:60]!r}: ids go up to {_MOST_ID}")
    return Cpu(cpu, core, socket, -1 if node is None else node)


@dataclass(frozen=True)
class NearPort:
    """A test port and the NUMA node of its NIC; None or -1 where the host does not say."""

    ifname: str
    node: int | None


def remarks(topology: Topology, given: Sequence[int], ports: Iterable[NearPort] = (), busy: Collection[int] = (),
            management: str = "") -> list[str]:
    """What is questionable about giving these cores to one stack, a sentence each; empty when all is well.

    ``busy``: cores on which the interrupts of the interface ``management`` arrive.
    """
    said = _sibling_remarks(topology, given)
    for port in ports:
        far = [cpu for one in given if (cpu := topology.find(one)) and cpu.node >= 0 and cpu.node != port.node]
        if port.node is not None and port.node >= 0 and far:
            nodes = ", ".join(str(node) for node in sorted({cpu.node for cpu in far}))
            said.append(f"{listed([cpu.cpu for cpu in far])} {_is(far)} on node {nodes}, the NIC of {port.ifname} on "
                        f"node {port.node}: every frame crosses between them")
    shared = [core for core in given if core in busy]
    if shared:
        said.append(f"interrupts of the management interface {management} arrive on {listed(shared)}")
    if 0 in given and len(topology.cpus) > 1:
        said.append("core 0 is given to stacks: timers and interrupts that nobody moved are served there")
    return said


def _sibling_remarks(topology: Topology, given: Sequence[int]) -> list[str]:
    said, seen = [], set()
    for core in given:
        mates = [other for other in topology.siblings(core) if other in given]
        if mates and core not in seen:
            group = sorted([core, *mates])
            seen.update(group)
            said.append(f"{listed(group)} are SMT siblings: they share one physical core, and do not do the work of "
                        f"{len(group)}")
    return said


def listed(cores: Sequence[int]) -> str:
    """``core 3``, ``cores 2 and 34``, ``cores 1, 2 and 3``; runs of more than two as ``4-9``."""
    parts: list[str] = []
    ordered = sorted(set(cores))
    start = 0
    for index, core in enumerate(ordered):
        if index + 1 == len(ordered) or ordered[index + 1] != core + 1:
            run = ordered[start:index + 1]
            parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(one) for one in run]
            start = index + 1
    word = "core" if len(ordered) == 1 else "cores"
    return f"{word} {parts[0]}" if len(parts) == 1 else f"{word} {', '.join(parts[:-1])} and {parts[-1]}"


def _is(cpus: Sequence[Cpu]) -> str:
    return "is" if len(cpus) == 1 else "are"


def interrupt_cores(dut: Dut, ifname: str) -> tuple[int, ...]:
    """The cores on which interrupts of an interface arrive, ascending; none where the kernel does not say (virtual
    interfaces, interrupts that may arrive anywhere)."""
    cores: set[int] = set()
    for number in vectors(dut, ifname)[:256]:
        text = dut.read(f"/proc/irq/{number}/effective_affinity_list", "").strip()
        if text.isdecimal():
            cores.add(int(text))
    return tuple(sorted(cores))


def check_cores(dut: Dut, given: Sequence[int], ports: Sequence[str], management: str) -> list[str]:
    """:func:`remarks` on cores of a host by its own topology, each beginning with the host's name; ``ports``: the
    interfaces of its test ports. Nothing where the host does not tell its topology. Raises TestbedError when it does
    not have one of the cores."""
    facts = dut.facts()
    text = facts.get("cpu", {}).get("topology")
    if not text:
        return []
    try:
        topology = Topology.parse(str(text))
    except ValueError as error:
        raise TestbedError(f"{dut.name}: its topology cannot be read: {error}") from error
    absent = [core for core in given if topology.find(core) is None]
    if absent:
        there = listed([cpu.cpu for cpu in topology.cpus])
        raise TestbedError(f"{dut.name} has no {listed(absent)} online: it has {there}; correct cores and all_cores in "
                           "the testbed file")
    if dut.virtual:  # the lab gives the quieter cores, and what the generator has is not to be had
        return [f"{dut.name}: {remark}" for remark in remarks(topology, [core for core in given if core])]
    near = [NearPort(name, facts.get("nics", {}).get(name, {}).get("numa_node")) for name in ports]
    busy = interrupt_cores(dut, management)
    return [f"{dut.name}: {remark}" for remark in remarks(topology, given, near, busy, management)]
