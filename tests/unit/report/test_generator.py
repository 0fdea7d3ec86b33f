# SPDX-License-Identifier: Apache-2.0
"""What TRex said of itself, by load: the busiest link against its speed, frames not taken with the driver's names, late
latency frames; nothing where no generator told, and nothing of hostile values."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.analysis.table import trial_row
from harness.records import Phase
from harness.report.generatortable import generator_table
from harness.report.identity import looks
from harness.report.summarise import PointSummary
from harness.report.tables import PlainTable, name_points

TOLD = {"receiving_utilisation": 0.5, "queue_full": 7, "late_latency": 3, "strange_latency": 1, "rx_drop_bps": 2.5e6,
        "errors": {"0": {"ierrors": 40, "oerrors": 0}, "1": {"ierrors": 2, "oerrors": 0}},
        "nic": {"0": {"rx_missed_errors": 40}, "1": {"rx_missed_errors": 1, "rx_crc_errors": 1}},
        "link_gbps": {"0": {"o": 1.25, "i": 0.0}, "1": {"o": 0.0, "i": 1.0}},
        "missed": 42, "link_out_gbps": 1.25, "link_in_gbps": 1.0}


def told(point: PointSummary, generator: Any) -> PointSummary:
    """The point whose trials of the highest load have this."""
    highest = max(trial.asked_pps for trial in point.trials if trial.phase is Phase.LOAD)
    return dataclasses.replace(point, trials=tuple(
        trial.model_copy(update={"counters": {"generator": generator}})
        if trial.phase is Phase.LOAD and trial.asked_pps == highest else trial for trial in point.trials))


def table_of(point: PointSummary) -> PlainTable | None:
    return generator_table([point], name_points([point], looks([point.plan]), "p-"))


def test_a_row_a_load_with_links_losses_and_late_frames(points: tuple[PointSummary, ...]) -> None:
    point = told(points[0], TOLD)
    table = table_of(point)
    assert table is not None
    (_, cells), = table.rows
    repeats = sum("generator" in trial.counters for trial in point.trials)
    by_name = dict(zip([heading.text for heading in table.headings], cells, strict=True))
    assert (by_name["Link out"].main, by_name["Link out"].subs) == ("1.25", ("(12.5 %)",))
    assert by_name["Link in"].main == "1.00"
    assert (by_name["Not taken"].main, by_name["Not taken"].subs) == (
        f"{42 * repeats}", (f"rx_missed_errors: {41 * repeats}", f"rx_crc_errors: {repeats}"))
    assert [by_name[name].main for name in ("Full queue", "Late latency", "Strange latency")] == [
        f"{count * repeats}" for count in (7, 3, 1)]
    assert (by_name["Receiving core"].main, by_name["Drop rate"].main) == ("50", "2.50")


def test_older_and_hostile_records_have_no_figures(points: tuple[PointSummary, ...]) -> None:
    assert table_of(points[0]) is None
    hostile = {"errors": [1], "link_gbps": {"0": {"o": "x"}, "1": 3}, "late_latency": float("inf"), "nic": {"0": 1},
               "rx_drop_bps": None, "receiving_utilisation": "50"}
    table = table_of(told(points[0], hostile))
    assert table is not None
    (_, cells), = table.rows
    assert {cell.main for cell in cells[2:]} == {"n/a"}
    assert all(cell.why for cell in cells[2:])


def test_the_table_of_trials_has_one_value_a_trial(points: tuple[PointSummary, ...]) -> None:
    trial = next(trial for trial in told(points[0], TOLD).trials if "generator" in trial.counters)
    row = trial_row(trial)
    assert [row[f"generator_{name}"] for name in ("missed", "link_out_gbps", "link_in_gbps", "late_latency")] == [
        42, 1.25, 1.0, 3]
    assert row["generator_utilisation"] == trial.generator_utilisation
    assert trial_row(points[0].trials[0])["generator_missed"] is None
