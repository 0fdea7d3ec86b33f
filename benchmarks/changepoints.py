# SPDX-License-Identifier: Apache-2.0
"""Methods that find change points, compared on simulated histories whose changes are known.

    python -m benchmarks.changepoints --json tests/data/changepoints.json

jumpavg is FD.io's (PyPI), Otava Apache's (PyPI ``apache-otava``, needed only here: ``pip install --no-deps
apache-otava`` in an environment with numpy and scipy; it is left out where it is not installed). Histories are normal
noise around a level; a step in a third of the histories' length or later; "outliers": one value in twenty is 30 % low.
A change counts as found when one is reported within two runs of it. False alarms: histories with any other report.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.changepoints import change_points, jumps, outliers

NEAR = 2
LENGTHS, NOISES, STEPS = (20, 60, 200), (0.01, 0.02, 0.05), (0.0, 0.02, 0.05, 0.10)
Finder = Callable[[Sequence[float]], list[int]]


@dataclass(frozen=True)
class History:
    """Values of one simulated metric; ``at``: index of the first value after the change, None without one."""

    values: npt.NDArray[np.float64]
    at: int | None


def simulate(random: np.random.Generator, length: int, noise: float, step: float, outliers: bool) -> History:
    """A history of ``length`` runs whose level falls or rises by ``step``, with relative ``noise`` (1 sigma)."""
    values = random.normal(100, 100 * noise, length)
    at = int(random.integers(length // 3, length - length // 4)) if step else None
    if at is not None:
        values[at:] *= 1 + step * random.choice((-1, 1))
    if outliers:
        values[random.random(length) < 0.05] *= 0.7
    return History(values, at)


def otava(window: int) -> Finder | None:
    """Apache Otava with its defaults but for the window; None where it is not installed."""
    try:
        from otava.analysis import compute_change_points
    except ImportError:
        return None
    return lambda values: [int(found.index) for found in
                           compute_change_points(np.asarray(values), window_len=window, max_pvalue=0.001)[0]]


def steady(finder: Finder | None) -> Finder | None:
    """A method that is not shown the outliers."""
    if finder is None:
        return None

    def find(values: Sequence[float]) -> list[int]:
        kept = [index for index, odd in enumerate(outliers(values)) if not odd]
        return [kept[index] for index in finder([values[index] for index in kept])]

    return find


def finders() -> dict[str, Finder]:
    """What is compared, by name."""
    found: dict[str, Finder | None] = {
        "jumpavg": lambda values: jumps(values), "jumpavg, jumps confirmed": lambda values: [
            change.index for change in change_points(values)],
        "otava, window 50": otava(50), "otava, one window": otava(1000), "otava, outliers out": steady(otava(1000))}
    return {name: finder for name, finder in found.items() if finder is not None}


def score(finder: Finder, histories: Sequence[History]) -> dict[str, Any]:
    """``found``, ``false_alarms`` and ``crashed``: shares of histories; ``error``: mean distance of the nearest report
    from a found change, in runs; ``ms``: mean time a history."""
    found, alarms, crashed, errors = 0, 0, 0, []
    began = time.perf_counter()
    for history in histories:
        try:
            reported = finder([float(value) for value in history.values])
        except ValueError:
            crashed += 1
            continue
        distances = [abs(index - history.at) for index in reported] if history.at is not None else []
        if distances and min(distances) <= NEAR:
            found += 1
            errors.append(min(distances))
        alarms += len(reported) > bool(distances and min(distances) <= NEAR)
    size = len(histories)
    return {"found": found / size if histories[0].at is not None else None, "false_alarms": alarms / size,
            "error": float(np.mean(errors)) if errors else None, "crashed": crashed / size,
            "ms": (time.perf_counter() - began) * 1000 / size}


def compare(count: int, seed: int) -> list[dict[str, Any]]:
    """A row a method, length, noise, step, with and without outliers."""
    random = np.random.default_rng(seed)
    rows = []
    for length in LENGTHS:
        for noise in NOISES:
            for step in STEPS:
                for odd in (False, True):
                    histories = [simulate(random, length, noise, step, odd) for _ in range(count)]
                    rows += [{"method": name, "length": length, "noise": noise, "step": step, "outliers": odd,
                              **score(finder, histories)} for name, finder in finders().items()]
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Aligned text, a line a method and case."""
    lines = [f"{'method':26} {'runs':>5} {'noise':>6} {'step':>5} {'outliers':>8} {'found':>6} {'false':>6} "
             f"{'error':>6} {'crash':>6} {'ms':>7}"]
    for row in rows:
        found = "n/a" if row["found"] is None else f"{row['found']:.0%}"
        error = "n/a" if row["error"] is None else f"{row['error']:.2f}"
        lines.append(f"{row['method']:26} {row['length']:5d} {row['noise']:6.0%} {row['step']:5.0%} "
                     f"{'yes' if row['outliers'] else 'no':>8} {found:>6} {row['false_alarms']:6.0%} {error:>6} "
                     f"{row['crashed']:6.0%} {row['ms']:7.1f}")
    return "\n".join(lines)


def _versions() -> dict[str, str]:
    found = {}
    for name in ("jumpavg", "apache-otava"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> int:
    """Compare, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="bench-changepoints", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures to")
    parser.add_argument("--count", type=int, default=60, help="histories of each kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rows = compare(arguments.count, arguments.seed)
    print(table(rows))
    result = {"seed": arguments.seed, "count": arguments.count, "near": NEAR, "versions": _versions(), "rows": rows}
    arguments.json.write_text(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
