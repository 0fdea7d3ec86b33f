# SPDX-License-Identifier: Apache-2.0
"""Older releases of TRex: what they lack is refused by name and release, or done without; which API each speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import TestbedError
from harness.generator.trexhost.release import (
    ASTF_API,
    NEEDED,
    NEEDED_ASTF,
    STL_API,
    TELLS_RECEIVING,
    api_versions,
    check_version,
    number_of,
    shown,
)

DOCS = Path(__file__).parents[4] / "docs" / "trex.md"
STL_FROM, ASTF_FROM = (max(part.since for part in parts) for parts in (NEEDED, NEEDED_ASTF))


def test_versions_are_numbers_and_not_decimals() -> None:
    assert [number_of(text) for text in ("v3.08", "v2.100", "v3.06-rc1", "own build", "v3", "")] == [
        (3, 8), (2, 100), (3, 6), None, None, None]
    assert number_of("v2.99") < number_of("v3.00")  # type: ignore[operator]
    assert [shown(number) for number in ((3, 8), (2, 72))] == ["v3.08", "v2.72"]


@pytest.mark.parametrize("mode", ["stl", "astf"])
def test_every_part_is_refused_by_name_where_it_lacks_and_nothing_else(mode: str) -> None:
    for part in (*NEEDED, *(NEEDED_ASTF if mode == "astf" else ())):
        before = (part.since[0], part.since[1] - 1) if part.since[1] else (part.since[0] - 1, 99)
        with pytest.raises(TestbedError) as refused:
            check_version(shown(before), mode, "/opt/trex")
        assert f"{part.name} ({part.used_for}) came with {shown(part.since)}" in str(refused.value)
        assert f"Name a release from {shown(STL_FROM if mode == 'stl' else ASTF_FROM)} on" in str(refused.value)
    for version in (shown(STL_FROM if mode == "stl" else ASTF_FROM), "v3.08", "a build of one's own"):
        check_version(version, mode, "/opt/trex")


def test_a_release_that_sends_frames_may_be_too_old_for_connections() -> None:
    check_version("v2.99", "stl", "/opt/trex")
    with pytest.raises(TestbedError, match=r"TRex v2.99 in /opt/trex is too old for role accept: ASTFProgram"):
        check_version("v2.99", "astf", "/opt/trex")


def test_apis_are_tried_from_the_newest() -> None:
    for table in (STL_API, ASTF_API):
        releases, numbers = zip(*table, strict=True)
        assert list(releases) == sorted(releases, reverse=True)
        assert list(numbers) == sorted(numbers, reverse=True)
    assert api_versions()["STL"][0] == [5, 1]
    # Every release that is not refused speaks one of them.
    assert STL_API[-1][0] <= STL_FROM
    assert ASTF_API[-1][0] <= ASTF_FROM


def test_the_documents_table_is_this_one() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for part in (*NEEDED, *NEEDED_ASTF, TELLS_RECEIVING):
        assert f"| {part.name} | {shown(part.since)} |" in text, part.name
