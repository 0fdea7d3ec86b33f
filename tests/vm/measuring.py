# SPDX-License-Identifier: Apache-2.0
"""Runs of a few short trials on a testbed file, and what has to hold of their counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.options import RunOptions
from harness.records import Phase
from harness.runner import run
from tests.vm.recording import record
from tests.watching import Watching

SCENARIO = """
name: vm-test
role: {role}
traffic: {{frame: min, flows: 16{traffic}}}
cores: [1]
stacks:
{stacks}
measure:
  load_curve: {{rates: [2k], trial: {trial_s}s}}
  warmup: 100ms
order: given
"""


def measure(testbed: Path, folder: Path, role: str, *stacks: str, traffic: str = "",
            before: Callable[[Phase], None] = lambda phase: None, trial_s: int = 2) -> Watching:
    """Run a scenario of ``stacks`` in one role on a testbed file, as ``harness run`` does. ``traffic``: more of its
    keys, as ", vlan: 7"."""
    scenario = folder / f"{role}.yaml"
    entries = "\n".join(f"  - {stack}" for stack in stacks)
    scenario.write_text(SCENARIO.format(role=role, stacks=entries, traffic=traffic, trial_s=trial_s))
    watching = Watching(before)
    run(RunOptions(scenario=scenario, testbed=str(testbed), results=folder / "results"), watching)
    record(watching.path)
    return watching


def resume(folder: Path) -> Watching:
    """Go on with the run in ``folder`` that did not end, as ``harness run --resume`` does."""
    name, = ((folder / "results").glob("*/run.json"))
    watching = Watching()
    run(RunOptions(scenario=Path(), results=folder / "results", resume=name.parent.name), watching)
    return watching


def check_counts(watching: Watching, points: int) -> None:
    """Every point ended well, and what was sent was either received or is accounted for as lost."""
    ends = [(outcome.status, outcome.reason) for outcome in watching.outcomes]
    assert ends == [("ok", "")] * points, ends
    load = watching.load_trials()
    assert len({trial.point for trial in load}) == points
    for trial in load:
        assert trial.sent > 0
        assert trial.received is not None
        assert trial.received + trial.lost == trial.sent
        assert trial.received > 0.5 * trial.sent
        assert sum(trial.losses.values()) + trial.unexplained == trial.lost
