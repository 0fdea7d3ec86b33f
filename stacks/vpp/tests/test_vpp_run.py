# SPDX-License-Identifier: Apache-2.0
"""A whole run of a real VPP in the lab, by the harness: every way it forwards, its vectors and clocks in the report.

As for test_vpp_lab.py, ``HARNESS_VPP_DIR`` names its folder. ``HARNESS_VPP_RECORD=FILE`` keeps the figures, without any
path or name of the machine; data/lab.json is the last such file, and test_vpp_record.py reads it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.options import RunOptions
from harness.records import Phase, PointOutcome, Trial
from harness.report import write_report
from harness.runner import run
from harness.store import RunReader
from tests.watching import Watching

pytestmark = [pytest.mark.lab, pytest.mark.vpp, pytest.mark.timeout(600)]
SCENARIO = """
name: vpp-lab
role: forward
traffic: {{frame: 64, flows: 64}}
cores: [1]
stacks:
  - vpp: {{forward: ip4, driver: af_packet, tpacket: v2, dir: {folder}}}
  - vpp: {{forward: ip4, driver: af_packet, tpacket: v3, dir: {folder}}}
  - vpp: {{forward: l2, driver: af_packet, dir: {folder}}}
  - vpp: {{forward: ip4, driver: af_xdp, dir: {folder}}}
  - vpp: {{forward: l2, driver: af_xdp, dir: {folder}}}
measure:
  load_curve: {{rates: [10k, 50k, 200k], trial: 2s}}
  warmup: 200ms
"""
#: Counters of the stack that are kept, of what rose in a trial.
COUNTED = ("received", "sent", "vectors", "calls", "polls", "clocks")


def kept(trial: Trial, params: dict[str, Any]) -> dict[str, Any]:
    """Of a trial, what the record has."""
    cpu = trial.cpu
    return {
        "params": params, "asked_pps": trial.asked_pps, "sent": trial.sent, "received": trial.received,
        "lost": trial.lost, "losses": dict(trial.losses), "unexplained": trial.unexplained,
        "verdicts": sorted(trial.verdicts),
        "stack": {name: trial.counters["stack"].get(name, 0) for name in COUNTED},
        "useful_polls": cpu.useful_polls if cpu else None, "empty_polls": cpu.empty_polls if cpu else None}


def record(path: Path, outcomes: list[PointOutcome], file: str) -> None:
    """Write what the run came to."""
    reader = RunReader(path)
    host = reader.info.hosts["dut"]
    points = {point["id"]: {name: value for name, value in point["params"].items() if name != "dir"}
              for point in reader.info.plan["points"]}
    trials = [kept(trial, points[trial.point]) for trial in reader.trials() if trial.phase is Phase.LOAD]
    deployed = [{"params": points[o.point], "deploy_s": round(o.deploy_s, 2), "undeploy_s": round(o.undeploy_s, 2)}
                for o in outcomes]
    Path(file).write_text(json.dumps({
        "what": "harness run in the lab: test_vpp_run.py, 64-byte frames, 64 flows, one core, one-way, 2 s a trial",
        "date": reader.info.started_at[:10], "vpp": outcomes[0].remark.partition(";")[0], "os": host["os"],
        "kernel": host["kernel"]["release"], "deployed": deployed, "trials": trials}, indent=1) + "\n")


def test_a_run_of_every_way_with_vectors_and_clocks_in_its_report(tmp_path: Path) -> None:
    scenario, watching = tmp_path / "vpp.yaml", Watching()
    scenario.write_text(SCENARIO.format(folder=os.environ["HARNESS_VPP_DIR"]))
    run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "results"), watching)
    assert [(o.status, o.reason) for o in watching.outcomes] == [("ok", "")] * 5
    trials = watching.load_trials()
    assert len(trials) == 15
    for trial in trials:
        own = trial.counters["stack"]
        print(trial.point, trial.asked_pps, trial.sent, trial.received, trial.losses, own)
        assert own["sent"] >= trial.received > 0
        assert own["vectors"] == own["received"] >= own["calls"] > 0
        assert own["clocks"] > 0
        assert trial.cpu is not None
        assert trial.cpu.useful_polls == pytest.approx(own["calls"], abs=5), "read a moment later"
        assert (trial.cpu.empty_polls or 0) > 0
    page = write_report([watching.path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Vectors and what a packet costs in them" in page
    if file := os.environ.get("HARNESS_VPP_RECORD"):
        record(watching.path, watching.outcomes, file)
