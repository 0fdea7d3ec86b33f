# SPDX-License-Identifier: Apache-2.0
"""The tables say what is in the numbers: units, reasons, polls, raw rates."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from harness.records import Ceiling, Floor, Pauses, Percentiles, Phase, Verdict
from harness.report.floor import floor_table
from harness.report.headline import answer
from harness.report.identity import looks
from harness.report.lossplaces import HOST_PAUSE, loss_table
from harness.report.method import method
from harness.report.narrative import caveats
from harness.report.numbers import Spread, rate_unit
from harness.report.page import embedded_json
from harness.report.summarise import PointSummary, summarise
from harness.report.summarytable import SummaryTable, named_load, rate_cell, summary_table
from harness.report.tables import PointName, latency_table, name_points, troubles
from harness.report.trialrows import text_row, trial_table
from harness.report.words import VERDICTS
from harness.rundata import RunData
from harness.store import LEFT_OUT

Points = tuple[PointSummary, ...]


@pytest.fixture
def names(points: Points) -> dict[str, PointName]:
    """Names of the run's points."""
    return name_points(points, looks(p.plan for p in points), "point-")


@pytest.fixture
def summary(points: Points, names: dict[str, PointName]) -> SummaryTable:
    """The summary table."""
    return summary_table(points, names, 0.005)


def test_every_heading_has_a_unit(summary: SummaryTable) -> None:
    assert all(heading.unit for heading in summary.headings)
    assert [heading.text for heading in summary.headings[:3]] == ["NDR", "PDR", "MRR"]
    assert summary.headings[5].hint == "at 100 kpps"


def test_a_rate_has_median_range_and_raw(summary: SummaryTable, points: Points) -> None:
    row = next(row for row in summary.rows if row.name.label == "xdp")
    rate = points[3].ndr.rate
    assert rate is not None
    assert row.cells[0].main == f"{rate.median / 1000:,.1f}"
    assert row.cells[0].subs[0] == f"{rate.low / 1000:,.1f}\u00a0–\u00a0{rate.high / 1000:,.1f}"
    assert row.cells[0].subs[1].startswith("first attempts ")


def test_at_least_only_where_the_generator_was_the_limit(run: RunData) -> None:
    assert all(not p.mrr.at_least and Verdict.GENERATOR_LIMITED not in p.verdicts for p in summarise(run))
    outcomes = [o.model_copy(deep=True) for o in run.outcomes]
    for outcome in outcomes:
        if outcome.mrr is not None:
            outcome.mrr.loss_ratio = 0.005
    points = summarise(replace(run, outcomes=tuple(outcomes)))
    table = summary_table(points, name_points(points, looks(p.plan for p in points), ""), 0.005)
    cell = next(row for row in table.rows if row.name.label == "xdp").cells[2]
    assert cell.main.startswith("≥ ")
    assert [mark.name for mark in cell.marks] == ["generator-limited"]


def test_marks_stand_beside_the_number_they_belong_to(summary: SummaryTable) -> None:
    row = next(row for row in summary.rows if row.name.label == "xdp")
    marks = {mark.name: mark.text for mark in row.cells[0].marks}
    assert list(marks) == ["paused", "inconclusive"]
    assert marks["inconclusive"] == "The load passed only after 4 attempts; between runs it may not."
    assert row.cells[2].marks == ()


def test_noisy_is_a_word_about_repeats(run: RunData) -> None:
    once = replace(run, plan=replace(run.plan, measure=replace(run.plan.measure, repeat=1)),
                   outcomes=tuple(o.model_copy(deep=True) for o in run.outcomes if o.repeat == 0))
    for outcome in once.outcomes:
        outcome.verdicts.append(Verdict.NOISY)
        if outcome.pdr is not None:
            outcome.pdr.verdicts.append(Verdict.NOISY)
    points = summarise(once)
    assert all(Verdict.NOISY not in point.verdicts for point in points)
    assert points[0].pdr.verdicts == (Verdict.CUT_SHORT,)
    twice = [o.model_copy(deep=True) for o in run.outcomes]
    for outcome in twice:
        if outcome.pdr is not None and outcome.pdr.pps is not None:
            outcome.pdr.pps *= 1.1 if outcome.repeat else 1.0
    points = summarise(replace(run, outcomes=tuple(twice)))
    assert all(Verdict.NOISY in point.pdr.verdicts for point in points if point.pdr.rate)


def test_first_attempts_that_all_failed_are_said(run: RunData) -> None:
    outcomes = [o.model_copy(deep=True) for o in run.outcomes]
    for outcome in outcomes:
        if outcome.pdr_raw is not None:
            outcome.pdr_raw.pps = None
    points = summarise(replace(run, outcomes=tuple(outcomes)))
    table = summary_table(points, name_points(points, looks(p.plan for p in points), ""), 0.005)
    assert "first attempts: none passed" in table.rows[0].cells[1].subs
    made = [trial for trial in run.trials if trial.phase is Phase.SEARCH]
    replaced = sum(trial.superseded for trial in made)
    assert replaced
    assert any(f"{replaced} of {len(made)} search trials were repeated" in note for note in table.notes)


def test_cpu_without_a_figure_has_its_note(run: RunData) -> None:
    trials = [t.model_copy(deep=True) for t in run.trials]
    for trial in trials:
        trial.cpu, trial.cpu_note = None, "the sampler stopped"
    points = summarise(replace(run, trials=tuple(trials)))
    table = summary_table(points, name_points(points, looks(p.plan for p in points), ""), 0.005)
    assert {(c.main, c.why) for c in table.rows[0].cells[5:]} == {("n/a", "the sampler stopped")}


def test_missing_is_na_with_its_reason_never_a_zero(summary: SummaryTable) -> None:
    row = next(row for row in summary.rows if row.name.cores.startswith("2 cores") and "reuseport" in row.name.label)
    assert row.cells[0].main == "n/a"
    assert "frames were lost" in row.cells[0].why


def test_a_failed_point_says_so_once(summary: SummaryTable) -> None:
    row = summary.rows[-1]
    assert row.nothing.startswith("failed: testpmd did not start")
    assert [badge.name for badge in row.badges] == ["failed", "lab"]


def test_polling_is_never_a_plain_percentage(summary: SummaryTable) -> None:
    row = next(row for row in summary.rows if row.name.label == "dpdk" and not row.nothing)
    busiest, given, cost = row.cells[5:]
    assert busiest.main == "polls"
    assert "% of polls useful" in busiest.subs[0]
    assert "polls included" in given.subs
    assert "empty polls included" in cost.subs


def test_one_kind_of_cost_in_a_column(summary: SummaryTable, points: Points, names: dict[str, PointName]) -> None:
    assert {row.cells[7].subs[:2] for row in summary.rows if not row.nothing} == {("core-%/kpps", "at 100 kpps")}
    assert summary.headings[7].unit == "per packet at 100 kpps"
    kernel = summary_table(points[:3], names, 0.005)
    assert {row.cells[7].subs[:2] for row in kernel.rows} == {("cycles", "at 100 kpps")}
    assert any("time x nominal frequency" in note for note in kernel.notes)


def test_the_named_load_is_one_that_the_stacks_carry(points: Points) -> None:
    assert named_load(points, 0.005) == 100_000
    assert named_load(points[3:4], 0.005) == 400_000
    assert named_load(points[-1:], 0.005) is None


def test_a_percentile_without_samples_is_na(points: Points, names: dict[str, PointName]) -> None:
    table = latency_table(points, names)
    assert table is not None
    column = [heading.text for heading in table.headings].index("p99.9")
    cells = [cells[column] for name, cells in table.rows if name.cores.startswith("2 cores")]
    assert {cell.main for cell in cells} == {"n/a"}
    assert all("too few for p99.9" in cell.why for cell in cells)


def test_loss_stands_beside_the_latency_of_a_trial_that_lost(points: Points, names: dict[str, PointName]) -> None:
    point = next(p for p in points if p.latency and p.latency[0].at["p50"] is not None)
    for loss, shown in ((0.039, "3.9"), (0.0, "0"), (None, "n/a")):
        entry = replace(point.latency[0], loss_ratio=loss)
        table = latency_table([replace(point, latency=(entry,))], names)
        assert table is not None
        cell = table.rows[0][1][[heading.text for heading in table.headings].index("Lost")].main
        assert cell.startswith(shown)
        assert cell.endswith("*") is bool(loss)
        assert any(note.startswith("*") for note in table.notes) is bool(loss)


def test_a_complete_resumed_run_is_not_called_incomplete(run: RunData, points: Points) -> None:
    again = f"3 trials of points that had not ended were {LEFT_OUT}"
    whole = replace(run, info=run.info.model_copy(update={"state": "complete"}), problems=(again, "A line is missing."))
    titles = {caveat.text: caveat.title for caveat in caveats(whole, points)}
    assert titles[again] == "Resumed run"
    assert titles["A line is missing."] == "Incomplete run"


def test_latency_is_given_above_the_floor_that_the_run_measured(points: Points, names: dict[str, PointName]) -> None:
    echo = next(p for p in points if p.latency and p.latency[0].at["p50"] is not None)
    p50 = echo.latency[0].at["p50"]
    assert p50 is not None
    percentiles = Percentiles(samples=500, lost=0, out_of_order=0, duplicate=0, min_ns=1, max_ns=9, mean_ns=5,
                              jitter_ns=2, p50_ns=round(p50.median) - 3000, p90_ns=10**9, p99_ns=None, p999_ns=None,
                              resolution_ns=1)
    ceiling = Ceiling(frame_bytes=echo.plan.frame_bytes, host=echo.plan.host, stack="xdp", sent_pps=1.0,
                      received_pps=1.0, trial=1, floor=Floor(load_pps=1e4, trial=2, percentiles=percentiles))
    table = floor_table([echo], names, [ceiling])
    assert table is not None
    cells = table.rows[0][1]
    assert cells[1].main == "+3.0"
    assert cells[2].main.startswith("-")
    assert (cells[3].main, "the floor has too few samples" in cells[3].why) == ("n/a", True)
    assert "10 kpps" in table.notes[0]
    assert floor_table([echo], names, [ceiling.model_copy(update={"floor": None})]) is None


def test_loss_by_place_adds_up(points: Points, names: dict[str, PointName]) -> None:
    table = loss_table(points, names)
    assert table is not None
    assert table.places[-2:] == ("unexplained", HOST_PAUSE)
    for row in table.rows:
        assert sum(share for _, share in row.cells[:-1]) == pytest.approx(float(row.lost.split()[0]) / 100, abs=2e-4)
    assert table.notes == ()


def test_what_pauses_can_have_cost_is_a_share_of_sent_or_not_known(points: Points, names: dict[str, PointName]) -> None:
    def cells(lost: int | None) -> set[tuple[str, float]]:
        told = Pauses(generator=0, dut=1, total_ns=1, longest_ns=1, lost_at_most=lost)
        paused = [replace(p, trials=tuple(t.model_copy(update={"pauses": told, "sent": 1000}) for t in p.trials))
                  for p in points]
        table = loss_table(paused, names)
        assert table is not None
        return {row.cells[-1] for row in table.rows}

    assert cells(15) == {("1.50 %", 0.015)}
    assert cells(0) == {("0", 0.0)}
    assert cells(None) == {("n/a", 0.0)}


def test_a_place_that_no_counter_told_of_is_not_a_zero(points: Points, names: dict[str, PointName]) -> None:
    told = {"qdisc": "the kernel does not tell"}
    mute = [replace(p, trials=tuple(t.model_copy(update={"unread": told}) for t in p.trials)) for p in points]
    table = loss_table(mute, names)
    assert table is not None
    assert {row.cells[table.places.index("qdisc")] for row in table.rows} == {("n/a", 0.0)}
    assert table.notes == ("qdisc: the kernel does not tell",)
    lossless = [replace(p, trials=tuple(t.model_copy(update={"losses": {}, "lost": 0, "unexplained": 0})
                                        for t in p.trials)) for p in mute]
    assert loss_table(lossless, names) is None


def test_troubles_list_what_has_no_number(points: Points, names: dict[str, PointName]) -> None:
    found = troubles(points, names)
    assert [(t.status, t.repeats) for t in found] == [("failed", "2 repeats")]
    optional = [replace(p, status="skipped", plan=replace(p.plan, if_supported=True)) if p.status == "failed" else p
                for p in points]
    assert [t.status for t in troubles(optional, names)] == ["skipped, as the scenario allows"]


def test_the_first_rows_are_what_the_script_will_write(run: RunData, points: Points) -> None:
    table = trial_table(run, points)
    assert table.total == len(run.trials)
    assert len(table.data["rows"]) == table.total
    keys = [column.key for column in table.columns]
    texts = dict(zip(keys, table.first[0], strict=True))
    assert texts["phase"] == "ceiling"
    assert texts["p99"] == "n/a"
    polling = next(row for row in table.data["rows"] if row[1] in table.data["polls"])
    shown = text_row(polling, table.columns, table.data["points"], table.data["phases"], set(table.data["polls"]))
    assert shown[keys.index("cpu")].startswith("polls, ")


def test_a_failed_trial_has_no_zeros(run: RunData, points: Points) -> None:
    broken = run.trials[5].model_copy(update={"status": "failed", "reason": "generator died", "offered_pps": 0.0,
                                              "forwarding_pps": 0.0, "lost": 0, "loss_ratio": None, "unexplained": 0})
    table = trial_table(replace(run, trials=(broken,)), points)
    texts = dict(zip([column.key for column in table.columns], table.first[0], strict=True))
    assert texts["offered"] == texts["forwarded"] == texts["lost"] == texts["loss"] == "n/a"
    assert "generator died" in texts["marks"]


def at(point: PointSummary, *ndr: float) -> PointSummary:
    """The point with these repeats of its NDR."""
    return replace(point, ndr=replace(point.ndr, rate=Spread.of(ndr), by_repeat=dict(enumerate(ndr))))


def sound(points: Iterable[PointSummary]) -> list[PointSummary]:
    """The points with three repeats of their NDR and without a mark."""
    clean = [replace(p, verdicts=(), ndr=replace(p.ndr, verdicts=())) for p in points]
    return [at(p, r.low, r.median, r.high) if (r := p.ndr.rate) is not None else p for p in clean]


@pytest.mark.parametrize("mark", [Verdict.PAUSED, Verdict.CONTRADICTED, Verdict.OTHER_LOAD, None])
def test_doubtful_rates_are_said_without_a_factor(run: RunData, points: Points, mark: Verdict | None) -> None:
    best, other = sound(points)[3:5]
    assert "2.8 times dpdk" in answer(run, (best, other), looks(p.plan for p in points)).headline
    assert other.ndr.rate is not None
    if mark is None:
        other = at(other, other.ndr.rate.median)
    elif mark is Verdict.OTHER_LOAD:
        other = replace(other, verdicts=(mark,))
    else:
        other = replace(other, ndr=replace(other.ndr, verdicts=(mark,)))
    said = answer(run, (best, other), looks(p.plan for p in points))
    assert "times" not in said.headline
    assert said.headline.endswith("on one core: dpdk 287 kpps")
    why = "measured once" if mark is None else f"marked {mark.value}"
    assert f"No factor is given between rates that were {why}." in said.deck


def test_the_headline_answers_with_numbers(run: RunData, points: Points) -> None:
    points = tuple(sound(points))
    said = answer(run, points, looks(p.plan for p in points))
    assert said.headline.startswith("xdp echoes 8")
    best, other = points[3].ndr.rate, points[4].ndr.rate
    assert best is not None
    assert other is not None
    assert (f"{best.median / 1000:.0f} kpps of 64-byte frames without loss on one core: "
            f"{best.median / other.median:.1f} times dpdk") in said.headline
    assert "1,024 UDP flows" in said.deck[0]


def test_noise_that_hides_a_difference_is_said_with_what_would_have_been_seen(run: RunData, points: Points) -> None:
    wide = [at(p, 50e3, p.ndr.rate.median, 900e3) for p in sound(points) if p.ndr.rate is not None]
    said = answer(run, wide, looks(p.plan for p in wide))
    assert said.headline.count("no difference seen from") == 3
    (worth,) = (line for line in said.deck if " against " in line)
    assert len(re.findall(r"no difference seen \(-\d+\.\d to \+\d+\.\d %, p 0\.\d+; would have seen: \d+\.\d %\)",
                          worth)) == 3


def test_two_repeats_give_no_factor_and_three_give_it_with_interval_and_p(run: RunData, points: Points) -> None:
    styles = looks(p.plan for p in points)
    best, other = sound(points)[3:5]
    twice = answer(run, (at(best, 411e3, 411e3), at(other, 300e3, 300e3)), styles)
    assert twice.headline.endswith("411 kpps of 64-byte frames without loss on one core: dpdk 300 kpps")
    assert "No factor is given between rates that were measured twice." in twice.deck
    assert "Two repeats: a difference of this size may be chance." in twice.deck
    # Ratios of the rounds 1.37 x (0.99, 1, 1.01): a standard deviation of 0.01 in logarithms, t 4.303 of 2 degrees.
    rounds = replace(run, plan=replace(run.plan, sequence=tuple(sorted(run.plan.sequence))))
    pair = at(best, 1.37 * 297e3, 1.37 * 310e3, 1.37 * 323.2e3), at(other, 300e3, 310e3, 320e3)
    thrice = answer(rounds, pair, styles)
    assert "37 % more than dpdk" in thrice.headline
    assert ("xdp against dpdk +37.0 % (+33.6 to +40.4 %, p <0.001): paired by round, differences of geometric means, "
            "95 % interval, p.") in thrice.deck


def test_lower_bounds_give_no_ratio(run: RunData, points: Points) -> None:
    styles = looks(p.plan for p in points)
    points = tuple(sound(points))
    best, second, third = points[3], points[4], points[0]
    limited = replace(best, ndr=replace(best.ndr, at_least=True))
    said = answer(run, (limited, second), styles).headline
    assert "xdp echoes at least 8" in said
    assert ": at least 2.8 times dpdk" in said
    mixed = answer(run, (best, replace(second, ndr=replace(second.ndr, at_least=True)), third), styles)
    assert mixed.headline.count(" times ") == 1
    assert "dpdk" not in mixed.headline
    assert any(line.startswith("No ratio can be given to dpdk (at least 2") and line.endswith(
        " kpps): it may be faster than measured.") for line in mixed.deck)
    both = [replace(p, ndr=replace(p.ndr, at_least=True)) for p in (best, second)]
    said = answer(run, both, styles)
    assert re.fullmatch(r"The generator was the limit: at least 2\S+ kpps of 64-byte frames without loss on one core "
                        r"with each of xdp and dpdk", said.headline)
    assert not any("may be chance" in line or "No ratio" in line for line in said.deck)


def once(point: PointSummary, pps: float) -> PointSummary:
    """The point with one repeat, at this NDR."""
    return at(point, pps)


def test_few_repeats_are_said_beside_the_headline(run: RunData, points: Points) -> None:
    styles = looks(p.plan for p in points)
    close = (once(points[0], 568e3), once(points[1], 462e3))
    deck = answer(run, close, styles).deck
    assert "One repeat: a difference of this size may be chance." in deck
    assert "One repeat: which is the fastest may be chance." in answer(
        run, (once(points[0], 568e3), once(points[1], 62e3)), styles).deck
    many = [at(p, pps, pps, pps) for p, pps in zip(close, (9e5, 1e5), strict=True)]
    assert not any("repeat:" in line or "repeats:" in line for line in answer(run, many, styles).deck)


def test_verdicts_on_the_numbers_compared_are_named(run: RunData, points: Points) -> None:
    marked = replace(once(points[0], 568e3), verdicts=(Verdict.OTHER_LOAD, Verdict.LAB))
    marked = replace(marked, ndr=replace(marked.ndr, verdicts=(Verdict.PAUSED,)))
    deck = answer(run, (marked, replace(once(points[3], 462e3), verdicts=())), looks(p.plan for p in points)).deck
    assert ("Marks on the numbers compared: linux-udp reuseport=false: paused, other-load; xdp: paused, inconclusive."
            in deck)


def test_a_difference_within_the_search_width_is_none(run: RunData, points: Points) -> None:
    first, *others = sound(points[:2])
    assert first.ndr.rate is not None
    for share, word in ((0.996, "no difference seen from"), (0.99, "1.0 % more than")):
        pair = at(first, *[first.ndr.rate.median] * 3), at(others[0], *[first.ndr.rate.median * share] * 3)
        assert word in answer(run, pair, looks(p.plan for p in points)).headline


def test_a_machine_that_stood_still_is_said_once(run: RunData, points: Points) -> None:
    paused = [replace(p, verdicts=(Verdict.PAUSED,)) for p in points]
    styles = looks(p.plan for p in points)
    assert answer(run, paused, styles).deck[-1].startswith("This machine stood still often: 10 of ")
    assert not any("stood still" in line for line in answer(run, points, styles).deck)
    never = [replace(p, trials=tuple(t.model_copy(update={"superseded": False}) for t in p.trials)) for p in paused]
    assert not any("stood still" in line for line in answer(run, never, styles).deck)


def test_first_attempts_say_nothing_of_pauses_where_nothing_was_repeated(run: RunData) -> None:
    calm = replace(run, trials=tuple(t.model_copy(update={"superseded": False}) for t in run.trials))
    points = summarise(calm)
    assert any(p.ndr.raw for p in points)
    assert not any("repeated" in caveat.title for caveat in caveats(calm, points))
    table = summary_table(points, name_points(points, looks(p.plan for p in points), ""), 0.005)
    assert "“first attempts”: highest load whose first attempt met the goal." in table.notes


@pytest.fixture
def curve_only(run: RunData) -> RunData:
    """A run that was asked for nothing but a load curve."""
    measure = replace(run.plan.measure, search=None, latency_fractions=())
    bare = {"mrr": None, "ndr": None, "pdr": None, "ndr_raw": None, "pdr_raw": None, "latency": []}
    return replace(run, plan=replace(run.plan, measure=measure),
                   trials=tuple(t for t in run.trials if t.phase is Phase.LOAD),
                   outcomes=tuple(o.model_copy(update=bare) for o in run.outcomes))


def test_a_load_curve_alone_has_a_headline_and_only_its_columns(curve_only: RunData) -> None:
    points = summarise(curve_only)
    styles = looks(p.plan for p in points)
    said = answer(curve_only, points, styles).headline
    assert said.startswith("At 100 kpps of 64-byte frames on one core: xdp uses 8 core-%, linux-udp reuseport=true")
    assert said.endswith(" (loses 0.057 %) and dpdk polls, 22 % of its polls useful")
    names = name_points(points, styles, "")
    table = summary_table(points, names, 0.005)
    assert [heading.text for heading in table.headings] == ["Busiest core", "All given cores", "Cost"]


def test_other_programs_are_named_beside_the_point(run: RunData) -> None:
    trials = [t.model_copy(deep=True) for t in run.trials]
    for trial in trials:
        if trial.cpu is not None and trial.phase is Phase.LOAD and trial.point.startswith("xdp"):
            trial.verdicts.append(Verdict.OTHER_LOAD)
            trial.cpu.other = ["core 1: Web Content 5.0 %"]
    outcomes = [o.model_copy(deep=True) for o in run.outcomes]
    for outcome in outcomes:
        if outcome.point.startswith("xdp"):
            outcome.verdicts.append(Verdict.OTHER_LOAD)
    changed = replace(run, trials=tuple(trials), outcomes=tuple(outcomes))
    after = summarise(changed)[3]
    found = {caveat.verdict: caveat for caveat in caveats(changed, summarise(changed))}
    assert found["other-load"].points == ("xdp, 1 core, 64 B (Web Content in 8 trials)",)
    table = summary_table((after,), name_points((after,), looks([after.plan]), ""), 0.005)
    assert "other-load" in [badge.name for badge in table.rows[0].badges]


def test_every_verdict_has_its_words() -> None:
    assert set(VERDICTS) == set(Verdict)


def test_an_interrupted_point_shows_what_it_had_found(run: RunData) -> None:
    kept = []
    for outcome in run.outcomes:
        if outcome.point.startswith("xdp") and not outcome.repeat:
            kept.append(outcome.model_copy(update={"status": "interrupted", "reason": "Ctrl-C", "pdr": None}))
    info = run.info.model_copy(update={"state": "interrupted"})
    cut = replace(run, info=info, outcomes=tuple(kept),
                  trials=tuple(t for t in run.trials if t.point.startswith("xdp")))
    points = summarise(cut)
    styles = looks(p.plan for p in points)
    assert [p.status for p in points] == ["missing"] * 3 + ["interrupted"] + ["missing"] * 2
    assert answer(cut, points, styles).headline.startswith("xdp echoes 8")
    names = name_points(points, styles, "")
    row = summary_table(points, names, 0.005).rows[3]
    assert (row.nothing, row.cells[1].main, row.cells[1].why) == ("", "n/a", "Ctrl-C")
    assert row.cells[0].main != "n/a"
    assert [t.status for t in troubles(points, names)][3] == "not finished"
    assert {caveat.title for caveat in caveats(cut, points)} >= {"Points not reached", "Point not finished"}
    without = replace(cut, outcomes=(), trials=tuple(t for t in cut.trials if t.phase is Phase.SEARCH))
    said = answer(without, summarise(without), styles).headline
    assert said == "No point was finished: the run ended in the middle of xdp, 1 core"


def test_the_order_is_what_the_plan_did(run: RunData, points: Points) -> None:
    def order(changed: RunData) -> str:
        return dict(method(changed, points).settings[0].pairs)["Order"]

    assert order(run) == f"points shuffled within each repeat, seed {run.info.seed}"
    given = tuple((r, p.id) for r in range(run.plan.measure.repeat) for p in run.plan.points)
    assert order(replace(run, plan=replace(run.plan, sequence=given))).startswith("points as listed")


def test_nothing_measured_is_said(run: RunData, points: Points) -> None:
    said = answer(run, points[-1:], looks(p.plan for p in points))
    assert said.headline.startswith("Nothing was measured")


def test_caveats_name_the_points(run: RunData, points: Points) -> None:
    found = {caveat.verdict or caveat.title: caveat for caveat in caveats(run, points)}
    assert found["degraded"].points == ("dpdk, 1 core, 64 B (AF_XDP copy mode)",)
    repeated = found["Trials repeated"]
    assert "10 of " in repeated.text
    assert "10 because they lost frames while a core stood still" in repeated.text
    assert "first attempts" in repeated.points[0]
    assert "trials repeated)" in repeated.points[0]
    assert next(iter(found)) == "failed"
    assert "lab" not in found


def test_embedded_json_cannot_end_its_element() -> None:
    text = str(embedded_json({"a": "</script><!--&\u2028"}))
    assert "<" not in text
    assert "&" not in text
    assert json.loads(text) == {"a": "</script><!--&\u2028"}


def test_a_note_is_said_once(run: RunData, points: Points) -> None:
    twice = replace(run, info=run.info.model_copy(update={"notes": [*run.plan.notes, "another"]}))
    assert method(twice, points).notes == (*run.plan.notes, "another")


def repeated(run: RunData, rates: dict[str, list[float]]) -> tuple[PointSummary, ...]:
    """The run's points, NDR of these stacks as given, a repeat each."""
    outcomes = []
    for point in run.plan.points:
        source = next((o for o in run.outcomes if o.point == point.id), None)
        if source is None or source.ndr is None or source.ndr.pps is None:
            continue
        for repeat, pps in enumerate(rates.get(point.stack, [1e4, 1.001e4, 1.002e4])):
            outcomes.append(source.model_copy(deep=True, update={
                "repeat": repeat, "ndr": source.ndr.model_copy(update={"pps": pps, "load_pps": pps, "verdicts": []})}))
    return summarise(replace(run, outcomes=tuple(outcomes)))


def test_three_repeats_show_their_interval_and_noise_its_suspected_cause(run: RunData) -> None:
    points = repeated(run, {"xdp": [790e3, 800e3, 810e3], "dpdk": [299e3, 300e3, 301e3]})
    by_stack = {point.plan.stack: point for point in points if point.ndr.rate is not None}
    xdp, dpdk = by_stack["xdp"], by_stack["dpdk"]
    unit = rate_unit([800e3])
    # geometric mean 799.96, standard deviation of the logarithms 0.0125: 799.96 exp(-+4.303 x 0.0125 / sqrt(3))
    assert rate_cell(xdp.ndr, unit).subs[0] == "775\u00a0–\u00a0825 (95\u00a0%)"
    assert Verdict.NOISY in xdp.ndr.verdicts
    assert Verdict.NOISY not in dpdk.ndr.verdicts
    assert dpdk.suspects == ()
    noisy = next(c for c in caveats(run, points) if c.verdict == "noisy")
    told = next(title for title in noisy.points if title.startswith("xdp, 1 core"))
    made = sum(t.point == xdp.plan.id and t.phase is not Phase.WARMUP for t in run.trials)
    assert f"(suspected cause: pauses in 2 of {made} trials (longest 1.7ms))" in told


def test_points_of_one_run_are_compared_round_by_round(run: RunData) -> None:
    """Rounds that drift by 20 % hide nothing where every round has both points; unpaired none would be seen."""
    drift = [1.0, 1.1, 1.2]
    points = [p for p in repeated(run, {"xdp": [400e3 * d for d in drift],
                                        "dpdk": [360e3 * d * w for d, w in zip(drift, (1, 1.001, 0.999), strict=True)]})
              if p.plan.stack in ("xdp", "dpdk") and p.ndr.rate is not None]
    styles = looks(p.plan for p in points)
    rounds = replace(run, plan=replace(run.plan, sequence=tuple(sorted(run.plan.sequence))))
    assert "11 % more than dpdk" in answer(rounds, points, styles).headline
    blocks = replace(run, plan=replace(run.plan, sequence=tuple(sorted(run.plan.sequence, key=lambda s: s[1]))))
    assert "no difference seen from dpdk" in answer(blocks, points, styles).headline


def test_what_a_stack_cannot_record_and_who_else_sent_stands_with_the_stack(run: RunData) -> None:
    outcomes = [o.model_copy(update={"remark": "lock waits: not available", "strays": "frames not the test: 3"})
                for o in run.outcomes]
    told = replace(run, outcomes=outcomes)
    text = str(method(told, summarise(told)).settings)
    assert "lock waits: not available" in text
    assert "frames not the test: 3" in text
