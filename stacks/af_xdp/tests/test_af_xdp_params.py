# SPDX-License-Identifier: Apache-2.0
"""af-xdp without a host: parameters, the program's arguments for a point, its answers as counters."""

from __future__ import annotations

import pytest
from harness.stacks.af_xdp.session import Stats, counters_of
from harness.stacks.af_xdp.stack import port_argument

from harness import stacks
from harness.errors import StackError, UsageError
from harness.plan import DirectionPlan, FlowPlan, PointPlan, PortPlan, Role, WirePlan


def wire(index: int) -> WirePlan:
    tg = PortPlan(index, f"g{index}", f"02:00:00:00:0{index}:01", f"10.10.{index}.1", 24)
    dut = PortPlan(index, f"d{index}", f"02:00:00:00:0{index}:02", f"10.10.{index}.2", 24)
    return WirePlan(index, "dut", tg, dut, 10.0, f"10.20.{index}.0/24", virtual=True)


def point(role: Role, wires: int, *ways: tuple[int, int, str]) -> PointPlan:
    directions = tuple(DirectionPlan(tx, rx, "02:00:00:00:00:01", "02:00:00:00:00:02",
                                     FlowPlan(16, "10.20.0.1", 16, 1024, 1, dst, 2000)) for tx, rx, dst in ways)
    there = tuple(map(wire, range(wires)))
    return PointPlan("p", "af-xdp", "af-xdp", {}, role, "dut", 64, (1,), there, directions, 1e6)


def test_arguments_of_ports() -> None:
    one = point(Role.ECHO, 1, (0, 0, "10.10.0.2"))
    assert port_argument(one, one.wires[0], 2) == "d0,2,10.10.0.2,2000"
    both = point(Role.FORWARD, 2, (0, 1, "10.20.1.1"), (1, 0, "10.20.0.1"))
    assert [port_argument(both, w, 4) for w in both.wires] == [
        "d0,4,10.20.1.1,2000,d1,02:00:00:00:01:02,02:00:00:00:01:01",
        "d1,4,10.20.0.1,2000,d0,02:00:00:00:00:02,02:00:00:00:00:01",
    ]
    one_way = point(Role.FORWARD, 2, (0, 1, "10.20.1.1"))
    assert port_argument(one_way, one_way.wires[1], 4) == "d1,4"
    nowhere = point(Role.FORWARD, 1, (0, 1, "10.20.1.1"))
    with pytest.raises(StackError, match="no wire leads to generator port 1"):
        port_argument(nowhere, nowhere.wires[0], 4)


@pytest.mark.parametrize(("params", "problem"), [
    ({"ring": 1000}, "1000 is not a power of two; for example 2048"),
    ({"attach": "generic"}, "generic has copy mode only; set mode: copy with it"),
    ({"batch": 0}, "greater than or equal to 1"), ({"busy_poll": 2000}, "less than or equal to 1024"),
])
def test_parameters_that_cannot_be_are_refused(params: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        stacks.create("af-xdp", params)


def test_only_spinning_workers_poll() -> None:
    assert [stacks.create("af-xdp", {"wait": wait}).polls() for wait in ("poll", "spin")] == [False, True]


WORKER = {"core": 1, "received": 100, "discarded": 60, "other": 5, "sent": 30, "refused": 3, "tx_full": 2, "tx_busy": 1,
          "wakeups": 9, "useful_polls": 7, "empty_polls": 8, "cpu_ns": 10}
SOCKET = {"ifname": "d0", "queue": 0, "zero_copy": False, "napi_id": 0, "rx_dropped": 9, "rx_ring_full": 4,
          "fill_ring_empty": 7, "rx_invalid": 0, "tx_invalid": 0}


def test_losses_by_place() -> None:
    zero_copy = SOCKET | {"queue": 1, "rx_dropped": 0, "rx_ring_full": 0, "fill_ring_empty": 1000}
    stats = Stats.model_validate({"workers": [WORKER, WORKER | {"core": 2}], "sockets": [SOCKET, zero_copy],
                                  "ports": [{"ifname": "d0", "redirected": 226, "passed": 11}]})
    counters = counters_of(stats, port_counts_refusals=True)
    assert counters.losses == {"AF_XDP rx ring": 4, "AF_XDP fill ring": 7, "AF_XDP receive": 2, "application": 6,
                               "tx ring": 4}, "an empty fill ring alone lost nothing: the device tries again"
    assert counters.in_port_drops == 13
    assert counters_of(stats, port_counts_refusals=False).in_port_drops == 0
    assert (counters.totals["discarded"], counters.totals["passed"]) == (120, 11)
    assert [w["core"] for w in counters.per_worker] == [1, 2]
