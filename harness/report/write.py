# SPDX-License-Identifier: Apache-2.0
"""The report's one entry point: run directories to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.report.identity import slug
from harness.store import write_atomically, write_named

MAX_RUNS = 20


def write_report(run_dirs: Sequence[Path], output: Path | None = None, *, references: bool = False) -> Path:
    """Write one HTML file about these runs and return its path. ``references``: published figures are drawn too.

    Without ``output`` it is ``reports/<run-id>.html`` under the current directory (a complete run's own directory is
    never written to). Raises UsageError for a directory that is no run, was written by another version, or is damaged,
    and when the file cannot be written.
    """
    if not run_dirs:
        raise UsageError("no run to report; name one, or see `harness results list`")
    if len(run_dirs) > MAX_RUNS:
        raise UsageError(f"{len(run_dirs)} runs; a report holds at most {MAX_RUNS}")
    places = [path.resolve() for path in run_dirs]
    twice = next((path for path in places if places.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice.name} is named twice; name each run once")
    # matplotlib and Jinja2 are heavy and needed only here.
    from harness.report.charts.published import published_points
    from harness.report.page import render
    from harness.rundata import load_run

    runs = [load_run(path) for path in run_dirs]
    target = output if output is not None else default_output(run_dirs)
    text = render(runs, published_points() if references else (), target.parent)
    write_named(target, lambda: write_atomically(target, text))
    return target


def default_output(run_dirs: Sequence[Path]) -> Path:
    """``reports/<run-id>.html``, with the number of further runs in the name when there are several."""
    name = slug(run_dirs[0].resolve().name)
    more = f"-and-{len(run_dirs) - 1}-more" if len(run_dirs) > 1 else ""
    return Path.cwd() / "reports" / f"{name}{more}.html"
