# SPDX-License-Identifier: Apache-2.0
"""A Python that can import a module, looked for on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import HostError, TestbedError
from harness.generator.side import OverSsh, ThisMachine
from harness.host import interpreter
from harness.host.child import spawn_here
from harness.host.interpreter import that_imports

HERE = ThisMachine(spawn_here, list)


def test_the_first_that_imports_the_module_is_taken_and_the_others_say_why_not(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interpreter, "PYTHONS", ("python-that-is-not-there", sys.executable))
    (tmp_path / "wanted_here.py").write_text("print('noise')\n", encoding="utf-8")
    found = that_imports(HERE, "wanted_here", str(tmp_path), lacking="none", remedy="do")
    assert (found.name, found.version) == (sys.executable, f"{sys.version_info.major}.{sys.version_info.minor}")
    with pytest.raises(TestbedError, match=r"^no client \(Python 3\.\d+: ModuleNotFoundError.*wanted_here'\)\. Get it"):
        that_imports(HERE, "wanted_here", lacking="no client", remedy="Get it")
    monkeypatch.setattr(interpreter, "PYTHONS", ("python-that-is-not-there",))
    with pytest.raises(TestbedError, match=r"\(none is installed\)"):
        that_imports(HERE, "json", lacking="no", remedy="do")


def test_a_generators_host_without_pyzmq_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    side = OverSsh(HERE)  # type: ignore[arg-type]  # all that it asks of a connection here is to run a command
    monkeypatch.setattr(interpreter, "PYTHONS", (sys.executable,))
    assert side.python_for_client() == sys.executable
    monkeypatch.setattr(interpreter, "PYTHONS", ("python-that-is-not-there",))
    with pytest.raises(TestbedError, match=r"has the pyzmq .*\(none is installed\)\. Install .* python3-zmq"):
        side.python_for_client()


def test_a_command_here_that_fails_or_takes_too_long_is_named() -> None:
    assert HERE.run(["sh", "-c", "exit 3"], check=False).returncode == 3
    with pytest.raises(HostError, match="sh on this machine ended with status 3: why"):
        HERE.run(["sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(HostError, match=r"sleep on this machine was not done within 0\.05 s"):
        HERE.run(["sleep", "60"], timeout_s=0.05)
