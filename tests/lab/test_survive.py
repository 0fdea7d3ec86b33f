# SPDX-License-Identifier: Apache-2.0
"""The harness killed at random moments of a run and the run resumed: no finished trial is lost, the resumed run holds
what an undisturbed one does, and the machine is as before.

``NSH_KILLS`` kills (5), at moments by ``NSH_SEED`` (printed). ``make soak`` runs the full count.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.lab.lab import Lab
from harness.store import RunReader
from tests.lab.test_run import machine
from tests.soak import keep

pytestmark = pytest.mark.lab

KILLS = int(os.environ.get("NSH_KILLS", "5"))
SEED = int(os.environ.get("NSH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
#: A session of the scenario below takes about 20 s undisturbed, of which setting up takes 3: moments of every kind.
_LATEST_KILL_S = 12.0
SCENARIO = """
name: survive
role: drop
traffic: {frame: 64, flows: 16}
cores: [1]
stacks: [xdp, linux-udp]
measure:
  load_curve: {rates: [5k, 10k], trial: 2s}
  warmup: 100ms
repeat: 2
"""


def harness(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "harness", "run", *words, "--results", str(folder / "r")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(argv, stdout=log, stderr=log)


def killed_at(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill it then; False when it had ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def lines(folder: Path) -> dict[str, list[bytes]]:
    """Whole lines of the trials of every run."""
    return {path.parent.name: [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
            for path in (folder / "r").glob("*/trials.jsonl")}


def resumable(folder: Path) -> str | None:
    """The run to go on with; None when the harness was killed before it made one."""
    found = [path.name for path in sorted((folder / "r").glob("*")) if RunReader(path).info.state != "complete"]
    return found[-1] if found else None


def test_killed_at_random_moments_a_run_loses_no_trial_and_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():  # also of a test that passes: a run in CI can be made again
        print(f"\n  seed {SEED}, {KILLS} kills", flush=True)
    chance, before = random.Random(SEED), machine()
    scenario = tmp_path / "s.yaml"
    scenario.write_text(SCENARIO)
    kills, kept = 0, dict[str, list[bytes]]()
    while True:
        name = resumable(tmp_path) if (tmp_path / "r").exists() else None
        process = harness(tmp_path, "--resume", name) if name else harness(tmp_path, str(scenario))
        if kills < KILLS:
            kills += killed_at(process, chance.uniform(0.2, _LATEST_KILL_S))
        else:
            process.wait()
        now = lines(tmp_path)
        for run, earlier in kept.items():
            assert now[run][:len(earlier)] == earlier, f"{run} lost trials"
        kept = now
        if kills == KILLS and process.returncode == 0:
            break
        assert process.returncode in (0, -9), (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert len(kept) >= 1
    for path in sorted((tmp_path / "r").glob("*")):
        run = RunReader(path)
        assert run.info.state == "complete"
        sequence = [tuple(entry) for entry in run.info.plan["sequence"]]
        assert [(o.repeat, o.point) for o in run.outcomes()] == sequence
        assert [o.status for o in run.outcomes()] == ["ok"] * 4
        loads = {(t.repeat, t.point, t.asked_pps) for t in run.trials() if t.phase == "load" and not t.superseded}
        assert len(loads) == 8
        print(f"{path.name}: {len(list(run.every_trial()))} trials, {len(run.info.resumed)} times resumed, "
              f"{sum(len(r.abandoned) for r in run.info.resumed)} trials made again")
    deadline = time.monotonic() + 15  # a dead controller's processes end when its lease does
    while machine() != before and time.monotonic() < deadline:
        Lab.clean_stale()
        time.sleep(0.2)
    assert machine() == before
    keep("kills", {"seed": SEED, "kills": KILLS, "runs": len(kept), "trials": sum(map(len, kept.values())),
                   "trials_lost": 0, "differences": 0})
