# SPDX-License-Identifier: Apache-2.0
"""linux-forward deployed on the lab's DUT, with real frames: its role, its counters, and that all is put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness import stacks
from harness.errors import HostError, StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.measure.rolecheck import FRAMES, check_role
from harness.plan import PointPlan, Role
from harness.scenario import minimum_frame
from harness.stack import StackContext

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


def test_routes_among_many_others_and_removes_them(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """More than one batch, and more than fit beside the test's prefixes."""
    point = make_point("linux-forward", Role.FORWARD, {"routes": 70_000})
    stack = stacks.create(point.stack, point.params)
    before, count = state(dut, point), ["ip", "-4", "-o", "route", "get"]
    with stack.deploy(context(dut, point)):
        check_role(wires, point, stack.role_info(Role.FORWARD), None)
        for address in ("198.18.2.0", "198.18.255.255", "240.0.17.255"):
            assert f"dev {ports(point)[1]}" in dut.run([*count, address]).stdout
        assert dut.run([*count, "240.0.255.255"], check=False).returncode != 0
    assert state(dut, point) == before


def test_routes_among_many_others_over_ipv6(dut: Dut, wires: Any, make_point: MakePoint) -> None:
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
