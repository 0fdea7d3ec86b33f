# SPDX-License-Identifier: Apache-2.0
"""Run directories: what a killed run keeps, what a complete one refuses, what a foreign one says."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import owner
from harness.errors import ResultsError, UsageError
from harness.records import SCHEMA_VERSION, Phase, PointOutcome, RunInfo, Trial
from harness.rundata import load_run
from harness.store import MOST_BYTES, RunReader, RunWriter, Store, new_run_id, write_atomically

DATA = Path(__file__).parents[1] / "data"


def info(run_id: str = "r1") -> RunInfo:
    return RunInfo(run_id=run_id, harness_version="0", started_at="now", command=["harness"], scenario_text="",
                   scenario={}, plan={}, seed=1)


def trial(number: int) -> Trial:
    return Trial(number=number, point="p", repeat=0, phase=Phase.SEARCH, started_at="", asked_pps=1.0,
                 duration_s=1.0, real_s=1.0)


def test_round_trip_and_read_only_once_complete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.create(info()) as writer:
        writer.add_trial(trial(1))
        writer.add_trial(trial(2))
        writer.add_outcome(PointOutcome(point="p", repeat=0))
        writer.log("../../evil name.log", "text")
        writer.finish("complete", 0)
    run = store.open("r1")
    assert [t.number for t in run.trials()] == [1, 2]
    assert [o.point for o in run.outcomes()] == ["p"]
    assert run.info.state == "complete"
    assert oct((tmp_path / "r1" / "trials.jsonl").stat().st_mode & 0o777) == "0o444"
    assert os.listdir(tmp_path / "r1" / "logs") == [".._.._evil_name.log"]


def test_a_trial_is_on_disk_before_the_next_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    with Store(tmp_path).create(info()) as writer:
        writer.add_trial(trial(1))
        assert json.loads((tmp_path / "r1" / "trials.jsonl").read_text())["number"] == 1
    with (tmp_path / "r1" / "trials.jsonl").open("a") as stream:
        stream.write('{"number": 2, "cut')
    assert [t.number for t in Store(tmp_path).open("latest").trials()] == [1]


@pytest.mark.parametrize(("text", "message"), [
    ("not json", "not JSON"), ("[]", "schema version None"),
    ('{"schema_version": 99}', "schema version 99, written by a newer harness"),
    ('{"schema_version": true}', "not a record"), ('{"schema_version": 0}', "not a record"),
    ('{"schema_version": 1, "surprise": 1}', "surprise|Field required"), ("[" * 100_000, "not JSON"),
])
def test_foreign_run_files_are_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "run.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        Store(tmp_path).open("r")


def test_a_run_of_schema_1_is_read_by_every_later_harness() -> None:
    run = load_run(DATA / "runs" / "schema-1")
    assert {outcome.point for outcome in run.outcomes} == {point.id for point in run.plan.points}
    assert {trial.schema_version for trial in run.trials} == {SCHEMA_VERSION}
    assert run.info.request is None


def test_trials_cut_at_any_byte_are_read_up_to_the_last_whole_line(tmp_path: Path) -> None:
    with Store(tmp_path).create(info()) as writer:
        for number in range(3):
            writer.add_trial(trial(number))
        writer.finish("interrupted", 130)
    file = tmp_path / "r1" / "trials.jsonl"
    whole = file.read_bytes()
    for length in range(len(whole), -1, -1):
        os.truncate(file, length)
        run = Store(tmp_path).open("r1")
        assert [t.number for t in run.trials()] == list(range(whole[:length].count(b"\n")))
        cut = "The last line of trials.jsonl is cut short and was left out." in run.problems()
        assert cut == (length > 0 and whole[length - 1:length] != b"\n")


def test_names_must_be_unique_beginnings(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("aa", "ab"):
        store.create(info(name)).__exit__()
    assert store.open("aa").info.run_id == "aa"
    with pytest.raises(UsageError, match="2 runs"):
        store.open("a")
    with pytest.raises(UsageError, match="no run"):
        store.open("zz")


def test_run_ids_are_safe_and_unique() -> None:
    first, second = new_run_id("../x y"), new_run_id("../x y")
    assert first != second
    assert "/" not in first


def test_an_atomic_write_that_fails_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f"
    write_atomically(target, "old")

    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_run_whose_process_is_gone_has_died(tmp_path: Path) -> None:
    code = ("import os, pathlib, signal, sys; from harness.records import RunInfo; from harness.store import Store; "
            "Store(pathlib.Path(sys.argv[1])).create(RunInfo.model_validate_json(sys.argv[2])); "
            "os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), info().model_dump_json()], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Store(tmp_path).open("r1").info.state == "died"
    with Store(tmp_path).create(info("r2")):
        assert Store(tmp_path).open("r2").info.state == "running"
        elsewhere = json.loads((tmp_path / "r1" / "run.json").read_text())
        elsewhere["owner"]["boot_id"] = "another machine's"
        (tmp_path / "r1" / "run.json").write_text(json.dumps(elsewhere))
        assert Store(tmp_path).open("r1").info.state == "running"


def test_another_process_of_the_same_number_is_not_the_owner() -> None:
    me = owner.this_process()
    assert not owner.gone(me)
    assert owner.gone(me.model_copy(update={"start_ticks": me.start_ticks + 1}))


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x"])
def test_results_that_cannot_be_kept_are_refused_first(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name a directory that can be written to with --results"):
        Store(tmp_path / place).check_writable()
    Store(tmp_path / "new" / "one").check_writable()
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_refuses_a_line_ends_the_run_in_words(tmp_path: Path) -> None:
    writer = Store(tmp_path).create(info())
    writer.add_trial(trial(1))
    size = (tmp_path / "r1" / "trials.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(ResultsError, match="results cannot be written: File too large"):
            writer.add_trial(trial(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with writer:
        writer.finish("failed", 4)
    run = Store(tmp_path).open("r1")
    assert run.info.state == "failed"
    assert [t.number for t in run.trials()] == [1]
    assert sorted(os.listdir(tmp_path / "r1")) == ["logs", "points.jsonl", "run.json", "trials.jsonl"]


def test_the_beginning_of_several_names_says_how_many(tmp_path: Path) -> None:
    for name in ("2026-a", "2026-ab", "2026-b"):
        with Store(tmp_path).create(info(name)):
            pass
    with pytest.raises(UsageError, match="2026: there are 3 runs whose names begin with that"):
        Store(tmp_path).open("2026")
    assert Store(tmp_path).open("2026-a").info.run_id == "2026-a"
    with pytest.raises(UsageError, match=r"latest: there are no runs in .*--results names another directory"):
        Store(tmp_path / "nowhere").open("latest")
    with pytest.raises(UsageError, match="1999: no run of that name"):
        Store(tmp_path).open("1999")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A run of somebody else's that ended early, beside ``victim``, a file of ours."""
    with Store(tmp_path / "results").create(info()) as writer:
        writer.add_trial(trial(1))
        writer.finish("interrupted", 130)
    (tmp_path / "victim").write_bytes(b"one line\nand what a writer would cut")
    return tmp_path / "results" / "r1"


@pytest.mark.parametrize("how", ["link", "hard link", "pipe"])
@pytest.mark.parametrize("name", [".reserve", "trials.jsonl", "points.jsonl", "logs", "logs/anomalies"])
def test_going_on_with_a_foreign_run_writes_nothing_outside_it(foreign: Path, name: str, how: str) -> None:
    file, victim = foreign / name, foreign.parents[1] / "victim"
    target = victim if "." in name else foreign.parents[1]
    if file.is_dir():
        file.rmdir()
    file.unlink(missing_ok=True)
    if how == "pipe":
        os.mkfifo(file)
    elif how == "link":
        file.symlink_to(target)
    else:
        os.link(victim, file)
    before = victim.read_bytes(), victim.stat().st_mode, sorted(os.listdir(foreign.parents[1]))
    with pytest.raises(UsageError, match=f"{file}: "):
        RunWriter(foreign, info(), again=True)
    assert (victim.read_bytes(), victim.stat().st_mode, sorted(os.listdir(foreign.parents[1]))) == before


def test_a_foreign_runs_own_directory_and_its_logs_are_no_links(foreign: Path) -> None:
    victim = foreign.parents[1] / "victim"
    before = victim.read_bytes()
    (foreign.parents[1] / "elsewhere").symlink_to(foreign)
    with pytest.raises(UsageError, match="elsewhere: a link, not a directory"):
        RunWriter(foreign.parents[1] / "elsewhere", info(), again=True)
    (foreign / "logs" / "trex.log").symlink_to(victim)
    (foreign / ".reserve").write_text("what a killed run leaves")
    with RunWriter(foreign, info(), again=True) as writer:
        with pytest.raises(UsageError, match=r"trex\.log: a link"):
            writer.log("trex.log", "text")
        (foreign / "run.json").unlink()
        (foreign / "run.json").symlink_to(victim)
        writer.finish("complete", 0)
    assert victim.read_bytes() == before
    assert victim.stat().st_mode & 0o222
    assert (foreign / "run.json").lstat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("name", ["run.json", "trials.jsonl", "points.jsonl"])
def test_links_and_oversized_files_are_not_read(foreign: Path, name: str) -> None:
    store, file = Store(foreign.parent), foreign / name
    kept = file.rename(foreign.parents[1] / "kept")
    file.symlink_to(kept)
    with pytest.raises(UsageError, match=f"{file}: a link, not a regular file"):
        load_run(foreign)
    with pytest.raises(UsageError, match=f"{file}: a link, not a regular file"):
        store.open("r1")
    assert store.runs() == ([] if name == "run.json" else [foreign])
    file.unlink()
    kept.rename(file)
    os.truncate(file, MOST_BYTES[name] + 1)
    with pytest.raises(UsageError, match=rf"{file}: [\d,]+ bytes, larger than"):
        load_run(foreign)


def test_a_link_is_taken_for_the_run_beside_it_and_for_nothing_else(foreign: Path) -> None:
    store = Store(foreign.parent)
    (store.root / "latest").symlink_to("r1")
    assert store.open("latest").path == RunReader(store.root / "latest").path == foreign
    assert store.runs() == [foreign]
    away = Path(shutil.move(foreign, foreign.parents[1] / "away"))
    (store.root / "r1").symlink_to(away)
    assert store.runs() == []
    for name in ("r1", "latest", str(store.root / "r1")):
        with pytest.raises(UsageError, match=r"a link that leads out of its directory, to .*away"):
            store.open(name)
