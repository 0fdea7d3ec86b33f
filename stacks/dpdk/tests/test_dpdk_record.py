# SPDX-License-Identifier: Apache-2.0
"""What the last run over PCI in a virtual machine said (test_dpdk_host.py): all roles, every frame accounted for."""

from __future__ import annotations

import json
from pathlib import Path

from harness import stacks
from harness.plan import Role

RECORD = json.loads((Path(__file__).parent / "data" / "vm_e1000.json").read_text())


def test_every_role_was_run_over_pci_and_lost_nothing() -> None:
    trials = RECORD["trials"]
    assert {Role(trial["role"]) for trial in trials} == set(stacks.get("dpdk").roles)
    for trial in trials:
        assert trial["received"] == trial["sent"] > 0.95 * 2 * trial["asked_pps"]
        assert trial["stack"]["received"] == trial["sent"]
        assert trial["stack"].get("sent", 0) == (0 if trial["role"] == "drop" else trial["sent"])
        assert trial["stack"].get("discarded", 0) == (trial["sent"] if trial["role"] == "drop" else 0)
        assert trial["losses"] == {}
