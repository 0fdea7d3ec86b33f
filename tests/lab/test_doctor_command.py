# SPDX-License-Identifier: Apache-2.0
"""A lab that is not fit refuses the run; the command as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import TestbedError
from harness.lab.lab import Lab
from harness.options import RunOptions
from harness.progress import make_progress
from harness.resources import resource
from harness.runner import run
from harness.store import RunReader

pytestmark = pytest.mark.lab

QUICKSTART = resource("scenarios") / "quickstart.yaml"


def test_a_run_is_refused_before_anything_is_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up = Lab.up

    def broken(*args: Any, **named: Any) -> Lab:
        made = up(*args, **named)
        argv = made.exec_argv("dut", ["ip", "link", "set", "dev", made.ifnames("dut")[0], "down"])
        subprocess.run(argv, check=True)
        return made

    monkeypatch.setattr(Lab, "up", broken)
    progress = make_progress(as_json=True, out=sys.stdout, err=sys.stderr, quiet=True)
    with pytest.raises(TestbedError, match=r"not fit:\n  link \(dut h\w+\): set down, expected up"), progress:
        run(RunOptions(QUICKSTART, "lab", results=tmp_path), progress)
    reader = RunReader(next(tmp_path.iterdir()))
    assert (reader.info.state, reader.info.exit_code) == ("failed", 3)
    assert list(reader.trials()) == []
    assert {check.status for check in reader.info.checks} >= {"ok", "fail"}
    assert reader.info.hosts["generator"]["cpu"]["cores"]


def test_the_command_prints_json_and_leaves_no_lab() -> None:
    before = {status.name for status in Lab.status()}
    done = subprocess.run([sys.executable, "-m", "harness", "doctor", "--json"], capture_output=True, text=True,
                          check=False)
    told = json.loads(done.stdout)
    assert done.returncode == told["exit_code"] == 0
    assert told["counts"]["ok"] > 15
    assert {check["name"] for check in told["checks"]} >= {"wires", "frame-size", "link", "load"}
    assert {status.name for status in Lab.status()} <= before
