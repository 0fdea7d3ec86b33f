# SPDX-License-Identifier: Apache-2.0
"""``harness doctor``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.common import FILE, interrupt_on_termination, json_option, print_checks, say

if TYPE_CHECKING:
    from harness.options import RunOptions
    from harness.records import Check

#: Plans a testbed where no scenario is named: one port and one core of each DUT are enough for it.
_PLANNED_WITH = "quickstart.yaml"


@click.command()
@click.argument("scenario", type=FILE, required=False)
@click.option("--testbed", metavar="FILE", help="Testbed file, or `lab`; what SCENARIO says, or `lab`, when left out.")
@json_option
def doctor(scenario: Path | None, testbed: str | None, as_json: bool) -> int:
    """Check that hosts and wires are fit to be measured on.

    The same checks are made before every run. Links, wires (probe frames), MTU, offloads, rings, pause frames, PCIe,
    clocks, idle states, NUMA, other load, firewalls and more: each with value, expectation, reason and remedy. Without
    SCENARIO all cores and frames of 64 and 1518 bytes are tried. In the lab, which needs root, one is built and removed
    again. Exit code 3 when a check fails whose policy is fail; the testbed file says otherwise: `checks: {governor:
    ignore}`.
    """
    from harness.options import RunOptions
    from harness.resources import resource

    interrupt_on_termination()
    options = RunOptions(scenario, testbed) if scenario is not None else RunOptions(
        resource("scenarios") / _PLANNED_WITH, "lab" if testbed is None else testbed)
    checks = _examine(options, whole=scenario is None)
    return print_checks(checks, as_json=as_json)


def _examine(options: RunOptions, *, whole: bool) -> list[Check]:
    """Connect to everything, look, put it back. ``whole``: all cores and frame sizes, not only those of the plan."""
    from harness.doctor.examination import Examination
    from harness.doctor.examine import FULL_SIZE
    from harness.errors import HarnessError
    from harness.machines import machines_of

    with ExitStack() as owned:
        machines = owned.enter_context(machines_of(options, say))
        machines.every_core = whole
        for name in machines.dut_names():
            machines.connect_dut(name, owned)
            machines.guard_ports(name)
        examination = Examination(machines, FULL_SIZE if whole else 0)
        checks = examination.hosts()
        try:
            machines.start_generator(owned)
        except HarnessError as error:  # what was found of the hosts may well say why
            return checks + examination.without_generator(str(error))
        return checks + examination.wires()
