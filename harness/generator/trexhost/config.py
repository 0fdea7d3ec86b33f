# SPDX-License-Identifier: Apache-2.0
"""The text of ``trex_cfg.yaml``: ports in the testbed's order, MACs of both ends, cores by the host's topology.

TRex takes ports in pairs; an odd number is filled with its ``dummy`` port. It wants a core for itself (master), one
that receives and times (latency), and for each pair at least one that sends, all on the memory node of the pair's NIC.
With fewer cores all its threads share one (``low_end``): right for software mode, far too slow for a NIC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import TestbedError
from harness.host.topology import Topology, listed

#: TRex keeps its cores in a mask of this many.
MOST_CORE = 63
#: Length of an interface's name that its af_packet driver takes.
_INDENT = "  "


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
    """Which core does what. ``threads``: those that send, by pair of ports. ``single``: one core for everything."""

    master: int
    latency: int
    threads: tuple[tuple[int, ...], ...]
    single: bool = False

    @property
    def sentence(self) -> str:
        """In words, for messages."""
        if self.single:
            return f"all its threads on core {self.master}"
        sending = "; ".join(listed(list(group)) for group in self.threads)
        return f"master on core {self.master}, latency on core {self.latency}, sending on {sending}"


def plan_cores(cores: Sequence[int], nodes: Sequence[int | None], topology: Topology | None, *,
               software: bool, master: int | None = None, latency: int | None = None) -> CorePlan:
    """Share ``cores`` out among master, latency and the sending threads of each pair. ``nodes``: memory node of each
    pair's NIC. Cores that the testbed names stay what they are told to be; the others go to the pair of their node.
    Raises TestbedError where a NIC's pair gets none."""
    pairs = len(nodes)
    beyond = [core for core in cores if core > MOST_CORE]
    if beyond:
        raise TestbedError(f"TRex cannot run on {listed(beyond)}: it knows cores 0 to {MOST_CORE}; name others under "
                           "generator.cores")
    if topology is not None:
        absent = [core for core in cores if topology.find(core) is None]
        if absent:
            raise TestbedError(f"the generator's host has no {listed(absent)}; correct generator.cores")
    if len(cores) < pairs + 2:
        if not software:
            raise TestbedError(f"TRex needs {pairs + 2} cores for {2 * pairs} ports (master, latency, one that sends "
                               f"for each pair), and generator.cores has {len(cores)}")
        return CorePlan(cores[0], cores[0], tuple((cores[0],) for _ in nodes), single=True)
    left = _housekeepers_first(cores, nodes, topology)
    for chosen in (master, latency):
        if chosen is not None:
            left.remove(chosen)
    chosen_master = master if master is not None else left.pop(0)
    chosen_latency = latency if latency is not None else left.pop(0)
    return CorePlan(chosen_master, chosen_latency, _threads(left, nodes, topology, software=software))


def _housekeepers_first(cores: Sequence[int], nodes: Sequence[int | None], topology: Topology | None) -> list[int]:
    """The cores in the order in which they are best taken for master and latency: those far from every NIC first, and
    core 0 before others, since it does the host's own work as well."""
    near = {node for node in nodes if node is not None and node >= 0}

    def rank(core: int) -> tuple[bool, bool, int]:
        found = topology.find(core) if topology is not None else None
        return bool(found is not None and near and found.node in near), core != 0, core

    return sorted(cores, key=rank)


def _threads(left: Sequence[int], nodes: Sequence[int | None], topology: Topology | None, *,
             software: bool) -> tuple[tuple[int, ...], ...]:
    """Sending cores of each pair, as many for one as for another: TRex takes one number for all. In software mode it
    uses one core a pair."""
    groups: list[list[int]] = [[] for _ in nodes]
    remaining = list(left)
    each = 1 if software else len(remaining) // len(nodes)
    for _ in range(each):
        for group, node in zip(groups, nodes, strict=True):
            group.append(remaining.pop(_nearest(remaining, node, topology)))
    return tuple(tuple(sorted(group)) for group in groups)


def _nearest(cores: Sequence[int], node: int | None, topology: Topology | None) -> int:
    """Index of a core on the node, or of the first one."""
    for index, core in enumerate(cores):
        found = topology.find(core) if topology is not None else None
        if found is not None and found.node == node:
            return index
    return 0


def nodes_of(ports: Sequence[TrexPort]) -> tuple[int | None, ...]:
    """The memory node of each pair of ports."""
    return tuple(ports[first].node for first in range(0, len(ports), 2))


def config_text(ports: Sequence[TrexPort], cores: CorePlan, *, sync_port: int, async_port: int, software: bool,
                speed_gbps: float, memory_mb: int, prefix: str) -> str:
    """The configuration file. ``memory_mb``: of a server on kernel interfaces, which has no hugepages; ``prefix``
    keeps its files apart from those of another TRex on the host."""
    interfaces = [port.interface for port in ports] + ["dummy"] * (len(ports) % 2)
    kernel = all(":" not in port.interface for port in ports)
    lines = [
        "# Written by netstack-harness for one run, and removed after it.",
        "- version: 2",
        f"{_INDENT}interfaces: [{', '.join(map(_quoted, interfaces))}]",
        f"{_INDENT}port_limit: {len(interfaces)}",
        f"{_INDENT}zmq_pub_port: {async_port}",
        f"{_INDENT}zmq_rpc_port: {sync_port}",
    ]
    if kernel:
        lines += [f"{_INDENT}prefix: {prefix}", f"{_INDENT}limit_memory: {memory_mb}"]
    if not software and speed_gbps > 10:
        lines.append(f"{_INDENT}port_bandwidth_gb: {speed_gbps:.0f}")
    lines.append(f"{_INDENT}port_info:")
    for port in ports:
        lines += [f"{_INDENT * 2}- dest_mac: {_quoted(port.peer)}", f"{_INDENT * 3}src_mac: {_quoted(port.mac)}"]
    if len(ports) % 2:
        lines += [f"{_INDENT * 2}- dest_mac: {_quoted(ports[-1].mac)}",
                  f"{_INDENT * 3}src_mac: {_quoted(ports[-1].peer)}"]
    return "\n".join([*lines, *_core_lines(ports, cores)]) + "\n"


def _core_lines(ports: Sequence[TrexPort], cores: CorePlan) -> list[str]:
    if cores.single:
        return [f"{_INDENT}low_end: true", f"{_INDENT}low_end_core: {cores.master}"]
    lines = [f"{_INDENT}c: {len(cores.threads[0])}", f"{_INDENT}platform:",
             f"{_INDENT * 2}master_thread_id: {cores.master}", f"{_INDENT * 2}latency_thread_id: {cores.latency}",
             f"{_INDENT * 2}dual_if:"]
    for node, group in zip(nodes_of(ports), cores.threads, strict=True):
        lines += [f"{_INDENT * 3}- socket: {max(0, node or 0)}",
                  f"{_INDENT * 4}threads: [{', '.join(map(str, group))}]"]
    return lines


def _quoted(text: str) -> str:
    """For YAML; every value here is a MAC, a PCI address or an interface's name, and holds no quote."""
    return f'"{text}"'
