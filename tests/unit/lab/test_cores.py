# SPDX-License-Identifier: Apache-2.0
"""Dividing cores between generator and DUT."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.lab.cores import CorePauses, CoreSplit, physical_cores, split_cores
from harness.lab.errors import LabError
from harness.lab.pause_probe import watch

QUIET, NOISY = CorePauses(0, 0, 0), CorePauses(9, 9_000_000, 2_000_000)


@pytest.mark.parametrize(("noisy", "tg", "dut"), [(0, (0,), (1,)), (1, (1,), (0,))])
def test_the_quieter_core_goes_to_the_dut(noisy: int, tg: tuple[int, ...], dut: tuple[int, ...]) -> None:
    pauses = {core: NOISY if core == noisy else QUIET for core in (0, 1)}
    split = split_cores([(0,), (1,)], pauses)
    assert (split.tg, split.dut) == (tg, dut)


def test_on_a_tie_the_lowest_core_goes_to_the_generator() -> None:
    assert split_cores([(0,), (1,)], {0: QUIET, 1: QUIET}).tg == (0,)


@pytest.mark.parametrize(("count", "tg_count"), [(2, 1), (3, 1), (4, 2), (5, 2), (8, 4), (9, 4)])
def test_the_generator_gets_one_in_two_up_to_half(count: int, tg_count: int) -> None:
    split = split_cores([(core,) for core in range(count)], {})
    assert len(split.tg) == tg_count
    assert sorted(split.tg + split.dut) == list(range(count))


def test_hardware_threads_of_a_core_stay_on_one_side(tmp_path: Path) -> None:
    for core, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        topology = tmp_path / f"cpu{core}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n", encoding="ascii")
    groups = physical_cores(range(4), tmp_path)
    assert groups == [(0, 2), (1, 3)]
    split = split_cores(groups, {3: NOISY})
    assert (split.tg, split.dut) == ((1, 3), (0, 2))


def test_a_single_core_with_two_threads_is_divided() -> None:
    split = split_cores([(0, 1)], {})
    assert (split.tg, split.dut) == ((0,), (1,))


def test_one_core_is_refused() -> None:
    with pytest.raises(LabError, match="two cores"):
        split_cores([(0,)], {})


def test_live_queues_spread_over_all_cores_of_the_other_side() -> None:
    split = CoreSplit(tg=(0, 2, 4, 6), dut=(1, 3, 5, 7), pauses={})
    assert [split.dut_core_of_queue(queue) for queue in split.tg] == [1, 3, 5, 7]
    assert [split.tg_core_of_queue(queue) for queue in split.dut] == [0, 2, 4, 6]
    assert all(split.dut_core_of_queue(queue) in split.dut for queue in range(8))
    assert all(split.tg_core_of_queue(queue) in split.tg for queue in range(8))


def test_probe_counts_gaps_of_at_least_the_threshold() -> None:
    count, total, longest = watch(0.01, 1)
    assert count > 100
    assert total >= longest > 0
    assert watch(0.01, 10**12) == (0, 0, 0)
