# SPDX-License-Identifier: Apache-2.0
"""The last whole ``make test-vm`` that was kept: every stack that is said to have run there is in it, and its counts
agree. See tests/data/vm/README.md."""

from __future__ import annotations

import json
from pathlib import Path

from harness import stacks
from harness.plan import Role

DATA = Path(__file__).parents[1] / "data" / "vm" / "trials.jsonl"
TRIALS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


def test_every_stack_that_is_said_to_have_run_there_did() -> None:
    ran = {(trial["stack"], trial["params"].get("mode") or trial["params"].get("at"), trial["vlan"])
           for trial in TRIALS}
    assert {("linux-forward", "flowtable", None), ("linux-forward", "route", 7), ("linux-forward", "bridge", None),
            ("linux-drop", "tc-matchall", None), ("linux-udp", "block", 7), ("xdp", "generic", None)} <= ran
    over_pci = {Role(trial["role"]) for trial in TRIALS if trial["stack"] == "dpdk"}
    assert over_pci == set(stacks.get("dpdk").roles)
    assert {trial["params"]["driver"] for trial in TRIALS if trial["stack"] == "dpdk"} == {"pci"}


def test_every_frame_is_received_or_lost_somewhere() -> None:
    for trial in TRIALS:
        assert trial["sent"] > 0.5 * 2 * trial["asked_pps"]
        assert trial["received"] + trial["lost"] == trial["sent"]
        assert sum(trial["losses"].values()) + trial["unexplained"] == trial["lost"]
        assert ("unexplained-loss" in trial["verdicts"]) == (trial["unexplained"] > 0.01 * trial["sent"])
