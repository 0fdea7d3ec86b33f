# SPDX-License-Identifier: Apache-2.0
"""The last real runs of netmap, kept because its module loads nowhere in CI: they can be read, and their counts agree.

Made by ``harness run`` on a virtual machine (``harness lab up --dut vm``): see tests/data/netmap-vm/README.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.records import Phase
from harness.store import RunReader

DATA = Path(__file__).parents[1] / "data" / "netmap-vm"
RUNS = {"drop": "drop", "forward": "forward", "reflect": "reflect", "echo": "echo", "echo-vmxnet3": "echo"}


@pytest.fixture(params=RUNS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(name: str) -> RunReader:
    return RunReader(DATA / name)


def test_every_run_is_here() -> None:
    assert {path.name for path in DATA.iterdir() if path.is_dir()} == set(RUNS)


def test_whole_and_partial_ended_well(run: RunReader, name: str) -> None:
    outcomes = list(run.outcomes())
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("ok", "")] * 2
    assert run.info.state == "complete"
    assert run.info.plan["role"] == RUNS[name]
    assert {point["params"]["bypass"] for point in run.info.plan["points"]} == {"whole", "partial"}
    assert run.info.plan["wires"][0]["virtual"]


def test_counts_of_generator_and_stack_agree(run: RunReader, name: str) -> None:
    load = [trial for trial in run.trials() if trial.phase is Phase.LOAD]
    assert len(load) == 4
    for trial in load:
        own = trial.counters["stack"]
        assert trial.received is not None
        assert trial.received + trial.lost == trial.sent > 0
        assert sum(trial.losses.values()) + trial.unexplained == trial.lost
        if RUNS[name] == "drop":
            assert own["discarded"] == trial.received
        elif "useful" in own:
            assert own["received"] == own["sent"] == trial.received
            assert trial.cpu is not None
            assert trial.cpu.useful_polls == own["useful"] > 0


def test_partial_bypass_left_the_rest_to_the_kernel(run: RunReader) -> None:
    partial = next(point["id"] for point in run.info.plan["points"] if point["params"]["bypass"] == "partial")
    for trial in run.trials():
        if trial.point == partial:
            assert trial.counters["stack"].get("other", 0) == 0, "what is not the test's goes up, not away"


def test_nothing_of_the_machine_that_made_them_is_kept() -> None:
    for path in DATA.rglob("*.json*"):
        assert not re.search(r"/(home|root|tmp|work|run|Users)/|PRIVATE KEY|password", path.read_text()), path
