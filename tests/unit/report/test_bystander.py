# SPDX-License-Identifier: Apache-2.0
"""The bystander's section: rows by point and load, repeats together, and what it says when there was none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.measure.bystander import record
from harness.plan import BystanderSettings
from harness.records import Bystander, Phase, Verdict
from harness.report.bystander import BystanderSection, bystander_section
from harness.report.headline import answer
from harness.report.identity import looks
from harness.report.summarise import summarise
from harness.report.tables import name_points
from harness.rundata import RunData

SETTINGS = BystanderSettings("ssh", 20, 1.0)
MS = 1_000_000


def answered(count: int, ms: int, lost: int = 0) -> Bystander:
    return record(SETTINGS, "198.18.0.1:22", [(n, MS // 5, ms * MS, "") for n in range(count)]
                  + [(n, None, None, "no connection in time") for n in range(lost)])


def watched(run: RunData, series: Callable[[bool], Bystander]) -> RunData:
    """The run as if every load trial (True) and every point without load (False) had this series."""
    trials = [t.model_copy(update={"bystander": series(True)}) if t.phase is Phase.LOAD else t for t in run.trials]
    outcomes = [o.model_copy(update={"bystander_idle": series(False)}) for o in run.outcomes]
    plan = replace(run.plan, measure=replace(run.plan.measure, bystander=SETTINGS))
    return replace(run, plan=plan, trials=tuple(trials), outcomes=tuple(outcomes))


def section(run: RunData, series: Callable[[bool], Bystander]) -> BystanderSection | None:
    """The section of such a run."""
    run = watched(run, series)
    points = summarise(run)
    return bystander_section(run.plan, points, name_points(points, looks(p.plan for p in points), "p-"))


def test_repeats_are_put_together_by_load(run: RunData) -> None:
    found = section(run, lambda loaded: answered(30, 7 if loaded else 5))
    assert found is not None
    assert found.table is not None
    assert found.title == "SSH over the same port during load"
    rows = [cells for name, cells in found.table.rows if name.label == "xdp"]
    repeats = run.plan.measure.repeat
    rates = run.plan.measure.load_rates_pps
    assert [cells[0].main for cells in rows] == ["none", *(f"{rate / 1000:,.1f}" for rate in rates)]
    for cells in rows:
        assert cells[1].main == f"{30 * repeats}"
        assert cells[2].main.startswith("0")
    assert [float(rows[n][4].main) for n in (0, 1)] == [5.0, 7.0]
    assert rows[0][6].main == "n/a"
    assert "greetings are too few" in rows[0][6].why


def test_a_run_without_rates_is_headed_by_who_was_answered_and_marked_as_its_points_are(run: RunData) -> None:
    found = watched(run, lambda loaded: answered(30, 7))
    lost = answered(0, 0, lost=20)
    outcomes = [o.model_copy(update={"ndr": None, "pdr": None, "mrr": None, "verdicts": [Verdict.OTHER_LOAD]
                                     if o.point.startswith("xdp") else []}) for o in found.outcomes]
    trials = [t.model_copy(update={"bystander": lost}) if t.phase is Phase.LOAD and t.point.startswith("dpdk") else t
              for t in found.trials]
    found = replace(found, trials=tuple(trials), outcomes=tuple(outcomes))
    points = summarise(found)
    said = answer(found, points, looks(p.plan for p in points))
    assert said.headline.startswith("SSH connections over the port under load that were answered: ")
    all_of, none_of = said.headline.split(": ")[1].split("; ")
    tried = 30 * run.plan.measure.repeat * len(run.plan.measure.load_rates_pps)
    assert all_of.startswith(f"{tried} of {tried} with ")
    assert "xdp" in all_of
    assert none_of == f"none of {tried * 20 // 30} with dpdk"
    marks = next(sentence for sentence in said.deck if sentence.startswith("Marks on the numbers compared"))
    assert "xdp: other-load" in marks


def test_a_port_that_answers_nobody_is_all_lost_not_a_zero(run: RunData) -> None:
    found = section(run, lambda loaded: answered(0, 0, lost=20) if loaded else answered(20, 5))
    assert found is not None
    assert found.table is not None
    cells = next(cells for name, cells in found.table.rows if cells[0].main != "none")
    assert cells[2].main.startswith("100")
    assert "no connection in time" in cells[2].subs[0]
    assert [(c.main, c.why) for c in cells[3:]] == [("n/a", "none was answered")] * 5


def test_an_unavailable_bystander_says_why(run: RunData) -> None:
    found = section(run, lambda loaded: record(SETTINGS, "", [], reason="TRex has taken the ports"))
    assert found is not None
    assert (found.table, found.missing) == (None, "TRex has taken the ports")


def test_nothing_is_said_where_nobody_asked(run: RunData) -> None:
    points = summarise(run)
    assert bystander_section(run.plan, points, {}) is None


@pytest.mark.parametrize("field", ["bystander"])
def test_trials_from_before_there_were_bystanders_load(run: RunData, field: str) -> None:
    old = run.trials[0].model_dump(mode="json")
    del old[field]
    assert type(run.trials[0]).model_validate(old).bystander is None
