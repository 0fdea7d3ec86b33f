# SPDX-License-Identifier: Apache-2.0
"""Every shipped scenario of frames, end to end against a real TRex on a host of its own: what the harness counts is
what TRex and the interfaces count. Trials are shortened and there is one load, far below what software mode on a veth
pair can send; everything else of a scenario is as shipped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.measure.accounting import TG_RECEIVE
from harness.options import RunOptions
from harness.plan import Role
from harness.records import Trial
from harness.runner import run
from harness.store import RunReader
from tests.trex.counting import Counted, Counting
from tests.trex.testbeds import TrexRack, programs_off

pytestmark = [pytest.mark.trex, pytest.mark.lab]

SHIPPED = Path(__file__).parents[2] / "scenarios"
#: Role accept is TRex's stateful mode, which has tests of its own.
NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml") if path.stem != "tcp-accept")
#: A program a client, for each of which a process is forked: it answers few of them.
LOADS = {"command": "500"}
_KEPT = ("opackets", "ipackets", "ierrors", "oerrors")
MEASURE = {"load_curve": {"rates": ["5k"], "trial": "2s"}, "warmup": "100ms"}


def shortened(name: str, folder: Path, **measure: Any) -> Path:
    """A shipped scenario with other trials."""
    document = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))
    load = {"load_curve": {"rates": [LOADS[name]], "trial": "2s"}} if name in LOADS else {}
    document.update(measure={**MEASURE, **load, **measure}, repeat=1, order="given")
    document.pop("gate", None)  # of a rate that is not searched
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def measure(made: TrexRack, scenario: Path, testbed: Path, folder: Path, *, trex: bool = True) -> Counting:
    """Run it; every point was measured, or says what the host lacks."""
    counting = Counting(made, trex)
    try:
        run(RunOptions(scenario, str(testbed), results=folder / "results"), counting)
    finally:
        counting.close()
    for outcome in RunReader(counting.path).outcomes():
        assert outcome.status in ("ok", "skipped"), (outcome.point, outcome.reason)
    return counting


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_counts_what_trex_and_the_interfaces_count(hosts: TrexRack, name: str, tmp_path: Path) -> None:
    counting = measure(hosts, shortened(name, tmp_path), hosts.write(tmp_path / "testbed.yaml"), tmp_path)
    assert counting.counted
    for trial in counting.load_trials():
        record(name, trial, counting.counted[trial.number])
        agree(trial, counting.counted[trial.number], comes_back=counting.plan.role is not Role.DROP)
    assert hosts.servers() == [], "the server ended with the run"


def record(name: str, trial: Trial, counted: Counted) -> None:
    """Keep what was counted where TREX_RECORD names a file (tests/data/trex)."""
    if os.environ.get("TREX_RECORD"):
        line = {"scenario": name, "point": trial.point, "asked_pps": trial.asked_pps, "sent": trial.sent,
                "received": trial.received, "trex": [{key: port[key] for key in _KEPT} for port in counted.trex],
                "interfaces": counted.dut}
        with Path(os.environ["TREX_RECORD"]).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def agree(trial: Trial, counted: Counted, *, comes_back: bool) -> None:
    """Frame for frame: sent is what TRex sent and the DUT's ports received, received what TRex received (of role drop:
    what the DUT counted, of all that reached it). What the DUT sent back and TRex's busy core did not take from its
    ring is an error of TRex's port, and a loss in the generator's receiving."""
    assert trial.sent is not None
    assert trial.sent > 0
    assert trial.sent == sum(port["opackets"] for port in counted.trex), trial.point
    assert trial.sent == sum(port["rx_packets"] for port in counted.dut), trial.point
    if comes_back:
        assert trial.received == sum(port["ipackets"] for port in counted.trex), trial.point
        missed = sum(port["ierrors"] for port in counted.trex)
        assert trial.received + missed == sum(port["tx_packets"] for port in counted.dut), trial.point
        assert trial.losses.get(TG_RECEIVE, 0) == missed, trial.point
    assert trial.received is not None
    assert trial.received > 0
    assert trial.lost == trial.sent - trial.received
    assert [port["oerrors"] for port in counted.trex] == [0, 0]


def test_xdpgen_and_trex_agree_on_the_rate_at_loads_that_both_can_send(hosts: TrexRack, tmp_path: Path) -> None:
    told = {"throughput": {"goals": ["pdr"], "trial": "300ms", "width": "20%", "timeout": "20s"},
            "latency": {"at": ["50%"], "of": "pdr", "trial": "1s", "rate": "1k"},
            "load_curve": {"rates": ["10k", "20k"], "trial": "3s"}}
    scenario = shortened("forward-64b", tmp_path, **told)
    by_trex = measure(hosts, scenario, hosts.write(tmp_path / "testbed.yaml"), tmp_path / "trex").load_trials()
    programs_off(hosts.made)
    by_xdpgen = measure(hosts, scenario, hosts.write_xdpgen(tmp_path / "xdpgen.yaml"), tmp_path / "xdpgen",
                        trex=False).load_trials()
    assert len(by_trex) == len(by_xdpgen) == 4
    for one, other in zip(by_trex, by_xdpgen, strict=True):
        assert (one.point, one.asked_pps) == (other.point, other.asked_pps)
        assert one.forwarding_pps == pytest.approx(other.forwarding_pps, rel=0.01)
        print(one.point, one.asked_pps, one.forwarding_pps, other.forwarding_pps, one.latency, other.latency)
