# SPDX-License-Identifier: Apache-2.0
"""Quantities as people write them (``64``, ``1s``, ``0.5%``, ``200k``, ``2Mpps``, ``100us``), read exactly and shown.

Reading works on decimal text, never on binary fractions: ``0.1%`` is exactly 1/1000 until the last step. Suffixes are
case-sensitive where case changes the meaning (``m`` is minutes, ``M`` a million). Every reader raises ValueError with
a text that says what was found and what would be right.
"""

from __future__ import annotations

import re
from fractions import Fraction

#: Longest quantity read; anything longer is no quantity.
MAX_TEXT = 32

_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-zµμ%/]*)")

_MULTIPLES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_SECONDS = {
    "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "µs": Fraction(1, 10**6), "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "min": Fraction(60), "h": Fraction(3600),
}
_RATE_UNITS = ("pps", "fps", "cps", "/s")


def _split(value: object, example: str) -> tuple[Fraction, str, bool]:
    """Number, suffix and whether a sign was written. Floats are taken as the decimal text they print as."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{shown(value)} is not a quantity; write for example {example}")
    text = str(value).strip()
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_TEXT else None
    if match is None:
        raise ValueError(f"{shown(value)} is not a quantity; write for example {example}")
    sign, digits, suffix = match.groups()
    number = Fraction(digits if not digits.startswith(".") else "0" + digits)
    return (-number if sign == "-" else number), suffix, bool(sign)


def shown(value: object) -> str:
    """A value from a file, quoted for an error message and cut to a readable length."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _multiple(number: Fraction, suffix: str, value: object, example: str) -> Fraction:
    if suffix not in _MULTIPLES:
        meant = f" (M is a million, {suffix!r} is not known)" if suffix == "m" else ""
        raise ValueError(f"unknown unit {suffix!r} in {shown(value)}{meant}; write for example {example}")
    return number * _MULTIPLES[suffix]


def parse_count(value: object, *, what: str = "a number", least: int = 0, most: int = 10**12) -> int:
    """A whole number: ``64``, ``1k``, ``2M``; 1k is 1000. ``least`` and ``most`` are inclusive."""
    number, suffix, _ = _split(value, "64 or 1k")
    number = _multiple(number, suffix, value, "64 or 1k")
    if number.denominator != 1:
        raise ValueError(f"{shown(value)} is not whole; {what} is a whole number")
    return int(_within(number, value, what, least, most))


def parse_bytes(value: object, *, least: int, most: int) -> int:
    """A size in bytes: ``64`` or ``64B``."""
    if isinstance(value, str) and value.strip().endswith("B"):
        return parse_count(value.strip()[:-1].rstrip(), what="a size in bytes", least=least, most=most)
    return parse_count(value, what="a size in bytes", least=least, most=most)


def parse_duration(value: object, *, least: float = 0.0, most: float = 86_400.0) -> float:
    """Seconds from ``1s``, ``500ms``, ``100us``, ``2m``, ``1h``. A bare number is refused: its unit is not known."""
    example = "1s, 500ms or 2m"
    number, suffix, _ = _split(value, example)
    if not suffix and number != 0:
        raise ValueError(f"{shown(value)} has no unit; write {str(value).strip()}s for seconds, or like {example}")
    if suffix and suffix not in _SECONDS:
        raise ValueError(f"unknown unit {suffix!r} in {shown(value)}; a duration is written like {example}")
    seconds = number * _SECONDS.get(suffix, Fraction(1))
    if not Fraction(str(least)) <= seconds <= Fraction(str(most)):
        raise ValueError(f"{shown(value)} is out of range; from {format_duration(least)} to {format_duration(most)}")
    return float(seconds)


def parse_ratio(value: object, *, least: float = 0.0, most: float = 1.0, signed: bool = False) -> float:
    """0..1 from a percentage (``0.5%`` is 0.005). A bare number is refused: 0.5 might be meant as either.
    ``signed``: a sign has to be written (``-3%``, ``+10%``), as in a gate."""
    example = '"-3%" or "+10%"' if signed else "0.5% or 50%"
    number, suffix, has_sign = _split(value, example)
    if suffix != "%":
        raise ValueError(f"{shown(value)} is not a percentage; write for example {example}")
    if signed and not has_sign:
        raise ValueError(f"{shown(value)} has no sign; say which way is allowed, for example {example}")
    ratio = number / 100
    if not Fraction(str(least)) <= ratio <= Fraction(str(most)):
        raise ValueError(f"{shown(value)} is out of range; from {format_ratio(least)} to {format_ratio(most)}")
    return float(ratio)


def parse_rate(value: object, *, least: float = 1.0, most: float = 1e10) -> float:
    """Frames per second per direction: ``200k``, ``2.5M``, ``2Mpps``, ``50000``."""
    example = "200k, 2.5M or 50000"
    number, suffix, _ = _split(value, example)
    if suffix == "%":
        raise ValueError(f"{shown(value)} is a percentage; write a rate in frames per second, for example {example}")
    if re.search(r"bps$|bit", suffix):
        raise ValueError(f"{shown(value)} is in bits; rates are frames per second, for example {example}")
    for unit in _RATE_UNITS:
        suffix = suffix.removesuffix(unit)
    return float(_within(_multiple(number, suffix, value, example), value, "a rate", int(least), int(most)))


def parse_speed_gbps(value: object) -> float:
    """Link speed in Gbit/s: ``10G``, ``100Gbps``, ``2.5G``, ``1000M``."""
    example = "10G or 25G"
    number, suffix, _ = _split(value, example)
    for unit in ("bit/s", "bps", "b/s"):
        suffix = suffix.removesuffix(unit)
    if suffix not in ("M", "G"):
        raise ValueError(f"{shown(value)} is not a link speed; write for example {example}")
    bits = _multiple(number, suffix, value, example)
    if not 10**7 <= bits <= 10**12:
        raise ValueError(f"{shown(value)} is out of range; a link runs at 10M to 1000G")
    return float(bits / 10**9)


def _within(number: Fraction, value: object, what: str, least: int, most: int) -> Fraction:
    if number < least:
        raise ValueError(f"{shown(value)} is too small; {what} is at least {least}")
    if number > most:
        raise ValueError(f"{shown(value)} is too large; {what} is at most {most}")
    return number


def format_rate(pps: float, unit: str = "pps") -> str:
    """Four digits and a unit: ``14.88 Mpps``, ``200 kpps``, ``950 pps``. A unit that is no abbreviation, as
    ``connections/s``, takes no prefix: ``12,340 connections/s``."""
    if unit != "pps":
        return f"{pps:,.0f} {unit}" if pps >= 100 else f"{pps:.4g} {unit}"
    for factor, unit in ((1e9, "Gpps"), (1e6, "Mpps"), (1e3, "kpps")):
        if pps >= factor * 0.99995:
            return f"{pps / factor:.4g} {unit}"
    return f"{pps:.4g} pps"


def format_duration(seconds: float) -> str:
    """Short and human: ``100us``, ``500ms``, ``1.5s``, ``2m 05s``, ``1h 10m``."""
    if seconds >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60}h {minutes % 60:02d}m"
    if seconds >= 60:
        whole = round(seconds)
        return f"{whole // 60}m {whole % 60:02d}s"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
        if seconds >= factor:
            return f"{seconds / factor:.3g}{unit}"
    return "0s"


def format_ratio(ratio: float) -> str:
    """A ratio as a percentage: 0.005 is ``0.5%``."""
    return f"{ratio * 100:.6g}%"
