# SPDX-License-Identifier: Apache-2.0
"""Records of labs: who owns them, when they are stale, and that the directory comes and goes."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from harness.lab.cores import CorePauses, CoreSplit
from harness.lab.errors import LabError, LabNameError
from harness.lab.interrupts import deferred_interrupts
from harness.lab.process import ProcessId
from harness.lab.state import LabRecord, LabStore, completed, new_record


@pytest.fixture
def store(tmp_path: Path) -> LabStore:
    return LabStore(tmp_path / "labs")


def record(name: str = "abc", *, persistent: bool = False) -> LabRecord:
    return new_record(name, persistent=persistent, wires=2, queues=2)


def test_a_record_survives_the_disk(store: LabStore) -> None:
    split = CoreSplit(tg=(0,), dut=(1, 2), pauses={0: CorePauses(1, 2, 3)})
    with store.lock():
        store.claim(record())
        store.write(replace(record(), split=split, created=5.0))
    read = store.read("abc")
    assert read == replace(record(), split=split, created=5.0)


def test_the_root_is_private_and_goes_with_the_last_lab(store: LabStore) -> None:
    with store.lock():
        store.claim(record())
    assert store.root.stat().st_mode & 0o777 == 0o700
    assert store.directory("abc").stat().st_mode & 0o777 == 0o700
    with store.lock():
        store.forget("abc")
    assert not store.root.exists()


def test_a_name_is_claimed_once(store: LabStore) -> None:
    with store.lock():
        store.claim(record())
        with pytest.raises(LabNameError, match="up already"):
            store.claim(record())


def test_staleness_follows_the_owner_and_the_boot() -> None:
    own = record()
    assert own.owner is not None
    assert not own.stale()
    assert replace(own, owner=ProcessId(own.owner.pid, own.owner.start + 1)).stale()
    assert replace(own, boot="another").stale()


def test_a_persistent_lab_loses_its_owner_only_when_complete() -> None:
    building = record(persistent=True)
    assert building.owner is not None
    assert completed(building).owner is None
    assert not completed(building).stale()
    assert completed(record()).owner is not None


def test_half_claimed_and_foreign_directories(store: LabStore) -> None:
    with store.lock():
        store.claim(record("one"))
        (store.root / "two").mkdir()
        (store.root / "other").mkdir()
        (store.root / "other" / "file").touch()
        (store.root / "Not-A-Lab").mkdir()
    assert store.names() == ["one", "two"]
    assert store.read("two") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 99}', "\x00\x01"])
def test_an_unreadable_record_says_how_to_get_rid_of_it(store: LabStore, content: str) -> None:
    with store.lock():
        store.claim(record())
        (store.directory("abc") / "lab.json").write_text(content, encoding="utf-8")
    with pytest.raises(LabError, match="harness lab down abc"):
        store.read("abc")


def test_an_unknown_lab_is_a_usage_error(store: LabStore) -> None:
    with pytest.raises(LabNameError, match="lab status"):
        store.read("nope")


def test_recorded_processes_are_those_alive_in_this_boot(store: LabStore) -> None:
    with store.lock():
        store.claim(record())
        store.note_process("abc", "self", os.getpid())
    assert store.processes("abc")["self"].pid == os.getpid()
    path = store.directory("abc") / "pids" / "self.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"boot": "', '"boot": "x'), encoding="utf-8")
    assert store.processes("abc") == {}


def test_who_waits_for_the_lock_on_a_removed_root_gets_the_new_one(store: LabStore) -> None:
    inside, claimed = threading.Event(), threading.Event()

    def claim() -> None:
        inside.set()
        with store.lock():
            store.claim(record("two"))
        claimed.set()

    thread = threading.Thread(target=claim)
    with store.lock():
        thread.start()
        inside.wait(5)
    thread.join(5)
    assert claimed.is_set()
    assert store.names() == ["two"]


def test_interrupts_wait_for_the_end_of_the_block() -> None:
    steps = []

    def block() -> None:
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
            steps.append("finished")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["finished"]
