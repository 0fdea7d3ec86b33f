# SPDX-License-Identifier: Apache-2.0
"""``harness gate``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.common import FILE, json_option, print_json, results_option, write_file


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--baseline", required=True, metavar="RUN|DIR",
              help="A run, or a directory of runs: the newest comparable complete run of the scenario in it, none "
              "older than the one that a file baseline-from there names.")
@click.option("--last", type=click.IntRange(1, 100), default=1, show_default=True, metavar="N",
              help="With a directory: the mean of its last N comparable runs. From three on, how far they differ from "
              "each other counts as noise.")
@click.option("--threshold", "given", multiple=True, metavar="METRIC=CHANGE",
              help="Instead of the scenario's, or beside them: ndr=-3%, latency.p99@50%=+10%, loss@200k=+0.1%. May be "
              "repeated.")
@click.option("--strict", is_flag=True, help="Exit with 5 when a figure cannot be told.")
@click.option("--across", is_flag=True, help="Gate against an unlike environment too, and say how it differs.")
@click.option("--only-common", is_flag=True, help="Leave out points of the baseline that RUN does not have, which "
              "otherwise cannot be told.")
@click.option("--junit", type=FILE, metavar="FILE", help="Write JUnit XML too.")
@click.option("--markdown", "markdown_file", type=FILE, metavar="FILE", help="Write Markdown too, for a job summary.")
@results_option
@json_option
def gate(run: str, baseline: str, last: int, given: tuple[str, ...], strict: bool, across: bool, only_common: bool,
         junit: Path | None, markdown_file: Path | None, results: Path, as_json: bool) -> int:
    """Fail when RUN is worse than its baseline by more than the scenario's `gate:` allows.

    A figure fails when it is beyond its threshold and that is no noise; at most 1 % of unchanged runs fail. Where noise
    hides what is asked about, the answer is "cannot tell", with the number of repeats that would give one.

    Exit codes: 0 pass, or cannot tell; 1 a figure failed; 2 no baseline to compare with; 5 cannot tell (--strict).
    """
    from harness.analysis import baseline as baselines
    from harness.analysis.gate import gate as gated
    from harness.analysis.gate import thresholds
    from harness.report import gating
    from harness.rundata import load_run
    from harness.store import Store

    store = Store(results)
    new = baselines.need_complete(load_run(store.open(run).path))
    limits = thresholds(new, given)
    result = gated(new, baselines.find(new, baseline, store, last=last, across=across), limits,
                   only_common=only_common)
    if junit is not None:
        write_file(junit, gating.junit(result, strict=strict))
    if markdown_file is not None:
        write_file(markdown_file, gating.markdown(result))
    if as_json:
        print_json(gating.data(result, strict=strict))
    else:
        click.echo(gating.text(result))
    return result.exit_code(strict=strict)
