# SPDX-License-Identifier: Apache-2.0
"""Stacks deployed and undeployed in random order with random parameters, a third of them interrupted: nothing differs.

``NSH_ROUNDS`` rounds (15), in an order by ``NSH_SEED`` (printed). ``make soak`` runs the full count.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from harness import stacks
from harness.errors import MeasurementError, UsageError
from harness.flows import directions, wires_needed
from harness.host.dut import SshDut
from harness.lab.lab import Lab
from harness.plan import PointPlan, Role, line_rate_pps
from harness.stack import Stack, StackContext
from tests.lab.snapshot import snapshot

pytestmark = pytest.mark.lab

ROUNDS = int(os.environ.get("NSH_ROUNDS", "15"))
SEED = int(os.environ.get("NSH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
_SETTLE_S = 3.0
#: Most stacks are up and gone in 0.1 to 0.3 s: of the half that are to be interrupted, two in three are in the middle.
_LATEST_INTERRUPT_S = 0.25


class Interrupted(Exception):
    """What Ctrl-C does, from a timer."""


@dataclass(frozen=True)
class Round:
    stack: str
    role: Role
    params: dict[str, Any]
    interrupt_s: float | None


def random_params(kind: type[Stack], chance: random.Random) -> dict[str, Any]:
    """Other values for some of the parameters that are a choice; a combination that the stack refuses is not taken."""
    params: dict[str, Any] = {}
    for name, field in kind.Params.model_fields.items():
        choices = [False, True] if field.annotation is bool else list(get_args(field.annotation))
        if choices and not any(isinstance(choice, type) for choice in choices) and chance.random() < 0.4:
            candidate = params | {name: chance.choice(choices)}
            with contextlib.suppress(ValidationError):
                kind.Params.model_validate(candidate)
                params = candidate
    return params


def draw(chance: random.Random) -> Round:
    name, kind = chance.choice([(n, k) for n, k in stacks.available().items() if not _needs_more(k)])
    role = chance.choice(list(kind.roles))
    interrupt = chance.uniform(0.0, _LATEST_INTERRUPT_S) if chance.random() < 0.5 else None
    return Round(name, role, random_params(kind, chance), interrupt)


def _needs_more(kind: type[Stack]) -> bool:
    """A stack that cannot be described without the user's words, such as ``command``."""
    return any(field.is_required() for field in kind.Params.model_fields.values())


def point_of(lab: Lab, one: Round) -> PointPlan:
    wires = lab.wires[:wires_needed(one.role)]
    return PointPlan(
        id="round", label="round", stack=one.stack, params=one.params, role=one.role, host="dut", frame_bytes=64,
        cores=lab.dut_cores[:1], wires=wires, directions=directions(one.role, wires, 16, bidirectional=False),
        line_rate_pps=line_rate_pps(10, 64),
    )


@contextlib.contextmanager
def interrupted_after(seconds: float | None) -> Iterator[None]:
    """Raise Interrupted in the block after so many seconds."""
    def strike(number: int, frame: object) -> None:
        raise Interrupted

    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def play(lab: Lab, one: Round) -> str:
    """Deploy, look at the counters, undeploy; returns what came of it."""
    point = point_of(lab, one)
    with SshDut.connect("dut", lab.ssh, home_cores=lab.tg_cores, virtual=True, state_dir=str(lab.dut_state_dir)) as dut:
        stack = stacks.create(one.stack, one.params)
        if missing := stack.requirements(dut, point):
            return f"skipped: {missing[0].what}"
        try:
            with interrupted_after(one.interrupt_s):
                started = time.monotonic()
                with stack.deploy(StackContext(dut, point, stacks.source(one.stack))) as running:
                    running.check_alive()
                    running.counters()
                return f"ok in {time.monotonic() - started:.2f} s"
        except Interrupted:
            return "interrupted"
        except (MeasurementError, UsageError) as error:
            return f"failed: {error}"


def settled(lab: Lab, before: dict[str, str]) -> dict[str, str]:
    """The state once it is as before, or after some seconds: the kernel frees BPF objects, sockets' memory and threads
    a moment after their last user is gone."""
    deadline = time.monotonic() + _SETTLE_S
    while (after := snapshot(lab)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return after


def test_nothing_is_left_of_any_stack(capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(SEED)
    came_of_it: list[tuple[Round, str, list[str]]] = []
    with Lab.up(wires=2, pause_s=0.1) as lab:
        before = snapshot(lab)
        while sum(not what.startswith("skipped") for _, what, _ in came_of_it) < ROUNDS:
            one = draw(chance)
            what = play(lab, one)
            after = settled(lab, before)
            differs = [name for name in before if after[name] != before[name]]
            came_of_it.append((one, what, differs))
            with capsys.disabled():
                left = f"; LEFT: {differs}" if differs else ""
                print(f"\n  {one.stack} {one.role} {one.params}: {what}{left}", end="")
            for name in differs:
                assert after[name] == before[name], (SEED, one, what, name)
    report = {"seed": SEED, "rounds": ROUNDS, "interrupted": sum(w == "interrupted" for _, w, _ in came_of_it),
              "skipped": sum(w.startswith("skipped") for _, w, _ in came_of_it), "differences": 0}
    with capsys.disabled():
        print(f"\n  {json.dumps(report)}")
    if target := os.environ.get("NSH_SOAK_JSON"):
        Path(target).write_text(json.dumps(report) + "\n")
    failed = [(one, what) for one, what, _ in came_of_it if what.startswith("failed")]
    assert not failed, (SEED, failed)
    assert any(what.startswith("ok") for _, what, _ in came_of_it)
