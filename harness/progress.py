# SPDX-License-Identifier: Apache-2.0
"""What a person or a program sees of a run while it runs.

Nothing is drawn during a trial: there is no refresh thread, and every method that draws is called between trials.
:func:`make_progress` chooses: a redrawn screen on a terminal, plain lines elsewhere, JSON lines for a program.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness import estimate
from harness.figures import PDR_LOSS, bound_text, point_verdicts
from harness.plan import Plan, PointPlan
from harness.records import Bound, Phase, PointOutcome, Trial
from harness.texttable import plain
from harness.units import format_duration, format_rate, format_ratio


class Progress(Protocol):
    """Told by the runner what happens, in this order; a trial may come before the first point (the ceiling's)."""

    def run_started(self, plan: Plan, run_dir: Path | None = None) -> None:
        """The run's directory exists; the Plan is final."""

    def point_started(self, point: PointPlan, repeat: int, index: int, total: int) -> None:
        """``index`` counts from 0 in the Plan's sequence of ``total``; ``repeat`` counts from 0."""

    def trial_started(self, phase: Phase, asked_pps: float, duration_s: float) -> None:
        """The last chance to draw before a trial."""

    def trial_done(self, trial: Trial) -> None:
        """A trial was stored."""

    def bounds(self, goal: str, lower: float | None, upper: float | None) -> None:
        """The search's bounds for "ndr" or "pdr", pps; None while unknown."""

    def point_done(self, outcome: PointOutcome) -> None:
        """A point ended, well or not."""

    def message(self, text: str) -> None:
        """Something worth saying."""

    def run_done(self, run_dir: Path, exit_code: int) -> None:
        """The run's directory is complete."""


class TimeLeft:
    """Seconds still to go: the Plan's estimate, replaced by what finished points really took."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected_s = estimate.point(plan.measure).seconds
        self._remaining = len(plan.sequence)
        self._finished: list[float] = []
        self._started: float | None = None

    def point_started(self) -> None:
        """The clock of a point starts."""
        self._started = self._clock()

    def point_done(self, *, measured: bool) -> None:
        """A point ended; only measured ones say how long the next will take."""
        if self._started is not None and measured:
            self._finished.append(self._clock() - self._started)
        self._started = None
        self._remaining -= 1

    def seconds(self) -> float:
        """Expected seconds until the last point ends; at least 5 % of a point while one is under way."""
        each = sum(self._finished) / len(self._finished) if self._finished else self._expected_s
        if self._started is None:
            return each * self._remaining
        spent = self._clock() - self._started
        return each * max(self._remaining - 1, 0) + max(each - spent, 0.05 * each)


class Reporter:
    """What all displays share: where the run lies, which point and trial, the bounds, the time left."""

    run_dir: Path | None = None
    plan: Plan
    left: TimeLeft | None = None
    point: str = ""
    position: str = ""
    unit: str = "pps"
    trial: str = ""
    trials: int = 0

    def __init__(self) -> None:
        self.closing: dict[str, tuple[float | None, float | None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
                 ) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back. Idempotent."""

    def run_started(self, plan: Plan, run_dir: Path | None = None) -> None:
        self.plan, self.run_dir, self.left = plan, run_dir, TimeLeft(plan)
        self.unit = plan.role.rate_unit

    def point_started(self, point: PointPlan, repeat: int, index: int, total: int) -> None:
        self.point = point.label
        self.position = f"{index + 1}/{total}" + (f" round {repeat + 1}" if self.plan.measure.repeat > 1 else "")
        self.trials = 0
        self.closing.clear()
        if self.left is not None:
            self.left.point_started()

    def trial_started(self, phase: Phase, asked_pps: float, duration_s: float) -> None:
        self.trial = f"{phase}: {format_rate(asked_pps, self.unit)} for {format_duration(duration_s)}"

    def trial_done(self, trial: Trial) -> None:
        self.trials += 1
        self.trial = describe_trial(trial, self.unit)

    def bounds(self, goal: str, lower: float | None, upper: float | None) -> None:
        self.closing[goal] = (lower, upper)

    def point_done(self, outcome: PointOutcome) -> None:
        if self.left is not None:
            self.left.point_done(measured=outcome.status == "ok")

    def message(self, text: str) -> None:
        """Something worth saying."""

    def run_done(self, run_dir: Path, exit_code: int) -> None:
        self.run_dir = run_dir

    def time_left(self) -> str:
        """"2m 10s left", or nothing before the run started."""
        return f"about {format_duration(max(1.0, self.left.seconds()))} left" if self.left is not None else ""

    def came_to(self, outcome: PointOutcome) -> str:
        """What the point came to, with PDR's loss as the scenario sets it."""
        search = self.plan.measure.search
        return describe_outcome(outcome, PDR_LOSS if search is None else search.pdr_loss, self.unit)

    def narrowing(self) -> str:
        """The bounds closing in: "ndr 412 kpps .. 430 kpps"."""
        return ", ".join(f"{goal} {_bound(low, self.unit)} .. {_bound(high, self.unit)}"
                         for goal, (low, high) in self.closing.items())


def _bound(pps: float | None, unit: str) -> str:
    return "?" if pps is None else format_rate(pps, unit)


def describe_trial(trial: Trial, unit: str = "pps") -> str:
    """One line: what was asked and what came of it. ``unit``: the role's unit of rates."""
    if trial.status != "ok":
        return f"{trial.phase} {format_rate(trial.asked_pps, unit)}: {trial.status}, {trial.reason}"
    loss = "n/a" if trial.loss_ratio is None else format_ratio(trial.loss_ratio)
    words = "".join(f" [{verdict}]" for verdict in trial.verdicts)
    again = ", repeated" if trial.superseded else ""
    done = "forwarded" if unit == "pps" else "completed"
    return (f"{trial.phase} {format_rate(trial.asked_pps, unit)}: sent {format_rate(trial.offered_pps, unit)}, "
            f"{done} {format_rate(trial.forwarding_pps, unit)}, lost {loss}{again}{words}")


def describe_outcome(outcome: PointOutcome, pdr_loss: float = PDR_LOSS, unit: str = "pps") -> str:
    """One line: what a point came to. ``pdr_loss``: the loss ratio that PDR allows. ``unit``: the role's unit
    of rates."""
    state = "" if outcome.status == "ok" else f"{outcome.status}: {outcome.reason}"
    if outcome.status not in ("ok", "interrupted"):
        return state
    parts = [state] if state else []
    parts += [f"{name.upper()} {_result(bound, pdr_loss, unit)}" for name, bound in
             (("mrr", outcome.mrr), ("ndr", outcome.ndr), ("pdr", outcome.pdr)) if bound is not None]
    parts += [f"p99 {format_duration(at.percentiles.p99_ns / 1e9)} at {format_ratio(at.fraction)} {at.of.upper()}"
              for at in outcome.latency if at.percentiles is not None and at.percentiles.p99_ns is not None]
    words = "".join(f" [{verdict}]" for verdict in point_verdicts(outcome, pdr_loss))
    return (", ".join(parts) or f"{outcome.trials} trials") + words


def _result(bound: Bound, pdr_loss: float, unit: str) -> str:
    return f"n/a ({bound.reason})" if bound.pps is None else bound_text(bound, pdr_loss, unit)


class PlainProgress(Reporter):
    """Lines, for logs and pipes. ``verbose`` false leaves the trials out."""

    def __init__(self, stream: IO[str], *, verbose: bool = True) -> None:
        super().__init__()
        self._stream, self._verbose = stream, verbose

    def _line(self, text: str) -> None:
        print(plain(text, lines=True), file=self._stream, flush=True)

    def run_started(self, plan: Plan, run_dir: Path | None = None) -> None:
        super().run_started(plan, run_dir)
        self._line(f"{plan.scenario} on {plan.testbed}: {len(plan.sequence)} points, about {plan.expected_trials} "
                   f"trials, about {format_duration(plan.expected_s)}")

    def point_started(self, point: PointPlan, repeat: int, index: int, total: int) -> None:
        super().point_started(point, repeat, index, total)
        self._line(f"[{self.position}] {self.point}, {self.time_left()}")

    def trial_done(self, trial: Trial) -> None:
        super().trial_done(trial)
        if self._verbose:
            closing = self.narrowing()
            self._line(f"  {self.trial}" + (f"; {closing}" if closing and trial.phase is Phase.SEARCH else ""))

    def point_done(self, outcome: PointOutcome) -> None:
        super().point_done(outcome)
        self._line(f"[{self.position}] {self.point}: {self.came_to(outcome)}")

    def message(self, text: str) -> None:
        self._line(text)


class JsonProgress(Reporter):
    """One JSON object a line: ``event`` says which, the rest is what the Progress method was told."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream

    def _event(self, event: str, **fields: object) -> None:
        print(json.dumps({"event": event, **fields}), file=self._stream, flush=True)

    def run_started(self, plan: Plan, run_dir: Path | None = None) -> None:
        super().run_started(plan, run_dir)
        self._event("run_started", scenario=plan.scenario, testbed=plan.testbed, seed=plan.seed,
                    points=[{"id": point.id, "label": point.label} for point in plan.points],
                    sequence=[list(step) for step in plan.sequence], expected_trials=plan.expected_trials,
                    expected_s=plan.expected_s, run=str(run_dir) if run_dir else None)

    def point_started(self, point: PointPlan, repeat: int, index: int, total: int) -> None:
        super().point_started(point, repeat, index, total)
        self._event("point_started", point=point.id, repeat=repeat, index=index, total=total)

    def trial_started(self, phase: Phase, asked_pps: float, duration_s: float) -> None:
        self._event("trial_started", phase=str(phase), asked_pps=asked_pps, duration_s=duration_s)

    def trial_done(self, trial: Trial) -> None:
        super().trial_done(trial)
        kept = {"number", "point", "repeat", "phase", "attempt", "superseded", "asked_pps", "duration_s", "real_s",
                "offered_pps", "forwarding_pps", "sent", "received", "lost", "loss_ratio", "verdicts", "status",
                "reason"}
        self._event("trial_done", **trial.model_dump(mode="json", include=kept))

    def bounds(self, goal: str, lower: float | None, upper: float | None) -> None:
        super().bounds(goal, lower, upper)
        self._event("bounds", goal=goal, lower=lower, upper=upper)

    def point_done(self, outcome: PointOutcome) -> None:
        super().point_done(outcome)
        left = self.left.seconds() if self.left is not None else None
        self._event("point_done", outcome=outcome.model_dump(mode="json"), left_s=left)

    def message(self, text: str) -> None:
        self._event("message", text=text)

    def run_done(self, run_dir: Path, exit_code: int) -> None:
        super().run_done(run_dir, exit_code)
        self._event("run_done", run=str(run_dir), exit_code=exit_code)


class TerminalProgress(Reporter):
    """A few lines at the foot of the terminal, redrawn between trials; finished points scroll up above them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        # auto_refresh starts a thread that draws several times a second, also during trials.
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False,
                          redirect_stderr=False)

    def close(self) -> None:
        self._live.stop()

    def _redraw(self) -> None:
        if not self._live.is_started:
            self._live.start()
        self._live.update(self._screen(), refresh=True)

    def _screen(self) -> RenderableType:
        head = Text.assemble((f"[{self.position}] ", "dim"), (plain(self.point) or "starting", "bold"),
                             (f"  trial {self.trials}" if self.trials else "", "dim"), f"  {self.time_left()}")
        lines: list[RenderableType] = [head, Text(f"  {plain(self.trial)}", no_wrap=True, overflow="ellipsis")]
        if self.closing:
            table = Table.grid(padding=(0, 2))
            for goal, (low, high) in self.closing.items():
                width = f"{format_ratio(round((high - low) / high, 4))} apart" if low and high else ""
                bounds = _bound(low, self.unit), "..", _bound(high, self.unit)
                table.add_row(f"  {goal.upper()}", *bounds, Text(width, style="dim"))
            lines.append(table)
        return Group(*lines)

    def run_started(self, plan: Plan, run_dir: Path | None = None) -> None:
        super().run_started(plan, run_dir)
        self._console.print(f"[bold]{escape(plain(plan.scenario))}[/] on {escape(plain(plan.testbed))}: "
                            f"{len(plan.sequence)} points, about {plan.expected_trials} trials, about "
                            f"{format_duration(plan.expected_s)}",
                            highlight=False)

    def point_started(self, point: PointPlan, repeat: int, index: int, total: int) -> None:
        super().point_started(point, repeat, index, total)
        self.trial = "deploying"
        self._redraw()

    def trial_started(self, phase: Phase, asked_pps: float, duration_s: float) -> None:
        super().trial_started(phase, asked_pps, duration_s)
        self._redraw()

    def trial_done(self, trial: Trial) -> None:
        super().trial_done(trial)
        self._redraw()

    def point_done(self, outcome: PointOutcome) -> None:
        super().point_done(outcome)
        colour = "green" if outcome.status == "ok" else "red"
        self._console.print(Text.assemble((f"[{self.position}] ", "dim"), (plain(self.point), f"bold {colour}"),
                                          f": {plain(self.came_to(outcome), lines=True)}"), highlight=False)

    def message(self, text: str) -> None:
        self._console.print(Text(plain(text, lines=True), style="dim"), highlight=False)

    def run_done(self, run_dir: Path, exit_code: int) -> None:
        super().run_done(run_dir, exit_code)
        self.close()


def make_progress(*, as_json: bool, out: IO[str], err: IO[str], quiet: bool = False) -> Reporter:
    """The display for these streams: JSON lines on ``out``, otherwise lines or a terminal's screen on ``err``."""
    if as_json:
        return JsonProgress(out)
    console = Console(file=err)
    if console.is_terminal and not console.is_dumb_terminal and not quiet:
        return TerminalProgress(console)
    return PlainProgress(err, verbose=not quiet)
