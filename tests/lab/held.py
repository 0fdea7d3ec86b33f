# SPDX-License-Identifier: Apache-2.0
"""A rack of one DUT that outlives the runs made on it, so that what a dead run left there can be seen; and what a run
said it had stored beside what its directory holds.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.host.link import LEASE_S
from harness.lab.lab import enter_argv
from tests.lab.snapshot import snapshot
from tests.rackhosts import Rack, rack

#: Until the agent of a silent controller has undone everything, its lease and the undoing; and until the generator's
#: agent has ended, whose client waits 12 s for each of its last calls (the trial's, stop, release) to a server that is
#: gone. No more than a bound: what is as before is seen at once.
_UNDONE_S = max(LEASE_S + 10.0, 4 * 12.0)


class Held:
    """The rack as :func:`tests.lab.snapshot.snapshot` looks at a lab; its state when nothing had yet been run."""

    def __init__(self, made: Rack) -> None:
        self.rack, (self.host,) = made, made.hosts.values()
        self.testbed, self.dut_netns = made.testbed(), self.host.netns
        self._await_links()
        self._before = self._state()

    def _await_links(self) -> None:
        """Until the kernel has noted that both ends of every wire are up, which it does a moment later."""
        deadline = time.monotonic() + 10
        for ifname in self.ifnames("dut"):
            while self.run("dut", "cat", f"/sys/class/net/{ifname}/operstate").strip() != "up":
                assert time.monotonic() < deadline, f"{ifname} does not come up"
                time.sleep(0.02)

    def ifnames(self, side: str) -> tuple[str, ...]:
        """Devices of the wires' ends of one side."""
        return tuple(port.ifname for port in (self.host if side == "dut" else self.rack.generator).ports)

    @property
    def server(self) -> subprocess.Popen[bytes]:
        """The DUT's SSH server."""
        return self.rack.inside.servers[self.host.name]

    def exec_argv(self, side: str, argv: Sequence[str]) -> list[str]:
        """On the DUT's side with the mounts of its SSH server."""
        if side != "dut":
            return enter_argv(self.rack.tg_netns, argv)
        return enter_argv(self.dut_netns, argv, ["--mounts-of", str(self.server.pid)])

    def run(self, side: str, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        """The output of a program of one side."""
        done = subprocess.run(self.exec_argv(side, argv), input=stdin, capture_output=True, text=True, check=False,
                              timeout=30)
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def pids(self, side: str, word: str) -> list[int]:
        """Processes of one side whose command line holds ``word``."""
        found = []
        for pid in _pids(self.dut_netns if side == "dut" else self.rack.tg_netns):
            try:
                if word in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(int(pid))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
        return found

    def _state(self) -> dict[str, str]:
        """The DUT's and the machine's, and what else a run has: its generator, the agent's journal."""
        journals = [path.name for path in sorted(self.host.folder.glob("*/journal*")) if path.stat().st_size]
        return snapshot(self) | {"generator's processes": str(Counter(map(_command, _pids(self.rack.tg_netns)))),
                                 "journals": str(journals)}

    def differences(self, besides: Collection[str] = (), longer_s: float = 0.0) -> dict[str, tuple[str, str]]:
        """Name -> (before, now) of all that is not as it was, once the lease of a controller that died has passed.
        ``besides``: state that is not looked at. ``longer_s``: for what is not the agent's to undo."""
        deadline = time.monotonic() + _UNDONE_S + longer_s
        while (left := self._changed(besides)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def _changed(self, besides: Collection[str]) -> dict[str, tuple[str, str]]:
        now = self._state()
        return {name: (self._before.get(name, ""), now.get(name, "")) for name in self._before | now
                if self._before.get(name) != now.get(name) and name not in besides}


@contextmanager
def held() -> Iterator[Held]:
    """One DUT with two wires."""
    with rack(["dut"]) as made:
        yield Held(made)


def _pids(namespace: str) -> list[str]:
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True)
    return done.stdout.split()


def _command(pid: str) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_text().replace(chr(0), ' ')[:200]}"
    except (FileNotFoundError, ProcessLookupError):
        return pid  # it has just ended


def stored(run_dir: Path) -> dict[int, dict[str, Any]]:
    """The trials on disk, by number: whole lines of the file, read without the harness."""
    trials: dict[int, dict[str, Any]] = {}
    for line in (run_dir / "trials.jsonl").read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            trial = json.loads(line)
            assert trial["number"] not in trials, "no number is given twice"
            trials[trial["number"]] = trial
    return trials


def lost(run_dir: Path, told: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Numbers of trials that the run said were stored and that are not on disk, or not with what was told of them."""
    there = stored(run_dir) if told else {}
    return [number for number, fields in told.items()
            if number not in there or any(there[number].get(name, KeyError) != value for name, value in fields.items())]
