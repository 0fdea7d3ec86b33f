# SPDX-License-Identifier: Apache-2.0
"""Role drop of every stack, in the lab with real frames: what a stack discards on purpose is in no loss place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, get_args

import pytest

from harness import stacks
from harness.generator.contract import DirectionResult, SelfReport, TrafficResult
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.measure.trial import Bench, make_trial
from harness.plan import DirectionPlan, PointPlan, Role
from harness.records import Phase
from harness.stack import StackContext

pytestmark = pytest.mark.lab

#: Stacks that the lab cannot deploy as they are.
ELSEWHERE = {"command", "netmap", "vpp"}
#: Frames of a trial; few enough at once for the shortest ring on the way.
_BURST, _BURSTS = 100, 60


class ByHand:
    """A generator that sends a fixed number of frames from the generator's end of the wire."""

    def __init__(self, wires: Any, direction: DirectionPlan, frame_bytes: int) -> None:
        self._wires = wires
        self._frames = [flow_frame(direction, frame_bytes, flow % direction.flows.count) for flow in range(_BURST)]

    def trial(self, rate_pps: float, duration_s: float) -> TrafficResult:
        started = time.monotonic_ns()
        for _ in range(_BURSTS):
            self._wires.exchange(0, self._frames, 0, 0.005)
        ended, sent = time.monotonic_ns(), _BURST * _BURSTS
        report = SelfReport(asked_s=duration_s, real_s=duration_s, utilisation=0.0, started_ns=started, ended_ns=ended,
                            queue_full=0)
        return TrafficResult([DirectionResult(0, None, sent, sent, None)], [], report)


def dropping() -> list[tuple[str, dict[str, Any]]]:
    drop = stacks.available()["linux-drop"]
    places = [("linux-drop", {"at": at}) for at in get_args(drop.Params.model_fields["at"].annotation)]
    return places + [(name, {}) for name, stack in stacks.available().items()
                     if Role.DROP in stack.roles and name not in ELSEWHERE | {"linux-drop"}]


@pytest.mark.parametrize(("name", "params"), dropping(), ids=lambda value: "-".join(value.values()) if isinstance(
    value, dict) else str(value))
def test_losses_and_the_unexplained_sum_up_to_what_was_lost(
        dut: Dut, wires: Any, make_point: Callable[..., PointPlan], name: str, params: dict[str, Any]) -> None:
    point = make_point(name, Role.DROP, params)
    stack = stacks.create(name, point.params)
    if missing := stack.requirements(dut, point):
        assert params == {"at": "tc-matchall"}, f"{name} lacks {missing}"
        return
    ifnames = [wire.dut.ifname for wire in point.wires]
    with stack.deploy(StackContext(dut, point, stacks.source(name))) as running:
        bench = Bench(
            generator=ByHand(wires, point.directions[0], point.frame_bytes), dut=dut, point=point,  # type: ignore[arg-type]
            stack=running, exact_counter=stack.role_info(Role.DROP).discard_counter, nominal_hz=None, lab=True,
            live_queues=1, ifnames=ifnames,
        )
        trial = make_trial(bench, number=1, repeat=0, phase=Phase.SEARCH, attempt=0, rate_pps=1e4, duration_s=1.0)
    assert trial.sent == _BURST * _BURSTS
    assert trial.lost < trial.sent / 2, "it discards"
    assert sum(trial.losses.values()) + trial.unexplained == trial.lost
    assert trial.unexplained >= -(trial.sent / 1000 + 10), trial.losses
    assert trial.other_traffic <= trial.sent / 1000 + 10, "nor does a place see more than was lost"
