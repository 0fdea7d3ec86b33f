# SPDX-License-Identifier: Apache-2.0
"""The harness killed at random moments of a run and the run resumed: no finished trial is lost, the resumed run holds
what an undisturbed one does, and the hosts are as before. The testbed outlives the runs: what a dead one left is seen.

``NSH_KILLS`` kills (5), at moments by ``NSH_SEED`` (printed). ``make soak`` runs the full count.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.store import RunReader
from tests.lab.held import Held, held, lost
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


@dataclass
class Sessions:
    """The harness started again and again, as its user does, and what each session said."""

    folder: Path
    bed: Held
    #: By run and number: what the progress told of trials when they were stored.
    told: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    lost: set[tuple[str, int]] = field(default_factory=set)
    #: What was not as before after a session, each time.
    differences: list[dict[str, tuple[str, str]]] = field(default_factory=list)
    kills: int = 0

    def run(self, kill_after_s: float | None) -> int:
        """A session, gone on with or new; -9 where it was killed. Then look at the store and the hosts."""
        name = self._resumable()
        words = ["--resume", name] if name else [str(self.folder / "s.yaml"), "--testbed", str(self.bed.testbed)]
        argv = [sys.executable, "-m", "harness", "run", *words, "--json", "--results", str(self.folder / "r")]
        events = self.folder / "events"
        with (self.folder / "log").open("ab") as log, events.open("wb") as out:
            process = subprocess.Popen(argv, stdout=out, stderr=log)
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.kills += 1
        self._hear(events)
        for run, told in self.told.items():
            self.lost |= {(run, number) for number in lost(self.folder / "r" / run, told)}
        if left := self.bed.differences():
            self.differences.append(left)
            print(f"LEFT: {left}")
        return process.returncode

    def _hear(self, events: Path) -> None:
        run = ""
        for line in events.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return  # killed while it said this
            event = json.loads(line)
            if event["event"] == "run_started":
                run = Path(event["run"]).name
            elif event["event"] == "trial_done":
                del event["event"]
                assert self.told.setdefault(run, {}).setdefault(event["number"], event) is event, "numbered twice"

    def _resumable(self) -> str | None:
        """The run to go on with; None when the harness was killed before it made one."""
        found = [path.name for path in sorted((self.folder / "r").glob("*"))
                 if RunReader(path).info.state != "complete"]
        return found[-1] if found else None


def check_whole(path: Path) -> None:
    """The run holds what an undisturbed one does."""
    run = RunReader(path)
    assert run.info.state == "complete"
    assert [(o.repeat, o.point) for o in run.outcomes()] == [tuple(entry) for entry in run.info.plan["sequence"]]
    assert [o.status for o in run.outcomes()] == ["ok"] * 4
    loads = {(t.repeat, t.point, t.asked_pps) for t in run.trials() if t.phase == "load" and not t.superseded}
    assert len(loads) == 8
    print(f"{path.name}: {len(list(run.every_trial()))} trials, {len(run.info.resumed)} times resumed, "
          f"{sum(len(r.abandoned) for r in run.info.resumed)} trials made again")


def test_killed_at_random_moments_a_run_loses_no_trial_and_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():  # also of a test that passes: a run in CI can be made again
        print(f"\n  seed {SEED}, {KILLS} kills", flush=True)
    chance = random.Random(SEED)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    with held() as bed:
        sessions = Sessions(tmp_path, bed)
        while True:
            code = sessions.run(chance.uniform(0.2, _LATEST_KILL_S) if sessions.kills < KILLS else None)
            assert code in (0, -9), (tmp_path / "log").read_text()
            if sessions.kills == KILLS and code == 0:
                break
    assert "Traceback" not in (tmp_path / "log").read_text()
    for path in sorted((tmp_path / "r").glob("*")):
        check_whole(path)
    figures = {"seed": SEED, "kills": sessions.kills, "runs": len(sessions.told),
               "trials_told": sum(map(len, sessions.told.values())), "trials_lost": len(sessions.lost),
               "differences": sum(map(len, sessions.differences))}
    print(figures)
    assert figures["trials_told"] >= 8
    assert not sessions.lost
    assert not sessions.differences
    keep("kills", figures)
