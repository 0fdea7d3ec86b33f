# SPDX-License-Identifier: Apache-2.0
"""A host's wall clock, watched from trial to trial: whether somebody set it meanwhile.

No duration, rate, lease or lock of the harness goes by it, so a clock that jumps spoils no number. But it misdates the
host's own logs, and stacks and programs of others may depend on it: it is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.host.contract import Sampling

#: How far a clock may creep that somebody keeps right: what the kernel lets NTP correct in a second, and our reading.
_CREEP, _READING_S = 0.001, 0.05


class WallClock:
    """Of one host. ``wall_offset_ns`` of samplings is the wall clock less the time since boot."""

    def __init__(self, host: str, now: Callable[[], float] = time.monotonic) -> None:
        self._host, self._now = host, now
        self._last: tuple[float, int] | None = None
        #: A sentence for every time it was set.
        self.remarks: list[str] = []

    def look(self, trial: int, began_s: float, sampling: Sampling) -> float | None:
        """Seconds by which it was set during a trial that has just ended and began at ``began_s`` (of our own monotonic
        clock); None where it was not, or the host does not tell. What happened since the trial before is remarked
        too."""
        if sampling.wall_offset_ns is None:
            return None
        first, last = sampling.wall_offset_ns
        if self._last is not None:
            then, offset = self._last
            self._remark(offset, first, began_s - then, f"before trial {trial}")
        self._last = (self._now(), last)
        return self._remark(first, last, self._last[0] - began_s, f"during trial {trial}")

    def _remark(self, before_ns: int, after_ns: int, passed_s: float, when: str) -> float | None:
        moved = (after_ns - before_ns) / 1e9
        if abs(moved) <= _READING_S + _CREEP * max(0.0, passed_s):
            return None
        self.remarks.append(
            f"{self._host}: its wall clock was set by {moved:+.2f} s {when}. Durations, rates and leases do not go by "
            "it; the host's logs are misdated from there on. Have chrony or systemd-timesyncd keep it, or leave it "
            "alone during a run")
        return moved
