# SPDX-License-Identifier: Apache-2.0
"""The page: every section's content brought together, and the template that lays it out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from harness.analysis.environment import UNKNOWN
from harness.plan import Role
from harness.report import words
from harness.report.anomalies import AnomalyRow, anomaly_rows
from harness.report.bystander import BystanderSection, bystander_section
from harness.report.charts.catalogue import KINDS, draw_all
from harness.report.charts.material import Material, Published
from harness.report.charts.svg import Chart, inline
from harness.report.checks import ChecksSection, checks_section
from harness.report.cputable import cpu_table
from harness.report.dropreasons import drop_reason_table
from harness.report.facts import headline_facts
from harness.report.floor import floor_table
from harness.report.generatortable import generator_table
from harness.report.headline import Answer, answer
from harness.report.identity import looks, one_line
from harness.report.layout import asset, environment, policy
from harness.report.lossplaces import LossTable, loss_table
from harness.report.method import Method, method
from harness.report.narrative import Caveat, caveats
from harness.report.numbers import percent
from harness.report.palette import css
from harness.report.shares import balance_table, direction_table
from harness.report.sidebyside import facets, side_by_side
from harness.report.summarise import Limits, PointSummary, summarise
from harness.report.summarytable import SummaryTable, summary_table
from harness.report.tables import (
    PlainTable,
    PointName,
    Trouble,
    latency_table,
    name_points,
    troubles,
)
from harness.report.trialrows import FIRST_ROWS, TrialTable, trial_table
from harness.report.tuningtable import tuning_table
from harness.report.vectors import vector_table
from harness.report.work import work_table
from harness.rundata import RunData

#: Charts of one kind in the page; `harness charts` draws more.
MAX_CHARTS = 8


@dataclass(frozen=True)
class RunView:
    """What the template prints about one run. ``prefix`` begins every id of it."""

    prefix: str
    run_id: str
    scenario: str
    answer: Answer
    lab: bool
    head: tuple[tuple[str, str], ...]
    caveats: tuple[Caveat, ...]
    summary: SummaryTable
    rate_notes: tuple[tuple[str, str], ...]
    counted: str
    per_direction: bool
    charts: Mapping[str, tuple[Chart, ...]]
    more_charts: int
    directions: PlainTable | None
    latency_numbers: PlainTable | None
    latency_floor: PlainTable | None
    latency_missing: str
    cpu_numbers: PlainTable | None
    bystander: BystanderSection | None
    work: PlainTable | None
    vectors: PlainTable | None
    balance: PlainTable | None
    losses: LossTable | None
    drop_reasons: PlainTable | None
    generator: PlainTable | None
    anomalies: tuple[AnomalyRow, ...]
    tuning: PlainTable | None
    checks: ChecksSection | None
    troubles: tuple[Trouble, ...]
    trials: TrialTable
    trial_data: Markup
    #: Where a page has several runs: ", " and the run's id, for names that have to be unique, and the id of its name
    #: with a space before it, for labels made of several elements.
    of: str
    and_name: str
    method: Method


def render(runs: Sequence[RunData], published: Sequence[Published] = (), folder: Path | None = None) -> str:
    """The page about these runs, as text that encodes to UTF-8. ``published``: to draw beside what was measured;
    ``folder``: where the page will lie, so that it can link to evidence in the runs' directories."""
    summaries = [summarise(run) for run in runs]
    colours = looks(point.plan for points in summaries for point in points)
    prefixes = [f"r{index}-" if len(runs) > 1 else "" for index in range(1, len(runs) + 1)]
    names = [name_points(points, colours, f"{prefix}point-")
             for points, prefix in zip(summaries, prefixes, strict=True)]
    views = [_view(Material(run, points, colours, tuple(published)), named, prefix, folder)
             for run, points, named, prefix in zip(runs, summaries, names, prefixes, strict=True)]
    script = asset("report.js")
    html = environment().get_template("report.html.j2").render(
        runs=views, facets=embedded_json(facets(summaries, names)), title=_title(views),
        side_by_side=side_by_side(runs, summaries, names, colours, prefixes) if len(runs) > 1 else None,
        style=Markup(css() + asset("report.css")), script=Markup(script), policy=policy(script),
        glossary=words.GLOSSARY, lab_lead=words.LAB_LEAD, lab_text=words.LAB_TEXT, lab_bypass=words.LAB_BYPASS,
        phases=[(phase.value, text) for phase, text in words.PHASES.items()],
        version=one_line(runs[0].info.harness_version, 40), paper_rows=FIRST_ROWS)
    return html.encode("utf-8", "replace").decode("utf-8")


def _title(views: Sequence[RunView]) -> str:
    return f"{views[0].scenario}: {views[0].run_id}" if len(views) == 1 else f"{len(views)} runs"


def _view(material: Material, names: dict[str, PointName], prefix: str, folder: Path | None) -> RunView:
    run, points, colours = material.run, material.points, material.looks
    pdr_loss = Limits.of(run.plan).pdr_loss
    trials = trial_table(run, points)
    asked = run.plan.measure.search.goals if run.plan.measure.search is not None else ()
    drawn = draw_all(material)
    charts = {kind: tuple(inline(picture, prefix) for picture in drawn.pictures.get(kind, ())[:MAX_CHARTS])
              for kind in KINDS}
    return RunView(
        prefix=prefix, of=f", {one_line(run.info.run_id, 120)}" if prefix else "",
        and_name=f" {prefix}name" if prefix else "", run_id=one_line(run.info.run_id, 120),
        scenario=one_line(run.plan.scenario, 80),
        answer=answer(run, points, colours), lab=run.plan.lab, head=tuple(_head(run)),
        caveats=caveats(run, points), summary=summary_table(points, names, pdr_loss),
        rate_notes=tuple((name, words.of_role(run.plan.role, text.format(loss=percent(pdr_loss))))
                         for name, text in words.RATE_TEXT.items() if name.lower() in asked),
        counted=run.plan.role.counted, per_direction=run.plan.role is not Role.ACCEPT,
        charts=charts, more_charts=len(drawn.all()) - sum(map(len, charts.values())),
        directions=direction_table(points, names), balance=balance_table(points, names),
        latency_numbers=latency_table(points, names, run.plan.generator.kind),
        latency_floor=floor_table(points, names, run.info.ceilings),
        latency_missing=_latency_missing(run, points),
        cpu_numbers=cpu_table(points, names), bystander=bystander_section(run.plan, points, names),
        work=work_table(points, names), vectors=vector_table(points, names), losses=loss_table(points, names),
        tuning=tuning_table(points, names), drop_reasons=drop_reason_table(points, names),
        generator=generator_table(points, names), anomalies=anomaly_rows(run.path, points, names, folder),
        checks=checks_section(run),
        troubles=troubles(points, names), trials=trials,
        trial_data=embedded_json({**trials.data, "anchors": [names[p.plan.id].anchor for p in points]}),
        method=method(run, points))


def _head(run: RunData) -> Iterable[tuple[str, str]]:
    """Name and value pairs below the headline."""
    info, plan = run.info, run.plan
    yield "Scenario", one_line(plan.scenario, 80)
    yield "Testbed", one_line(plan.testbed, 80) + (", virtual wire" if any(wire.virtual for wire in plan.wires) else "")
    used = {point.host for point in plan.points}
    hosts = [host.name for host in plan.hosts if host.name in used][:8] or list(info.hosts)[:1]
    told = {host: headline_facts(facts) for host in hosts if isinstance(facts := info.hosts.get(host), dict)}
    for name in dict.fromkeys(name for facts in told.values() for name in facts):
        values = {host: one_line(facts.get(name, UNKNOWN), 80) for host, facts in told.items()}
        if len(set(values.values())) == 1:
            yield name, next(iter(values.values()))
        else:
            yield from ((f"{name} of {one_line(host, 20)}", value) for host, value in values.items())
    kind = info.generator.get("kind", plan.generator.kind)
    server = info.generator.get("server")
    version = (server.get("version") if isinstance(server, dict) else None) or info.generator.get("version", "")
    yield "Generator", one_line(f"{kind} {version}", 80)
    yield "Date", one_line(info.started_at[:16].replace("T", " "), 20)


def _latency_missing(run: RunData, points: Sequence[PointSummary]) -> str:
    """Why there is no latency chart; empty when there is one, or when nobody asked."""
    if any(entry.curve or any(entry.at.values()) for point in points for entry in point.latency):
        return ""
    reasons = [entry.reason for point in points for entry in point.latency if entry.reason]
    if reasons:
        return one_line(reasons[0], 300)
    if run.plan.role.value == "drop":
        return "Latency is not defined for frames that are discarded."
    return "No latency trial was finished." if run.plan.measure.latency_fractions else ""


def embedded_json(data: object) -> Markup:
    """JSON that can stand inside a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
