# SPDX-License-Identifier: Apache-2.0
"""What every place needs to know of a point: which packets are the test's, and which addresses rules may name that
match none of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from harness.plan import PointPlan

#: By IP version the first sender that a non-matching rule names, where nobody sends from: of class E, and of the prefix
#: that is for discarding (RFC 6666). ``src/drop_socket.c`` has the same.
FIRST_RULE = {4: ipaddress.ip_address("240.0.0.1"), 6: ipaddress.ip_address("100::f000:1")}
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

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return ipaddress.ip_address(self.ip).version

    @property
    def family(self) -> str:
        """The IP version as nftables names it."""
        return "ip6" if self.version == 6 else "ip"

    def senders(self) -> Iterator[str]:
        """The addresses that the non-matching rules name."""
        return (str(FIRST_RULE[self.version] + n) for n in range(self.rules))
