# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can carry a lab. Says everything that is missing at once, and how to get it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import TestbedError
from harness.lab import netns
from harness.lab.cores import usable_cores
from harness.lab.errors import LabError
from harness.lab.wires import run_tool, tool

#: XDP live frames, the embedded generator's dataplane (lab-facts).
MIN_KERNEL = (5, 18)
#: Program -> Debian/Ubuntu package.
PROGRAMS = {"ip": "iproute2", "ethtool": "ethtool", "sshd": "openssh-server", "ssh-keygen": "openssh-client"}


@dataclass(frozen=True)
class Machine:
    """What :func:`look` found. ``netns_error`` and ``veth_error``: what the kernel said to a trial, "" when it worked
    or was not tried (no root, no ``ip``)."""

    euid: int
    kernel: str
    programs: frozenset[str]
    cores: int
    netns_error: str
    veth_error: str


def look() -> Machine:
    """Look at this machine. The trial of namespaces and veth leaves nothing behind."""
    programs = frozenset(filter(_installed, PROGRAMS))
    netns_error, veth_error = ("", "")
    if os.geteuid() == 0:
        netns_error, veth_error = _try_netns_and_veth("ip" in programs)
    return Machine(euid=os.geteuid(), kernel=os.uname().release, programs=programs, cores=len(usable_cores()),
                   netns_error=netns_error, veth_error=veth_error)


def _installed(program: str) -> bool:
    try:
        tool(program)
    except LabError:
        return False
    return True


def _try_netns_and_veth(with_ip: bool) -> tuple[str, str]:
    """Make a veth pair in a namespace that has no name and ends with the thread."""
    argv = ["ip", "link", "add", "name", "probe0", "type", "veth", "peer", "name", "probe1"]
    try:
        netns.in_new_netns(lambda: run_tool(argv) if with_ip else "")
    except OSError as error:
        return str(error), ""
    except LabError as error:
        return "", str(error)
    return "", ""


def kernel_version(release: str) -> tuple[int, int]:
    """(major, minor) of a kernel release such as "6.1.0-18-amd64"; (0, 0) when it is none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def missing(machine: Machine) -> list[str]:
    """One sentence for each thing that is missing, with its remedy."""
    return list(_missing(machine))


def _missing(machine: Machine) -> Iterable[str]:
    if machine.euid != 0:
        yield "root privileges: run the same command with sudo"
    if kernel_version(machine.kernel) < MIN_KERNEL:
        yield (f"a kernel of {MIN_KERNEL[0]}.{MIN_KERNEL[1]} or newer for XDP live frames, this is {machine.kernel}: "
               "Debian 12, Ubuntu 24.04 and later have one")
    packages = sorted({PROGRAMS[name] for name in PROGRAMS if name not in machine.programs})
    if packages:
        names = ", ".join(name for name in PROGRAMS if name not in machine.programs)
        yield f"programs ({names}): apt-get install {' '.join(packages)} (`make setup` does it)"
    if machine.cores < 2:
        yield (f"two cores, one for the generator and one for the DUT, this process may use {machine.cores}: give the "
               "machine another, or start without taskset or a cpuset")
    if machine.netns_error:
        yield (f"network namespaces ({machine.netns_error}): a container needs --privileged, a kernel CONFIG_NET_NS")
    if machine.veth_error:
        yield (f"veth devices ({machine.veth_error}): modprobe veth, or boot a kernel with CONFIG_VETH")


def preflight() -> None:
    """Raise TestbedError (exit 3) naming everything that this machine lacks for a lab."""
    lacking = missing(look())
    if lacking:
        raise TestbedError("this machine cannot carry a lab; missing:\n" + "\n".join(f"  - {item}" for item in lacking))
