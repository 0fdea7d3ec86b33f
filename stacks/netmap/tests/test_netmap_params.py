# SPDX-License-Identifier: Apache-2.0
"""What netmap's stack decides before it touches a host, and how it steers a NIC that none of ours can be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from harness.stacks.netmap import ports
from harness.stacks.netmap.stack import served, worker_arguments

from harness import stacks
from harness.errors import StackError
from harness.flows import directions
from harness.host.contract import Completed, Dut
from harness.lab.addresses import plan_wires
from harness.plan import PointPlan, Role


def point(role: Role, cores: tuple[int, ...] = (3,), **params: Any) -> PointPlan:
    wires = plan_wires("t", 2 if role is Role.FORWARD else 1)
    validated = stacks.create("netmap", params).params.model_dump(mode="json")
    return PointPlan(id="p", label="p", stack="netmap", params=validated, role=role, host="dut", frame_bytes=64,
                     cores=cores, wires=wires, directions=directions(role, wires, 16, bidirectional=False),
                     line_rate_pps=1e6)


def test_every_port_is_opened_exclusively() -> None:
    one = point(Role.ECHO)
    assert [port.ifname for port in served(one)] == ["htd0"]
    assert worker_arguments(one, ["a"], ["*"]) == ["echo", str(one.udp_port), "3=netmap:a*/x"]
    both = point(Role.FORWARD, (3, 5))
    assert [port.ifname for port in served(both)] == ["htd0", "htd1"]
    assert worker_arguments(both, ["a", "b"], ["-0", "-1"])[2:] == ["3=netmap:a-0/x,netmap:b-0/x",
                                                                    "5=netmap:a-1/x,netmap:b-1/x"]


@dataclass
class Steered:
    """A NIC with four rings as ethtool describes one (no machine of ours has it); keeps what would change it."""

    ntuple: str = "off"
    table: str = "    0:      0     1     2     3     0     1     2     3\n"
    rule: int = 1
    changes: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        answers = {"-k": f"Features for e0:\nntuple-filters: {self.ntuple}\n", "-x": f"RX flow hash\n{self.table}",
                   "/sys/class/net/e0/queues": "rx-0\nrx-1\nrx-2\nrx-3\ntx-0\n", "-n": ""}
        return Completed(tuple(argv), self.rule if argv[1] == "-n" else 0, answers[argv[1]], "")

    guards: list[list[str]] = field(default_factory=list)

    def apply(self, do: Sequence[str], undo: Sequence[str], *, made: Sequence[str] = ()) -> None:
        self.changes.append((list(do), list(undo)))
        self.guards.append(list(made))


def test_the_filter_takes_the_last_ring_and_the_hash_keeps_the_others() -> None:
    nic = Steered()
    assert ports.can_steer(cast(Dut, nic), "e0")
    assert ports.steer(cast(Dut, nic), "e0", 9000) == 3
    assert [" ".join(do) for do, _ in nic.changes] == [
        "ethtool -K e0 ntuple on", "ethtool -X e0 equal 3",
        "ethtool -N e0 flow-type udp4 dst-port 9000 action 3 loc 0"]
    assert [" ".join(undo) for _, undo in nic.changes] == [
        "ethtool -K e0 ntuple off", "ethtool -X e0 default", "ethtool -N e0 delete 0"]
    assert nic.guards == [[], [], ["ethtool", "-n", "e0", "rule", "0"]]  # deleting a rule that is not there fails


@pytest.mark.parametrize(("nic", "says"), [
    (Steered(table="    0:      0     0     1     2\n"), "ethtool -X e0 default"),
    (Steered(rule=0), "filter at place 0 already"),
])
def test_what_could_not_be_put_back_is_not_taken(nic: Steered, says: str) -> None:
    with pytest.raises(StackError, match=re.escape(says)):
        ports.steer(cast(Dut, nic), "e0", 9000)
    assert nic.changes == []


def test_a_nic_without_filters_is_not_asked_to_steer() -> None:
    assert not ports.can_steer(cast(Dut, Steered(ntuple="off [fixed]")), "e0")


def test_features_keep_what_is_fixed_apart() -> None:
    assert ports.features("Features for e0:\nrx-checksumming: on\n\ttx-checksum-ipv4: off [fixed]\n"
                          "large-receive-offload: off [fixed]\n") == {
        "rx-checksumming": "on", "large-receive-offload": "off [fixed]"}
