# SPDX-License-Identifier: Apache-2.0
"""How numbers are written: units, digits, and "n/a" for what is missing (never a zero)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

MISSING = "n/a"
_LARGEST = 1e18
_RATES = ((1e6, "Mpps"), (1e3, "kpps"), (1.0, "pps"))


def finite(value: object) -> float | None:
    """The number as a float; None for None, NaN, infinities, absurd sizes and what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not -_LARGEST < value < _LARGEST:  # also False for NaN; compares big ints without converting them
        return None
    return float(value)


@dataclass(frozen=True)
class Spread:
    """Median and range of a value over ``count`` repeats, in the unit of what went in."""

    median: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(values: Iterable[object]) -> Spread | None:
        """Over the finite values; None when there is none."""
        known = [number for number in map(finite, values) if number is not None]
        if not known:
            return None
        return Spread(float(median(known)), min(known), max(known), len(known))


@dataclass(frozen=True)
class Unit:
    """A unit for a whole column or axis: numbers are divided by ``divisor`` and printed with ``digits`` decimals."""

    name: str
    divisor: float
    digits: int

    def text(self, value: object) -> str:
        """The number without its unit (that is in the heading); "n/a" when missing."""
        number = finite(value)
        return MISSING if number is None else f"{number / self.divisor:,.{self.digits}f}"

    def span(self, spread: Spread | None) -> str:
        """"low – high" of a spread over several repeats; empty for one repeat."""
        if spread is None or spread.count < 2:
            return ""
        return f"{self.text(spread.low)}\u00a0–\u00a0{self.text(spread.high)}"


def rate_unit(values: Iterable[object], name: str = "pps") -> Unit:
    """One unit for all these rates: kpps while the smaller ones would lose their digits in Mpps; a ``name`` other than
    pps (``Role.rate_unit``) takes no prefix."""
    if name != "pps":
        return Unit(name, 1, 0)
    known = sorted(number for number in map(finite, values) if number is not None and number > 0)
    if not known or known[-1] < 1e3:
        return Unit("pps", 1, 0)
    if known[0] >= 1e6 or (known[-1] >= 10e6 and known[0] >= 100e3):
        return Unit("Mpps", 1e6, 2 if known[-1] >= 10e6 else 3)
    return Unit("kpps", 1e3, 0 if known[0] >= 100e3 else 1)


def time_unit(values: Iterable[object]) -> Unit:
    """One unit for all these times (ns): µs unless all are beyond a millisecond."""
    known = [number for number in map(finite, values) if number is not None and number > 0]
    if known and min(known) >= 1e6:
        return Unit("ms", 1e6, 2)
    return Unit("µs", 1e3, 1 if known and min(known) < 100e3 else 0)


def significant(number: float, digits: int = 3) -> str:
    """A number with so many significant digits, without exponent, with thousands separated."""
    if number == 0:
        return "0"
    shown = float(f"{number:.{digits}g}")  # 999.99 gains a digit before its decimals are counted
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(shown))))
    return f"{number:,.{decimals}f}"


def rounded(number: float, digits: int = 3) -> str:
    """A number of at least one, rounded to so many significant digits: "15,700"."""
    places = digits - 1 - math.floor(math.log10(number)) if number > 0 else 0
    return f"{round(number, min(0, places)):,.0f}"


def rate(value: object, unit: str = "pps") -> str:
    """A measured rate as words: "118 kpps", "1.19 Mpps", "16,200 connections/s" (three digits each)."""
    number = finite(value)
    if unit == "pps" or number is None:
        return _scaled(value, _RATES)
    return f"{rounded(number) if number >= 1 else significant(number)} {unit}"


def set_rate(value: object, unit: str = "pps") -> str:
    """A rate that somebody chose, without digits that nobody wrote: "50 kpps", "5,000 connections/s"."""
    number = finite(value)
    if number is None:
        return MISSING
    if unit != "pps":
        return f"{number:,.6g} {unit}"
    size, name = next(((size, name) for size, name in _RATES if abs(number) >= size), _RATES[-1])
    return f"{number / size:,.6g} {name}"


def nanoseconds(value: object) -> str:
    """A time in ns as words: "34.1 µs"."""
    return _scaled(value, ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")))


def _scaled(value: object, steps: Sequence[tuple[float, str]]) -> str:
    number = finite(value)
    if number is None:
        return MISSING
    for size, name in steps:
        if abs(number) >= size * 0.9995:
            return f"{significant(number / size)} {name}"
    return f"{significant(number)} {steps[-1][1]}"


def seconds(value: object) -> str:
    """A duration in seconds as words: "2 s", "14 min 40 s"."""
    number = finite(value)
    if number is None:
        return MISSING
    if number < 120:
        return f"{number:,.3g} s"
    minutes, rest = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def percent(value: object, digits: int = 1) -> str:
    """A ratio 0..1 as a percentage; small ones keep two significant digits."""
    number = finite(value)
    if number is None:
        return MISSING
    shown = number * 100
    if 0 < abs(shown) < 10 ** -digits:
        return f"{significant(shown, 2)} %"
    return f"{shown:,.{digits}f} %"


def count(value: object) -> str:
    """A whole number with its thousands separated."""
    number = finite(value)
    return MISSING if number is None else f"{number:,.0f}"


def plural(number: int, one: str, many: str = "") -> str:
    """"1 core", "2 cores"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def fraction_name(fraction: object) -> str:
    """0.5 as "50 %"."""
    number = finite(fraction)
    return MISSING if number is None else f"{number * 100:g} %"
