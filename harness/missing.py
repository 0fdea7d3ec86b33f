# SPDX-License-Identifier: Apache-2.0
"""Trials that a run's other records name or count and that trials.jsonl does not hold.

A file that was cut exactly at the end of a line looks whole. But outcomes and ceilings are written after their trials
are on disk, so one that tells of a trial which is not there has lost it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from harness.records import CEILING, PointOutcome, RunInfo

#: A trial is its number, repeat and point.
Made = tuple[int, int, str]


def last_named(info: RunInfo, outcomes: Iterable[PointOutcome]) -> int:
    """The highest number of a trial that these records name; 0 where they name none."""
    return max((number for number, _, _ in _named(info, outcomes)), default=0)


def missing_trials(info: RunInfo, outcomes: Sequence[PointOutcome], made: Iterable[Made],
                   abandoned: Container[int]) -> str:
    """A sentence about trials that are named or counted and not among ``made``, which are all but the ``abandoned``
    ones; "" where there are none."""
    found = [(number, (repeat, point)) for number, repeat, point in made]
    there = dict(found)
    gone = Counter(dict(_uncounted(info, outcomes, Counter(key for _, key in found))))
    lacking = Counter((repeat, point) for number, repeat, point in set(_named(info, outcomes))
                      if number not in abandoned and there.get(number) != (repeat, point))
    gone |= lacking  # of each the larger: most of what is named is counted too
    if not gone:
        return ""
    places = [_place(repeat, point) for repeat, point in list(gone)[:3]]
    rest = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    return (f"trials.jsonl lacks {gone.total():,} of the trials that the run made (of {', '.join(places)}{rest}): "
            "it was cut or is not whole, and charts and tables that are made of trials lack them; fetch the run again.")


def _place(repeat: int, point: str) -> str:
    if point == CEILING:
        return "the generator's ceiling"
    return "".join(c if c.isprintable() else "?" for c in point[:100]) + f" round {repeat + 1}"


def _named(info: RunInfo, outcomes: Iterable[PointOutcome]) -> Iterator[Made]:
    """Trials that numbers are taken from. Below 1: there was none."""
    for ceiling in info.ceilings:
        for number in (ceiling.trial, ceiling.floor.trial if ceiling.floor else -1):
            if number > 0:
                yield number, 0, CEILING
    for outcome in outcomes:
        for number in (*(at.trial for at in outcome.latency), *(load.trial for load in outcome.load_curve)):
            if number > 0:
                yield number, outcome.repeat, outcome.point


def _uncounted(info: RunInfo, outcomes: Iterable[PointOutcome],
               count: Mapping[tuple[int, str], int]) -> Iterator[tuple[tuple[int, str], int]]:
    """By (repeat, point): how many fewer there are than the outcome counts. More is no fault: one in which the
    generator died is kept and not counted. Of a resumed run's interrupted repeats the trials may be abandoned."""
    for outcome in outcomes:
        if outcome.status == "interrupted" and info.resumed:
            continue
        key = outcome.repeat, outcome.point
        if (lost := outcome.trials - count.get(key, 0)) > 0:
            yield key, lost
