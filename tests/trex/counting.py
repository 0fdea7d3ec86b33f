# SPDX-License-Identifier: Apache-2.0
"""Counts of a run's trials taken by others than the harness: TRex's own statistics by a second client, and those of the
DUT's interfaces."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.lab.lab import enter_argv
from harness.plan import Plan
from harness.progress import Reporter
from harness.records import Phase, Trial
from harness.store import RunReader
from tests.trex.testbeds import SYNC_PORT, TrexRack

#: A second client of TRex's, which owns nothing: answers every line with each port's statistics.
_STATISTICS = """
import json, sys, zmq
socket = zmq.Context().socket(zmq.REQ)
socket.setsockopt(zmq.RCVTIMEO, 5000)
socket.connect("tcp://127.0.0.1:" + sys.argv[1])
def call(method, **params):
    socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    return json.loads(socket.recv().decode())["result"]
for line in sys.stdin:
    handle = call("api_sync_v2", name="STL", major=5, minor=1)["api_h"]
    print(json.dumps([call("get_port_stats", port_id=port, api_h=handle) for port in (0, 1)]), flush=True)
"""


@dataclass
class Counted:
    """Differences over one trial. ``trex``: of each port's statistics; ``dut``: of each port's interface."""

    trex: list[dict[str, int]]
    dut: list[dict[str, int]]


@dataclass
class Counting(Reporter):
    """Keeps the messages of a run, and what everybody counted in each of its load trials. ``trex`` false: TRex is not
    asked (xdpgen runs)."""

    made: TrexRack
    trex: bool = True
    path: Path = Path()
    said: list[str] = field(default_factory=list)
    counted: dict[int, Counted] = field(default_factory=dict)
    _client: subprocess.Popen[str] | None = None
    _first: Counted | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def run_started(self, plan: Plan, run_dir: Path | None = None) -> None:
        super().run_started(plan, run_dir)
        assert run_dir is not None
        self.path = run_dir

    def message(self, text: str) -> None:
        self.said.append(text)

    def trial_started(self, phase: Phase, asked_pps: float, duration_s: float) -> None:
        self._first = self._now() if phase is Phase.LOAD else None

    def trial_done(self, trial: Trial) -> None:
        if self._first is not None and trial.phase is Phase.LOAD:
            now = self._now()
            self.counted[trial.number] = Counted(
                [_change(a, b) for a, b in zip(self._first.trex, now.trex, strict=True)],
                [_change(a, b) for a, b in zip(self._first.dut, now.dut, strict=True)])

    def _now(self) -> Counted:
        sut = self.made.sut
        dut = [{name: sut.counter(port, name) for name in ("rx_packets", "tx_packets", "rx_dropped")}
               for port in range(2)]
        return Counted(self._statistics() if self.trex else [], dut)

    def _statistics(self) -> list[dict[str, int]]:
        if self._client is None:
            argv = enter_argv(self.made.generator.netns, [sys.executable, "-c", _STATISTICS, str(SYNC_PORT)])
            self._client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write("\n")
        self._client.stdin.flush()
        answer: list[dict[str, int]] = json.loads(self._client.stdout.readline())
        return answer

    def close(self) -> None:
        """End the second client."""
        if self._client is not None:
            self._client.communicate()

    def load_trials(self) -> list[Trial]:
        """Of the load curve, those that count."""
        return [trial for trial in RunReader(self.path).trials() if trial.phase is Phase.LOAD]


def _change(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    return {name: int(value - before[name]) for name, value in after.items() if isinstance(value, int)}
