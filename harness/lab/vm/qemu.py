# SPDX-License-Identifier: Apache-2.0
"""The virtual machine's hardware as QEMU's command line. Nothing is started here.

Data NICs sit at fixed slots of the guest's PCI bus, with an IOMMU behind PCI Express ports there, so that each is a
group by itself; each on a tap of its own. The management NIC is always virtio.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.lab.vm.image import Image
from harness.lab.vm.recipe import FIRST_DATA_SLOT, FW_CFG, MANAGEMENT_SLOT
from harness.plan import WirePlan

PROGRAM = "qemu-system-x86_64"
#: Names another QEMU: igb, the NIC with virtual functions, came with 8.0, later than Debian 12's.
PROGRAM_VARIABLE = "HARNESS_QEMU"
NIC_MODELS = ("vmxnet3", "e1000", "e1000e", "virtio-net-pci", "igb")
ACCELERATORS = ("auto", "kvm", "tcg")
_DISK_SLOT, _RANDOM_SLOT, _FIRST_EXTRA_SLOT = 0x05, 0x06, 0x07
_DEV_KVM = Path("/dev/kvm")
#: What a CPU's flags say when it can run guests of unmodified kernels. /dev/kvm alone does not tell: some hypervisors
#: offer it to guests for kernels of their own making only.
_VIRTUALISATION = re.compile(r"^flags\b.*\b(vmx|svm)\b", re.MULTILINE)
_KERNEL = "root=/dev/vda rw console=ttyS0 quiet systemd.firstboot=off panic=5"
#: Pass-through for what the kernel drives, as hosts with DPDK have it: mapping every frame costs too much.
_KERNEL_IOMMU = " intel_iommu=on iommu=pt"


@dataclass(frozen=True)
class Machine:
    """What the guest has. ``nic``: model of the data NICs; ``accelerator``: "auto" takes KVM where it works and QEMU's
    own translation (tcg, slow) elsewhere; ``disks``: images that it may read, as /dev/vdb and on; ``iommu``: Intel's,
    for vfio-pci and virtual functions."""

    nic: str = "vmxnet3"
    memory_mib: int = 1536
    vcpus: int = 2
    accelerator: str = "auto"
    disks: tuple[Path, ...] = ()
    iommu: bool = False


def program() -> str:
    """QEMU's name or path: what HARNESS_QEMU says, Debian's otherwise."""
    return os.environ.get(PROGRAM_VARIABLE) or PROGRAM


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


def argv(qemu: str, machine: Machine, image: Image, wires: Sequence[WirePlan], management: tuple[str, str],
         directory: Path) -> list[str]:
    """The whole command. ``management``: tap and MAC; ``directory``: the lab's, with its keys; the console goes there.
    Taps exist and are found by name in the namespace that QEMU is started in."""
    tap, mac = management
    words = [
        qemu, "-nodefaults", "-no-user-config", "-display", "none", *_board(machine), "-cpu", "max",
        "-accel", accelerator(machine), "-smp", str(machine.vcpus), "-m", f"{machine.memory_mib}M",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _KERNEL + _KERNEL_IOMMU * machine.iommu,
        "-serial", f"file:{directory / 'console.log'}",
        "-drive", f"if=none,id=disk,format=raw,snapshot=on,file={_escaped(image.disk)}",
        "-device", f"virtio-blk-pci,drive=disk,addr={_DISK_SLOT:#x}",
        *_extra_disks(machine.disks),
        "-device", f"virtio-rng-pci,addr={_RANDOM_SLOT:#x}",
        "-fw_cfg", f"name={FW_CFG}/host_key,file={_escaped(directory / 'host_key')}",
        "-fw_cfg", f"name={FW_CFG}/authorized_keys,file={_escaped(directory / 'authorized_keys')}",
        *_nic("mgmt", "virtio-net-pci", tap, mac, f"addr={MANAGEMENT_SLOT:#x}"),
    ]  # fmt: skip
    for wire in wires:
        place = f"addr={FIRST_DATA_SLOT + wire.index:#x}"
        if machine.iommu:
            words += ["-device", f"pcie-root-port,id=port{wire.index},chassis={wire.index + 1},{place}"]
            place = f"bus=port{wire.index}"
        words += _nic(f"data{wire.index}", _model(machine), wire.tg.ifname, wire.dut.mac, place)
    return words


def _extra_disks(disks: Sequence[Path]) -> list[str]:
    words = []
    for index, disk in enumerate(disks):
        words += ["-drive", f"if=none,id=extra{index},format=raw,readonly=on,file={_escaped(disk)}",
                  "-device", f"virtio-blk-pci,drive=extra{index},addr={_FIRST_EXTRA_SLOT + index:#x}"]
    return words


def _board(machine: Machine) -> list[str]:
    """The kernel's interrupt controller (KVM's) cannot remap interrupts, without which vfio-pci takes no device."""
    if not machine.iommu:
        return ["-machine", "pc"]
    return ["-machine", "q35" + ",kernel-irqchip=split" * (accelerator(machine) == "kvm"),
            "-device", "intel-iommu,intremap=on"]


def _model(machine: Machine) -> str:
    """A virtio NIC reaches memory past the IOMMU, unless told not to, and only a modern one can be told."""
    behind = ",disable-legacy=on,iommu_platform=on" * (machine.iommu and machine.nic.startswith("virtio"))
    return machine.nic + behind


def _nic(name: str, model: str, tap: str, mac: str, place: str) -> list[str]:
    """Without vnet_hdr the NIC itself fills in checksums that it is asked for, as hardware does: behind a tap nobody
    would."""
    return ["-netdev", f"tap,id={name},ifname={tap},script=no,downscript=no,vhost=off,vnet_hdr=off",
            "-device", f"{model},netdev={name},mac={mac},{place},romfile="]


def _escaped(path: Path) -> str:
    """QEMU's option lists take a doubled comma for one that is part of a value."""
    return str(path).replace(",", ",,")
