# SPDX-License-Identifier: Apache-2.0
"""Run directories in: a whole run in memory, bounded, tolerant of a run that was interrupted.

A directory may come from anybody, so what is opened is a plain file (:mod:`harness.runfiles`) and how much is kept is
limited. What an interruption leaves (no outcome for a point, a last line cut short) is a note in the report, not an
error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.errors import UsageError
from harness.missing import missing_trials
from harness.plan import Plan
from harness.records import PointOutcome, RunInfo, Trial
from harness.store import POINTS, RUN, TRIALS, RunReader

MAX_TRIALS = 200_000
MAX_OUTCOMES = 20_000
MAX_POINTS = 1_000

_PLAN = TypeAdapter(Plan)
_Record = TypeVar("_Record", Trial, PointOutcome)


@dataclass(frozen=True)
class RunData:
    """One run as read. ``problems``: sentences about what is missing, shown in the report.

    Histograms are kept only in trials that an outcome's latency names; the others are dropped to save memory.
    """

    path: Path
    info: RunInfo
    plan: Plan
    trials: tuple[Trial, ...]
    outcomes: tuple[PointOutcome, ...]
    problems: tuple[str, ...]


def load_run(path: Path) -> RunData:
    """Read a run directory. Raises UsageError with the file, what is wrong with it and what to do."""
    reader = RunReader(path)
    path = reader.path
    plan = _plan(path / RUN, reader.info)
    outcomes = tuple(_bounded(reader.outcomes(), MAX_OUTCOMES, path / POINTS))
    wanted = {entry.trial for outcome in outcomes for entry in outcome.latency}
    trials = []
    for trial in _bounded(reader.trials(), MAX_TRIALS, path / TRIALS):
        if trial.latency is not None and trial.number not in wanted:
            trial.latency.histogram = []
        trials.append(trial)
    lacking = missing_trials(reader.info, outcomes, ((t.number, t.repeat, t.point) for t in trials), reader.abandoned)
    problems = (*reader.problems(), lacking) if lacking else reader.problems()
    return RunData(path, reader.info, plan, tuple(trials), outcomes, problems)


def _plan(file: Path, info: RunInfo) -> Plan:
    try:
        plan = _PLAN.validate_python(info.plan)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:120]
        raise UsageError(f"{file}: its plan cannot be read: {place}: {first['msg']}; this run cannot be reported "
                         "by this version of the harness") from error
    if len(plan.points) > MAX_POINTS:
        raise UsageError(f"{file}: {len(plan.points):,} points; a report holds at most {MAX_POINTS:,}")
    return plan


def _bounded(records: Iterator[_Record], limit: int, file: Path) -> Iterator[_Record]:
    yield from islice(records, limit)
    if next(records, None) is not None:
        raise UsageError(f"{file}: more than {limit:,} lines; split the scenario into several runs")
