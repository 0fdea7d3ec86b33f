# SPDX-License-Identifier: Apache-2.0
"""The role check against simulated responders: a right one passes, each wrong one is named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness.errors import StackError
from harness.measure.rolecheck import check_role
from harness.plan import DirectionPlan, FlowPlan, PointPlan, PortPlan, Role, WirePlan
from harness.stack import RoleInfo

TG = PortPlan(0, "t0", "02:00:00:00:02:00", "198.18.0.2", 24)
DUT = PortPlan(0, "d0", "02:00:00:00:01:00", "198.18.0.1", 24)
TG1 = PortPlan(1, "t1", "02:00:00:00:02:01", "198.18.1.2", 24)
DUT1 = PortPlan(1, "d1", "02:00:00:00:01:01", "198.18.1.1", 24)
FLOWS = FlowPlan(16, "198.19.0.1", 4, 1024, 4, "198.18.0.1", 9000)


def point(role: Role) -> PointPlan:
    rx = {Role.DROP: None, Role.FORWARD: 1}.get(role, 0)
    direction = DirectionPlan(0, rx, TG.mac, DUT.mac, FLOWS)
    wires = (WirePlan(0, "dut", TG, DUT, 10.0, "198.19.0.0/18", True),
             WirePlan(1, "dut", TG1, DUT1, 10.0, "198.19.64.0/18", True))
    return PointPlan("p", "p", "s", {}, role, "dut", 64, (1,), wires, (direction,), 1e6)


class SimulatedGenerator:
    """Only ``exchange``: what the DUT under test makes of each frame."""

    def __init__(self, respond: Callable[[Ether], Ether | None]) -> None:
        self.respond, self.count = respond, 0

    def exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[bytes]:
        self.count += len(frames)
        replies = [self.respond(Ether(f)) for f in frames]
        return [bytes(r) for r in replies if r is not None]


def echo(frame: Ether) -> Ether:
    ip, udp = frame[IP], frame[UDP]
    reply = (Ether(src=frame.dst, dst=frame.src) / IP(src=ip.dst, dst=ip.src, ttl=63, id=77)
             / UDP(sport=udp.dport, dport=udp.sport) / bytes(udp.payload))
    return Ether(bytes(reply))


def reflect(frame: Ether) -> Ether:
    frame.src, frame.dst = frame.dst, frame.src
    return frame


def route(frame: Ether) -> Ether:
    frame.src, frame.dst = DUT1.mac, TG1.mac
    frame[IP].ttl -= 1
    del frame[IP].chksum
    return frame


INFO = RoleInfo("as tested", "discarded", "l3")


def run(role: Role, respond: Callable[[Ether], Ether | None], discarded: Callable[[], int] | None = None) -> None:
    check_role(SimulatedGenerator(respond), point(role), INFO, discarded)  # type: ignore[arg-type]


@pytest.mark.parametrize(("role", "respond"), [(Role.ECHO, echo), (Role.REFLECT, reflect), (Role.FORWARD, route)])
def test_right_replies_pass(role: Role, respond: Callable[[Ether], Ether]) -> None:
    run(role, respond)


@pytest.mark.parametrize(("role", "respond", "field"), [
    (Role.ECHO, reflect, "src"), (Role.REFLECT, echo, "src"), (Role.FORWARD, lambda f: f, "mac"),
])
def test_another_roles_reply_is_named(role: Role, respond: Callable[[Ether], Ether], field: str) -> None:
    with pytest.raises(StackError, match=field):
        run(role, respond)


def test_changed_payload_and_bad_checksums_are_named() -> None:
    def spoil(frame: Ether) -> Ether:
        reply = echo(frame)
        reply[UDP].payload.load = b"x" * 18
        reply[UDP].chksum = 0
        return reply

    def wrong_sum(frame: Ether) -> Ether:
        reply = echo(frame)
        reply[UDP].chksum ^= 0x5555
        return reply

    with pytest.raises(StackError, match="payload"):
        run(Role.ECHO, spoil)
    with pytest.raises(StackError, match="UDP checksum"):
        run(Role.ECHO, wrong_sum)


def test_silence_is_named_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.measure.rolecheck._DEADLINE_S", 0.0)
    with pytest.raises(StackError, match="8 of 8 frames"):
        run(Role.ECHO, lambda frame: None)


def test_drop_compares_the_discard_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.measure.rolecheck._DEADLINE_S", 0.05)
    readings = iter([0, 8])
    run(Role.DROP, lambda frame: None, lambda: next(readings))
    warming_up = iter([0, 3, 3, 11])
    run(Role.DROP, lambda frame: None, lambda: next(warming_up))
    few = itertools.count(0, 7)
    with pytest.raises(StackError, match="rose by 7"):
        run(Role.DROP, lambda frame: None, lambda: next(few))
    many = iter([0, 9])
    with pytest.raises(StackError, match="rose by 9"):
        run(Role.DROP, lambda frame: None, lambda: next(many))
    again = iter([0, 8])
    with pytest.raises(StackError, match="came back"):
        run(Role.DROP, reflect, lambda: next(again))
    with pytest.raises(StackError, match="no exact discard counter"):
        run(Role.DROP, lambda frame: None)
