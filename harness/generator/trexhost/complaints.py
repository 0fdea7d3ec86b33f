# SPDX-License-Identifier: Apache-2.0
"""What a TRex that did not come up has printed, in one sentence with its remedy. The patterns are texts of v3.08 (its
dpdk_setup_ports.py, dpdk_nic_bind.py and main_dpdk.cpp, and DPDK's EAL in it)."""

from __future__ import annotations

import re

#: (what it prints, what that means); groups of the pattern go into the sentence.
_KNOWN = (
    (r"Could not find Linux interface (\S+?)\.?$", "it does not have the interface {0}; correct generator.ports"),
    (r"^ ?(\S+) does not exist *$", "it has no PCI device {0}; correct generator.ports (lspci -D lists them)"),
    (r"ZMQ port is used by the following process:\s*pid: (\d+), cmd: (.*)",
     "another program has TRex's port: pid {0}, {1}; end it, or choose other ports under generator.trex"),
    (r"tried to configure (\d+) hugepages for socket (\d+), but result is: (\d+)",
     "it has room for {2} of the {0} hugepages that TRex wants on NUMA node {1}; free memory, or reserve them at boot "
     "(hugepages={0})"),
    (r"No (?:free|available) (\d+) kB hugepages reported",
     "it has no free hugepages of {0} kB; reserve some: sysctl vm.nr_hugepages=2048"),
    (r"i40e interface (\S+) is under Linux and will interfere with TRex interface (\S+)",
     "{0} is still the kernel's and belongs to the NIC of {1}; give TRex every port of that NIC, or unbind {0}"),
    (r"bind failed for (\S+) - Cannot", "{0} cannot be given to DPDK: its driver refuses; dmesg there says why"),
    (r"You must add the flag --software", "its NIC needs software mode; set software: true under generator.trex"),
    (r"all device should have the same type +(\S+) != (\S+)",
     "TRex wants ports of one kind, these are {0} and {1}; choose ports of one NIC model"),
    (r"(error while loading shared libraries: [^:\s]+)", "{0}; install that library there"),
)


def explain(output: str) -> str:
    """One sentence, whose "it" is the host; TRex's last words where they are not known."""
    for pattern, sentence in _KNOWN:
        found = re.search(pattern, output, re.MULTILINE)
        if found:
            return sentence.format(*(str(group)[:200] for group in found.groups()))
    words = [line.strip() for line in output.splitlines() if line.strip()]
    return f"its last words were: {' / '.join(words[-3:])[:600] or 'none'}"
