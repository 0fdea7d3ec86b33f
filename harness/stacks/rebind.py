# SPDX-License-Identifier: Apache-2.0
"""Give a PCI device to a driver. Runs on the DUT: the agent's journal holds this text, for ``python3 -c``.

So an undo needs nothing but Python and the journal, may run twice, and verifies what it did; ``dpdk-devbind.py`` prints
some of its failures and ends with status 0, comes with DPDK's packages only, and knows nothing of names. Standard
library only, Python 3.6 syntax.

Arguments: PCI address, driver ("" for none), the device's ``driver_override`` as it was, the interface that has to be
there afterwards ("" for none).
"""

import glob
import os
import subprocess
import sys
import time

DEVICES = "/sys/bus/pci/devices"
NO_OVERRIDE = "(null)"
#: Together less than the agent gives an undo.
BIND_S, NAME_S, UDEV_S = 5.0, 10.0, 6.0


def write(path: str, value: str) -> None:
    """Write a sysfs file. Raises OSError."""
    with open(path, "w") as stream:
        stream.write(value + "\n")


def bound(device: str) -> str:
    """The driver a device is bound to; "" when to none."""
    link = os.path.join(device, "driver")
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def interfaces(device: str) -> "list[str]":
    """Names of its interfaces; those of a virtio device are one level deeper."""
    found = glob.glob(os.path.join(device, "net", "*")) + glob.glob(os.path.join(device, "virtio*", "net", "*"))
    return sorted(os.path.basename(path) for path in found)


def give(device: str, driver: str, override: str) -> None:
    """Unbind, and bind to ``driver``; ``driver_override`` is left as ``override``. Raises OSError."""
    pci = os.path.basename(device)
    now = bound(device)
    try:
        if now != driver:
            write(os.path.join(device, "driver_override"), driver)
            if now:
                write(os.path.join(device, "driver", "unbind"), pci)
            if driver:
                write(os.path.join(os.path.dirname(os.path.dirname(device)), "drivers_probe"), pci)
                await_true(lambda: bound(device) == driver, BIND_S)
    finally:
        write(os.path.join(device, "driver_override"), "" if override == NO_OVERRIDE else override)
    if bound(device) != driver:
        raise OSError("%s is bound to %r, not to %r; see dmesg" % (pci, bound(device), driver))


def await_true(said, timeout_s: float) -> bool:  # type: ignore[no-untyped-def]
    """Whether ``said()`` becomes true in time."""
    deadline = time.monotonic() + timeout_s
    while not said():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def await_interface(device: str, ifname: str) -> None:
    """Wait for an interface of this name. udev renames what the driver made; where it has a name of its own (or no
    rule), the interface is renamed here. Raises OSError and CalledProcessError."""
    await_true(lambda: ifname in interfaces(device), UDEV_S)
    names = interfaces(device)
    if ifname not in names and len(names) == 1:
        for words in (["down"], ["name", ifname]):
            subprocess.run(["ip", "link", "set", "dev", names[0], *words], check=True)
    if not await_true(lambda: ifname in interfaces(device), NAME_S - UDEV_S):
        raise OSError("%s has no interface %s, only %s" % (device, ifname, ", ".join(names) or "none"))


def main(pci: str, driver: str, override: str, ifname: str) -> int:
    """Status 0 when all is as asked; 1 with the reason on stderr."""
    device = os.path.join(DEVICES, pci)
    try:
        give(device, driver, override)
        if ifname:
            await_interface(device, ifname)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write("%s: %s\n" % (pci, error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
