# SPDX-License-Identifier: Apache-2.0
"""Identity and stopping of processes, on children of this test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.lab import process
from harness.lab.process import ProcessId, alive, identify, running, stat_fields, stop_all


def test_stat_line_with_a_hostile_name() -> None:
    line = "42 (a) S (b) R) S 1 " + " ".join(str(n) for n in range(5, 53))
    assert stat_fields(line) == ("a) S (b) R", "S", 22)


def test_a_recycled_pid_is_another_process() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert alive(own)
    assert not alive(ProcessId(own.pid, own.start - 1))


def test_zombies_are_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    child_id = identify(child.pid)
    assert child_id is not None
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identify(child.pid) == child_id
    assert not alive(child_id)
    child.communicate()
    assert identify(child.pid) is None


def test_a_name_runs_until_its_process_has_ended(tmp_path: Path) -> None:
    program = tmp_path / "hlab_named"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "1000"])
    try:
        deadline = time.monotonic() + 5
        while not running("hlab_named"):  # Popen may return before the name is that of the new program
            assert time.monotonic() < deadline
            time.sleep(0.005)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.comm_of(child.pid) == "hlab_named"
        assert not running("hlab_named")
    finally:
        child.kill()
        child.wait()


def test_stopping_escalates_until_the_stubborn_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_LADDER", ((signal.SIGINT, 0.05), (signal.SIGTERM, 0.05), (signal.SIGKILL, 3.0)))
    code = ("import signal, sys; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN);"
            "print('ready', flush=True); signal.pause()")
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child_id = identify(child.pid)
    assert child_id is not None
    stop_all(lambda: {p for p in (child_id,) if alive(p)})
    child.communicate()
    assert child.returncode == -signal.SIGKILL
