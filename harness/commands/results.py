# SPDX-License-Identifier: Apache-2.0
"""``harness results``: runs and what they measured."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.common import FILE, json_option, one_line, print_json, results_option, say, write_file, write_with
from harness.errors import UsageError


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
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "openmetrics"]), default="csv",
              show_default=True, help="openmetrics: the metrics, for Prometheus.")
@click.option("--table", type=click.Choice(["trials", "points", "metrics"]), default=None,
              help="What a row is: a trial (the default), a point, or a metric of one repeat of a point.")
@click.option("-o", "--output", type=FILE, metavar="FILE",
              help="File to write; standard output when left out (not for parquet).")
@results_option
def results_export(names: tuple[str, ...], form: str, table: str | None, output: Path | None, results: Path) -> int:
    """Write what RUNs measured for other programs; columns and units are in docs/results.md."""
    from harness.index import export
    from harness.store import Store

    if form == "parquet" and output is None:
        raise UsageError("parquet is no text; name a file with -o FILE.parquet")
    if form == "openmetrics" and table not in (None, "metrics"):
        raise UsageError(f"openmetrics holds metrics, not {table}; leave --table out")
    readers = [Store(results).open(name) for name in names]
    for reader in readers:
        for problem in reader.problems():
            say(f"warning: {reader.info.run_id}: {problem}")
    if output is not None and form == "parquet":
        write_with(output, lambda: export.write_parquet(readers, table or "trials", output))
        return 0
    text = export.openmetrics_text(readers) if form == "openmetrics" else export.csv_text(readers, table or "trials")
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text)
    return 0


@results_group.command("sql")
@click.argument("query", metavar="QUERY")
@results_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def results_sql(query: str, results: Path, as_csv: bool, as_json: bool) -> int:
    """Answer a SELECT over all runs: tables runs, points, trials and metrics (DuckDB's SQL).

    \b
    harness results sql "SELECT run, point, median(value) FROM metrics WHERE metric = 'ndr' GROUP BY ALL"

    The first call indexes the runs (into .index beside them). Nothing but these tables can be read, nothing written.
    """
    from harness.index import cache
    from harness.index import query as queries
    from harness.index.show import csv_answer, json_answer, text_answer
    from harness.store import Store

    if as_csv and as_json:
        raise UsageError("--csv and --json: one of them")
    with cache.opened(Store(results), say) as index:
        answer = queries.ask(index, query)
        unreadable = queries.ask(index, "SELECT run, problem FROM runs WHERE state = 'unreadable' ORDER BY run").rows
    for run, problem in unreadable:
        click.echo(f"warning: {one_line(run)} is left out: {one_line(problem)}", err=True)
    if as_json:
        print_json(json_answer(answer))
    else:
        click.echo(csv_answer(answer) if as_csv else text_answer(answer), nl=not as_csv)
    return 0
