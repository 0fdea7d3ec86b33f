# SPDX-License-Identifier: Apache-2.0
"""A block that leaves a DUT as it found it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.host.contract import Dut


@contextmanager
def undone(dut: Dut) -> Iterator[None]:
    """Undo on exit every change made to the DUT inside the block, whether it ended well or not."""
    mark = dut.undo_mark()
    try:
        yield
    finally:
        dut.undo_to(mark)
