# SPDX-License-Identifier: Apache-2.0
"""Loss by place as a table: a row a point, a column a place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.identity import one_line
from harness.report.numbers import finite, percent, rate_unit
from harness.report.shares import fullest
from harness.report.summarise import PointSummary
from harness.report.tables import PointName

_MOST_PLACES = 10
#: A pause is why a ring overflowed, not where: its frames have a place. Hence a part of the sum, and an upper bound.
HOST_PAUSE = "of which host pause, at most"


@dataclass(frozen=True)
class LossRow:
    """Where the frames of one trial went: ``cells`` by LossTable.places, (text, share of sent 0..1)."""

    name: PointName
    offered: str
    lost: str
    cells: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class LossTable:
    """Loss by place at the highest load offered to each point; shares of frames sent, %. ``notes``: places of which no
    counter told, and why; they have a column of "n/a". The last column is of losses that stand in the others already.
    """

    unit: str
    places: tuple[str, ...]
    rows: tuple[LossRow, ...]
    notes: tuple[str, ...] = ()


def loss_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> LossTable | None:
    """Loss by place of each point's trial at the highest load; None when nothing was lost anywhere."""
    chosen = [(point, trial) for point in points if (trial := fullest(point)) is not None]
    places = Counter(place for _, trial in chosen for place, frames in trial.losses.items() if frames)
    if not places and not any(trial.unexplained for _, trial in chosen):
        return None
    unread = {place: reason for _, trial in chosen for place, reason in trial.unread.items()}
    columns = list(dict.fromkeys([*(place for place, _ in places.most_common(_MOST_PLACES)), *unread]))
    rates = rate_unit((trial.offered_pps for _, trial in chosen), points[0].plan.role.rate_unit)
    rows = []
    for point, trial in chosen:
        shares = [_share(trial.lost_at(place), trial.sent) for place in columns]
        shares.append(_share(trial.unexplained, trial.sent))
        shares.append(_share(trial.pauses.lost_at_most if trial.pauses else None, trial.sent))
        rows.append(LossRow(names[point.plan.id], rates.text(trial.offered_pps), percent(trial.loss_ratio, 2),
                            tuple(("0" if s == 0 else percent(s, 2), min(1.0, max(0.0, s or 0.0))) for s in shares)))
    notes = tuple(f"{one_line(place, 40)}: {one_line(reason, 200)}" for place, reason in unread.items())
    heads = (*(one_line(place, 40) for place in columns), "unexplained", HOST_PAUSE)
    return LossTable(rates.name, heads, tuple(rows), notes)


def _share(frames: int | None, sent: int) -> float | None:
    part, whole = finite(frames), finite(sent)
    return part / whole if part is not None and whole else None
