# SPDX-License-Identifier: Apache-2.0
"""Which cores work for the generator and which for the DUT: the quieter ones go to the DUT.

A hypervisor or another process stops a core for milliseconds at a time, and a stopped DUT core reads as loss. So
every core is watched for about a second first. Hardware threads of one physical core stay on one side where possible.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.lab.errors import LabError

#: A gap between two readings of the clock that counts as a pause (lab-facts: 250 us).
PAUSE_NS = 250_000


@dataclass(frozen=True)
class CorePauses:
    """What one core did while it was watched: number of pauses, their sum and the longest, in ns."""

    count: int
    total_ns: int
    longest_ns: int


@dataclass(frozen=True)
class CoreSplit:
    """Core ids of each side, ascending, and what the choice rests on."""

    tg: tuple[int, ...]
    dut: tuple[int, ...]
    pauses: Mapping[int, CorePauses]

    def dut_core_of_queue(self, queue: int) -> int:
        """The DUT core that serves receive queue ``queue``. A frame's queue is the id of the core that sent it, so
        only queues of generator cores ever live: those are spread evenly, by rank."""
        rank = self.tg.index(queue) if queue in self.tg else queue
        return self.dut[rank % len(self.dut)]

    def tg_core_of_queue(self, queue: int) -> int:
        """The generator core that serves receive queue ``queue``; live are those of DUT cores."""
        rank = self.dut.index(queue) if queue in self.dut else queue
        return self.tg[rank % len(self.tg)]


def usable_cores() -> tuple[int, ...]:
    """Core ids that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def physical_cores(cores: Sequence[int], sysfs: Path = Path("/sys/devices/system/cpu")) -> list[tuple[int, ...]]:
    """The cores grouped by physical core (hardware threads together), by lowest id."""
    groups: dict[str, list[int]] = {}
    for core in sorted(cores):
        siblings = sysfs / f"cpu{core}" / "topology" / "thread_siblings_list"
        key = siblings.read_text(encoding="ascii").strip() if siblings.exists() else str(core)
        groups.setdefault(key, []).append(core)
    return [tuple(group) for group in groups.values()]


def watch_pauses(cores: Sequence[int], seconds: float) -> dict[int, CorePauses]:
    """Watch all ``cores`` at once for ``seconds``, with one spinning process each. Raises LabError when one fails."""
    probe = Path(__file__).with_name("pause_probe.py")
    running: dict[int, subprocess.Popen[str]] = {}
    try:
        for core in cores:
            argv = [sys.executable, "-IS", str(probe), str(core), str(seconds), str(PAUSE_NS)]
            running[core] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return {core: _probe_result(core, process, seconds) for core, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def _probe_result(core: int, process: subprocess.Popen[str], seconds: float) -> CorePauses:
    output, errors = process.communicate(timeout=seconds + 30)
    if process.returncode != 0:
        raise LabError(f"the pause probe failed on core {core}: {errors.strip() or process.returncode}")
    count, total, longest = json.loads(output)
    return CorePauses(count, total, longest)


def split_cores(groups: Sequence[tuple[int, ...]], pauses: Mapping[int, CorePauses]) -> CoreSplit:
    """Divide physical cores: the generator gets one core in two, up to half and at least one, beginning with the ones
    that stood still longest (on a tie the lowest, where the machine's own interrupts go).

    A machine whose only physical core has several threads is divided by threads. Raises LabError below two cores.
    """
    if len(groups) == 1:
        groups = [(core,) for core in groups[0]]
    if len(groups) < 2:
        raise LabError("the lab needs two cores, one for the generator and one for the DUT; this process may use one")

    def restlessness(group: tuple[int, ...]) -> tuple[int, int]:
        return (-sum(pauses[core].total_ns for core in group if core in pauses), group[0])

    ranked = sorted(groups, key=restlessness)
    half = len(ranked) // 2
    tg = tuple(sorted(core for group in ranked[:half] for core in group))
    dut = tuple(sorted(core for group in ranked[half:] for core in group))
    return CoreSplit(tg=tg, dut=dut, pauses=dict(pauses))
