# SPDX-License-Identifier: Apache-2.0
"""The page about a history: a chart a metric, and every change with the runs around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from harness import __version__
from harness.analysis.trend import Series, Trend
from harness.errors import UsageError
from harness.report.charts.history import history_chart
from harness.report.identity import COLOURS, Look, one_line
from harness.report.page import asset, environment, policy
from harness.report.trendtext import headline, items_text, kind_of, step_text
from harness.store import write_atomically

MAX_CHARTS = 24
MAX_STEPS = 500
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":")


def write_trend(trend: Trend, output: Path) -> Path:
    """Write the page and return its path. Raises UsageError."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, render_trend(trend))
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror or error}; name another file") from error
    return output


def render_trend(trend: Trend) -> str:
    """The page as text that encodes to UTF-8."""
    looks = _looks(trend.series)
    metrics = list(dict.fromkeys(series.metric for series in trend.series))
    charts = [history_chart(f"t{number}", metric, [s for s in trend.series if s.metric == metric], trend, looks)
              for number, metric in enumerate(metrics[:MAX_CHARTS])]
    html = environment().get_template("trend.html.j2").render(
        title=f"{one_line(trend.scenario)}: history", headline=headline(trend), style=Markup(asset("report.css")),
        policy=policy(""), charts=charts, changes=_changes(trend, False), transitions=_changes(trend, True),
        runs=trend.runs, left_out=trend.left_out, version=__version__)
    return html.encode("utf-8", "replace").decode("utf-8")


def _looks(rows: Sequence[Series]) -> dict[str, Look]:
    """One colour a point, in the order of the points, the same in every chart."""
    labels = list(dict.fromkeys(row.label for row in rows))
    return {label: Look(label, place % COLOURS + 1, _MARKERS[place % len(_MARKERS)],
                        _LINES[place // COLOURS % len(_LINES)]) for place, label in enumerate(labels)}


def _changes(trend: Trend, transition: bool) -> list[tuple[str, str, str, str, str, str, str]]:
    """(kind, metric, point, change, last run before, first after, what differs); newest first."""
    found = [(series, step) for series in trend.series for step in series.steps if step.transition is transition]
    places = {run.run: place for place, run in enumerate(trend.runs)}
    found.sort(key=lambda pair: -places[pair[1].first])
    return [(kind_of(step), series.metric.name, series.label, step_text(step, series), step.last, step.first,
             items_text(step)) for series, step in found[:MAX_STEPS]]
