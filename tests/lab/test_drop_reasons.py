# SPDX-License-Identifier: Apache-2.0
"""The kernel's own drop reasons, on real frames: at two places whose drops the stack itself counts exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.options import RunOptions
from harness.records import Phase
from harness.runner import run
from tests.lab.test_run import trials_of
from tests.watching import Watching

pytestmark = pytest.mark.lab

SCENARIO = """
name: reasons
role: drop
traffic: {frame: 64, flows: 16}
stacks:
  - linux-drop: {at: socket-filter}
  - linux-drop: {at: socket-unread}
  - xdp
measure:
  load_curve: {rates: [5k, 20k], trial: 2s}
  drop_reasons: true
  warmup: 100ms
order: given
"""


def test_reasons_are_those_of_the_place_and_as_many_as_it_counted(tmp_path: Path) -> None:
    path, watching = tmp_path / "reasons.yaml", Watching()
    path.write_text(SCENARIO)
    assert run(RunOptions(scenario=path, testbed="lab", results=tmp_path / "r"), watching) == 0
    every = trials_of(watching.path)
    trials = [t for t in every if t.phase is Phase.DIAGNOSE]
    assert [t.asked_pps for t in trials] == [20_000.0] * 3
    assert all(t.drop_reasons is None for t in every if t.phase is not Phase.DIAGNOSE)
    by_filter, by_buffer, xdp = (t.drop_reasons for t in trials)
    print([(t.received, t.sent, t.losses, t.drop_reasons) for t in trials])
    for reasons, name, trial in ((by_filter, "SOCKET_FILTER", trials[0]), (by_buffer, "SOCKET_RCVBUFF", trials[1])):
        assert reasons is not None
        assert reasons.counts is not None, reasons.reason
        assert trial.received > 30_000
        assert reasons.counts[name] + reasons.missed == trial.received
        assert sum(reasons.counts.values()) == reasons.counts[name], "of the ports, the kernel drops nothing else"
    assert xdp is not None  # frames end before the kernel makes packets of them
    assert xdp.counts == {}, xdp
