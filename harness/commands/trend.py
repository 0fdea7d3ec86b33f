# SPDX-License-Identifier: Apache-2.0
"""``harness trend``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.charts import chart_files
from harness.commands.common import FILE, json_option, one_line, print_json, results_option, say, write_file
from harness.errors import UsageError


@click.command()
@click.argument("scenario", required=False, metavar="[SCENARIO]")
@results_option
@click.option("--metric", "names", multiple=True, metavar="NAME",
              help="ndr, pdr, mrr, or like latency.p99@50%, cores@200k; may be repeated.  [default: ndr, pdr, mrr]")
@click.option("--across", is_flag=True, help="One series over all runs, also those that are not comparable.")
@click.option("--html", type=FILE, metavar="FILE", help="Write a page with a chart a metric.")
@click.option("--charts", type=FILE, metavar="DIR", help="Write the charts, and their numbers as CSV, into DIR.")
@chart_files
@json_option
def trend(scenario: str | None, results: Path, names: tuple[str, ...], across: bool, html: Path | None,
          charts: Path | None, formats: tuple[str, ...], themes: tuple[str, ...], sizes: tuple[str, ...],
          as_json: bool) -> int:
    """Show the history of SCENARIO (its name or file) over all complete runs, and where its level changed.

    Runs whose circumstances differ are not comparable: each set of comparable runs is a series of its own, and where
    one ends and another begins, what differs is named. SCENARIO may be left out when all runs are of one.
    """
    from harness.analysis.metrics import Metric
    from harness.analysis.trend import scenarios
    from harness.analysis.trend import trend as history
    from harness.index import cache
    from harness.index.query import connected
    from harness.report.trendtext import trend_data, trend_text
    from harness.store import Store

    try:
        metrics = [Metric.parse(name) for name in dict.fromkeys(names or ("ndr", "pdr", "mrr"))]
    except ValueError as error:
        raise UsageError(f"--metric: {error}") from None
    with cache.opened(Store(results), say) as index:
        with connected(index) as connection, cache.memo(index) as memo:
            name = _chosen(scenario, scenarios(connection), results)
            found = history(connection, name, metrics, across=across, memo=memo)
    for run, why in found.left_out:
        click.echo(f"warning: {one_line(run)} is left out: {one_line(why)}", err=True)
    if not found.runs:
        raise UsageError(f"{one_line(name)}: no complete run in {results}; `harness results list` shows the others")
    if html is not None:
        from harness.report.trendpage import render_trend

        write_file(html, render_trend(found))
    if charts is not None:
        from harness.report.charts.files import write_charts
        from harness.report.trendpage import about, pictures

        for written in write_charts(pictures(found), about(found), charts, formats=formats, themes=themes, sizes=sizes):
            names_of = (file.name for file in (*written.files, *written.data))
            click.echo(f"{written.picture.name}: {', '.join(names_of)}", err=True)
    if as_json:
        print_json(trend_data(found))
    else:
        click.echo(trend_text(found))
    return 0


def _chosen(asked: str | None, known: list[str], results: Path) -> str:
    """The scenario's name; a file is taken for the scenario in it."""
    if asked is None:
        if len(known) == 1:
            return known[0]
        raise UsageError(f"{results}: runs of {len(known)} scenarios ({', '.join(map(one_line, known[:20]))}); name one"
                         if known else f"{results}: no run there can be read; see `harness results list`")
    if asked not in known and Path(asked).is_file():
        from harness.scenario import load_scenario

        asked = load_scenario(Path(asked)).spec.name
    if asked not in known:
        raise UsageError(f"{one_line(asked)}: no run of that scenario in {results}; there are runs of: "
                         f"{', '.join(map(one_line, known[:20])) or 'none that can be read'}")
    return asked
