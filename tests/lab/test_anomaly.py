# SPDX-License-Identifier: Apache-2.0
"""Anomalies on real frames: what is kept of a stack that answers wrongly and of one that dies in a trial."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

from harness.generator.frames import payload
from harness.options import RunOptions
from harness.records import Phase
from harness.report.write import write_report
from harness.rundata import load_run
from harness.runner import run
from harness.store import ANOMALIES
from tests.lab.test_run import find
from tests.watching import Watching

pytestmark = pytest.mark.lab

WRONG = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print("answering backwards", flush=True)
while True:
    data, sender = s.recvfrom(2048)
    s.sendto(data[::-1], sender)
"""
SCENARIO = """
name: wrong
role: echo
traffic: {{frame: 64, flows: 16}}
stacks:
  - command:
      title: backwards
      start: [python3, {program}, "{{ip0}}", "{{udp_port}}"]
      ready: {{udp: "{{udp_port}}"}}
  - linux-udp
measure:
  load_curve: {{rates: [5k], trial: 2s}}
  warmup: 100ms
order: given
"""


def test_a_wrong_answer_and_a_dead_stack_leave_their_evidence(tmp_path: Path) -> None:
    program, scenario, killed = tmp_path / "wrong.py", tmp_path / "wrong.yaml", list[int]()
    program.write_text(WRONG)
    scenario.write_text(SCENARIO.format(program=program))

    def kill(phase: Phase) -> None:
        if phase is Phase.LOAD:
            killed.append(find("udp", "dut"))
            os.kill(killed[0], signal.SIGKILL)

    watching = Watching(kill)
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 4
    wrong, dead = (outcome.anomaly for outcome in watching.outcomes)
    assert killed
    assert wrong is not None
    assert dead is not None
    assert (wrong.kind, dead.kind) == ("role-check", "dead-stack")
    assert "payload" in wrong.what
    folder = watching.path / ANOMALIES / wrong.folder
    print((folder / "README.txt").read_text(), (watching.path / ANOMALIES / dead.folder / "README.txt").read_text())
    check_wrong(watching.path, folder)
    before, after = (json.loads((watching.path / ANOMALIES / dead.folder / f"counters-{when}.json").read_text())
                     for when in ("before", "after"))
    assert before["stack"]["workers"]
    assert after["stack"] is None
    assert after["interfaces"].keys() == before["interfaces"].keys() != set()
    assert len(rdpcap(str(watching.path / ANOMALIES / dead.folder / "generator.pcap"))) >= 16
    check_links(watching.path, tmp_path / "pages" / "report.html")


def check_wrong(path: Path, folder: Path) -> None:
    """Both ends saw the frames and the answers, which show what is wrong with them."""
    point = load_run(path).plan.points[0]
    (direction,) = point.directions
    sent = payload(direction, point.frame_bytes)
    captures = sorted(folder.glob("*.pcap"))
    assert [c.name for c in captures] == [f"dut-{point.wires[0].dut.ifname}.pcap", "generator.pcap"]
    for capture in captures:
        assert capture.stat().st_size <= 1 << 20
        seen = [p[UDP] for p in rdpcap(str(capture)) if UDP in p]
        there = [bytes(udp.payload)[:len(sent)] for udp in seen if udp.dport == point.udp_port]
        back = [bytes(udp.payload)[:len(sent)] for udp in seen if udp.sport == point.udp_port]
        assert there == [sent] * 16, capture.name
        assert back == [sent[::-1]] * 16, capture.name
    before, after = (json.loads((folder / f"counters-{when}.json").read_text()) for when in ("before", "after"))
    ifname = point.wires[0].dut.ifname
    assert after["interfaces"][ifname]["rx_packets"] >= before["interfaces"][ifname]["rx_packets"] + 8
    assert after["system"]["udp.InDatagrams"] >= before["system"]["udp.InDatagrams"] + 8
    assert "answering backwards" in (folder / "stack.log").read_text()
    assert (folder / "dmesg.txt").stat().st_size > 0


def check_links(path: Path, page: Path) -> None:
    """The report leads to both bundles, by ways that hold where it lies."""
    write_report([path], page)
    links = re.findall(r'<a href="([^"#]*README\.txt)"', page.read_text())
    assert len(links) == 2
    for link in links:
        assert not link.startswith("/")
        assert (page.parent / link).resolve().is_file()
