# SPDX-License-Identifier: Apache-2.0
"""Whether somebody set a host's clock, told from one that somebody keeps right."""

from __future__ import annotations

import pytest

from harness.host.contract import Sampling
from harness.measure.wallclock import WallClock

HOUR = 3600 * 10**9


class Host:
    """A trial every ten seconds, five seconds long."""

    def __init__(self) -> None:
        self.at, self.trial = 0.0, 0
        self.clock = WallClock("sut", lambda: self.at)

    def look(self, first_ns: int, last_ns: int) -> float | None:
        began = self.at + 5
        self.at += 10
        self.trial += 1
        return self.clock.look(self.trial, began, Sampling([], [], 0.0, wall_offset_ns=(first_ns, last_ns)))


@pytest.mark.parametrize("step", [HOUR, -HOUR, 200 * 10**6])
def test_a_step_is_said_with_its_trial(step: int) -> None:
    host = Host()
    assert host.look(7 * HOUR, 7 * HOUR) is None
    assert host.look(7 * HOUR, 7 * HOUR + step) == step / 1e9
    assert host.look(7 * HOUR + step, 7 * HOUR + step) is None
    assert host.look(7 * HOUR, 7 * HOUR) is None, "set back between two trials"
    assert [remark.partition(". ")[0] for remark in host.clock.remarks] == [
        f"sut: its wall clock was set by {step / 1e9:+.2f} s during trial 2",
        f"sut: its wall clock was set by {-step / 1e9:+.2f} s before trial 4"]


def test_a_clock_that_is_kept_right_creeps() -> None:
    host = Host()
    for trial in range(5):
        assert host.look(trial * 4 * 10**6, trial * 4 * 10**6 + 2 * 10**6) is None
    assert host.clock.remarks == []


def test_a_host_that_does_not_tell_is_no_step() -> None:
    clock = WallClock("sut")
    assert clock.look(1, 0.0, Sampling([], [], 0.0)) is None
    assert clock.remarks == []
