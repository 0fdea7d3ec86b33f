# SPDX-License-Identifier: Apache-2.0
"""Tables of how the frames of a point were shared: by receive queue and worker, and by direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.balance import Balance, queue_balance, worker_balance
from harness.plan import Role
from harness.records import Direction, Phase, Trial
from harness.report.identity import clean, one_line
from harness.report.numbers import MISSING, Unit, finite, percent, plural, rate_unit, significant
from harness.report.summarise import PointSummary, RateSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName

#: Members whose shares are written out; of more, the least, the middle and the most.
MOST_SHARES = 8
NO_RSS = "fewer than two live receive queues: nothing can be said about RSS"
_BALANCE_NOTES = (
    "Each point at the highest load offered to it. Even shares read 1 in the last two columns; “busiest” is the "
    "busiest member’s frames ÷ the mean of all, idle ones counted.",
    "Where fewer than two receive queues are live nothing is said about RSS. On a virtual wire the generator’s sending "
    "cores choose the queue, by the hash that a NIC would use.",
)


def fullest(point: PointSummary) -> Trial | None:
    """The trial at the highest load: of the search, or without one of the load curve."""
    for phase in (Phase.SEARCH, Phase.LOAD):
        trials = [t for t in point.trials if t.phase is phase and t.status == "ok" and not t.superseded
                  and finite(t.offered_pps) is not None]
        if trials:
            return max(trials, key=lambda trial: trial.offered_pps)
    return None


def balance_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> PlainTable | None:
    """Shares by receive queue of every port that receives, and by worker where there are several; None without any."""
    chosen = [(point, trial) for point in points if (trial := fullest(point)) is not None]
    role = points[0].plan.role if points else Role.DROP
    rates = rate_unit((trial.offered_pps for _, trial in chosen), role.rate_unit)
    headings = (Heading("Offered", rates.name), Heading("Flows", "a direction"), Heading("Shared by", "live of all"),
                Heading("Shares", "% of frames"), Heading("Busiest", "× mean"), Heading("Jain’s index", "1: even"))
    rows = []
    for point, trial in chosen:
        count = max((d.flows.count for d in point.plan.directions), default=0)
        flows = "–" if role is Role.ACCEPT else f"{count:,}"  # of connections nobody chose a number
        for what, balance, why in balances(point, trial):
            cells = (Cell(rates.text(trial.offered_pps)), Cell(flows), Cell(f"{balance.live} of "
                     f"{len(balance.members)}", (what,)), *_balance_cells(balance, why))
            rows.append((names[point.plan.id], cells))
    return PlainTable(headings, tuple(rows), _BALANCE_NOTES) if rows else None


def balances(point: PointSummary, trial: Trial) -> Iterator[tuple[str, Balance, str]]:
    """(what shared, how, why nothing is said about it)."""
    sending = {d.tx_port for d in point.plan.directions}
    found = False
    for wire in point.plan.wires[:32]:
        balance = queue_balance(trial.counters, wire.dut.ifname) if wire.tg.index in sending else None
        if balance is not None:
            found = True
            yield f"receive queues of {one_line(wire.dut.ifname, 20)}", balance, NO_RSS if balance.live < 2 else ""
    workers = worker_balance(trial.counters)
    if workers is None or len(workers.members) < 2:
        return
    if not workers.members[0][0].startswith("core"):  # the stack's own count of the same queues
        if not found:
            yield "queues, as the stack counts", workers, NO_RSS if workers.live < 2 else ""
        return
    yield "workers", workers, ""


def _balance_cells(balance: Balance, why: str) -> tuple[Cell, Cell, Cell]:
    if why:
        return Cell(MISSING, (), why), Cell("–"), Cell("–")
    return Cell(*_shares(balance)), Cell(significant(balance.busiest)), Cell(significant(balance.jain))


def _shares(balance: Balance) -> tuple[str, tuple[str, ...]]:
    if len(balance.members) <= MOST_SHARES:
        main = " · ".join(percent(share, 1) for _, share in balance.shares)
        return main, (clean(" · ".join(name for name, _ in balance.members), 200),)
    ordered = sorted(share for _, share in balance.shares)
    least, middle, most = (percent(share, 1) for share in (ordered[0], ordered[len(ordered) // 2], ordered[-1]))
    return f"{least} – {most}", (f"median {middle}, {plural(len(ordered), 'member')}",)


def direction_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> PlainTable | None:
    """Each direction and the sum, of points that send both ways, at their NDR, PDR, MRR and on the load curve."""
    entries = [(point, what, trial) for point in points if len(point.plan.directions) > 1
               for what, trial in _named_trials(point) if len(trial.directions) == len(point.plan.directions)]
    if not entries:
        return None
    rates = rate_unit(trial.forwarding_pps for _, _, trial in entries)
    ways = [f"port {d.tx_port} → {d.rx_port}" for d in entries[0][0].plan.directions]
    headings = (Heading("At", "first repeat"), Heading("Offered", f"{rates.name} a direction"),
                *(Heading(f"Forwarded, {way}", rates.name) for way in ways), Heading("Sum", rates.name))
    rows = []
    for point, what, trial in entries:
        each = [_direction_cell(direction, trial, rates) for direction in trial.directions]
        total = rates.text(trial.forwarding_pps * len(trial.directions))
        rows.append((names[point.plan.id], (Cell(what), Cell(rates.text(trial.offered_pps)), *each, Cell(total))))
    return PlainTable(headings, tuple(rows), ("NDR and PDR hold for the direction that lost most.",))


def _direction_cell(direction: Direction, trial: Trial, unit: Unit) -> Cell:
    span = max(trial.real_s, trial.duration_s)
    received = direction.sent - direction.lost
    loss = percent(direction.lost / direction.sent, 3) if direction.sent else MISSING
    return Cell(unit.text(received / span) if span > 0 else MISSING, (f"{loss} lost",))


def _named_trials(point: PointSummary) -> Iterator[tuple[str, Trial]]:
    for summary in point.rates():
        trial = _trial_of(point, summary)
        if trial is not None:
            yield summary.name, trial
    for load in point.loads:
        trial = next((t for t in point.trials if t.phase is Phase.LOAD and t.asked_pps == load.load_pps
                      and not t.superseded), None)
        if trial is not None:
            yield "load curve", trial


def _trial_of(point: PointSummary, summary: RateSummary) -> Trial | None:
    """The trial whose figures a rate of the first repeat is."""
    for outcome in point.outcomes:
        bound = getattr(outcome, summary.name.lower())
        if bound is not None and bound.pps is not None:
            return next((t for t in point.trials if t.forwarding_pps == bound.pps and t.offered_pps == bound.load_pps
                         and t.repeat == outcome.repeat), None)
    return None
