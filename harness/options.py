# SPDX-License-Identifier: Apache-2.0
"""What the user asked `harness run` to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """One run. ``testbed``: ``lab``, a file, or None for what the scenario says; ``only``: stacks (or points) to keep;
    ``repeat`` and ``seed`` None: the scenario's, a fresh one; ``command``: the command line, for the record.

    ``resume``: the run to go on with, by any of its names; ``scenario`` is then ignored.
    ``scenario_text``, ``testbed_text``: the files as they were when a run began that is now gone on with (they are not
    read again)."""

    scenario: Path
    testbed: str | None = None
    only: tuple[str, ...] = ()
    repeat: int | None = None
    results: Path = field(default_factory=lambda: Path("results"))
    seed: int | None = None
    command: tuple[str, ...] = ()
    resume: str | None = None
    scenario_text: str | None = None
    testbed_text: str | None = None
