# SPDX-License-Identifier: Apache-2.0
"""A lab whose DUT is a virtual machine: a namespace for the generator, taps, QEMU inside it, a testbed file.

Record, lock and removal are those of every lab (:mod:`harness.lab.lab`): QEMU is a recorded process inside the
namespace, the taps end with it, the guest's changes to its disk with QEMU.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from harness.host.ssh import SshTarget
from harness.lab import sshd, wires
from harness.lab.cores import physical_cores, split_cores, usable_cores, watch_pauses
from harness.lab.errors import LabError, LabNameError
from harness.lab.lab import Lab, claim, make_shared
from harness.lab.state import VM, LabRecord, LabStore
from harness.lab.vm import fitness, image, qemu, taps
from harness.lab.vm.recipe import DATA, GUEST_IP, MAX_DATA_NICS, Recipe, data_address
from harness.lab.vm.testbed import testbed_text
from harness.plan import WirePlan

#: From power-on to SSH: 20 s under TCG on a free core; a busy machine takes several times that.
BOOT_S = 300.0
_SSH_POLL_S = 0.25
_CONSOLE_TAIL = 3000
_QEMU = "qemu"


class VmLab(Lab):
    """A lab that is up, its DUT a virtual machine. ``testbed_file``: for ``harness run --testbed``."""

    DUT: ClassVar[str] = VM

    def __init__(self, record: LabRecord, store: LabStore) -> None:
        super().__init__(record, store)
        self.wires = tuple(_guest_wire(wire, record.iommu) for wire in self.wires)
        self.ssh = SshTarget(hostname=GUEST_IP, known_hosts=self.directory / "known_hosts",
                             key_path=self.directory / "client_key", netns=self.tg_netns)
        self.testbed_file = self.directory / "testbed.yaml"

    @classmethod
    def up(cls, name: str | None = None, *, wires: int = 2, persistent: bool = False, pause_s: float = 1.0,
           store: LabStore | None = None, machine: qemu.Machine | None = None, recipe: Recipe | None = None,
           cache: Path | None = None, say: Callable[[str], None] = lambda text: None) -> VmLab:
        """Build a lab and return it when the guest is reached by SSH. ``say`` is told before each long step; the first
        call builds the guest's disk, which takes minutes. Otherwise as :meth:`Lab.up`."""
        machine, recipe, cache = machine or qemu.Machine(), recipe or Recipe(), cache or image.cache_directory()
        fitness.preflight(machine, building=image.cached(recipe, cache) is None)
        store = store or LabStore()
        with contextlib.ExitStack() as undo:
            record = replace(claim(store, name, wires, persistent, undo, cls.DUT), iommu=machine.iommu)
            lab = cls(record, store)
            undo.callback(lab.close)
            disk = image.obtain(recipe, cache, say=say, note=lambda pid: store.note_process(lab.name, "build", pid))
            lab._boot(machine, disk, pause_s, say)
            undo.pop_all()
        return lab

    def _boot(self, machine: qemu.Machine, disk: image.Image, pause_s: float, say: Callable[[str], None]) -> None:
        with self._store.lock():
            make_shared(self._store)
        wires.make_namespaces(self.name, ("tg",))
        taps.make(self.name, self.wires)
        sshd.prepare(self.directory, GUEST_IP)
        split = split_cores(physical_cores(usable_cores()), watch_pauses(usable_cores(), pause_s))
        self.record = replace(self.record, split=split)
        management = (taps.management_tap(self.name), taps.management_mac(self.name))
        argv = qemu.argv(wires.tool(qemu.program()), machine, disk, self.wires, management, self.directory)
        say(f"starting the virtual machine ({qemu.accelerator(machine)})")
        with (self.directory / "qemu.log").open("wb") as log:
            process = self._start("tg", argv, _QEMU, {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log})
        self.await_ssh(process)
        self.testbed_file.write_text(
            testbed_text(self.name, self.testbed_file, machine, self.ssh, self.tg_netns, self.tg_cores, self.wires),
            encoding="utf-8")
        self._complete()

    def await_ssh(self, process: subprocess.Popen[bytes] | None = None, timeout_s: float = BOOT_S) -> None:
        """Return once the guest's SSH server greets; also after a reboot. Raises LabError with what QEMU and the
        guest's console said when it does not in time, or QEMU ends."""
        deadline = time.monotonic() + timeout_s
        while not self._greets():
            if process is not None and process.poll() is not None:
                raise LabError(f"QEMU ended with status {process.returncode}: {self._tail('qemu.log')}")
            if time.monotonic() > deadline:
                raise LabError(f"the virtual machine is not reached by SSH after {timeout_s:g} s; its console says:\n"
                               f"{self._tail('console.log')}")
            time.sleep(_SSH_POLL_S)

    def _greets(self) -> bool:
        try:
            with self.ssh.open_socket(2.0) as connection:
                return _first_bytes(connection).startswith(b"SSH-2.0-")
        except OSError:
            return False

    def _tail(self, name: str) -> str:
        path = self.directory / name
        if not path.exists():
            return ""
        return path.read_bytes()[-_CONSOLE_TAIL:].decode(errors="replace").strip()

    def netns_of(self, side: str) -> str:
        """The generator's namespace; the DUT has none. Raises LabNameError for anything but "tg"."""
        if side != "tg":
            raise LabNameError(f"the DUT of lab {self.name!r} is a virtual machine, not a namespace")
        return self.tg_netns

    def exec_argv(self, side: str, argv: Sequence[str]) -> list[str]:
        """The argv that runs ``argv`` inside one side: in the generator's namespace, or by SSH on the guest, where
        (as always with ssh) a shell takes the words apart again."""
        if side != "dut":
            return super().exec_argv(side, argv)
        options = ["-i", str(self.ssh.key_path), "-o", f"UserKnownHostsFile={self.ssh.known_hosts}", "-o",
                   "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-F", "none"]
        return super().exec_argv("tg", ["ssh", *options, f"root@{GUEST_IP}", "--", *argv])

    def ifnames(self, side: str) -> tuple[str, ...]:
        """Device names of one side, by wire."""
        return tuple((wire.tg if side == "tg" else wire.dut).ifname for wire in self.wires)

    def pin_napi(self, side: str | None = None) -> None:
        """Taps have no NAPI threads, and the guest's are the guest's own: nothing to pin."""


def open_lab(name: str, **options: Any) -> Lab:
    """The lab of this name, whatever its DUT is. ``options`` as for :meth:`Lab.open`, which raises the same."""
    record = (options.get("store") or LabStore()).read(name)
    kind = VmLab if record is not None and record.dut == VM else Lab
    return kind.open(name, **options)


def _guest_wire(wire: WirePlan, iommu: bool) -> WirePlan:
    index = wire.index
    if index >= MAX_DATA_NICS:
        raise LabNameError(f"a virtual machine has at most {MAX_DATA_NICS} wires")
    return replace(wire, dut=replace(wire.dut, ifname=DATA.format(index=index), pci=data_address(index, express=iommu)))


def _first_bytes(connection: socket.socket) -> bytes:
    connection.settimeout(5.0)
    return connection.recv(64)
