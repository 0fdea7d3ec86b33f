# SPDX-License-Identifier: Apache-2.0
"""Two hosts in one scenario, cabled to ports of their own or behind a switch: real frames, an SSH server on each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HostLost, TestbedError
from harness.options import RunOptions
from harness.plan import PointPlan
from harness.progress import Reporter
from harness.records import Phase, PointOutcome, Trial
from harness.runner import run
from harness.store import RunReader
from tests.rackhosts import Rack, rack

pytestmark = pytest.mark.lab

SCENARIO = """
name: machines
role: {role}
traffic: {{frame: 64, flows: 16}}
cores: [1]
stacks:
{stacks}
measure:
  load_curve: {{rates: [2k], trial: 2s}}
  warmup: 0s
order: given
"""


class Watching(Reporter):
    """Collects what the run says, with what came to and left each host's first port during every trial of a point; may
    do something just before one."""

    def __init__(self, made: Rack, before: Callable[[str], None] = lambda host: None) -> None:
        super().__init__()
        self.made, self.before, self.host, self.path = made, before, "", Path()
        self.outcomes: list[PointOutcome] = []
        self.passed: dict[str, dict[str, tuple[int, int]]] = {}
        self._at_first: dict[str, tuple[int, int]] = {}

    def run_started(self, plan: object, run_dir: Path | None = None) -> None:
        assert run_dir is not None
        self.path = run_dir

    def point_started(self, point: PointPlan, *_: object) -> None:
        self.host = point.host

    def _counted(self) -> dict[str, tuple[int, int]]:
        return {host.name: (host.counter(0, "rx_packets"), host.counter(0, "tx_packets"))
                for host in self.made.hosts.values()}

    def trial_started(self, phase: Phase, asked_pps: float, duration_s: float) -> None:
        self.before(self.host)
        self._at_first = self._counted()

    def trial_done(self, trial: Trial) -> None:
        now, first = self._counted(), self._at_first
        self.passed[trial.point] = {name: (now[name][0] - first[name][0], now[name][1] - first[name][1])
                                    for name in now}

    def point_done(self, outcome: PointOutcome) -> None:
        self.outcomes.append(outcome)

    def load_trials(self) -> dict[str, Trial]:
        """By point."""
        return {trial.point: trial for trial in RunReader(self.path).trials() if trial.phase is Phase.LOAD}


def options(made: Rack, folder: Path, role: str, *stacks: str, only: tuple[str, ...] = ()) -> RunOptions:
    path = folder / "machines.yaml"
    path.write_text(SCENARIO.format(role=role, stacks="\n".join(f"  - {stack}" for stack in stacks)))
    return RunOptions(path, str(made.testbed()), only, results=folder / "results")


def check_counts(watching: Watching, there: str, other: str) -> None:
    """Every frame of the point's trial was the right host's, and no other's."""
    (point,) = [name for name in watching.load_trials() if name.endswith(f"-{there}")]
    trial = watching.load_trials()[point]
    assert trial.sent is not None
    assert trial.sent > 3900
    assert (trial.received, trial.lost, trial.unexplained) == (trial.sent, 0, 0)
    assert trial.cpu is not None
    assert watching.passed[point] == {there: (trial.sent, trial.sent), other: (0, 0)}


def test_cabled_hosts_are_measured_each_over_its_own_wires(tmp_path: Path) -> None:
    with rack(["sut1", "sut2"], ports=1) as made:
        watching = Watching(made)
        assert run(options(made, tmp_path, "echo", "linux-udp"), watching) == 0
        check_counts(watching, "sut1", "sut2")
        check_counts(watching, "sut2", "sut1")
        info = RunReader(watching.path).info
        assert set(info.hosts) == {"generator", "sut1", "sut2"}
        assert {ceiling.host for ceiling in info.ceilings} == {"sut1", "sut2"}
        assert {(check.host, check.status) for check in info.checks if check.name == "wires"} == {
            ("sut1", "ok"), ("sut2", "ok")}

        alone = Watching(made)
        assert run(options(made, tmp_path, "echo", "linux-udp", only=("sut2",)), alone) == 0
        assert [outcome.point for outcome in alone.outcomes] == [watching.outcomes[1].point], "the same point's name"
        assert set(RunReader(alone.path).info.hosts) == {"generator", "sut2"}


def test_hosts_behind_a_switch_are_measured_one_after_the_other(tmp_path: Path) -> None:
    with rack(["sut1", "sut2"], switched=True) as made:
        for role, stack in (("echo", "linux-udp"), ("forward", "linux-forward")):
            watching = Watching(made)
            assert run(options(made, tmp_path, role, stack), watching) == 0
            assert [outcome.status for outcome in watching.outcomes] == ["ok", "ok"]
            if role == "echo":
                check_counts(watching, "sut1", "sut2")
                check_counts(watching, "sut2", "sut1")
            else:
                for point, trial in watching.load_trials().items():
                    there = point.rpartition("-")[2]
                    other = {"sut1": "sut2", "sut2": "sut1"}[there]
                    assert trial.received == trial.sent
                    assert watching.passed[point] == {there: (trial.sent, 0), other: (0, 0)}


def test_a_switch_that_joins_the_generators_ports_is_refused(tmp_path: Path) -> None:
    with rack(["sut1", "sut2"], switched=True, joined=True) as made:
        with pytest.raises(TestbedError, match="give each generator port a VLAN of its own in the switch"):
            run(options(made, tmp_path, "echo", "linux-udp"), Watching(made))


def test_a_host_that_is_lost_leaves_the_others_points_and_is_made_good_later(tmp_path: Path) -> None:
    with rack(["sut1", "sut2"], ports=1) as made:
        lost = Watching(made, lambda host: made.hosts["sut1"].kill() if host == "sut1" else None)
        asked = options(made, tmp_path, "echo", "linux-udp: {reuseport: false}", "linux-udp: {reuseport: true}")
        with pytest.raises(HostLost, match="sut1"):
            run(asked, lost)
        assert [outcome.status for outcome in lost.outcomes] == ["interrupted", "interrupted", "ok", "ok"]
        assert "in the middle of this point: sut1" in lost.outcomes[0].reason
        assert "before this point was begun: sut1" in lost.outcomes[1].reason
        reader = RunReader(lost.path)
        assert (reader.info.state, reader.info.exit_code) == ("failed", 4)
        assert any("sut1 was lost, the other hosts' points went on" in note for note in reader.info.notes)
        assert {trial.lost for trial in lost.load_trials().values()} == {0}
        assert {point.rpartition("-")[2] for point in lost.load_trials()} == {"sut2"}
        made.hosts["sut1"].start()
        later = Watching(made)
        assert run(RunOptions(Path(), results=tmp_path / "results", resume=str(lost.path)), later) == 0
        assert [outcome.point for outcome in later.outcomes] == [outcome.point for outcome in lost.outcomes[:2]]
        assert [outcome.status for outcome in RunReader(lost.path).outcomes()] == ["ok"] * 4
