# SPDX-License-Identifier: Apache-2.0
"""Published figures to set beside measured ones: papers, documentation and raw data of others, each with its source.

They were measured elsewhere, on other machines and by other rules: never mixed with a run's own numbers. The two files
in ``data`` are read once; a row that is wrong stops the reader with its file and line.
"""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.errors import UsageError

FILES = ("reference_points.csv", "reference_points_transmit.csv")
#: ``transmit`` is no role of a stack: what generators reach.
ROLES = frozenset({"drop", "forward", "reflect", "echo", "accept", "transmit"})
_DATA = Path(__file__).parent / "data"
_COLUMNS = ("id", "stack", "stack_detail", "role", "frame_bytes", "cores", "mpps", "latency_us", "cpu_model", "cpu_ghz",
            "nic", "link_gbps", "year", "source_title", "source_ref", "exact_or_read_off", "note")
#: In the note of a figure that a flood left over: what came through under overload, not what the stack can do.
_OVERLOAD = re.compile(r"\b(?:livelock|flood)", re.IGNORECASE)
_KIND = re.compile(r"kind=(\w+)")
#: Core (or queue) count in an id: ``xdp18-xdptx-256-4c``.
_COUNT = re.compile(r"-\d+[cq](?=-|$)")


class Kind(StrEnum):
    """What a figure says of its stack: ``capacity`` the most it did; ``capped`` something else was the limit (NIC,
    PCIe, line rate, generator); ``offered`` it did what was offered; ``latency`` at the rate given; ``context`` none of
    these."""

    CAPACITY = "capacity"
    CAPPED = "capped"
    OFFERED = "offered"
    LATENCY = "latency"
    CONTEXT = "context"


@dataclass(frozen=True)
class ReferencePoint:
    """One published figure. ``frame_bytes`` with FCS; ``latency_us`` in microseconds; None: the source does not say.
    ``exact``: written in the source; otherwise read off a plot. ``series``: the id without its core count."""

    id: str
    stack: str
    detail: str
    role: str
    frame_bytes: int | None
    cores: int | None
    mpps: float | None
    latency_us: float | None
    cpu_model: str
    cpu_ghz: float | None
    nic: str
    link_gbps: float | None
    year: int | None
    source_title: str
    source_ref: str
    exact: bool
    note: str
    kind: Kind

    @property
    def pps(self) -> float | None:
        """Frames per second, as a run's rates."""
        return None if self.mpps is None else self.mpps * 1e6

    @property
    def is_throughput(self) -> bool:
        """Whether ``mpps`` says how much the set-up can do, so that it may stand beside a measured rate."""
        return (self.mpps is not None and self.kind in (Kind.CAPACITY, Kind.CAPPED)
                and _OVERLOAD.search(self.note) is None)

    @property
    def series(self) -> str:
        """What the same set-up with other core counts shares."""
        return _COUNT.sub("", self.id)

    @property
    def source(self) -> str:
        """For a legend: title, year, and whether the figure was read off a plot."""
        year = f", {self.year}" if self.year is not None else ""
        return f"{self.source_title}{year}" + ("" if self.exact else " (read off a plot)")


@functools.cache
def points() -> tuple[ReferencePoint, ...]:
    """Every published figure, in the order of the files. Raises UsageError when a file is damaged."""
    found = tuple(point for name in FILES for point in read(_DATA / name))
    twice = {point.id for point in found if sum(other.id == point.id for other in found) > 1}
    if twice:
        raise UsageError(f"{_DATA}: ids that are there twice: {', '.join(sorted(twice)[:5])}; reinstall the harness")
    return found


def matching(role: str, frame_bytes: int, cores: int) -> tuple[ReferencePoint, ...]:
    """Figures of throughput of the same role, frame size and core count; those that do not say match nothing."""
    return tuple(point for point in points() if point.is_throughput
                 and (point.role, point.frame_bytes, point.cores) == (role, frame_bytes, cores))


def series() -> dict[str, dict[int, ReferencePoint]]:
    """Set-ups of which at least two core counts are known: name of the series, then the figure by core count."""
    found: dict[str, dict[int, ReferencePoint]] = {}
    for point in points():
        if point.cores is not None and point.is_throughput:
            found.setdefault(point.series, {})[point.cores] = point
    return {name: dict(sorted(counts.items())) for name, counts in found.items() if len(counts) > 1}


def read(file: Path) -> Iterator[ReferencePoint]:
    """The rows of one file, checked. Raises UsageError naming file, line and what is wrong."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise ValueError(f"its columns are not {', '.join(_COLUMNS)}")
            for row in reader:
                yield _point(row)
    except (OSError, ValueError, csv.Error) as error:
        line = f", line {reader.line_num}" if isinstance(error, (ValueError, csv.Error)) else ""
        raise UsageError(f"{file}{line}: no reference points: {error}") from error


def _point(row: dict[str, str]) -> ReferencePoint:
    if None in row or None in row.values():
        raise ValueError(f"not {len(_COLUMNS)} fields")
    if row["role"] not in ROLES:
        raise ValueError(f"role {row['role'][:20]!r} is none of {', '.join(sorted(ROLES))}")
    if row["exact_or_read_off"] not in ("exact", "read_off_plot"):
        raise ValueError(f"exact_or_read_off is {row['exact_or_read_off'][:20]!r}; exact or read_off_plot")
    missing = [name for name in ("id", "stack", "source_title", "source_ref") if not row[name]]
    if missing:
        raise ValueError(f"no {missing[0]}; a figure without its source is worth nothing")
    kind = _KIND.match(row["note"])
    if kind is None:
        raise ValueError("its note does not begin with kind=")
    return ReferencePoint(
        row["id"], row["stack"], row["stack_detail"], row["role"], _whole(row, "frame_bytes"), _whole(row, "cores"),
        _number(row, "mpps"), _number(row, "latency_us"), row["cpu_model"], _number(row, "cpu_ghz"), row["nic"],
        _number(row, "link_gbps"), _whole(row, "year"), row["source_title"], row["source_ref"],
        row["exact_or_read_off"] == "exact", row["note"], Kind(kind[1]))


def _number(row: dict[str, str], name: str) -> float | None:
    if not row[name]:
        return None
    value = float(row[name])
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {row[name][:20]}; a number above zero, or nothing")
    return value


def _whole(row: dict[str, str], name: str) -> int | None:
    value = _number(row, name)
    if value is not None and value != int(value):
        raise ValueError(f"{name} is {row[name][:20]}; a whole number, or nothing")
    return None if value is None else int(value)
