# SPDX-License-Identifier: Apache-2.0
"""From what the user asked to a Plan that may still be nominal: the first thing a run does, and all a dry run does.

For the lab the Plan made here has the names of a lab that does not exist yet; once it is up, the run builds the final
Plan with the same seed from the lab's own testbed. Nothing here reads more than the files named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.lab.addresses import plan_wires
from harness.lab.cores import physical_cores, split_cores, usable_cores
from harness.options import RunOptions
from harness.paths import with_home
from harness.plan import Plan
from harness.planning import build_plan
from harness.records import Request
from harness.scenario import ScenarioFile, load_scenario
from harness.testbed import LAB, Testbed, check_testbed, core_notes, lab_testbed
from harness.yamlfile import Document, load

#: Stands for the lab's name until one is up; shows in the names and MACs that a dry run prints.
NOMINAL_LAB = "lab"


@dataclass(frozen=True)
class Prepared:
    """A run that has been thought through and not begun."""

    scenario: ScenarioFile
    testbed: Testbed
    plan: Plan
    request: Request


def prepare(options: RunOptions) -> Prepared:
    """Read, check and plan. Raises UsageError (or TestbedError: one core cannot be a lab); touches nothing."""
    scenario = load_scenario(options.scenario, options.scenario_text)
    document = testbed_document(scenario, options.testbed, options.testbed_text)
    testbed, notes = nominal_lab() if document is None else hosts_of(document, scenario)
    plan = build_plan(scenario, testbed, only=options.only, repeat=options.repeat, seed=options.seed, notes=notes)
    request = Request(
        scenario=str(scenario.path.absolute()), testbed=LAB if document is None else str(document.path.absolute()),
        testbed_text="" if document is None else document.text, only=list(options.only), repeat=options.repeat,
    )
    return Prepared(scenario, testbed, plan, request)


def testbed_document(scenario: ScenarioFile, name: str | None, text: str | None) -> Document | None:
    """The testbed file to use, None for the lab. ``name``: from the command line, relative to the working directory;
    None: what the scenario says, relative to its file. ``text``: its content, where it is not to be read again."""
    chosen = scenario.spec.testbed if name is None else name
    if chosen == LAB:
        return None
    base = scenario.path.parent if name is None else Path()
    return load(base / with_home(chosen), text)


def hosts_of(document: Document, scenario: ScenarioFile) -> tuple[Testbed, tuple[str, ...]]:
    """The testbed that a file describes, and notes for the Plan."""
    testbed = check_testbed(document)
    return testbed, core_notes(testbed, max(scenario.spec.cores.counts))


def nominal_lab() -> tuple[Testbed, tuple[str, ...]]:
    """The lab as it would be on this machine, were all its cores equally quiet."""
    split = split_cores(physical_cores(usable_cores()), {})
    testbed = lab_testbed(plan_wires(NOMINAL_LAB), split.tg, split.dut)
    cores = ", ".join(map(str, sorted((*split.tg, *split.dut))))
    return testbed, (
        f"cores are nominal: when the lab starts, the quieter of cores {cores} go to the DUT",
        "names and MACs are nominal: they carry the lab's own name once it is up",
    )
