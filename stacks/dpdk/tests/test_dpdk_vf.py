# SPDX-License-Identifier: Apache-2.0
"""dpdk on SR-IOV virtual functions, while the kernel keeps the ports that they are made on.

QEMU's igb has them, from 8.0 on: ``HARNESS_QEMU`` names one where the distribution's is older. ``HARNESS_DPDK_HOST``
takes a real host's ports instead, as for test_dpdk_host.py.
"""

from __future__ import annotations

import threading
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
from harness.generator.frames import flow_frame
from harness.host.ssh import SshConnection, SshTarget
from harness.lab import in_netns
from harness.lab.vm.fitness import look
from harness.lab.wires import run_tool
from harness.plan import PointPlan
from harness.planning import build_plan
from harness.scenario import load_scenario
from harness.stack import StackContext
from harness.testbed import Testbed, load_testbed
from tests.vm.raw import RawPort

pytestmark = [pytest.mark.timeout(900), pytest.mark.dpdk, pytest.mark.vm]
VF = ", vf: true"
#: A MAC of the function's own, beside which the port keeps its.
OWN_MAC = "02:00:5e:00:00:77"


@pytest.fixture(scope="module")
def testbed_file() -> Iterator[Path]:
    if HOST:
        yield Path(HOST)
        return
    if not look(MACHINES["igb"][0].nic, building=False).has_nic:
        pytest.skip("this QEMU has no igb, which came with 8.0; HARNESS_QEMU names another")
    with booted("igb") as path:
        yield path


@pytest.fixture(scope="module")
def testbed(testbed_file: Path) -> Testbed:
    return load_testbed(testbed_file)


@pytest.mark.parametrize("role", ["drop", "reflect", pytest.param("forward", marks=pytest.mark.xfail(
    not HOST, strict=True, reason="emulated igb: the port gets its trusted function's frames, cause not found"))])
def test_every_role_on_virtual_functions_and_the_host_as_it_was(testbed_file: Path, testbed: Testbed, tmp_path: Path,
                                                                role: str) -> None:
    with connect(testbed) as dut:
        before = state(dut)
    watching = measure(testbed_file, testbed, tmp_path, role, VF, hardware="igb", expected=["igb", "1", "vfio-pci"])
    check_counts(watching, role)
    with connect(testbed) as dut:
        assert changes(before, state(dut)) == []


def point_of(testbed: Testbed, folder: Path, mac: str = "") -> PointPlan:
    """Reflecting on the first port, whose function has this MAC ("": the port's)."""
    if mac:
        dut = testbed.duts[0]
        ports = (dut.ports[0].model_copy(update={"mac": mac}), *dut.ports[1:])
        testbed = testbed.model_copy(update={"duts": (dut.model_copy(update={"ports": ports}),)})
    return build_plan(load_scenario(scenario(folder, "reflect", VF)), testbed, seed=1).points[0]


@pytest.mark.parametrize("mac", ["", OWN_MAC])
def test_ssh_over_the_port_answers_while_its_function_is_under_load(testbed: Testbed, tmp_path: Path, mac: str) -> None:
    namespace, ssh = testbed.generator.netns, testbed.duts[0].ssh
    assert namespace, "this test makes its frames by hand: it needs a virtual machine of `harness lab up --dut vm`"
    assert ssh is not None
    point = point_of(testbed, tmp_path, mac)
    wire, known = point.wires[0], tmp_path / "known_hosts"
    known.write_text(f"{wire.dut.ip} {Path(ssh.known_hosts).read_text(encoding='ascii').partition(' ')[2]}")
    address = ["ip", "address", "add", f"{wire.tg.ip}/24", "dev", wire.tg.ifname]
    port = SshTarget(wire.dut.ip, known, key_path=Path(ssh.key), netns=namespace)
    in_netns(namespace, lambda: run_tool(address))
    try:
        with connect(testbed) as dut, RawPort(namespace, wire.tg.ifname) as sender:
            dut.apply(["ip", "addr", "add", f"{wire.dut.ip}/24", "dev", wire.dut.ifname],
                      ["ip", "addr", "del", f"{wire.dut.ip}/24", "dev", wire.dut.ifname])
            dut.apply(["ip", "link", "set", "dev", wire.dut.ifname, "up"],
                      ["ip", "link", "set", "dev", wire.dut.ifname, "down"])
            before = state(dut)
            with stacks.create("dpdk", point.params).deploy(StackContext(dut, point, stacks.source("dpdk"))) as running:
                has = dut.read(f"/sys/class/net/{wire.dut.ifname}/address").strip()
                assert (has == testbed.duts[0].ports[0].mac) == bool(mac), "the port's own MAC is lent only if needed"
                assert "net_e1000_igb_vf" in running.log_tail()
                frame, stop = flow_frame(point.directions[0], 64), threading.Event()
                load = threading.Thread(target=sender.send_until, args=(frame, stop, 2000.0))
                load.start()
                try:
                    with SshConnection.open(port) as connection:
                        answers = [connection.run(["hostname"]).stdout for _ in range(10)]
                finally:
                    stop.set()
                    load.join()
                totals = running.counters().totals
                print(totals)
            assert len(set(answers)) == 1
            assert totals["received"] == totals["sent"] > 0
            assert changes(before, state(dut)) == []
    finally:
        in_netns(namespace, lambda: run_tool(["ip", "address", "del", *address[3:]]))


def test_the_journal_on_disk_takes_the_function_away_when_the_agent_was_killed(testbed: Testbed, tmp_path: Path,
                                                                                 ) -> None:
    dut = connect(testbed)
    before, point = state(dut), point_of(testbed, tmp_path)
    deployment = stacks.create("dpdk", point.params).deploy(StackContext(dut, point, stacks.source("dpdk")))
    deployment.__enter__()
    numbers = f"/sys/bus/pci/devices/{point.wires[0].dut.pci}/sriov_numvfs"
    assert dut.read(numbers).strip() == "1"
    with pytest.raises(HarnessError):
        dut.run(["kill", "-9", str(dut.agent["pid"])])
    dut.abandon()
    dut.connection.close()
    with connect(testbed) as again:
        assert again.left_over[1] == []
        assert again.read(numbers).strip() == "0"
        assert changes(before, state(again)) == []
    with pytest.raises(HarnessError):
        deployment.__exit__(None, None, None)
