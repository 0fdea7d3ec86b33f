# SPDX-License-Identifier: Apache-2.0
"""Stacks deployed and undeployed in random order with random parameters, a third of them interrupted: nothing differs.
Once more with a random tuning profile around each.

``NSH_ROUNDS`` rounds of each kind (8), in an order by ``NSH_SEED`` (printed). ``make soak`` runs the full count and
keeps what came out in ``tests/data/soak/rounds.json`` and ``rounds-tuned.json``.
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
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from harness import stacks
from harness.errors import MeasurementError, UsageError
from harness.flows import directions, wires_needed
from harness.host.dut import SshDut
from harness.host.tuning.apply import tuned
from harness.host.tuning.change import Target
from harness.host.tuning.profile import STOCK, Profile, read_profile
from harness.lab.lab import Lab
from harness.plan import PointPlan, Role, line_rate_pps
from harness.stack import Stack, StackContext
from tests import soak
from tests.lab.snapshot import snapshot

pytestmark = pytest.mark.lab

ROUNDS = int(os.environ.get("NSH_ROUNDS", "8"))
SEED = int(os.environ.get("NSH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
_SETTLE_S = 3.0
#: Most stacks are up and gone in 0.1 to 0.3 s, tuned (True) in up to 1 s, so some that are to be interrupted are gone
#: before.
_LATEST_INTERRUPT_S = {False: 0.25, True: 0.8}
#: The share of rounds to be interrupted: as soon as there are fewer, the next one is.
_INTERRUPTED = 1 / 3
#: Items of the lab's ports; what acts on the whole machine (clock, irqbalance) is not for a test.
_TUNING: dict[str, list[Any]] = {
    "rings": ["max", 256], "rss_queues": ["cores"], "rss_hash": ["ports", "addresses"], "rps": ["cores", "off"],
    "xps": ["cores", "off"], "threaded_napi": [True], "coalesce_us": [10], "gro": [True, False], "lro": [False],
    "tso": [True, False], "pause_frames": [False],
}


class Interrupted(Exception):
    """What Ctrl-C does, from a timer."""


@dataclass(frozen=True)
class Round:
    stack: str
    role: Role
    params: dict[str, Any]
    #: When to interrupt it, if it is to be.
    moment_s: float
    tuning: dict[str, Any]


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


def draw(chance: random.Random, *, tuning: bool) -> Round:
    name, kind = chance.choice([(n, k) for n, k in stacks.available().items() if not _needs_more(k)])
    role = chance.choice(list(kind.roles))
    moment_s = chance.uniform(0.0, _LATEST_INTERRUPT_S[tuning])
    return Round(name, role, random_params(kind, chance), moment_s, random_tuning(chance) if tuning else {})


def random_tuning(chance: random.Random) -> dict[str, Any]:
    """Some items of a profile, at least one."""
    items = chance.sample(sorted(_TUNING), chance.randint(1, len(_TUNING)))
    return {item: chance.choice(_TUNING[item]) for item in items}


def profile_of(lab: Lab, one: Round) -> Profile:
    """Its profile for the lab's ports."""
    if not one.tuning:
        return STOCK
    of_ports = {f"net.ipv4.conf.{port}.arp_notify": 1 for port in _ports(point_of(lab, one))}
    return read_profile({**one.tuning, "sysctls": {**of_ports, "net.ipv4.udp_rmem_min": 8192}})


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


@dataclass(frozen=True)
class Outcome:
    """What came of a round. ``seconds``: of deploying and undeploying, where neither was interrupted."""

    what: str
    seconds: float | None = None


def play(lab: Lab, one: Round, *, interrupt: bool) -> Outcome:
    """Deploy, look at the counters, undeploy."""
    point = point_of(lab, one)
    with SshDut.connect("dut", lab.ssh, home_cores=lab.tg_cores, virtual=True, state_dir=str(lab.dut_state_dir)) as dut:
        stack = stacks.create(one.stack, one.params)
        if missing := stack.requirements(dut, point):
            return Outcome(f"skipped: {missing[0].what}")
        try:
            with (interrupted_after(one.moment_s if interrupt else None),
                  tuned(Target(dut, _ports(point), point.cores), profile_of(lab, one))):
                started = time.monotonic()
                with stack.deploy(StackContext(dut, point, stacks.source(one.stack))) as running:
                    running.check_alive()
                    running.counters()
                seconds = time.monotonic() - started
                return Outcome(f"ok in {seconds:.2f} s", seconds)
        except Interrupted:
            return Outcome("interrupted")
        except (MeasurementError, UsageError) as error:
            return Outcome(f"failed: {error}")


def _ports(point: PointPlan) -> tuple[str, ...]:
    return tuple(wire.dut.ifname for wire in point.wires)


def settled(lab: Lab, before: dict[str, str]) -> dict[str, str]:
    """The state once it is as before, or after some seconds: the kernel frees BPF objects, sockets' memory and threads
    a moment after their last user is gone."""
    deadline = time.monotonic() + _SETTLE_S
    while (after := snapshot(lab)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return after


def report(played: list[tuple[Round, Outcome]]) -> dict[str, Any]:
    """The figures to keep; ``slowest_s``: deploying and undeploying, by stack."""
    slowest: dict[str, float] = {}
    for one, outcome in played:
        if outcome.seconds is not None:
            slowest[one.stack] = round(max(outcome.seconds, slowest.get(one.stack, 0.0)), 2)
    return {"seed": SEED, "rounds": ROUNDS, "interrupted": sum(o.what == "interrupted" for _, o in played),
            "drawn_but_skipped": sum(o.what.startswith("skipped") for _, o in played), "differences": 0,
            "slowest_s": dict(sorted(slowest.items()))}


@pytest.mark.parametrize("tuning", [False, True])
def test_nothing_is_left_of_any_stack(capsys: pytest.CaptureFixture[str], tuning: bool) -> None:
    chance = random.Random(SEED)
    played: list[tuple[Round, Outcome]] = []
    with Lab.up(wires=2, pause_s=0.1) as lab:
        before, rounds, interrupted = snapshot(lab), 0, 0
        while rounds < ROUNDS:
            one = draw(chance, tuning=tuning)
            outcome = play(lab, one, interrupt=interrupted < (rounds + 1) * _INTERRUPTED)
            after = settled(lab, before)
            differs = [name for name in before if after[name] != before[name]]
            played.append((one, outcome))
            rounds += not outcome.what.startswith("skipped")
            interrupted += outcome.what == "interrupted"
            with capsys.disabled():
                left = f"; LEFT: {differs}" if differs else ""
                print(f"\n  {one.stack} {one.role} {one.params} {one.tuning}: {outcome.what}{left}", end="")
            for name in differs:
                assert after[name] == before[name], (SEED, one, outcome, name)
    figures = report(played)
    with capsys.disabled():
        print(f"\n  {json.dumps(figures)}")
    failed = [(one, outcome) for one, outcome in played if outcome.what.startswith("failed")]
    assert not failed, (SEED, failed)
    assert figures["slowest_s"], (SEED, "no round was finished")
    soak.keep("rounds-tuned" if tuning else "rounds", figures)
