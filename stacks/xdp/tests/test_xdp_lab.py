# SPDX-License-Identifier: Apache-2.0
"""xdp deployed on the lab's DUT, with real frames: its roles, its counters, its troubles, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from harness import stacks
from harness.errors import StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, canonical, check_role
from harness.plan import PointPlan, Role
from harness.stack import StackContext, StackCounters

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def program_of(lab: Lab, ifname: str) -> str:
    argv = lab.exec_argv("dut", ["ip", "-d", "link", "show", "dev", ifname])
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return "xdp" if "prog/xdp" in shown else ""


@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize("role", [Role.DROP, Role.REFLECT, Role.ECHO, Role.FORWARD])
def test_fills_its_role(lab: Lab, dut: Dut, wires: Any, receiving: None, make_point: MakePoint, role: Role,
                        mode: str) -> None:
    point = make_point("xdp", role, {"mode": mode})
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.roles[role], lambda: running.counters().totals["discarded"])
        totals = running.counters().totals
        done = {Role.DROP: "discarded", Role.FORWARD: "redirected"}.get(role, "sent")
        assert totals["received"] == totals[done] > 0
        assert totals["received"] % FRAMES == 0
        assert totals["refused"] == 0
        assert running.degraded == ""
    assert [program_of(lab, name) for name in lab.ifnames("dut")] == ["", ""]


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_another_core_forwards_what_a_cpumap_hands_it(lab: Lab, dut: Dut, wires: Any, receiving: None,
                                                      make_point: MakePoint, mode: str) -> None:
    point = make_point("xdp", Role.FORWARD, {"mode": mode, "redirect": "cpumap"}, bidirectional=True)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.roles[Role.FORWARD], None)
        counters = running.counters()
        totals = counters.totals
        assert totals["received"] == totals["handed"] == totals["taken"] == totals["redirected"] > 0
        assert counters.losses == {"application": 0, "cpumap ring": 0}
        assert {(w["port"], w["core"]) for w in counters.per_worker if w.get("taken")} == {
            (port, point.cores[0]) for port in (0, 1)}
        assert cpumap_threads(), "the kernel's, named so that their work is told to be the stack's"
    deadline = time.monotonic() + 5
    while cpumap_threads():
        assert time.monotonic() < deadline, "they end with the map"
        time.sleep(0.02)
    assert [program_of(lab, name) for name in lab.ifnames("dut")] == ["", ""]


def test_a_cpumap_spreads_flows_over_several_cores(lab: Lab, dut: Dut, wires: Any, receiving: None,
                                                   make_point: MakePoint) -> None:
    """All frames of a flow go to one core, flows to all of them; each port has a thread on each core."""
    given = tuple(sorted({*lab.tg_cores, *lab.dut_cores}))
    point = replace(make_point("xdp", Role.FORWARD, {"redirect": "cpumap"}, bidirectional=True, flows=256), cores=given)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(context(dut, point)) as running:
        assert sorted(int(name.split("/")[1]) for name in cpumap_threads()) == sorted(2 * given)
        check_role(wires, point, stack.roles[Role.FORWARD], None)
        served: dict[int, int] = dict.fromkeys(given, 0)
        for flow in range(64):
            before = taken(running.counters(), 0)
            back = wires.exchange(0, [flow_frame(point.directions[0], 64, flow)] * 5, 1, 0.02)
            deadline = time.monotonic() + 5
            while sum((now := taken(running.counters(), 0)).values()) - sum(before.values()) < 5:
                assert time.monotonic() < deadline, "five frames are taken"
            back += wires.exchange(0, [], 1, 0.01)
            grew = [core for core in given if now[core] != before[core]]
            assert len(grew) == 1
            assert now[grew[0]] - before[grew[0]] == 5 == sum(canonical(frame, True) is not None for frame in back)
            served[grew[0]] += 1
        assert min(served.values()) >= 64 / len(given) / 3, served
        counters = running.counters()
        assert counters.totals["handed"] == counters.totals["taken"]
        assert not any(counters.losses.values())


def taken(counters: StackCounters, port: int) -> dict[int, int]:
    """Frames of a port that each core behind its cpumap took."""
    return {worker["core"]: worker["taken"] for worker in counters.per_worker
            if worker["port"] == port and "core" in worker}


def cpumap_threads() -> list[str]:
    names = [(Path("/proc") / entry / "comm") for entry in os.listdir("/proc") if entry.isdigit()]
    return [name for path in names if (name := read_comm(path)).startswith("cpumap/")]


def read_comm(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it ended meanwhile


def test_frames_without_room_in_a_cpumaps_ring_are_counted(dut: Dut, wires: Any, receiving: None,
                                                           make_point: MakePoint) -> None:
    """A ring of 8 for bursts of 64 on the same core: what its thread did not take was lost there."""
    point = make_point("xdp", Role.FORWARD, {"redirect": "cpumap", "cpumap_ring": 8})
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        sent = arrived = 0
        for _ in range(50):
            frames = [flow_frame(point.directions[0], 64, n) for n in range(64)]
            arrived += len([r for r in wires.exchange(0, frames, 1, 0.05) if UDP in Ether(r)])
            sent += len(frames)
            counters = running.counters()
            if counters.losses["cpumap ring"]:
                break
        assert counters.losses["cpumap ring"] == sent - arrived > 0
        assert counters.totals["handed"] == sent


def test_a_cpumap_is_a_way_of_forwarding(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("xdp", Role.ECHO, {"redirect": "cpumap"})
    (missing,) = stacks.create(point.stack, point.params).requirements(dut, point)
    assert missing.what == "a cpumap for role echo"


def test_forwards_both_ways(dut: Dut, wires: Any, receiving: None, make_point: MakePoint) -> None:
    point = make_point("xdp", Role.FORWARD, bidirectional=True)
    stack = stacks.create(point.stack, point.params)
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.roles[Role.FORWARD], None)
        assert {w["port"] for w in running.counters().per_worker if w["redirected"]} == {0, 1}


@pytest.mark.parametrize("frame", [64, 65, 512, 1518])
def test_echoes_every_frame_size(dut: Dut, wires: Any, receiving: None, make_point: MakePoint, frame: int) -> None:
    point = make_point("xdp", Role.ECHO, frame=frame)
    stack = stacks.create(point.stack, point.params)
    with stack.deploy(context(dut, point)):
        check_role(wires, point, stack.roles[Role.ECHO], None)


def test_echo_keeps_a_udp_checksum_valid(dut: Dut, wires: Any, receiving: None, make_point: MakePoint) -> None:
    point = make_point("xdp", Role.ECHO)
    asked = Ether(flow_frame(point.directions[0], 64))
    asked[UDP].chksum = None
    with stacks.create("xdp", {}).deploy(context(dut, point)):
        replies = [Ether(r) for r in wires.exchange(0, [bytes(asked)], 0, 0.5)]
    replies = [r for r in replies if UDP in r]
    assert len(replies) == 1
    assert replies[0][UDP].chksum == Ether(bytes(asked))[UDP].chksum != 0
    assert canonical(bytes(replies[0]), keep_ttl=True) is not None


def test_leaves_to_the_kernel_what_is_not_of_the_test(dut: Dut, wires: Any, receiving: None,
                                                       make_point: MakePoint) -> None:
    point = make_point("xdp", Role.DROP)
    direction, wire = point.directions[0], point.wires[0]
    test = Ether(flow_frame(direction, 64))
    other_port, options, fragment, short = test.copy(), test.copy(), test.copy(), bytes(test)[:30]
    other_port[UDP].dport += 1
    options[IP].options, options[IP].ihl, options[IP].chksum, options[IP].len = [b"\x01\x01\x01\x01"], None, None, None
    fragment[IP].flags, fragment[IP].chksum = "MF", None
    ask = Ether(src=direction.src_mac, dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=wire.dut.ip, psrc=wire.tg.ip)
    with stacks.create("xdp", {}).deploy(context(dut, point)) as running:
        frames = [bytes(f) for f in (test, other_port, options, fragment, ask, test)] + [short]
        replies = [Ether(r) for r in wires.exchange(0, frames, 0, 0.5)]
        totals = running.counters().totals
    assert (totals["received"], totals["discarded"], totals["passed"]) == (2, 2, 5)
    assert [r[ARP].hwsrc for r in replies if ARP in r] == [wire.dut.mac]


def test_expired_frames_are_refused_not_forwarded(dut: Dut, wires: Any, receiving: None, make_point: MakePoint) -> None:
    point = make_point("xdp", Role.FORWARD)
    frame = Ether(flow_frame(point.directions[0], 64))
    frame[IP].ttl, frame[IP].chksum = 1, None
    with stacks.create("xdp", {}).deploy(context(dut, point)) as running:
        assert not [r for r in wires.exchange(0, [bytes(frame)], 1, 0.3) if UDP in Ether(r)]
        counters = running.counters()
    assert (counters.totals["refused"], counters.losses["application"]) == (1, 1)


def test_death_is_noticed_and_leaves_no_program(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    point = make_point("xdp", Role.DROP)
    with stacks.create("xdp", {}).deploy(context(dut, point)) as running:
        assert program_of(lab, lab.ifnames("dut")[0]) == "xdp"
        os.kill(running.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while running.process.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(StackError, match="ended with status"):
            running.check_alive()
        with pytest.raises(StackError):
            running.counters()
        assert program_of(lab, lab.ifnames("dut")[0]) == ""


def test_another_program_on_the_port_is_left_alone(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    point = make_point("xdp", Role.DROP)
    stack = stacks.create("xdp", {})
    with stack.deploy(context(dut, point)) as first:
        with pytest.raises(StackError, match="did not start") as failed:
            with stack.deploy(context(dut, point)):
                pytest.fail("two programs on one port")
        assert "another XDP program is attached" in failed.value.log_tail
        assert first.counters().totals["received"] == 0
    assert program_of(lab, lab.ifnames("dut")[0]) == ""
