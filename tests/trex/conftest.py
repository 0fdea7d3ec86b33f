# SPDX-License-Identifier: Apache-2.0
"""A real TRex's testbed on this machine: two namespaces as two hosts, each behind a real SSH server of its own.

Tests marked ``trex`` are deselected (not skipped) where ``TREX_DIR`` names no installation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rackhosts import rack
from tests.trex.testbeds import TrexRack


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked ``trex`` without an installation."""
    if os.environ.get("TREX_DIR"):
        return
    needing = [item for item in items if item.get_closest_marker("trex")]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


@pytest.fixture(scope="module")
def hosts() -> Iterator[TrexRack]:
    """A DUT and a generator, two cables."""
    with rack(["sut"]) as made:
        yield TrexRack.of(made)


@pytest.fixture
def testbed(hosts: TrexRack, tmp_path: Path) -> Callable[..., Path]:
    """Writes a testbed file: ``testbed(start="never")`` changes keys of generator.trex."""
    return lambda **changes: hosts.write(tmp_path / "testbed.yaml", **changes)
