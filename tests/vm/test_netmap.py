# SPDX-License-Identifier: Apache-2.0
"""netmap for real, on a host that has its module: ``HARNESS_NETMAP_HOST=testbed.yaml python -m pytest -m netmap``.

Deselected by default: the module is in no distribution. The last run's results are in tests/data/netmap-vm (they are
read by tests/unit/test_netmap_record.py). A virtual machine of ``harness lab up --dut vm`` will do as host.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harness import stacks
from harness.generator.frames import flow_frame
from harness.host.dut import SshDut
from harness.host.ssh import SshConnection, SshTarget
from harness.lab import in_netns
from harness.lab.wires import run_tool
from harness.plan import Plan, PointPlan
from harness.planning import build_plan
from harness.scenario import load_scenario
from harness.sites import target_of
from harness.stack import StackContext
from harness.testbed import Testbed, load_testbed
from tests.vm.measuring import SCENARIO, check_counts, measure
from tests.vm.raw import RawPort

pytestmark = [pytest.mark.netmap, pytest.mark.timeout(600)]

#: Parameters beyond the defaults, as YAML: {zero_copy: false} for netmap's vmxnet3, {adapter: any} without its driver.
EXTRA = os.environ.get("HARNESS_NETMAP_PARAMS", "")


@pytest.fixture(scope="module")
def testbed_file() -> Path:
    return Path(os.environ["HARNESS_NETMAP_HOST"])


def entry(bypass: str) -> str:
    return f"netmap: {{bypass: {bypass}, {EXTRA}}}" if EXTRA else f"netmap: {{bypass: {bypass}}}"


@pytest.mark.parametrize("role", ["drop", "forward", "reflect", "echo"])
def test_whole_and_partial_in_every_role(testbed_file: Path, tmp_path: Path, role: str) -> None:
    watching = measure(testbed_file, tmp_path, role, entry("whole"), entry("partial"))
    check_counts(watching, 2)
    for trial in watching.load_trials():
        own = trial.counters["stack"]
        if role == "drop":
            assert own["discarded"] == trial.received
        elif "useful" in own:
            assert own["received"] == own["sent"]
            assert trial.cpu is not None
            assert trial.cpu.useful_polls == own["useful"] > 0


def plan_of(testbed: Testbed, folder: Path, stack: str) -> Plan:
    scenario = folder / "plan.yaml"
    scenario.write_text(SCENARIO.format(role="echo", stacks=f"  - {stack}", traffic="", trial_s=2))
    return build_plan(load_scenario(scenario), testbed, seed=1)


def deployed(dut: SshDut, point: PointPlan) -> object:
    stack = stacks.create("netmap", point.params)
    assert stack.requirements(dut, point) == []
    return stack.deploy(StackContext(dut, point, stacks.source("netmap")))


def test_ssh_over_the_same_port_answers_under_load(testbed_file: Path, tmp_path: Path) -> None:
    """Partial bypass by host rings: the kernel's own connection lives on the very port that netmap has."""
    testbed = load_testbed(testbed_file)
    namespace = testbed.generator.netns
    assert namespace, "this test makes its frames by hand: it needs a virtual machine of `harness lab up --dut vm`"
    point = plan_of(testbed, tmp_path, entry("partial")).points[0]
    wire, ssh = point.wires[0], testbed.duts[0].ssh
    assert ssh is not None
    known = tmp_path / "known_hosts"
    key = Path(ssh.known_hosts).read_text(encoding="ascii").partition(" ")[2]
    known.write_text(f"{wire.dut.ip} {key}", encoding="ascii")
    address = ["ip", "address", "add", f"{wire.tg.ip}/24", "dev", wire.tg.ifname]
    in_netns(namespace, lambda: run_tool(address))
    try:
        with SshDut.connect("vm", target_of(ssh)) as dut, RawPort(namespace, wire.tg.ifname) as port:
            with deployed(dut, point) as running:  # type: ignore[attr-defined]
                frame, stop = flow_frame(point.directions[0], 64), threading.Event()
                load = threading.Thread(target=port.send_until, args=(frame, stop, 2000.0))
                load.start()
                try:
                    inside = SshTarget(wire.dut.ip, known, key_path=Path(ssh.key), netns=namespace)
                    with SshConnection.open(inside) as connection:
                        answers = [connection.run(["hostname"]).stdout for _ in range(10)]
                finally:
                    stop.set()
                    load.join()
                totals = running.counters().totals
        assert len(set(answers)) == 1
        assert totals["received"] == totals["sent"] > 0
        assert min(totals["up"], totals["down"]) > len(answers)
    finally:
        in_netns(namespace, lambda: run_tool(["ip", "address", "del", *address[3:]]))


def test_a_port_that_is_taken_is_refused_with_that_reason(testbed_file: Path, tmp_path: Path) -> None:
    testbed = load_testbed(testbed_file)
    point = plan_of(testbed, tmp_path, entry("whole")).points[0]
    ssh = testbed.duts[0].ssh
    assert ssh is not None
    with SshDut.connect("vm", target_of(ssh)) as dut, deployed(dut, point) as running:  # type: ignore[attr-defined]
        with pytest.raises(Exception, match=r"Device or resource busy.*Another program"):
            deployed(dut, point).__enter__()  # type: ignore[attr-defined]
        running.check_alive()
