# SPDX-License-Identifier: Apache-2.0
"""A real TRex's testbed on this machine: two namespaces as two hosts, each behind a real SSH server of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rackhosts import rack
from tests.trex.testbeds import TrexRack


@pytest.fixture(scope="module")
def hosts() -> Iterator[TrexRack]:
    """A DUT and a generator, two cables."""
    with rack(["sut"]) as made:
        yield TrexRack.of(made)


@pytest.fixture
def testbed(hosts: TrexRack, tmp_path: Path) -> Callable[..., Path]:
    """Writes a testbed file: ``testbed(start="never")`` changes keys of generator.trex."""
    return lambda **changes: hosts.write(tmp_path / "testbed.yaml", **changes)
