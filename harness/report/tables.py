# SPDX-License-Identifier: Apache-2.0
"""What the report's tables are made of, and the small ones as text: latency, points without a number. The summary is
in :mod:`harness.report.summarytable`, CPU over load in :mod:`harness.report.cputable`, loss by place in
:mod:`harness.report.lossplaces`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.plan import TREX_ASTF, Role
from harness.records import Verdict
from harness.report.identity import Look, clean, slug, stack_key, stack_name
from harness.report.numbers import (
    MISSING,
    Spread,
    Unit,
    fraction_name,
    percent,
    plural,
    rate_unit,
    time_unit,
)
from harness.report.summarise import LatencySummary, LoadSummary, PointSummary
from harness.report.words import VERDICTS


@dataclass(frozen=True)
class Badge:
    """A verdict beside a number; ``text`` is shown on demand and to screen readers."""

    name: str
    tone: str
    text: str


@dataclass(frozen=True)
class Cell:
    """One figure: ``main`` in the heading's unit, ``subs`` below it in small type, ``why`` it is missing,
    ``marks``: verdicts on this very number."""

    main: str
    subs: tuple[str, ...] = ()
    why: str = ""
    marks: tuple[Badge, ...] = ()


@dataclass(frozen=True)
class PointName:
    """A point as it is named in tables: label, what distinguishes it, its colour and anchor."""

    label: str
    cores: str
    frame: str
    colour: int
    anchor: str


@dataclass(frozen=True)
class Heading:
    """A column: ``text``, its ``unit`` (never empty for numbers), ``hint`` says what it is."""

    text: str
    unit: str
    hint: str = ""


@dataclass(frozen=True)
class PlainTable:
    """A table of text: ``rows`` start with the point's name, then one Cell a heading."""

    headings: tuple[Heading, ...]
    rows: tuple[tuple[PointName, tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Trouble:
    """A point (or repeats of it) without a number."""

    name: PointName
    status: str
    reason: str
    log_tail: str
    repeats: str


def name_points(points: Sequence[PointSummary], looks: dict[str, Look], prefix: str) -> dict[str, PointName]:
    """Names by point id; anchors are unique within the page when ``prefix`` is."""
    names: dict[str, PointName] = {}
    taken: set[str] = set()
    for index, point in enumerate(points):
        plan = point.plan
        anchor = f"{prefix}{slug(plan.id)}"
        if anchor in taken:
            anchor = f"{anchor}-{index}"
        taken.add(anchor)
        look = looks[stack_key(plan)]
        ids = ", ".join(map(str, plan.cores[:16]))
        cores = f"{plural(len(plan.cores), 'core')} (id {ids})" if plan.cores else "no cores"
        size = plan.traffic_label if plan.frame_bytes else "TCP"
        names[plan.id] = PointName(stack_name(plan), cores, size, look.colour, anchor)
    return names


def badges(verdicts: Sequence[Verdict]) -> tuple[Badge, ...]:
    """Badges of verdicts, in their order."""
    return tuple(Badge(v.value, VERDICTS[v].tone, VERDICTS[v].means) for v in VERDICTS if v in verdicts)


def time_cell(spread: Spread | None, unit: Unit, entry: LatencySummary, name: str) -> Cell:
    """A latency percentile with its range; a missing one says whether samples or the measurement lacked."""
    if spread is None:
        few = f"{entry.samples:,} samples are too few for {name}" if entry.samples else "no latency frame came back"
        return Cell(MISSING, (), entry.reason or few)
    span = unit.span(spread)
    lost = f"{percent(entry.loss_ratio, 2)} lost" if entry.loss_ratio else ""
    return Cell(unit.text(spread.median), tuple(filter(None, (span, lost))))


def has_cycles(loads: Sequence[LoadSummary]) -> bool:
    """Whether every one of these with CPU figures has cycles per packet; otherwise one column would mix two
    kinds of cost."""
    known = [load for load in loads if load.busy_cores is not None]
    return bool(known) and all(load.cycles is not None for load in known)


def unit_counted(role: Role) -> str:
    """One of what the costs are given for."""
    return "connection" if role is Role.ACCEPT else "packet"


#: What the times of role accept are, by the client that tells them.
_OF_H2LOAD = (
    "Percentiles: from the request to the end of the reply, the wait to be accepted included. Of the handshakes before "
    "it the client tells no distribution. It makes connections in batches, a millisecond or more apart; those of one "
    "batch wait for each other.")
_OF_TREX = (
    "Percentiles: from the request to the reply, the wait to be accepted included, of a sample of connections whose "
    "packets TRex captured and stamped; the handshake is from the SYN (the first, where it was repeated) to its "
    "SYN-ACK. Both hold the wait until TRex looked for packets: in its low_end mode up to a millisecond.")


def latency_table(points: Sequence[PointSummary], names: dict[str, PointName], generator: str = "",
                  ) -> PlainTable | None:
    """Every percentile of every point and load; None when latency was measured nowhere. ``generator``: its kind."""
    entries = [(point, entry) for point in points for entry in point.latency]
    if not entries:
        return None
    unit = time_unit(spread.median for _, e in entries if (spread := e.at["p50"]) is not None)
    role = points[0].plan.role
    rates = rate_unit((e.load.median for _, e in entries if e.load is not None), role.rate_unit)
    columns = ("p50", "p90", "p99", "p99.9", "max")
    headings = (Heading("Load", "of rate"), Heading("Offered", rates.name),
                Heading("Lost", "of sent"),
                *(Heading(name, unit.name) for name in columns), Heading("Samples", role.counted),
                *(Heading(f"Handshake {what}", unit.name) for what in ("mean", "max") if role is Role.ACCEPT))
    rows = [(names[p.plan.id],
             (Cell(f"{fraction_name(e.fraction)} of {e.of.upper()[:8]}"),
              Cell(rates.text(e.load.median)) if e.load else Cell(MISSING, (), e.reason),
              Cell(_lost(e)), *_percentiles(e, columns, unit), Cell(f"{e.samples:,}"),
              *(Cell(unit.text(s.median)) if s else Cell(MISSING, (), "no handshake was finished")
                for s in e.handshake if role is Role.ACCEPT)))
            for p, e in entries]
    notes = ["A percentile p is given where at least 10 ÷ (1 − p) samples stand behind it."]
    if any(e.loss_ratio for _, e in entries):
        notes.append("* The trial (of several repeats the worst) lost so much; its percentiles are of what came back "
                     "and leave out what was lost.")
    if role is Role.ACCEPT:
        notes.append(_OF_TREX if generator == TREX_ASTF else _OF_H2LOAD)
    return PlainTable(headings, tuple(rows), tuple(notes))


def _lost(entry: LatencySummary) -> str:
    """Loss of the trial behind a latency, with a mark; "0" without any."""
    if entry.loss_ratio is None:
        return MISSING
    return f"{percent(entry.loss_ratio, 2)} *" if entry.loss_ratio > 0 else "0"


def _percentiles(entry: LatencySummary, columns: Sequence[str], unit: Unit) -> Iterator[Cell]:
    """A cell each; what concerns all of them is said in the first."""
    if any(entry.at[name] is not None for name in columns):
        yield from (time_cell(entry.at[name], unit, entry, name) for name in columns)
    else:
        yield time_cell(None, unit, entry, columns[0])
        yield from (Cell(MISSING) for _ in columns[1:])


def troubles(points: Sequence[PointSummary], names: dict[str, PointName]) -> tuple[Trouble, ...]:
    """Points that failed, were skipped or not reached, and repeats that did."""
    found = []
    for point in points:
        if point.status == "ok":
            continue
        bad = sum(outcome.status != "ok" for outcome in point.outcomes)
        status = "some repeats failed" if point.status == "partial" and bad else (
            "not all repeats made" if point.status == "partial" else
            "not reached" if point.status == "missing" else
            "not finished" if point.status == "interrupted" else
            "skipped, as the scenario allows" if point.status == "skipped" and point.plan.if_supported else
            point.status)
        repeats = plural(bad, "repeat") if bad else ""
        log_tail = clean(point.log_tail[-4000:], 4000)
        found.append(Trouble(names[point.plan.id], status, clean(point.reason, 600), log_tail, repeats))
    return tuple(found)
