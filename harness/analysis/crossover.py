# SPDX-License-Identifier: Apache-2.0
"""At which loads a poller costs less CPU than a stack that sleeps.

A poller's cores count as fully busy, whatever it finds. Each side takes the core count, of those measured, that costs
least and carries the load without more loss than PDR allows; nothing is extrapolated. Costs are cycles where both sides
have them from one source, else busy cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.loadcurve import Curve, between

if TYPE_CHECKING:
    from harness.analysis.capacity import StackPlan

_STEPS = 400
#: The cores of the kernel's curve end where it ends, to within rounding.
_ROUNDING = 1.0001


@dataclass(frozen=True)
class Crossing:
    """Poller against kernel over the loads ``low`` .. ``high`` (frames per second) of the kernel's load curves.
    ``intervals``: (from, to) of every stretch of loads in which the poller costs no more, ascending; a poller's cost
    rises in steps, so it may win, lose and win again. ``top``: the highest load that both carry, None where there is
    none. ``at``: the load from which it costs no more at every load up to ``top``, None where it costs more there.
    ``unit``: what was compared, "cycles" or "cores"; ``cycles_source``: of the cycles.
    ``cheaper``: at the target, the label of one of them, "" where it is not known with its ``reason``. Costs at the
    target: busy cores and, where cycles were compared, cycles per packet."""

    poller: str
    kernel: str
    low: float
    high: float
    intervals: tuple[tuple[float, float], ...]
    top: float | None
    cheaper: str
    poller_cores: float | None
    kernel_cores: float | None
    reason: str = ""
    #: The most that the poller carried, of the core counts measured.
    most: float | None = None
    unit: str = "cores"
    cycles_source: str = ""
    poller_cycles: float | None = None
    kernel_cycles: float | None = None
    at: float | None = None


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
    most = max((curve.rate for curve in poller.curves if curve.rate is not None), default=None)
    top = None if most is None or most < low else min(most, high)
    source = _common_source(poller, kernel)
    cycles = bool(source)
    intervals = () if top is None else _intervals(poller, kernel, low, top, cycles=cycles)
    polled, worked = poller_cost(poller, target, cycles=cycles), kernel_cost(kernel, target, cycles=cycles)
    cheaper, reason = "", ""
    if polled is not None and worked is not None:
        cheaper = poller.label if polled <= worked else kernel.label
    elif not low <= target <= high:
        reason = "nothing is known: outside the load curves"
    else:
        neither = polled is None and worked is None
        reason = "neither carries the target" if neither else "only one keeps within PDR's loss, in its load curve"
        cheaper = poller.label if polled is not None else kernel.label if worked is not None else ""
    return Crossing(poller.label, kernel.label, low, high, intervals, top, cheaper, poller_cost(poller, target),
                    kernel_cost(kernel, target), reason, most, "cycles" if cycles else "cores", source,
                    polled / target if cycles and polled is not None else None,
                    worked / target if cycles and worked is not None else None,
                    intervals[-1][0] if intervals and intervals[-1][1] == top else None)


def _common_source(poller: StackPlan, kernel: StackPlan) -> str:
    """Of the cycles of all curves that carry something; "" where one has none or another source."""
    curves = [curve for curve in poller.curves if curve.rate is not None] + [c for c in kernel.curves if c.busy]
    sources = {curve.cycles_source if curve.cycles else "" for curve in curves}
    return next(iter(sources)) if len(sources) == 1 else ""


def _intervals(poller: StackPlan, kernel: StackPlan, low: float, top: float, *,
               cycles: bool) -> tuple[tuple[float, float], ...]:
    """Where the poller costs no more, from ``low`` to ``top``; the ends are found by halving the steps of a grid that
    also has every load at which one of the costs bends or jumps."""
    def won(load: float) -> bool:
        polled, worked = poller_cost(poller, load, cycles=cycles), kernel_cost(kernel, load, cycles=cycles)
        return polled is not None and worked is not None and polled <= worked

    bends = [curve.rate for curve in poller.curves if curve.rate is not None]
    bends += [load for curve in kernel.curves for load, _ in curve.busy]
    grid = sorted({low, top, *(load for load in bends if low < load < top),
                   *(low * (top / low) ** (step / _STEPS) for step in range(1, _STEPS))})
    found: list[tuple[float, float]] = []
    begin = previous = low
    before = won(low)
    for load in grid[1:]:
        now = won(load)
        if now != before:
            lost, gained = (previous, load) if now else (load, previous)
            for _ in range(40):
                middle = (lost + gained) / 2
                lost, gained = (lost, middle) if won(middle) else (middle, gained)
            if now:
                begin = gained
            else:
                found.append((begin, gained))
        previous, before = load, now
    return (*found, (begin, top)) if before else tuple(found)


def poller_cost(stack: StackPlan, load: float, *, cycles: bool = False) -> float | None:
    """Cores of the smallest count measured that carries the load; None where none does. ``cycles``: per second
    instead, of the count with the fewest; beyond the ends of its load curve they are those there, as it never sleeps.
    """
    able = [curve for curve in stack.curves if curve.rate is not None and curve.rate >= load]
    if cycles:
        return min((_held(curve.cycles, load) for curve in able), default=None)
    return float(min(curve.cores for curve in able)) if able else None


def _held(points: Sequence[tuple[float, float]], load: float) -> float:
    value = between(points, min(max(load, points[0][0]), points[-1][0])).value
    assert value is not None  # within the curve
    return value


def kernel_cost(stack: StackPlan, load: float, *, cycles: bool = False) -> float | None:
    """Busy cores at the load, or ``cycles`` per second, of the count measured for which they are fewest; None outside
    its load curves."""
    def work(curve: Curve) -> Sequence[tuple[float, float]]:
        return curve.cycles if cycles else curve.busy

    return min((_held(work(curve), load) for curve in stack.curves
                if curve.busy and curve.busy[0][0] <= load <= curve.busy[-1][0] * _ROUNDING), default=None)
