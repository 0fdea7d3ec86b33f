# SPDX-License-Identifier: Apache-2.0
"""What no stack can exceed: the generator's ceiling and the line rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Ceiling
from harness.report.identity import one_line
from harness.report.numbers import finite
from harness.report.summarise import PointSummary

#: Of each kind.
_MOST = 4


@dataclass(frozen=True)
class Limit:
    """Something no stack can exceed, pps."""

    name: str
    pps: float


def limits_of(points: Sequence[PointSummary], ceilings: Sequence[Ceiling]) -> list[Limit]:
    """The generator's ceilings for these frames, then the line rates."""
    frames = points[0].plan.frames
    hosts = {point.plan.host for point in points}
    most = [(c.host, next((p for p in (c.kept_pps, c.sent_pps, c.received_pps) if p is not None), None))
            for c in ceilings if c.frames == frames and c.host in hosts]
    limits = [Limit("generator’s ceiling" + (f" to {one_line(host, 20)}" if len(hosts) > 1 else ""), pps)
              for host, value in most if (pps := finite(value)) and pps > 0]
    rates = {pps for p in points if (pps := finite(p.plan.line_rate_pps)) and pps > 0}
    return limits[:_MOST] + [Limit("line rate", pps) for pps in sorted(rates)[:_MOST]]
