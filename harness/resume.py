# SPDX-License-Identifier: Apache-2.0
"""Going on with a run that ended before its last point: what is kept of it, what is measured again.

A repeat of a point is the unit: one that has an outcome is kept, also a failed or skipped one; one that was in the
middle is begun again, and its trials are marked as abandoned. The Plan is made anew from the files' text as the run
recorded it, with its seed, and has to be the same: resumed and undisturbed run hold the same points in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.analysis.environment import differences
from harness.errors import TestbedError, UsageError
from harness.missing import last_named
from harness.options import RunOptions
from harness.plan import Plan
from harness.records import CEILING, PointOutcome, Resumption, RunInfo, Trial
from harness.store import RunReader, Store, now


@dataclass(frozen=True)
class Kept:
    """A run to go on with. ``done``: outcomes that stay, by (repeat, point id). ``abandoned``: trials that are begun
    again now, without those that were at an earlier resumption."""

    reader: RunReader
    done: dict[tuple[int, str], PointOutcome]
    first_trial: int
    abandoned: tuple[int, ...]
    #: ``run.json`` as it was found: the writer goes on with the reader's own.
    before: RunInfo

    @staticmethod
    def of(reader: RunReader) -> Kept:
        """Read what there is. Raises UsageError when there is nothing to go on with."""
        info = reader.info
        if info.state == "complete":
            raise UsageError(f"{reader.path}: the run is complete; there is nothing to resume")
        if info.request is None:
            raise UsageError(f"{reader.path}: the run does not say what was asked for (an older harness made it); run "
                             "the scenario again")
        done = {(o.repeat, o.point): o for o in reader.outcomes() if o.status != "interrupted"}
        trials = list(reader.every_trial())
        fresh = [t for t in trials if t.number not in reader.abandoned]
        # Also past what was named and is no more in the file: a new trial must not be taken for it.
        last = max((t.number for t in trials), default=0)
        last = max(last, last_named(info, reader.outcomes()), *reader.abandoned, 0)
        return Kept(reader, done, last + 1,
                    tuple(_abandoned(fresh, done, ceilings=bool(info.ceilings))), info.model_copy(deep=True))

    def options(self, asked: RunOptions) -> RunOptions:
        """What to run: as the run recorded it. ``asked``: results directory and command line of now."""
        request = self.reader.info.request
        assert request is not None
        return replace(
            asked, scenario=Path(request.scenario), testbed=request.testbed, only=tuple(request.only),
            repeat=request.repeat, seed=self.reader.info.seed, scenario_text=self.reader.info.scenario_text,
            testbed_text=request.testbed_text or None,
        )

    def check_plan(self, plan: Plan) -> None:
        """Raises UsageError when this harness would measure something else than the run did."""
        recorded = self.reader.info.plan
        sequence = [tuple(entry) for entry in recorded.get("sequence", [])]
        if sequence != list(plan.sequence):
            raise UsageError(f"{self.reader.path}: this harness makes another plan of the scenario than the run has "
                             "(points or their order differ); run the scenario again")

    def check_machines(self, now_found: RunInfo) -> None:
        """Raises TestbedError when what changes results is not as it was: points of one run have to be comparable."""
        if not self.done:
            return
        changed = [f"{d.item} was {d.a[:60]} and is {d.b[:60]}" for d in differences(self.before, now_found)]
        if changed:
            raise TestbedError(f"{self.reader.path}: the run cannot be gone on with, the machines are not as they "
                               f"were: {'; '.join(changed[:10])}. Put that back, or run the scenario again")

    def resumption(self, command: Iterable[str]) -> Resumption:
        """The record of going on, for ``run.json``."""
        return Resumption(at=now(), command=list(command), first_trial=self.first_trial,
                          abandoned=list(self.abandoned))


def _abandoned(trials: Iterable[Trial], done: dict[tuple[int, str], PointOutcome], *, ceilings: bool) -> list[int]:
    """Numbers of trials whose repeat of a point has no outcome; of the ceiling's, when none was found yet."""
    return [t.number for t in trials if not (ceilings if t.point == CEILING else (t.repeat, t.point) in done)]


def open_kept(options: RunOptions, name: str) -> Kept:
    """The run to resume, by any of its names (:meth:`harness.store.Store.open`)."""
    return Kept.of(Store(options.results).open(name))
