# SPDX-License-Identifier: Apache-2.0
"""setup.sh leaves no service masked, whatever apt-get does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "setup.sh"


@pytest.mark.parametrize("apt_status", [0, 100])
def test_ssh_is_unmasked_also_when_apt_fails(tmp_path: Path, apt_status: int) -> None:
    stubs, log = tmp_path / "bin", tmp_path / "log"
    stubs.mkdir()
    for name, then in (("apt-get", f"exit {apt_status}"), ("systemctl", "exit 0")):
        (stubs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n{then}\n')
        (stubs / name).chmod(0o755)
    # This machine has sshd: ask for a program that no machine has, from the same package. Nothing else is needed.
    text = SETUP.read_text(encoding="utf-8").replace('"sshd:openssh-server"', '"no-such-sshd:openssh-server"')
    script = tmp_path / "setup.sh"
    script.write_text(text.partition('if [ ! -x "$venv/bin/python" ]; then\n  python=')[0], encoding="utf-8")
    done = subprocess.run(["bash", str(script), str(tmp_path / "venv"), "demo"], check=False, capture_output=True,
                          env={**os.environ, "PATH": f"{stubs}:{os.environ['PATH']}", "SUDO": "env",
                               "SYSTEMD": str(tmp_path), "PYTHON": "python3"})
    assert (done.returncode == 0) == (apt_status == 0), done.stderr
    calls = [line for line in log.read_text().splitlines() if line.startswith("systemctl")]
    assert calls[0] == "systemctl mask --quiet ssh.service ssh.socket"
    assert calls[1] == "systemctl unmask --quiet ssh.service ssh.socket"
    assert len(calls) == (3 if apt_status == 0 else 2)
