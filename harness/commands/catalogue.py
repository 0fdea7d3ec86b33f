# SPDX-License-Identifier: Apache-2.0
"""``harness stacks`` and ``harness scenarios``: what can be compared, what can be measured."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.common import FILE, json_option, print_json, say
from harness.errors import HarnessError


@click.group("stacks")
def stacks_group() -> None:
    """The stacks that can be compared."""


@stacks_group.command("list")
@json_option
def stacks_list(as_json: bool) -> int:
    """List all stacks with their roles."""
    from harness import listing

    if as_json:
        print_json(listing.stacks_data())
    else:
        click.echo(listing.stacks_text())
    return 0


@stacks_group.command("show")
@click.argument("name")
@json_option
def stacks_show(name: str, as_json: bool) -> int:
    """Show one stack: what it does in each role, its parameters."""
    from harness import listing

    if as_json:
        print_json(listing.stack_data(name))
    else:
        click.echo(listing.stack_text(name))
    return 0


@click.group()
def scenarios() -> None:
    """Scenario files: what is measured."""


@scenarios.command("list")
@json_option
def scenarios_list(as_json: bool) -> int:
    """List the scenarios that come with the harness."""
    from harness import listing

    if as_json:
        print_json(listing.scenarios_data())
    else:
        click.echo(listing.scenarios_text())
    return 0


@scenarios.command("check")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option("--testbed", metavar="FILE", help="Check against this testbed, or `lab`.")
@json_option
def scenarios_check(files: tuple[Path, ...], testbed: str | None, as_json: bool) -> int:
    """Check scenario FILEs, their stacks and their testbed. Contacts no machine, changes nothing."""
    from harness.options import RunOptions
    from harness.prepare import prepare

    checked, problems = [], []
    for file in files:
        try:
            plan = prepare(RunOptions(file, testbed, seed=0)).plan
        except HarnessError as error:
            problems.append(error)
            checked.append({"file": str(file), "ok": False, "problem": str(error)})
        else:
            checked.append({"file": str(file), "ok": True, "points": len(plan.points), "trials": plan.expected_trials,
                            "seconds": plan.expected_s})
    if as_json:
        print_json(checked)
    for entry in checked if not as_json else ():
        if entry["ok"]:
            click.echo(f"{entry['file']}: ok, {entry['points']} points, about {entry['trials']} trials")
    for problem in problems:
        say(f"harness: {problem}")
    return max((problem.exit_code for problem in problems), default=0)


@scenarios.command("schema")
@click.option("--testbed", is_flag=True, help="The schema of testbed files instead.")
def scenarios_schema(testbed: bool) -> int:
    """Print the JSON Schema of scenario files, for editors."""
    if testbed:
        from harness.testbed import json_schema
    else:
        from harness.scenario import json_schema
    print_json(json_schema())
    return 0
