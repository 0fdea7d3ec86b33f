# SPDX-License-Identifier: Apache-2.0
"""The check by which survival tests count lost trials can fail."""

from __future__ import annotations

from pathlib import Path

from tests.lab.held import lost


def test_a_trial_that_is_gone_cut_or_changed_is_counted_as_lost(tmp_path: Path) -> None:
    told = {number: {"number": number, "sent": 10 * number} for number in (1, 2, 3, 4)}
    lines = ['{"number": 1, "sent": 10, "lost": 0}', '{"number": 3, "sent": 31}', '{"number": 4, "sent": 40}']
    (tmp_path / "trials.jsonl").write_text("\n".join(lines))
    assert lost(tmp_path, told) == [2, 3, 4], "gone, changed, cut before its end of line"
    (tmp_path / "trials.jsonl").write_text("\n".join(lines) + "\n")
    assert lost(tmp_path, told) == [2, 3]
    assert lost(tmp_path, {}) == []
