# SPDX-License-Identifier: Apache-2.0
"""How long a history of many runs takes: first indexing, then ``trend`` and ``results sql``, each a process of its own.

    python -m benchmarks.history --json results/bench-history.json

The runs are synthetic, and say so in their notes: no frame was sent. Their trials have the size of real ones.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.plan import PointPlan
from harness.records import Bound, CoreLoad, Cpu, Direction, Percentiles, Phase, PointOutcome, Trial, Verdict
from tests.unit.report.synthetic import Model, make_plan, run_info

STACKS, REPEATS, NOISE = ("alpha", "beta", "gamma", "delta"), 3, 0.02
MODELS = tuple(Model(name, name, {"batch": 32}, (1,), 0, 0, 0, 0) for name in STACKS)
QUERIES = {
    "sql: median NDR of every point and run":
        "SELECT run, point, median(value) FROM metrics WHERE metric = 'ndr' GROUP BY ALL ORDER BY ALL",
    "sql: trials that lost frames, by verdict":
        "SELECT verdicts, count(*), avg(loss_ratio) FROM trials WHERE lost > 0 GROUP BY ALL"}


def trial_lines(count: int, points: Sequence[PointPlan]) -> bytes:
    """``trials.jsonl`` of so many trials."""
    histogram = [(1000 + 37 * bucket, 3) for bucket in range(60)]
    lines = []
    for number in range(1, count + 1):
        core = CoreLoad(core=1, given=True, user=.1, system=.3, irq=0, softirq=.2, steal=0, idle=.4, run=.6)
        lines.append(Trial(
            number=number, point=points[number % len(points)].id, repeat=number % REPEATS, phase=Phase.SEARCH,
            started_at="2025-01-01T00:00:00Z", asked_pps=1e5, duration_s=1, real_s=1.0001,
            directions=[Direction(tx_port=0, rx_port=0, asked=100000, sent=100000, received=99990, lost=10)],
            offered_pps=1e5, forwarding_pps=99990, sent=100000, received=99990, lost=10, loss_ratio=1e-4,
            cpu=Cpu(indicative=True, seconds=.75, cores=[core, core], busy_cores=.6), verdicts=[Verdict.LAB],
            latency=Percentiles(samples=180, lost=0, out_of_order=0, duplicate=0, min_ns=1000, max_ns=4000,
                                mean_ns=2000, jitter_ns=9, p50_ns=2000, p90_ns=3000, p99_ns=None, p999_ns=None,
                                resolution_ns=1, histogram=histogram),
            counters={"system": {f"counter.{n}": n for n in range(30)}}).model_dump_json())
    return "\n".join(lines).encode() + b"\n"


def outcome_lines(points: Sequence[PointPlan], at: float, rand: random.Random) -> str:
    """``points.jsonl`` of a run; ``at``: its place in the history, 0..1. beta loses 6 % at the middle."""
    lines = []
    for repeat in range(REPEATS):
        for number, point in enumerate(points):
            level = 1e5 * (number + 1) * (0.94 if point.stack == "beta" and at >= 0.5 else 1) * rand.gauss(1, NOISE)
            bound = Bound(pps=level, load_pps=level, upper_pps=level * 1.005, loss_ratio=0.0)
            lines.append(PointOutcome(point=point.id, repeat=repeat, ndr=bound, pdr=bound, mrr=bound).model_dump_json())
    return "\n".join(lines) + "\n"


def make_history(results: Path, runs: int, trials: int) -> None:
    """Write synthetic runs, a day apart."""
    plan, rand = make_plan(MODELS, REPEATS, 1), random.Random(1)
    lines = trial_lines(trials, plan.points)
    for number in range(runs):
        began = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)
        info = run_info(plan, f"{began:%Y%m%d}-000000-synthetic-history-{number:04x}")
        info.started_at, info.notes = began.isoformat(), ["synthetic, made to time the index: no frame was sent"]
        folder = results / info.run_id
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(info.model_dump_json())
        (folder / "trials.jsonl").write_bytes(lines)
        (folder / "points.jsonl").write_text(outcome_lines(plan.points, number / runs, rand))


def timed(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """One command in a process of its own: seconds, and the largest resident set of all such so far, MiB."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "harness", *arguments], check=True, stdout=subprocess.DEVNULL)
    row = {"what": name, "seconds": round(time.perf_counter() - began, 2),
           "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024}
    print(f"{row['what']:45} {row['seconds']:8.2f} s   {row['peak_mib']:6d} MiB at most so far", flush=True)
    return row


def main() -> int:
    """Make the runs, time the commands, write the JSON."""
    parser = argparse.ArgumentParser(prog="bench-history", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures to")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=1000, help="of each run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="netstack-harness-history-") as place:
        results = Path(place)
        make_history(results, arguments.runs, arguments.trials)
        size = sum(file.stat().st_size for file in results.glob("*/trials.jsonl"))
        print(f"{arguments.runs:,} synthetic runs, {arguments.runs * arguments.trials:,} trials, {size / 2**20:,.0f} "
              "MiB", flush=True)
        where = ["--results", str(results)]
        rows = [timed("first indexing, with the count of trials",
                      ["results", "sql", "SELECT count(*) FROM trials", *where]),
                timed("trend, the first time", ["trend", *where]), timed("trend, again", ["trend", *where])]
        rows += [timed(name, ["results", "sql", query, *where]) for name, query in QUERIES.items()]
        newest = max(results.glob("2*/points.jsonl"))
        newest.write_text(newest.read_text())
        rows.append(timed("trend, after one run changed", ["trend", *where]))
        rows.append(timed("trend, as a page", ["trend", *where, "--html", str(results / "trend.html")]))
        index = sum(file.stat().st_size for file in results.glob(".index/*"))
        print(f"the index has {index / 2**20:,.0f} MiB")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"synthetic": True, "runs": arguments.runs, "trials_a_run": arguments.trials,
                                          "trial_mib": size / 2**20, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
