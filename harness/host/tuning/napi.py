# SPDX-License-Identifier: Apache-2.0
"""Where the kernel threads of threaded NAPI run, on the DUT's journal."""

from __future__ import annotations

from collections.abc import Sequence

from harness.host.contract import Dut


def pin_napi(dut: Dut, ifname: str, cores: Sequence[int], *, fifo: int = 0) -> int:
    """Pin the threaded NAPI kthreads of an interface: queue i to core i mod n. Returns how many there are (0: the
    interface's NAPI is not threaded). NAPI ids rise with the queue, so their order is the queues'."""
    threads = sorted(dut.napi_threads(ifname).items())
    for index, (_, pid) in enumerate(threads):
        dut.pin(pid, cores[index % len(cores)], fifo=fifo)
    return len(threads)
