# SPDX-License-Identifier: Apache-2.0
"""Pauses: times in which a core stood still, and what they excuse (design.md, "Pauses").

A pause matters to a trial only when frames could pile up beyond what the shortest queue on the path holds. A veth ring
holds 256 frames (lab-facts.md); half of that is taken as the limit, since a pause seldom finds the ring empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.records import Pauses

RING_FRAMES = 256

#: (start ns, length ns) on one clock.
Interval = tuple[int, int]


@dataclass(frozen=True)
class PauseLog:
    """The pauses that fell into a trial, by side."""

    generator: Sequence[Interval]
    dut: Sequence[Interval]

    def record(self, probe: str) -> Pauses:
        """As stored with the trial."""
        every = [length for _, length in (*self.generator, *self.dut)]
        return Pauses(
            generator=len(self.generator), dut=len(self.dut), total_ns=sum(every), longest_ns=max(every, default=0),
            probe=probe,
        )

    def could_lose(self, rate_pps: float) -> bool:
        """Whether any pause was long enough for frames at this rate to overflow the shortest ring."""
        if rate_pps <= 0:
            return False
        limit_ns = RING_FRAMES / 2 / rate_pps * 1e9
        return any(length >= limit_ns for _, length in (*self.generator, *self.dut))


def within(intervals: Iterable[Interval], start_ns: int, end_ns: int) -> list[Interval]:
    """Those that overlap [start, end], cut to it."""
    cut = []
    for begin, length in intervals:
        first, last = max(begin, start_ns), min(begin + length, end_ns)
        if last > first:
            cut.append((first, last - first))
    return cut
