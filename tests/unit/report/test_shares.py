# SPDX-License-Identifier: Apache-2.0
"""Tables of shares: imbalance is seen, nothing is said about RSS with one live queue, each direction and the sum."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.plan import SIMPLE_IMIX
from harness.records import Bound, Direction
from harness.report.identity import looks
from harness.report.shares import balance_table, direction_table, fullest
from harness.report.summarise import PointSummary
from harness.report.tables import PlainTable, name_points

Points = tuple[PointSummary, ...]


def with_counters(point: PointSummary, counters: dict[str, Any]) -> PointSummary:
    best = fullest(point)
    assert best is not None
    return dataclasses.replace(point, trials=tuple(
        trial.model_copy(update={"counters": counters}) if trial is best else trial for trial in point.trials))


def table_of(point: PointSummary) -> PlainTable | None:
    return balance_table([point], name_points([point], looks([point.plan]), "p-"))


def queues(*frames: int) -> dict[str, Any]:
    return {"interfaces": {"d0": {f"rx_queue_{n}_xdp_packets": count for n, count in enumerate(frames)}}}


def test_imbalance_of_queues_and_workers_is_seen(points: Points) -> None:
    workers = [{"core": n + 1, "received": count} for n, count in enumerate((90, 10, 0))]
    table = table_of(with_counters(points[2], queues(60, 20) | {"workers": workers}))
    assert table is not None
    (_, by_queue), (_, by_worker) = table.rows
    assert by_queue[1].main == "1,024"
    assert (by_queue[2].main, by_queue[2].subs) == ("2 of 2", ("receive queues of d0",))
    assert [cell.main for cell in by_queue[3:]] == ["75.0 % · 25.0 %", "1.50", "0.800"]
    assert (by_worker[2].main, by_worker[3].subs) == ("2 of 3", ("core 1 · core 2 · core 3",))
    assert [cell.main for cell in by_worker[4:]] == ["2.70", "0.407"]


def test_one_live_queue_says_nothing_about_rss(points: Points) -> None:
    table = table_of(with_counters(points[3], queues(100, 0)))
    assert table is not None
    (_, cells), = table.rows
    assert (cells[2].main, cells[2].subs) == ("1 of 2", ("receive queues of d0",))
    assert [cell.main for cell in cells[3:]] == ["n/a", "–", "–"]
    assert "nothing can be said about RSS" in cells[3].why
    by_stack = {"workers": [{"port": 0, "queue": n, "received": 100 * (n == 0)} for n in range(2)]}
    for counters, rows in ((queues(100, 0) | by_stack, 1), (by_stack, 1)):
        table = table_of(with_counters(points[3], counters))
        assert table is not None
        assert [cells[3].main for _, cells in table.rows] == ["n/a"] * rows


def test_many_queues_are_summed_up_and_none_give_no_table(points: Points) -> None:
    table = table_of(with_counters(points[3], queues(*[10] * 63, 640)))
    assert table is not None
    cells = table.rows[0][1]
    assert cells[3].subs == ("median 0.8 %, 64 members",)
    assert cells[4].main == "32.3"
    assert table_of(with_counters(points[3], {})) is None


def test_each_direction_and_the_sum(points: Points) -> None:
    plan = points[3].plan
    there = plan.directions[0]
    back = dataclasses.replace(there, tx_port=1, rx_port=0)
    both = dataclasses.replace(plan, directions=(dataclasses.replace(there, rx_port=1), back))
    trials = tuple(t.model_copy(update={"directions": [
        Direction(tx_port=0, rx_port=1, asked=t.sent, sent=4_000, received=4_000, lost=0),
        Direction(tx_port=1, rx_port=0, asked=t.sent, sent=4_000, received=3_000, lost=1_000),
    ]}) for t in points[3].trials)
    found = fullest(points[3])
    assert found is not None
    bound = Bound(pps=found.forwarding_pps, load_pps=found.offered_pps, upper_pps=None)
    outcomes = tuple(o.model_copy(update={"ndr": bound, "pdr": bound, "mrr": bound}) for o in points[3].outcomes)
    point = dataclasses.replace(points[3], plan=both, trials=trials, outcomes=outcomes)
    table = direction_table([point], name_points([point], looks([both]), "p-"))
    assert table is not None
    assert [heading.text for heading in table.headings] == ["At", "Offered", "Forwarded, port 0 → 1",
                                                            "Forwarded, port 1 → 0", "Sum"]
    assert [cells[0].main for _, cells in table.rows] == ["NDR", "PDR", "MRR", *["load curve"] * 4]
    assert {cells[2].subs + cells[3].subs for _, cells in table.rows} == {("0.000 % lost", "25.000 % lost")}
    assert direction_table(points, name_points(points, looks(p.plan for p in points), "p-")) is None


def test_a_mix_is_named_wherever_its_size_would_be(points: Points) -> None:
    plan = dataclasses.replace(points[3].plan, mix=SIMPLE_IMIX)
    point = dataclasses.replace(points[3], plan=plan)
    assert name_points([point], looks([plan]), "p-")[plan.id].frame == "IMIX 7:4:1 (mean 361.8 B)"


def test_the_page_has_the_table(page: str) -> None:
    assert "Shares of queues and workers" in page
