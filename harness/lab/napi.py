# SPDX-License-Identifier: Apache-2.0
"""The ``napi/DEVICE-ID`` kernel threads that receive for a device with ``threaded`` = 1, and where they run."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from harness.lab.errors import LabError
from harness.lab.process import all_pids, comm_of

#: Real-time priority of the generator's receiving threads: they must run while the sender spins on the same core.
TG_FIFO_PRIORITY = 10
_APPEAR_S = 2.0
_POLL_S = 0.005


def napi_threads(ifname: str) -> dict[int, int]:
    """NAPI id -> pid of a device's threads, ascending by id, which is the order of its queues. Empty without."""
    pattern = re.compile(rf"napi/{re.escape(ifname)}-(\d+)\Z")
    found = {}
    for pid in all_pids():
        match = pattern.match(comm_of(pid) or "")
        if match:
            found[int(match[1])] = pid
    return dict(sorted(found.items()))


def pin_napi(ifname: str, queues: int, core_of_queue: Callable[[int], int], *, fifo: int = 0) -> dict[int, int]:
    """Pin the thread of queue i to ``core_of_queue(i)``; with ``fifo`` > 0 make it SCHED_FIFO at that priority,
    otherwise an ordinary thread. Returns queue -> pid. May be called again: threads are made anew when the channel
    count, GRO or (without GRO) an XDP program changes.

    Raises LabError when ``queues`` threads do not appear within two seconds.
    """
    threads = _await_threads(ifname, queues)
    policy, priority = (os.SCHED_FIFO, fifo) if fifo else (os.SCHED_OTHER, 0)
    pinned = {}
    for queue, pid in enumerate(threads.values()):
        os.sched_setaffinity(pid, {core_of_queue(queue)})
        os.sched_setscheduler(pid, policy, os.sched_param(priority))
        pinned[queue] = pid
    return pinned


def _await_threads(ifname: str, queues: int) -> dict[int, int]:
    deadline = time.monotonic() + _APPEAR_S
    while len(threads := napi_threads(ifname)) != queues:
        if time.monotonic() > deadline:
            raise LabError(f"{ifname}: {len(threads)} NAPI threads where {queues} are expected; is GRO on, the device "
                           f"up and /sys/class/net/{ifname}/threaded 1 in its namespace?")
        time.sleep(_POLL_S)
    return threads


def await_gone(ifnames: tuple[str, ...], timeout_s: float = 5.0) -> None:
    """Wait until no NAPI thread of these devices is left, that is until the devices are. Raises LabError."""
    deadline = time.monotonic() + timeout_s
    while left := [name for name in ifnames if napi_threads(name)]:
        if time.monotonic() > deadline:
            raise LabError(f"devices {', '.join(left)} are still there {timeout_s:g} s after their namespace was "
                           "removed; a process outside the lab may hold it (lsns -t net)")
        time.sleep(_POLL_S)


def placement(pid: int) -> tuple[frozenset[int], bool]:
    """Cores a thread may use, and whether it is SCHED_FIFO. Raises ProcessLookupError when it has ended."""
    return frozenset(os.sched_getaffinity(pid)), os.sched_getscheduler(pid) == os.SCHED_FIFO
