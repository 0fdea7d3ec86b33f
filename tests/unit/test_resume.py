# SPDX-License-Identifier: Apache-2.0
"""Going on with a run: what is kept, what is begun again, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from harness import cli
from harness.errors import HarnessError, HostLost, HostNotRestored, TestbedError, UsageError
from harness.missing import missing_trials
from harness.options import RunOptions
from harness.records import CEILING, Ceiling, LoadPoint, Phase, PointOutcome, Request, RunInfo, Trial
from harness.resume import Kept, open_kept
from harness.runner import _Session
from harness.store import Store

SEQUENCE = [(0, "a"), (0, "b"), (1, "b"), (1, "a")]


def info(**changes: object) -> RunInfo:
    request = Request(scenario="/s.yaml", testbed="lab", only=["a"], repeat=2)
    made = RunInfo(run_id="r1", harness_version="0", started_at="now", command=["harness"], scenario_text="text",
                   scenario={}, plan={"sequence": SEQUENCE, "hosts": [{"name": "dut"}]}, seed=7, request=request)
    return made.model_copy(update=changes)


def trial(number: int, point: str, repeat: int = 0) -> Trial:
    return Trial(number=number, point=point, repeat=repeat, phase=Phase.SEARCH, started_at="", asked_pps=1.0,
                 duration_s=1.0, real_s=1.0)


def killed(root: Path, **changes: object) -> Store:
    """A run that was killed in its third point, in the middle of a line."""
    with Store(root).create(info(**changes)) as writer:
        for number, point in enumerate((CEILING, "a", "a", "b"), 1):
            writer.add_trial(trial(number, point))
            if number == 3:
                writer.add_outcome(PointOutcome(point="a", repeat=0))
        writer.add_outcome(PointOutcome(point="b", repeat=0, status="interrupted"))
    with (root / "r1" / "trials.jsonl").open("a") as stream:
        stream.write('{"number": 5, "cut')
    return Store(root)


def test_finished_repeats_stay_and_the_one_in_the_middle_is_begun_again(tmp_path: Path) -> None:
    ceiling = Ceiling(frame_bytes=64, host="dut", stack="xdp", sent_pps=1.0, received_pps=1.0, trial=1, kept_pps=1.0)
    store = killed(tmp_path, ceilings=[ceiling])
    kept = open_kept(RunOptions(Path(), results=tmp_path), "r1")
    assert (list(kept.done), kept.first_trial, kept.abandoned) == ([(0, "a")], 5, (4,))
    options = kept.options(RunOptions(Path(), results=tmp_path, command=("harness", "run")))
    assert (options.scenario_text, options.only, options.repeat, options.seed) == ("text", ("a",), 2, 7)
    with store.reopen(kept.reader, kept.resumption(["harness"])) as writer:
        writer.add_trial(trial(5, "b"))
        writer.add_outcome(PointOutcome(point="b", repeat=0))
        writer.finish("complete", 0)
    run = store.open("r1")
    assert [t.number for t in run.trials()] == [1, 2, 3, 5]
    assert [t.number for t in run.every_trial()] == [1, 2, 3, 4, 5]
    assert [(o.repeat, o.point, o.status) for o in run.outcomes()] == [(0, "a", "ok"), (0, "b", "ok")]
    with pytest.raises(UsageError, match="complete; there is nothing to resume"):
        Kept.of(run)


def test_without_a_ceiling_its_trials_are_made_again(tmp_path: Path) -> None:
    killed(tmp_path)
    assert open_kept(RunOptions(Path(), results=tmp_path), "r1").abandoned == (1, 4)


def test_a_trial_is_abandoned_and_counted_once_however_often_the_run_is_resumed(tmp_path: Path) -> None:
    store = killed(tmp_path)
    for number in (5, 6):
        kept = open_kept(RunOptions(Path(), results=tmp_path), "r1")
        assert kept.abandoned == ((1, 4) if number == 5 else (5,))
        with store.reopen(kept.reader, kept.resumption([])) as writer:
            writer.add_trial(trial(number, "b"))
    run = store.open("r1")
    assert [t.number for t in run.trials()] == [2, 3, 6]
    assert run.problems()[-1].startswith("3 trials of points that had not ended were made again")
    run = store.open("r1")
    run.info.resumed[1].abandoned += [1, 4]  # as an older harness wrote it
    assert run.problems()[-1].startswith("3 trials")


def test_nothing_is_missed_of_a_resumed_run_and_a_lost_trials_number_is_not_given_again(tmp_path: Path) -> None:
    with Store(tmp_path).create(info()) as writer:
        for number, point in enumerate(("a", "a", "b"), 1):
            writer.add_trial(trial(number, point))
        # Of a's, one in which the generator died: kept and not counted.
        writer.add_outcome(PointOutcome(point="a", repeat=0, trials=1, load_curve=[LoadPoint(load_pps=1, trial=9)]))
        writer.add_outcome(PointOutcome(point="b", repeat=0, trials=1, status="interrupted",
                                        load_curve=[LoadPoint(load_pps=1, trial=3)]))
    kept = open_kept(RunOptions(Path(), results=tmp_path), "r1")
    assert kept.first_trial == 10  # trial 9 was cut off the file
    with Store(tmp_path).reopen(kept.reader, kept.resumption([])) as writer:
        writer.finish("failed", 4)  # before b was begun again
    run = Store(tmp_path).open("r1")

    def missing() -> str:
        made = [(t.number, t.repeat, t.point) for t in run.trials()]
        return missing_trials(run.info, list(run.outcomes()), made, run.abandoned)

    assert missing().startswith("trials.jsonl lacks 1 of the trials that the run made (of a round 1)")
    with Store(tmp_path).reopen(run, kept.resumption([])) as writer:
        writer.add_trial(trial(9, "a"))
    assert missing() == ""


def test_a_run_that_is_being_made_is_not_gone_on_with(tmp_path: Path) -> None:
    code = ("import pathlib, sys; from harness.records import RunInfo; from harness.store import Store; "
            "writer = Store(pathlib.Path(sys.argv[1])).create(RunInfo.model_validate_json(sys.argv[2])); "
            "print('made', flush=True); sys.stdin.read()")
    argv = [sys.executable, "-c", code, str(tmp_path), info().model_dump_json()]
    maker = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert maker.stdin is not None
    assert maker.stdout is not None
    assert maker.stdout.readline() == b"made\n"
    kept = open_kept(RunOptions(Path(), results=tmp_path), "r1")
    with pytest.raises(UsageError, match="another process is making this run"):
        Store(tmp_path).reopen(kept.reader, kept.resumption([]))
    maker.communicate()
    with Store(tmp_path).reopen(kept.reader, kept.resumption([])) as writer:
        writer.finish("complete", 0)


def test_what_cannot_be_gone_on_with_says_why(tmp_path: Path) -> None:
    with Store(tmp_path).create(info(request=None)):
        pass
    with pytest.raises(UsageError, match="does not say what was asked for"):
        open_kept(RunOptions(Path(), results=tmp_path), "r1")


def test_machines_that_are_not_as_they_were_refuse(tmp_path: Path) -> None:
    host = {"dut": {"kernel": {"release": "6.1"}}}
    killed(tmp_path, hosts=host)
    kept = open_kept(RunOptions(Path(), results=tmp_path), "r1")
    kept.check_machines(info(hosts=host))
    with pytest.raises(TestbedError, match=r"dut.kernel.release was 6\.1 and is 6\.2"):
        kept.check_machines(info(hosts={"dut": {"kernel": {"release": "6.2"}}}))


@pytest.mark.parametrize("words", [["s.yaml", "--resume", "latest"], ["--resume", "latest", "--seed", "3"], []])
def test_a_resumed_run_is_told_nothing_twice(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["run", *words]) == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize("end", [HostLost("gone"), HostNotRestored("not everything could be undone")])
def test_no_further_point_is_measured_on_a_host_that_is_gone_or_changed(tmp_path: Path, end: HarnessError) -> None:
    class Ending(_Session):
        def _one_point(self, point: object, repeat: int, outcome: PointOutcome) -> None:
            tried.append(outcome.point)
            raise end

    tried: list[str] = []
    plan = SimpleNamespace(sequence=SEQUENCE, point=lambda name: SimpleNamespace(id=name, host="dut"))
    machines = MagicMock(dut_names=lambda: ["dut"])
    with Store(tmp_path).create(info()) as writer:
        with pytest.raises(type(end)):
            Ending(machines, plan, writer, MagicMock()).points()  # type: ignore[arg-type]
        writer.finish("failed", end.exit_code)
    assert tried == ["a"]
    kept = open_kept(RunOptions(Path(), results=tmp_path), "r1")
    assert kept.done == {}  # the point is begun again
    assert [(o.point, o.status) for o in kept.reader.outcomes()] == [("a", "interrupted")]
    assert str(end) in next(iter(kept.reader.outcomes())).reason


@pytest.mark.parametrize("end", [HostLost("gone"), HostNotRestored("not everything could be undone")])
def test_points_of_other_hosts_go_on_without_a_host_that_is_gone_or_changed(tmp_path: Path, end: HarnessError) -> None:
    class Ending(_Session):
        def _one_point(self, point: object, repeat: int, outcome: PointOutcome) -> None:
            tried.append(outcome.point)
            if outcome.point == "a":
                raise end

        def _judge(self, outcome: PointOutcome) -> None:
            judged.append((outcome.point, outcome.status))

    tried, judged = list[str](), list[tuple[str, str]]()
    points = {"a": SimpleNamespace(id="a", host="sut1"), "b": SimpleNamespace(id="b", host="sut2")}
    plan = SimpleNamespace(sequence=[(0, "a"), (0, "b"), (1, "a"), (1, "b")], point=points.__getitem__)
    with Store(tmp_path).create(info()) as writer:
        session = Ending(MagicMock(dut_names=lambda: ["sut1", "sut2"]), plan, writer, MagicMock())  # type: ignore[arg-type]
        session.points()
        with pytest.raises(type(end)):
            session.refuse_lost()
        assert [note for note in writer.info.notes if note.startswith("sut1 was lost")]
        writer.finish("failed", end.exit_code)
    assert tried == ["a", "b", "b"], "nothing is tried on the lost host again"
    assert judged == [("a", "interrupted"), ("b", "ok"), ("a", "interrupted"), ("b", "ok")]
    assert sorted(open_kept(RunOptions(Path(), results=tmp_path), "r1").done) == [(0, "b"), (1, "b")]
