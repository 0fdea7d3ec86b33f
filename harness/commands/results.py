# SPDX-License-Identifier: Apache-2.0
"""``harness results``: runs and what they measured."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.common import FILE, json_option, print_json, results_option, write_file


@click.group("results")
def results_group() -> None:
    """Runs and what they measured."""


@results_group.command("list")
@results_option
@json_option
def results_list(results: Path, as_json: bool) -> int:
    """List all runs, oldest first."""
    from harness import listing
    from harness.store import Store

    if as_json:
        print_json(listing.results_data(Store(results)))
    else:
        click.echo(listing.results_text(Store(results)))
    return 0


@results_group.command("show")
@click.argument("name", metavar="RUN")
@results_option
@json_option
def results_show(name: str, results: Path, as_json: bool) -> int:
    """Show what RUN measured, a line a point. RUN is an id, the beginning of one, a directory, or `latest`."""
    from harness import listing
    from harness.store import Store

    reader = Store(results).open(name)
    if as_json:
        print_json(listing.result_data(reader))
    else:
        click.echo(listing.result_text(reader))
    return 0


@results_group.command("export")
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="File to write; standard output when left out.")
@results_option
def results_export(names: tuple[str, ...], output: Path | None, results: Path) -> int:
    """Write every trial of RUNs as CSV, rates in frames per second per direction."""
    from harness.analysis.table import trials_table
    from harness.store import Store

    store = Store(results)
    readers = [store.open(name) for name in names]
    for reader in readers:
        for problem in reader.problems():
            click.echo(f"warning: {reader.info.run_id}: {problem}", err=True)
    text = trials_table(readers).to_csv(index=False, lineterminator="\n")
    if output is None:
        click.echo(text, nl=False)
        return 0
    write_file(output, text)
    return 0
