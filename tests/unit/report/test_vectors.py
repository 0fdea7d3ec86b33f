# SPDX-License-Identifier: Apache-2.0
"""The table of vectors: frames per call and clocks per packet at each load, for stacks that count them."""

from __future__ import annotations

import dataclasses

from harness.records import Phase
from harness.report.identity import looks
from harness.report.summarise import PointSummary
from harness.report.tables import name_points
from harness.report.vectors import vector_table
from tests.unit.report.synthetic import LOADS, MODELS


def test_vectors_and_clocks_are_given_at_each_load(points: tuple[PointSummary, ...], page: str) -> None:
    table = vector_table(points, name_points(points, looks(point.plan for point in points), ""))
    assert table is not None
    assert [f"{h.text} {h.unit}" for h in table.headings] == ["Offered kpps", "Vector frames per call",
                                                              "Clocks per packet"]
    counting = [model for model in MODELS if model.split]
    assert [[cell.main for cell in cells] for _, cells in table.rows] == [
        [f"{load / 1000:.1f}", "8.00", "250"] for _ in counting for load in LOADS]
    assert "Vectors and what a packet costs in them" in page


def test_a_stack_that_counts_none_has_no_row_and_a_trial_without_turns_no_vector(
        points: tuple[PointSummary, ...]) -> None:
    names = name_points(points, looks(point.plan for point in points), "")
    counting = [p for p in points if vector_table([p], names)]
    assert vector_table([p for p in points if p not in counting], names) is None
    idle = [trial.model_copy(update={"counters": {"stack": trial.counters["stack"] | {"calls": 0}}})
            for trial in counting[0].trials if trial.phase is Phase.LOAD]
    table = vector_table([dataclasses.replace(counting[0], trials=tuple(idle))], names)
    assert table is not None
    assert {(cells[1].main, cells[1].why) for _, cells in table.rows} == {("n/a", "no calls were counted")}
