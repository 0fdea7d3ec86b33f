# SPDX-License-Identifier: Apache-2.0
"""linux-forward deployed on the lab's DUT, with real frames: its role, its counters, and that all is put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness.stacks.linux_forward import fib, many_routes
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness import stacks
from harness.errors import HostError, HostLost, StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.host.dut import SshDut
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, check_role
from harness.plan import PointPlan, Role
from harness.scenario import minimum_frame
from harness.stack import StackContext
from tests.interpreters import interpreters

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def state(dut: Dut, point: PointPlan) -> list[str]:
    """All that the stack may touch on the DUT, as text."""
    conf = [dut.read(f"/proc/sys/net/ipv4/conf/{port}/{name}") for port in ("all", *ports(point))
            for name in ("forwarding", "rp_filter", "send_redirects")]
    shown = [dut.run(["ip", version, *what]).stdout for version in ("-4", "-6")
             for what in (["addr"], ["route"], ["neigh", "show", "nud", "permanent"])]
    conf += [dut.read(f"/proc/sys/net/ipv6/conf/{port}/{name}") for port in ports(point)
             for name in ("force_forwarding", "disable_ipv6")]
    shown += [dut.run(argv).stdout for argv in (["ip", "-o", "link"], ["nft", "list", "ruleset"])]
    shown.append(nexthops(dut))
    shown += sorted(dut.run(["bridge", "fdb"]).stdout.splitlines())
    conf.append(dut.read("/proc/sys/net/bridge/bridge-nf-call-iptables"))
    return [*conf, *shown, *(dut.run(["ethtool", "-k", port]).stdout for port in ports(point))]


def ports(point: PointPlan) -> list[str]:
    return [wire.dut.ifname for wire in point.wires]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("frame", [64, 1518])
def test_routes_between_the_wires(dut: Dut, wires: Any, make_point: MakePoint, bidirectional: bool, frame: int) -> None:
    point = make_point("linux-forward", Role.FORWARD, bidirectional=bidirectional, frame=frame)
    stack = stacks.create(point.stack, {})
    assert stack.requirements(dut, point) == []
    before = state(dut, point)
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.roles[Role.FORWARD], None)
        running.check_alive()
        counters = running.counters()
        received = [port["rx_packets"] for port in counters.per_worker]
        assert counters.totals["forwarded"] == sum(received)
        assert all(n >= FRAMES and n % FRAMES == 0 for n in received[:len(point.directions)])
        assert received == [port["tx_packets"] for port in reversed(counters.per_worker)]
        assert counters.losses == {"ip layer": 0}
    assert state(dut, point) == before


def test_bridges_frames_as_they_are(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """Also frames to a port that nobody announced, and only to the port where the table has them."""
    point = make_point("linux-forward", Role.FORWARD, {"mode": "bridge", "bridge_netfilter": False}, bidirectional=True)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    before = state(dut, point)
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.role_info(Role.FORWARD), None)
        sent = Ether(flow_frame(point.directions[0], 64))
        sent[IP].ttl = 1
        del sent[IP].chksum
        assert bytes(sent) in [frame[:60] for frame in wires.exchange(0, [bytes(sent)], 1, 0.3)]
        sent.dst = "02:00:00:00:00:99"
        assert not [f for f in wires.exchange(0, [bytes(sent)], 1, 0.3) if UDP in Ether(f)], "flooded"
        counters = running.counters()
        assert counters.totals["forwarded"] == sum(port["rx_packets"] for port in counters.per_worker) - 1
        assert counters.totals["ip_forwarded"] == 0
        assert running.degraded == ""
        dut.run(["ip", "link", "set", "dev", ports(point)[1], "nomaster"])
        with pytest.raises(StackError, match="no longer forwards"):
            running.check_alive()
    assert state(dut, point) == before


def test_a_bridge_that_passes_iptables_says_so(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-forward", Role.FORWARD, {"mode": "bridge"})
    mark = dut.undo_mark()
    dut.set_file("/proc/sys/net/bridge/bridge-nf-call-iptables", "1")
    try:
        with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
            assert "also pass iptables" in running.degraded
    finally:
        dut.undo_to(mark)


@pytest.fixture(params=["nexthop", "gateways"])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Routes through a nexthop object, and as on a kernel that has none."""
    if request.param == "gateways":
        monkeypatch.setattr(fib, "_HAS_NEXTHOPS", "/proc/sys/net/ipv4/none")
    return str(request.param)


def test_routes_among_many_others_and_removes_them(dut: Dut, wires: Any, make_point: MakePoint, target: str) -> None:
    """More than fit beside the test's prefixes."""
    point = make_point("linux-forward", Role.FORWARD, {"routes": 70_000})
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    before, get = state(dut, point), ["ip", "-4", "-o", "route", "get"]
    with stack.deploy(context(dut, point)):
        check_role(wires, point, stack.role_info(Role.FORWARD), None)
        assert bool(nexthops(dut)) is (target == "nexthop")
        for address in ("198.18.2.0", "198.18.255.255", "240.0.17.255", "240.0.19.111"):
            assert f"dev {ports(point)[1]}" in dut.run([*get, address]).stdout
        assert dut.run([*get, "240.0.19.112"], check=False).returncode != 0
    assert state(dut, point) == before


def test_routes_among_many_others_over_ipv6(dut: Dut, wires: Any, make_point: MakePoint, target: str) -> None:
    point = make_point("linux-forward", Role.FORWARD, {"routes": 60_000}, frame=minimum_frame("ipv6"), version=6)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    before, get = state(dut, point), ["ip", "-6", "-o", "route", "get"]
    with stack.deploy(context(dut, point)):
        check_role(wires, point, stack.role_info(Role.FORWARD), None)
        for address in ("2001:2:0:8000::", f"2001:2:0:8000::{60_000 - 1:x}"):
            assert f"dev {ports(point)[1]}" in dut.run([*get, address]).stdout
        assert dut.run([*get, f"2001:2:0:8000::{60_000:x}"], check=False).returncode != 0
    assert state(dut, point) == before


def test_a_route_that_is_there_already_is_named_and_stays(dut: Dut, make_point: MakePoint, target: str) -> None:
    """Although it looks as ours do, but for its way; and what came before it is gone."""
    point, mark = make_point("linux-forward", Role.FORWARD, {"routes": 70_000}), dut.undo_mark()
    theirs = ["240.0.1.7/32", "dev", ports(point)[1], "proto", "217"]
    dut.apply(["ip", "route", "add", *theirs], ["ip", "route", "del", *theirs])
    try:
        before = state(dut, point)
        with pytest.raises(StackError, match=r"route to 240.0.1.7/32: File exists; 198.18.0.0/16, 240.0.0.0/8 have to"):
            with stacks.create(point.stack, point.params).deploy(context(dut, point)):
                pytest.fail("it cannot have all its routes")
        assert state(dut, point) == before
    finally:
        dut.undo_to(mark)


def test_of_an_agent_killed_among_routes_nothing_is_left(lab: Lab, dut: Dut, make_point: MakePoint, tmp_path: Path,
                                                         target: str) -> None:
    """The program that adds them ends with the agent, and the next agent removes what it has added."""
    point = make_point("linux-forward", Role.FORWARD, {"routes": 1_000_000})
    before, last = state(dut, point), ports(point)[1]
    connect = partial(SshDut.connect, "dut", lab.ssh, virtual=True, state_dir=str(tmp_path))
    with connect() as victim, ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(_deployed, victim, point)
        while not added(lab, last):
            assert not deploying.done(), deploying.result()
        os.kill(int(victim.agent["pid"]), signal.SIGKILL)
        with pytest.raises(HostLost):
            deploying.result()
        assert 0 < added(lab, last) < 1_000_000
        victim.abandon()
    with connect() as successor:
        assert successor.left_over[0] > 0
        assert state(dut, point) == before


@pytest.mark.parametrize("python", interpreters())
def test_adds_routes_under_old_and_new_interpreters(lab: Lab, dut: Dut, make_point: MakePoint, python: str) -> None:
    point, script = make_point("linux-forward", Role.FORWARD), Path(many_routes.__file__).read_text()
    with stacks.create(point.stack, {}).deploy(context(dut, point)):
        wire = point.wires[-1]
        dut.apply(["true"], ["ip", "route", "flush", "proto", fib.PROTOCOL])
        ranges = json.dumps([[240 << 24, (240 << 24) + 300], [(240 << 24) + 400] * 2])
        argv = [python, "-c", script, "4", fib.PROTOCOL, "0", wire.tg.ip, wire.dut.ifname, ranges]
        subprocess.run(lab.exec_argv("dut", argv), check=True, timeout=30)
        assert added(lab, wire.dut.ifname) == 302


def _deployed(dut: Dut, point: PointPlan) -> None:
    with stacks.create(point.stack, point.params).deploy(context(dut, point)):
        pass


def added(lab: Lab, ifname: str) -> int:
    """Routes of protocol 217 on a port, not by way of the agent."""
    listing = lab.exec_argv("dut", ["ip", "-4", "route", "show", "proto", "217", "dev", ifname])
    return subprocess.run(listing, capture_output=True, check=True, timeout=30).stdout.count(b"\n")


def nexthops(dut: Dut) -> str:
    return dut.run(["ip", "nexthop"]).stdout


def test_a_flowtable_forwards_or_says_what_the_kernel_lacks(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("linux-forward", Role.FORWARD, {"mode": "flowtable"}, bidirectional=True)
    stack = stacks.create(point.stack, point.params)
    before = state(dut, point)
    missing = stack.requirements(dut, point)
    assert state(dut, point) == before
    if missing:
        assert len(missing) == 1
        assert missing[0].what.startswith("netfilter flowtables in the kernel (")
        assert "CONFIG_NF_FLOW_TABLE" in missing[0].remedy
        with pytest.raises(HostError, match="nsh_forward"):
            with stack.deploy(context(dut, point)):
                pytest.fail("it cannot serve")
    else:
        with stack.deploy(context(dut, point)) as running:
            for _ in range(3):
                check_role(wires, point, stack.role_info(Role.FORWARD), None)
            assert 0 < running.counters().totals["ip_forwarded"] < running.counters().totals["forwarded"]
    assert state(dut, point) == before


def test_a_packet_at_its_last_hop_is_a_loss_of_the_ip_layer(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("linux-forward", Role.FORWARD)
    with stacks.create(point.stack, {}).deploy(context(dut, point)) as running:
        spent = Ether(flow_frame(point.directions[0], 64))
        spent[IP].ttl = 1
        del spent[IP].chksum
        assert [f for f in wires.exchange(0, [bytes(spent)], 1, 0.2) if UDP in Ether(f)] == []
        assert running.counters().losses == {"ip layer": 1}


def test_nothing_is_forwarded_before_or_after(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("linux-forward", Role.FORWARD)
    frame = flow_frame(point.directions[0], 64)

    def arrives(wait_s: float) -> bool:
        return any(UDP in Ether(f) for f in wires.exchange(0, [frame], 1, wait_s))

    assert not arrives(0.5)
    with stacks.create(point.stack, {}).deploy(context(dut, point)):
        assert arrives(0.5) or arrives(5)
    assert not arrives(0.5)


def test_a_bare_port_is_set_up_and_left_bare(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """As on a real host: no address, no neighbour, no route. The lab's own are taken away here and put back."""
    point = make_point("linux-forward", Role.FORWARD)
    stack, mark = stacks.create(point.stack, {}), dut.undo_mark()
    try:
        for wire in point.wires:
            _strip(dut, wire)
        before = state(dut, point)
        with stack.deploy(context(dut, point)):
            check_role(wires, point, stack.roles[Role.FORWARD], None)
        assert state(dut, point) == before
    finally:
        dut.undo_to(mark)


def _strip(dut: Dut, wire: Any) -> None:
    """Route, neighbour, address: put back in the opposite order, since the first two need the address."""
    port, tg, route = wire.dut.ifname, wire.tg, [wire.flow_prefix, "via", wire.tg.ip, "dev", wire.dut.ifname]
    address = f"{wire.dut.ip}/{wire.dut.prefix_len}"
    dut.apply(["ip", "route", "del", *route], ["ip", "route", "replace", *route])
    dut.apply(["ip", "neigh", "del", tg.ip, "dev", port],
              ["ip", "neigh", "replace", tg.ip, "lladdr", tg.mac, "dev", port, "nud", "permanent"])
    dut.apply(["ip", "addr", "del", address, "dev", port], ["ip", "addr", "replace", address, "dev", port])


def test_a_port_taken_down_is_noticed(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-forward", Role.FORWARD)
    with stacks.create(point.stack, {}).deploy(context(dut, point)) as running:
        path = f"/proc/sys/net/ipv4/conf/{ports(point)[1]}/forwarding"
        mark = dut.undo_mark()
        dut.set_file(path, "0")
        with pytest.raises(StackError, match="no longer forwards"):
            running.check_alive()
        dut.undo_to(mark)
        running.check_alive()


def test_gro_off_is_refused_on_a_virtual_wire(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-forward", Role.FORWARD, {"gro": False})
    assert ["GRO" in missing.what for missing in stacks.create(point.stack, point.params).requirements(dut, point)] == [
        True]
