# SPDX-License-Identifier: Apache-2.0
"""The role check: before measuring, a few frames are sent and the replies compared in canonical form.

Addresses and ports as the role says, payload identical, checksums valid (or zero where UDP allows it). TTL (except for
L3 forward), IP id and TOS are free (design.md, "Roles").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness.errors import StackError
from harness.generator.contract import Generator, TrafficSpec
from harness.generator.frames import flow_frame
from harness.plan import DirectionPlan, PointPlan, Role
from harness.stack import RoleInfo

#: Frames sent per direction, over different flows.
FRAMES = 8
_WAIT_S = 0.25
#: Role accept: the same number of connections within this time.
_CONNECT_S = 0.1
_DEADLINE_S = 3.0


@dataclass(frozen=True)
class Canonical:
    """What a role fixes of a frame. ``ttl`` is None where it is free."""

    src_mac: str
    dst_mac: str
    src: str
    dst: str
    sport: int
    dport: int
    payload: bytes
    ttl: int | None

    def differences(self, other: Canonical) -> list[str]:
        """Fields in which ``other`` (received) differs from this (expected), in words."""
        found = []
        for name in ("src_mac", "dst_mac", "src", "dst", "sport", "dport", "ttl", "payload"):
            want, got = getattr(self, name), getattr(other, name)
            if want is not None and want != got:
                show = (lambda v: v.hex()) if name == "payload" else str
                found.append(f"{name}: expected {show(want)}, got {show(got)}")
        return found


def canonical(frame: bytes, keep_ttl: bool) -> Canonical | None:
    """A frame in canonical form; None when it is not UDP over IPv4. Raises StackError on a bad checksum."""
    packet = Ether(frame)
    if IP not in packet or UDP not in packet:
        return None
    ip, udp = packet[IP], packet[UDP]
    length = int(udp.len) - 8
    _check_checksums(frame, ip, udp)
    return Canonical(
        src_mac=str(packet.src).lower(), dst_mac=str(packet.dst).lower(), src=str(ip.src), dst=str(ip.dst),
        sport=int(udp.sport), dport=int(udp.dport), payload=bytes(udp.payload)[:length],
        ttl=int(ip.ttl) if keep_ttl else None,
    )


def _check_checksums(frame: bytes, ip: IP, udp: UDP) -> None:
    again = Ether(frame)
    del again[IP].chksum
    if udp.chksum:
        del again[UDP].chksum
    again = Ether(bytes(again))
    for name, got, right in (("IPv4 header", ip.chksum, again[IP].chksum), ("UDP", udp.chksum, again[UDP].chksum)):
        if got != right:
            raise StackError(f"role check: a reply's {name} checksum is {got:#06x}, {right:#06x} would be right")


def expected_reply(sent: bytes, point: PointPlan, direction: DirectionPlan, info: RoleInfo) -> Canonical:
    """What the role makes of a frame."""
    keep_ttl = point.role is Role.FORWARD
    was = canonical(sent, keep_ttl)
    if was is None:
        raise ValueError("the template is not UDP over IPv4")
    if point.role is Role.REFLECT:
        return Canonical(was.dst_mac, was.src_mac, was.src, was.dst, was.sport, was.dport, was.payload, None)
    if point.role is Role.ECHO:
        return Canonical(was.dst_mac, was.src_mac, was.dst, was.src, was.dport, was.sport, was.payload, None)
    if info.layer == "l2":
        return was
    out = next(w for w in point.wires if w.tg.index == direction.rx_port)
    ttl = None if was.ttl is None else was.ttl - 1
    return Canonical(out.dut.mac, out.tg.mac, was.src, was.dst, was.sport, was.dport, was.payload, ttl)


def sample_flows(direction: DirectionPlan, frames: int = FRAMES) -> list[int]:
    """Flow numbers spread over all flows, first and last among them."""
    last = direction.flows.count - 1
    return sorted({last * i // max(frames - 1, 1) for i in range(frames)})


def check_role(
    generator: Generator, point: PointPlan, info: RoleInfo, exact: Callable[[], int] | None
) -> None:
    """Raise StackError unless the DUT does what the role says with a few frames of every direction.

    ``exact``: reads the stack's counter of what it discarded (role drop) or completed (role accept).
    """
    if point.role is Role.ACCEPT:
        _check_accept(generator, point, exact)
        return
    for direction in point.directions:
        frames = [flow_frame(direction, point.frame_bytes, flow) for flow in sample_flows(direction)]
        if point.role is Role.DROP:
            if exact is None:
                raise StackError("the stack has no exact discard counter; role drop cannot be measured")
            _check_drop(generator, direction, frames, exact)
        else:
            _check_replies(generator, point, direction, frames, info)


def _check_accept(generator: Generator, point: PointPlan, completed: Callable[[], int] | None) -> None:
    """A few connections through the client that will measure: complete exchanges, and the server's count is theirs."""
    if completed is None:
        raise StackError("the stack does not count completed connections; role accept cannot be measured")
    before = completed()
    generator.configure(TrafficSpec(point.directions, point.frame_bytes))
    result = generator.trial(FRAMES / _CONNECT_S, _CONNECT_S)
    done, counted = sum(d.received or 0 for d in result.directions), completed() - before
    if done != FRAMES:
        failed = result.report.extra.get("client", {}).get("kernel", {}).get("tcp.AttemptFails", 0)
        why = f"; {failed} were refused (RST)" if failed else ""
        raise StackError(f"role check (accept): {done} of {FRAMES} connections were made, answered and closed{why}")
    if counted != done:
        raise StackError(f"role check (accept): {done} connections were completed, the stack counted {counted}")


def _check_drop(
    generator: Generator, direction: DirectionPlan, frames: Sequence[bytes], discarded: Callable[[], int]
) -> None:
    before = discarded()
    returned = generator.exchange(direction.tx_port, frames, direction.tx_port, _WAIT_S)
    counted = discarded() - before
    if counted != len(frames):
        raise StackError(f"role check: {len(frames)} frames sent, the stack's discard counter rose by {counted}")
    if any(canonical(frame, False) is not None for frame in returned):
        raise StackError("role check: the stack drops by its name, but a test frame came back")


def _check_replies(
    generator: Generator, point: PointPlan, direction: DirectionPlan, frames: Sequence[bytes], info: RoleInfo
) -> None:
    """All replies must come within the deadline: the first frames may meet a path that is still warming up."""
    assert direction.rx_port is not None
    wanted = [expected_reply(frame, point, direction, info) for frame in frames]
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        raw = generator.exchange(direction.tx_port, frames, direction.rx_port, _WAIT_S)
        got = [c for c in (canonical(f, point.role is Role.FORWARD) for f in raw) if c is not None]
        absent = [w for w in wanted if w not in got]
        if not absent:
            return
        wrong = [g for g in got if g not in wanted]
        if wrong:
            nearest = sorted([absent[0].differences(g) for g in wrong], key=len)[0]
            detail = "; ".join(nearest)
            raise StackError(f"role check ({point.role}): a reply is not what the role says: {detail}")
        if time.monotonic() > deadline:
            raise StackError(
                f"role check ({point.role}): {len(absent)} of {len(frames)} frames sent from port "
                f"{direction.tx_port} did not come back on port {direction.rx_port} within {_DEADLINE_S:.0f} s"
            )
