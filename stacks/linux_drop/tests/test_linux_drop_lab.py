# SPDX-License-Identifier: Apache-2.0
"""linux-drop deployed on the lab's DUT, with real frames: every place counts the test's packets exactly and lets all
others through, what the kernel lacks is said, and nothing is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from harness.stacks.linux_drop.netfilter import CHAIN
from harness.stacks.linux_drop.stack import PLACES
from harness.stacks.linux_drop.target import Target
from harness.stacks.linux_drop.tc import gate_bytecode, rule_bytecode
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether

from harness import stacks
from harness.errors import HostError, StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.measure.rolecheck import check_role
from harness.plan import PointPlan, Role
from harness.scenario import minimum_frame
from harness.stack import RunningStack, StackContext
from harness.stacks.ports import set_up_ports

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]
#: The lab's kernel need not have matchall; then the skip is what is tested.
HERE = [at for at in PLACES if at != "tc-matchall"]
FRAMES = {4: 64, 6: minimum_frame("ipv6")}


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def state(dut: Dut, point: PointPlan) -> list[str]:
    """All that the stack may touch on the DUT, as text."""
    port = point.wires[0].dut.ifname
    shown = [dut.run(argv).stdout for argv in (
        ["nft", "list", "ruleset"], ["tc", "qdisc", "show"], ["tc", "filter", "show", "dev", port, "ingress"],
        ["ip", "-o", "link"], ["ip", "addr"], ["ip", "-4", "route"], ["ip", "-6", "route"], ["ss", "-uanp"])]
    return [*shown, *(dut.read(f"/proc/net/{name}_tables_names", "") for name in ("ip", "ip6")),
            dut.read(f"/proc/sys/net/ipv6/conf/{port}/disable_ipv6")]


def ask(point: PointPlan) -> bytes:
    """What the kernel alone answers: who has its IPv4 address, or, over IPv6, an echo request."""
    wire = point.wires[0]
    if point.ip_version == 6:
        return bytes(Ether(src=wire.tg.mac, dst=wire.dut.mac) / IPv6(src=wire.tg.ip, dst=wire.dut.ip) /
                     ICMPv6EchoRequest(id=7))
    return bytes(Ether(src=wire.tg.mac, dst="ff:ff:ff:ff:ff:ff") /
                 ARP(hwsrc=wire.tg.mac, psrc=wire.tg.ip, pdst=wire.dut.ip))


def is_answer(frame: Ether) -> bool:
    return ARP in frame or ICMPv6EchoReply in frame


def is_port_unreachable(frame: Ether) -> bool:
    return (ICMP in frame and (frame[ICMP].type, frame[ICMP].code) == (3, 3)) or (
        ICMPv6DestUnreach in frame and frame[ICMPv6DestUnreach].code == 4)


def frame_of(point: PointPlan, flow: int = 0) -> bytes:
    return flow_frame(point.directions[0], point.frame_bytes, flow)


def altered(point: PointPlan, *, src: str = "", dst: str = "", port: int = 0) -> bytes:
    """A test frame with another address or port; its checksums are right."""
    frame = Ether(frame_of(point))
    ip = frame[IP] if IP in frame else frame[IPv6]
    ip.src, ip.dst, frame[UDP].dport = src or ip.src, dst or ip.dst, port or frame[UDP].dport
    if IP in frame:
        del ip.chksum
    del frame[UDP].chksum
    return bytes(Ether(bytes(frame)))


def to_another_port(point: PointPlan) -> bytes:
    return altered(point, port=point.udp_port + 1)


def counted(running: RunningStack, expected: int) -> int:
    """The discard counter once it is what it should be, at most 5 s later."""
    deadline = time.monotonic() + 5
    while (now := running.counters().totals["discarded"]) != expected and time.monotonic() < deadline:
        pass
    return now


@pytest.mark.parametrize("params", [
    *({"at": at} for at in HERE),
    *({"at": at, "rules": 200} for at in HERE if PLACES[at].has_rules),
    *({"at": at, "conntrack": on} for at in HERE if PLACES[at].after_conntrack for on in (True, False)),
], ids=lambda params: " ".join(f"{key}={value}" for key, value in params.items()))
@pytest.mark.parametrize("version", [4, 6])
def test_counts_the_tests_packets_exactly_and_passes_others(
        dut: Dut, wires: Any, make_point: MakePoint, params: dict[str, Any], version: int) -> None:
    point = make_point("linux-drop", Role.DROP, params, frame=FRAMES[version], version=version)
    stack = stacks.create(point.stack, point.params)
    before = state(dut, point)
    assert stack.requirements(dut, point) == []
    assert state(dut, point) == before, "requirements leave nothing"
    with stack.deploy(context(dut, point)) as running:
        assert running.counters().totals["discarded"] == 0
        check_role(wires, point, stack.role_info(Role.DROP), lambda: running.counters().totals["discarded"])
        there, sent = running.counters().totals["discarded"], 0
        for _ in range(20):
            wires.exchange(0, [frame_of(point, n) for n in range(50)], 0, 0.01)
            sent += 50
        others = [Ether(f) for f in wires.exchange(0, [ask(point), to_another_port(point)], 0, 0.3)]
        assert counted(running, there + sent) == there + sent
        assert any(map(is_answer, others))
        assert any(map(is_port_unreachable, others)), "no port unreachable"
        assert not any(running.counters().losses.values())
        running.check_alive()
    assert state(dut, point) == before


@pytest.mark.parametrize("at", HERE)
@pytest.mark.parametrize("version", [4, 6])
def test_frames_with_their_headers_in_a_page_are_counted_too(dut: Dut, wires: Any, make_point: MakePoint, at: str,
                                                             version: int) -> None:
    """As TRex sends them from an interface of the kernel, and NIC drivers may hand them over."""
    point = make_point("linux-drop", Role.DROP, {"at": at}, frame=FRAMES[version], version=version)
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running, \
            closing(wires.paged(0)) as sender:
        for _ in range(4):
            sender.send([frame_of(point, flow) for flow in range(50)])
        assert counted(running, 200) == 200
        sender.send([to_another_port(point)])
        wires.exchange(0, [], 0, 0.1)
        assert running.counters().totals["discarded"] == 200
        assert not any(running.counters().losses.values())


@pytest.mark.parametrize(("at", "version"), [
    *((at, 6) for at in HERE if PLACES[at].has_rules), ("iptables-raw", 4), ("nft-ingress", 4), ("tc-clsact", 4)])
def test_a_sender_that_a_rule_names_ends_at_that_rule(dut: Dut, wires: Any, make_point: MakePoint, at: str,
                                                      version: int) -> None:
    """Over IPv4 the IP layer refuses class E, so there only the places before it can tell. Over IPv6 the whole address
    is compared: another that ends alike is no match."""
    point = make_point("linux-drop", Role.DROP, {"at": at, "rules": 3}, frame=FRAMES[version], version=version)
    named = list(Target.of(point, 3).senders())
    others = [str(named[-1]).replace("100::", "2001:2::"), "100::f000:4"] if version == 6 else ["240.0.0.4"]
    if at == "socket-filter":
        del named[:-1]  # what the filter takes stays in the socket's buffer, which is small
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        wires.exchange(0, [altered(point, src=sender) for sender in [*named, *others]], 0, 0.2)
        assert counted(running, len(others)) == len(others)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_conntrack_is_on_or_off_as_asked(dut: Dut, wires: Any, make_point: MakePoint, on: bool,
                                         version: int) -> None:
    """Another rule of the host has tracking on, as on most hosts; what is tracked stays counted until it times out."""
    point = make_point("linux-drop", Role.DROP, {"at": "recvmmsg", "conntrack": on}, flows=1, frame=FRAMES[version],
                       version=version)
    family = Target.of(point, 0).family
    held = "/proc/sys/net/netfilter/nf_conntrack_count"
    frame = Ether(frame_of(point))
    frame[UDP].sport = 40_000 + on
    del frame[UDP].chksum
    mark = dut.undo_mark()
    table = f"{family} test"
    dut.apply(["nft", f"add table {table}; add chain {table} c {{ type filter hook prerouting priority 0; }}; "
                      f"add rule {table} c ct state invalid counter"],
              ["nft", f"add table {table}; delete table {table}"])
    try:
        with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
            before = int(dut.read(held))
            wires.exchange(0, [bytes(frame)], 0, 0.1)
            assert counted(running, 1) == 1
            assert int(dut.read(held)) - before == int(on)
    finally:
        dut.undo_to(mark)


@pytest.mark.parametrize(("version", "iptables", "family", "nobody"), [
    (4, "iptables-nft", "ip", "192.0.2.1"), (6, "ip6tables-nft", "ip6", "2001:db8::1")])
def test_rules_of_the_host_stay(dut: Dut, wires: Any, make_point: MakePoint, version: int, iptables: str, family: str,
                                nobody: str) -> None:
    """A firewall that is there, with the same tables: its rules, its empty chains, its counters."""
    mark = dut.undo_mark()
    for table, hook in (("filter", "INPUT"), ("raw", "PREROUTING")):
        dut.apply([iptables, "-t", table, "-A", "OUTPUT", "-d", nobody, "-j", "ACCEPT"],
                  ["nft", f"add table {family} {table}; delete table {family} {table}"])
        if table == "raw":
            dut.run([iptables, "-t", table, "-A", hook, "-s", nobody, "-j", "ACCEPT"])
    try:
        for at in ("iptables-input", "iptables-raw"):
            point = make_point("linux-drop", Role.DROP, {"at": at}, frame=FRAMES[version], version=version)
            before = state(dut, point)
            with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
                wires.exchange(0, [frame_of(point)], 0, 0.1)
                assert counted(running, 1) == 1
            assert state(dut, point) == before
    finally:
        dut.undo_to(mark)


def test_matchall_serves_or_says_what_the_kernel_lacks(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("linux-drop", Role.DROP, {"at": "tc-matchall"})
    stack = stacks.create(point.stack, point.params)
    before = state(dut, point)
    missing = stack.requirements(dut, point)
    assert state(dut, point) == before
    if missing:
        assert len(missing) == 1
        assert missing[0].what.startswith("tc's matchall and action drop in the kernel (")
        assert "CONFIG_NET_CLS_MATCHALL" in missing[0].remedy
        return
    with stack.deploy(context(dut, point)) as running:
        wires.exchange(0, [frame_of(point), ask(point)], 0, 0.2)
        assert counted(running, 1) == 1
    assert state(dut, point) == before


@pytest.mark.parametrize(("version", "sender", "other", "no_ports"), [
    (4, "240.0.0.1", "198.18.0.77", "udp.NoPorts"), (6, "100::f000:1", "2001:2::77", "udp6.NoPorts")])
def test_the_gate_before_matchall_keeps_all_but_the_test_away(dut: Dut, wires: Any, make_point: MakePoint, version: int,
                                                              sender: str, other: str, no_ports: str) -> None:
    """In matchall's place a filter that drops whatever it is asked about, which every kernel here has."""
    point = make_point("linux-drop", Role.DROP, frame=FRAMES[version], version=version)
    port, mark = point.wires[0].dut.ifname, dut.undo_mark()
    target = Target.of(point, 0)
    set_up_ports(dut, point)
    dut.apply(["tc", "qdisc", "add", "dev", port, "clsact"], ["tc", "qdisc", "del", "dev", port, "clsact"])
    try:
        before = dut.system_counters()[no_ports]
        for pref, code in (("1", rule_bytecode(sender)), ("2", gate_bytecode(target)), ("3", "1,6 0 0 2")):
            dut.run(["tc", "filter", "add", "dev", port, "ingress", "pref", pref, "protocol", "all", "bpf", "da",
                     "bytecode", code])
        frames = [ask(point), to_another_port(point), altered(point, dst=other), frame_of(point)]
        answers = [Ether(frame) for frame in wires.exchange(0, frames, 0, 0.3)]
        assert any(map(is_answer, answers))
        assert dut.system_counters()[no_ports] - before == 1, "the one to another port, and it alone"
    finally:
        dut.undo_to(mark)


def test_a_port_whose_ingress_is_taken_is_left_alone(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-drop", Role.DROP, {"at": "tc-clsact"})
    port, mark = point.wires[0].dut.ifname, dut.undo_mark()
    dut.apply(["tc", "qdisc", "add", "dev", port, "clsact"], ["tc", "qdisc", "del", "dev", port, "clsact"])
    try:
        missing, = stacks.create(point.stack, point.params).requirements(dut, point)
        assert missing.what == f"port {port} without a qdisc for ingress (it has clsact)"
        assert missing.remedy == f"tc qdisc del dev {port} clsact"
    finally:
        dut.undo_to(mark)


class Failing:
    """A DUT on which one command fails, after everything before it was done."""

    def __init__(self, dut: Dut, argv: list[str]) -> None:
        self._dut, self._argv = dut, argv

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dut, name)

    def run(self, argv: Any, **options: Any) -> Any:
        if list(argv[:len(self._argv)]) == self._argv:
            raise HostError("it fails, as the test wants it")
        return self._dut.run(argv, **options)


@pytest.mark.parametrize(("at", "argv"), [
    ("iptables-input", ["iptables-nft-restore"]), ("iptables-raw", ["iptables-nft-restore"]),
    ("nft-ingress", ["nft", "-f"]), ("tc-clsact", ["tc", "-batch"])])
def test_a_deployment_that_fails_half_way_is_undone(dut: Dut, make_point: MakePoint, at: str, argv: list[str]) -> None:
    """What is undone then was in part never made."""
    point = make_point("linux-drop", Role.DROP, {"at": at, "rules": 10})
    before = state(dut, point)
    with pytest.raises(HostError, match="as the test wants it"):
        with stacks.create(point.stack, point.params).deploy(context(Failing(dut, argv), point)):  # type: ignore[arg-type]
            pytest.fail("it cannot serve")
    assert state(dut, point) == before


@pytest.mark.parametrize("at", ["recvmmsg", "tc-clsact"])
def test_a_program_that_dies_is_noticed_and_leaves_nothing(dut: Dut, make_point: MakePoint, at: str) -> None:
    point = make_point("linux-drop", Role.DROP, {"at": at})
    before = state(dut, point)
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        os.kill(running.process.pid, signal.SIGKILL)
        with pytest.raises(StackError, match="ended with status"):
            running.counters()
        with pytest.raises(StackError, match="ended with status"):
            running.check_alive()
    assert state(dut, point) == before


@pytest.mark.parametrize(("at", "removal"), [
    ("iptables-raw", ["iptables-nft", "-t", "raw", "-F", CHAIN]), ("nft-ingress", ["nft", "flush", "ruleset"])])
def test_a_rule_that_is_taken_away_is_noticed(dut: Dut, make_point: MakePoint, at: str, removal: list[str]) -> None:
    point = make_point("linux-drop", Role.DROP, {"at": at})
    before = state(dut, point)
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        dut.run(removal)
        with pytest.raises(StackError, match="is gone or its counter cannot be read"):
            running.check_alive()
    assert state(dut, point) == before


def test_losses_of_a_slow_reader_are_apart_from_what_it_discards(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("linux-drop", Role.DROP, {"at": "recvmmsg"})
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        os.kill(running.process.pid, signal.SIGSTOP)
        for _ in range(200):
            wires.exchange(0, [flow_frame(point.directions[0], 64, n) for n in range(64)], 0, 0.0)
        os.kill(running.process.pid, signal.SIGCONT)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            counters = running.counters()
            if counters.totals["discarded"] + counters.losses["socket buffer"] == 200 * 64:
                break
        assert counters.totals["discarded"] + counters.losses["socket buffer"] == 200 * 64
        assert counters.losses["socket buffer"] > 0
