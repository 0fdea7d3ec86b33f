# SPDX-License-Identifier: Apache-2.0
"""Processes by identity (pid and start time), so that a recycled pid is never mistaken for one of the lab's."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from harness.lab.errors import LabError

#: Signal and seconds of patience: what a process gets to put its things in order before the next one.
STOP_LADDER: tuple[tuple[signal.Signals, float], ...] = (
    (signal.SIGINT, 1.0),
    (signal.SIGTERM, 1.0),
    (signal.SIGKILL, 3.0),
)


@dataclass(frozen=True, order=True)
class ProcessId:
    """A process that cannot be confused with a later one of the same pid: ``start`` is field 22 of /proc/PID/stat,
    clock ticks after boot."""

    pid: int
    start: int


def boot_id() -> str:
    """The kernel's random id of this boot: pids and namespaces of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def stat_fields(text: str) -> tuple[str, str, int]:
    """``(comm, state, start)`` of a /proc/PID/stat line. The comm may hold spaces and parentheses; ValueError when the
    line is none."""
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    return text[opening + 1 : closing], fields[0], int(fields[19])


def _stat(pid: int) -> tuple[str, str, int] | None:
    try:
        return stat_fields(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def identify(pid: int) -> ProcessId | None:
    """The identity of a process that exists now (a zombie included), or None."""
    stat = _stat(pid)
    return None if stat is None else ProcessId(pid, stat[2])


def alive(process: ProcessId) -> bool:
    """Whether this very process still runs. A zombie does not, unless threads of it do: SIGKILL ends the leader
    before a thread that is inside a system call."""
    stat = _stat(process.pid)
    if stat is None or stat[2] != process.start:
        return False
    if stat[1] not in "ZX":
        return True
    try:
        return len(os.listdir(f"/proc/{process.pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_pids() -> list[int]:
    """Every pid of this pid namespace, now."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def comm_of(pid: int) -> str | None:
    """The name of a process or kernel thread (kernels >= 5.17 give kernel threads' names in full), or None."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None


def running(comm: str) -> bool:
    """Whether any process of this name runs (one that has ended and waits for its parent does not)."""
    candidates = (identify(pid) for pid in all_pids() if comm_of(pid) == comm)
    return any(alive(process) for process in candidates if process is not None)


def _signal_and_wait(processes: Collection[ProcessId], number: signal.Signals, patience_s: float) -> None:
    """Send to each (through a pidfd, so never to a successor) and wait until all have ended or patience has."""
    deadline = time.monotonic() + patience_s
    poller = select.poll()
    waiting: set[int] = set()
    try:
        for process in processes:
            try:
                fd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            if identify(process.pid) != process:
                os.close(fd)
                continue
            waiting.add(fd)
            poller.register(fd, select.POLLIN)
            with contextlib.suppress(ProcessLookupError):  # it ended just now; the poll below sees that
                signal.pidfd_send_signal(fd, number)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poller.poll(left * 1000):
                poller.unregister(fd)
                waiting.discard(fd)
                os.close(fd)
    finally:
        for fd in waiting:
            os.close(fd)


def stop_all(find: Callable[[], Collection[ProcessId]]) -> None:
    """End every process that ``find`` returns, and those it finds next: INT, TERM, KILL, each with patience.

    Raises :class:`LabError` naming processes that survive SIGKILL (stuck inside the kernel).
    """
    for number, patience_s in STOP_LADDER:
        found = find()
        if not found:
            return
        _signal_and_wait(found, number, patience_s)
    deadline = time.monotonic() + STOP_LADDER[-1][1]
    while found := find():
        if time.monotonic() > deadline:
            names = ", ".join(f"{process.pid} ({comm_of(process.pid)})" for process in found)
            raise LabError(f"processes of the lab survive SIGKILL: {names}; look at dmesg, then try again")
        _signal_and_wait(found, signal.SIGKILL, 0.2)
