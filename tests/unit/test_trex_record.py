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
