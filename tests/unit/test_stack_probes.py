# SPDX-License-Identifier: Apache-2.0
"""What a kernel refuses, in one line; programs and room that a host lacks, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.flows import directions
from harness.host.contract import Completed
from harness.lab import plan_wires
from harness.plan import PointPlan, Role
from harness.stacks.probes import missing_conntrack_room, missing_programs, refusal


class Host:
    """A DUT that answers every command alike and has some programs and files."""

    def __init__(self, code: int = 0, stderr: str = "", programs: Sequence[str] = (), most: str = "") -> None:
        self.code, self.stderr, self.programs, self.most = code, stderr, programs, most
        self.ran: list[tuple[tuple[str, ...], str]] = []

    def run(self, argv: Sequence[str], *, stdin: str = "", check: bool = True, **_: Any) -> Completed:
        assert not check
        self.ran.append((tuple(argv), stdin))
        return Completed(tuple(argv), self.code, "", self.stderr)

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    def read(self, path: str, default: str) -> str:
        assert path == "/proc/sys/net/netfilter/nf_conntrack_max"
        return self.most or default


def test_a_probe_runs_in_a_network_namespace_of_its_own() -> None:
    host = Host()
    assert refusal(host, ["tc", "-batch", "-"], stdin="qdisc add dev lo clsact\n") == ""  # type: ignore[arg-type]
    assert host.ran == [(("unshare", "--net", "--", "tc", "-batch", "-"), "qdisc add dev lo clsact\n")]


@pytest.mark.parametrize(("said", "reason"), [
    ("Error: TC classifier not found.\nWe have an error talking to the kernel\nCommand failed -:3\n",
     "Error: TC classifier not found."),
    ("Error: Could not process rule: No such file or directory\nadd table x\n    ^^^^^\n",
     "Error: Could not process rule: No such file or directory"),
    ("iptables: No chain/target/match by that name.\n", "iptables: No chain/target/match by that name."),
    ("", "status 2"),
])
def test_a_refusal_is_given_in_the_kernels_words(said: str, reason: str) -> None:
    assert refusal(Host(2, said), ["nft"]) == reason  # type: ignore[arg-type]


def test_absent_programs_come_with_their_package() -> None:
    missing = missing_programs(Host(programs=["nft"]), ("nft", "nftables"), ("tc", "iproute2"))  # type: ignore[arg-type]
    assert [(m.what, m.remedy) for m in missing] == [("the program tc", "apt-get install iproute2")]


@pytest.mark.parametrize(("most", "fits"), [("", True), ("1000\n", True), ("999\n", False)])
def test_connection_tracking_needs_room_for_every_flow(most: str, fits: bool) -> None:
    wires = plan_wires("abc", 2)
    point = PointPlan("p", "l", "s", {}, Role.FORWARD, "dut", 64, (1,), wires,
                      directions(Role.FORWARD, wires, 500, bidirectional=True), 1e6)
    missing = missing_conntrack_room(Host(most=most), point)  # type: ignore[arg-type]
    assert (missing == []) is fits
    if missing:
        assert "room for 1000 flows" in missing[0].what
        assert "nf_conntrack_max=2000" in missing[0].remedy
