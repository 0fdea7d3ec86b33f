# SPDX-License-Identifier: Apache-2.0
"""Rates of a point that its own trials refute, over its repeats; what refutes a rate is said in one place,
:mod:`harness.measure.contradiction`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.metrics import Kind
from harness.figures import worst_loss
from harness.measure.contradiction import Against, against
from harness.records import PointOutcome, Trial


@dataclass(frozen=True)
class Loss:
    """Share of the frames lost at ``load`` (frames per second, offered) by trial ``trial``."""

    load: float
    share: float
    trial: int


@dataclass(frozen=True)
class Refuted:
    """A rate (frames per second) that loads of the same run refute: ``low`` where more was carried (the rate is then
    only a bound), otherwise more than ``allowed`` was lost below it (the rate is not planned with)."""

    cores: int
    rate: float
    by: Loss
    allowed: float
    low: bool


def refuted(cores: int, rate: float, kind: Kind, outcomes: Sequence[PointOutcome], trials: Sequence[Trial],
            pdr_loss: float) -> Refuted | None:
    """Whether ``rate`` (NDR or PDR, the median over the repeats ``outcomes`` of a point) is refuted, which it is where
    half of the repeats' own rates are; None for MRR, which allows any loss. ``trials``: the point's."""
    if kind not in (Kind.NDR, Kind.PDR):
        return None
    allowed = 0.0 if kind is Kind.NDR else pdr_loss
    bounds = [(outcome.repeat, bound) for outcome in outcomes if outcome.status == "ok"
              and (bound := outcome.ndr if kind is Kind.NDR else outcome.pdr) is not None and bound.pps is not None]
    found = [list(against(bound, allowed, [trial for trial in trials if trial.repeat == repeat]))
             for repeat, bound in bounds]
    lossy = [told for told in found if any(one.lost for one in told)]
    if lossy and 2 * len(lossy) >= len(bounds):
        worst = min((one for told in lossy for one in told if one.lost), key=_load)
        return Refuted(cores, rate, _loss(worst), allowed, low=False)
    told = [told for told in found if told]
    if told and 2 * len(told) >= len(bounds):
        kept = [one for each in told for one in each if not one.lost]
        return Refuted(cores, rate, _loss(max(kept, key=_load)), allowed, low=True) if kept else None
    return None


def _load(found: Against) -> float:
    return found.trial.offered_pps


def _loss(found: Against) -> Loss:
    trial = found.trial
    return Loss(trial.offered_pps, worst_loss(trial) / trial.sent, trial.number)
