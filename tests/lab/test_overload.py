# SPDX-License-Identifier: Apache-2.0
"""Every kernel stack overloaded: of the frames that it loses, at least 99 % have a place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.options import RunOptions
from harness.runner import run
from tests.watching import Watching

pytestmark = pytest.mark.lab

#: Of lost frames, in trials that lose as many as ``ENOUGH``.
UNEXPLAINED, ENOUGH = 0.01, 1000
SCENARIO = """
name: overload
role: {role}
traffic: {{frame: 64, flows: 16}}
stacks:
  - {stack}
measure:
  load_curve: {{rates: [300k, 800k, 2M], trial: 2s}}
  warmup: 100ms
"""


@pytest.mark.parametrize(("stack", "role"), [
    ("linux-udp", "echo"), ("linux-drop: {at: recvmmsg}", "drop"), ("linux-forward", "forward"), ("xdp", "echo"),
    ("xdp: {mode: generic}", "echo"), ("xdp", "forward"), ("af-xdp", "echo"),
])
def test_what_an_overloaded_stack_loses_has_a_place(tmp_path: Path, stack: str, role: str) -> None:
    scenario, watching = tmp_path / "overload.yaml", Watching()
    scenario.write_text(SCENARIO.format(stack=stack, role=role))
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0, watching.outcomes
    heavy = [trial for trial in watching.load_trials() if trial.lost >= ENOUGH]
    for trial in watching.load_trials():
        share = trial.unexplained / trial.lost if trial.lost else 0.0
        print(f"{stack} {role} asked {trial.asked_pps:,.0f}: sent {trial.sent:,} lost {trial.lost:,} {trial.losses}, "
              f"unexplained {trial.unexplained:,} ({share:.3%}), {trial.unread}")
    assert heavy, "it is overloaded"
    for trial in heavy:
        assert abs(trial.unexplained) <= UNEXPLAINED * trial.lost
