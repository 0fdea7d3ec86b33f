# SPDX-License-Identifier: Apache-2.0
"""Whether a poller or a stack that sleeps costs less CPU at a load, and at which load that changes.

A poller's cores count as fully busy, whatever it finds. Each side takes the core count, of those measured, that costs
least and carries the load without more loss than PDR allows; nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.loadcurve import between

if TYPE_CHECKING:
    from harness.analysis.capacity import StackPlan

_STEPS = 400


@dataclass(frozen=True)
class Crossing:
    """Poller against kernel over the loads ``low`` .. ``high`` (frames per second) of the kernel's load curves.
    ``at``: lowest load from which the poller costs no more cores, None where it never does there. ``cheaper``: at the
    target, the label of one of them, "" where it is not known with its ``reason``. Costs: busy cores at the target."""

    poller: str
    kernel: str
    low: float
    high: float
    at: float | None
    cheaper: str
    poller_cores: float | None
    kernel_cores: float | None
    reason: str = ""
    #: The most that the poller carried, of the core counts measured.
    most: float | None = None


def crossings(stacks: Sequence[StackPlan], target: float) -> tuple[Crossing, ...]:
    """Of every pair of a poller and another stack of the same role and frames."""
    return tuple(_pairs(stacks, target))


def _pairs(stacks: Sequence[StackPlan], target: float) -> Iterator[Crossing]:
    for poller in (stack for stack in stacks if stack.polls):
        for kernel in (stack for stack in stacks if not stack.polls):
            if (poller.key.role, poller.key.frames, poller.key.host) == \
                    (kernel.key.role, kernel.key.frames, kernel.key.host):
                found = _crossing(poller, kernel, target)
                if found is not None:
                    yield found


def _crossing(poller: StackPlan, kernel: StackPlan, target: float) -> Crossing | None:
    loads = [load for curve in kernel.curves for load, _ in curve.busy]
    if not loads:
        return None
    low, high = min(loads), max(loads)
    polled, worked = poller_cost(poller, target), kernel_cost(kernel, target)
    cheaper, reason = "", ""
    if polled is not None and worked is not None:
        cheaper = poller.label if polled <= worked else kernel.label
    elif not low <= target <= high:
        reason = "nothing is known: outside the load curves"
    else:
        neither = polled is None and worked is None
        reason = "neither carries the target" if neither else "only one keeps within PDR's loss, in its load curve"
        cheaper = poller.label if polled is not None else kernel.label if worked is not None else ""
    return Crossing(poller.label, kernel.label, low, high, _first(poller, kernel, low, high), cheaper, polled, worked,
                    reason, max((curve.rate for curve in poller.curves if curve.rate is not None), default=None))


def _first(poller: StackPlan, kernel: StackPlan, low: float, high: float) -> float | None:
    """The lowest load at which both carry it and the poller costs no more, to within a step of the grid's halving."""
    def won(load: float) -> bool:
        polled, worked = poller_cost(poller, load), kernel_cost(kernel, load)
        return polled is not None and worked is not None and polled <= worked

    previous: float = low
    for step in range(_STEPS + 1):
        load: float = low * (high / low) ** (step / _STEPS)
        if won(load):
            for _ in range(30 if step else 0):
                middle = (previous + load) / 2
                previous, load = (previous, middle) if won(middle) else (middle, load)
            return load
        previous = load
    return None


def poller_cost(stack: StackPlan, load: float) -> float | None:
    """Cores of the smallest count measured that carries the load; None where none does."""
    able = [curve.cores for curve in stack.curves if curve.rate is not None and curve.rate >= load]
    return float(min(able)) if able else None


def kernel_cost(stack: StackPlan, load: float) -> float | None:
    """Busy cores at the load, of the count measured for which they are fewest; None outside its load curves."""
    readings = [between(curve.busy, min(load, curve.busy[-1][0])) for curve in stack.curves
                if curve.busy and curve.busy[0][0] <= load <= curve.busy[-1][0] * 1.0001]
    costs: list[float] = [reading.value for reading in readings if reading.value is not None]
    return min(costs, default=None)
