# SPDX-License-Identifier: Apache-2.0
"""The workflow example does what it says: its steps are run as a runner would, with what its own scenario gates; only
the measuring is prepared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from harness.records import RunInfo
from harness.scenario import load_scenario
from tests.unit.analysis.runs import POINTS, make

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


def shipped() -> dict[str, Any]:
    """The scenario that the workflow measures, as far as a prepared run has to be like it."""
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["gate"]
    spec = load_scenario(ROOT / job["env"]["SCENARIO"]).spec
    assert spec.measure.throughput is not None
    assert [str(goal) for goal in spec.measure.throughput.goals] == ["pdr"]  # what the runs below have
    gate = spec.model_dump(mode="json")["gate"]
    assert gate
    return {"gate": gate, "repeats": spec.repeat, "goal": "pdr", "models": (POINTS[1], POINTS[2]), "noise": 0.02}


def test_a_regression_fails_the_job_and_is_not_kept(tmp_path: Path) -> None:
    """The first run is kept, an unchanged second one passes and is kept too, a third one 20 % slower is neither."""
    runner, like = Runner(tmp_path), shipped()
    good, same, bad = (make(tmp_path, f"2025112{day}-200000-simulated", factor=factor,
                            started=f"2025-11-2{day}T20:00:00Z", **like)
                       for day, factor in ((2, 1.0), (3, 1.0), (4, 0.8)))
    first, failed = runner.push("first", good, leave_out="Report")  # drawing takes seconds, once is enough
    assert failed == []
    assert "nothing to compare with" in (first / "summary.md").read_text()
    assert [path.name for path in (tmp_path / "history").iterdir()] == [good.name]

    second, failed = runner.push("second", same, leave_out="Report")
    assert failed == []
    assert (second / "summary.md").read_text().startswith("### gate: pass (2 pass)")
    kept = sorted(path.name for path in (tmp_path / "history").iterdir())
    assert kept == [good.name, same.name]

    third, failed = runner.push("third", bad)
    assert failed == ["Gate against the last five runs of main"]
    assert (third / "summary.md").read_text().startswith("### gate: FAIL (2 FAIL)")
    assert (third / "report.html").stat().st_size > 10_000
    suite = ElementTree.parse(third / "gate.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), len(suite.findall("testcase/failure"))) == ("2", "2", 2)
    assert sorted(path.name for path in (tmp_path / "history").iterdir()) == kept


def test_a_changed_testbed_fails_until_a_new_baseline_is_asked_for(tmp_path: Path) -> None:
    def new_kernel(info: RunInfo) -> None:
        info.hosts["dut"]["kernel"]["release"] = "6.19.0-simulated"

    runner, like = Runner(tmp_path), shipped()
    old = make(tmp_path, "20251122-200000-simulated", **like)
    new = make(tmp_path, "20251123-200000-simulated", started="2025-11-23T20:00:00Z", info=new_kernel, **like)
    assert runner.push("first", old, leave_out="Report")[1] == []
    refused, failed = runner.push("second", new, leave_out="Report")
    assert failed == ["Gate against the last five runs of main"]
    assert "No answer" in (refused / "summary.md").read_text()
    runner.job["env"]["NEW_BASELINE"] = "true"
    assert runner.push("third", new, leave_out="Report")[1] == []
    assert sorted(path.name for path in (tmp_path / "history").iterdir()) == [old.name, new.name, "baseline-from"]


def test_a_change_that_is_meant_is_accepted_by_a_new_baseline(tmp_path: Path) -> None:
    """A run 20 % slower than three before: as new baseline it is kept, and the next like it passes against it alone."""
    runner, like = Runner(tmp_path), shipped()
    old = [make(tmp_path / "history", f"2025112{day}-200000-simulated", started=f"2025-11-2{day}T20:00:00Z", **like)
           for day in (1, 2, 3)]
    slower, next_one = (make(tmp_path, f"2025112{day}-200000-simulated", factor=0.8,
                             started=f"2025-11-2{day}T20:00:00Z", **like) for day in (4, 5))
    assert runner.push("first", slower, leave_out="Report")[1] == ["Gate against the last five runs of main"]
    runner.job["env"]["NEW_BASELINE"] = "true"
    assert runner.push("accepted", slower, leave_out="Report")[1] == []
    assert (tmp_path / "history/baseline-from").read_text() == f"{slower.name}\n"
    runner.job["env"]["NEW_BASELINE"] = "false"
    work, failed = runner.push("next", next_one, leave_out="Report")
    assert failed == []
    summary = (work / "summary.md").read_text()
    assert summary.startswith("### gate: pass (2 pass)")
    assert f"{len(old)} older left out" in summary


def test_the_example_names_no_machine() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"]["gate"]["runs-on"] == ["self-hosted", "network-testbed"]
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["grep", "-qE", r"://|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|/home/|/root/", str(WORKFLOW)], check=True)
