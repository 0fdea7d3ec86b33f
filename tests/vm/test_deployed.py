# SPDX-License-Identifier: Apache-2.0
"""What the lab's kernel need not have and the guest's has: a flowtable, matchall, VLAN devices. Real frames, each told
apart, and the guest compared with what it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from harness.stacks.linux_forward.flowtable import TABLE
from scapy.layers.inet import ICMP, UDP
from scapy.layers.l2 import ARP, Ether

from harness import stacks
from harness.errors import StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.host.interrupts import affinities
from harness.lab.vm import VmLab
from harness.measure.rolecheck import canonical, check_role, expected_reply
from harness.plan import FrameMix, PointPlan, Role
from harness.scenario import minimum_frame
from harness.stack import RoleInfo, StackContext
from harness.stacks.ports import set_up_ports
from harness.stacks.vlan import NAME as VLAN

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]
MakePoint = Callable[..., PointPlan]
TAG = 7
TAGGED = {4: FrameMix(((minimum_frame(vlan=True), 1), (595, 1), (1522, 1))),
          6: FrameMix(((minimum_frame("ipv6", vlan=True), 1), (595, 1), (1522, 1)))}


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def state(dut: Dut, point: PointPlan) -> list[str]:
    """All that these stacks may touch on the guest, as text."""
    ports = [wire.dut.ifname for wire in point.wires]
    shown = [["ip", "-br", "link"], ["ip", "-4", "-o", "addr"], ["ip", "-6", "-o", "addr"],
             ["ip", "-4", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"],
             ["ip", "neigh", "show", "nud", "permanent"], ["nft", "list", "ruleset"], ["tc", "qdisc", "show"],
             *(["tc", "filter", "show", "dev", port, "ingress"] for port in ports),
             *(["ethtool", "-k", port] for port in ports), ["ss", "-uan"]]
    conf = [dut.read(f"/proc/sys/net/ipv4/conf/{port}/{name}") for port in ("all", *ports)
            for name in ("forwarding", "rp_filter", "send_redirects")]
    return [*(dut.run(argv).stdout for argv in shown), *conf]


def await_carrier(dut: Dut, port: str) -> None:
    deadline = time.monotonic() + 60
    while dut.read(f"/sys/class/net/{port}/operstate").strip() != "up":
        assert time.monotonic() < deadline


@pytest.fixture(scope="module", autouse=True)
def ports_up(vm: VmLab, dut: Dut) -> Iterator[None]:
    """A driver that brings its port up for the first time changes features and qdiscs for good: that is done before."""
    for port in vm.ifnames("dut"):
        dut.run(["ip", "link", "set", port, "up"])
        await_carrier(dut, port)
    yield
    for port in vm.ifnames("dut"):
        dut.run(["ip", "link", "set", port, "down"])


def frames_of(point: PointPlan, flows: Iterable[int], size: int) -> list[bytes]:
    return [flow_frame(point.directions[0], size, flow) for flow in flows]


def replies(wires: Any, point: PointPlan, info: RoleInfo, sent: Sequence[bytes]) -> tuple[list[Any], list[Any]]:
    """(what came back, what should have), each in the same order."""
    direction = point.directions[0]
    assert direction.rx_port is not None
    raw = wires.exchange(direction.tx_port, sent, direction.rx_port, 2.0)
    got = [reply for reply in (canonical(frame, True) for frame in raw) if reply is not None]
    return sorted(got, key=repr), sorted((expected_reply(frame, point, direction, info) for frame in sent), key=repr)


def test_a_flowtable_takes_over_from_the_ip_layer_after_a_flows_second_packet(
        dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """Exactly: the IP layer forwards two packets of each flow, and none of those that follow."""
    flows = 16
    point = make_point("linux-forward", Role.FORWARD, {"mode": "flowtable"}, flows=flows + 1)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    before, info = state(dut, point), stack.role_info(Role.FORWARD)
    with stack.deploy(context(dut, point)) as running:
        while not replies(wires, point, info, frames_of(point, [flows], 64))[0]:
            running.check_alive()  # a link that has just come up may not carry the first frame
        start = running.counters().totals
        for sent in range(1, 5):
            got, wanted = replies(wires, point, info, frames_of(point, range(flows), 64))
            assert got == wanted
            totals = running.counters().totals
            assert totals["forwarded"] - start["forwarded"] == sent * flows
            assert totals["ip_forwarded"] - start["ip_forwarded"] == min(sent, 2) * flows
        dut.run(["nft", "delete", "table", "ip", TABLE])
        got, wanted = replies(wires, point, info, frames_of(point, range(flows), 64))
        assert got == wanted
        assert running.counters().totals["ip_forwarded"] - start["ip_forwarded"] == 3 * flows, "the table made it so"
    assert state(dut, point) == before


def test_ports_that_are_down_are_brought_up_and_down_again(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """Their interrupts too are on the point's core: a driver asks for them when its port comes up."""
    point = make_point("linux-forward", Role.FORWARD, bidirectional=True)
    stack, ports = stacks.create(point.stack, {}), [wire.dut.ifname for wire in point.wires]
    try:
        for port in ports:
            dut.run(["ip", "link", "set", port, "down"])
        before = state(dut, point)
        with stack.deploy(context(dut, point)) as running:
            check_role(wires, point, stack.role_info(Role.FORWARD), None)
            for port in ports:
                assert set(affinities(dut, [port]).values()) == {"1"}
            running.check_alive()
        assert state(dut, point) == before
    finally:
        for port in ports:
            dut.run(["ip", "link", "set", port, "up"])
            await_carrier(dut, port)


@pytest.mark.parametrize("rules", [0, 200])
def test_matchall_drops_and_counts_the_tests_packets_and_no_others(
        dut: Dut, wires: Any, make_point: MakePoint, rules: int) -> None:
    point = make_point("linux-drop", Role.DROP, {"at": "tc-matchall", "rules": rules})
    stack = stacks.create(point.stack, point.params)
    before, wire = state(dut, point), point.wires[0]
    assert stack.requirements(dut, point) == []
    assert state(dut, point) == before, "requirements leave nothing"
    elsewhere = Ether(flow_frame(point.directions[0], 64))
    elsewhere[UDP].dport += 1
    ask = Ether(src=wire.tg.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=wire.tg.mac, psrc=wire.tg.ip, pdst=wire.dut.ip)
    with stack.deploy(context(dut, point)) as running:
        def discarded() -> int:
            return running.counters().totals["discarded"]

        check_role(wires, point, stack.role_info(Role.DROP), discarded)
        there = discarded()
        for _ in range(20):
            wires.exchange(0, frames_of(point, range(50), 64), 0, 0.05)
        others = [Ether(frame) for frame in wires.exchange(0, [bytes(ask), bytes(elsewhere)], 0, 2.0)]
        assert discarded() - there == 1000
        assert any(ARP in frame for frame in others)
        assert any(ICMP in frame and frame[ICMP].type == 3 for frame in others), "no port unreachable"
        running.check_alive()
    assert state(dut, point) == before


@pytest.mark.parametrize("untagged_too", [False, True], ids=["bare", "set-up"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("name", "role"), [
    ("linux-udp", Role.ECHO), ("linux-udp", Role.DROP), ("linux-forward", Role.FORWARD)])
def test_tagged_traffic_through_vlan_devices(dut: Dut, wires: Any, make_point: MakePoint, name: str, role: Role,
                                             version: int, untagged_too: bool) -> None:
    """``untagged_too``: the ports have the test's addresses and routes already, which come back afterwards."""
    point = make_point(name, role, frame=TAGGED[version], version=version, vlan=TAG,
                       bidirectional=role is Role.FORWARD)
    stack, mark = stacks.create(name, point.params), dut.undo_mark()
    info = stack.role_info(role)
    if role is Role.FORWARD and version == 6:
        missing, = stack.requirements(dut, point)
        assert missing.what.startswith("IPv6 forwarding of two ports alone")
        return
    try:
        if untagged_too:
            set_up_ports(dut, point)
        assert stack.requirements(dut, point) == []
        before = state(dut, point)
        with stack.deploy(context(dut, point)) as running:
            check_role(wires, point, info, lambda: running.counters().totals[info.discard_counter])
            assert not any(running.counters().losses.values())
            other = [flow_frame(replace(point.directions[0], vlan=TAG + 1), 100)]
            heard = point.directions[0].rx_port
            assert not any(UDP in Ether(frame) for frame in wires.exchange(0, other, heard or 0, 1.0)), "another VLAN's"
            running.check_alive()
        assert state(dut, point) == before
    finally:
        dut.undo_to(mark)


def test_a_vlan_device_that_is_taken_down_is_noticed(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-forward", Role.FORWARD, frame=66, vlan=TAG)
    before = state(dut, point)
    with stacks.create(point.stack, {}).deploy(context(dut, point)) as running:
        dut.run(["ip", "link", "set", "dev", VLAN.format(index=1), "down"])
        with pytest.raises(StackError, match="port nsh-vlan1 of vm was taken down"):
            running.check_alive()
    assert state(dut, point) == before


def test_a_taken_name_is_refused(dut: Dut, make_point: MakePoint) -> None:
    point, mark, name = make_point("linux-udp", Role.ECHO, frame=66, vlan=TAG), dut.undo_mark(), VLAN.format(index=0)
    dut.apply(["ip", "link", "add", "link", point.wires[0].dut.ifname, "name", name, "type", "vlan", "id", "9"],
              ["ip", "link", "del", "dev", name])
    try:
        missing, = stacks.create(point.stack, {}).requirements(dut, point)
        assert missing.what == f"the name {name} for a VLAN device (there is an interface of that name)"
        assert missing.remedy == f"ip link del dev {name}"
    finally:
        dut.undo_to(mark)
