# SPDX-License-Identifier: Apache-2.0
"""Which runs are alike, on the record of a real one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.environment import NONE, UNKNOWN, Difference, comparability, differences, key, unknown
from harness.host.facts import facts_of
from harness.host.inventory import Survey
from harness.records import RunInfo
from harness.store import RunReader

DATA = Path(__file__).parents[1] / "data"
RECORDED = next(path.parent for path in sorted((DATA / "runs").rglob("run.json")))


@pytest.fixture(scope="module")
def recorded() -> RunInfo:
    """A run of an older schema, with the survey of a lab's DUT as its environment."""
    info = RunReader(RECORDED).info
    name = info.plan["hosts"][0]["name"]
    facts = facts_of(Survey(json.loads((DATA / "surveys/lab-dut.json").read_text())))
    for wire, nic in zip(info.plan["wires"], facts["nics"].values(), strict=False):
        nic["mac"] = wire["dut"]["mac"]
    return info.model_copy(update={"hosts": {name: facts, "generator": facts}})


def changed(info: RunInfo, *path: str, to: Any) -> RunInfo:
    data = copy.deepcopy(info.model_dump())
    inner = data
    for name in path[:-1]:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[path[-1]] = to
    return RunInfo.model_validate(data)


def test_an_older_run_is_read_and_what_it_lacks_is_unknown() -> None:
    info = RunReader(RECORDED).info
    items = comparability(info)
    assert items["generator.cpu.model"] == UNKNOWN
    assert items["testbed"] == "lab"
    assert differences(info, info) == []
    assert "generator.cpu.model" in unknown(info, info)


@pytest.mark.parametrize(("path", "value", "item"), [
    (("hosts", "DUT", "cpu", "microcode"), "0x2", "dut.cpu.microcode"),
    (("hosts", "DUT", "kernel", "release"), "6.1.0", "dut.kernel.release"),
    (("hosts", "DUT", "mitigations", "spectre_v2"), "Vulnerable", "dut.mitigations.spectre_v2"),
    (("hosts", "generator", "cpu", "model"), "another", "generator.cpu.model"),
    (("plan", "lab"), False, "testbed"), (("plan", "measure", "pause_retries"), 9, "measure.pause_retries"),
    (("plan", "generator", "kind"), "trex", "generator"), (("scenario", "traffic", "flows"), 7, "traffic.flows"),
    (("generator",), {"server": {"version": "v3.09"}}, "generator.version"), (("harness_version",), "9", "harness"),
])
def test_what_changes_results_makes_runs_unlike(recorded: RunInfo, path: tuple[str, ...], value: Any,
                                                item: str) -> None:
    host = recorded.plan["hosts"][0]["name"]
    other = changed(recorded, *(host if name == "DUT" else name for name in path), to=value)
    assert item in [difference.item for difference in differences(recorded, other)]
    assert key(recorded) != key(other)


def test_port_settings_count_whatever_the_interface_is_called(recorded: RunInfo) -> None:
    host = recorded.plan["hosts"][0]["name"]
    nics = copy.deepcopy(recorded.hosts[host]["nics"])
    renamed = {f"other{number}": nic for number, nic in enumerate(nics.values())}
    assert differences(recorded, changed(recorded, "hosts", host, "nics", to=renamed)) == []
    next(iter(renamed.values()))["firmware"] = "9.20"
    other = changed(recorded, "hosts", host, "nics", to=renamed)
    assert differences(recorded, other) == [Difference("dut.port0.firmware", NONE, "9.20")]


def test_who_ran_it_when_and_how_it_boots_does_not_count(recorded: RunInfo) -> None:
    host = recorded.plan["hosts"][0]["name"]
    line = recorded.hosts[host]["kernel"]["command_line"]
    other = changed(recorded, "hosts", host, "kernel", "command_line", to=f"root=/dev/sda1 {line} -- --log-port 5002")
    other = other.model_copy(update={"run_id": "x", "started_at": "then", "seed": 1, "command": ["x"], "notes": ["y"]})
    assert differences(recorded, other) == []
    assert key(recorded) == key(other)
    slower = changed(recorded, "hosts", host, "kernel", "command_line", to=f"{line} mitigations=off")
    assert [d.item for d in differences(recorded, slower)] == ["dut.kernel.parameters"]


def test_unknown_is_never_equal_to_known(recorded: RunInfo) -> None:
    host = recorded.plan["hosts"][0]["name"]
    facts = copy.deepcopy(recorded.hosts[host])
    del facts["cpu"]["microcode"]
    lacking = changed(recorded, "hosts", host, to=facts)
    (found,) = differences(recorded, lacking)
    assert found.unknown
    assert str(found) == f"dut.cpu.microcode: {recorded.hosts[host]['cpu']['microcode']} against unknown"
    assert set(unknown(lacking, lacking)) == {*unknown(recorded, recorded), "dut.cpu.microcode"}


@pytest.mark.parametrize("hostile", [None, [], "x" * 100_000, {"cpu": []},
                                     {"cpu": {"model": "\x1b[2J" * 999}, "nics": 3},
                                     {"mitigations": {f"v{n}": "x" for n in range(9999)}}])
def test_records_may_hold_anything(recorded: RunInfo, hostile: Any) -> None:
    for path in (("hosts", recorded.plan["hosts"][0]["name"]), ("plan", "wires"), ("plan", "measure"),
                 ("scenario", "traffic")):
        items = comparability(changed(recorded, *path, to=hostile))
        assert all(len(value) < 450 and value.isprintable() for value in items.values())
        assert len(items) < 300
