# SPDX-License-Identifier: Apache-2.0
"""Which cores of its host TRex runs on: one for itself (master), one that receives and times (latency), and for each
pair of ports at least one that sends.

Those that send, and the latency core, belong on the memory node of the pair's NIC, each on a physical core of its own:
SMT siblings of a core in use are taken last, and for more than the first sending core of a pair never. With fewer cores
all threads share one (``low_end``): right for software mode, far too slow for a NIC. Only what TRex cannot do is
refused; what makes it slow is a remark, for the notes of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from harness.errors import TestbedError
from harness.host.topology import Topology, listed

#: TRex keeps its cores in a mask, and its memory nodes in an array, that end here (on x86-64).
MOST_CORE, MOST_NODE = 63, 3


@dataclass(frozen=True)
class TrexPort:
    """A port of the generator. ``interface``: PCI address, or name of a kernel interface. ``mac``: its own, ``peer``:
    of the DUT's port at the other end. ``node``: memory node of its NIC, None or -1 where the host does not say."""

    interface: str
    mac: str
    peer: str
    node: int | None = None


@dataclass(frozen=True)
class CorePlan:
    """Which core does what. ``threads``: those that send, by pair of ports. ``single``: one core for everything.
    ``remarks``: what is questionable about it, a sentence each."""

    master: int
    latency: int
    threads: tuple[tuple[int, ...], ...]
    single: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[int, ...]:
        """Every core of TRex's, ascending."""
        return tuple(sorted({self.master, self.latency, *(core for group in self.threads for core in group)}))


def nodes_of(ports: Sequence[TrexPort]) -> tuple[int | None, ...]:
    """The memory node of each pair of ports: its first port's, or its second's where that one's is not known; None
    where neither is."""
    known = [port.node if port.node is not None and port.node >= 0 else None for port in ports]
    return tuple(next((node for node in known[first:first + 2] if node is not None), None)
                 for first in range(0, len(ports), 2))


def plan_cores(cores: Sequence[int], ports: Sequence[TrexPort], topology: Topology | None, *,
               software: bool, master: int | None = None, latency: int | None = None) -> CorePlan:
    """Share ``cores`` out. ``master``, ``latency``: cores (of these) that the testbed names, None to choose. Each pair
    gets as many sending cores as the others, one in software mode. Where a pair's NIC has cores of its node among them
    it gets no others, unless they do not suffice for one. Raises TestbedError for cores that the host or TRex does not
    know, too few of them for NICs, a memory node that TRex does not know, and a latency core where all share one."""
    nodes = nodes_of(ports)
    _refuse(cores, nodes, topology)
    host = _Host(topology)
    needed = len(nodes) + 2
    if len(cores) < needed:
        if not software:
            raise TestbedError(f"TRex needs {needed} cores for {len(ports)} {'port' if len(ports) == 1 else 'ports'} "
                               "(master, latency, one that sends for each pair), and generator.cores has "
                               f"{len(cores)}")
        if latency is not None:
            raise TestbedError(f"generator.trex.latency_core cannot be core {latency}: of {needed} cores that TRex "
                               f"needs generator.cores has {len(cores)}, so that all its threads share one; leave it "
                               "out, or add cores")
        one = master if master is not None else min(cores, key=lambda core: (not host.near_any(core, nodes), core))
        plan = CorePlan(one, one, tuple((one,) for _ in nodes), single=True)
    else:
        plan = _Sharing(host, cores, nodes, software=software).plan(master, latency)
    return replace(plan, remarks=tuple(_remarks(plan, cores, ports, host, software=software)))


def _refuse(cores: Sequence[int], nodes: Sequence[int | None], topology: Topology | None) -> None:
    beyond = [core for core in cores if core > MOST_CORE]
    if beyond:
        raise TestbedError(f"TRex cannot run on {listed(beyond)}: it knows cores 0 to {MOST_CORE}; name others under "
                           "generator.cores")
    if topology is not None:
        absent = [core for core in cores if topology.find(core) is None]
        if absent:
            raise TestbedError(f"the generator's host has no {listed(absent)}; correct generator.cores")
    far = [node for node in nodes if node is not None and node > MOST_NODE]
    if far:
        raise TestbedError(f"TRex cannot use a NIC on memory node {far[0]}: it knows nodes 0 to {MOST_NODE}; use ports "
                           "of another slot, or have the firmware make fewer nodes (NPS, SNC)")


class _Host:
    """A topology that may be unknown: every core is then a physical one, and none is far from a NIC."""

    def __init__(self, topology: Topology | None) -> None:
        self.topology = topology

    def node(self, core: int) -> int | None:
        """Memory node of a core, None where it is not known."""
        found = self.topology.find(core) if self.topology is not None else None
        return found.node if found is not None and found.node >= 0 else None

    def siblings(self, core: int) -> tuple[int, ...]:
        return self.topology.siblings(core) if self.topology is not None else ()

    def near(self, core: int, node: int | None) -> bool:
        """Whether a core is on this node, as far as is known."""
        return node is None or self.node(core) in (None, node)

    def near_any(self, core: int, nodes: Sequence[int | None]) -> bool:
        """Whether it is on the node of any NIC."""
        return any(self.near(core, node) for node in nodes)

    def crowded(self, core: int, used: Collection[int]) -> bool:
        """Whether a used core is on the same physical one."""
        return any(other in used for other in self.siblings(core))


class _Sharing:
    """Cores being shared out: a sending one for each pair, then master and latency, then more that send."""

    def __init__(self, host: _Host, cores: Sequence[int], nodes: Sequence[int | None], *, software: bool) -> None:
        self._host, self._nodes, self._software = host, nodes, software
        self._left = sorted(cores)
        self._used: list[int] = []
        self._sending: list[list[int]] = [[] for _ in nodes]

    def plan(self, master: int | None, latency: int | None) -> CorePlan:
        for chosen in (master, latency):
            if chosen is not None:
                self._claim(chosen)
        # A pair without cores on its node takes any, and so do those that nothing is known of: after the others.
        reach = [node if any(self._host.node(core) == node for core in self._left) else None for node in self._nodes]
        pairs = sorted(range(len(reach)), key=lambda pair: reach[pair] is None)
        for pair in pairs:
            self._sending[pair].append(self._first(reach[pair]))
        chosen_master = master if master is not None else self._master()
        chosen_latency = latency if latency is not None else self._latency()
        while not self._software and self._one_more(pairs, reach):
            pass
        return CorePlan(chosen_master, chosen_latency, tuple(tuple(sorted(group)) for group in self._sending))

    def _claim(self, core: int) -> None:
        self._left.remove(core)
        self._used.append(core)

    def _take(self, worth: Callable[[int], tuple[float, ...]]) -> int:
        """The core of which this is least."""
        best = min(self._left, key=worth)
        self._claim(best)
        return best

    def _first(self, node: int | None) -> int:
        host = self._host
        return self._take(lambda core: (not host.near(core, node), host.crowded(core, self._used), core == 0, core))

    def _beside_sending(self, core: int) -> bool:
        return self._host.crowded(core, [one for group in self._sending for one in group])

    def _master(self) -> int:
        """Far from every NIC, which leaves the near ones to those that send; else core 0, which does the host's own
        work as well."""
        host = self._host
        return self._take(lambda core: (self._beside_sending(core), host.near_any(core, self._nodes),
                                        host.crowded(core, self._used), core != 0, core))

    def _latency(self) -> int:
        """On the node of a NIC: of several, the one with the most cores to spare for each of its pairs."""
        host, nodes = self._host, self._nodes
        free = [core for core in self._left if not host.crowded(core, self._used)]

        def spare(core: int) -> float:
            node = host.node(core)
            return sum(host.node(other) == node for other in free) / max(1, list(nodes).count(node))

        return self._take(lambda core: (not host.near_any(core, nodes), self._beside_sending(core),
                                        host.crowded(core, self._used), -spare(core), core == 0, core))

    def _one_more(self, pairs: Sequence[int], reach: Sequence[int | None]) -> bool:
        """One more sending core for each pair, for TRex takes one number for all; False where there is none for
        some."""
        picked: dict[int, int] = {}
        for pair in pairs:
            taken = [*self._used, *picked.values()]
            fit = [core for core in self._left if core not in taken and self._host.near(core, reach[pair])
                   and not self._host.crowded(core, taken)]
            if not fit:
                return False
            picked[pair] = min(fit, key=lambda core: (core == 0, core))
        for pair, core in picked.items():
            self._claim(core)
            self._sending[pair].append(core)
        return True


def _remarks(plan: CorePlan, cores: Sequence[int], ports: Sequence[TrexPort], host: _Host, *,
             software: bool) -> list[str]:
    """What slows TRex down, with the remedy."""
    nodes = nodes_of(ports)
    said = _split_pairs(ports)
    for pair, (node, group) in enumerate(zip(nodes, plan.threads, strict=True)):
        far = [core for core in group if not host.near(core, node)]
        if far:
            said.append(f"TRex sends through {_named(ports, pair)}, on memory node {node}, from {_placed(far, host)}: "
                        f"every frame crosses between them; {_remedy(node, len(far), cores, host)}")
    if not plan.single and not host.near_any(plan.latency, nodes):
        said.append(f"TRex times latency frames on {_placed([plan.latency], host)}, and no port of it is there: they "
                    "cross between nodes before they are timed; "
                    f"{_remedy(next(node for node in nodes if node is not None), 1, cores, host)}")
    seen: set[int] = set()
    for core in plan.used:
        mates = [core, *(other for other in host.siblings(core) if other in plan.used)]
        if len(mates) > 1 and core not in seen:
            said.append(f"TRex runs on {listed(mates)}, SMT siblings of one physical core, for want of others in "
                        "generator.cores: what one does slows the other")
        seen.update(mates)
    idle = [core for core in cores if core not in plan.used]
    if idle and not software:
        said.append(f"TRex leaves {listed(idle)} of generator.cores unused: it sends from as many cores for each pair "
                    "of ports, on its NIC's memory node, one of each physical core")
    return said


def _split_pairs(ports: Sequence[TrexPort]) -> list[str]:
    """Of pairs whose two ports are on different nodes."""
    said = []
    for first in range(0, len(ports) - 1, 2):
        one, other = ports[first], ports[first + 1]
        if one.node is not None and other.node is not None and min(one.node, other.node) >= 0 \
                and one.node != other.node:
            said.append(f"{_named(ports, first // 2)}, a pair to TRex, are on memory nodes {one.node} and "
                        f"{other.node}: the same cores, of node {one.node}, send through both; order generator.ports "
                        "so that pairs (first and second, third and fourth) are of one node")
    return said


def _remedy(node: int | None, count: int, cores: Collection[int], host: _Host) -> str:
    """Where ``count`` cores of a node can be had, one of each physical core."""
    known = host.topology.cpus if host.topology is not None else ()
    there = [cpu.cpu for cpu in known if cpu.node == node and cpu.cpu not in cores and cpu.cpu <= MOST_CORE
             and not any(mate in cores or mate < cpu.cpu for mate in host.siblings(cpu.cpu))]
    if there:
        return f"give it cores of node {node} under generator.cores, such as {listed(there[:count])}"
    return f"node {node} has no other cores for it: use ports of another slot"


def _named(ports: Sequence[TrexPort], pair: int) -> str:
    """``ports 0 and 1 (0000:3b:00.0, 0000:3b:00.1)``."""
    members = range(len(ports))[2 * pair:2 * pair + 2]
    word = "port" if len(members) == 1 else "ports"
    return (f"{word} {' and '.join(map(str, members))} "
            f"({', '.join(ports[index].interface for index in members)})")


def _placed(cores: Sequence[int], host: _Host) -> str:
    """``cores 1 and 2 of node 0``; of several nodes ``core 1 of node 0, core 6 of node 1``."""
    nodes = sorted({node for core in cores if (node := host.node(core)) is not None})
    return ", ".join(f"{listed([core for core in cores if host.node(core) == node])} of node {node}" for node in nodes)
