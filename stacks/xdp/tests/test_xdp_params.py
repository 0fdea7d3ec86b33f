# SPDX-License-Identifier: Apache-2.0
"""xdp without a host: the loader's arguments for a point, and its answers as counters."""

from __future__ import annotations

import dataclasses
import json

import pytest
from harness.stacks.xdp.stack import parse_stats, port_argument

from harness.errors import StackError
from harness.plan import DirectionPlan, FlowPlan, PointPlan, PortPlan, Role, WirePlan


def wire(index: int) -> WirePlan:
    tg = PortPlan(index, f"g{index}", f"02:00:00:00:0{index}:01", f"10.10.{index}.1", 24)
    dut = PortPlan(index, f"d{index}", f"02:00:00:00:0{index}:02", f"10.10.{index}.2", 24)
    return WirePlan(index, "dut", tg, dut, 10.0, f"10.20.{index}.0/24", virtual=True)


def direction(tx_port: int, rx_port: int | None, dst_ip: str) -> DirectionPlan:
    flows = FlowPlan(16, "10.20.0.1", 16, 1024, 1, dst_ip, 2000)
    return DirectionPlan(tx_port, rx_port, "02:00:00:00:00:01", "02:00:00:00:00:02", flows)


def point(role: Role, wires: int, *directions: DirectionPlan) -> PointPlan:
    there = tuple(wire(n) for n in range(wires))
    return PointPlan("p", "xdp", "xdp", {}, role, "dut", 64, (1,), there, directions, 1e6)


@pytest.mark.parametrize("role", [Role.DROP, Role.REFLECT, Role.ECHO])
def test_argument_of_a_port_that_answers(role: Role) -> None:
    there = point(role, 1, direction(0, None if role is Role.DROP else 0, "10.10.0.2"))
    assert port_argument(there, there.wires[0]) == f"d0,{role.value},10.10.0.2,2000,-"


def test_arguments_of_forwarding_ports_in_both_directions() -> None:
    both = point(Role.FORWARD, 2, direction(0, 1, "10.20.1.1"), direction(1, 0, "10.20.0.1"))
    assert [port_argument(both, w) for w in both.wires] == [
        "d0,forward,10.20.1.1,2000,-,d1,02:00:00:00:01:02,02:00:00:00:01:01",
        "d1,forward,10.20.0.1,2000,-,d0,02:00:00:00:00:02,02:00:00:00:00:01",
    ]


def test_egress_port_of_one_direction_passes_everything() -> None:
    one = point(Role.FORWARD, 2, direction(0, 1, "10.20.1.1"))
    assert port_argument(one, one.wires[1]) == "d1,pass"


def test_forwarding_to_a_port_without_a_wire_is_refused() -> None:
    one = point(Role.FORWARD, 2, direction(0, 1, "10.20.1.1"))
    with pytest.raises(StackError, match="no wire leads to generator port 1"):
        port_argument(dataclasses.replace(one, wires=one.wires[:1]), one.wires[0])


def test_counters_are_summed_over_ports_and_queues() -> None:
    queue = {"queue": 0, "received": 10, "dropped": 4, "sent": 3, "redirected": 2, "refused": 1, "passed": 7,
             "handed": 0}
    second = {**queue, "queue": 1, "dropped": 5}
    answer = {"id": 3, "ports": [{"ifname": "d0", "cpus": [], "queues": [queue, second]},
                                 {"ifname": "d1", "cpus": [], "queues": [queue]}]}
    counters = parse_stats(json.dumps(answer))
    assert counters.totals == {"received": 30, "discarded": 13, "sent": 9, "redirected": 6, "refused": 3, "passed": 21,
                               "handed": 0}
    assert [(w["port"], w["queue"], w["dropped"]) for w in counters.per_worker] == [(0, 0, 4), (0, 1, 5), (1, 0, 4)]
    assert counters.losses == {"application": 3}


def test_what_a_core_did_not_take_was_lost_in_its_ring() -> None:
    queue = {"queue": 0, "received": 100, "dropped": 0, "sent": 0, "redirected": 0, "refused": 0, "passed": 7,
             "handed": 100}
    cores = [{"cpu": 2, "taken": 50, "redirected": 49, "refused": 1}, {"cpu": 3, "taken": 38, "redirected": 38,
                                                                      "refused": 0}]
    counters = parse_stats(json.dumps({"ports": [{"ifname": "d0", "queues": [queue], "cpus": cores}]}))
    assert counters.losses == {"application": 1, "cpumap ring": 12}
    assert (counters.totals["redirected"], counters.totals["taken"]) == (87, 88)
    assert [w.get("core") for w in counters.per_worker] == [None, 2, 3]


@pytest.mark.parametrize("line", ["", "ready", "{}", '{"ports": [{"queues": [{"queue": 0}]}]}', '{"ports": 3}', "[]"])
def test_malformed_counters_are_an_error_of_the_stack(line: str) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        parse_stats(line)
