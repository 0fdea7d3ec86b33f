# SPDX-License-Identifier: Apache-2.0
"""What a stack's workers did for each connection or packet: CPU, waiting for a core, context switches; their shares.

From the stack's own counters of the load curve's trials, for every stack that has counters of these names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.plan import Role
from harness.records import Phase, Trial
from harness.report.numbers import MISSING, Spread, finite, rate_unit, significant
from harness.report.summarise import PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName, unit_counted

#: The workers' thread time on a core and runnable without one (schedstat), ns; columns show µs.
_TIMES = (("cpu_ns", "Workers’ CPU"), ("wait_ns", "Run-queue wait"))
_SWITCHES = ("voluntary_switches", "involuntary_switches")
#: What each worker took, by the role's name for it.
_TAKEN = ("accepted", "received")
#: Kernel counters of trouble at the listening socket; shown where they rose.
_TROUBLE = ("ListenOverflows", "ListenDrops", "SyncookiesSent", "SyncookiesRecv")
_MOST_WORKERS = 64


def work_table(points: Sequence[PointSummary], names: Mapping[str, PointName]) -> PlainTable | None:
    """One row a point and load; None where no stack counts its workers' scheduling."""
    groups = [(point, load, trials) for point in points for load, trials in _by_load(point)]
    if not groups:
        return None
    role = points[0].plan.role
    unit, each = rate_unit((load for _, load, _ in groups), role.rate_unit), f"per {unit_counted(role)}"
    headings = (Heading("Offered", unit.name), *(Heading(title, f"µs {each}") for _, title in _TIMES),
                Heading("Context switches", each), Heading("Wake-ups", each), Heading("Shares of workers", "%"),
                *((Heading("Listen queue", role.counted),) if role is Role.ACCEPT else ()))
    rows = [(names[point.plan.id], (Cell(unit.text(load)), *_cells(trials, role))) for point, load, trials in groups]
    return PlainTable(headings, tuple(rows), (
        "Run-queue wait: runnable, and another thread (or softirq’s) had the core. Of kernel threads nothing is in "
        "here; the CPU table has the whole core.",))


def _by_load(point: PointSummary) -> list[tuple[float, list[Trial]]]:
    groups: dict[float, list[Trial]] = {}
    for trial in point.trials:
        if trial.phase is Phase.LOAD and trial.status == "ok" and not trial.superseded and "cpu_ns" in _stack(trial) \
                and any(name in _stack(trial) for name in _SWITCHES):
            groups.setdefault(trial.asked_pps, []).append(trial)
    return sorted(groups.items())


def _stack(trial: Trial) -> Mapping[str, object]:
    found = trial.counters.get("stack")
    return found if isinstance(found, dict) else {}


def _per(trials: Sequence[Trial], counters: Sequence[str], factor: float = 1.0) -> Cell:
    spread = Spread.of(sum(finite(_stack(t).get(name)) or 0.0 for name in counters) * factor / t.received
                       for t in trials if t.received)
    return Cell(significant(spread.median)) if spread is not None else Cell(MISSING, (), "nothing was completed")


def _cells(trials: Sequence[Trial], role: Role) -> tuple[Cell, ...]:
    cells = [*(_per(trials, [name], 1e-3) for name, _ in _TIMES), _per(trials, _SWITCHES), _per(trials, ["wakeups"]),
             _shares(trials)]
    if role is Role.ACCEPT:
        cells.append(_trouble(trials))
    return tuple(cells)


def _shares(trials: Sequence[Trial]) -> Cell:
    """What each worker took of all, in the order of the workers, all repeats together: imbalance is seen."""
    taken: dict[int, float] = {}
    for trial in trials:
        workers = trial.counters.get("workers")
        for index, worker in enumerate(workers[:_MOST_WORKERS] if isinstance(workers, list) else ()):
            counts = [finite(worker.get(name)) or 0.0 for name in _TAKEN] if isinstance(worker, dict) else [0.0]
            taken[index] = taken.get(index, 0.0) + max(counts)
    total = sum(taken.values())
    if not total:
        return Cell(MISSING, (), "the stack does not count by worker")
    return Cell(" ".join(f"{100 * count / total:.0f}" for count in taken.values()))


def _trouble(trials: Sequence[Trial]) -> Cell:
    """Overflows, drops and SYN cookies of the listening sockets; 0 when there were none."""
    found = {name: sum(int(finite(_stack(t).get(f"kernel.tcpext.{name}")) or 0) for t in trials) for name in _TROUBLE}
    said = [f"{name} {count:,}" for name, count in found.items() if count]
    return Cell(", ".join(said) or "0")
