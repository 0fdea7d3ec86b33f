# SPDX-License-Identifier: Apache-2.0
"""What counts as an anomaly, and that a bundle says what it lacks instead of ending the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from harness.errors import GeneratorDied, HostError, StackError
from harness.measure.anomaly import Kind, of_trial, watched
from harness.measure.trial import Bench
from harness.records import Pauses, Percentiles, Phase, PointOutcome, Trial, Verdict
from harness.store import ANOMALIES
from tests.unit.measure.test_point import DIRECTION, POINT, SimulatedDut, SimulatedStack


def trial(*, max_ns: int = 1000, p50_ns: int | None = 100, pauses: int = 0, verdicts: tuple[Verdict, ...] = (),
          superseded: bool = False) -> Trial:
    latency = Percentiles(samples=1000, lost=0, out_of_order=0, duplicate=0, min_ns=1, max_ns=max_ns, mean_ns=100.0,
                          jitter_ns=1.0, p50_ns=p50_ns, p90_ns=None, p99_ns=None, p999_ns=None, resolution_ns=1)
    return Trial(number=7, point="p", repeat=0, phase=Phase.LOAD, started_at="", asked_pps=1.0, duration_s=1.0,
                 real_s=1.0, sent=1000, lost=50, unexplained=50, latency=latency, superseded=superseded,
                 pauses=Pauses(generator=0, dut=pauses, total_ns=pauses, longest_ns=pauses), verdicts=list(verdicts))


@pytest.mark.parametrize(("made", "kind"), [
    (trial(max_ns=10_001), Kind.LATENCY_OUTLIER),
    (trial(max_ns=10_000), None),
    (trial(max_ns=10_001, pauses=1), None),
    (trial(max_ns=10_001, p50_ns=None), None),
    (trial(verdicts=(Verdict.UNEXPLAINED_LOSS,)), Kind.UNEXPLAINED_LOSS),
    (trial(verdicts=(Verdict.UNEXPLAINED_LOSS,), superseded=True), None),
])
def test_what_counts(made: Trial, kind: Kind | None) -> None:
    found = of_trial(made)
    assert (found[0] if found else None) is kind


class Bare(SimulatedDut):
    """A DUT on which nothing can be run."""

    name = "bare"

    def run(self, *_: Any, **__: Any) -> Any:
        raise HostError("dmesg: not permitted")

    def which(self, program: str) -> None:
        return None


class Gone:
    def capture(self, *_: Any) -> Any:
        raise GeneratorDied("the server is gone")


class Dying(SimulatedStack):
    alive = True

    def check_alive(self) -> None:
        if not self.alive:
            raise StackError("it ended with status 9")

    def log_tail(self) -> str:
        return "last words"


@pytest.fixture
def bench() -> Bench:
    flows = dataclasses.replace(DIRECTION.flows, dst_ip="198.18.0.1")
    point = dataclasses.replace(POINT, directions=(dataclasses.replace(DIRECTION, flows=flows),))
    return Bench(Gone(), Bare(), point, Dying(), "", None, True, 2, (), ["d0"])  # type: ignore[arg-type]


def test_a_bundle_says_what_it_lacks_and_the_run_goes_on(bench: Bench, tmp_path: Path) -> None:
    outcome = PointOutcome(point="p/../x", repeat=3)
    with watched(bench, outcome, tmp_path) as watchdog:
        with watchdog.role_check():
            pass
        watchdog.look(trial())
        watchdog.look(trial(max_ns=99_999))
        watchdog.look(trial(verdicts=(Verdict.UNEXPLAINED_LOSS,)))
    assert outcome.anomaly is not None
    assert (outcome.anomaly.kind, outcome.anomaly.trial) == ("latency-outlier", 7)
    (folder,) = (tmp_path / ANOMALIES).iterdir()
    assert folder.name == outcome.anomaly.folder == "p_.._x-3-latency-outlier"
    assert sorted(f.name for f in folder.iterdir()) == ["README.txt", "stack.log", "trial.json"]
    said = (folder / "README.txt").read_text()
    for lack in ("dmesg: not permitted", "bare has no python3", "the server is gone", "counters-before.json"):
        assert lack in said
    with watched(bench, PointOutcome(point="p/../x", repeat=3), tmp_path) as watchdog:
        watchdog.look(trial(max_ns=99_999))
    assert len(list((tmp_path / ANOMALIES).iterdir())) == 2


def test_a_dead_stack_is_one_and_an_error_of_a_living_one_is_not(bench: Bench, tmp_path: Path) -> None:
    living, dead = PointOutcome(point="p", repeat=0), PointOutcome(point="p", repeat=1)
    with pytest.raises(StackError, match="still rises"), watched(bench, living, tmp_path):
        raise StackError("the counter still rises")
    bench.stack.alive = False  # type: ignore[attr-defined]
    with pytest.raises(StackError, match="status 9"), watched(bench, dead, tmp_path):
        bench.stack.check_alive()
    assert living.anomaly is None
    assert living.log_tail == dead.log_tail == "last words"
    assert dead.anomaly is not None
    assert (dead.anomaly.kind, dead.anomaly.folder) == ("dead-stack", "p-1-dead-stack")


def test_a_directory_that_cannot_be_written_is_said_and_survived(bench: Bench, tmp_path: Path) -> None:
    outcome = PointOutcome(point="p", repeat=0)
    (tmp_path / "logs").write_text("a file where the folder should be")
    with watched(bench, outcome, tmp_path) as watchdog:
        watchdog.look(trial(max_ns=99_999))
    assert outcome.anomaly is not None
    assert outcome.anomaly.folder == ""
    assert "not all evidence could be kept" in outcome.anomaly.what
