# SPDX-License-Identifier: Apache-2.0
"""The page about a history: a chart a metric, and every change with the runs around it; the charts alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from harness.analysis.trend import Series, Trend
from harness.plan import PointPlan, Role
from harness.report.charts.canvas import Picture
from harness.report.charts.history import history_picture
from harness.report.charts.svg import inline
from harness.report.identity import Look, looks, one_line, stack_key
from harness.report.layout import render_page
from harness.report.numbers import plural
from harness.report.trendtext import headline, kind_of, step_text, told_once

MAX_CHARTS = 24
MAX_STEPS = 500
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":")


def pictures(trend: Trend) -> list[Picture]:
    """A chart a metric, of the first MAX_CHARTS."""
    colours = _looks(trend.series)
    metrics = list(dict.fromkeys(series.metric for series in trend.series))
    return [history_picture(metric, [s for s in trend.series if s.metric == metric], trend, colours)
            for metric in metrics[:MAX_CHARTS]]


def about(trend: Trend) -> str:
    """What a chart says about where its numbers are from: DUTs and testbed of the newest run, dates, harness."""
    newest = trend.runs[-1].items
    hosts = sorted(item.partition(".")[0] for item in newest if item.endswith(".cpu.model") and item.startswith("dut"))
    duts = "; ".join(f"{newest[f'{host}.cpu.model']}, kernel {newest.get(f'{host}.kernel.release', 'unknown')}"
                     for host in hosts[:4])
    parts = [f"DUT {duts}" if duts else "", f"testbed: {newest.get('testbed', 'unknown')}",
             "both of the newest run" if len({run.environment for run in trend.runs}) > 1 else "",
             f"{plural(len(trend.runs), 'run')}, {trend.runs[0].started_at[:10]} to {trend.runs[-1].started_at[:10]}",
             f"netstack-harness {newest.get('harness', '')}".strip()]
    return " · ".join(one_line(part, 200) for part in parts if part)


def render_trend(trend: Trend) -> str:
    """The page as text that encodes to UTF-8."""
    charts = [inline(picture, f"m{number}-") for number, picture in enumerate(pictures(trend))]
    return render_page("trend.html.j2", title=f"{one_line(trend.scenario)}: history", headline=headline(trend),
                       charts=charts, changes=_changes(trend, False), transitions=_changes(trend, True),
                       runs=trend.runs, left_out=trend.left_out)


def _looks(rows: Sequence[Series]) -> dict[str, Look]:
    """By label: the colour that the stack has in every page; points of one stack differ in marker and line."""
    plans = {row.label: _plan(row) for row in rows}
    colours = looks(plans.values())
    found: dict[str, Look] = {}
    for label, plan in plans.items():
        look = colours[stack_key(plan)]
        alike = sum(other.colour == look.colour for other in found.values())
        marker = (_MARKERS.index(look.marker) + alike) % len(_MARKERS)
        found[label] = replace(look, marker=_MARKERS[marker], line=_LINES[alike % len(_LINES)])
    return found


def _plan(row: Series) -> PointPlan:
    """What a series knows of its point, as far as colours go by it."""
    stack, params, _, role, _, cores, host = row.point
    return PointPlan(row.label, row.label, stack, json.loads(params), Role(role), host, 0, tuple(range(int(cores))), (),
                     (), 0.0)


def _changes(trend: Trend, transition: bool) -> list[tuple[str, str, str, str, str, str, str]]:
    """(kind, metric, point, change, last run before, first after, what differs); newest first."""
    found = [(series, step) for series in trend.series for step in series.steps if step.transition is transition]
    places = {run.run: place for place, run in enumerate(trend.runs)}
    found.sort(key=lambda pair: -places[pair[1].first])
    items = told_once(step for _, step in found[:MAX_STEPS])
    return [(kind_of(step), series.metric.name, series.label, step_text(step, series), step.last, step.first, differs)
            for (series, step), differs in zip(found[:MAX_STEPS], items, strict=True)]
