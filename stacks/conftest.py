# SPDX-License-Identifier: Apache-2.0
"""What the lab tests of stacks share: a lab, its DUT, and a hand on the generator's end of each wire."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from harness import stacks
from harness.flows import addressed, directions
from harness.host.contract import Dut
from harness.host.dut import SshDut
from harness.lab import netns
from harness.lab.lab import Lab
from harness.plan import PointPlan, Role, line_rate_pps


def _open(ifname: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    opened.bind((ifname, 0x0003))
    return opened


class Wires:
    """Raw frames at the generator's ends: ``exchange`` as role checks use it, no load generator."""

    def __init__(self, lab: Lab) -> None:
        self._sockets = [netns.in_netns(lab.tg_netns, partial(_open, name)) for name in lab.ifnames("tg")]

    def exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> list[bytes]:
        """Send frames on one port; all that arrived from outside at ``rx_port`` until ``wait_s`` later."""
        for frame in frames:
            self._sockets[port].send(frame.ljust(60, b"\0"))
        received, deadline = [], time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._sockets[rx_port]], [], [], left)[0]:
                frame, address = self._sockets[rx_port].recvfrom(65536)
                if address[2] != socket.PACKET_OUTGOING:
                    received.append(frame)
        return received

    def close(self) -> None:
        for opened in self._sockets:
            opened.close()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab.up(wires=2, pause_s=0.2) as made:
        yield made


@pytest.fixture(scope="session")
def dut(lab: Lab) -> Iterator[Dut]:
    """The lab's DUT as a run has it: over SSH, with its agent. What a test leaves behind fails at the end."""
    with SshDut.connect("dut", lab.ssh, home_cores=lab.tg_cores, virtual=True,
                        state_dir=str(lab.dut_state_dir)) as connected:
        yield connected


@pytest.fixture
def wires(lab: Lab) -> Iterator[Wires]:
    with closing(Wires(lab)) as opened:
        yield opened


@pytest.fixture
def make_point(lab: Lab) -> Callable[..., PointPlan]:
    """A point of one stack in the lab: ``make_point("linux-udp", Role.ECHO, {"reuseport": True})``."""

    def make(stack: str, role: Role, params: dict[str, Any] | None = None, *, frame: int = 64, flows: int = 64,
             bidirectional: bool = False, cores: int = 1) -> PointPlan:
        used = lab.wires if role is Role.FORWARD else lab.wires[:1]
        created = stacks.create(stack, params or {})
        there = directions(role, used, flows, bidirectional=bidirectional)
        frame = 0 if role is Role.ACCEPT else frame
        return PointPlan(
            id="test", label=stack, stack=stack, params=created.params.model_dump(mode="json"), role=role,
            host="dut", frame_bytes=frame, cores=lab.dut_cores[:cores], wires=used,
            directions=addressed(there, used, created.role_info(role).layer),
            line_rate_pps=line_rate_pps(used[0].speed_gbps, frame) if frame else 0.0)

    return make
