# SPDX-License-Identifier: Apache-2.0
"""What may be behind noise, in words."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.noise import Cause, Suspect
from harness.units import format_duration


def suspected(found: Sequence[Suspect]) -> str:
    """"suspected cause: pauses in 12 of 40 trials (longest 3.1ms)"; that nothing was recorded is said too."""
    if not found:
        return "no cause on record: no pauses, no steal, no other load"
    return "suspected cause: " + "; ".join(_text(suspect) for suspect in found)


def _text(suspect: Suspect) -> str:
    within = f"in {suspect.trials} of {suspect.of} trials"
    if suspect.cause is Cause.PAUSES:
        return f"pauses {within} (longest {format_duration(suspect.worst / 1e9)})"
    if suspect.cause is Cause.STEAL:
        return f"time stolen by the hypervisor {within} (up to {suspect.worst * 100:.1f} % of a core)"
    if suspect.cause is Cause.OTHER_LOAD:
        return f"other load {within}" + (f" ({', '.join(suspect.names)})" if suspect.names else "")
    if suspect.cause is Cause.THROTTLING:
        return f"cores throttled for heat {within}"
    if suspect.of:
        return f"the frequency changed {within} (by up to {suspect.worst * 100:.1f} %)"
    return f"the frequency may change ({', '.join(suspect.names)})"
