# SPDX-License-Identifier: Apache-2.0
"""What the lab tests of stacks share: a lab, its DUT, and a hand on the generator's end of each wire. Tests that need a
VPP are deselected where ``HARNESS_VPP_DIR`` does not name one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from harness import stacks
from harness.host.contract import Dut
from harness.host.dut import SshDut
from harness.lab.lab import Lab
from harness.plan import PointPlan
from harness.stacks.servers import NATIVE
from tests.wires import Wires, point_maker


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect (not skip) tests marked ``vpp`` without ``HARNESS_VPP_DIR``."""
    if os.environ.get("HARNESS_VPP_DIR"):
        return
    needing = [item for item in items if item.get_closest_marker("vpp")]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab.up(wires=2, pause_s=0.2) as made:
        yield made


@pytest.fixture(scope="session")
def dut(lab: Lab) -> Iterator[Dut]:
    """The lab's DUT as a run has it: over SSH, with its agent. What a test leaves behind fails at the end."""
    with SshDut.connect("dut", lab.ssh, home_cores=lab.tg_cores, virtual=True,
                        state_dir=str(lab.dut_state_dir)) as connected:
        yield connected


@pytest.fixture
def wires(lab: Lab) -> Iterator[Wires]:
    with closing(Wires(lab)) as opened:
        yield opened


@pytest.fixture
def receiving(lab: Lab, dut: Dut) -> Iterator[None]:
    """An XDP program that passes everything on the generator's ports: veth wakes them after XDP_TX only with one."""
    program = dut.program(stacks.source("xdp") / "src", "xdp_loader", beside=(NATIVE,))
    process = lab.spawn("tg", [program, "native", *(f"{name},pass" for name in lab.ifnames("tg"))], name="tg-pass",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == b"ready\n"
        yield
    assert process.wait(10) == 0


@pytest.fixture
def make_point(lab: Lab) -> Callable[..., PointPlan]:
    """A point of one stack in the lab: ``make_point("linux-udp", Role.ECHO, {"reuseport": True})``."""
    return point_maker(lab.wires, lab.dut_cores)
