# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can carry a virtual machine as DUT. Says everything that is missing at once, with remedies."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import TestbedError
from harness.lab.errors import LabError
from harness.lab.vm import qemu
from harness.lab.wires import tool

#: Program -> Debian/Ubuntu package: what running takes besides QEMU, and what building the disk takes besides.
RUN_PROGRAMS = {"ip": "iproute2", "ssh-keygen": "openssh-client"}
BUILD_PROGRAMS = {"debootstrap": "debootstrap", "mke2fs": "e2fsprogs", "unshare": "util-linux", "chroot": "coreutils"}
_RESERVE_MIB = 512
_ASK_S = 30.0
_TUN = Path("/dev/net/tun")


@dataclass(frozen=True)
class Host:
    """What :func:`look` found. ``absent``: programs that are not installed, of those needed now; ``has_nic``: QEMU
    offers the model of NIC that is wanted, or is not there to be asked."""

    euid: int
    architecture: str
    absent: tuple[str, ...]
    tun: bool
    available_mib: int
    kvm: bool
    has_nic: bool = True


def look(nic: str, *, building: bool) -> Host:
    """Look at this machine; changes nothing. ``nic``: model of the data NICs; ``building``: the disk is not in the
    cache yet."""
    needed = [qemu.program(), *RUN_PROGRAMS, *(BUILD_PROGRAMS if building else ())]
    return Host(euid=os.geteuid(), architecture=platform.machine(), tun=_TUN.exists(), kvm=qemu.usable_kvm(),
                absent=tuple(name for name in needed if not _installed(name)), available_mib=_available_mib(),
                has_nic=_has_nic(nic))


def _has_nic(model: str) -> bool:
    if not _installed(qemu.program()):
        return True
    asked = [tool(qemu.program()), "-device", f"{model},help"]
    return subprocess.run(asked, capture_output=True, timeout=_ASK_S, check=False).returncode == 0


def _installed(program: str) -> bool:
    try:
        tool(program)
    except LabError:
        return False
    return True


def _available_mib() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


def missing(host: Host, machine: qemu.Machine) -> list[str]:
    """One sentence for each thing that is missing, with its remedy."""
    return list(_missing(host, machine))


def _missing(host: Host, machine: qemu.Machine) -> Iterable[str]:
    if host.euid != 0:
        yield "root privileges: run the same command with sudo"
    if host.architecture != "x86_64":
        yield f"an x86_64 machine, this is {host.architecture}: the guest is built from its own architecture's packages"
    if host.absent:
        packages = {qemu.program(): "qemu-system-x86", **RUN_PROGRAMS, **BUILD_PROGRAMS}
        yield (f"programs ({', '.join(host.absent)}): apt-get install "
               f"{' '.join(sorted({packages[name] for name in host.absent}))}")
    if not host.has_nic:
        yield (f"a QEMU that has the NIC {machine.nic} (igb came with 8.0): choose another --nic, or name a newer QEMU "
               f"with {qemu.PROGRAM_VARIABLE}")
    if not host.tun:
        yield "/dev/net/tun: modprobe tun; a container needs --device /dev/net/tun"
    if host.available_mib < machine.memory_mib + _RESERVE_MIB:
        yield (f"memory: the guest takes {machine.memory_mib} MiB and {_RESERVE_MIB} stay free, {host.available_mib} "
               "MiB are available: end something, or choose a smaller --memory")
    if machine.accelerator == "kvm" and not host.kvm:
        yield "KVM for stock kernels (/dev/kvm and vmx or svm among the CPU's flags): choose --accel tcg, which is slow"


def preflight(machine: qemu.Machine, *, building: bool) -> None:
    """Raise TestbedError (exit 3) naming everything that this machine lacks for a virtual machine as DUT."""
    lacking = missing(look(machine.nic, building=building), machine)
    if lacking:
        raise TestbedError("this machine cannot carry a virtual machine as DUT; missing:\n"
                           + "\n".join(f"  - {item}" for item in lacking))
