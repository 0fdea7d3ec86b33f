# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as TRex's host: PCI NICs, hugepages and modules of its own. The DUT is the namespace that holds the
other ends of its wires, the taps, behind an SSH server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.lab.vm import Machine, VmLab
from harness.lab.wires import tool
from tests.rackhosts import CHECKS, RackHost, RackPort

#: Where the guest has the installation.
TREX = "/opt/trex"
#: Of an installation, what a server and its client need.
_PARTS = ("t-rex-64", "trex-cfg", "find_python.sh", "dpdk_nic_bind.py", "dpdk_setup_ports.py", "so", "external_libs",
          "automation")
_DISK_MIB = 400


def installation(source: Path, folder: Path) -> Path:
    """A disk image with the installation of ``source``, its program without symbols. Returns the image."""
    root, image = folder / "trex", folder / "trex.ext4"
    root.mkdir()
    for name in _PARTS:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, root / name)
    program = root / "_t-rex-64"
    subprocess.run(["strip", "-o", program, (source / "_t-rex-64").resolve()], check=True, timeout=60)
    program.chmod(0o755)
    with image.open("wb") as file:
        file.truncate(_DISK_MIB << 20)
    subprocess.run([tool("mke2fs"), "-q", "-t", "ext4", "-d", root, image], check=True, timeout=120)
    shutil.rmtree(root)
    return image


@dataclass
class VmRack:
    """A rack that is up."""

    vm: VmLab
    sut: RackHost
    folder: Path

    def guest(self, script: str, timeout_s: float = 120.0) -> str:
        """What a shell script prints on TRex's host."""
        done = subprocess.run(self.vm.exec_argv("dut", ["bash", "-es"]), input=script, text=True, check=False,
                              capture_output=True, timeout=timeout_s)
        assert done.returncode == 0, (script, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def document(self, ports: int, cores: Sequence[int], **trex: Any) -> dict[str, Any]:
        """What the testbed file says of the first ``ports`` wires; ``cores``: the guest's that TRex may use; ``trex``:
        keys of generator.trex."""
        used, ssh = self.vm.wires[:ports], self.vm.ssh
        sut = self.sut.entry(sorted(os.sched_getaffinity(0))[-1:])
        return {
            "name": "vm-generator", "checks": CHECKS, "duts": [{**sut, "ports": sut["ports"][:ports]}],
            "generator": {
                "ssh": {"address": ssh.hostname, "netns": ssh.netns, "key": str(ssh.key_path),
                        "known_hosts": str(ssh.known_hosts)},
                "cores": list(cores), "trex": {"dir": TREX, "hugepages": 256, **trex},
                "ports": [{"mac": wire.dut.mac, "ifname": wire.dut.ifname, "pci": wire.dut.pci} for wire in used]},
            "wires": [{"tg": wire.index, "dut": f"sut/{wire.index}", "speed": "100M", "virtual": True}
                      for wire in used],
        }  # fmt: skip

    def write(self, document: dict[str, Any]) -> Path:
        """The testbed file."""
        path = self.folder / "testbed.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path


@contextmanager
def vm_rack(folder: Path) -> Iterator[VmRack]:
    """A machine of four ports and four cores, and TRex of TREX_DIR on a disk of its own."""
    image = installation(Path(os.environ["TREX_DIR"]), folder)
    machine = Machine(nic="e1000", memory_mib=5120, vcpus=4, disks=(image,))
    with VmLab.up(wires=4, pause_s=0.1, machine=machine) as vm:
        ports = [RackPort(vm.tg_netns, wire.tg.ifname, wire.tg.mac) for wire in vm.wires]
        made = VmRack(vm, RackHost("sut", vm.tg_netns, folder / "sut", ports), folder)
        made.sut.start()  # ends with the namespace
        try:
            made.guest(f"mkdir -p {TREX}; mount -o ro /dev/vdb {TREX}")
            yield made
        finally:
            vm.close()
            if made.sut.server is not None:
                made.sut.server.wait(timeout=5)
