# SPDX-License-Identifier: Apache-2.0
"""The last whole run of the shipped scenarios on a real TRex that was kept: all of them are in it, and what the harness
counted is what TRex's statistics and the DUT's interfaces say, frame for frame. See tests/data/trex/README.md."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TRIALS = [json.loads(line) for line in
          (ROOT / "tests" / "data" / "trex" / "scenarios.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_scenario_of_frames_ran() -> None:
    shipped = {path.stem for path in (ROOT / "scenarios").glob("*.yaml")
               if yaml.safe_load(path.read_text(encoding="utf-8"))["role"] != "accept"}
    assert {trial["scenario"] for trial in TRIALS} == shipped


def test_three_parties_counted_the_same() -> None:
    for trial in TRIALS:
        opackets, ipackets, ierrors = (sum(port[name] for port in trial["trex"])
                                       for name in ("opackets", "ipackets", "ierrors"))
        reached, returned = (sum(port[name] for port in trial["interfaces"]) for name in ("rx_packets", "tx_packets"))
        assert trial["sent"] == opackets == reached > 0, trial["point"]
        if returned:
            assert trial["received"] == ipackets, trial["point"]
            assert ipackets + ierrors == returned, trial["point"]


def test_on_nics_what_it_sent_passed_the_wires() -> None:
    lines = (ROOT / "tests" / "data" / "trex" / "nics.jsonl").read_text(encoding="utf-8").splitlines()
    trials = [json.loads(line) for line in lines]
    assert {(trial["ports"], trial["tx_port"], trial["software"]) for trial in trials} == {
        (2, 0, False), (2, 0, True), (4, 2, False)}
    for trial in trials:
        assert set(trial["nics"]) == {"e1000"}
        assert trial["sent"] == sum(port.get("rx_packets", 0) for port in trial["interfaces"]) > 0
        assert trial["received"] + trial["losses"].get("generator receive", 0) == sum(
            port.get("tx_packets", 0) for port in trial["interfaces"])
