# SPDX-License-Identifier: Apache-2.0
"""The known case of TRex in software mode on veth: asked for 1 Mpps it sends every frame, in several times the time;
asked for 300 kpps it does not. What is beyond it is generator-limited and never a rate of the stack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.measure.verdicts import SHORTFALL, STRETCH, STRETCH_S
from harness.records import Phase, Trial, Verdict
from harness.store import RunReader
from tests.trex.test_lifecycle import harness
from tests.trex.testbeds import TrexRack

pytestmark = pytest.mark.trex

#: Nothing comes back: TRex's one core has to send only.
SCENARIO = """
name: stretch
role: drop
traffic: {{frame: 64, flows: 16}}
cores: [1]
stacks: [xdp]
measure:
  {measure}
  warmup: 200ms
repeat: {repeat}
order: given
"""
LOADS = "load_curve: {rates: [300k, 1M], trial: 5s}"
SEARCH = "throughput: {goals: [mrr, ndr, pdr], trial: 500ms, width: 10%, timeout: 30s}"
TestbedFile = Callable[..., Path]


def measured(folder: Path, testbed: Path, measure: str, repeat: int) -> RunReader:
    path = folder / "stretch.yaml"
    path.write_text(SCENARIO.format(measure=measure, repeat=repeat))
    child = harness("run", str(path), "--testbed", str(testbed), "--results", str(folder))
    said, _ = child.communicate(timeout=300)
    assert child.returncode == 0, said
    return RunReader(max(folder.glob("*-stretch-*"), key=lambda one: one.stat().st_mtime))


def held(trial: Trial) -> bool:
    """Within the rules: neither longer than told nor fewer frames than asked for."""
    asked = sum(direction.asked for direction in trial.directions)
    return (trial.real_s <= trial.duration_s * (1 + STRETCH) + STRETCH_S
            and trial.sent >= asked * (1 - SHORTFALL))


def test_300_kpps_are_sent_in_their_time_and_1_mpps_are_not(hosts: TrexRack, testbed: TestbedFile,
                                                            tmp_path: Path) -> None:
    """Three repeats: other programs of the machine may take TRex's core in one of them, and then it has to say so."""
    trials = [t for t in measured(tmp_path, testbed(), LOADS, 3).trials() if t.phase is Phase.LOAD]
    assert len(trials) == 6
    for trial in trials:
        print(trial.asked_pps, trial.sent, trial.real_s, *trial.verdicts)
        assert (Verdict.GENERATOR_LIMITED in trial.verdicts) == (not held(trial))
    by_load = {load: [t for t in trials if t.asked_pps == load] for load in (300e3, 1e6)}
    assert any(held(trial) for trial in by_load[300e3])
    assert not any(held(trial) for trial in by_load[1e6])
    for trial in by_load[300e3]:  # a little late or not, every frame is sent
        assert trial.sent - trial.directions[0].asked in (0, 1)
        gbps = trial.counters["generator"]["link_gbps"]["0"]["o"]
        assert gbps == pytest.approx(trial.sent * 84 * 8e-9 / trial.real_s, rel=0.01)
    # The rate that is reported is what was sent in the time that it took, not what was asked for.
    for trial in by_load[1e6]:
        assert trial.offered_pps == pytest.approx(trial.sent / trial.real_s)
        assert trial.offered_pps < 1e6 / (1 + STRETCH)


def test_what_is_beyond_it_is_never_a_rate_of_the_stack(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    """The stack is far faster than TRex here: every rate found is what TRex really sent, and a lower bound."""
    reader = measured(tmp_path, testbed(), SEARCH, 1)
    outcome, = reader.outcomes()
    trials = [trial for trial in reader.trials() if trial.phase in (Phase.SEARCH, Phase.CEILING)]
    sent = max(trial.sent / trial.real_s for trial in trials)
    for name, bound in (("mrr", outcome.mrr), ("ndr", outcome.ndr), ("pdr", outcome.pdr)):
        print(name, bound, f"most sent {sent:.0f} pps")
        if bound is None or bound.pps is None:
            continue
        assert bound.load_pps is not None
        assert bound.load_pps <= sent
        assert bound.pps <= sent
        assert bound.pps < 14.88e6
    for bound in (outcome.ndr, outcome.pdr):  # nothing was lost up to what TRex can send: that is its limit
        assert bound is not None
        assert bound.upper_pps is None
        assert Verdict.GENERATOR_LIMITED in bound.verdicts
