# SPDX-License-Identifier: Apache-2.0
"""A reporter for tests of whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.progress import Reporter
from harness.records import Phase, PointOutcome, Trial
from harness.store import RunReader


class Watching(Reporter):
    """Collects what a run says, and may do something just before a trial."""

    def __init__(self, before: Callable[[Phase], None] = lambda phase: None) -> None:
        super().__init__()
        self.before, self.outcomes, self.path = before, list[PointOutcome](), Path()
        #: Every trial that this run said was stored, as it was then, by its number.
        self.told: dict[int, dict[str, Any]] = {}

    def run_started(self, plan: object, run_dir: Path | None = None) -> None:
        assert run_dir is not None
        self.path = run_dir

    def point_started(self, *_: object) -> None:
        pass

    def trial_started(self, phase: Phase, asked_pps: float, duration_s: float) -> None:
        self.before(phase)

    def trial_done(self, trial: Trial) -> None:
        assert trial.number not in self.told, "no number is given twice"
        self.told[trial.number] = json.loads(trial.model_dump_json())

    def point_done(self, outcome: PointOutcome) -> None:
        self.outcomes.append(outcome)

    def load_trials(self) -> list[Trial]:
        """The trials that count, as the store has them."""
        return [trial for trial in RunReader(self.path).trials() if trial.phase is Phase.LOAD]
