# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as DUT: QEMU with its own kernel, PCI NICs, hugepages and reboot, where namespaces have none.

The rest of the harness sees a host that is reached by SSH and a testbed file that says how.
"""

from __future__ import annotations

from harness.lab.vm.lab import VmLab, open_lab
from harness.lab.vm.qemu import NIC_MODELS, Machine

__all__ = ["NIC_MODELS", "Machine", "VmLab", "open_lab"]
