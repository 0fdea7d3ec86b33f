# SPDX-License-Identifier: Apache-2.0
"""On a host without netmap's module: said at once, exactly, with its remedy. (The roles: tests/vm/test_netmap.py.)"""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest

from harness import stacks
from harness.host.contract import Dut
from harness.plan import PointPlan, Role

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("params", [{}, {"bypass": "partial", "adapter": "any"}])
def test_the_missing_module_is_named_with_the_kernel_it_has_to_fit(
        dut: Dut, make_point: Callable[..., PointPlan], params: dict[str, str]) -> None:
    point = make_point("netmap", Role.DROP, params)
    (missing,) = stacks.create("netmap", params).requirements(dut, point)
    assert missing.what == f"netmap's kernel module for kernel {platform.release()}"
    assert "modprobe netmap" in missing.remedy
