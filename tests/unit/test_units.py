# SPDX-License-Identifier: Apache-2.0
"""Quantities: exact, and every refusal says what would be right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import units


@pytest.mark.parametrize(("text", "seconds"), [
    ("1s", 1.0), ("500ms", 0.5), ("100us", 1e-4), ("100µs", 1e-4), ("20 ns", 2e-8), ("2m", 120.0), ("2min", 120.0),
    ("1h", 3600.0), ("0.1s", 0.1), (".5s", 0.5), (0, 0.0), ("0s", 0.0),
])
def test_durations(text: object, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "pps"), [
    ("200k", 200_000), ("2.5M", 2_500_000), ("2Mpps", 2_000_000), ("64", 64), (50_000, 50_000), ("1.2345k", 1234.5),
    ("10kfps", 10_000), ("7k/s", 7000), (2.5, 2.5),
])
def test_rates(text: object, pps: float) -> None:
    assert units.parse_rate(text) == pps


@pytest.mark.parametrize(("text", "ratio"), [("0.5%", 0.005), ("50 %", 0.5), ("0.1%", 0.001), ("100%", 1.0)])
def test_ratios(text: str, ratio: float) -> None:
    assert units.parse_ratio(text) == ratio


def test_signed_ratio_needs_its_sign() -> None:
    assert units.parse_ratio("-3%", least=-1, signed=True) == -0.03
    with pytest.raises(ValueError, match="no sign"):
        units.parse_ratio("3%", least=-1, signed=True)


@pytest.mark.parametrize(("text", "count"), [("64", 64), ("1k", 1000), ("1.5k", 1500), (1024, 1024)])
def test_counts(text: object, count: int) -> None:
    assert units.parse_count(text) == count


def test_a_byte_size_may_say_so() -> None:
    assert units.parse_bytes("64B", least=64, most=1518) == units.parse_bytes(64, least=64, most=1518) == 64


@pytest.mark.parametrize(("text", "gbps"), [("10G", 10.0), ("2.5Gbps", 2.5), ("1000M", 1.0), ("100Gbit/s", 100.0)])
def test_speeds(text: str, gbps: float) -> None:
    assert units.parse_speed_gbps(text) == gbps


@pytest.mark.parametrize(("read", "value", "says"), [
    (units.parse_duration, "1", "no unit; write 1s"),
    (units.parse_duration, 3, "no unit; write 3s"),
    (units.parse_duration, "1 parsec", "unknown unit 'parsec'"),
    (units.parse_duration, "200k", "a duration is written like 1s"),
    (units.parse_duration, "-1s", "out of range"),
    (units.parse_duration, "1e3s", "not a quantity"),
    (units.parse_duration, True, "not a quantity"),
    (units.parse_duration, None, "not a quantity"),
    (units.parse_ratio, 0.5, "not a percentage; write for example 0.5%"),
    (units.parse_ratio, "120%", "out of range; from 0% to 100%"),
    (units.parse_rate, "10%", "is a percentage"),
    (units.parse_rate, "10Gbps", "is in bits"),
    (units.parse_rate, "5m", "M is a million"),
    (units.parse_rate, "0", "too small"),
    (units.parse_rate, "9" * 31, "too large"),
    (units.parse_rate, "9" * 40, "not a quantity"),
    (units.parse_rate, [1], "not a quantity"),
    (units.parse_count, "1.5", "not whole"),
    (units.parse_speed_gbps, 10, "not a link speed; write for example 10G"),
    (units.parse_speed_gbps, "10k", "not a link speed"),
])
def test_refusals_name_value_and_remedy(read: object, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        read(value)  # type: ignore[operator]


@given(st.decimals(min_value="0.001", max_value="9999", places=3))
def test_reading_is_exact(number: object) -> None:
    assert units.parse_rate(f"{number}k", least=0) == float(number * 1000)  # type: ignore[operator]
    assert units.parse_duration(f"{number}ms") == float(number / 1000)  # type: ignore[operator]


@given(st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.booleans(), st.none(), st.binary(max_size=9)))
def test_anything_is_read_or_refused(value: object) -> None:
    for read in (units.parse_duration, units.parse_rate, units.parse_ratio, units.parse_count, units.parse_speed_gbps):
        try:
            result = read(value)
        except ValueError:
            continue
        assert result >= 0


@pytest.mark.parametrize(("pps", "text"), [
    (14_880_952, "14.88 Mpps"), (200_000, "200 kpps"), (950, "950 pps"), (999_999, "1 Mpps"), (0, "0 pps"),
])
def test_rates_are_shown_short(pps: float, text: str) -> None:
    assert units.format_rate(pps) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0001, "100us"), (0.5, "500ms"), (2.5, "2.5s"), (125, "2m 05s"), (4200, "1h 10m"), (0, "0s"),
])
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text
