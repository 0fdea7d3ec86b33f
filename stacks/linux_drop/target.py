# SPDX-License-Identifier: Apache-2.0
"""What every place needs to know of a point: which packets are the test's, and which addresses rules may name that
match none of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from harness.plan import PointPlan

#: The first sender that a non-matching rule names: of class E, so nobody sends from there.
FIRST_RULE = int(ipaddress.ip_address("240.0.0.1"))
#: What fits into a socket's classic filter (4096 instructions, two a rule).
MAX_RULES = 2000


@dataclass(frozen=True)
class Target:
    """The test's packets: UDP to ``ip``:``udp_port`` that come in on ``ifname``; before the match there are ``rules``
    rules that match none of them."""

    ifname: str
    ip: str
    udp_port: int
    rules: int

    @classmethod
    def of(cls, point: PointPlan, rules: int) -> Target:
        """The target of a point of role drop, which has one direction and one wire."""
        flows = point.directions[0].flows
        return cls(point.wires[0].dut.ifname, flows.dst_ip, flows.dst_port, rules)

    def senders(self) -> Iterator[str]:
        """The addresses that the non-matching rules name."""
        return (str(ipaddress.ip_address(FIRST_RULE + n)) for n in range(self.rules))
