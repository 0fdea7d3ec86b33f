# SPDX-License-Identifier: Apache-2.0
"""Anomalies and the way to the evidence kept of each, relative to the page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from harness.records import Anomaly
from harness.report.identity import one_line
from harness.report.summarise import PointSummary
from harness.report.tables import PointName
from harness.store import ANOMALIES, EVIDENCE

MOST_ROWS = 200


@dataclass(frozen=True)
class AnomalyRow:
    """One anomaly. ``href``: its evidence, "" where there is none to be found."""

    name: PointName
    repeat: str
    kind: str
    what: str
    evidence: str
    href: str


def anomaly_rows(run: Path, points: Sequence[PointSummary], names: dict[str, PointName],
                 page: Path | None) -> tuple[AnomalyRow, ...]:
    """Every anomaly of a run. ``page``: the folder that the page is written to; None: no links."""
    rows = [_row(run, names[point.plan.id], outcome.repeat, outcome.anomaly, page)
            for point in points for outcome in point.outcomes if outcome.anomaly is not None]
    return tuple(rows[:MOST_ROWS])


def _row(run: Path, name: PointName, repeat: int, anomaly: Anomaly, page: Path | None) -> AnomalyRow:
    trial = "" if anomaly.trial is None else f", trial {anomaly.trial}"
    evidence = f"{ANOMALIES}/{one_line(anomaly.folder, 160)}" if anomaly.folder else "none was kept"
    return AnomalyRow(name, f"repeat {repeat}{trial}", one_line(anomaly.kind, 40), one_line(anomaly.what, 600),
                      evidence, _href(run, anomaly.folder, page))


def _href(run: Path, folder: str, page: Path | None) -> str:
    """The way to a plain file below the run's directory, whatever its record says."""
    if page is None or not re.fullmatch(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}", folder):
        return ""
    place = run.resolve() / ANOMALIES / folder / EVIDENCE
    if place.resolve() != place or not place.is_file():
        return ""
    return quote(os.path.relpath(place, page.resolve()))
