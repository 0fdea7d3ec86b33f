# SPDX-License-Identifier: Apache-2.0
"""The embedded testbed: a generator side and a DUT side in network namespaces of this machine, with real wires of veth
and a real SSH server. The rest of the harness treats it like any testbed; only the wire is virtual."""

from __future__ import annotations

from harness.lab.addresses import (
    DUT_HOST,
    LAB_SPEED_GBPS,
    MAX_WIRES,
    flow_prefix,
    link_ip,
    link_prefix,
    plan_wires,
)
from harness.lab.cores import CorePauses, CoreSplit, physical_cores, split_cores, usable_cores
from harness.lab.errors import LabError, LabNameError
from harness.lab.fitness import preflight
from harness.lab.lab import Lab, LabStatus
from harness.lab.netns import connect_in_netns, in_netns
from harness.lab.sshd import SshTarget

__all__ = [
    "DUT_HOST",
    "LAB_SPEED_GBPS",
    "MAX_WIRES",
    "CorePauses",
    "CoreSplit",
    "Lab",
    "LabError",
    "LabNameError",
    "LabStatus",
    "SshTarget",
    "connect_in_netns",
    "flow_prefix",
    "in_netns",
    "link_ip",
    "link_prefix",
    "physical_cores",
    "plan_wires",
    "preflight",
    "split_cores",
    "usable_cores",
]
