# SPDX-License-Identifier: Apache-2.0
"""Children of this process and their end."""

from __future__ import annotations

import signal
import subprocess

import pytest

from harness.host.child import spawn_here, stop


@pytest.mark.parametrize(("deaf", "end"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_a_child_that_does_not_heed_term_is_killed(deaf: bool, end: signal.Signals) -> None:
    prepare = "trap '' TERM; " if deaf else ""
    child = spawn_here(["sh", "-c", f"{prepare}echo here; exec sleep 60"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    stop(child, 0.05 if deaf else 10.0)
    assert child.returncode == -end
    assert child.stdout.closed
    stop(child, 10.0)  # of one that has ended: nothing
    assert child.returncode == -end
