# SPDX-License-Identifier: Apache-2.0
"""Reading run directories: interruptions are notes, damage and other versions are errors with a remedy."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.missing import missing_trials
from harness.owner import this_process
from harness.records import Phase
from harness.report.headline import answer
from harness.report.identity import looks
from harness.report.summarise import summarise
from harness.rundata import load_run


@pytest.fixture
def copy(run_dir: Path, tmp_path: Path) -> Path:
    """A run directory to damage."""
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def test_a_complete_run_has_no_problems(run_dir: Path) -> None:
    run = load_run(run_dir)
    assert run.problems == ()
    assert len(run.trials) > 100
    assert len(run.outcomes) == 12


def test_histograms_are_kept_for_latency_trials_only(run_dir: Path) -> None:
    run = load_run(run_dir)
    wanted = {entry.trial for outcome in run.outcomes for entry in outcome.latency}
    with_histogram = {t.number for t in run.trials if t.latency is not None and t.latency.histogram}
    assert with_histogram == wanted


def test_a_cut_last_line_is_left_out_and_said(copy: Path) -> None:
    file = copy / "trials.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    run = load_run(copy)
    assert len(run.trials) == whole.count(b"\n") - 1
    assert any("trials.jsonl is cut short" in problem for problem in run.problems)


def test_trials_cut_at_a_line_end_are_missed(copy: Path) -> None:
    """The load curve is gone then, and the file looks whole."""
    file, whole = copy / "trials.jsonl", load_run(copy)
    made = [(trial.number, trial.repeat, trial.point) for trial in whole.trials]
    for kept in range(len(made)):
        said = missing_trials(whole.info, whole.outcomes, made[:kept], ())
        assert said.startswith(f"trials.jsonl lacks {len(made) - kept:,} of the trials that the run made")
    assert missing_trials(whole.info, whole.outcomes, made, ()) == ""
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    point = whole.trials[-1].point
    (problem,) = load_run(copy).problems
    assert problem.startswith("trials.jsonl lacks 1 of the trials")
    assert f"(of {point} round {whole.trials[-1].repeat + 1})" in problem


def test_another_trial_of_the_number_is_not_taken_for_the_one_that_is_named(copy: Path) -> None:
    whole = load_run(copy)
    curve = next(outcome for outcome in whole.outcomes if outcome.load_curve)
    curve = curve.model_copy(update={"trials": 0})  # of an older harness, which did not count
    mine = [(trial.number, trial.repeat, trial.point) for trial in whole.trials]
    number = curve.load_curve[-1].trial
    other = [entry if entry[0] != number else (number, entry[1], "another point") for entry in mine]
    assert missing_trials(whole.info, [curve], mine, ()) == ""
    assert missing_trials(whole.info, [curve], other, ()).startswith("trials.jsonl lacks 1 of")


def test_an_interrupted_run_without_outcomes_can_be_read(copy: Path) -> None:
    (copy / "points.jsonl").unlink()
    info = json.loads((copy / "run.json").read_text())
    info.update(state="interrupted", ended_at=None, wall_s=None)
    (copy / "run.json").write_text(json.dumps(info))
    run = load_run(copy)
    statuses = {point.plan.id: point.status for point in summarise(run)}
    begun = {trial.point for trial in run.trials}
    assert statuses == {ident: "interrupted" if ident in begun else "missing" for ident in statuses}
    assert len(run.problems) == 2


@pytest.mark.parametrize("name", ["run.json", "trials.jsonl", "points.jsonl"])
def test_a_newer_schema_is_refused(copy: Path, name: str) -> None:
    file = copy / name
    first, _, rest = file.read_text().partition("\n")
    record = json.loads(file.read_text() if name == "run.json" else first)
    record["schema_version"] = 99
    file.write_text(json.dumps(record) + "\n" + ("" if name == "run.json" else rest))
    with pytest.raises(UsageError, match=r"schema version 99"):
        load_run(copy)


def test_damage_in_the_middle_is_an_error_with_its_place(copy: Path) -> None:
    file = copy / "trials.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[4] = b'{"schema_version": 1, "number": "x"}\n'
    file.write_bytes(b"".join(lines))
    with pytest.raises(UsageError, match=r"trials\.jsonl:5"):
        load_run(copy)


def test_a_pipe_in_place_of_a_file_does_not_hang(copy: Path) -> None:
    (copy / "points.jsonl").unlink()
    os.mkfifo(copy / "points.jsonl")
    with pytest.raises(UsageError, match="not a regular file"):
        load_run(copy)


def test_a_plan_that_is_none_is_an_error(copy: Path) -> None:
    info = json.loads((copy / "run.json").read_text())
    info["plan"] = {"points": 7}
    (copy / "run.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match="plan cannot be read"):
        load_run(copy)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        load_run(tmp_path / "nothing")


@pytest.mark.parametrize(("later", "problem", "headline", "reason"), [
    (1, "The run died", "No point was finished: the run ended in the middle of", "the run ended in the middle"),
    (0, "The run is under way", "No point is finished yet: the run is under way in the middle of", "under way, "),
])
def test_a_run_that_is_marked_running_is_under_way_or_died(copy: Path, later: int, problem: str, headline: str,
                                                           reason: str) -> None:
    me = this_process()
    info = json.loads((copy / "run.json").read_text())
    info.update(state="running", ended_at=None, owner=me.model_dump() | {"start_ticks": me.start_ticks + later})
    (copy / "run.json").write_text(json.dumps(info))
    (copy / "points.jsonl").write_text("")
    run = load_run(copy)
    assert run.problems[0].startswith(problem)
    run = replace(run, trials=tuple(trial for trial in run.trials if trial.phase is Phase.SEARCH))
    points = summarise(run)
    assert answer(run, points, looks(point.plan for point in points)).headline.startswith(headline)
    assert points[0].reason.startswith(reason)
