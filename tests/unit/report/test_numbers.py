# SPDX-License-Identifier: Apache-2.0
"""Numbers are written with the digits they have, and missing ones are never a zero."""

from __future__ import annotations

import math

import pytest

from harness.report import numbers
from harness.report.numbers import Spread


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 10**400, "7", True, [1]])
def test_what_is_no_number_is_na(value: object) -> None:
    assert numbers.finite(value) is None
    assert numbers.rate(value) == "n/a"
    assert numbers.percent(value) == "n/a"
    assert numbers.rate_unit([value]).text(value) == "n/a"


@pytest.mark.parametrize(("value", "text"), [
    (0, "0 pps"), (812, "812 pps"), (118_240, "118 kpps"), (1_190_400, "1.19 Mpps"), (14_880_952, "14.9 Mpps"),
    (999_990, "1.00 Mpps"), (50_000, "50.0 kpps")])
def test_rates_in_words(value: float, text: str) -> None:
    assert numbers.rate(value) == text


def test_a_chosen_rate_has_no_digits_that_nobody_wrote() -> None:
    assert numbers.set_rate(50_000) == "50 kpps"
    assert numbers.set_rate(2_500_000) == "2.5 Mpps"


@pytest.mark.parametrize(("values", "name", "example"), [
    ([96e3, 1.19e6], "kpps", "96.0"), ([130e3, 1.19e6], "kpps", "130"), ([1.2e6, 3e6], "Mpps", "1.200"),
    ([5e6, 14.88e6], "Mpps", "5.00"), ([], "pps", "")])
def test_one_unit_for_a_column(values: list[float], name: str, example: str) -> None:
    unit = numbers.rate_unit(values)
    assert unit.name == name
    assert not values or unit.text(values[0]) == example


def test_small_percentages_keep_their_digits() -> None:
    assert numbers.percent(0.005) == "0.5 %"
    assert numbers.percent(0.0000123, 2) == "0.0012 %"
    assert numbers.percent(0.0) == "0.0 %"


def test_spread_leaves_missing_values_out() -> None:
    spread = Spread.of([3.0, None, 1.0, math.nan, 2.0])
    assert spread == Spread(2.0, 1.0, 3.0, 3)
    assert Spread.of([None]) is None


def test_durations() -> None:
    assert numbers.seconds(60) == "60 s"
    assert numbers.seconds(880) == "14 min 40 s"
    assert numbers.seconds(7384) == "2 h 3 min"
    assert numbers.nanoseconds(34_100) == "34.1 µs"
    assert numbers.rounded(15_748) == "15,700"
