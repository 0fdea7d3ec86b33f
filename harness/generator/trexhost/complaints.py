# SPDX-License-Identifier: Apache-2.0
"""What a TRex server says before it ends, in one sentence with the remedy.

The texts are those of v3.08's sources (main_dpdk.cpp, dpdk_setup_ports.py, DPDK's EAL) and of servers that were made to
fail; older releases have most of them. What is not known is quoted as it is.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_QUOTED = 600

#: (what the output holds, what it means and what to do); the first that matches counts. Groups are filled in.
_KNOWN: tuple[tuple[str, str], ...] = (
    (r"ZMQ port is used by the following process:\s{0,80}pid: (\d{1,9}), cmd: (.{1,120})",
     "TRex's port of events is taken by another program (pid {0}: {1}); end it, or choose other sync_port and "
     "async_port under generator.trex"),
    (r"unable to bind ZMQ server at: (\S{1,200})",
     "TRex cannot listen on {0}: another program has that port; end it, or choose other sync_port and async_port under "
     "generator.trex"),
    (r"ERROR: Could not find Linux interface (\S{1,100}?)\.?[ \t]{0,80}$",
     "the generator's host has no interface {0}; `ip link` there lists them, correct ifname under generator.ports"),
    (r"^[ \t]{0,80}(\S{1,200}) does not exist[ \t]{0,80}$",
     "the generator's host has no PCI device {0}; `lspci` there lists them, correct pci under generator.ports"),
    (r"You have mix of vdev and pdev interfaces",
     "TRex takes either PCI devices or kernel interfaces, not both; give all generator.ports pci, or none"),
    (r"Error: You have (\d{1,9}) threads available, but you asked for (\d{1,9})",
     "TRex was given {1} cores and sees {0}: cores are offline or kept from it by a cpuset; correct generator.cores"),
    (r"Wanted core mask is|You don't have enough physical cores|number of cores should be at least 2",
     "TRex cannot have the cores of generator.cores: `lscpu -p` on its host says which are online"),
    (r"i40e interface (\S{1,200}) is under Linux and will interfere",
     "{0} is on the same NIC as a port of TRex and still with the kernel, which disturbs it; take it from the kernel "
     "too, or use a NIC for TRex alone"),
    (r"All drivers should be from one vendor|all device should have the same type",
     "TRex needs all its ports on NICs of one kind; choose other generator.ports"),
    (r"No valid OFED version|OFED \S{1,40} is not installed",
     "TRex does not find the OFED drivers that it wants for Mellanox NICs; install MLNX_OFED"),
    (r"Could not find all interfaces \(asked for: (\d{1,9}), found: (\d{1,9})\)",
     "TRex found {1} of {0} ports: a port is still with the kernel, or is used by another DPDK program"),
    (r"Could not find supported ethernet ports|driver (\S{0,200}) is not supported",
     "TRex has no driver for these ports; it lists what it supports in its documentation, or give interfaces of the "
     "kernel (ifname without pci), which it reaches slowly"),
    (r"Cannot get hugepage information|No free (?:\S{1,20} kB )?hugepages|Cannot allocate memory for hugepages|"
     r"Not enough memory available",
     "TRex does not get its hugepages; free memory or reserve them at boot (hugepages=2048 on the kernel's command "
     "line)"),
    (r"not enough huge-pages memory|could not allocate memory for mbufs|Cannot init (?:\w{1,20} )?mbuf pool",
     "TRex's memory does not suffice for so many ports and cores; raise generator.trex.hugepages (memory_mb where they "
     "have no pci)"),
    (r"Cannot create lock on '(\S{1,200}?)'|Is another primary process running",
     "another TRex or DPDK program runs on the generator's host with the same files; end it"),
    (r"Device or resource busy|VFIO group is not viable|Cannot open /dev/vfio",
     "another program has a port of TRex, or its IOMMU group holds devices of the kernel; end the program, or take the "
     "whole group"),
    (r"Trying to compile and bind to igb_uio",
     "a port of TRex is with the kernel, and none of vfio-pci, uio_pci_generic and igb_uio could take it; turn the "
     "IOMMU on (intel_iommu=on iommu=pt), or install the modules of the running kernel"),
    (r"Python version 3\.4 at least required|Python3 version is too old",
     "TRex's start script finds no python3; apt-get install python3"),
    (r"(\S{1,200}): error while loading shared libraries: (\S{1,200}):",
     "TRex's program needs the library {1}, which its host lacks"),
    (r"Please run (?:this program )?as root|you must run with superuser",
     "TRex has to be started as root; give generator.ssh an account that has sudo"),
    (r"Invalid EAL arguments|EAL: Error[ -]{1,40}(.{1,200})|Cause: (.{1,200})",
     "DPDK refuses what TRex asked of it ({0})"),
    # A warning, which comes before much else that ends a server.
    (r"WARNING: tried to configure (\d{1,9}) hugepages for socket (\d{1,9}), but result is: (\d{1,9})",
     "its host has room for {2} of the {0} hugepages that TRex wants on node {1}; free memory or reserve them at boot"),
)
_COMPILED = tuple((re.compile(pattern, re.MULTILINE), text) for pattern, text in _KNOWN)


def plain(output: str) -> str:
    """Output without a terminal's control characters, repainted lines included."""
    return _ESCAPES.sub("", output.replace("\r\n", "\n").replace("\r", "\n"))


def explain(output: str) -> str:
    """One sentence (no full stop) about a server that ended, from all it said."""
    said = plain(output)
    for pattern, text in _COMPILED:
        match = pattern.search(said)
        if match is not None:
            told = [group for group in match.groups() if group]
            return text.format(*told, *("no reason given",) * 3)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"it says: {' | '.join(lines)[-_QUOTED:]}" if lines else "it said nothing"
