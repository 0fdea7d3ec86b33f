# SPDX-License-Identifier: Apache-2.0
"""The report's small tables as text: summary, latency, CPU over load, loss by place, points without a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.plan import Role
from harness.records import Phase, Trial, Verdict
from harness.report.identity import Look, clean, one_line, slug, stack_key, stack_name
from harness.report.numbers import (
    MISSING,
    Spread,
    Unit,
    finite,
    fraction_name,
    percent,
    plural,
    rate,
    rate_unit,
    rounded,
    set_rate,
    significant,
    time_unit,
)
from harness.report.summarise import (
    NOT_ASKED,
    LatencySummary,
    LoadSummary,
    PointSummary,
    RateSummary,
    repeated_trials,
)
from harness.report.words import VERDICTS

SUMMARY_FRACTION = 0.5
#: Verdicts that can concern one rate of a point and not another.
RATE_VERDICTS = (Verdict.GENERATOR_LIMITED, Verdict.PAUSED, Verdict.UNEXPLAINED_LOSS, Verdict.NOISY,
                 Verdict.INCONCLUSIVE, Verdict.CUT_SHORT)
NO_SAMPLE = "no CPU sample lies inside the trial"
_NO_CURVE = "the scenario has no load curve"
_NO_LATENCY = "latency was not measured at this load"
_UNASKED = (NOT_ASKED, _NO_CURVE, _NO_LATENCY)


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
class SummaryRow:
    """One point in the summary table; ``cells`` in the order of SummaryTable.headings. ``nothing``: why the point has
    no number at all, in place of the cells."""

    name: PointName
    nothing: str
    cells: tuple[Cell, ...]
    badges: tuple[Badge, ...]


@dataclass(frozen=True)
class Heading:
    """A column: ``text``, its ``unit`` (never empty for numbers), ``hint`` says what it is."""

    text: str
    unit: str
    hint: str = ""


@dataclass(frozen=True)
class SummaryTable:
    """The summary: one row a point. ``notes`` say where figures come from."""

    headings: tuple[Heading, ...]
    rows: tuple[SummaryRow, ...]
    notes: tuple[str, ...]


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
    several_hosts = len({point.plan.host for point in points}) > 1
    for index, point in enumerate(points):
        plan = point.plan
        anchor = f"{prefix}{slug(plan.id)}"
        if anchor in taken:
            anchor = f"{anchor}-{index}"
        taken.add(anchor)
        look = looks[stack_key(plan)]
        ids = ", ".join(map(str, plan.cores[:16]))
        cores = f"{plural(len(plan.cores), 'core')} (id {ids})" if plan.cores else "no cores"
        cores += f" on {one_line(plan.host, 40)}" if several_hosts else ""
        size = plan.traffic_label if plan.frame_bytes else "TCP"
        names[plan.id] = PointName(stack_name(plan), cores, size, look.colour, anchor)
    return names


def badges(verdicts: Sequence[Verdict]) -> tuple[Badge, ...]:
    """Badges of verdicts, in their order."""
    return tuple(Badge(v.value, VERDICTS[v].tone, VERDICTS[v].means) for v in VERDICTS if v in verdicts)


def named_load(points: Sequence[PointSummary], pdr_loss: float) -> float | None:
    """The load at which the summary compares CPU: the highest of the load curve that the most points carried within
    the loss that PDR allows; None without a load curve."""
    carried: Counter[float] = Counter()
    seen: set[float] = set()
    for point in points:
        for load in point.loads:
            seen.add(load.load_pps)
            if load.loss_ratio is not None and load.loss_ratio <= pdr_loss:
                carried[load.load_pps] += 1
    if not seen:
        return None
    return max(carried, key=lambda load: (carried[load], load)) if carried else min(seen)


def summary_table(points: Sequence[PointSummary], names: dict[str, PointName], pdr_loss: float) -> SummaryTable:
    """The summary of one run."""
    role = points[0].plan.role if points else Role.DROP
    rates = rate_unit((s.median for p in points for r in p.rates() if (s := r.rate) is not None), role.rate_unit)
    at_half = {p.plan.id: _at_fraction(p, SUMMARY_FRACTION) for p in points}
    times = time_unit(s.median for half in at_half.values() if half and (s := half.at["p50"]) is not None)
    load = named_load(points, pdr_loss)
    at = f"at {set_rate(load, role.rate_unit)}" if load is not None else "no load curve"
    of = next((half.of.upper()[:8] for half in at_half.values() if half), "PDR")
    headings = (
        Heading("NDR", rates.name, "highest load without loss"),
        Heading("PDR", rates.name, f"highest load at ≤ {percent(pdr_loss)} loss"),
        Heading("MRR", rates.name, "completed at full load" if role is Role.ACCEPT else "forwarded at full load"),
        Heading("Latency p50", times.name, f"at {fraction_name(SUMMARY_FRACTION)} of {of}"),
        Heading("Latency p99", times.name, f"at {fraction_name(SUMMARY_FRACTION)} of {of}"),
        Heading("Busiest core", "core-%", at),
        Heading("All given cores", "core-%", at),
        Heading("Cost", f"per {unit_counted(role)} {at}" if load is not None else f"per {unit_counted(role)}"),
    )
    cycles = has_cycles([cpu for p in points if (cpu := _load_at(p, load)) is not None])
    rows = []
    for point in points:
        half, cpu = at_half[point.plan.id], _load_at(point, load)
        cells = (*(rate_cell(r, rates) for r in point.rates()),
                 _latency_cell(half, "p50", times, point), _latency_cell(half, "p99", times, point),
                 *_cpu_cells(point, cpu, load, cycles))
        rows.append(SummaryRow(names[point.plan.id], _nothing(point), cells, badges(point.verdicts)))
    return _without_unasked(SummaryTable(headings, tuple(rows), tuple(_summary_notes(points, load))))


def _without_unasked(table: SummaryTable) -> SummaryTable:
    """The table without columns that the scenario asks nothing for (a load curve alone has no rates)."""
    shown = [row for row in table.rows if not row.nothing]
    kept = [index for index in range(len(table.headings))
            if any(row.cells[index].why not in _UNASKED for row in shown)] or range(len(table.headings))
    rows = tuple(replace(row, cells=tuple(row.cells[index] for index in kept)) for row in table.rows)
    return SummaryTable(tuple(table.headings[index] for index in kept), rows, table.notes)


def _nothing(point: PointSummary) -> str:
    """Status and reason of a point without any number; empty for the others."""
    if point.repeats or point.loads:
        return ""
    return f"{'not reached' if point.status == 'missing' else point.status}: {clean(point.reason, 300)}"


def _summary_notes(points: Sequence[PointSummary], load: float | None) -> list[str]:
    notes = []
    repeats = max((p.repeats for p in points), default=0)
    if repeats > 1:
        notes.append(f"Large figures are medians of up to {repeats} repeats; below them, lowest – highest.")
    if any(r.raw or r.raw_none for p in points for r in p.rates()):
        repeated, trials = repeated_trials(points)
        notes.append("“first attempts”: highest load whose first attempt met the goal"
                     + (f"; {repeated:,} of {trials:,} search trials were repeated." if repeated else "."))
    loads = [at for p in points if (at := _load_at(p, load)) is not None]
    if any(at.cycles is not None for at in loads):
        sources = sorted({one_line(at.cycles_source, 60) or "source not recorded"
                          for at in loads if at.cycles is not None})
        notes.append(f"Cycles per {unit_counted(points[0].plan.role)}: {'; '.join(sources)}.")
    if loads and not has_cycles(loads):
        notes.append(f"Cost in {_cost_unit(points[0].plan.role)}: busy time of the given cores ÷ forwarding rate.")
    polling = {at.polls_source for at in loads if at.polls_source}
    if any(p.polls for p in points):
        source = f" ({'; '.join(one_line(text, 60) for text in sorted(polling))})" if polling else ""
        notes.append("“polls”: the core is busy at any load; where polls were counted"
                     f"{source}, the share of them that found frames is given.")
    return notes


def _at_fraction(point: PointSummary, fraction: float) -> LatencySummary | None:
    return next((entry for entry in point.latency if abs(entry.fraction - fraction) < 1e-6), None)


def _load_at(point: PointSummary, load: float | None) -> LoadSummary | None:
    return next((entry for entry in point.loads if entry.load_pps == load), None)


def rate_cell(summary: RateSummary, unit: Unit) -> Cell:
    """A rate with its range, what first attempts came to where that differs, its verdicts, and "≥" where the generator
    was the limit."""
    subs = []
    if summary.raw is not None:
        subs.append(f"first attempts {unit.text(summary.raw.median)}")
    elif summary.raw_none:
        subs.append("first attempts: none passed")
    if summary.rate is None:
        return Cell(MISSING, tuple(subs), summary.reason)
    least = "≥ " if summary.at_least else ""
    if span := unit.span(summary.rate):
        subs.insert(0, span)
    if summary.missing:
        subs.append(f"{MISSING} in {plural(summary.missing, 'repeat')}")
    return Cell(least + unit.text(summary.rate.median), tuple(subs), summary.reason, rate_marks(summary))


def rate_marks(summary: RateSummary) -> tuple[Badge, ...]:
    """Verdicts on this very rate; those on the whole point stand beside its name."""
    found = []
    for badge in badges([verdict for verdict in RATE_VERDICTS if verdict in summary.verdicts]):
        if badge.name == Verdict.INCONCLUSIVE and summary.attempts > 1:
            badge = Badge(badge.name, badge.tone, f"The load passed only after {summary.attempts} attempts; between "
                          "runs it may not.")
        found.append(badge)
    return tuple(found)


def _latency_cell(entry: LatencySummary | None, name: str, unit: Unit, point: PointSummary) -> Cell:
    if entry is None:
        why = "not defined for frames that are discarded" if point.plan.role is Role.DROP else (
            point.reason or _NO_LATENCY)
        return Cell(MISSING, (), why)
    return time_cell(entry.at[name], unit, entry, name)


def time_cell(spread: Spread | None, unit: Unit, entry: LatencySummary, name: str) -> Cell:
    """A latency percentile with its range; a missing one says whether samples or the measurement lacked."""
    if spread is None:
        few = f"{entry.samples:,} samples are too few for {name}" if entry.samples else "no latency frame came back"
        return Cell(MISSING, (), entry.reason or few)
    span = unit.span(spread)
    return Cell(unit.text(spread.median), (span,) if span else ())


def has_cycles(loads: Sequence[LoadSummary]) -> bool:
    """Whether every one of these with CPU figures has cycles per packet; otherwise one column would mix two
    kinds of cost."""
    known = [load for load in loads if load.busy_cores is not None]
    return bool(known) and all(load.cycles is not None for load in known)


def _cpu_cells(point: PointSummary, at: LoadSummary | None, load: float | None,
               cycles: bool) -> tuple[Cell, Cell, Cell]:
    if at is None:
        why = point.reason or (_NO_CURVE if load is None else
                               f"not measured at {rate(load, point.plan.role.rate_unit)}")
        return Cell(MISSING, (), why), Cell(MISSING, (), why), Cell(MISSING, (), why)
    return _busiest_cell(point, at), _busy_cell(point, at), _cost_cell(point, at, cycles)


def _busiest_cell(point: PointSummary, at: LoadSummary) -> Cell:
    """The busiest of the given cores; what other cores did is the verdict extra-core and the chart."""
    given = {core: spread for core, spread in at.cores.items() if core in point.plan.cores}
    if not given:
        return Cell(MISSING, (), clean(at.note, 200) or NO_SAMPLE)
    core, spread = max(given.items(), key=lambda item: item[1].median)
    marks = [f"core {core}"]
    if at.indicative:
        marks.append("indicative: trial under 2 s")
    if point.polls:
        return Cell("polls", (_split(at), *marks))
    return Cell(f"{spread.median * 100:.0f}", tuple(marks))


def _split(at: LoadSummary) -> str:
    return "polls not counted" if at.useful is None else f"{percent(at.useful, 0)} of polls useful"


def _busy_cell(point: PointSummary, at: LoadSummary) -> Cell:
    if at.busy_cores is None:
        return Cell(MISSING, (), clean(at.note, 200) or NO_SAMPLE)
    of = f"of {len(point.plan.cores) * 100}"
    return Cell(f"{at.busy_cores.median * 100:.0f}", (of, "polls included") if point.polls else (of,))


def _cost_cell(point: PointSummary, at: LoadSummary, cycles: bool) -> Cell:
    load = f"at {set_rate(at.load_pps, point.plan.role.rate_unit)}"
    polls = ("empty polls included",) if point.polls else ()
    if cycles and at.cycles is not None:
        return Cell(rounded(at.cycles.median), ("cycles", load, *polls))
    forwarding = at.forwarding.median if at.forwarding else 0.0
    if at.busy_cores is None:
        return Cell(MISSING, (), clean(at.note, 200) or NO_SAMPLE)
    if forwarding <= 0:
        return Cell(MISSING, (), f"no {unit_counted(point.plan.role)} was completed at this load")
    cost = at.busy_cores.median * 100 / (forwarding / 1000)
    also = (f"{rounded(at.cycles.median)} cycles",) if at.cycles is not None else ()
    if point.plan.role is Role.ACCEPT:  # core-% per 1,000/s are tens of µs of a core's time each
        return Cell(significant(cost * 10), ("core-µs", load, *also, *polls))
    return Cell(significant(cost), ("core-%/kpps", load, *also, *polls))


def unit_counted(role: Role) -> str:
    """One of what the costs are given for."""
    return "connection" if role is Role.ACCEPT else "packet"


def _cost_unit(role: Role) -> str:
    return "core-µs" if role is Role.ACCEPT else "core-%/kpps"


def latency_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> PlainTable | None:
    """Every percentile of every point and load; None when latency was measured nowhere."""
    entries = [(point, entry) for point in points for entry in point.latency]
    if not entries:
        return None
    unit = time_unit(spread.median for _, e in entries if (spread := e.at["p50"]) is not None)
    role = points[0].plan.role
    rates = rate_unit((e.load.median for _, e in entries if e.load is not None), role.rate_unit)
    columns = ("p50", "p90", "p99", "p99.9", "max")
    headings = (Heading("Load", "of rate"), Heading("Offered", rates.name),
                *(Heading(name, unit.name) for name in columns), Heading("Samples", role.counted),
                *(Heading(f"Handshake {what}", unit.name) for what in ("mean", "max") if role is Role.ACCEPT))
    rows = [(names[p.plan.id],
             (Cell(f"{fraction_name(e.fraction)} of {e.of.upper()[:8]}"),
              Cell(rates.text(e.load.median)) if e.load else Cell(MISSING, (), e.reason),
              *_percentiles(e, columns, unit), Cell(f"{e.samples:,}"),
              *(Cell(unit.text(s.median)) if s else Cell(MISSING, (), "no handshake was finished")
                for s in e.handshake if role is Role.ACCEPT)))
            for p, e in entries]
    notes = ["A percentile p is given where at least 10 ÷ (1 − p) samples stand behind it."]
    if role is Role.ACCEPT:
        notes.append("Percentiles: from the request to the end of the reply, the wait to be accepted included. Of the "
                     "handshakes before it the client tells no distribution. It makes connections in batches, a "
                     "millisecond or more apart; those of one batch wait for each other.")
    return PlainTable(headings, tuple(rows), tuple(notes))


def _percentiles(entry: LatencySummary, columns: Sequence[str], unit: Unit) -> Iterator[Cell]:
    """A cell each; what concerns all of them is said in the first."""
    if any(entry.at[name] is not None for name in columns):
        yield from (time_cell(entry.at[name], unit, entry, name) for name in columns)
    else:
        yield time_cell(None, unit, entry, columns[0])
        yield from (Cell(MISSING) for _ in columns[1:])


def cpu_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> PlainTable | None:
    """CPU of the given cores at every rate of the load curve; None without one."""
    entries = [(point, load) for point in points for load in point.loads]
    if not entries:
        return None
    role = points[0].plan.role
    rates = rate_unit((load.load_pps for _, load in entries), role.rate_unit)
    headings = (Heading("Offered", rates.name), Heading("Loss", "%"), Heading("Busiest core", "core-%"),
                Heading("All given cores", "core-%"), Heading("Cost", f"per {unit_counted(role)}"))
    cycles = has_cycles([load for _, load in entries])
    rows = [(names[p.plan.id], (Cell(rates.text(at.load_pps)), Cell(_loss(at.loss_ratio)), _busiest_cell(p, at),
                                _busy_cell(p, at), _cost_cell(p, at, cycles))) for p, at in entries]
    return PlainTable(headings, tuple(rows))


def _loss(ratio: float | None) -> str:
    return MISSING if ratio is None else percent(ratio, 3).removesuffix(" %")


@dataclass(frozen=True)
class LossRow:
    """Where the frames of one trial went: ``cells`` by LossTable.places, (text, share of sent 0..1)."""

    name: PointName
    offered: str
    lost: str
    cells: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class LossTable:
    """Loss by place at the highest load offered to each point; shares of frames sent, %."""

    unit: str
    places: tuple[str, ...]
    rows: tuple[LossRow, ...]


def loss_table(points: Sequence[PointSummary], names: dict[str, PointName]) -> LossTable | None:
    """Loss by place of each point's search trial at the highest load; None when nothing was lost anywhere."""
    chosen = [(point, trial) for point in points if (trial := _fullest(point)) is not None]
    places = Counter(place for _, trial in chosen for place, frames in trial.losses.items() if frames)
    if not places and not any(trial.unexplained for _, trial in chosen):
        return None
    columns = [place for place, _ in places.most_common(10)]
    rates = rate_unit((trial.offered_pps for _, trial in chosen), points[0].plan.role.rate_unit)
    rows = []
    for point, trial in chosen:
        shares = [_share(trial.losses.get(place, 0), trial.sent) for place in columns]
        shares.append(_share(trial.unexplained, trial.sent))
        rows.append(LossRow(names[point.plan.id], rates.text(trial.offered_pps), percent(trial.loss_ratio, 2),
                            tuple(("0" if s == 0 else percent(s, 2), min(1.0, max(0.0, s or 0.0))) for s in shares)))
    return LossTable(rates.name, (*(one_line(place, 40) for place in columns), "unexplained"), tuple(rows))


def _share(frames: int, sent: int) -> float | None:
    part, whole = finite(frames), finite(sent)
    return part / whole if part is not None and whole else None


def _fullest(point: PointSummary) -> Trial | None:
    trials = [t for t in point.trials if t.phase is Phase.SEARCH and t.status == "ok" and not t.superseded
              and finite(t.offered_pps) is not None]
    return max(trials, key=lambda trial: trial.offered_pps, default=None)


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
            "not finished" if point.status == "interrupted" else point.status)
        repeats = plural(bad, "repeat") if bad else ""
        log_tail = clean(point.log_tail[-4000:], 4000)
        found.append(Trouble(names[point.plan.id], status, clean(point.reason, 600), log_tail, repeats))
    return tuple(found)
