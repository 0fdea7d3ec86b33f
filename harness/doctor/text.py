# SPDX-License-Identifier: Apache-2.0
"""What ``harness doctor`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.records import Check
from harness.texttable import columns

#: In the order in which they are printed.
STATUSES = ("fail", "warn", "unknown", "ok", "ignored", "n/a")


def checks_text(checks: Sequence[Check]) -> str:
    """What is not as expected with reason and remedy, then what cannot be told, then the rest in a line each."""
    ordered = sorted(checks, key=lambda check: STATUSES.index(check.status))
    lines = [line for check in ordered if check.status in ("fail", "warn") for line in _open(check)]
    rows = [(check.status, check.name, _where(check), check.reason or check.value) for check in ordered
            if check.status not in ("fail", "warn")]
    rest = columns(rows).splitlines()
    return "\n".join([*columns([(line,) for line in lines]).splitlines(), *([""] if lines and rest else []), *rest, "",
                      summary(checks)])


def _open(check: Check) -> list[str]:
    return [f"{check.status}  {check.name}  {_where(check)}", f"      {check.value}; expected {check.expected}",
            f"      why: {check.why}", f"      remedy: {check.remedy}"]


def _where(check: Check) -> str:
    return f"{check.host} {check.target}".strip()


def summary(checks: Sequence[Check]) -> str:
    """``31 checks: 1 fail, 2 warn, 20 ok``."""
    count = Counter(check.status for check in checks)
    return f"{len(checks)} checks: " + ", ".join(f"{count[status]} {status}" for status in STATUSES if count[status])
