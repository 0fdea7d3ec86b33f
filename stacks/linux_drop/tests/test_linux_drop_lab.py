# SPDX-License-Identifier: Apache-2.0
"""linux-drop deployed on the lab's DUT, with real frames: every place counts the test's packets exactly and lets all
others through, what the kernel lacks is said, and nothing is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness.stacks.linux_drop.netfilter import CHAIN
from harness.stacks.linux_drop.stack import PLACES
from harness.stacks.linux_drop.target import Target
from harness.stacks.linux_drop.tc import gate_bytecode, rule_bytecode
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from harness import stacks
from harness.errors import HostError, StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.measure.rolecheck import check_role
from harness.plan import PointPlan, Role
from harness.stack import RunningStack, StackContext

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]
#: The lab's kernel need not have matchall; then the skip is what is tested.
HERE = [at for at in PLACES if at != "tc-matchall"]


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def state(dut: Dut, point: PointPlan) -> list[str]:
    """All that the stack may touch on the DUT, as text."""
    port = point.wires[0].dut.ifname
    shown = [dut.run(argv).stdout for argv in (
        ["nft", "list", "ruleset"], ["tc", "qdisc", "show"], ["tc", "filter", "show", "dev", port, "ingress"],
        ["ip", "-o", "link"], ["ip", "-4", "addr"], ["ip", "-4", "route"], ["ss", "-uanp"])]
    return [*shown, dut.read("/proc/net/ip_tables_names", "")]


def ask_arp(point: PointPlan) -> bytes:
    wire = point.wires[0]
    return bytes(Ether(src=wire.tg.mac, dst="ff:ff:ff:ff:ff:ff") /
                 ARP(hwsrc=wire.tg.mac, psrc=wire.tg.ip, pdst=wire.dut.ip))


def to_another_port(point: PointPlan) -> bytes:
    frame = Ether(flow_frame(point.directions[0], 64))
    frame[UDP].dport += 1
    return bytes(frame)


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
def test_counts_the_tests_packets_exactly_and_passes_others(
        dut: Dut, wires: Any, make_point: MakePoint, params: dict[str, Any]) -> None:
    point = make_point("linux-drop", Role.DROP, params)
    stack = stacks.create(point.stack, point.params)
    before = state(dut, point)
    assert stack.requirements(dut, point) == []
    assert state(dut, point) == before, "requirements leave nothing"
    with stack.deploy(context(dut, point)) as running:
        assert running.counters().totals["discarded"] == 0
        check_role(wires, point, stack.role_info(Role.DROP), lambda: running.counters().totals["discarded"])
        there, sent = running.counters().totals["discarded"], 0
        for _ in range(20):
            wires.exchange(0, [flow_frame(point.directions[0], 64, n) for n in range(50)], 0, 0.01)
            sent += 50
        others = [Ether(f) for f in wires.exchange(0, [ask_arp(point), to_another_port(point)], 0, 0.3)]
        assert counted(running, there + sent) == there + sent
        assert any(ARP in frame for frame in others)
        assert any(ICMP in frame and frame[ICMP].type == 3 for frame in others), "no port unreachable"
        assert not any(running.counters().losses.values())
        running.check_alive()
    assert state(dut, point) == before


@pytest.mark.parametrize("on", [True, False])
def test_conntrack_is_on_or_off_as_asked(dut: Dut, wires: Any, make_point: MakePoint, on: bool) -> None:
    """Another rule of the host has tracking on, as on most hosts; what is tracked stays counted until it times out."""
    point = make_point("linux-drop", Role.DROP, {"at": "recvmmsg", "conntrack": on}, flows=1)
    held = "/proc/sys/net/netfilter/nf_conntrack_count"
    frame = Ether(flow_frame(point.directions[0], 64))
    frame[UDP].sport = 40_000 + on
    mark = dut.undo_mark()
    dut.apply(["nft", "add table ip test; add chain ip test c { type filter hook prerouting priority 0; }; "
                      "add rule ip test c ct state invalid counter"],
              ["nft", "add table ip test; delete table ip test"])
    try:
        with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
            before = int(dut.read(held))
            wires.exchange(0, [bytes(frame)], 0, 0.1)
            assert counted(running, 1) == 1
            assert int(dut.read(held)) - before == int(on)
    finally:
        dut.undo_to(mark)


def test_rules_of_the_host_stay(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """A firewall that is there, with the same tables: its rules, its empty chains, its counters."""
    mark = dut.undo_mark()
    for table, hook in (("filter", "INPUT"), ("raw", "PREROUTING")):
        dut.apply(["iptables-nft", "-t", table, "-A", "OUTPUT", "-d", "192.0.2.1", "-j", "ACCEPT"],
                  ["nft", f"add table ip {table}; delete table ip {table}"])
        if table == "raw":
            dut.run(["iptables-nft", "-t", table, "-A", hook, "-s", "192.0.2.1", "-j", "ACCEPT"])
    try:
        for at in ("iptables-input", "iptables-raw"):
            point = make_point("linux-drop", Role.DROP, {"at": at})
            before = state(dut, point)
            with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
                wires.exchange(0, [flow_frame(point.directions[0], 64)], 0, 0.1)
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
        wires.exchange(0, [flow_frame(point.directions[0], 64), ask_arp(point)], 0, 0.2)
        assert counted(running, 1) == 1
    assert state(dut, point) == before


def test_the_gate_before_matchall_keeps_all_but_the_test_away(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """In matchall's place a filter that drops whatever it is asked about, which every kernel here has."""
    point = make_point("linux-drop", Role.DROP)
    port, mark = point.wires[0].dut.ifname, dut.undo_mark()
    target = Target.of(point, 0)
    here = Ether(flow_frame(point.directions[0], 64))
    dut.apply(["tc", "qdisc", "add", "dev", port, "clsact"], ["tc", "qdisc", "del", "dev", port, "clsact"])
    try:
        before = dut.system_counters()["udp.NoPorts"]
        for pref, code in (("1", rule_bytecode("240.0.0.1")), ("2", gate_bytecode(target)), ("3", "1,6 0 0 2")):
            dut.run(["tc", "filter", "add", "dev", port, "ingress", "pref", pref, "protocol", "all", "bpf", "da",
                     "bytecode", code])
        elsewhere = here.copy()
        elsewhere[IP].dst, elsewhere[IP].chksum = "198.18.0.77", None
        frames = [ask_arp(point), to_another_port(point), bytes(elsewhere), bytes(here)]
        answers = [Ether(frame) for frame in wires.exchange(0, frames, 0, 0.3)]
        assert sum(ARP in frame for frame in answers) >= 1
        assert dut.system_counters()["udp.NoPorts"] - before == 1, "the one to another port, and it alone"
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
