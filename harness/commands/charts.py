# SPDX-License-Identifier: Apache-2.0
"""``harness charts``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from harness.commands.common import FILE, json_option, print_json, results_option
from harness.errors import UsageError

#: What there is of each; the modules that know are heavy.
_FORMATS, _THEMES, _SIZES = ("svg", "png"), ("light", "dark"), ("web", "slide")


class _Some(click.ParamType[tuple[str, ...]]):
    """Some of a few words, separated by commas."""

    name = "list"

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        given = tuple(dict.fromkeys(word.strip().lower() for word in str(value).split(",") if word.strip()))
        wrong = [word for word in given if word not in self.words]
        if wrong or not given:
            self.fail(f"{value!r}: name one or several of {', '.join(self.words)}, separated by commas", param, ctx)
        return given


def chart_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say as which files charts are written: ``formats``, ``themes``, ``sizes``."""
    for option in (
            click.option("--size", "sizes", type=_Some(_SIZES), default="web", show_default=True, metavar="LIST",
                         help="web (1040 wide, as high as needed), slide (1280 x 720), or both."),
            click.option("--theme", "themes", type=_Some(_THEMES), default="light", show_default=True, metavar="LIST",
                         help="light, dark, or both."),
            click.option("--format", "formats", type=_Some(_FORMATS), default="svg,png", show_default=True,
                         metavar="LIST", help="svg (letters outlined), png (twice the size), or both.")):
        command = option(command)
    return command


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--out", type=FILE, required=True, metavar="DIR",
              help="Directory to write into; of several runs each gets one of its own there.")
@chart_files
@click.option("--references", is_flag=True,
              help="Draw published figures of the same role, frame size and cores too, hollow, with their source.")
@results_option
@json_option
def charts(runs: tuple[str, ...], out: Path, formats: tuple[str, ...], themes: tuple[str, ...],
           sizes: tuple[str, ...], references: bool, results: Path, as_json: bool) -> None:
    """Draw the charts of one or several RUNs as files, with their numbers as CSV beside them.

    A run is named by its directory, its id, the beginning of its id, or `latest`. Files are named
    KIND-POINTS.SIZE.THEME.FORMAT and KIND-POINTS.csv. A chart that a run has no numbers for is not drawn, and the
    reason is said.
    """
    from harness.store import Store

    store = Store(results)
    directories = list(dict.fromkeys(store.open(name).path.resolve() for name in runs))
    from harness.report.charts.catalogue import draw_all
    from harness.report.charts.files import provenance, write_charts
    from harness.report.charts.material import Material
    from harness.report.charts.published import published_points
    from harness.rundata import load_run

    published = published_points() if references else ()
    told: list[dict[str, Any]] = []
    written = 0
    for path, folder in zip(directories, _folders(directories, out), strict=True):
        run = load_run(path)
        drawn = draw_all(Material.of(run, published))
        entry: dict[str, Any] = {"run": run.info.run_id, "directory": str(folder), "charts": [],
                                 "not_drawn": dict(drawn.missing), "notes": list(drawn.notes)}
        told.append(entry)
        for chart in write_charts(drawn.all(), provenance(run), folder, formats=formats, themes=themes, sizes=sizes):
            written += 1
            entry["charts"].append({"name": chart.picture.name, "title": chart.picture.title,
                                    "files": [str(file) for file in chart.files],
                                    "data": [str(file) for file in chart.data]})
            if not as_json:
                click.echo(f"{chart.picture.name}: {', '.join(file.name for file in (*chart.files, *chart.data))}")
        if not as_json:
            _say(drawn.missing, drawn.notes, folder)
    if as_json:
        print_json({"runs": told})
    if not written:
        raise UsageError("no chart was drawn: nothing in these runs has a number to show; see `harness results show`")


def _folders(directories: Sequence[Path], out: Path) -> list[Path]:
    """Where each run's charts go: ``out``, or of several runs a directory each, named as the run's."""
    from harness.report.identity import slug

    if len(directories) == 1:
        return [out]
    names: list[str] = []
    for path in directories:
        name = slug(path.name)
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return [out / name for name in names]


def _say(missing: Any, notes: tuple[str, ...], folder: Path) -> None:
    for kind, why in missing.items():
        click.echo(f"not drawn: {kind}: {why}")
    for note in notes:
        click.echo(f"not drawn: {note}")
    click.echo(f"charts: {folder}")
