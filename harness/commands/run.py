# SPDX-License-Identifier: Apache-2.0
"""``harness run``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.commands.common import FILE, interrupt_on_termination, json_option, print_json, results_option
from harness.commands.report import write


@click.command()
@click.argument("scenario", type=FILE, required=False)
@click.option("--testbed", metavar="FILE", help="Testbed file, or `lab`; what the scenario says when left out.")
@click.option("--only", multiple=True, metavar="NAME",
              help="Measure this stack (or point), or on this host of the testbed, only; may be repeated.")
@click.option("--repeat", type=click.IntRange(1, 1000), metavar="N", help="Rounds, instead of the scenario's.")
@results_option
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Seed of the order, to repeat that of another run.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was interrupted, failed or killed; SCENARIO, "
              "testbed, order and rounds are then the run's own.")
@click.option("--report", "with_report", is_flag=True, help="Write the report too.")
@click.option("--dry-run", is_flag=True, help="Print the plan, the number of trials and the time; touch nothing.")
@click.option("-q", "--quiet", is_flag=True, help="One line a point.")
@json_option
def run(scenario: Path | None, testbed: str | None, only: tuple[str, ...], repeat: int | None, results: Path,
        seed: int | None, resume: str | None, with_report: bool, dry_run: bool, quiet: bool, as_json: bool) -> int:
    """Measure what SCENARIO says, on its testbed; or --resume a run that ended before its last point.

    On the lab this needs root. Everything changed is undone at the end, also after Ctrl-C; what was measured is kept.
    With --json every step is one JSON object a line.
    """
    from harness.options import RunOptions

    file = _asked_once(scenario, testbed, only, repeat, seed, dry_run, resume=resume)
    options = RunOptions(file, testbed, only, repeat, results, seed, tuple(sys.argv), resume=resume)
    if dry_run:
        return _dry_run(options, as_json)
    from harness import runner
    from harness.progress import make_progress

    interrupt_on_termination()
    progress = make_progress(as_json=as_json, out=sys.stdout, err=sys.stderr, quiet=quiet)
    try:
        with progress:
            code = runner.run(options, progress)
    except BaseException:
        if progress.run_dir is not None:
            click.echo(f"what was measured is kept; `harness report {progress.run_dir}` shows it, "
                       f"`harness run --resume {progress.run_dir}` goes on with it", err=True)
        raise
    if progress.run_dir is not None:
        click.echo(f"results: {progress.run_dir}", err=as_json)
        if with_report:
            write([progress.run_dir], None, to_stderr=as_json)
    return code


def _asked_once(scenario: Path | None, *choices: object, resume: str | None) -> Path:
    """The scenario to run. Raises UsageError when it is left out, or a resumed run is told what it already knows."""
    if resume is None:
        if scenario is None:
            raise click.UsageError("name a SCENARIO; see `harness scenarios list`")
        return _a_file(scenario)
    if scenario is not None or any(choices):
        raise click.UsageError("--resume goes on as the run began: leave out SCENARIO, --testbed, --only, --repeat, "
                               "--seed and --dry-run")
    return Path()


def _a_file(scenario: Path) -> Path:
    """The scenario's file. Raises UsageError for the bare name of one that comes with the harness."""
    from harness.errors import UsageError
    from harness.resources import resource

    shipped = resource("scenarios") / f"{scenario.name}.yaml"
    if scenario.exists() or scenario.name != str(scenario) or not shipped.is_file():
        return scenario
    here = shipped.relative_to(Path.cwd()) if shipped.is_relative_to(Path.cwd()) else shipped
    raise UsageError(f"{scenario}: no such file; the scenario of that name that comes with the harness is {here}")


def _dry_run(options: Any, as_json: bool) -> int:
    import dataclasses

    from harness.planview import render_plan
    from harness.prepare import prepare

    plan = prepare(options).plan
    if as_json:
        print_json(dataclasses.asdict(plan))
    else:
        click.echo(render_plan(plan))
    return 0
