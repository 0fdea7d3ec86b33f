# SPDX-License-Identifier: Apache-2.0
"""SSH over the port under test while load runs on it: who answers, who does not, and what is left afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.lab import netns
from harness.lab.lab import Lab
from harness.options import RunOptions
from harness.records import Bystander, Phase
from harness.report import write_report
from harness.runner import run
from harness.store import RunReader
from tests.lab.test_run import machine
from tests.watching import Watching

pytestmark = pytest.mark.lab

SCENARIO = """
name: bystander
role: echo
traffic: {frame: 64, flows: 16}
stacks:
  - af-xdp: {mode: copy}
  - af-xdp: {mode: copy, bypass: whole}
  - xdp
measure:
  load_curve: {rates: [5k], trial: 2s}
  bystander: {service: ssh, rate: 20, timeout: 500ms}
  warmup: 100ms
"""


def test_partial_bypass_answers_everybody_and_whole_bypass_nobody(tmp_path: Path) -> None:
    before, watching, scenario = machine(), Watching(), tmp_path / "bystander.yaml"
    scenario.write_text(SCENARIO)
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0, watching.outcomes
    loaded = {t.point: t for t in RunReader(watching.path).trials() if t.phase is Phase.LOAD}
    assert len(loaded) == len(watching.outcomes) == 3
    for outcome in watching.outcomes:
        trial = loaded[outcome.point]
        assert trial.received > 0.5 * trial.sent, "the test's own traffic is served beside it"
        for seen in (outcome.bystander_idle, trial.bystander):
            assert seen is not None
            check(seen, answered="whole" not in outcome.point)
    page = write_report([watching.path], tmp_path / "report.html").read_text()
    assert "SSH over the same port during load" in page
    assert machine() == before


def check(seen: Bystander, *, answered: bool) -> None:
    assert seen.reason == ""
    assert seen.target.endswith(":22")
    assert seen.attempts >= 20
    assert seen.lost == (0 if answered else seen.attempts), seen.reasons
    if answered:
        assert seen.connected is not None
        assert seen.greeted is not None
        assert seen.greeted.p50_ns is not None
        assert 0 < seen.connected.min_ns < seen.greeted.min_ns <= seen.greeted.p50_ns <= seen.greeted.max_ns


def listening(lab: Lab) -> list[str]:
    shown = subprocess.run(lab.exec_argv("dut", ["ss", "-Htln"]), capture_output=True, text=True, check=True).stdout
    return sorted(line.split()[3] for line in shown.splitlines())


def addresses(lab: Lab) -> str:
    return subprocess.run(lab.exec_argv("tg", ["ip", "-br", "address"]), capture_output=True, text=True,
                          check=True).stdout


def test_ssh_is_on_the_wire_only_while_it_is_asked_for() -> None:
    with Lab.up(wires=1, pause_s=0.2) as lab:
        wire, before = lab.wires[0], addresses(lab)
        assert listening(lab) == ["127.0.0.1:22"]
        with lab.ssh_on_wire(wire):
            assert listening(lab) == ["127.0.0.1:22", f"{wire.dut.ip}:22"]
            with netns.connect_in_netns(lab.tg_netns, (wire.dut.ip, 22), 5.0) as connection:
                assert connection.recv(64).startswith(b"SSH-2.0-")
        assert listening(lab) == ["127.0.0.1:22"]
        assert addresses(lab) == before
