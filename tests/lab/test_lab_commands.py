# SPDX-License-Identifier: Apache-2.0
"""`harness lab up|status|exec|down` as a user calls them: a lab of its own, and nothing left."""

from __future__ import annotations

import json
import os
import secrets
import string
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.lab


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", "from harness.cli import main; main()", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def lab() -> Iterator[str]:
    name = "c" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
    up = harness("lab", "up", "--name", name, "--json")
    assert up.returncode == 0, up.stderr
    assert json.loads(up.stdout)["state"] == "up"
    yield name
    harness("lab", "down", name)


def test_a_command_runs_inside_and_its_status_comes_back(lab: str) -> None:
    inside = harness("lab", "exec", lab, "dut", "--", "ip", "-br", "link")
    assert inside.returncode == 0
    assert f"h{lab}d0" in inside.stdout
    assert f"h{lab}t0" not in inside.stdout.split("@")[0]
    assert harness("lab", "exec", lab, "tg", "sh", "-c", "exit 7").returncode == 7
    assert harness("lab", "exec", lab, "tg", "--").returncode == 2


def test_down_leaves_nothing(lab: str) -> None:
    assert lab in [entry["name"] for entry in json.loads(harness("lab", "status", "--json").stdout)]
    down = harness("lab", "down", lab)
    assert (down.returncode, down.stdout) == (0, f"removed: {lab}\n")
    assert lab not in harness("lab", "status").stdout
    namespaces = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    assert not [name for name in namespaces if f"-{lab}-" in name]
    assert harness("lab", "exec", lab, "dut", "true").returncode == 2
    assert harness("lab", "down", lab).returncode == 2
