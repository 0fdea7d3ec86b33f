# SPDX-License-Identifier: Apache-2.0
"""Frames lost in the queueing discipline of the DUT's port, on the way out: counted there, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.lab.lab import Lab
from harness.measure.places import QDISC
from harness.options import RunOptions
from harness.records import Phase, Trial
from harness.runner import run
from tests.watching import Watching

pytestmark = pytest.mark.lab

SCENARIO = """
name: shaped
role: {role}
traffic: {{frame: 64, flows: 16}}
stacks:
  - {stack}
measure:
  load_curve: {{rates: [{rates}], trial: 2s}}
  warmup: 100ms
order: given
"""
#: What is put on the port before each trial of the load curve. 5 Mbit/s are 10,400 frames of 60 bytes a second, and no
#: queue holds more than 5 ms of them.
SHAPED = ("tbf rate 5mbit burst 2000 limit 3000",)
LEAF = ("handle 1: tbf rate 5mbit burst 2000 limit 3000", "parent 1: handle 10: pfifo limit 20")
CLASSES = ("handle 1: htb default 1", "class parent 1: classid 1:1 htb rate 5mbit",
           "parent 1:1 handle 20: pfifo limit 20")


def own_labs() -> set[str]:
    """Labs of this process: other tests' fixtures may hold one."""
    return {status.name for status in Lab.status() if status.owner == os.getpid()}


def shape(name: str, port: int, what: tuple[str, ...]) -> None:
    """A queueing discipline in the place of the one before; none: as the port was made."""
    ifname = Lab.open(name).ifnames("dut")[port]
    subprocess.run(["ip", "netns", "exec", f"nsh-{name}-dut", "tc", "qdisc", "del", "dev", ifname, "root"],
                   check=False, capture_output=True)
    for text in what:
        kind, words = ("class", text.split()[1:]) if text.startswith("class") else ("qdisc", text.split())
        where = [] if words[0] == "parent" else ["root"]
        subprocess.run(["ip", "netns", "exec", f"nsh-{name}-dut", "tc", kind, "add", "dev", ifname, *where, *words],
                       check=True)


def measured(folder: Path, stack: str, role: str, port: int, shapes: list[tuple[str, ...]]) -> list[Trial]:
    """A trial of 30 kpps for each shape."""
    left, others = list(shapes), own_labs()

    def before(phase: Phase) -> None:
        if phase is Phase.LOAD:
            (name,) = own_labs() - others
            shape(name, port, left.pop(0))

    scenario = folder / f"{role}.yaml"
    scenario.write_text(SCENARIO.format(role=role, stack=stack, rates=", ".join(f"{30_000 + n}" for n in range(
        len(shapes)))))
    watching = Watching(before)
    assert run(RunOptions(scenario=scenario, testbed="lab", results=folder / "r"), watching) == 0
    return watching.load_trials()


@pytest.mark.parametrize(("stack", "role", "port"), [("linux-udp", "echo", 0), ("linux-forward", "forward", 1)])
def test_what_a_qdisc_drops_is_lost_there(tmp_path: Path, stack: str, role: str, port: int) -> None:
    without, *shaped = measured(tmp_path, stack, role, port, [(), SHAPED, LEAF, CLASSES])
    for trial in (without, *shaped):
        print(f"{stack}: sent {trial.sent:,}, lost {trial.lost:,}, {trial.losses}, unexplained {trial.unexplained:,}, "
              f"other traffic {trial.other_traffic:,}, {trial.unread}")
        assert not trial.unread
        assert trial.cpu is not None or trial.cpu_note, "a machine that paused has too few samples, and says so"
        assert sum(trial.losses.values()) + trial.unexplained == trial.lost
    sampled = [trial.cpu for trial in (without, *shaped) if trial.cpu is not None]
    assert sampled
    for cpu in sampled:
        given = [core for core in cpu.cores if core.given]
        print(cpu.frequency_source, [(core.frequency, core.throttled) for core in given])
        assert cpu.frequency_source.startswith("not available: ") is all(c.frequency is None for c in given)
    assert without.lost_at(QDISC) == 0
    assert without.lost < 0.1 * without.sent, "the stack does not lose these itself"
    for trial in shaped:
        assert trial.lost > 20_000
        found = trial.lost_at(QDISC)
        assert found is not None
        assert 0.99 * trial.lost <= found <= trial.lost
        assert trial.other_traffic <= 0.001 * trial.sent, "no frame is counted at two places"
