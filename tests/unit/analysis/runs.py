# SPDX-License-Identifier: Apache-2.0
"""Synthetic runs with the values a test asks for. Nothing here was measured; run.json says "simulated"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.records import Bound, Cpu, LatencyAt, LoadPoint, Percentiles, Phase, PointOutcome, RunInfo, Trial, Verdict
from tests.unit.report.synthetic import MODELS, make_plan, run_info, write_run

#: The points that every run has: linux-udp (two settings), xdp, dpdk.
POINTS = (MODELS[0], MODELS[1], MODELS[3], MODELS[4])
NAMES = ("linux-udp reuseport=false", "linux-udp reuseport=true", "xdp", "dpdk")
NDR = (100e3, 110e3, 800e3, 300e3)
LOAD = 200e3


def around(centre: float, noise: float, repeats: int, seed: int) -> list[float]:
    """Values whose logarithms have exactly this mean and standard deviation: nothing is left to luck."""
    raw = np.random.default_rng(seed).normal(size=repeats)
    scaled = (raw - raw.mean()) / raw.std(ddof=1) if repeats > 1 else raw * 0
    return [float(value) for value in centre * np.exp(noise * scaled)]


def make(results: Path, run_id: str, *, ndr: Mapping[str, Sequence[float]] | None = None, repeats: int = 5,
         noise: float = 0.01, factor: float = 1.0, failed: Mapping[str, str] | None = None, limited: Sequence[str] = (),
         started: str = "2025-11-22T20:00:00Z", state: str = "complete", gate: Mapping[str, float] | None = None,
         p99_ns: float = 50_000.0, loss: Sequence[float] = (), info: Callable[[RunInfo], object] = lambda _: None,
         models: Sequence[Any] = POINTS, goal: str = "ndr", marks: Sequence[Verdict] = (),
         crashed: Mapping[str, int] | None = None, resolution_ns: int = 1) -> Path:
    """Write ``results/run_id``: NDR of every point from ``ndr`` by its name, or around NDR x ``factor``. ``goal``:
    the rate that it is written as. ``marks``: verdicts of the first repeats' latency trials. ``failed``: reasons of
    points that failed; ``crashed``: only in so many first repeats. ``resolution_ns``: width of the latency source's
    buckets."""
    plan = make_plan(tuple(models), repeats, 7)
    trials: list[Trial] = []
    outcomes: list[PointOutcome] = []
    for index, (model, point) in enumerate(zip(models, plan.points, strict=True)):
        values = (ndr or {}).get(model.label) or around(NDR[index % 4] * factor, noise, repeats, index + len(run_id))
        latencies = around(p99_ns, 0.02, repeats, index)
        for repeat, (rate, p99) in enumerate(zip(values, latencies, strict=True)):
            if model.label in (failed or {}) or repeat < (crashed or {}).get(model.label, 0):
                outcomes.append(PointOutcome(point=point.id, repeat=repeat, status="failed",
                                             reason=(failed or {}).get(model.label, "the stack died: signal 11"),
                                             verdicts=[Verdict.FAILED]))
                continue
            verdicts = [Verdict.GENERATOR_LIMITED] if model.label in limited else []
            curve = []
            if loss:
                trials.append(_trial(len(trials) + 1, point.id, repeat, Phase.LOAD, loss[repeat]))
                curve = [LoadPoint(load_pps=LOAD, trial=trials[-1].number)]
            trials.append(_trial(len(trials) + 1, point.id, repeat, Phase.LATENCY, 0.0))
            trials[-1].verdicts = [] if repeat else list(marks)
            bound = Bound(pps=rate, load_pps=rate, upper_pps=rate * 1.005, loss_ratio=0.0, verdicts=verdicts)
            outcomes.append(PointOutcome(
                point=point.id, repeat=repeat, load_curve=curve, ndr=bound if goal == "ndr" else None,
                pdr=bound if goal == "pdr" else None,
                latency=[LatencyAt(fraction=0.5, of="pdr", load_pps=5e4, trial=trials[-1].number,
                                   percentiles=_percentiles(p99, resolution_ns))]))
    written = run_info(plan, run_id)
    written.started_at, written.state = started, state
    written.scenario = {"name": plan.scenario, "gate": dict(gate) if gate is not None else {"ndr": -0.03}}
    info(written)
    folder = results / run_id
    folder.mkdir(parents=True)
    write_run(folder, written, trials, outcomes)
    # pydantic writes NaN as null; another tool may not.
    file = folder / "points.jsonl"
    file.write_text(file.read_text().replace('{"pps":null,"load_pps":null', '{"pps":NaN,"load_pps":NaN'))
    return folder


def _trial(number: int, point: str, repeat: int, phase: Phase, loss: float) -> Trial:
    return Trial(number=number, point=point, repeat=repeat, phase=phase, started_at="2025-11-22T20:00:00Z",
                 asked_pps=LOAD, duration_s=3.0, real_s=3.0, loss_ratio=loss,
                 cpu=Cpu(indicative=False, seconds=3.0, cores=[], busy_cores=0.5 + loss))


def _percentiles(p99: float, resolution_ns: int) -> Percentiles:
    """In buckets of ``resolution_ns``: the lowest value of the one that p99 is in."""
    bucketed = int(p99) // resolution_ns * resolution_ns
    return Percentiles(samples=10_000, lost=0, out_of_order=0, duplicate=0, min_ns=9_000, max_ns=int(p99 * 2),
                       mean_ns=20_000, jitter_ns=900, p50_ns=20_000, p90_ns=30_000, p99_ns=bucketed, p999_ns=None,
                       resolution_ns=resolution_ns)
