# SPDX-License-Identifier: Apache-2.0
"""``harness plan``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.common import FILE, json_option, print_json, results_option, write_file
from harness.errors import UsageError


@click.command("plan")
@click.argument("name", metavar="RUN")
@click.option("--target", required=True, metavar="RATE", help="Load to be carried, per direction: 2Mpps, 200k.")
@click.option("--p99", "p99", metavar="TIME", help="Latency that 99 % of the packets have to meet: 100us.")
@click.option("--headroom", default="30%", show_default=True, metavar="SHARE", help="Of the rate, to be kept free.")
@click.option("--rate", type=click.Choice(["pdr", "ndr", "mrr"]), default="pdr", show_default=True,
              help="Which rate the cores have to carry the load by.")
@click.option("--html", type=FILE, metavar="FILE", help="Write it as one HTML file too.")
@results_option
@json_option
def plan(name: str, target: str, p99: str | None, headroom: str, rate: str, html: Path | None, results: Path,
         as_json: bool) -> int:
    """How many cores each stack of RUN needs for a load, with its CPU and latency there.

    Scaling is fitted to the core counts measured; what is extrapolated is marked, and beyond twice the largest count
    nothing is said. RUN is an id, the beginning of one, a directory, or `latest`.
    """
    from harness.analysis.capacity import Ask, plan_capacity
    from harness.analysis.metrics import Kind
    from harness.report import capacity
    from harness.rundata import load_run
    from harness.store import Store
    from harness.units import parse_duration, parse_rate, parse_ratio

    try:
        ask = Ask(_read("--target", parse_rate, target),
                  None if p99 is None else _read("--p99", parse_duration, p99) * 1e9,
                  _read("--headroom", parse_ratio, headroom), Kind(rate))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if ask.headroom >= 1:
        raise UsageError("--headroom: 100% leaves nothing to carry the load; 0% to below 100%")
    if ask.p99_ns == 0:
        raise UsageError("--p99: no latency is zero; write for example 100us")
    made = plan_capacity(load_run(Store(results).open(name).path), ask)
    if html is not None:
        write_file(html, capacity.html(made))
    if as_json:
        print_json(capacity.data(made))
    else:
        click.echo(capacity.text(made))
    return 0


def _read(option: str, reader: object, value: str) -> float:
    assert callable(reader)
    try:
        return float(reader(value))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
