# SPDX-License-Identifier: Apache-2.0
"""Hugepages of a DUT, on its journal."""

from __future__ import annotations

from harness.errors import HostError
from harness.host.contract import Dut

_HUGEPAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB"


def hugepages(dut: Dut, pages_2m: int) -> None:
    """See that ``pages_2m`` 2 MiB hugepages are free. Raises HostError when memory does not allow it."""
    total = int(dut.read(f"{_HUGEPAGES}/nr_hugepages"))
    free = int(dut.read(f"{_HUGEPAGES}/free_hugepages"))
    if free >= pages_2m:
        return
    wanted = total + pages_2m - free
    try:
        dut.set_file(f"{_HUGEPAGES}/nr_hugepages", str(wanted))
    except HostError as error:
        raise HostError(f"{dut.name}: {pages_2m} free 2 MiB hugepages are needed, {free} are there and memory has no "
                        f"room for more: free some, or reserve them at boot (hugepages={wanted}) ({error})") from error
