# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up while a run is made: the run ends in words, is marked, and keeps what was measured."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import ResultsError
from harness.records import Phase, RunInfo, Trial
from harness.store import RunWriter, Store

pytestmark = pytest.mark.lab


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(writer: RunWriter, written: list[int]) -> None:
    """Add trials until the disk refuses one; ``written`` gets the numbers of those that were kept."""
    for number in itertools.count(1):
        writer.add_trial(Trial(number=number, point="p", repeat=0, phase=Phase.SEARCH, started_at="", asked_pps=1,
                               duration_s=1, real_s=1, reason="x" * 60_000))
        written.append(number)


def test_a_full_disk_ends_the_run_and_keeps_its_trials(small_disk: Path) -> None:
    info = RunInfo(run_id="r1", harness_version="0", started_at="", command=[], scenario_text="", scenario={},
                   plan={}, seed=1)
    written: list[int] = []
    with Store(small_disk).create(info) as writer:
        with pytest.raises(ResultsError, match="No space left on device; the run ends here"):
            fill(writer, written)
        writer.info.notes.append("the disk was full")
        writer.finish("failed", 4)
    run = Store(small_disk).open("r1")
    assert (run.info.state, run.info.notes) == ("failed", ["the disk was full"])
    assert [trial.number for trial in run.trials()] == written
    assert len(written) > 10
