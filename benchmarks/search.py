# SPDX-License-Identifier: Apache-2.0
"""Spread of NDR and PDR of the same stack over repeated searches in one session, raw and without paused trials.

    python -m benchmarks.search --json results/bench-search.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.options import RunOptions
from harness.progress import make_progress
from harness.records import Bound, PointOutcome
from harness.runner import run
from harness.store import Store

SCENARIO = Path(__file__).with_suffix(".yaml")
GOALS: dict[str, Callable[[PointOutcome], Bound | None]] = {
    "NDR": lambda o: o.ndr, "NDR raw": lambda o: o.ndr_raw, "PDR": lambda o: o.pdr, "PDR raw": lambda o: o.pdr_raw,
}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median, maximum, and (max - min) / median."""
    middle = statistics.median(values)
    return {"min": min(values), "median": middle, "max": max(values), "spread": (max(values) - min(values)) / middle}


def summarise(outcomes: Sequence[PointOutcome]) -> list[dict[str, Any]]:
    """One row a point and goal; searches that found no bound are counted, not averaged."""
    rows = []
    for point in sorted({o.point for o in outcomes}):
        mine = [o for o in outcomes if o.point == point]
        for goal, get in GOALS.items():
            bounds = [get(o) for o in mine]
            found = [b.load_pps for b in bounds if b is not None and b.load_pps is not None]
            row: dict[str, Any] = {"point": point, "goal": goal, "searches": len(mine), "found": len(found)}
            rows.append(row | (spread(found) if found else {}))
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as aligned text, kpps."""
    lines = [f"{'point':40} {'goal':8} {'found':>7} {'min':>9} {'median':>9} {'max':>9} {'spread':>7}   (load, kpps)"]
    for row in rows:
        figures = "no bound was found"
        if row["found"]:
            figures = " ".join(f"{row[k] / 1e3:9.1f}" for k in ("min", "median", "max")) + f" {row['spread']:7.1%}"
        lines.append(f"{row['point']:40} {row['goal']:8} {row['found']:3d} / {row['searches']} {figures}")
    return "\n".join(lines)


def main() -> int:
    """Run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="bench-search", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures to")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the run's directory goes")
    arguments = parser.parse_args()
    options = RunOptions(scenario=SCENARIO, testbed="lab", results=arguments.results, command=tuple(sys.argv))
    try:
        with make_progress(as_json=False, out=sys.stdout, err=sys.stderr, quiet=False) as progress:
            code = run(options, progress)
        newest = Store(arguments.results).runs()[-1]
        rows = summarise(list(Store(arguments.results).open(str(newest)).outcomes()))
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(table(rows))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"run": newest.name, "rows": rows}, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
