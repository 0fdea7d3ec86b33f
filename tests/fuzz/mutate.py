# SPDX-License-Identifier: Apache-2.0
"""Hostile inputs made of good ones: a seeded mutator. The same seed makes the same inputs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

#: Larger ones are for tests of bounds; here many are wanted.
MOST_BYTES = 20_000
_TOKENS = (
    b"\x00", b"\xff\xfe", b"\n", b"\r\n", b"\t", b"{", b"}", b"[", b"]", b'"', b":", b",", b"-", b"%", b"&a", b"*a",
    b"!!python/object:", b"<<: *x", b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"18446744073709551616",
    b"9" * 400, b"0x7f", b"true",
    "\u202e\u2028".encode(), "\ud7ff\U0010ffff".encode(), b"'; rm -rf /; '", b"$(id)", b"`id`", b"../../etc/passwd",
    b"<script>alert(1)</script>", b"\x1b[2J\x1b]0;x\x07", b"%s%n", b"[" * 3000, b"{\"a\":" * 3000,
)


def mutated(good: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` inputs, each one to eight steps away from a good one."""
    chance = random.Random(seed)
    for _ in range(count):
        yield neighbour(chance.choice(good), good, chance)


def neighbour(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    """An input one to eight steps away from ``data``; ``good``: what parts of others are taken from."""
    data = data[:MOST_BYTES]
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        data = chance.choice(_STEPS)(data, good, chance)[:MOST_BYTES]
    return data


_Step = Callable[[bytes, Sequence[bytes], random.Random], bytes]


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((0, 1, 2, 4, 16, 200)))


def _flip(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1:]


def _cut(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    return data[:chance.randrange(len(data) + 1)]


def _drop(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    start, end = _span(data, chance)
    return data[:start] + data[end:]


def _insert(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    start, end = _span(data, chance)
    return data[:start] + chance.choice(_TOKENS) + data[chance.choice((start, end)):]


def _repeat(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    start, end = _span(data, chance)
    return data[:end] + data[start:end] * chance.choice((1, 2, 50)) + data[end:]


def _splice(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(good)
    return data[:chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1):]


def _swap_lines(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def _number(data: bytes, good: Sequence[bytes], chance: random.Random) -> bytes:
    """Another number in the place of one."""
    places = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return data
    at = chance.choice(places)
    return data[:at] + chance.choice((b"-1", b"0", b"1e308", b"99999999999999999999", b"0.5", b"")) + data[at + 1:]


_STEPS: tuple[_Step, ...] = (_flip, _cut, _drop, _insert, _repeat, _splice, _swap_lines, _number)


def long_runs(good: Sequence[bytes], size: int) -> Iterator[bytes]:
    """Inputs of about ``size`` bytes of little variety, on which an expression that looks at everything again from
    every byte does not end: a word over and over, and each kind of line of the first good input with a run behind."""
    for word in (b"a", b" ", b"\n", b"1", b"-", b"#", b"\t", b"a ", b"1 ", b"1:", b"ab\n"):
        yield word * (size // len(word))
    kinds = {line.translate(None, b"0123456789"): line[:200] for line in good[0].split(b"\n") if line}
    for line in list(kinds.values())[:12]:
        yield (line + b"\n") * (size // (len(line) + 1))
        for word in (b"a", b" ", b"1"):
            yield line + word * size
            yield line[:len(line) // 2] + word * size
