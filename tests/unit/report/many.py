# SPDX-License-Identifier: Apache-2.0
"""A simulated run of many stacks on many cores, in memory, for tests of charts. Nothing in it was measured: its host
says "simulated", and its run id too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.metrics import Kind, Metric, PointKey
from harness.analysis.trend import RunRow, Series, Step, Trend
from harness.plan import HostPlan
from harness.records import CoreLoad, Cpu, Verdict
from harness.report.charts.material import Published
from harness.rundata import RunData
from tests.unit.report.synthetic import Model, Simulator, make_plan, measure, run_info

#: Names as long as real ones, of stacks with a colour of their own, without one, and variants.
STACKS = (
    ("linux-udp", "linux-udp reuseport=false", {"reuseport": False}), ("xdp", "xdp", {}), ("dpdk", "dpdk", {}),
    ("af-xdp", "af-xdp zero_copy=false", {"zero_copy": False}), ("netmap", "netmap", {}),
    ("linux-udp", "linux-udp reuseport=true steer=ebpf", {"reuseport": True}), ("vpp", "vpp", {}),
    ("command", "command my-userspace-stack", {"x": 1}), ("seastar", "seastar", {}),
    ("linux-drop", "linux-drop place=tc_clsact rules=100", {"rules": 100}),
    ("linux-drop", "linux-drop place=nft_ingress rules=100", {"rules": 101}), ("mtcp", "mtcp", {}),
)
COUNTS = (1, 2, 4, 8, 16, 32, 64)
#: Made up too: words as long as the real ones', from far below what is measured to far above it.
PUBLISHED = tuple(
    Published(f"Stack {n} of a long name", f"detail {n} of how it was set up", f"s{n // 2}", "echo", 64, 1 + n % 2,
              40e3 * 3 ** n, "Intel Xeon E5-1650 v4, Mellanox ConnectX-5 Ex VPI 100G",
              f"Paper number {n} (2018)", {"id": f"p{n}"})
    for n in range(8))


def models(stacks: int, counts: tuple[int, ...]) -> tuple[Model, ...]:
    """``stacks`` made-up stacks on each number of cores; every third polls, with polls counted or not."""
    found = []
    for index, (stack, label, params) in enumerate(STACKS[:stacks]):
        for count in counts:
            scale = count / (1 + 0.03 * (index % 4) * (count - 1))
            rate = (70e3 + 55e3 * index) * scale
            found.append(Model(stack, label, params, tuple(range(1, count + 1)), rate, rate * 1.12, rate * 1.3,
                               15 + 6 * index, polling=index % 3 == 2, split=index % 6 == 2,
                               degraded="copy mode" if index == 3 else "", fails=index == 7 and count == counts[-1]))
    return tuple(found)


class _Quick(Simulator):
    """Many trials in little time: every core only where a chart shows it, fewer latency samples."""

    latency_samples = 3_000

    def __init__(self, seed: int, cores: int) -> None:
        super().__init__(seed)
        self.cores = cores

    def _cpu(self, model: Model, busy: float, seconds: float, load: float) -> Cpu:
        if seconds < 3:
            return Cpu(indicative=True, seconds=seconds, cores=[], busy_cores=busy * len(model.cores))
        rng = self.numpy.uniform(0.9, 1.0, self.cores)
        cores = []
        for core in range(self.cores):
            given = core in model.cores
            share = float(rng[core]) * ((1.0 if model.polling else busy) if given else
                                        0.97 if core == 0 else 0.3 if core == self.cores - 1 else 0.01)
            cores.append(CoreLoad.model_construct(core=core, given=given, user=share, system=0.0, irq=0.0, softirq=0.0,
                                                  steal=0.0, idle=1 - share, run=share))
        polls = int(seconds * 3e6) if model.split else None
        return Cpu.model_construct(
            indicative=False, seconds=seconds, cores=cores, busy_cores=sum(c.busy for c in cores if c.given),
            cycles_per_packet=busy * 2.1e9 * len(model.cores) / load, cycles_source="time x nominal frequency",
            useful_polls=int(polls * busy * 0.8) if polls else None,
            empty_polls=int(polls * (1 - busy * 0.8)) if polls else None,
            polls_source="testpmd record-burst-stats" if polls else "", extra=[], other=[], sampling_cost=None)

    def _counters(self, model: Model, received: int) -> dict[str, Any]:
        weights = self.numpy.uniform(0.5, 1.5, len(model.cores))
        frames = [int(share) for share in received * weights / weights.sum()]
        return {"interfaces": {"d0": {f"rx_queue_{n}_packets": count for n, count in enumerate(frames)}},
                "workers": [{"core": core, "received": count}
                            for core, count in zip(model.cores, frames, strict=True)]}

    def _losses(self, model: Model, lost: int) -> dict[str, int]:
        places = ("DUT ring", "driver ring", "softirq backlog", "socket receive buffer", "application",
                  "return path", "host pause", "AF_XDP fill ring empty")
        return {place: int(lost * share) for place, share in
                zip(places, (0.4, 0.2, 0.1, 0.1, 0.08, 0.05, 0.02, 0.02), strict=True)} if lost else {}


def a_history(stacks: int, runs: int) -> Trend:
    """As many runs of these stacks on one core, begun an hour apart; every third stack is 10 % slower from the middle
    on, where the kernel changes, and every fourth run of the first one has only a lower bound."""
    chosen = [PointKey.of(point) for point in make_plan(models(stacks, (1,)), 1, 5).points]
    rates = [model.pdr for model in models(stacks, (1,))]
    began = datetime(2026, 1, 1, tzinfo=UTC)
    rows = tuple(RunRow(f"20260101-{number:06d}-simulated", (began + timedelta(hours=number)).isoformat(),
                        2 * number // runs, {"dut.cpu.model": "Simulated CPU @ 2.10GHz", "testbed": "lab",
                                             "dut.kernel.release": f"6.1{2 * number // runs}.0-simulated"})
                 for number in range(runs))
    noise = np.random.default_rng(5).normal(1, 0.01, (stacks, runs))
    series = []
    for index, (key, rate) in enumerate(zip(chosen, rates, strict=True)):
        values = [float(rate * noise[index, n] * (0.9 if index % 3 == 0 and 2 * n >= runs else 1)) for n in range(runs)]
        step = Step(rows[runs // 2 - 1].run, rows[runs // 2].run, rate, 0.9 * rate, 1e-9, False, False, ())
        point = (key.stack, key.params, key.tuning, key.role, key.frames, str(key.cores), key.host)
        bounds = tuple(index == 0 and n % 4 == 0 for n in range(runs))
        series.append(Series(point, key.label, key.stack, Metric(Kind.NDR), "pps", tuple(values), bounds,
                             (step,) if index % 3 == 0 else ()))
    return Trend("simulated", rows, tuple(series), (), False)


def many(stacks: int, counts: tuple[int, ...] = (1,), *, repeat: int = 1, ceiling: float = 1.5e6) -> RunData:
    """The run. Cores beyond the given ones are idle, but for the generator's and one that does somebody else's work."""
    chosen = models(stacks, counts)
    plan = make_plan(chosen, repeat, 5)
    hosts = (HostPlan("dut", tuple(range(1, max(counts) + 1)), "eth0", max(counts) + 2),)
    plan = replace(plan, hosts=hosts)
    sim = _Quick(5, max(counts) + 2)
    by_id = {point.id: (model, point) for model, point in zip(chosen, plan.points, strict=True)}
    outcomes = []
    for repeat_number, ident in plan.sequence:
        outcome = measure(sim, *by_id[ident], repeat_number)
        if outcome.ndr is not None and by_id[ident][0].stack in ("xdp", "netmap"):
            outcome.ndr.verdicts = [Verdict.PAUSED, Verdict.NOISY, Verdict.INCONCLUSIVE]
        outcomes.append(outcome)
    info = run_info(plan, f"20260101-000000-simulated-{stacks}x{max(counts)}")
    info.ceilings[0].sent_pps = ceiling
    return RunData(Path("simulated"), info, plan, tuple(sim.trials), tuple(outcomes), ())
