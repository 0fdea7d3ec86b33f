# SPDX-License-Identifier: Apache-2.0
"""Rates from counters, computed when asked for: no timer runs while the generator's core is busy."""

from __future__ import annotations

#: TRex's sampling period in seconds; each period new = (old + sample) / 2.
PERIOD = 0.5


class LazyRate:
    """Per-second rate of one counter, smoothed as TRex does, sampled only on demand.

    A gap of k periods between two questions is treated as k periods at the gap's mean rate.
    """

    def __init__(self) -> None:
        self._at: float | None = None
        self._value = 0
        self.rate = 0.0

    def restart(self, now: float, value: int) -> None:
        """Begin a new window here (traffic starts): time before it does not count."""
        self._at, self._value = now, value

    def sample(self, now: float, value: int) -> float:
        """The rate at ``now``, the counter standing at ``value``."""
        if self._at is None:
            self.restart(now, value)
            return self.rate
        elapsed = now - self._at
        if elapsed >= PERIOD:
            mean = (value - self._value) / elapsed
            self.rate = mean + (self.rate - mean) * 0.5 ** int(elapsed / PERIOD)
            self.restart(now, value)
        return self.rate
