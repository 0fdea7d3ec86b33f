# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as DUT, as far as it can be seen without one: recipe, command line, testbed file, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.flows import wire_plans
from harness.host.ssh import SshTarget
from harness.lab.addresses import plan_wires
from harness.lab.errors import LabError
from harness.lab.state import VM, LabRecord, new_record
from harness.lab.vm import image, qemu
from harness.lab.vm.fitness import Host, missing
from harness.lab.vm.lab import _guest_wire
from harness.lab.vm.recipe import Recipe
from harness.lab.vm.testbed import testbed_text as text_of
from harness.sites import target_of
from harness.testbed import load_testbed

FIT = Host(euid=0, architecture="x86_64", absent=(), tun=True, available_mib=4096, kvm=False)
WIRES, EXPRESS = (tuple(_guest_wire(wire, iommu) for wire in plan_wires("t1", 2)) for iommu in (False, True))


def test_an_image_is_found_by_all_that_made_it(tmp_path: Path) -> None:
    recipe = Recipe()
    assert recipe.key() == Recipe().key()
    assert recipe.key() != replace(recipe, packages=(*recipe.packages, "tcpdump")).key()
    assert recipe.key() != replace(recipe, files={**recipe.files, "etc/motd": "hello"}).key()
    assert image.cached(recipe, tmp_path) is None
    (tmp_path / recipe.key()).mkdir()
    assert image.cached(recipe, tmp_path) == image.Image(*(
        tmp_path / recipe.key() / name for name in ("disk.ext4", "vmlinuz", "initrd.img")))


def test_a_build_without_room_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "NEEDED_MIB", 1 << 40)
    with pytest.raises(LabError, match="XDG_CACHE_HOME"):
        image.obtain(Recipe(), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def command_of(machine: qemu.Machine, folder: Path) -> list[str]:
    disk = image.Image(folder / "a,b", folder / "k", folder / "i")
    return qemu.argv("qemu", machine, disk, WIRES, ("hm", "02:00:00:00:00:01"), folder)


def test_every_nic_sits_in_its_slot_on_a_tap_of_its_own(tmp_path: Path) -> None:
    words = command_of(qemu.Machine(nic="e1000", accelerator="tcg"), tmp_path)
    devices = [word for word in words if word.startswith("e1000,")]
    assert [f"mac={wire.dut.mac}" in device for wire, device in zip(WIRES, devices, strict=True)] == [True, True]
    assert ["addr=0x11," in devices[0], "addr=0x12," in devices[1]] == [True, True]
    assert [wire.dut.pci for wire in WIRES] == ["0000:00:11.0", "0000:00:12.0"]
    assert not [word for word in words if "iommu" in word or "root-port" in word]
    assert [word for word in words if "ifname=ht1t1," in word]
    assert any(word.endswith("a,,b") for word in words), "a comma in a path stays part of it"


@pytest.mark.parametrize(("accelerator", "board"), [("tcg", "q35"), ("kvm", "q35,kernel-irqchip=split")])
def test_an_iommu_stands_before_the_nics_and_the_kernel_uses_it(tmp_path: Path, accelerator: str, board: str) -> None:
    words = command_of(qemu.Machine(nic="virtio-net-pci", accelerator=accelerator, iommu=True), tmp_path)
    assert words[words.index("-machine") + 1] == board
    assert "intel_iommu=on" in words[words.index("-append") + 1].split()
    iommu = words.index("intel-iommu,intremap=on")
    nics = [n for n, word in enumerate(words) if word.startswith("virtio-net-pci,") and "netdev=data" in word]
    assert len(nics) == len(WIRES)
    assert all("iommu_platform=on" in words[n] for n in nics)
    assert iommu < nics[0]
    assert [f"bus=port{n}," in words[nic] for n, nic in enumerate(nics)] == [True, True]
    assert [word.rpartition("addr=")[2] for word in words if word.startswith("pcie-root-port,")] == ["0x11", "0x12"]
    assert [wire.dut.pci for wire in EXPRESS] == ["0000:01:00.0", "0000:02:00.0"]


def test_another_qemu_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_QEMU", raising=False)
    assert qemu.program() == "qemu-system-x86_64"
    monkeypatch.setenv("HARNESS_QEMU", "/opt/qemu/bin/qemu-system-x86_64")
    assert qemu.program() == "/opt/qemu/bin/qemu-system-x86_64"


@pytest.mark.parametrize(("flags", "usable"), [("fpu vmx", True), ("fpu svm sse", True), ("fpu hypervisor", False)])
def test_kvm_counts_only_where_the_cpu_can_run_stock_kernels(tmp_path: Path, flags: str, usable: bool) -> None:
    (tmp_path / "kvm").touch()
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert qemu.usable_kvm(tmp_path / "kvm", tmp_path / "cpuinfo") is usable
    assert not qemu.usable_kvm(tmp_path / "absent", tmp_path / "cpuinfo")


@pytest.mark.parametrize(("host", "machine", "says"), [
    (replace(FIT, euid=1000), qemu.Machine(), ("sudo",)),
    (replace(FIT, architecture="aarch64"), qemu.Machine(), ("x86_64",)),
    (replace(FIT, absent=("qemu-system-x86_64", "debootstrap", "mke2fs")), qemu.Machine(),
     ("apt-get install debootstrap e2fsprogs qemu-system-x86",)),
    (replace(FIT, tun=False), qemu.Machine(), ("modprobe tun",)),
    (replace(FIT, available_mib=900), qemu.Machine(), ("1536 MiB", "--memory")),
    (FIT, qemu.Machine(accelerator="kvm"), ("--accel tcg",)),
    (replace(FIT, has_nic=False), qemu.Machine(nic="igb"), ("igb came with 8.0", "HARNESS_QEMU")),
])
def test_what_is_missing_is_said_with_its_remedy(host: Host, machine: qemu.Machine, says: tuple[str, ...]) -> None:
    (sentence,) = missing(host, machine)
    assert all(word in sentence for word in says)


def test_a_fit_machine_lacks_nothing() -> None:
    assert missing(FIT, qemu.Machine()) == []


def test_the_testbed_file_is_one(tmp_path: Path) -> None:
    ssh = SshTarget("192.0.2.2", tmp_path / "known", key_path=tmp_path / "key", netns="nsh-t1-tg")
    path = tmp_path / "testbed.yaml"
    path.write_text(text_of("t1", path, qemu.Machine(), ssh, "nsh-t1-tg", (0,), WIRES))
    testbed = load_testbed(path)
    assert testbed.generator.netns == "nsh-t1-tg"
    assert testbed.generator.kind == "xdpgen"
    assert testbed.duts[0].ssh is not None
    assert target_of(testbed.duts[0].ssh) == ssh
    assert [(wire.dut.pci, wire.virtual) for wire in wire_plans(testbed)] == [
        ("0000:00:11.0", True), ("0000:00:12.0", True)]
    assert not testbed.lab


def test_a_namespace_is_for_a_generator_on_this_machine(tmp_path: Path) -> None:
    ssh = SshTarget("192.0.2.2", tmp_path / "known", key_path=tmp_path / "key")
    path = tmp_path / "testbed.yaml"
    text = text_of("t1", path, qemu.Machine(), ssh, "ns", (0,), WIRES)
    path.write_text(text.replace("  netns: ns\n  cores", "  netns: ns\n  trex: {dir: /opt/trex}\n  cores", 1))
    with pytest.raises(UsageError, match=r"netns.*xdpgen on this machine"):
        load_testbed(path)


def test_a_record_keeps_what_the_dut_is() -> None:
    record = new_record("abc", persistent=False, wires=2, queues=2, dut=VM)
    assert LabRecord.from_json(record.to_json()).dut == VM
    older = {key: value for key, value in record.to_json().items() if key not in ("dut", "iommu")}
    assert LabRecord.from_json(older).dut == "netns"
