# SPDX-License-Identifier: Apache-2.0
"""The virtual machine's hardware as QEMU's command line. Nothing is started here.

Data NICs sit at fixed slots of the guest's PCI bus, each on a tap of its own; the management NIC is always virtio.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.lab.vm.image import Image
from harness.lab.vm.recipe import FIRST_DATA_SLOT, FW_CFG, MANAGEMENT_SLOT
from harness.plan import WirePlan

PROGRAM = "qemu-system-x86_64"
NIC_MODELS = ("vmxnet3", "e1000", "virtio-net-pci")
ACCELERATORS = ("auto", "kvm", "tcg")
_DISK_SLOT, _RANDOM_SLOT, _FIRST_EXTRA_SLOT = 0x05, 0x06, 0x07
_DEV_KVM = Path("/dev/kvm")
#: What a CPU's flags say when it can run guests of unmodified kernels. /dev/kvm alone does not tell: some hypervisors
#: offer it to guests for kernels of their own making only.
_VIRTUALISATION = re.compile(r"^flags\b.*\b(vmx|svm)\b", re.MULTILINE)
_KERNEL = "root=/dev/vda rw console=ttyS0 quiet systemd.firstboot=off panic=5"


@dataclass(frozen=True)
class Machine:
    """What the guest has. ``nic``: model of the data NICs; ``accelerator``: "auto" takes KVM where it works and QEMU's
    own translation (tcg, slow) elsewhere; ``disks``: images that it may read, as /dev/vdb and on."""

    nic: str = "vmxnet3"
    memory_mib: int = 1536
    vcpus: int = 2
    accelerator: str = "auto"
    disks: tuple[Path, ...] = ()


def usable_kvm(device: Path = _DEV_KVM, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine runs stock kernels under KVM."""
    try:
        with device.open("r+b", buffering=0):
            pass
    except OSError:
        return False
    return _VIRTUALISATION.search(cpuinfo.read_text(encoding="ascii", errors="replace")) is not None


def accelerator(machine: Machine) -> str:
    """"kvm" or "tcg"."""
    if machine.accelerator != "auto":
        return machine.accelerator
    return "kvm" if usable_kvm() else "tcg"


def pci_address(index: int) -> str:
    """PCI address of data NIC ``index`` in the guest."""
    return f"0000:00:{FIRST_DATA_SLOT + index:02x}.0"


def argv(program: str, machine: Machine, image: Image, wires: Sequence[WirePlan], management: tuple[str, str],
         directory: Path) -> list[str]:
    """The whole command. ``management``: tap and MAC; ``directory``: the lab's, with its keys; the console goes there.
    Taps exist and are found by name in the namespace that QEMU is started in."""
    tap, mac = management
    words = [
        program, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-cpu", "max",
        "-accel", accelerator(machine), "-smp", str(machine.vcpus), "-m", f"{machine.memory_mib}M",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _KERNEL,
        "-serial", f"file:{directory / 'console.log'}",
        "-drive", f"if=none,id=disk,format=raw,snapshot=on,file={_escaped(image.disk)}",
        "-device", f"virtio-blk-pci,drive=disk,addr={_DISK_SLOT:#x}",
        *_extra_disks(machine.disks),
        "-device", f"virtio-rng-pci,addr={_RANDOM_SLOT:#x}",
        "-fw_cfg", f"name={FW_CFG}/host_key,file={_escaped(directory / 'host_key')}",
        "-fw_cfg", f"name={FW_CFG}/authorized_keys,file={_escaped(directory / 'authorized_keys')}",
        *_nic("mgmt", "virtio-net-pci", tap, mac, MANAGEMENT_SLOT),
    ]  # fmt: skip
    for wire in wires:
        words += _nic(f"data{wire.index}", machine.nic, wire.tg.ifname, wire.dut.mac, FIRST_DATA_SLOT + wire.index)
    return words


def _extra_disks(disks: Sequence[Path]) -> list[str]:
    words = []
    for index, disk in enumerate(disks):
        words += ["-drive", f"if=none,id=extra{index},format=raw,readonly=on,file={_escaped(disk)}",
                  "-device", f"virtio-blk-pci,drive=extra{index},addr={_FIRST_EXTRA_SLOT + index:#x}"]
    return words


def _nic(name: str, model: str, tap: str, mac: str, slot: int) -> list[str]:
    """Without vnet_hdr the NIC itself fills in checksums that it is asked for, as hardware does: behind a tap nobody
    would."""
    return ["-netdev", f"tap,id={name},ifname={tap},script=no,downscript=no,vhost=off,vnet_hdr=off",
            "-device", f"{model},netdev={name},mac={mac},addr={slot:#x},romfile="]


def _escaped(path: Path) -> str:
    """QEMU's option lists take a doubled comma for one that is part of a value."""
    return str(path).replace(",", ",,")
