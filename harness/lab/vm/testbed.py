# SPDX-License-Identifier: Apache-2.0
"""The testbed file of a lab whose DUT is a virtual machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from harness.host.ssh import Target
from harness.lab.vm.qemu import Machine
from harness.lab.vm.recipe import MANAGEMENT
from harness.plan import WirePlan

#: What the guest is called in plans and results.
DUT_NAME = "vm"
#: Nominal, and so the most that is ever offered (149 kpps of 64 B): beyond it an emulated NIC's interrupts leave its
#: guest no time for anything, some guests never recover.
SPEED = "100M"
_HEAD = """# SPDX-License-Identifier: Apache-2.0
# The virtual machine of lab {name}: harness run SCENARIO --testbed {path}
# It emulates: good for what stacks do, not for how fast. `harness lab down {name}` removes it.
"""


def testbed_text(lab: str, path: Path, machine: Machine, ssh: Target, tg_netns: str, tg_cores: Sequence[int],
                 wires: Sequence[WirePlan]) -> str:
    """YAML of lab ``lab``, for the file ``path``. Stacks are given every vCPU but the first, which keeps the agent and
    the guest's own work."""
    document = {
        "name": f"vm-{lab}",
        "generator": {
            "netns": tg_netns, "cores": list(tg_cores),
            "ports": [{"mac": wire.tg.mac, "ifname": wire.tg.ifname} for wire in wires],
        },
        "duts": [{
            "name": DUT_NAME, "management": MANAGEMENT, "cores": list(range(1, machine.vcpus)) or [0],
            "all_cores": machine.vcpus,
            "ssh": {"address": ssh.hostname, "netns": tg_netns, "key": str(ssh.key_path),
                    "known_hosts": str(ssh.known_hosts)},
            "ports": [{"mac": wire.dut.mac, "ifname": wire.dut.ifname, "pci": wire.dut.pci} for wire in wires],
        }],
        "wires": [{"tg": wire.index, "dut": f"{DUT_NAME}/{wire.index}", "speed": SPEED, "virtual": True}
                  for wire in wires],
    }  # fmt: skip
    return _HEAD.format(name=lab, path=path) + yaml.safe_dump(document, sort_keys=False)
