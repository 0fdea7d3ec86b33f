# SPDX-License-Identifier: Apache-2.0
"""What is shown while a run runs: on a terminal, in a log, to a program; and nothing during a trial."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from harness.lab import plan_wires
from harness.plan import Plan
from harness.planning import build_plan
from harness.progress import JsonProgress, PlainProgress, Progress, Reporter, TerminalProgress, TimeLeft, make_progress
from harness.records import Bound, Phase, PointOutcome, Trial, Verdict
from harness.scenario import load_scenario
from harness.testbed import lab_testbed

Write = Callable[..., Path]


@pytest.fixture
def plan(write: Write, fake_stacks: None) -> Plan:
    path = write("name: test\nrole: echo\nstacks: [sockets]\nrepeat: 2\nmeasure: {throughput: {}, latency: {}}\n")
    return build_plan(load_scenario(path), lab_testbed(plan_wires("abc"), (0,), (1,)), seed=1)


def tell(progress: Progress, plan: Plan) -> None:
    """A short run: two rounds of one point, the second fails."""
    progress.run_started(plan, Path("results/r1"))
    point = plan.points[0]
    progress.point_started(point, 0, 0, 2)
    progress.trial_started(Phase.SEARCH, 400_000, 0.5)
    progress.bounds("ndr", 380_000, None)
    progress.trial_done(Trial(number=1, point=point.id, repeat=0, phase=Phase.SEARCH, started_at="", asked_pps=400_000,
                              duration_s=0.5, real_s=0.5, offered_pps=400_000, forwarding_pps=390_000, loss_ratio=0.025,
                              verdicts=[Verdict.PAUSED]))
    progress.point_done(PointOutcome(point=point.id, repeat=0, ndr=Bound(pps=380_000, load_pps=380_000, upper_pps=1)))
    progress.message("the second round [begins]")
    progress.point_started(point, 1, 1, 2)
    progress.point_done(PointOutcome(point=point.id, repeat=1, status="failed", reason="it died"))
    progress.run_done(Path("results/r1"), 4)


def test_plain_lines(plan: Plan) -> None:
    stream = io.StringIO()
    with PlainProgress(stream) as progress:
        tell(progress, plan)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("test on lab: 2 points, about")
    assert lines[1].startswith("[1/2 round 1] sockets, about")
    assert lines[2] == ("  search 400 kpps: sent 400 kpps, forwarded 390 kpps, lost 2.5% [paused]; "
                        "ndr 380 kpps .. ?")
    assert lines[3] == "[1/2 round 1] sockets: NDR 380 kpps"
    assert lines[-1] == "[2/2 round 2] sockets: failed: it died"
    assert progress.run_dir == Path("results/r1")


def test_quiet_leaves_the_trials_out(plan: Plan) -> None:
    stream = io.StringIO()
    tell(PlainProgress(stream, verbose=False), plan)
    assert "search" not in stream.getvalue()


def test_json_lines(plan: Plan) -> None:
    stream = io.StringIO()
    tell(JsonProgress(stream), plan)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "run_started", "point_started", "trial_started", "bounds", "trial_done", "point_done", "message",
        "point_started", "point_done", "run_done"]
    assert events[0]["run"] == events[-1]["run"] == "results/r1"
    assert events[4]["verdicts"] == ["paused"]
    assert events[8]["outcome"]["reason"] == "it died"
    assert events[-1]["exit_code"] == 4


def terminal() -> tuple[TerminalProgress, io.StringIO]:
    stream = io.StringIO()
    return TerminalProgress(Console(file=stream, force_terminal=True, width=100, _environ={})), stream


def test_a_terminal_shows_the_point_the_trial_and_the_bounds(plan: Plan) -> None:
    progress, stream = terminal()
    with progress:
        tell(progress, plan)
    text = stream.getvalue()
    for wanted in ("sockets", "search: 400 kpps for 500ms", "380 kpps", "left", "the second round [begins]", "it died"):
        assert wanted in text


def test_nothing_is_drawn_during_a_trial(plan: Plan) -> None:
    threads = threading.active_count()
    progress, stream = terminal()
    with progress:
        progress.run_started(plan)
        progress.point_started(plan.points[0], 0, 0, 2)
        progress.trial_started(Phase.SEARCH, 1000, 0.3)
        before = stream.getvalue()
        assert threading.active_count() == threads
        threading.Event().wait(0.3)
        assert stream.getvalue() == before


def test_the_terminal_is_given_back_after_an_interrupt(plan: Plan) -> None:
    progress, stream = terminal()

    def interrupted() -> None:
        with progress:
            progress.run_started(plan)
            progress.point_started(plan.points[0], 0, 0, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize(("as_json", "quiet", "kind"), [(True, False, JsonProgress), (False, False, PlainProgress)])
def test_the_display_fits_the_streams(as_json: bool, quiet: bool, kind: type[Reporter]) -> None:
    assert isinstance(make_progress(as_json=as_json, out=io.StringIO(), err=io.StringIO(), quiet=quiet), kind)


def test_time_left_begins_with_the_estimate_and_learns(plan: Plan) -> None:
    clock = [0.0]
    left = TimeLeft(plan, lambda: clock[0])
    whole = left.seconds()
    assert whole == pytest.approx(plan.expected_s, rel=0.3)
    left.point_started()
    clock[0] = 10.0
    assert left.seconds() == pytest.approx(whole - 10)
    left.point_done(measured=True)
    assert left.seconds() == pytest.approx(10)
    left.point_started()
    clock[0] = 500.0
    assert left.seconds() == pytest.approx(0.5)
    left.point_done(measured=True)
    assert left.seconds() == 0


def test_a_failed_point_says_nothing_about_the_next(plan: Plan) -> None:
    clock = [0.0]
    left = TimeLeft(plan, lambda: clock[0])
    whole = left.seconds()
    left.point_started()
    clock[0] = 1.0
    left.point_done(measured=False)
    assert left.seconds() == pytest.approx(whole / 2)


def test_what_a_host_said_cannot_act_on_the_terminal(plan: Plan) -> None:
    """Beyond the display's own sequences, the same as for harmless words of that length."""
    hostile = "ssh said \x1b]0;owned\x07 \x9b2J \x1b[8m\rgone\x00 \u202eback"
    harmless = "ssh said .]0;owned. .2J .[8m.gone. .back"

    def shown(words: str, progress: Reporter, stream: io.StringIO) -> str:
        with progress:
            progress.run_started(plan)
            progress.point_started(plan.points[0], 0, 0, 2)
            progress.message(f"first line\n{words}")
            progress.trial_done(Trial(number=1, point="p", repeat=0, phase=Phase.SEARCH, started_at="", asked_pps=1.0,
                                      duration_s=0.5, real_s=0.5, status="failed", reason=words))
            progress.point_done(PointOutcome(point="p", repeat=0, status="failed", reason=words))
        return stream.getvalue()

    for make in (terminal, lambda: (PlainProgress(stream := io.StringIO()), stream)):
        acted, quiet = shown(hostile, *make()), shown(harmless, *make())
        assert [char for char in acted if not char.isprintable()] == [c for c in quiet if not c.isprintable()]
        assert "first line\n" in acted.replace("\x1b[0m", "").replace("\x1b[2m", "")
        assert "?]0;owned? ?2J ?[8m?gone? ?back" in acted
