# SPDX-License-Identifier: Apache-2.0
"""The wheel, built through the sdist: everything a user needs is in it, nothing that was built or measured here is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(TOP)],
                   check=True, capture_output=True, timeout=120)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_stacks_scenarios_templates_and_native_sources(names: list[str]) -> None:
    for folder in sorted(p for p in (TOP / "stacks").iterdir() if (p / "stack.py").exists()):
        assert f"harness/stacks/{folder.name}/stack.py" in names
        for source in (folder / "src").glob("*.[ch]"):
            assert f"harness/stacks/{folder.name}/src/{source.name}" in names
    for source in (TOP / "harness/native").iterdir():
        assert f"harness/native/{source.name}" in names, "what stacks' programs share"
    for wanted in ("harness/cli.py", "harness/host/agent.py", "harness/generator/agent.py", "harness/generator/stl.py",
                   "harness/resources/scenarios/quickstart.yaml", "harness/resources/scenarios/testbeds/example.yaml",
                   "harness/generator/xdpgen/native/xdpgen.bpf.c", "harness/generator/xdpgen/native/Makefile",
                   "harness/analysis/data/reference_points.csv", "harness/analysis/data/reference_points_transmit.csv",
                   "harness/resources/reports/templates/capacity.html.j2"):
        assert wanted in names
    assert any(n.startswith("harness/resources/reports/templates/") for n in names)
    assert any(n.startswith("harness/resources/reports/static/") for n in names)


def test_the_wheel_has_nothing_that_was_built_or_measured(names: list[str]) -> None:
    assert not [n for n in names if n.endswith((".o", ".pyc", ".so")) or "__pycache__" in n or "/results/" in n]
    assert len(names) == len(set(names))
