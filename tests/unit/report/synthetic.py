# SPDX-License-Identifier: Apache-2.0
"""A simulated run for tests of the report. Nothing here was measured: every file says "simulated".

Capacities are made up so that the report meets what real runs have: four stacks, repeats that differ, a point that
failed, a search without a loss-free load, pauses and repeated trials, a polling stack with and without a poll split.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.plan import (
    DirectionPlan,
    FlowPlan,
    GeneratorPlan,
    HostPlan,
    MeasureSettings,
    Plan,
    PointPlan,
    PortPlan,
    Role,
    SearchSettings,
    WirePlan,
    line_rate_pps,
)
from harness.records import CEILING as CEILING_POINT
from harness.records import (
    Bound,
    Ceiling,
    Check,
    CoreLoad,
    Cpu,
    Direction,
    LatencyAt,
    LoadPoint,
    Pauses,
    Percentiles,
    Phase,
    PointOutcome,
    RunInfo,
    Trial,
    Verdict,
)

LOADS = (50e3, 100e3, 200e3, 400e3)
FRACTIONS = (0.1, 0.5, 0.9)
CEILING = 1_480_000.0


@dataclass(frozen=True)
class Model:
    """A made-up stack: what it forwards on its cores, its latency, how its cores look."""

    stack: str
    label: str
    params: dict[str, Any]
    cores: tuple[int, ...]
    ndr: float
    pdr: float
    mrr: float
    p50_us: float
    polling: bool = False
    split: bool = False
    fails: bool = False
    no_ndr: bool = False
    degraded: str = ""


MODELS = (
    Model("linux-udp", "linux-udp reuseport=false", {"reuseport": False}, (1,), 96e3, 131e3, 118e3, 34),
    Model("linux-udp", "linux-udp reuseport=true", {"reuseport": True}, (1,), 101e3, 138e3, 127e3, 33),
    Model("linux-udp", "linux-udp reuseport=true", {"reuseport": True}, (1, 2), 0, 241e3, 226e3, 36, no_ndr=True),
    Model("xdp", "xdp", {}, (1,), 812e3, 905e3, 1_190e3, 19),
    Model("dpdk", "dpdk", {"burst": 32}, (1,), 288e3, 352e3, 341e3, 41, polling=True, split=True,
          degraded="AF_XDP copy mode"),
    Model("dpdk", "dpdk", {"burst": 32}, (1, 2), 0, 0, 0, 40, polling=True, fails=True),
)


def wire(index: int) -> WirePlan:
    """A virtual wire as the lab's plan has it."""
    tg = PortPlan(index, f"tg{index}", f"02:00:00:00:0{index}:01", f"198.18.{index}.1", 24)
    dut = PortPlan(index, f"d{index}", f"02:00:00:00:0{index}:02", f"198.18.{index}.2", 24)
    return WirePlan(index, "dut", tg, dut, 10.0, f"16.{index}.0.0/16", virtual=True)


def point_plan(model: Model, frame: int = 64) -> PointPlan:
    """The plan of one simulated point."""
    flows = FlowPlan(1024, "16.0.0.1", 16, 1024, 64, "198.18.0.2", 9000)
    direction = DirectionPlan(0, 0, "02:00:00:00:00:01", "02:00:00:00:00:02", flows)
    # The planner says in the label what varies in the scenario: here the cores.
    label = f"{model.label}, {len(model.cores)} core{'s' * (len(model.cores) > 1)}"
    ident = "-".join([model.label.replace(" ", "-").replace("=", "-"), f"{len(model.cores)}c", f"{frame}b"])
    return PointPlan(ident, label, model.stack, model.params, Role.ECHO, "dut", frame, model.cores, (wire(0),),
                     (direction,), line_rate_pps(10, frame), polling=model.polling)


def make_plan(models: tuple[Model, ...], repeat: int, seed: int) -> Plan:
    """The plan of the whole simulated run."""
    points = tuple(point_plan(model) for model in models)
    search = SearchSettings(("mrr", "ndr", "pdr"), 1.0, 0.5, 0.005, 0.005, 5_000, 60)
    measure = MeasureSettings(search, FRACTIONS, "pdr", 2.0, 1000, LOADS, 3.0, 0.5, repeat)
    order = [(r, point.id) for r in range(repeat) for point in points]
    random.Random(seed).shuffle(order)
    return Plan("udp-echo-64b", "lab", True, Role.ECHO, (wire(0), wire(1)),
                (HostPlan("dut", (1, 2), "eth0", 4),), GeneratorPlan("xdpgen", (0,), "", 4501, 4500), points, measure,
                tuple(order), seed, 40 * len(order), 25.0 * len(order), ("simulated for tests, nothing was measured",))


class Simulator:
    """Makes trials one after another, numbered as a run numbers them."""

    cores = 4
    latency_samples = 10_000

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.trials: list[Trial] = []

    def trial(self, model: Model, plan: PointPlan, repeat: int, phase: Phase, load: float, seconds: float, *,
              pause: bool = False, latency: bool = False, scale: float = 1.0) -> Trial:
        """One simulated trial at ``load`` pps; kept in ``trials``."""
        load = min(load, CEILING)
        asked = int(load * seconds)
        loss = self._loss(model, load, scale) + (0.002 if pause else 0.0)
        lost = int(asked * loss)
        busy = min(1.0, load / (model.mrr * scale * 1.05)) if model.mrr else 0.0
        trial = Trial(
            number=len(self.trials) + 1, point=plan.id, repeat=repeat, phase=phase,
            started_at="2025-11-22T20:00:00Z", asked_pps=load, duration_s=seconds, real_s=seconds * 1.0004,
            directions=[Direction(tx_port=0, rx_port=0, asked=asked, sent=asked, received=asked - lost, lost=lost)],
            offered_pps=load, forwarding_pps=(asked - lost) / seconds, sent=asked, received=asked - lost, lost=lost,
            loss_ratio=lost / asked, losses=self._losses(model, lost), unexplained=lost - sum(
                self._losses(model, lost).values()), generator_utilisation=min(0.99, load / CEILING),
            pauses=Pauses(generator=int(pause), dut=int(pause) * 2, total_ns=int(pause) * 3_100_000,
                          longest_ns=int(pause) * 1_700_000, probe="sleep 250 us"),
            cpu=self._cpu(model, busy, seconds, load), latency=self._latency(model, busy) if latency else None,
            counters=self._counters(model, asked - lost),
            verdicts=[Verdict.LAB, *([Verdict.PAUSED] if pause else [])])
        self.trials.append(trial)
        return trial

    def _counters(self, model: Model, received: int) -> dict[str, Any]:
        """A queue and a worker for each core; the first gets two thirds where there are several. A stack that tells its
        polls apart took eight frames a call, at 250 clocks each."""
        others = len(model.cores) - 1
        first = received * 2 // 3 if others else received
        shares = [first, *((received - first) // others + (n < (received - first) % others) for n in range(others))]
        stack = {"vectors": received, "calls": received // 8, "clocks": received * 250} if model.split else {}
        return {"interfaces": {"d0": {f"rx_queue_{n}_xdp_packets": frames for n, frames in enumerate(shares)}},
                "stack": stack,
                "workers": [{"core": core, "received": frames}
                            for core, frames in zip(model.cores, shares, strict=True)]}

    def _loss(self, model: Model, load: float, scale: float) -> float:
        ndr = (model.ndr or model.pdr * 0.7) * scale
        pdr, mrr = model.pdr * scale, model.mrr * scale
        if load <= ndr:
            return 0.00002 if model.no_ndr else 0.0
        if load <= pdr:
            return 0.005 * (load - ndr) / (pdr - ndr)
        return max(0.006, 1 - mrr / load)

    def _losses(self, model: Model, lost: int) -> dict[str, int]:
        place = "driver ring" if model.stack in ("xdp", "dpdk") else "socket buffer"
        return {place: int(lost * 0.93), "softirq backlog": int(lost * 0.05)} if lost else {}

    def _cpu(self, model: Model, busy: float, seconds: float, load: float) -> Cpu:
        cores = []
        for core in range(self.cores):
            given = core in model.cores
            share = (1.0 if model.polling else busy) if given else (0.97 if core == 0 else 0.01)
            share = min(1.0, max(0.0, share * (1 + self.random.uniform(-0.02, 0))))
            cores.append(CoreLoad(core=core, given=given, user=share * 0.3, system=share * 0.5, irq=0,
                                  softirq=share * 0.2, steal=0.004, idle=1 - share, run=share))
        polls = int(seconds * 3e6) if model.split else None
        return Cpu(indicative=seconds < 2, seconds=seconds, cores=cores,
                   busy_cores=sum(core.busy for core in cores if core.given),
                   cycles_per_packet=busy * 2.1e9 * len(model.cores) / load if not model.polling else None,
                   cycles_source="time x nominal frequency" if not model.polling else "",
                   useful_polls=int(polls * busy * 0.8) if polls else None,
                   empty_polls=int(polls * (1 - busy * 0.8)) if polls else None,
                   polls_source="testpmd record-burst-stats" if polls else "", sampling_cost=0.003)

    def _latency(self, model: Model, busy: float) -> Percentiles:
        median = model.p50_us * (1 + busy * 0.6) * 1000
        samples = self.latency_samples
        slow = 1 + (self.numpy.random(samples) < 0.004) * 25
        values = np.sort(median * np.exp(self.numpy.normal(0, 0.22, samples)) * slow)
        buckets, frames = np.unique((2 ** (np.floor(np.log2(values) * 8) / 8)).astype(int), return_counts=True)
        histogram = list(zip(buckets.tolist(), frames.tolist(), strict=True))
        at = [int(values[min(samples - 1, int(samples * q))]) for q in (0.5, 0.9, 0.99, 0.999)]
        return Percentiles(samples=samples, lost=0, out_of_order=0, duplicate=0, min_ns=int(values[0]),
                           max_ns=int(values[-1]), mean_ns=float(values.mean()), jitter_ns=900.0, p50_ns=at[0],
                           p90_ns=at[1], p99_ns=at[2], p999_ns=None if model.no_ndr else at[3], resolution_ns=1,
                           histogram=histogram)


def search(sim: Simulator, model: Model, plan: PointPlan, repeat: int, scale: float) -> None:
    """A search that closes in on NDR and PDR as MLRsearch does, with one repeated trial."""
    low, high = 5_000.0, CEILING
    sim.trial(model, plan, repeat, Phase.SEARCH, high, 1.0, scale=scale)
    sim.trial(model, plan, repeat, Phase.SEARCH, model.mrr * scale, 1.0, scale=scale)
    for target in (model.pdr * scale, (model.ndr or model.pdr * 0.7) * scale):
        width = 0.4
        while width > 0.004:
            sim.trial(model, plan, repeat, Phase.SEARCH, min(high, target * (1 + width)), 1.0, scale=scale)
            sim.trial(model, plan, repeat, Phase.SEARCH, max(low, target * (1 - width)), 1.0, scale=scale)
            width /= 2.4
    paused = sim.trial(model, plan, repeat, Phase.SEARCH, (model.ndr or model.pdr * 0.7) * scale * 0.999, 1.0,
                       pause=True, scale=scale)
    paused.superseded = True
    again = sim.trial(model, plan, repeat, Phase.SEARCH, paused.asked_pps, 1.0, scale=scale)
    again.attempt = 1


def measure(sim: Simulator, model: Model, plan: PointPlan, repeat: int) -> PointOutcome:
    """All trials of one repeat of one point, and what they came to."""
    if model.fails:
        return PointOutcome(point=plan.id, repeat=repeat, status="failed", verdicts=[Verdict.LAB, Verdict.FAILED],
                            reason="testpmd did not start: the device has 1 queue and 2 cores were given",
                            log_tail="EAL: Detected CPU lcores: 4\nEAL: Error - exiting with code: 1\n"
                                     "  Cause: Invalid number of RX queues 2 > 1\n")
    scale = 1 + sim.random.uniform(-0.02, 0.02)
    first = len(sim.trials)
    sim.trial(model, plan, repeat, Phase.WARMUP, model.pdr * 0.5, 0.5)
    search(sim, model, plan, repeat, scale)
    latency = []
    for fraction in FRACTIONS:
        load = model.pdr * scale * fraction
        trial = sim.trial(model, plan, repeat, Phase.LATENCY, load, 2.0, latency=True)
        latency.append(LatencyAt(fraction=fraction, of="pdr", load_pps=load, trial=trial.number,
                                 percentiles=trial.latency))
    curve = [LoadPoint(load_pps=load, trial=sim.trial(model, plan, repeat, Phase.LOAD, load, 3.0).number)
             for load in LOADS]
    hard = model.stack == "xdp"
    ndr = Bound(pps=model.ndr * scale, load_pps=model.ndr * scale, upper_pps=model.ndr * scale * 1.005, loss_ratio=0.0,
                attempts=4 if hard else 1, verdicts=[Verdict.PAUSED, Verdict.INCONCLUSIVE] if hard else [])
    if model.no_ndr:
        ndr = Bound(pps=None, load_pps=None, upper_pps=5_000, reason="frames were lost even at the smallest load, "
                    "5 kpps")
    mrr_verdicts = [Verdict.LAB, Verdict.GENERATOR_LIMITED]  # as real ones: even while the stack loses most frames
    return PointOutcome(
        point=plan.id, repeat=repeat, ndr=ndr,
        pdr=Bound(pps=model.pdr * scale * 0.996, load_pps=model.pdr * scale, upper_pps=model.pdr * scale * 1.005,
                  loss_ratio=0.004),
        mrr=Bound(pps=model.mrr * scale, load_pps=CEILING, upper_pps=None, loss_ratio=1 - model.mrr * scale / CEILING,
                  verdicts=mrr_verdicts),
        ndr_raw=None if model.no_ndr else Bound(pps=model.ndr * scale * 0.91, load_pps=model.ndr * scale * 0.91,
                                                upper_pps=model.ndr * scale * 0.915, loss_ratio=0.0),
        pdr_raw=Bound(pps=model.pdr * scale * 0.996, load_pps=model.pdr * scale, upper_pps=model.pdr * scale * 1.005),
        latency=latency, load_curve=curve, trials=len(sim.trials) - first, paused_repeats=1, deploy_s=1.2,
        undeploy_s=0.4, semantics="application echo", degraded=model.degraded,
        verdicts=[Verdict.LAB, *mrr_verdicts, *([Verdict.DEGRADED] if model.degraded else []),
                  *([Verdict.LAB_RSS] if len(model.cores) > 1 else [])])


def run_info(plan: Plan, run_id: str) -> RunInfo:
    """``run.json`` of the simulated run."""
    host = {"os": "Debian GNU/Linux 12 (simulated)", "virtualisation": "kvm",
            "kernel": {"release": "6.18.0-simulated", "version": "#1 SMP", "command_line": "quiet"},
            "cpu": {"model": "Simulated CPU @ 2.10GHz", "cores": 4, "nominal_hz": 2.1e9, "turbo": None},
            "mitigations": {"spectre_v2": "Mitigation: simulated"},
            "nics": {"d0": {"driver": "veth", "queues": {"combined": 2}, "offloads": {"scatter-gather": False}}}}
    ceilings = [Ceiling(frame_bytes=64, host="dut", stack="xdp", sent_pps=CEILING, received_pps=CEILING * 0.93,
                        trial=1)]
    return RunInfo(run_id=run_id, harness_version="0.1.0", started_at="2025-11-22T20:00:00Z",
                   ended_at="2025-11-22T20:14:40Z", state="complete", exit_code=4,
                   command=["harness", "run", "scenarios/quickstart.yaml"], seed=plan.seed,
                   scenario_text="# simulated\nname: udp-echo-64b\nrole: echo\ntraffic: {frame: 64, flows: 1024}\n",
                   scenario={"name": "udp-echo-64b"}, plan=json.loads(json.dumps(asdict(plan))),
                   hosts={"dut": host, "generator": host}, ceilings=ceilings, wall_s=880.0, trials_s=702.0,
                   generator={"kind": "xdpgen", "version": "0.1.0", "client": "stl", "cores": [0]},
                   notes=["simulated for tests: no frame was sent"], checks=[
                       Check(name="governor", host="dut", value="powersave", expected="performance", status="warn",
                             why="a clock that follows the load", remedy="cpupower frequency-set", policy="warn"),
                       Check(name="link", host="dut", target="d0, d1", value="up", expected="up", status="ok",
                             why="without a link every frame is lost", policy="fail"),
                       Check(name="turbo", host="dut", value="", expected="off", status="unknown", policy="warn",
                             why="the clock depends on others", reason="the host hides it")])


def make_run(results: Path, *, run_id: str = "20251122-200000-simulated", repeat: int = 3, seed: int = 7,
             models: tuple[Model, ...] = MODELS, pad_trials: int = 0) -> Path:
    """Write ``results/<run_id>`` and return it. ``pad_trials``: repeat search trials until there are this many."""
    plan = make_plan(models, repeat, seed)
    by_id = {point.id: (model, point) for model, point in zip(models, plan.points, strict=True)}
    sim = Simulator(seed)
    sim.trial(next(m for m in models if not m.fails), plan.points[0], 0, Phase.CEILING, CEILING, 1.0)
    sim.trials[0].point = CEILING_POINT
    outcomes = [measure(sim, *by_id[ident], r) for r, ident in plan.sequence]
    source = [trial for trial in sim.trials if trial.phase is Phase.SEARCH]
    for extra in range(pad_trials - len(sim.trials)):
        sim.trials.append(source[extra % len(source)].model_copy(update={"number": len(sim.trials) + 1}))
    folder = results / run_id
    folder.mkdir(parents=True)
    write_run(folder, run_info(plan, run_id), sim.trials, outcomes)
    return folder


def write_run(folder: Path, info: RunInfo, trials: list[Trial], outcomes: list[PointOutcome]) -> None:
    """Write the three files of a run directory."""
    (folder / "run.json").write_text(info.model_dump_json(indent=1), encoding="utf-8")
    for name, records in (("trials.jsonl", trials), ("points.jsonl", outcomes)):
        text = "".join(record.model_dump_json() + "\n" for record in records)
        (folder / name).write_text(text, encoding="utf-8")
