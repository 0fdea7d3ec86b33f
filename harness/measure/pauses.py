# SPDX-License-Identifier: Apache-2.0
"""Pauses: times in which a core stood still, and what they excuse (design.md, "Pauses").

A pause matters to a trial only when frames could pile up beyond what the shortest queue on the path holds. A veth ring
holds 256 frames (lab-facts.md); half of that is taken as the limit, since a pause seldom finds the ring empty. It
excuses at most the frames that arrived while it lasted, and only at its own side: the DUT's pauses what was lost on the
way through the DUT, the generator's what was lost on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.measure.accounting import QDISC, RETURN, TG_RECEIVE
from harness.records import Pauses

RING_FRAMES = 256
#: A discipline's queue overflows when the port does not take frames: on a virtual wire while the generator pauses.
RETURN_PLACES = frozenset({RETURN, QDISC, TG_RECEIVE})

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

    def excuses(self, losses: Mapping[str, int], rate_pps: float) -> bool:
        """Whether pauses account for all of these losses (frames by place) at this rate."""
        return all(lost <= most for lost, most in self._by_side(losses, rate_pps))

    def lost_at_most(self, losses: Mapping[str, int], rate_pps: float) -> int:
        """Of these losses those that pauses can have cost: on each side no more than arrived meanwhile."""
        return sum(min(lost, math.floor(most)) for lost, most in self._by_side(losses, rate_pps))

    def _by_side(self, losses: Mapping[str, int], rate_pps: float) -> tuple[tuple[int, float], tuple[int, float]]:
        """(frames lost, frames that arrived in its pauses): through the DUT, and on the way back."""
        back = sum(count for place, count in losses.items() if place in RETURN_PLACES)
        return (sum(losses.values()) - back, at_risk(self.dut, rate_pps)), (back, at_risk(self.generator, rate_pps))


def at_risk(pauses: Iterable[Interval], rate_pps: float) -> float:
    """Frames that arrived during the pauses long enough to half fill a ring: the most that they can have lost."""
    frames = [length * rate_pps / 1e9 for _, length in pauses]
    return sum(count for count in frames if count >= RING_FRAMES / 2)


def within(intervals: Iterable[Interval], start_ns: int, end_ns: int) -> list[Interval]:
    """Those that overlap [start, end], cut to it."""
    cut = []
    for begin, length in intervals:
        first, last = max(begin, start_ns), min(begin + length, end_ns)
        if last > first:
            cut.append((first, last - first))
    return cut
