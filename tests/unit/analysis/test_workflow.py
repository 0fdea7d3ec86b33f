# SPDX-License-Identifier: Apache-2.0
"""The workflow example does what it says: its steps are run as a runner would, only the measuring is prepared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.unit.analysis.runs import make

ROOT = Path(__file__).parents[3]
WORKFLOW = ROOT / "docs/ci/benchmark-gate.yml"
#: `harness run` copies the run that the test prepared; everything else is the harness.
HARNESS = f"""#!/bin/sh
if [ "$1" = run ]; then mkdir -p "$RESULTS" && exec cp -r "$PREPARED" "$RESULTS"/; fi
exec {sys.executable} -m harness "$@"
"""


class Runner:
    """Runs the job's steps in a fresh folder; the history is kept from job to job."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.job: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["gate"]
        (home / "bin").mkdir()
        (home / "bin/harness").write_text(HARNESS, encoding="utf-8")
        (home / "bin/harness").chmod(0o755)

    def push(self, name: str, prepared: Path, *, leave_out: str = "") -> tuple[Path, list[str]]:
        """A push to main: folder of the job and the names of the steps that failed."""
        work = self.home / name
        work.mkdir()
        env = {**os.environ, **self.job["env"], "HISTORY": str(self.home / "history"), "PREPARED": str(prepared),
               "PYTHONPATH": str(ROOT), "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
               "GITHUB_STEP_SUMMARY": str(work / "summary.md")}
        failed: list[str] = []
        for step in self.job["steps"]:
            wanted = {None: not failed, "always()": True,
                      "github.ref == 'refs/heads/main'": not failed}[step.get("if")]
            if "run" in step and wanted and step["name"] != leave_out:
                done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=work, env=env, text=True,
                                      capture_output=True, check=False)
                print(done.stdout, done.stderr)
                failed += [step["name"]] if done.returncode else []
        return work, failed


def test_a_regression_fails_the_job_and_is_not_kept(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    good = make(tmp_path, "20251122-200000-simulated", noise=0.005)
    bad = make(tmp_path, "20251123-200000-simulated", noise=0.005, factor=0.92, started="2025-11-23T20:00:00Z")
    first, failed = runner.push("first", good, leave_out="Report")  # drawing takes seconds, once is enough
    assert failed == []
    assert "nothing to compare with" in (first / "summary.md").read_text()
    assert [path.name for path in (tmp_path / "history").iterdir()] == [good.name]

    second, failed = runner.push("second", bad)
    assert failed == ["Gate against the last five runs of main"]
    assert (second / "summary.md").read_text().startswith("### gate: FAIL (4 FAIL)")
    assert (second / "report.html").stat().st_size > 10_000
    suite = ElementTree.parse(second / "gate.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), len(suite.findall("testcase/failure"))) == ("4", "4", 4)
    assert [path.name for path in (tmp_path / "history").iterdir()] == [good.name]


def test_the_example_names_no_machine() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"]["gate"]["runs-on"] == ["self-hosted", "network-testbed"]
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["grep", "-qE", r"://|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|/home/|/root/", str(WORKFLOW)], check=True)
