# SPDX-License-Identifier: Apache-2.0
"""Rates that other trials of the same point refute, on simulated trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.metrics import Kind, Metric, samples
from harness.cli import invoke
from harness.figures import at_least, bound_text
from harness.index.export import indexed
from harness.measure.contradiction import contradict, settle
from harness.records import Bound, Direction, Phase, PointOutcome, Trial, Verdict
from harness.report.summarise import summarise
from harness.rundata import load_run
from harness.store import RunReader


def trial(load: float, lost: int, *, phase: Phase = Phase.LOAD, spoilt: bool = False,
          superseded: bool = False) -> Trial:
    sent = round(load)
    return Trial(number=7, point="p", repeat=0, phase=phase, started_at="", asked_pps=load, duration_s=1.0, real_s=1.0,
                 offered_pps=load, sent=sent, received=sent - lost, lost=lost, spoilt=spoilt, superseded=superseded,
                 directions=[Direction(tx_port=0, rx_port=0, asked=sent, sent=sent, received=sent - lost, lost=lost)])


@pytest.mark.parametrize(("goal", "other", "refuted"), [
    (0.005, trial(90_000, 8_000), True),
    (0.005, trial(90_000, 8_000, phase=Phase.LATENCY), True),
    (0.005, trial(110_000, 110), True),
    (0.0, trial(90_000, 1), True),
    (0.005, trial(90_000, 450), False),  # what the goal allows
    (0.005, trial(110_000, 551), False),  # more than it allows, above: as the search said
    (0.0, trial(99_500, 1), False),  # within the margin
    (0.005, trial(101_000, 0), False),  # between the bounds and within the margin
    (0.005, trial(90_000, 8_000, phase=Phase.SEARCH), False),
    (0.005, trial(90_000, 8_000, spoilt=True), False),
    (0.005, trial(90_000, 8_000, superseded=True), False),
])
def test_only_a_clear_other_trial_refutes_a_bound(goal: float, other: Trial, refuted: bool) -> None:
    bound = Bound(pps=100_000.0, load_pps=100_000.0, upper_pps=100_500.0, loss_ratio=0.0)
    contradict(bound, goal, [other])
    assert (Verdict.CONTRADICTED in bound.verdicts) is refuted
    assert ("contradicted by trial 7" in bound.reason) is refuted
    assert bound_text(bound).endswith("(contradicted)") is refuted


@pytest.mark.parametrize(("others", "exceeded"), [
    ((trial(120_000, 0), None, None), 0),  # a minority of three repeats
    ((trial(120_000, 0), trial(110_000, 0), None), 2),
    ((trial(120_000, 0), trial(90_000, 8_000), None), 1),  # one of three by loss
    ((trial(120_000, 0), trial(90_000, 8_000), trial(90_000, 8_000)), 0),  # half and more by loss: no bound either
])
def test_a_rate_that_half_of_the_repeats_carried_more_than_is_a_lower_bound_to_every_reader(
        others: tuple[Trial | None, ...], exceeded: int) -> None:
    outcomes = [PointOutcome(point="p", repeat=repeat, pdr=Bound(pps=1e5, load_pps=1e5, upper_pps=1.005e5,
                                                                 loss_ratio=0.0)) for repeat in range(len(others))]
    trials = [other.model_copy(update={"repeat": repeat}) for repeat, other in enumerate(others) if other is not None]
    for _ in range(2):  # a run that was marked when it was made is not marked twice
        settle(outcomes, trials, 0.005)
    bounds = [outcome.pdr for outcome in outcomes if outcome.pdr is not None]
    assert [at_least(bound) for bound in bounds].count(True) == exceeded
    for bound, outcome, other in zip(bounds, outcomes, others, strict=True):
        assert (Verdict.CONTRADICTED in bound.verdicts) is (Verdict.CONTRADICTED in outcome.verdicts) \
            is (other is not None)
        assert bound.reason.count("contradicted by") == (other is not None)
        assert "exceeded_pps" not in bound.model_dump()  # found when read, never stored


def test_every_reader_of_a_real_run_says_the_same_of_a_refuted_rate(capsys: pytest.CaptureFixture[str],
                                                                    tmp_path: Path) -> None:
    """It was made before the harness marked such rates: 99.8 kpps lost 0.24 %, and its search found 66.2 kpps."""
    shipped = Path(__file__).parents[3] / "tests/data/plan/20261125-104444-quickstart-45ca"
    run, label = load_run(shipped), "linux-udp reuseport=false"
    point = next(point.id for point in run.plan.points if point.label == label)
    (sample,) = samples(run)[point][Metric(Kind.PDR)]
    assert sample.at_least
    assert Verdict.CONTRADICTED in sample.verdicts
    assert next(p for p in summarise(run) if p.plan.id == point).pdr.at_least
    assert invoke(["results", "show", str(shipped)]) == 0
    assert ">= 66.25 kpps (contradicted)" in capsys.readouterr().out
    with indexed([RunReader(shipped)]) as index:
        assert index.execute("SELECT at_least FROM metrics WHERE metric = 'pdr' AND point = ?",
                             [point]).fetchall() == [(True,)]


def test_no_upper_bound_cannot_be_refuted_from_above() -> None:
    bound = Bound(pps=100_000.0, load_pps=100_000.0, upper_pps=None, loss_ratio=0.0)
    contradict(bound, 0.0, [trial(200_000, 0)])
    assert not bound.verdicts
