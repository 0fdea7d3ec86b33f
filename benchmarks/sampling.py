# SPDX-License-Identifier: Apache-2.0
"""What measuring costs the DUT: CPU samples and pause probe over trials of 3 s at 50 kpps, as shares of one core.

    python -m benchmarks.sampling --json results/bench-sampling.json

Twice, from two sources: as the harness records it with every trial (resource usage of agent and probes), and from the
run times that the scheduler keeps of every thread of both (/proc/<pid>/task/<tid>/schedstat), read from outside when
the traffic begins and ends. The second leaves out starting and stopping, which lie outside of the traffic.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import stacks
from harness.errors import HarnessError
from harness.generator.contract import TrafficResult, TrafficSpec
from harness.machines import Machines, machines_of
from harness.measure.trial import Bench, make_trial
from harness.options import RunOptions
from harness.records import Phase
from harness.stack import StackContext

SCENARIO = Path(__file__).with_suffix(".yaml")
#: What the agent and its probes may take together (issue 4).
LIMIT = 0.005


def observers(netns: str) -> dict[int, str]:
    """Pids of the agent ("agent") and of its probes ("probe") in a network namespace, which is given by its inode."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            inside = str((process / "ns/net").stat().st_ino) == netns
        except OSError:  # it has ended
            continue
        agent = any(re.fullmatch(r"agent-[0-9a-f]+\.py", Path(word).name) for word in argv)
        if inside and (Path(argv[0]).name == "pause_probe" or (agent and "probe" in argv)):
            found[int(process.name)] = "probe"
        elif inside and agent and "serve" in argv:
            found[int(process.name)] = "agent"
    return found


def run_time_s(pids: dict[int, str]) -> dict[str, float]:
    """Seconds that all threads ran, by kind."""
    total = dict.fromkeys(pids.values(), 0.0)
    for pid, kind in pids.items():
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total[kind] += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return total


class Metered:
    """The generator, with the observers' run times taken when its traffic begins and ends."""

    def __init__(self, generator: Any, netns: str) -> None:
        self._generator, self._netns = generator, netns
        self.shares = list[dict[str, float]]()

    def trial(self, rate_pps: float, duration_s: float) -> TrafficResult:
        pids = observers(self._netns)
        before, began = run_time_s(pids), time.monotonic()
        result: TrafficResult = self._generator.trial(rate_pps, duration_s)
        after, took = run_time_s(pids), time.monotonic() - began
        self.shares.append({kind: (after[kind] - before[kind]) / took for kind in after})
        return result


def measure(machines: Machines, trials: int, seconds: float, rate: float) -> list[dict[str, float | None]]:
    """A row a trial: shares of one core."""
    with ExitStack() as owned:
        point = machines.plan.points[0]
        dut = machines.connect_dut(point.host, owned)
        machines.start_generator(owned)
        stack = stacks.create(point.stack, point.params)
        running = owned.enter_context(stack.deploy(StackContext(dut, point, stacks.source(point.stack))))
        machines.pin(point, before_programs=stack.in_softirq())
        machines.generator.configure(TrafficSpec(point.directions, point.frames))
        netns = dut.run(["stat", "-L", "-c", "%i", "/proc/self/ns/net"]).stdout.strip()
        metered: Any = Metered(machines.generator, netns)
        bench = Bench(metered, dut, point, running, "", None, True, 1, (), [point.wires[0].dut.ifname])
        rows = []
        for number in range(trials):
            trial = make_trial(bench, number=number, repeat=0, phase=Phase.LOAD, attempt=0, rate_pps=rate,
                               duration_s=seconds)
            recorded = (trial.cpu.sampling_cost, trial.cpu.probe_cost) if trial.cpu else (None, None)
            agent, probe = (metered.shares[-1].get(kind) for kind in ("agent", "probe"))
            busy = trial.cpu.busy_cores if trial.cpu else None
            rows.append({"recorded": recorded[0], "recorded_probe": recorded[1], "agent": agent, "probe": probe,
                         "busy": busy})
        return rows


def report(rows: Sequence[dict[str, float | None]]) -> str:
    """The rows as text, and the largest."""
    def text(value: float | None) -> str:
        return "n/a" if value is None else f"{100 * value:.3f} %"

    lines = [f"trial {number}: recorded {text(row['recorded'])} (probe {text(row['recorded_probe'])}); scheduler: "
             f"agent {text(row['agent'])}, probe {text(row['probe'])}; the stack's core {text(row['busy'])} busy"
             for number, row in enumerate(rows)]
    most = max((row["recorded"] for row in rows if row["recorded"] is not None), default=None)
    return "\n".join([*lines, f"CPU samples and pause probe together: at most {text(most)} of one DUT core (limit "
                              f"{text(LIMIT)})"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 4 when it costs more than the limit."""
    parser = argparse.ArgumentParser(prog="bench-sampling", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=50_000.0)
    arguments = parser.parse_args(argv)
    try:
        with machines_of(RunOptions(scenario=SCENARIO, testbed="lab"), print) as machines:
            rows = measure(machines, arguments.trials, arguments.seconds, arguments.rate)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(report(rows))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    recorded = [row["recorded"] for row in rows]
    return 0 if all(cost is not None and cost < LIMIT for cost in recorded) else 4


if __name__ == "__main__":
    sys.exit(main())
