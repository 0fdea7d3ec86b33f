# SPDX-License-Identifier: Apache-2.0
"""``harness compare``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.common import FILE, json_option, print_json, results_option, write_file


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="BASE RUN...")
@click.option("--across", is_flag=True, help="Compare runs of unlike environments too, and say how they differ.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")
@click.option("--html", type=FILE, metavar="FILE", help="Write a self-contained page too.")
@results_option
@json_option
def compare(runs: tuple[str, ...], across: bool, as_markdown: bool, html: Path | None, results: Path,
            as_json: bool) -> int:
    """Compare RUNs with BASE, point by point: difference, 95 % interval, what could have been seen, verdicts.

    Points are the same when stack, parameters, tuning, role, frame, cores and traffic are. Runs whose environments
    differ (machine, kernel, settings ...) are refused; see --across.
    """
    from harness.analysis.compare import compare as compared
    from harness.errors import UsageError
    from harness.report import comparison
    from harness.rundata import load_run
    from harness.store import Store

    if as_markdown and as_json:
        raise UsageError("--markdown and --json: one of them, please")
    store = Store(results)
    found = compared([load_run(store.open(name).path) for name in runs], across=across)
    if html is not None:
        write_file(html, comparison.page(found))
    if as_json:
        print_json(comparison.data(found))
    elif as_markdown:
        click.echo(comparison.markdown(found), nl=False)
    else:
        click.echo(comparison.text(found))
    return 0
