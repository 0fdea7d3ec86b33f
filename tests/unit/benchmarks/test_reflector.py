# SPDX-License-Identifier: Apache-2.0
"""What the reflector benchmark makes of counts and pauses with a known answer."""

from __future__ import annotations

from typing import Any

from benchmarks.reflector import judge, losses

MS = 1_000_000
RATE = 50_000.0


def windows(*deficits: int) -> list[dict[str, int]]:
    return [{"time": i * 100 * MS, "sent": 5000 * i, "received": 5000 * i - d} for i, d in enumerate(deficits)]


def watched(counts: list[dict[str, int]], generator: Any = (), dut: Any = ()) -> dict[str, Any]:
    return {"windows": counts, "pauses": list(generator), "dut_pauses": list(dut)}


def test_frames_on_their_way_are_not_lost() -> None:
    assert losses(windows(0, 7, 3, 40, 0)) == [0, 0, 0, 0, 0]
    assert losses(windows(0, 7, 30, 35, 30)) == [0, 7, 30, 30, 30]


def test_a_loss_without_a_pause_is_counted() -> None:
    figures = judge(watched(windows(0, 0, 90, 90)), RATE)
    assert (figures["lost"], figures["lost_without_pause"]) == (90, 90)


def test_a_long_pause_in_the_window_explains_what_arrived_meanwhile() -> None:
    pause = (150 * MS, 10 * MS)
    assert judge(watched(windows(0, 0, 90, 90), dut=[pause]), RATE)["lost_without_pause"] == 0
    assert judge(watched(windows(0, 0, 600, 600), dut=[pause]), RATE)["lost_without_pause"] == 100


def test_a_pause_too_short_or_elsewhere_explains_nothing() -> None:
    counts = windows(0, 0, 0, 0, 90, 90)
    assert judge(watched(counts, [(350 * MS, 2 * MS)]), RATE)["lost_without_pause"] == 90
    assert judge(watched(counts, [(50 * MS, 50 * MS)]), RATE)["lost_without_pause"] == 90
