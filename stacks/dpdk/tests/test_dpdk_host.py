# SPDX-License-Identifier: Apache-2.0
"""dpdk on a real host, or a virtual machine, whose PCI ports it takes from the kernel and gives back.

``make test-vm`` boots a virtual machine for them. ``HARNESS_DPDK_HOST=testbed.yaml python -m pytest -m dpdk`` takes the
first DUT of that testbed instead, which has dpdk-testpmd and two wires.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import stacks
from harness.errors import HarnessError
from harness.host.dut import SshDut
from harness.lab.vm import Machine, VmLab
from harness.options import RunOptions
from harness.plan import PointPlan
from harness.planning import build_plan
from harness.progress import Reporter
from harness.records import Phase, Trial
from harness.runner import run
from harness.scenario import load_scenario
from harness.sites import target_of
from harness.stack import StackContext
from harness.stacks.ports import await_links
from harness.store import RunReader
from harness.testbed import Testbed, load_testbed
from tests.vm.recording import record

pytestmark = [pytest.mark.timeout(900), pytest.mark.dpdk, pytest.mark.vm]
SCENARIO = """
name: dpdk-host
role: {role}
traffic: {{frame: 64, flows: 64}}
cores: [1]
stacks:
  - dpdk: {{driver: pci, app: {app}}}
measure:
  load_curve: {{rates: [10k, 50k], trial: 2s}}
  warmup: 100ms
order: given
"""
#: What a deployment changes and has to put back.
STATE = (
    ["ip", "-o", "addr"], ["ip", "-4", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"],
    ["ip", "neigh", "show", "nud", "permanent"], ["sh", "-c", "ls -l /sys/bus/pci/devices/*/driver | sed 's/.* //'"],
    ["sh", "-c", "grep -Eo '^(uio|vfio)[^ ]*' /proc/modules | sort"],
    ["sh", "-c", "cat /sys/bus/pci/devices/*/driver_override /sys/kernel/mm/hugepages/*/nr_hugepages"],
    ["sh", "-c", "ls /var/run/dpdk 2>&1; true"],
)


class Watching(Reporter):
    """Where the run is kept, and how its points ended."""

    def run_started(self, plan: object, run_dir: Path | None = None) -> None:
        assert run_dir is not None
        self.path = run_dir

    def point_started(self, *_: object) -> None:
        pass

    def trial_started(self, *_: object) -> None:
        pass

    def trial_done(self, trial: Trial) -> None:
        pass

    def point_done(self, outcome: Any) -> None:
        self.ended = (outcome.status, outcome.reason)


@pytest.fixture(scope="module")
def testbed_file() -> Iterator[Path]:
    if host := os.environ.get("HARNESS_DPDK_HOST"):
        yield Path(host)
        return
    with VmLab.up(pause_s=0.2, machine=Machine(nic="e1000")) as made:
        yield made.testbed_file


@pytest.fixture(scope="module")
def testbed(testbed_file: Path) -> Testbed:
    return load_testbed(testbed_file)


def scenario(folder: Path, role: str, app: str = "testpmd") -> Path:
    path = folder / f"{role}.yaml"
    path.write_text(SCENARIO.format(role=role, app=app))
    return path


@pytest.fixture
def connected(testbed: Testbed) -> Iterator[Any]:
    """Connects to the host anew."""
    def connect() -> SshDut:
        ssh = testbed.duts[0].ssh
        assert ssh is not None
        return SshDut.connect(testbed.duts[0].name, target_of(ssh), home_cores=[0], lock_wait_s=60)

    return connect


def state(dut: SshDut) -> list[list[str]]:
    """Without the index of interfaces, which are new ones, and the running lifetimes of addresses; with the links that
    a driver trains once it has its device back."""
    await_links(dut, dut.run(["ls", "/sys/class/net"]).stdout.split())
    shown = [dut.run(argv).stdout.splitlines() for argv in STATE]
    return [sorted(line.partition(": ")[2] if n == 0 else line for line in lines) for n, lines in enumerate(shown)]


@pytest.mark.parametrize(("role", "app"), [
    ("drop", "testpmd"), ("reflect", "testpmd"), ("echo", "testpmd"), ("forward", "testpmd"), ("forward", "l3fwd"),
])  # fmt: skip
def test_every_role_over_pci_and_the_host_as_it_was(connected: Any, testbed_file: Path, tmp_path: Path, role: str,
                                                       app: str) -> None:
    with connected() as dut:
        before = state(dut)
        if app == "l3fwd" and dut.which("dpdk-l3fwd") is None:
            pytest.skip("the host has no dpdk-l3fwd: no Debian package has it")
    watching = Watching()
    run(RunOptions(scenario=scenario(tmp_path, role, app), testbed=str(testbed_file), results=tmp_path / "results"),
        watching)
    record(watching.path)
    assert watching.ended == ("ok", "")
    trials = [trial for trial in RunReader(watching.path).trials() if trial.phase is Phase.LOAD]
    assert len(trials) == 2
    for trial in trials:
        own = trial.counters["stack"]
        print(role, app, trial.asked_pps, trial.sent, trial.received, dict(own))
        assert own["received"] > 0
        if role == "drop":
            assert own["discarded"] == trial.received
        else:
            assert own["sent"] >= trial.received > 0
    with connected() as dut:
        assert state(dut) == before


def point_of(testbed: Testbed, folder: Path, management: str = "") -> PointPlan:
    if management:
        dut = testbed.duts[0].model_copy(update={"management": management})
        testbed = testbed.model_copy(update={"duts": (dut,)})
    return build_plan(load_scenario(scenario(folder, "forward")), testbed, seed=1).points[0]


def test_the_journal_on_disk_gives_the_ports_back_when_the_agent_was_killed(testbed: Testbed, connected: Any,
                                                                             tmp_path: Path) -> None:
    point = point_of(testbed, tmp_path)
    dut = connected()
    name = point.wires[0].dut.ifname
    for words in (["addr", "add", "198.51.100.77/28", "dev", name], ["link", "set", "dev", name, "mtu", "1400", "up"],
                  ["route", "add", "203.0.113.0/24", "via", "198.51.100.78", "dev", name, "metric", "7"]):
        dut.run(["ip", *words])
    try:
        before = state(dut)
        deployment = stacks.create("dpdk", point.params).deploy(StackContext(dut, point, stacks.source("dpdk")))
        deployment.__enter__()
        assert not dut.exists(f"/sys/class/net/{name}")
        with pytest.raises(HarnessError):
            dut.run(["kill", "-9", str(dut.agent["pid"])])
        dut.abandon()
        dut.connection.close()
        with connected() as again:
            assert again.left_over[0] > 10
            assert again.left_over[1] == []
            assert state(again) == before
        with pytest.raises(HarnessError):
            deployment.__exit__(None, None, None)
    finally:
        with connected() as last:
            last.run(["ip", "addr", "del", "198.51.100.77/28", "dev", name])
            last.run(["ip", "link", "set", "dev", name, "mtu", "1500"])


def test_the_management_interface_is_refused_by_name(testbed: Testbed, connected: Any, tmp_path: Path) -> None:
    name = testbed.duts[0].ports[0].ifname
    point = point_of(testbed, tmp_path, management=name)
    stack = stacks.create("dpdk", point.params)
    with connected() as dut:
        before = state(dut)
        assert [m.what for m in stack.requirements(dut, point) if f"{name} (" in m.what]
        with pytest.raises(HarnessError, match=f"{name} .* is the management interface; it is never taken"):
            with stack.deploy(StackContext(dut, point, stacks.source("dpdk"))):
                pytest.fail("taken")
        assert dut.exists(f"/sys/class/net/{name}")
        assert state(dut) == before
