# SPDX-License-Identifier: Apache-2.0
"""``harness report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.commands.common import FILE, json_option, print_json, results_option


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="File to write; reports/RUN.html when left out.")
@click.option("--references", is_flag=True,
              help="Draw published figures of the same role, frame size and cores too, hollow, with their source.")
@results_option
@json_option
def report(runs: tuple[str, ...], output: Path | None, references: bool, results: Path, as_json: bool) -> int:
    """Write one HTML page about one or several RUNs.

    A run is named by its directory, its id, the beginning of its id, or `latest`.
    """
    from harness.store import Store

    store = Store(results)
    directories = [store.open(name).path for name in runs]
    if not as_json:
        write(directories, output, references=references)
        return 0
    from harness.report import write_report

    print_json({"report": str(write_report(directories, output, references=references))})
    return 0


def write(directories: Sequence[Path], output: Path | None, *, references: bool = False,
          to_stderr: bool = False) -> None:
    """Write the report of these runs and say where it is."""
    from harness.report import write_report

    click.echo(f"report: {write_report(directories, output, references=references)}", err=to_stderr)
