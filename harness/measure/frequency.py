# SPDX-License-Identifier: Apache-2.0
"""CPU frequency of a trial, from the DUT agent's samples wholly inside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from harness.host.contract import CpuSample, Speed
from harness.records import Frequency

#: Registers of 64 bits.
_ROUND = 2**64


def frequency(speed: Speed, inside: Sequence[CpuSample], core: int, nominal_hz: float | None) -> Frequency | None:
    """Of one core over these samples; None where they do not tell (:func:`why_not` says why)."""
    read = [sample.speed[core] for sample in inside if core in sample.speed]
    if speed.source == "scaling_cur_freq":
        values = [1e3 * khz for khz, _ in read]
        mean = sum(values) / len(values) if values else 0.0
    elif nominal_hz is not None and len(read) > 1:
        values = [hz for one, two in pairwise(read) if (hz := _between(one, two, nominal_hz)) is not None]
        mean = _between(read[0], read[-1], nominal_hz) or 0.0
    else:
        return None
    return Frequency(mean_hz=mean, least_hz=min(values), most_hz=max(values)) if values and mean else None


def _between(one: tuple[int, int], two: tuple[int, int], nominal_hz: float) -> float | None:
    """Mean frequency of the time out of idle between two readings of (APERF, MPERF); None: it was idle throughout."""
    ran, at_base = ((later - earlier) % _ROUND for earlier, later in zip(one, two, strict=True))
    return nominal_hz * ran / at_base if at_base else None


def why_not(speed: Speed, nominal_hz: float | None) -> str:
    """Why there is no frequency; "" where there may be one."""
    if not speed.source:
        return f"not available: {speed.reason}"
    if speed.source == "APERF/MPERF" and nominal_hz is None:
        return "not available: the base frequency, which APERF/MPERF is a multiple of, is not known"
    return ""
