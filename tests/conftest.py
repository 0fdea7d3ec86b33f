# SPDX-License-Identifier: Apache-2.0
"""Tests that need a TRex installation are deselected where ``TREX_DIR`` does not name one."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect (not skip) tests marked ``trex`` without ``TREX_DIR``."""
    if os.environ.get("TREX_DIR"):
        return
    needing = [item for item in items if item.get_closest_marker("trex")]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
