# SPDX-License-Identifier: Apache-2.0
"""Hugepages of a DUT, on its journal."""

from __future__ import annotations

from harness.errors import HostError
from harness.host.contract import Dut

_SIZE = "hugepages-2048kB"


def hugepages(dut: Dut, pages_2m: int, node: int | None = None) -> None:
    """See that ``pages_2m`` 2 MiB hugepages are free, on a NUMA node or (None) wherever the host puts them. Raises
    HostError when memory does not allow it."""
    folder = f"/sys/kernel/mm/hugepages/{_SIZE}" if node is None else (
        f"/sys/devices/system/node/node{node}/hugepages/{_SIZE}")
    where, at_boot = ("", "hugepages=") if node is None else (f" on node {node}", f"hugepages={node}:")
    total = int(dut.read(f"{folder}/nr_hugepages"))
    free = int(dut.read(f"{folder}/free_hugepages"))
    if free >= pages_2m:
        return
    wanted = total + pages_2m - free
    try:
        dut.set_file(f"{folder}/nr_hugepages", str(wanted))
    except HostError as error:
        raise HostError(f"{dut.name}: {pages_2m} free 2 MiB hugepages{where} are needed, {free} are there and memory "
                        f"has no room for more: free some, or reserve them at boot ({at_boot}{wanted}) "
                        f"({error})") from error
