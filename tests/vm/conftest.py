# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as DUT, one for all tests that only use it, and what deployed stacks are tested with there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from harness.host.contract import Dut
from harness.host.dut import SshDut
from harness.lab.vm import VmLab
from harness.plan import PointPlan
from tests.wires import Wires, point_maker


@pytest.fixture(scope="session")
def vm() -> Iterator[VmLab]:
    """A virtual machine as DUT; the first time its disk is built, which takes minutes."""
    with VmLab.up(pause_s=0.2) as made:
        yield made


@pytest.fixture(scope="module")
def dut(vm: VmLab) -> Iterator[Dut]:
    """The guest as a run has it: over SSH, with its agent. What a test leaves behind fails at the end."""
    with SshDut.connect("vm", vm.ssh, home_cores=[0]) as connected:
        yield connected


@pytest.fixture
def wires(vm: VmLab) -> Iterator[Wires]:
    with closing(Wires(vm)) as opened:
        yield opened


@pytest.fixture
def make_point(vm: VmLab) -> Callable[..., PointPlan]:
    """A point of one stack on the guest's second vCPU: ``make_point("linux-udp", Role.ECHO, {"reuseport": True})``."""
    return point_maker(vm.wires, [1])
