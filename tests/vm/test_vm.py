# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as DUT: another kernel, PCI NICs, a reboot in the middle, and nothing left of it.

``make test-vm``; not part of CI. Under QEMU's translation everything takes its time: no figure is asserted.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import HostLost
from harness.host.dut import SshDut
from harness.lab import Lab, LabNameError, netns
from harness.lab.process import alive
from harness.lab.state import ROOT, LabStore
from harness.lab.vm import VmLab, open_lab
from harness.records import Phase
from tests.vm.measuring import check_counts, measure, resume

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

BOOT_ID = "/proc/sys/kernel/random/boot_id"
OWNER = """
import sys
from harness.lab.vm import VmLab
VmLab.up(sys.argv[1], pause_s=0.1)
"""


@contextmanager
def connected(vm: VmLab) -> Iterator[SshDut]:
    with SshDut.connect("vm", vm.ssh, home_cores=[0]) as dut:
        yield dut


def crash(vm: VmLab) -> None:
    """The guest's kernel restarts it at once: no process is told, nothing is undone. Returns when it is back."""
    before = guest(vm, "cat", BOOT_ID)
    guest(vm, "sync")
    with pytest.raises(subprocess.TimeoutExpired):
        guest(vm, "echo b > /proc/sysrq-trigger", timeout_s=3.0)
    vm.await_ssh()
    assert guest(vm, "cat", BOOT_ID) != before


def guest(vm: VmLab, *words: str, timeout_s: float = 60.0) -> str:
    done = subprocess.run(vm.exec_argv("dut", words), capture_output=True, text=True, timeout=timeout_s, check=True)
    return done.stdout.strip()


def test_the_guest_is_another_machine(vm: VmLab) -> None:
    with connected(vm) as dut:
        assert dut.read("/proc/sys/kernel/osrelease") != os.uname().release
        assert dut.read(BOOT_ID) != Path(BOOT_ID).read_text(encoding="ascii")
        for wire in vm.wires:
            folder = f"/sys/bus/pci/devices/{wire.dut.pci}/net/{wire.dut.ifname}"
            assert dut.read(f"{folder}/address").strip() == wire.dut.mac


def test_kernel_stacks_over_pci_nics(vm: VmLab, tmp_path: Path) -> None:
    echo = measure(vm.testbed_file, tmp_path, "echo", "linux-udp", "linux-udp: {reuseport: true}",
                   "xdp: {mode: generic}")
    check_counts(echo, 3)
    check_counts(measure(vm.testbed_file, tmp_path, "forward", "linux-forward", "linux-forward: {mode: bridge}",
                         "linux-forward: {mode: flowtable}"), 3)
    check_counts(measure(vm.testbed_file, tmp_path, "drop", "xdp: {mode: generic}",
                         *(f"linux-drop: {{at: {at}}}" for at in ("iptables-raw", "nft-ingress", "tc-matchall"))), 4)


def test_tagged_traffic_over_pci_nics(vm: VmLab, tmp_path: Path) -> None:
    check_counts(measure(vm.testbed_file, tmp_path, "echo", "linux-udp", traffic=", vlan: 7"), 1)
    check_counts(measure(vm.testbed_file, tmp_path, "forward", "linux-forward", traffic=", vlan: 7"), 1)


def driver_of(dut: SshDut, pci: str) -> str:
    return dut.run(["readlink", f"/sys/bus/pci/devices/{pci}/driver"]).stdout.strip().rpartition("/")[2]


def test_a_device_leaves_the_kernel_and_comes_back_under_its_name(vm: VmLab) -> None:
    """What DPDK's drivers need: hugepages, uio_pci_generic, a PCI device that can be bound to it."""
    port = vm.wires[1].dut
    with connected(vm) as dut:
        huge = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        dut.set_file(huge, "32")
        driver = driver_of(dut, port.pci)
        bind = ["dpdk-devbind.py", "--force", "--bind"]
        dut.apply([*bind, "uio_pci_generic", port.pci], [*bind, driver, port.pci])
        assert not dut.exists(f"/sys/class/net/{port.ifname}")
        assert driver_of(dut, port.pci) == "uio_pci_generic"
    with connected(vm) as dut:
        assert dut.read(huge).strip() == "0"
        dut.run(["udevadm", "settle"])
        assert dut.read(f"/sys/class/net/{port.ifname}/address").strip() == port.mac


def test_after_a_crash_only_what_persists_is_undone(vm: VmLab) -> None:
    """The file that a dead run made is removed at the next contact; a sysctl of another boot is nobody's business."""
    made, knob = "/var/lib/harness-test", "/proc/sys/net/core/rmem_max"
    dut = SshDut.connect("vm", vm.ssh, home_cores=[0])
    try:
        dut.create_file(made, "left behind")
        dut.set_file(knob, "300000")
        crash(vm)
    finally:
        dut.abandon()
        dut.connection.close()
    assert guest(vm, "cat", made) == "left behind"
    guest(vm, f"echo 400000 > {knob}")
    with connected(vm) as again:
        assert again.left_over == (2, [])
        assert not again.exists(made)
        assert again.read(knob).strip() == "400000"


def test_a_crash_during_a_trial_ends_the_run_in_words_and_it_is_resumed(vm: VmLab, tmp_path: Path) -> None:
    def before(phase: Phase) -> None:
        if phase is Phase.LOAD:
            crash(vm)

    with pytest.raises(HostLost, match="vm: "):
        measure(vm.testbed_file, tmp_path, "echo", "linux-udp", before=before)
    check_counts(resume(tmp_path), 1)


def test_commands_know_what_the_dut_is(vm: VmLab) -> None:
    assert isinstance(open_lab(vm.name), VmLab)
    with pytest.raises(LabNameError, match="another kind"):
        Lab.open(vm.name)
    inside = subprocess.run([sys.executable, "-m", "harness", "lab", "exec", vm.name, "dut", "--", "hostname"],
                            capture_output=True, text=True, timeout=60, check=True)
    assert inside.stdout == "vm\n"


def test_an_owner_killed_while_the_guest_boots_leaves_nothing() -> None:
    name, store = "vmkill", LabStore()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, name], start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (ROOT / name / "pids" / "qemu.json").exists():
            assert owner.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        qemu = store.processes(name)["qemu"]
        assert alive(qemu)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert name in Lab.clean_stale()
    finally:
        owner.kill()
        owner.wait()
    assert not alive(qemu)
    assert not (ROOT / name).exists()
    assert list(netns.NETNS_DIR.glob(f"nsh-{name}-*")) == [] if netns.NETNS_DIR.exists() else True
    assert not Path(f"/sys/class/net/h{name}t0").exists()


def mentioning(text: str) -> list[str]:
    """Command lines of this machine's processes that hold the text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has just ended
            if text in command:
                found.append(command.replace("\0", " "))
    return found


def test_an_owner_killed_while_the_disk_is_built_leaves_no_build(tmp_path: Path) -> None:
    name, cache = "vmbuild", tmp_path / "netstack-harness" / "vm"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, name], start_new_session=True,
                             env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    try:
        deadline = time.monotonic() + 60
        while not any("debootstrap" in command for command in mentioning(str(cache))):
            assert owner.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert name in Lab.clean_stale()
    finally:
        owner.kill()
        owner.wait()
    assert mentioning(str(cache)) == []
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not any(str(cache) in line for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines())
    assert sorted(path.name for path in cache.iterdir()) == ["building", "lock"], "the next build begins anew"
