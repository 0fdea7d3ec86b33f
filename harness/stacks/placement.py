# SPDX-License-Identifier: Apache-2.0
"""Where the main thread of a stack in user space and its memory go."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.errors import HostError, StackError
from harness.host.contract import Dut
from harness.host.facts import expand
from harness.host.pci import names, numa_node
from harness.host.tuning.memory import hugepages

NODES = "/sys/devices/system/node"
HUGEPAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB"
RELEASE_S = 5.0


def main_core(dut: Dut, given: tuple[int, ...]) -> int:
    """Where the thread that waits for commands goes: a core that does no work, of the workers' memory node where there
    is one, because DPDK keeps buffers on the node of every lcore."""
    online = dut.read("/sys/devices/system/cpu/online")
    node = node_of(dut, given[0])
    near = "" if node is None else dut.read(f"{NODES}/node{node}/cpulist", "")
    free = [core for cores in (near, online) if cores.strip() for core in expand(cores) if core not in given]
    return free[0] if free else given[0]


def node_of(dut: Dut, core: int) -> int | None:
    """Memory node of a core; None where the host does not say."""
    found = [name for name in names(dut, f"/sys/devices/system/cpu/cpu{core}") if name.removeprefix("node").isdigit()
             and name.startswith("node")]
    return int(found[0].removeprefix("node")) if found else None


def memory_nodes(dut: Dut, cores: Sequence[int], devices: Sequence[str]) -> list[int | None]:
    """Nodes on which DPDK needs memory: those of its lcores and of its devices. [None] on hosts with one node."""
    if len([name for name in names(dut, NODES) if name.startswith("node")]) < 2:
        return [None]
    found = {node_of(dut, core) for core in cores} | {numa_node(dut, pci) for pci in devices}
    return [*sorted(node for node in found if node is not None)] or [None]


def reserve(dut: Dut, mib: int, cores: Sequence[int], devices: Sequence[str] = ()) -> None:
    """See that ``mib`` MiB of hugepages are free on every node concerned; journalled. Raises StackError."""
    try:
        for node in memory_nodes(dut, cores, devices):
            hugepages(dut, -(-mib // 2), node)
    except HostError as error:
        raise StackError(str(error)) from error


def keep_hugepages(dut: Dut) -> None:
    """Have the number of hugepages of every node put back in the end (journalled), for a program that reserves what it
    lacks by itself and leaves it."""
    nodes = [name for name in names(dut, NODES) if name.startswith("node")]
    for node in [f"{NODES}/{name}/hugepages/hugepages-2048kB" for name in nodes] or [HUGEPAGES]:
        dut.set_file(f"{node}/nr_hugepages", dut.read(f"{node}/nr_hugepages").strip())


def used_hugepages(dut: Dut) -> int:
    """2 MiB hugepages that someone uses at present."""
    return int(dut.read(f"{HUGEPAGES}/nr_hugepages", "0")) - int(dut.read(f"{HUGEPAGES}/free_hugepages", "0"))


def await_released(dut: Dut, used: int) -> None:
    """Wait until no more hugepages are used than ``used``, by others, before. The kernel lets go of an AF_XDP socket's
    memory a moment after its process has ended; hugepages can be given back only then."""
    deadline = time.monotonic() + RELEASE_S
    while used_hugepages(dut) > used and time.monotonic() < deadline:
        time.sleep(0.02)
