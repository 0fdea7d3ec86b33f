# SPDX-License-Identifier: Apache-2.0
"""Kernel modules on a DUT, gone again afterwards: those a stack loads, and those the kernel loads for what it does."""

from __future__ import annotations

from pathlib import PurePosixPath

from harness.host.contract import Dut
from harness.host.pci import DEVICES

#: modprobe takes out what depends softly on a module first, and with it the module itself as one that nothing needs any
#: more (vfio by vfio_iommu_type1): then it finds its own gone and fails. What counts is that it is gone.
_GONE = 'test ! -d "/sys/module/$0"'
_REMOVE = f'{_GONE} || modprobe -r "$0" || {_GONE}'
#: udev loads a device's drivers whenever it appears or loses one: that is waited for. What somebody uses is theirs.
_REMOVE_UNUSED = ("! command -v udevadm > /dev/null || udevadm settle --timeout=5; "
                  'if [ "$(cat "/sys/module/$0/refcnt" 2> /dev/null)" = 0 ]; then modprobe -r "$0"; fi')


def loaded(dut: Dut, module: str) -> bool:
    """Whether a module is loaded, or built in and of the kind that has a folder."""
    return dut.exists(f"/sys/module/{_plain(module)}")


def load(dut: Dut, module: str) -> None:
    """Load a module, where it is not, and what it needs, one after the other; each is removed on undo. (``modprobe -r``
    alone leaves what two of the removed ones needed.) Raises HostError."""
    for name in (*_needs(dut, module), module):
        if not loaded(dut, name):
            dut.apply(["modprobe", name], ["sh", "-c", _REMOVE, _plain(name)])


def remove_if_it_comes(dut: Dut, module: str) -> None:
    """Have a module that is not loaded now removed on undo, should it be there then and unused."""
    if not loaded(dut, module):
        dut.apply(["true"], ["sh", "-c", _REMOVE_UNUSED, _plain(module)])


def function_modules(dut: Dut, pci: str) -> list[str]:
    """Modules that udev loads once a virtual function of this device is there; none where its ids are not told."""
    vendor, device = (dut.read(f"{DEVICES}/{pci}/{name}", "").strip() for name in ("vendor", "sriov_vf_device"))
    if not (vendor and device and dut.which("modprobe")):
        return []
    alias = f"pci:v{int(vendor, 16):08X}d{int(device, 16):08X}sv00000000sd00000000bc02sc00i00"
    return dut.run(["modprobe", "--resolve-alias", alias], check=False).stdout.split()


def _needs(dut: Dut, module: str) -> list[str]:
    """What a module needs, in the order of loading; "insmod PATH OPTIONS" is how ``modprobe`` tells one."""
    shown = dut.run(["modprobe", "--show-depends", module], check=False).stdout
    lines = [line.split() for line in shown.splitlines()]
    names = [PurePosixPath(words[1]).name.partition(".ko")[0] for words in lines if words[:1] == ["insmod"]]
    return [name for name in names if _plain(name) != _plain(module)]


def _plain(module: str) -> str:
    return module.replace("-", "_")
