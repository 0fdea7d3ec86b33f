# SPDX-License-Identifier: Apache-2.0
"""The checks before the run: what was not as expected, and everything else closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.records import Check
from harness.report.identity import one_line
from harness.rundata import RunData

#: How each status is called, in the order in which they are shown; the first two are open.
WORDS = {"fail": "refuses the run", "warn": "not as expected", "unknown": "cannot be told", "ok": "as expected",
         "ignored": "ignored", "n/a": "has no meaning here"}
_MAX_ROWS = 600


@dataclass(frozen=True)
class CheckRow:
    """One check. ``state``: of :data:`WORDS`."""

    state: str
    name: str
    where: str
    value: str
    expected: str
    why: str
    remedy: str


@dataclass(frozen=True)
class ChecksSection:
    """``odd``: what is not as expected; ``others``: the rest; ``summary``: how many of which."""

    summary: str
    odd: tuple[CheckRow, ...]
    others: tuple[CheckRow, ...]


def checks_section(run: RunData) -> ChecksSection | None:
    """None for a run that was made without checks."""
    order = list(WORDS)
    known = [check for check in run.info.checks if check.status in WORDS][:_MAX_ROWS]
    if not known:
        return None
    known.sort(key=lambda check: order.index(check.status))
    count = Counter(check.status for check in known)
    summary = ", ".join(f"{count[status]} {words}" for status, words in WORDS.items() if count[status])
    return ChecksSection(summary, tuple(_rows(known, ("fail", "warn"))), tuple(_rows(known, order[2:])))


def _rows(checks: Iterable[Check], statuses: Iterable[str]) -> Iterable[CheckRow]:
    chosen = set(statuses)
    for check in checks:
        if check.status in chosen:
            yield CheckRow(WORDS[check.status], one_line(check.name, 40), one_line(f"{check.host} {check.target}", 120),
                           one_line(check.value or check.reason, 300), one_line(check.expected, 200),
                           one_line(check.why, 200), one_line(check.remedy, 300))
