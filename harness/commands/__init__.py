# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ``harness``, a module each: parse, call, print. Nothing heavy is imported before one needs it.

:data:`TABLE` is all that :mod:`harness.cli` knows of them.
"""

#: Name on the command line: module of this package and the click command in it, in the order of ``harness --help``.
TABLE = {
    "run": "run:run",
    "report": "report:report",
    "charts": "charts:charts",
    "plan": "plan:plan",
    "doctor": "doctor:doctor",
    "testbed": "testbed:testbed",
    "compare": "compare:compare",
    "gate": "gate:gate",
    "lab": "lab:lab",
    "stacks": "catalogue:stacks_group",
    "scenarios": "catalogue:scenarios",
    "results": "results:results_group",
    "trend": "trend:trend",
    "xdpgen": "xdpgen:xdpgen",
}
