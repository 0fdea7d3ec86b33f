# SPDX-License-Identifier: Apache-2.0
"""Where a port's interrupts arrive: before a stack is deployed, once it is, and whether that held during the point."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from harness.errors import HostError
from harness.host.contract import Dut
from harness.host.interrupts import affinities
from harness.host.tuning.steering import irqbalance_state
from harness.records import TuningChange

_DAEMON = "irqbalance"


class InterruptWatch:
    """Made before the stack is deployed. A stack may take a port from the kernel, with its interrupts: what is not
    there at both of two looks is not compared."""

    def __init__(self, dut: Dut, ifnames: Sequence[str]) -> None:
        self._dut, self._ifnames = dut, ifnames
        self._last = self._look()

    def changes(self) -> list[TuningChange]:
        """What the stack moved, and whether irqbalance was stopped for it; call once it is deployed."""
        return self._compare("applied", "")

    def moved(self) -> list[TuningChange]:
        """What has been moved since by somebody else; call after the measurement."""
        return self._compare("moved", "not by the harness: the interrupts did not stay where they were put")

    def _compare(self, status: str, reason: str) -> list[TuningChange]:
        before, self._last = self._last, self._look()
        return [TuningChange(item=_DAEMON if name == _DAEMON else "interrupts",
                             target=self._dut.name if name == _DAEMON else name, before=before[name], after=value,
                             status=status, reason=reason)
                for name, value in self._last.items() if before.get(name, value) != value]

    def _look(self) -> dict[str, str]:
        found = affinities(self._dut, self._ifnames)
        if found and self._dut.which("systemctl") is not None:
            with suppress(HostError):  # a host that has systemctl and no systemd, for one: nobody can tell
                found[_DAEMON] = irqbalance_state(self._dut)
        return found
