# SPDX-License-Identifier: Apache-2.0
"""Every chart at every place it can be drawn for, of few and of many stacks and cores: no words over one another, none
outside. Needs no browser, but takes too long for a unit test."""

from __future__ import annotations

import pytest

from harness.report.charts.canvas import PHONE, WIDE
from harness.report.charts.catalogue import KINDS
from harness.report.charts.files import SIZES, provenance
from harness.report.charts.material import Material
from harness.report.trendpage import about, pictures
from tests.unit.report.many import COUNTS, PUBLISHED, a_history, many
from tests.unit.report.overlap import composed

pytestmark = pytest.mark.browser
CANVASES = (*SIZES.values(), WIDE, PHONE)


# Fewest and most of each; in between, charts are divided so that they hold at most twelve points.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("stacks", "counts"), [(2, (1,)), (3, (1, 2)), (6, (2, 4)), (12, (1,)), (2, COUNTS),
                                                (12, (16, 64))])
def test_no_words_overlap(stacks: int, counts: tuple[int, ...], kind: str) -> None:
    run = many(stacks, counts)
    made = Material.of(run, PUBLISHED)
    found: dict[tuple[str, str], list[str]] = {}
    for picture in KINDS[kind][0](made):
        found |= {(picture.name, canvas.name): wrong for canvas in CANVASES
                  if (wrong := composed(picture, canvas, provenance(run)))}
    assert found == {}


@pytest.mark.parametrize("stacks", [2, 12])
@pytest.mark.parametrize("runs", [2, 36, 400])
def test_no_words_of_a_history_overlap(stacks: int, runs: int) -> None:
    trend = a_history(stacks, runs)
    found: dict[tuple[str, str], list[str]] = {}
    for picture in pictures(trend):
        found |= {(picture.name, canvas.name): wrong for canvas in CANVASES
                  if (wrong := composed(picture, canvas, about(trend)))}
    assert found == {}
