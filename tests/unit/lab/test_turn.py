# SPDX-License-Identifier: Apache-2.0
"""Runs take turns, also when the one before is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.lab.turn import turn

HOLD = r"""
import sys
from harness.lab.turn import turn
with turn(print, "\0" + sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_run_waits_for_the_first_and_says_for_whom(killed: bool) -> None:
    name = f"netstack-harness/test/{os.getpid()}"
    said, order, told = list[str](), list[str](), threading.Event()

    def waiting(text: str) -> None:
        said.append(text)
        told.set()

    def second() -> None:
        with turn(waiting, "\0" + name):
            order.append("second")

    with subprocess.Popen([sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parents[3]) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10)
        order.append("first ends")
        if killed:
            first.kill()
        first.communicate()
        thread.join(10)
    assert order == ["first ends", "second"]
    assert f"(process {first.pid})" in said[0]
