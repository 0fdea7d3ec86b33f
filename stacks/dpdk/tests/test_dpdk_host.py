# SPDX-License-Identifier: Apache-2.0
"""dpdk on a real host, or on virtual machines, whose PCI ports it takes from the kernel and gives back.

``make test-vm`` boots a virtual machine of each kind of hardware. ``HARNESS_DPDK_HOST=testbed.yaml python -m pytest -m
dpdk`` takes the first DUT of that testbed instead, which has dpdk-testpmd and two wires. ``HARNESS_DPDK_L3FWD`` names a
dpdk-l3fwd for Debian 12, which is copied to the virtual machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.stacks.dpdk.tests.hosts import (
    HOST,
    MACHINES,
    booted,
    changes,
    check_counts,
    connect,
    measure,
    scenario,
    state,
)

from harness import stacks
from harness.errors import HarnessError
from harness.plan import PointPlan
from harness.planning import build_plan
from harness.scenario import load_scenario
from harness.stack import StackContext
from harness.testbed import Testbed, load_testbed

pytestmark = [pytest.mark.timeout(900), pytest.mark.dpdk, pytest.mark.vm]


ROLES = ("drop", "reflect", "echo", "forward")
#: Booting and running takes its time under translation: every role on one NIC, not on every one.
ROLES_OF = {"host": ROLES} if HOST else {
    "e1000": ROLES, "e1000e": ("drop", "forward")}


@pytest.fixture(scope="module", params=list(ROLES_OF))
def hardware(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def testbed_file(hardware: str) -> Iterator[Path]:
    if HOST:
        yield Path(HOST)
        return
    with booted(hardware) as path:
        yield path


@pytest.fixture(scope="module")
def testbed(testbed_file: Path) -> Testbed:
    return load_testbed(testbed_file)


def driver(hardware: str) -> str:
    """What the harness has to choose by itself."""
    return "" if HOST else MACHINES[hardware][1]


def test_roles_over_pci_and_the_host_as_it_was(testbed_file: Path, testbed: Testbed, tmp_path: Path, hardware: str,
                                               ) -> None:
    for role in ROLES_OF[hardware]:
        with connect(testbed) as dut:
            before = state(dut)
        folder = tmp_path / role
        folder.mkdir()
        watching = measure(testbed_file, testbed, folder, role, "", hardware=hardware, expected=[driver(hardware)])
        check_counts(watching, role)
        with connect(testbed) as dut:
            assert changes(before, state(dut)) == []


def test_l3fwd_routes_what_the_harness_gives_it(testbed_file: Path, testbed: Testbed, tmp_path: Path, hardware: str,
                                                ) -> None:
    with connect(testbed) as dut:
        if dut.which("dpdk-l3fwd") is None:
            pytest.skip("the host has no dpdk-l3fwd, no Debian package has it; HARNESS_DPDK_L3FWD names one to copy")
        before = state(dut)
    watching = measure(testbed_file, testbed, tmp_path, "forward", ", app: l3fwd", hardware=hardware,
                       expected=[driver(hardware)])
    check_counts(watching, "forward")
    with connect(testbed) as dut:
        assert changes(before, state(dut)) == []


def point_of(testbed: Testbed, folder: Path, management: str = "") -> PointPlan:
    if management:
        dut = testbed.duts[0].model_copy(update={"management": management})
        testbed = testbed.model_copy(update={"duts": (dut,)})
    return build_plan(load_scenario(scenario(folder, "forward")), testbed, seed=1).points[0]


def test_the_journal_on_disk_gives_the_ports_back_when_the_agent_was_killed(testbed: Testbed, tmp_path: Path) -> None:
    point = point_of(testbed, tmp_path)
    dut = connect(testbed)
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
        with connect(testbed) as again:
            assert again.left_over[0] > 10
            assert again.left_over[1] == []
            assert changes(before, state(again)) == []
        with pytest.raises(HarnessError):
            deployment.__exit__(None, None, None)
    finally:
        with connect(testbed) as last:
            last.run(["ip", "addr", "del", "198.51.100.77/28", "dev", name])
            last.run(["ip", "link", "set", "dev", name, "mtu", "1500"])


def test_the_management_interface_is_refused_by_name(testbed: Testbed, tmp_path: Path) -> None:
    name = testbed.duts[0].ports[0].ifname
    point = point_of(testbed, tmp_path, management=name)
    stack = stacks.create("dpdk", point.params)
    with connect(testbed) as dut:
        before = state(dut)
        assert [m.what for m in stack.requirements(dut, point) if f"{name} (" in m.what]
        with pytest.raises(HarnessError, match=f"{name} .* is the management interface; it is never taken"):
            with stack.deploy(StackContext(dut, point, stacks.source("dpdk"))):
                pytest.fail("taken")
        assert dut.exists(f"/sys/class/net/{name}")
        assert changes(before, state(dut)) == []
