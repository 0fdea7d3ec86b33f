# SPDX-License-Identifier: Apache-2.0
"""linux-udp deployed on the lab's DUT, with real frames: its roles, its counters, its troubles, and what is left."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether

from harness import stacks
from harness.errors import StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.lab import netns
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, check_role
from harness.plan import PointPlan, Role
from harness.stack import StackContext, StackCounters

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def settled(running: Any, name: str) -> StackCounters:
    """Counters once this one has all datagrams received, at most 5 s later: a reply may arrive before its worker has
    counted it. Role checks send their frames again while replies are missing, so it is a multiple of theirs."""
    deadline = time.monotonic() + 5
    while True:
        counters = running.counters()
        sent, rest = divmod(counters.totals["snmp.udp.InDatagrams"], FRAMES)
        if sent and not rest and counters.totals[name] == counters.totals["received"] == sent * FRAMES:
            return counters  # type: ignore[no-any-return]
        assert time.monotonic() < deadline, counters


@pytest.mark.parametrize("params", [
    {"reuseport": False}, {"reuseport": True}, {"reuseport": True, "steering": "cpu", "mode": "epoll"},
    {"reuseport": True, "steering": "ebpf"}, {"reuseport": True, "steering": "incoming-cpu"},
    {"mode": "busy", "busy_poll_us": 50, "batch": 64}, {"mode": "epoll", "busy_poll_us": 20, "rcvbuf": 0},
])
@pytest.mark.parametrize("role", [Role.ECHO, Role.DROP])
def test_fills_its_role(dut: Dut, wires: Any, make_point: MakePoint, role: Role, params: dict[str, Any]) -> None:
    point = make_point("linux-udp", role, params)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.roles[role], lambda: running.counters().totals["discarded"])
        counters = settled(running, "discarded" if role is Role.DROP else "sent")
        assert counters.losses == {"socket buffer": 0, "tx": 0}
        assert [worker["core"] for worker in counters.per_worker] == list(point.cores)
        usage = running.poll_usage()
        assert (usage is not None and usage.empty > usage.useful > 0) == (params.get("mode") == "busy")
        assert running.degraded == ""
    assert not dut.exists(f"/proc/{running.process.pid}")


@pytest.mark.parametrize("params", [{"reuseport": False}, {"reuseport": True}, {"reuseport": True, "steering": "cpu"},
                                    {"reuseport": True, "steering": "incoming-cpu"}])
def test_four_workers_on_one_core_share_a_socket_or_have_one_each(
        dut: Dut, wires: Any, make_point: MakePoint, params: dict[str, Any]) -> None:
    """On one socket a woken worker may take what others were woken for; in a group every worker has flows."""
    point = make_point("linux-udp", Role.DROP, params | {"workers": 4})
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        for _ in range(20):
            wires.exchange(0, [flow_frame(point.directions[0], 64, flow) for flow in range(64)], 0, 0.01)
        deadline = time.monotonic() + 5
        while (counters := running.counters()).totals["discarded"] < 20 * 64 and time.monotonic() < deadline:
            pass
        assert counters.losses == {"socket buffer": 0, "tx": 0}
        taken = [worker["discarded"] for worker in counters.per_worker]
        assert (len(taken), sum(taken)) == (4, 20 * 64)
        assert [worker["core"] for worker in counters.per_worker] == [point.cores[0]] * 4
        assert all(taken) or not params["reuseport"]


@pytest.mark.parametrize("frame", [64, 65, 512, 1518])
def test_echoes_every_frame_size(dut: Dut, wires: Any, make_point: MakePoint, frame: int) -> None:
    point = make_point("linux-udp", Role.ECHO, frame=frame)
    stack = stacks.create(point.stack, point.params)
    with stack.deploy(context(dut, point)):
        check_role(wires, point, stack.roles[Role.ECHO], None)


def test_counts_only_test_datagrams_as_discarded(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("linux-udp", Role.DROP)
    with stacks.create(point.stack, {}).deploy(context(dut, point)) as running:
        longer = flow_frame(point.directions[0], 80)
        wires.exchange(0, [longer, longer, flow_frame(point.directions[0], 64)], 0, 0.2)
        totals = running.counters().totals
        assert (totals["discarded"], totals["other"]) == (1, 2)


def test_what_the_scheduler_did_is_counted_for_each_worker(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """A worker that blocks sleeps before every lone datagram."""
    point = make_point("linux-udp", Role.DROP)
    with stacks.create(point.stack, {}).deploy(context(dut, point)) as running:
        before = running.counters()
        for number in range(10):
            wires.exchange(0, [flow_frame(point.directions[0], 64)], 0, 0.0)
            deadline = time.monotonic() + 5
            while running.counters().totals["received"] <= before.totals["received"] + number:
                assert time.monotonic() < deadline
        after = running.counters()
        assert after.totals["voluntary_switches"] - before.totals["voluntary_switches"] == 10
        for name in ("voluntary_switches", "involuntary_switches", "run_queue_wait_ns"):
            assert after.totals[name] == sum(worker[name] for worker in after.per_worker)
        assert after.totals["run_queue_wait_ns"] > before.totals["run_queue_wait_ns"]


def test_a_wrong_checksum_is_not_answered_and_shows_in_the_counters(
        dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("linux-udp", Role.ECHO)
    with stacks.create(point.stack, {}).deploy(context(dut, point)) as running:
        wrong = Ether(flow_frame(point.directions[0], 64))
        wrong[UDP].chksum = 0x1234
        assert [f for f in wires.exchange(0, [bytes(wrong)], 0, 0.2) if UDP in Ether(f)] == []
        totals = running.counters().totals
        assert (totals["received"], totals["snmp.udp.InCsumErrors"]) == (0, 1)


def test_losses_of_a_small_buffer_are_all_found(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """More frames at once than the buffer holds: received + lost = sent, by SO_MEMINFO."""
    point = make_point("linux-udp", Role.DROP, {"rcvbuf": 4096, "batch": 1})
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        sent = 0
        for _ in range(50):
            wires.exchange(0, [flow_frame(point.directions[0], 64, n) for n in range(64)], 0, 0.0)
            sent += 64
            if running.counters().losses["socket buffer"]:
                break
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            counters = running.counters()
            if counters.totals["discarded"] + counters.losses["socket buffer"] == sent:
                break
        assert counters.losses["socket buffer"] == counters.totals["snmp.udp.RcvbufErrors"] > 0
        assert counters.totals["discarded"] + counters.losses["socket buffer"] == sent


def test_a_server_that_dies_is_noticed(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-udp", Role.ECHO)
    with stacks.create(point.stack, {}).deploy(context(dut, point)) as running:
        running.check_alive()
        tasks = Path(f"/proc/{running.process.pid}/task")
        assert all((task / "comm").read_text().startswith(running.thread_names) for task in tasks.iterdir())
        os.kill(running.process.pid, signal.SIGKILL)  # this stack's own attribute
        with pytest.raises(StackError, match="udp-server"):
            running.counters()
        with pytest.raises(StackError, match="ended with status"):
            running.check_alive()


def test_an_address_in_use_fails_the_point_with_the_log(
        lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-udp", Role.ECHO)
    with netns.in_netns(lab.dut_netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind((point.wires[0].dut.ip, point.udp_port))
        with pytest.raises(StackError, match="did not start") as caught:
            with stacks.create(point.stack, {}).deploy(context(dut, point)):
                pytest.fail("it cannot serve")
        assert "bind: Address already in use" in caught.value.log_tail


def test_deploying_again_takes_well_under_three_seconds(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-udp", Role.ECHO)
    stack = stacks.create(point.stack, {})
    with stack.deploy(context(dut, point)):
        pass
    start = time.monotonic()
    with stack.deploy(context(dut, point)):
        pass
    assert time.monotonic() - start < 3
