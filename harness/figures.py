# SPDX-License-Identifier: Apache-2.0
"""How a found rate is to be read: exact or a lower bound, steady or noisy. One rule for the runner, the console, the
listings and the report."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from harness.records import Bound, PointOutcome, Trial, Verdict
from harness.units import format_rate

#: Loss ratio that PDR allows where a run does not say.
PDR_LOSS = 0.005
#: Range of two repeats of a rate, relative to their median, beyond which it is ``noisy``.
NOISY = 0.05


def at_least(bound: Bound, pdr_loss: float = PDR_LOSS) -> bool:
    """Whether the stack is or may be faster than this: other trials of the point carried more, or the generator was the
    limit."""
    return bound.exceeded_pps is not None or generator_limited(bound, pdr_loss)


def generator_limited(bound: Bound, pdr_loss: float = PDR_LOSS) -> bool:
    """Whether the generator was the limit: it fell short, and what it did send was lost by no more than PDR allows.
    With more loss the stack itself was the limit and the figure stands."""
    loss = bound.loss_ratio
    return Verdict.GENERATOR_LIMITED in bound.verdicts and loss is not None and loss <= pdr_loss


def settled_verdicts(bound: Bound, pdr_loss: float = PDR_LOSS) -> list[Verdict]:
    """Verdicts on a rate; ``generator-limited`` only where that makes it a lower bound."""
    return [v for v in bound.verdicts if v is not Verdict.GENERATOR_LIMITED or generator_limited(bound, pdr_loss)]


def point_verdicts(outcome: PointOutcome, pdr_loss: float = PDR_LOSS) -> list[Verdict]:
    """Verdicts on a repeat of a point; ``generator-limited`` only where one of its rates carries it (or, of a point
    without rates, one of its trials). Older runs stored it for every search trial that decided a rate."""
    bounds = [bound for bound in (outcome.mrr, outcome.ndr, outcome.pdr) if bound is not None]
    limited = not bounds or any(generator_limited(bound, pdr_loss) for bound in bounds)
    return [v for v in outcome.verdicts if v is not Verdict.GENERATOR_LIMITED or limited]


def bound_text(bound: Bound | None, pdr_loss: float = PDR_LOSS, unit: str = "pps") -> str:
    """A found rate for a line of text: "412 kpps", ">= 412 kpps" where it is a lower bound,
    "412 kpps (contradicted)" where other trials refute it, "n/a". ``unit``: the
    role's unit of rates."""
    if bound is None or bound.pps is None:
        return "n/a"
    refuted = " (contradicted)" if Verdict.CONTRADICTED in bound.verdicts else ""
    return (">= " if at_least(bound, pdr_loss) else "") + format_rate(bound.pps, unit) + refuted


def pdr_loss_of(plan: dict[str, Any]) -> float:
    """Loss ratio that PDR allowed in a run, from its plan as stored in ``run.json``; PDR_LOSS where it does not say."""
    measure = plan.get("measure")
    search = measure.get("search") if isinstance(measure, dict) else None
    loss = search.get("pdr_loss") if isinstance(search, dict) else None
    return float(loss) if isinstance(loss, int | float) else PDR_LOSS


def noisy(rates: Iterable[float]) -> bool:
    """Whether the rates found by the repeats of a point (pps) scatter: their 95 % interval is wider than 5 %; two
    repeats, which have none, are further apart than that."""
    from harness.analysis.statistics import interval, is_noisy

    known = list(rates)
    found = interval(known)
    if found is not None:
        return is_noisy(found)
    return len(known) > 1 and max(known) - min(known) > NOISY * statistics.median(known)


def worst_loss(trial: Trial) -> int:
    """Lost frames, such that the ratio to all sent is that of the worst direction: NDR needs zero loss in each."""
    ratios = [max(0, d.lost) / d.sent for d in trial.directions if d.sent]
    return round(max(ratios, default=0.0) * trial.sent)
