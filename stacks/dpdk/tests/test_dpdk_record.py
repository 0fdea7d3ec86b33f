# SPDX-License-Identifier: Apache-2.0
"""What the last runs over PCI in virtual machines said: all roles by uio_pci_generic (data/vm_e1000.json); by vfio-pci,
on virtual functions and with l3fwd (data/vm_pci.jsonl, as tests/vm/recording.py writes it)."""

from __future__ import annotations

import json
from pathlib import Path

from harness import stacks
from harness.plan import Role

DATA = Path(__file__).parent / "data"
RECORD = json.loads((DATA / "vm_e1000.json").read_text())
PCI = [json.loads(line) for line in (DATA / "vm_pci.jsonl").read_text().splitlines()]


def test_every_role_was_run_over_pci_and_lost_nothing() -> None:
    trials = RECORD["trials"]
    assert {Role(trial["role"]) for trial in trials} == set(stacks.get("dpdk").roles)
    for trial in trials:
        assert trial["received"] == trial["sent"] > 0.95 * 2 * trial["asked_pps"]
        assert trial["stack"]["received"] == trial["sent"]
        assert trial["stack"].get("sent", 0) == (0 if trial["role"] == "drop" else trial["sent"])
        assert trial["stack"].get("discarded", 0) == (trial["sent"] if trial["role"] == "drop" else 0)
        assert trial["losses"] == {}


def test_vfio_functions_and_l3fwd_were_run_and_every_frame_is_accounted_for() -> None:
    ran = {(trial["taken"][0][0], trial["taken"][0][-1], trial["params"]["app"], trial["role"]) for trial in PCI}
    assert {("vfio-pci", "vfio-pci", "testpmd", "forward"), ("vfio-pci", "vfio-pci", "l3fwd", "forward"),
            ("igb", "vfio-pci", "testpmd", "reflect"), ("igb", "vfio-pci", "testpmd", "drop")} <= ran
    for trial in PCI:
        own = trial["counters"]
        assert trial["received"] + trial["lost"] == trial["sent"] > 0.5 * 2 * trial["asked_pps"]
        assert sum(trial["losses"].values()) + trial["unexplained"] == trial["lost"]
        assert own["discarded" if trial["role"] == "drop" else "sent"] >= trial["received"] > 0
        assert own["received"] >= own.get("sent", 0)
