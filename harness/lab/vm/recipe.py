# SPDX-License-Identifier: Apache-2.0
"""What the guest's disk holds: Debian packages, a few files, and a key over all of it, by which built images are kept.

Nothing in the image belongs to one lab: host key and authorised key reach the guest at boot through QEMU's fw_cfg.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

#: Slots on the guest's first PCI bus: the management NIC's, and those of data NICs or of the ports they are behind.
MANAGEMENT_SLOT, FIRST_DATA_SLOT = 0x10, 0x11
MANAGEMENT, DATA = "mgmt0", "data{index}"
#: The management link (TEST-NET-1, RFC 5737), in the generator's namespace: two labs may use the same.
HOST_IP, GUEST_IP, PREFIX_LEN = "192.0.2.1", "192.0.2.2", 24
#: Where fw_cfg shows the lab's own files to the guest.
FW_CFG = "opt/netstack-harness"
MAX_DATA_NICS = 4

#: A system that boots and is reached; what the harness asks of a DUT; what builds programs there; stacks from Debian.
PACKAGES = (
    "systemd-sysv", "udev", "dbus", "kmod", "procps", "util-linux", "initramfs-tools", "linux-image-amd64",
    "openssh-server", "python3-minimal", "iproute2", "ethtool", "iptables", "nftables", "pciutils",
    "gcc", "make", "libc6-dev", "clang", "llvm", "linux-libc-dev", "libbpf-dev", "libelf-dev", "zlib1g-dev",
    "libxdp-dev", "dpdk", "dpdk-dev",
)  # fmt: skip

_KEYS_SCRIPT = f"""#!/bin/sh
# The keys of this lab, as QEMU hands them over.
set -e
modprobe qemu_fw_cfg
from=/sys/firmware/qemu_fw_cfg/by_name/{FW_CFG}
install -m 600 $from/host_key/raw /etc/ssh/ssh_host_ed25519_key
install -d -m 700 /root/.ssh
install -m 600 $from/authorized_keys/raw /root/.ssh/authorized_keys
"""

_KEYS_UNIT = """[Unit]
Description=SSH keys of this lab
Before=ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-keys
[Install]
RequiredBy=ssh.service
"""

_SSHD = """HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
MaxSessions 64
MaxStartups 64
"""

_SYSCTL = """net.ipv4.conf.all.rp_filter = 0
net.ipv4.conf.default.rp_filter = 0
net.ipv6.conf.all.disable_ipv6 = 1
net.ipv6.conf.default.disable_ipv6 = 1
"""

#: Background work that would disturb a measurement, or wait for a network that is not there.
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap"
           ".service", "fstrim.timer", "systemd-networkd-wait-online.service", "systemd-timesyncd.service")  # fmt: skip


def data_address(index: int, *, express: bool) -> str:
    """PCI address of data NIC ``index``; ``express``: behind a port. Nothing else is behind one, and firmware numbers
    the buses there in the order of the ports' slots: interfaces have the same names whatever the NIC's model."""
    return f"0000:{1 + index:02x}:00.0" if express else f"0000:00:{FIRST_DATA_SLOT + index:02x}.0"


def _link(pci: str, name: str) -> str:
    return f"[Match]\nPath=pci-{pci}\n[Link]\nNamePolicy=\nName={name}\n"


def _files() -> dict[str, str]:
    files = {
        "etc/hostname": "vm\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 vm\n",
        "etc/fstab": "",
        "etc/machine-id": "",
        "etc/initramfs-tools/conf.d/harness": "MODULES=list\nCOMPRESS=gzip\n",
        "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
        "etc/modules-load.d/harness.conf": "uio_pci_generic\n",
        "etc/ssh/sshd_config.d/harness.conf": _SSHD,
        "etc/sysctl.d/90-harness.conf": _SYSCTL,
        "etc/systemd/journald.conf.d/harness.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n",
        "etc/systemd/network/20-management.network":
            f"[Match]\nName={MANAGEMENT}\n[Network]\nAddress={GUEST_IP}/{PREFIX_LEN}\nLinkLocalAddressing=no\n",
        "etc/systemd/network/30-data.network": f"[Match]\nName={DATA.format(index='*')}\n[Link]\nUnmanaged=yes\n",
        "etc/systemd/network/10-management.link": _link(f"0000:00:{MANAGEMENT_SLOT:02x}.0", MANAGEMENT),
        "etc/systemd/system/lab-keys.service": _KEYS_UNIT,
    }
    for index in range(MAX_DATA_NICS):
        for kind, express in (("", False), ("-express", True)):
            files[f"etc/systemd/network/10-data{index}{kind}.link"] = _link(
                data_address(index, express=express), DATA.format(index=index))
    return files


@dataclass(frozen=True)
class Recipe:
    """All that decides what an image is. ``files``: path below / -> text, mode 644; ``scripts``: the same, mode 755."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    files: dict[str, str] = field(default_factory=_files)
    scripts: dict[str, str] = field(default_factory=lambda: {"usr/local/sbin/lab-keys": _KEYS_SCRIPT})
    enabled: tuple[str, ...] = ("systemd-networkd.service", "lab-keys.service", "ssh.service")
    masked: tuple[str, ...] = _MASKED
    disk_mib: int = 4096

    def key(self) -> str:
        """What an image made by this recipe is called: the first 16 hexadecimal digits of a hash over it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
