# SPDX-License-Identifier: Apache-2.0
"""What labs make outside their own directories goes with the last of them, unless it was there before or is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.lab import lab, netns, sshd
from harness.lab.state import LabStore, new_record


@pytest.fixture
def privsep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sshd, "PRIVSEP_DIR", tmp_path / "sshd")
    monkeypatch.setattr(netns, "NETNS_DIR", tmp_path)
    monkeypatch.setattr(netns, "prepare_directory", lambda: None)
    monkeypatch.setattr(lab, "running", lambda comm: False)
    return tmp_path / "sshd"


def shared_cycle(root: Path) -> None:
    """One lab that makes the shared things and is the last to go."""
    store = LabStore(root)
    with store.lock():
        store.claim(new_record("abc", persistent=False, wires=1, queues=1))
        lab.make_shared(store)
        store.forget("abc")
        lab._remove_shared(store)


def test_made_by_a_lab_it_goes_with_it(privsep: Path, tmp_path: Path) -> None:
    shared_cycle(tmp_path / "labs")
    assert not privsep.exists()
    assert not (tmp_path / "labs").exists()


def test_there_before_it_stays(privsep: Path, tmp_path: Path) -> None:
    privsep.mkdir()
    shared_cycle(tmp_path / "labs")
    assert privsep.is_dir()


def test_used_by_the_machines_own_server_by_now_it_stays(privsep: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "running", lambda comm: comm == "sshd")
    shared_cycle(tmp_path / "labs")
    assert privsep.is_dir()
