# SPDX-License-Identifier: Apache-2.0
"""Parameters of linux-forward without a host: what is refused and how, what a mode means, where extra routes lie."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from itertools import pairwise

import pytest
from harness.stacks.linux_forward.fib import unused_ranges

from harness import stacks
from harness.errors import UsageError
from harness.flows import directions
from harness.lab import plan_wires
from harness.lab.addresses import link_prefix
from harness.plan import PointPlan, Role


@pytest.mark.parametrize(("params", "message"), [
    ({"mode": "switch"}, "mode.*'route', 'bridge' or 'flowtable'"),
    ({"mode": "bridge", "routes": 5}, "a bridge looks up no route"),
    ({"bridge_netfilter": True}, "use mode: bridge"),
    ({"routes": -1}, "routes"),
    ({"routes": 1_000_001}, "routes"),
])
def test_wrong_parameter_says_what_is_right(params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stacks.create("linux-forward", params)


@pytest.mark.parametrize(("mode", "layer"), [("route", "l3"), ("bridge", "l2"), ("flowtable", "l3")])
def test_the_mode_decides_the_layer(mode: str, layer: str) -> None:
    assert stacks.create("linux-forward", {"mode": mode}).role_info(Role.FORWARD).layer == layer


def test_extra_routes_of_ipv6_keep_clear_of_a_testbed_that_lies_among_them() -> None:
    planned = plan_wires("abc", 1)[0]
    wire = replace(planned, flow_prefix="2001:2:0:8000::/112", tg=replace(planned.tg, ip="2001:2:0:8000::1fe"),
                   dut=replace(planned.dut, ip="2001:2:0:8000::1ff", prefix_len=64))
    point = PointPlan("p", "l", "linux-forward", {}, Role.FORWARD, "dut", 82, (1,), (wire,),
                      directions(Role.DROP, (wire,), 1, bidirectional=False), 1e6)
    link = ipaddress.ip_interface(f"{wire.dut.ip}/{wire.dut.prefix_len}").network
    found = [ipaddress.IPv6Address(number) for number in numbers(unused_ranges(point, 1000))]
    assert len(set(found)) == 1000
    assert not [address for address in found if address in link or address in ipaddress.ip_network(wire.flow_prefix)]


def test_extra_routes_are_different_and_keep_clear_of_the_test() -> None:
    wires = plan_wires("abc", 2)
    point = PointPlan("p", "l", "linux-forward", {}, Role.FORWARD, "dut", 64, (1,), wires,
                      directions(Role.FORWARD, wires, 1, bidirectional=True), 1e6)
    found = unused_ranges(point, 1_000_000)
    assert all(last < following for (_, last), (following, _) in pairwise(found))
    assert len(numbers(found)) == 1_000_000
    near = [ipaddress.IPv4Address(number) for number in numbers(found) if number < 240 << 24]
    assert len(near) == 65_536 - 2 * 256
    used = [ipaddress.ip_network(net) for w in wires for net in (w.flow_prefix, link_prefix(w.index))]
    assert not [address for address in near if any(address in net for net in used)]


def numbers(ranges: list[tuple[int, int]]) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]
