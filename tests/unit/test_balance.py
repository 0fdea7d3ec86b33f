# SPDX-License-Identifier: Apache-2.0
"""Shares of queues and workers: idle ones count, ratios mean what they say, foreign data does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.balance import (
    Balance,
    identified,
    live_queues,
    queue_balance,
    with_idle_queues,
    worker_balance,
)
from harness.measure.accounting import rise


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=64).filter(any))
def test_ratios_lie_between_even_and_one_for_all(frames: list[int]) -> None:
    balance = Balance(tuple((str(n), count) for n, count in enumerate(frames)))
    n = len(frames)
    assert sum(share for _, share in balance.shares) == pytest.approx(1)
    assert 1 - 1e-9 <= balance.busiest <= n + 1e-9
    assert 1 / n - 1e-9 <= balance.jain <= 1 + 1e-9
    assert 1 <= balance.live <= sum(count > 0 for count in frames)


def test_even_and_uneven_shares() -> None:
    even, one = Balance((("a", 5), ("b", 5))), Balance((("a", 10), ("b", 0)))
    assert (even.busiest, even.jain) == (1, 1)
    assert (one.busiest, one.jain, one.live) == (2, 0.5, 1)


def test_a_few_strays_make_no_queue_live() -> None:
    strays, few = Balance((("a", 99_949), ("b", 51))), Balance((("a", 990), ("b", 10)))
    assert (strays.live, few.live) == (1, 2)


def test_live_queues_are_those_that_the_driver_counted_not_those_that_were_planned() -> None:
    """One queue has all the frames of a port with four: nothing is said about RSS, whatever the cores."""
    one = {f"rx-{n}.packets": 90_000 * (n == 2) for n in range(4)}
    two = one | {"rx-0.packets": 80_000}
    silent = {"rx_packets": 90_000}
    assert live_queues({"interfaces": {"p0": one, "p1": silent}}, ["p0", "p1"], otherwise=4) == 1
    assert live_queues({"interfaces": {"p0": one, "p1": two}}, ["p0", "p1"], otherwise=4) == 2
    assert live_queues({"interfaces": {"p1": silent}}, ["p1"], otherwise=4) == 4


@pytest.mark.parametrize("name", ["rx_queue_{}_xdp_packets", "rx_queue_{}_packets", "rx-{}.packets", "rx{}_packets",
                                  "queue_{}_rx_cnt", "[{}]: rx_ucast_packets"])
def test_queues_by_the_names_of_drivers_with_the_idle_one(name: str) -> None:
    before = {name.format(n): 100 for n in range(3)} | {"rx_packets": 5, "rx_queue_0_drops": 1}
    after = before | {name.format(0): 400, name.format(10): 100, "rx_packets": 405}
    counters = {"interfaces": {"d0": with_idle_queues(after, rise(before, after))}}
    balance = queue_balance(counters, "d0")
    assert balance is not None
    assert balance.members == (("queue 0", 300), ("queue 1", 0), ("queue 2", 0), ("queue 10", 100))
    assert queue_balance(counters, "d1") is None


def test_workers_keep_what_tells_them_apart() -> None:
    before = [{"core": 2, "received": 10, "sent": 10}, {"core": 3, "received": 4, "sent": 4}]
    after = [{"core": 2, "received": 40, "sent": 10}, {"core": 3, "received": 4, "sent": 4}]
    rows = [identified(a, rise(b, a)) for b, a in zip(before, after, strict=True)]
    balance = worker_balance({"workers": rows})
    assert balance is not None
    assert balance.members == (("core 2", 30), ("core 3", 0))
    queues = worker_balance({"workers": [{"port": 0, "queue": n, "received": n} for n in range(3)]})
    assert queues is not None
    assert [name for name, _ in queues.members] == ["port 0, queue 0", "port 0, queue 1", "port 0, queue 2"]


@pytest.mark.parametrize("counters", [
    {}, {"workers": [], "interfaces": {}}, {"workers": [{"rx_packets": 5}]}, {"workers": [{"core": 1, "received": 0}]},
    {"workers": [{"core": 1, "received": "x"}]}, {"workers": [5], "interfaces": {"d0": 7}},
    {"interfaces": {"d0": {"rx_queue_0_packets": -5, "rx_queue_1_packets": 0}}},
])
def test_nothing_is_said_where_there_is_nothing(counters: dict[str, Any]) -> None:
    assert worker_balance(counters) is None
    assert queue_balance(counters, "d0") is None
