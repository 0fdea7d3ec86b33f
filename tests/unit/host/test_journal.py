# SPDX-License-Identifier: Apache-2.0
"""The journal from inside: on disk before the change, and undone only where that is safe."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness.host import agent


@pytest.fixture
def host(tmp_path):
    places = agent.Places(str(tmp_path / "run"), str(tmp_path / "state"), str(tmp_path / "cache"))
    return agent.Host(places, agent.Journal(places.journal()), ())


def on_disk(host) -> list[dict]:
    return [json.loads(line) for line in Path(host.journal.path).read_text().splitlines()]


def test_the_intent_is_on_disk_before_the_change_and_confirmed_after(host, tmp_path, monkeypatch):
    target = tmp_path / "value"
    target.write_text("old")
    seen = []
    write = agent.write_value

    def spy(path, value):
        seen.append((target.read_text(), on_disk(host)))
        write(path, value)

    monkeypatch.setattr(agent, "write_value", spy)
    host.op_set_file(str(target), "new", True)
    (before, lines), = seen
    assert before == "old"
    assert [line["kind"] for line in lines] == ["file"]
    assert lines[0]["old"] == "old"
    assert on_disk(host)[-1] == {"seq": 1, "confirm": {}}
    assert host.op_undo_to(0) == []
    assert on_disk(host) == []


@pytest.mark.parametrize("op", ["apply", "create", "spawn"])
def test_every_change_has_its_intent_synced_first(host, tmp_path, monkeypatch, op):
    synced = []
    monkeypatch.setattr(agent.os, "fdatasync", lambda fd: synced.append(len(on_disk(host))))
    made = tmp_path / "made"
    if op == "apply":
        host.op_apply(["touch", str(made)], ["rm", str(made)], 5.0)
    elif op == "create":
        host.op_create(str(made), "text")
    else:
        pid = host.op_spawn(["sleep", "60"], "p", [], {})
        assert [line.get("confirm", {}).get("pid") for line in on_disk(host)] == [None, pid]
    assert synced[0] == 1
    monkeypatch.undo()
    assert host.op_undo_to(0) == []
    assert not made.exists()


def test_a_change_that_fails_is_taken_back_at_once(host, tmp_path, monkeypatch):
    target = tmp_path / "value"
    target.write_text("old")
    reads_back = agent.expect_value

    def differs(path, value):
        if value == "new":
            raise agent.AgentError("other")
        reads_back(path, value)

    monkeypatch.setattr(agent, "expect_value", differs)
    with pytest.raises(agent.AgentError, match="cannot be set to 'new': other"):
        host.op_set_file(str(target), "new", True)
    monkeypatch.undo()
    assert target.read_text() == "old"
    assert host.journal.live == {}


def test_the_same_value_is_no_change(host, tmp_path):
    target = tmp_path / "value"
    target.write_text("same")
    assert host.op_set_file(str(target), "same", True) is False
    assert on_disk(host) == []


def test_a_torn_last_line_is_passed_over(host, tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    host.op_set_file(str(target), "new", True)
    with open(host.journal.path, "a") as stream:
        stream.write('{"seq": 2, "kind": "fi')
    again = agent.Journal(host.journal.path)
    assert (list(again.live), again.damaged, again.last) == ([1], 1, 1)
    assert agent.Undo(again, {}).back_to(0) == []
    assert target.read_text() == "old"


def entry(journal, **fields) -> None:
    line = {"seq": journal.last + 1, "boot": agent.boot_id(), "netns": agent.netns_id(), **fields}
    journal._append(line, False)
    journal._apply(line)


def test_after_a_reboot_only_what_persists_is_undone(host, tmp_path):
    target, touched = tmp_path / "value", tmp_path / "touched"
    target.write_text("new")
    child = subprocess.Popen(["sleep", "60"])
    try:
        start = agent.start_time(child.pid)
        entry(host.journal, kind="file", boot="another", path=str(target), old="old", new="new", verify=True)
        entry(host.journal, kind="file", boot="another", path="/proc/sys/kernel/ostype", old="X", new="Y", verify=True)
        entry(host.journal, kind="apply", boot="another", do=["true"], undo=["touch", str(touched)])
        entry(host.journal, kind="spawn", boot="another", name="p", pid=child.pid, start=start, marker="m",
              confirmed=True)
        assert host.op_undo_to(0) == []
        assert target.read_text() == "old"
        assert not touched.exists()
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_another_process_of_the_same_pid_lives(host):
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        entry(host.journal, kind="spawn", name="p", pid=child.pid, start=1, marker="m", confirmed=True)
        entry(host.journal, kind="pin", pid=child.pid, start=1, policy=0, priority=0, cores=[0])
        before = os.sched_getaffinity(child.pid)
        assert host.op_undo_to(0) == []
        assert child.poll() is None
        assert os.sched_getaffinity(child.pid) == before
    finally:
        child.kill()
        child.wait()


def test_another_namespace_is_left_alone(host, tmp_path):
    touched = tmp_path / "touched"
    entry(host.journal, kind="apply", netns="1", do=["true"], undo=["touch", str(touched)])
    entry(host.journal, kind="file", netns="1", path="/proc/sys/net/ipv4/ip_default_ttl", old="1", new="2",
          verify=True)
    assert host.op_undo_to(0) == []
    assert not touched.exists()


def test_what_went_away_needs_no_undo(host, tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    host.op_set_file(str(target), "new", True)
    target.unlink()
    host.op_create(str(tmp_path / "made"), "text")
    (tmp_path / "made").unlink()
    assert host.op_undo_to(0) == []


def test_an_unknown_entry_fails_alone(host, tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    host.op_set_file(str(target), "new", True)
    entry(host.journal, kind="sorcery")
    failures = host.op_undo_to(0)
    assert len(failures) == 1
    assert "sorcery" in failures[0]
    assert target.read_text() == "old"
    assert "not undone" in (tmp_path / "state" / "agent.log").read_text()


def test_what_could_not_be_undone_is_kept_and_tried_again_by_the_next(host, tmp_path):
    obstacle, undone = tmp_path / "obstacle", tmp_path / "undone"
    obstacle.touch()
    undo = ["sh", "-c", f"echo once more >> {undone}; test ! -e {obstacle}"]
    host.op_apply(["true"], undo, 5.0)
    host.op_apply(["true"], ["true"], 5.0)
    assert len(host.op_undo_to(0)) == 1
    assert [line.get("failed", "").split(":")[0] for line in on_disk(host)][-1] == "exit status 1"
    assert host.op_undo_to(0) == []  # said once; this agent does not try again
    again = agent.Host(host.places, agent.Journal(host.journal.path), ())
    assert list(again.journal.live) == [1]
    assert len(again.undo_left_over()) == 1
    obstacle.unlink()
    last = agent.Host(host.places, agent.Journal(host.journal.path), ())
    assert last.undo_left_over() == []
    assert undone.read_text() == 3 * "once more\n"
    assert on_disk(last) == []


@pytest.mark.parametrize("there", [True, False])
def test_an_undo_with_a_guard_runs_only_while_there_is_something_to_undo(host, tmp_path, there):
    made = tmp_path / "made"
    host.op_apply(["touch", str(made)], ["rm", str(made)], 5.0, ["test", "-e", str(made)])
    if not there:
        made.unlink()
    again = agent.Host(host.places, agent.Journal(host.journal.path), ())
    assert again.undo_left_over() == []
    assert not made.exists()


def test_a_folder_that_others_can_read_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(agent.AgentError, match="not a folder private"):
        agent.private_folder(str(folder))
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(agent.AgentError, match="not a folder private"):
        agent.private_folder(str(tmp_path / "link"))


@pytest.mark.parametrize(("shown", "meant", "same"), [
    ("always [madvise] never", "madvise", True), ("00000000,00000003\n", "3", True), ("4096\t131072", "4096 131072",
     True), ("0", "00", True), ("10", "1", False), ("[a]", "[a]", True), ("", "", True), ("off", "on", False),
])
def test_values_of_kernel_files(shown, meant, same):
    assert agent.same_value(shown, meant) is same


def test_choices_are_written_back_as_the_chosen_word():
    assert agent.settable("[mq-deadline] kyber none\n") == "mq-deadline"
    assert agent.settable("4096\t87380\t6291456\n") == "4096\t87380\t6291456"
