# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as DUT, one for all tests that only use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.lab.vm import VmLab


@pytest.fixture(scope="session")
def vm() -> Iterator[VmLab]:
    """A virtual machine as DUT; the first time its disk is built, which takes minutes."""
    with VmLab.up(pause_s=0.2) as made:
        yield made
