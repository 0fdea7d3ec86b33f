# SPDX-License-Identifier: Apache-2.0
"""Real hosts, or virtual machines, for tests of dpdk over PCI: what they have, what is run there, what is compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.host.dut import SshDut
from harness.host.ssh import SshConnection
from harness.lab.vm import Machine, VmLab
from harness.options import RunOptions
from harness.records import Phase
from harness.runner import run
from harness.sites import target_of
from harness.stacks.ports import await_links
from harness.testbed import Testbed
from tests.vm.recording import record
from tests.watching import Watching

#: Hardware -> (virtual machine that has it, driver that DPDK is to have its ports by).
MACHINES = {
    "e1000": (Machine(nic="e1000"), "uio_pci_generic"),
    "e1000e": (Machine(nic="e1000e", iommu=True), "vfio-pci"),
    "igb": (Machine(nic="igb", iommu=True), "vfio-pci"),
}
HOST, L3FWD = os.environ.get("HARNESS_DPDK_HOST"), os.environ.get("HARNESS_DPDK_L3FWD")
SCENARIO = """
name: dpdk-host
role: {role}
traffic: {{frame: 64, flows: 64}}
cores: [1]
stacks:
  - dpdk: {{driver: pci{params}}}
measure:
  load_curve: {{rates: [10k, 50k], trial: 2s}}
  warmup: 100ms
order: given
"""
_SETTINGS = ("for port in $(ls /sys/class/net); do for what in -k -l -g -c -a -x; do "
             "ethtool $what $port 2>&1 | sed \"s/^/$port $what /\"; done; done; true")
#: What a deployment changes and has to put back, and what it might.
_STATE = (
    ["ip", "-o", "addr"], ["sh", "-c", "ip -o link | sed 's/ qdisc [^ ]*//'"],
    ["ip", "-4", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"],
    ["ip", "rule"], ["ip", "neigh", "show", "nud", "permanent"],
    # The kernel's own queueing disciplines have handle 0: a device has them from the first time it is set up.
    ["sh", "-c", "tc qdisc | grep -v ' 0: '; true"], ["nft", "list", "ruleset"], ["sh", "-c", _SETTINGS],
    ["sh", "-c", "grep -rs '' /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf; true"],
    ["sh", "-c", "ls -l /sys/bus/pci/devices/*/driver | sed 's/.* //'"],
    ["sh", "-c", "cd /sys/bus/pci/devices && grep -s '' */driver_override */sriov_*; true"],
    ["cut", "-d ", "-f1", "/proc/modules"], ["sh", "-c", "grep '' /sys/kernel/mm/hugepages/*/nr_hugepages"],
    ["sh", "-c", "ls -d /run/*.ipv[46] /var/run/dpdk /dev/hugepages/* 2>&1; true"],
)
_TAKEN = ("cd /sys/bus/pci/devices/$0; basename $(readlink driver); [ ! -e virtfn0 ] || "
          "{ cat sriov_numvfs; basename $(readlink virtfn0/driver); }")


@contextmanager
def booted(hardware: str) -> Iterator[Path]:
    """The testbed file of a virtual machine with this hardware, which has a dpdk-l3fwd where one is named."""
    with VmLab.up(pause_s=0.2, machine=MACHINES[hardware][0]) as made:
        with SshConnection.open(made.ssh) as connection:
            for port in made.ifnames("dut"):  # a driver makes some settings for good as its port first comes up
                connection.run(["ip", "link", "set", "dev", port, "up"])
                connection.run(["ip", "link", "set", "dev", port, "down"])
            if L3FWD:
                path = "/usr/local/bin/dpdk-l3fwd"
                connection.run(["dd", "status=none", f"of={path}"], stdin=Path(L3FWD).read_bytes())
                connection.run(["chmod", "755", path])
        yield made.testbed_file


def connect(testbed: Testbed) -> SshDut:
    """The first DUT, connected anew."""
    ssh = testbed.duts[0].ssh
    assert ssh is not None
    return SshDut.connect(testbed.duts[0].name, target_of(ssh), home_cores=[0], lock_wait_s=60)


def state(dut: SshDut) -> list[list[str]]:
    """Without the index of interfaces, which are new ones, and the running lifetimes of addresses; with the links that
    a driver trains once it has its device back."""
    await_links(dut, dut.run(["ls", "/sys/class/net"]).stdout.split())
    shown = [dut.run(argv).stdout.splitlines() for argv in _STATE]
    return [sorted(line.partition(": ")[2] if n < 2 else line for line in lines) for n, lines in enumerate(shown)]


def changes(before: list[list[str]], after: list[list[str]]) -> list[str]:
    """Lines that are in one of two states only, printed too."""
    found = [f"{sign} {line}" for was, now in zip(before, after, strict=True)
             for sign, lines, others in (("-", was, now), ("+", now, was)) for line in lines if line not in others]
    print("\n".join(found))
    return found


def scenario(folder: Path, role: str, params: str = "") -> Path:
    """``params``: more of the stack's parameters, as ", app: l3fwd"."""
    path = folder / f"{role}.yaml"
    path.write_text(SCENARIO.format(role=role, params=params))
    return path


def taken(testbed: Testbed) -> list[list[str]]:
    """What has the first DUT's ports at present: each one's driver; where it has virtual functions, how many, and the
    driver of the first one."""
    ssh = testbed.duts[0].ssh
    assert ssh is not None
    with SshConnection.open(target_of(ssh)) as connection:
        return [connection.run(["sh", "-c", _TAKEN, port.pci]).stdout.split() for port in testbed.duts[0].ports]


def measure(testbed_file: Path, testbed: Testbed, folder: Path, role: str, params: str, *, hardware: str,
            expected: list[str]) -> Watching:
    """Run one point, and keep its figures where HARNESS_VM_RECORD says. ``expected``: what :func:`taken` has to tell of
    every port used during each trial; nothing is expected of a host that is given."""
    seen = list[list[list[str]]]()
    watching = Watching(lambda phase: seen.append(taken(testbed)) if phase is Phase.LOAD else None)
    run(RunOptions(scenario=scenario(folder, role, params), testbed=str(testbed_file), results=folder / "results"),
        watching)
    ends = [(outcome.status, outcome.reason) for outcome in watching.outcomes]
    assert ends == [("ok", "")], ends
    used = [ports[: 2 if role == "forward" else 1] for ports in seen]
    if not HOST:
        assert used == [[expected] * len(used[0])] * 2
    record(watching.path, hardware=hardware, taken=used[0])
    return watching


def check_counts(watching: Watching, role: str) -> None:
    """DPDK's own count of every trial is the generator's."""
    trials = watching.load_trials()
    assert len(trials) == 2
    for trial in trials:
        own = trial.counters["stack"]
        print(role, trial.asked_pps, trial.sent, trial.received, dict(own), dict(trial.losses))
        assert own["received"] > 0
        if role == "drop":
            assert own["discarded"] == trial.received
        else:
            assert own["sent"] >= trial.received > 0
