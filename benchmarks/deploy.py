# SPDX-License-Identifier: Apache-2.0
"""How long each stack takes to be deployed and undeployed in the lab: every folder in each of its roles with default
parameters, every stack of the scenarios that ship, and those of deploy.yaml.

    python -m benchmarks.deploy --json results/bench-deploy.json

Deploying ends when the role is being served and the counters can be read; undeploying when everything is put back.
Not in it: connecting to the host, tuning, the role check, and building programs, which a round before those that count
has done.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import stacks
from harness.errors import HarnessError, MeasurementError
from harness.host.dut import SshDut
from harness.lab.lab import Lab
from harness.lab.turn import turn
from harness.plan import PointPlan, Role
from harness.planning import build_plan
from harness.resources import resource
from harness.scenario import ScenarioFile, load_scenario
from harness.stack import StackContext
from harness.testbed import Testbed, lab_testbed
from harness.texttable import columns

#: Deploying plus undeploying any stack in the lab (issue 3).
LIMIT_S = 3.0


@dataclass(frozen=True)
class Case:
    """A point to deploy; ``name`` says its role, stack and parameters."""

    name: str
    point: PointPlan


@dataclass
class Times:
    """What came of a case: seconds of every round; what the host lacks for it; what went wrong."""

    name: str
    deploy_s: list[float] = dataclasses.field(default_factory=list)
    undeploy_s: list[float] = dataclasses.field(default_factory=list)
    skipped: str = ""
    failed: str = ""

    @property
    def worst_s(self) -> float | None:
        """Both together, of the slowest round."""
        return max((up + down for up, down in zip(self.deploy_s, self.undeploy_s, strict=True)), default=None)

    def verdict(self) -> str:
        """met, MISSED, FAILED, or n/a; the last two with the reason."""
        if self.failed:
            return f"FAILED: {self.failed}"
        if self.worst_s is None:
            return f"n/a: {self.skipped}"
        return "MISSED" if self.worst_s > LIMIT_S else "met"

    @property
    def good(self) -> bool:
        """Nothing went wrong, and not too slowly."""
        return not self.failed and (self.worst_s is None or self.worst_s <= LIMIT_S)


def scenarios() -> Iterator[ScenarioFile]:
    """For each role one of all stacks that need no words of the user's, then those that ship, then this benchmark's."""
    for role in Role:
        names = [name for name, kind in stacks.available().items()
                 if role in kind.roles and not any(field.is_required() for field in kind.Params.model_fields.values())]
        text = (f"name: defaults\nrole: {role}\ncores: [1]\nstacks: [{', '.join(names)}]\n"
                f"measure: {{load_curve: {{rates: [1k], trial: 2s}}}}\n"
                + ("" if role is Role.ACCEPT else "traffic: {frame: 64}\n"))
        yield load_scenario(Path(f"{role}.yaml"), text)
    yield from map(load_scenario, [*sorted(resource("scenarios").glob("*.yaml")), Path(__file__).with_suffix(".yaml")])


def cases(testbed: Testbed) -> list[Case]:
    """Each role, stack, parameters and traffic once."""
    found: dict[tuple[Any, ...], Case] = {}
    for scenario in scenarios():
        for point in build_plan(scenario, testbed, seed=1).points:
            traffic = "".join([" IPv6" if point.ip_version == 6 else "",
                               f" {len(point.cores)} cores" if len(point.cores) > 1 else ""])
            key = (point.role, point.stack, json.dumps(point.params, sort_keys=True), traffic)
            found.setdefault(key, Case(f"{point.role}: {point.label}{traffic}", point))
    return sorted(found.values(), key=lambda case: (case.point.stack, case.name))


def measure(dut: SshDut, case: Case, rounds: int) -> Times:
    """Deploy and undeploy; a round more than asked, of which the first does not count."""
    times, stack = Times(case.name), stacks.create(case.point.stack, case.point.params)
    if missing := stack.requirements(dut, case.point):
        times.skipped = missing[0].what
        return times
    context = StackContext(dut, case.point, stacks.source(case.point.stack))
    for number in range(rounds + 1):
        started = time.monotonic()
        try:
            with stack.deploy(context) as running:
                running.check_alive()
                running.counters()
                served = time.monotonic()
        except MeasurementError as error:
            times.failed = str(error)
            return times
        if number:
            times.deploy_s.append(served - started)
            times.undeploy_s.append(time.monotonic() - served)
    return times


def table(rows: Sequence[Times]) -> str:
    """The rows as aligned text, seconds; the limit holds for the slowest round."""
    lines = [("role: stack", "deploy min/median/max", "undeploy", "both", f"{LIMIT_S:g} s")]
    for row in rows:
        if row.worst_s is None:
            lines.append((row.name, "", "", "", row.verdict()))
        else:
            lines.append((row.name, _spread(row.deploy_s), _spread(row.undeploy_s), f"{row.worst_s:.2f}",
                          row.verdict()))
    return columns(lines)


def _spread(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in (min(values), statistics.median(values), max(values)))


def run(rounds: int, only: str) -> list[Times]:
    """All cases whose name holds ``only``, in a lab of their own."""
    rows = []
    with turn(print), Lab.up(wires=2) as lab:
        testbed = lab_testbed(lab.wires, lab.tg_cores, lab.dut_cores)
        chosen = [case for case in cases(testbed) if only in case.name]
        with SshDut.connect("dut", lab.ssh, home_cores=lab.tg_cores, virtual=True,
                            state_dir=str(lab.dut_state_dir)) as dut:
            for case in chosen:
                rows.append(measure(dut, case, rounds))
                print(f"  {case.name}: {rows[-1].verdict()}", file=sys.stderr, flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the table, write the JSON; 4 when a stack failed or took longer than the limit, or none was there."""
    parser = argparse.ArgumentParser(prog="bench-deploy", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name holds this text")
    arguments = parser.parse_args(argv)
    try:
        rows = run(arguments.rounds, arguments.only)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(table(rows))
    deployed = [row for row in rows if row.worst_s is not None]
    for row in sorted(deployed, key=lambda row: row.worst_s or 0.0)[-1:]:
        print(f"\nslowest: {row.name}, {row.worst_s:.2f} s; limit {LIMIT_S:g} s; missed or failed: "
              f"{sum(not row.good for row in rows)} of {len(rows)}, not deployed: {len(rows) - len(deployed)}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps([dataclasses.asdict(row) | {"verdict": row.verdict()} for row in rows],
                                             indent=1) + "\n")
    return 0 if deployed and all(row.good for row in rows) else 4


if __name__ == "__main__":
    sys.exit(main())
