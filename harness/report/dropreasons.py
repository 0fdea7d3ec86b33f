# SPDX-License-Identifier: Apache-2.0
"""The kernel's own reasons for dropping packets, beside loss by place: from a diagnostic trial of each point."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import Phase, Trial
from harness.report.identity import one_line
from harness.report.numbers import MISSING, percent, rate_unit
from harness.report.summarise import PointSummary
from harness.report.tables import Cell, Heading, PlainTable, PointName

MOST_REASONS = 8
_NOTES = (
    "From a trial of its own at the highest load, in which a program looks at every packet that the DUT’s kernel drops "
    "(skb:kfree_skb): its rates are no result. Counted are packets of the test’s ports; where the kernel merged frames "
    "into one packet (GRO) that is one. What a driver, XDP or a bypass drops before the kernel makes a packet of it "
    "has no reason here.",
)


def drop_reason_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> PlainTable | None:
    """A row each of the diagnostic trials; None where there was none."""
    chosen = [(point, trial) for point in points for trial in point.trials
              if trial.phase is Phase.DIAGNOSE and trial.drop_reasons is not None]
    if not chosen:
        return None
    unit = rate_unit((trial.offered_pps for _, trial in chosen), points[0].plan.role.rate_unit)
    headings = (Heading("Offered", unit.name), Heading("Lost", "of sent"), Heading("Lost by place", "counters"),
                Heading("Dropped by the kernel", "packets, by its reason"))
    rows = tuple((names[point.plan.id], (Cell(unit.text(trial.offered_pps)), Cell(percent(trial.loss_ratio, 2)),
                                         _places(trial), _reasons(trial))) for point, trial in chosen)
    return PlainTable(headings, rows, _NOTES)


def _places(trial: Trial) -> Cell:
    """Losses; for role drop, where nothing is to come back, what was discarded stands first."""
    found = sorted(trial.losses.items(), key=lambda item: -item[1])[:MOST_REASONS]
    subs = [f"{one_line(place, 40)}: {count:,}" for place, count in found]
    if trial.unexplained:
        subs.append(f"unexplained: {trial.unexplained:,}")
    return Cell(f"{trial.lost:,}", tuple(subs))


def _reasons(trial: Trial) -> Cell:
    reasons = trial.drop_reasons
    assert reasons is not None
    if reasons.counts is None:
        return Cell(MISSING, (), one_line(reasons.reason, 300) or "not counted")
    found = sorted(reasons.counts.items(), key=lambda item: -item[1])
    subs = [f"{one_line(name, 60)}: {count:,}" for name, count in found[:MOST_REASONS]]
    if len(found) > MOST_REASONS:
        subs.append(f"{len(found) - MOST_REASONS} more in trials.jsonl")
    if reasons.missed:
        subs.append(f"could not be looked at: {reasons.missed:,}")
    return Cell(f"{sum(reasons.counts.values()):,}", tuple(subs))
