# SPDX-License-Identifier: Apache-2.0
"""Whether the process that was making a run is still there."""

from __future__ import annotations

import os
from pathlib import Path

from harness.records import Owner

_PROC = Path("/proc")


def this_process() -> Owner:
    """This process, as ``run.json`` records it."""
    return Owner(pid=os.getpid(), start_ticks=_start_ticks(os.getpid()) or 0, boot_id=_boot_id(),
                 pid_namespace=_pid_namespace())


def gone(owner: Owner) -> bool:
    """Whether the process has ended. False where that cannot be told: it ran on another machine, before the last boot,
    or in another pid namespace."""
    if (owner.boot_id, owner.pid_namespace) != (_boot_id(), _pid_namespace()):
        return False
    return _start_ticks(owner.pid) != owner.start_ticks


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _pid_namespace() -> str:
    return os.readlink(_PROC / "self/ns/pid")


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None when there is no such process, or only its zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold anything; the fields begin behind the last parenthesis.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
