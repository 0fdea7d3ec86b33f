# SPDX-License-Identifier: Apache-2.0
"""bench-deploy without a lab: what it deploys, and what it says of times."""

from __future__ import annotations

from benchmarks.deploy import Times, cases, table
from harness import stacks
from harness.lab.addresses import plan_wires
from harness.testbed import lab_testbed


def test_every_stack_in_every_role_and_those_of_scenarios_once() -> None:
    found = cases(lab_testbed(plan_wires("abc", 2), (0,), (1,)))
    assert {(case.point.stack, case.point.role) for case in found} == {
        (name, role) for name, kind in stacks.available().items() for role in kind.roles}
    names = [case.name for case in found]
    assert len(set(names)) == len(names)
    assert {"forward: linux-forward routes=100000", "forward: linux-forward routes=100000 IPv6"} < set(names)


def test_the_slowest_round_decides() -> None:
    rows = [Times("a", [1.0, 2.5], [0.5, 0.5]), Times("b", [1.0, 2.5], [0.5, 0.51]), Times("c", skipped="no NIC"),
            Times("d", [1.0], [1.0], failed="gone")]
    text = table(rows)
    assert [row.verdict() for row in rows] == ["met", "MISSED", "n/a: no NIC", "FAILED: gone"]
    assert [row.good for row in rows] == [True, False, True, False]
    assert " ".join(text.splitlines()[2].split()) == "b 1.00 1.75 2.50 0.50 0.51 0.51 3.01 MISSED"
