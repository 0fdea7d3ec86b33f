# SPDX-License-Identifier: Apache-2.0
"""The role check: before measuring, a few frames are sent and the replies compared in canonical form.

Addresses, ports and VLAN tag as the role says, payload identical, checksums valid (or zero where UDP allows it: over
IPv4). TTL or hop limit (except for L3 forward), IP id, flow label and TOS are free (design.md, "Roles").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

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
#: Exchanges with a reply that is there twice, after which it is no reply that was late.
_DOUBLED = 3


@dataclass(frozen=True)
class Canonical:
    """What a role fixes of a frame. ``ttl``, of IPv6 the hop limit, is None where it is free; ``vlan`` None: no tag."""

    src_mac: str
    dst_mac: str
    vlan: int | None
    src: str
    dst: str
    sport: int
    dport: int
    payload: bytes
    ttl: int | None

    def differences(self, other: Canonical) -> list[str]:
        """Fields in which ``other`` (received) differs from this (expected), in words."""
        found = []
        for name in ("src_mac", "dst_mac", "vlan", "src", "dst", "sport", "dport", "ttl", "payload"):
            want, got = getattr(self, name), getattr(other, name)
            if want != got and not (name == "ttl" and want is None):
                show = (lambda v: v.hex()) if name == "payload" else str
                found.append(f"{name}: expected {show(want)}, got {show(got)}")
        return found


def canonical(frame: bytes, keep_ttl: bool) -> Canonical | None:
    """A frame in canonical form; None when it is not UDP over IPv4 or IPv6. Raises StackError on a bad checksum."""
    packet = Ether(frame)
    layer = packet.getlayer(1)
    tag = layer if isinstance(layer, Dot1Q) else None
    ip = layer.payload if tag is not None else layer
    if not isinstance(ip, IP | IPv6) or not isinstance(ip.payload, UDP):
        return None
    udp = ip.payload
    _check_checksums(ip, udp)
    return Canonical(
        src_mac=str(packet.src).lower(), dst_mac=str(packet.dst).lower(), vlan=None if tag is None else int(tag.vlan),
        src=str(ip.src), dst=str(ip.dst), sport=int(udp.sport), dport=int(udp.dport),
        payload=bytes(udp.payload)[:int(udp.len) - 8],
        ttl=int(ip.ttl if isinstance(ip, IP) else ip.hlim) if keep_ttl else None,
    )


def _check_checksums(ip: Packet, udp: UDP) -> None:
    again = ip.copy()
    checks = [("UDP", udp.chksum, UDP)]
    if isinstance(ip, IP):
        checks.append(("IPv4 header", ip.chksum, IP))
        if not udp.chksum:  # none: IPv4 allows that
            del checks[0]
    for _, _, layer in checks:
        del again[layer].chksum
    again = type(ip)(bytes(again))
    for name, got, layer in checks:
        right = again[layer].chksum
        if got != right:
            raise StackError(f"role check: a reply's {name} checksum is {got:#06x}, {right:#06x} would be right")


def expected_reply(sent: bytes, point: PointPlan, direction: DirectionPlan, info: RoleInfo) -> Canonical:
    """What the role makes of a frame."""
    keep_ttl = point.role is Role.FORWARD
    was = canonical(sent, keep_ttl)
    if was is None:
        raise ValueError("the template is not UDP over IPv4 or IPv6")
    if point.role in (Role.REFLECT, Role.ECHO):
        back = replace(was, src_mac=was.dst_mac, dst_mac=was.src_mac)
        if point.role is Role.REFLECT:
            return back
        return replace(back, src=was.dst, dst=was.src, sport=was.dport, dport=was.sport)
    if info.layer == "l2":
        return was
    out = next(w for w in point.wires if w.tg.index == direction.rx_port)
    return replace(was, src_mac=out.dut.mac, dst_mac=out.tg.mac, ttl=None if was.ttl is None else was.ttl - 1)


def sample_flows(direction: DirectionPlan, frames: int = FRAMES) -> list[int]:
    """Flow numbers spread over all flows, first and last among them."""
    last = direction.flows.count - 1
    return sorted({last * i // max(frames - 1, 1) for i in range(frames)})


def check_role(
    generator: Generator, point: PointPlan, info: RoleInfo, exact: Callable[[], int] | None
) -> None:
    """Raise StackError unless the DUT does what the role says with a few frames of every size and direction.

    ``exact``: reads the stack's counter of what it discarded (role drop) or completed (role accept).
    """
    if point.role is Role.ACCEPT:
        _check_accept(generator, point, exact)
        return
    for direction, size in ((d, s) for d in point.directions for s in point.frames.sizes):
        frames = [flow_frame(direction, size, flow) for flow in sample_flows(direction)]
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
    generator.configure(TrafficSpec(point.directions, point.frames))  # TRex makes a connection to see the reply
    before = completed()
    result = generator.trial(FRAMES / _CONNECT_S, _CONNECT_S)
    done, counted = sum(d.received or 0 for d in result.directions), completed() - before
    if done != FRAMES:
        failed = result.report.extra.get("client", {}).get("refused", 0)
        why = f"; {failed} were refused (RST)" if failed else ""
        raise StackError(f"role check (accept): {done} of {FRAMES} connections were made, answered and closed{why}")
    if counted != done:
        raise StackError(f"role check (accept): {done} connections were completed, the stack counted {counted}")


def _check_drop(
    generator: Generator, direction: DirectionPlan, frames: Sequence[bytes], discarded: Callable[[], int]
) -> None:
    """A whole lot of frames must be counted, exactly, within the deadline: the first may meet a path that is still
    warming up. More counted than sent is wrong at once."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        before = discarded()
        returned = generator.exchange(direction.tx_port, frames, direction.tx_port, _WAIT_S)
        counted = discarded() - before
        if any(canonical(frame, False) is not None for frame in returned):
            raise StackError("role check: the stack drops by its name, but a test frame came back")
        if counted == len(frames):
            return
        if counted > len(frames) or time.monotonic() > deadline:
            raise StackError(f"role check: {len(frames)} frames sent, the stack's discard counter rose by {counted}")


def _check_replies(
    generator: Generator, point: PointPlan, direction: DirectionPlan, frames: Sequence[bytes], info: RoleInfo
) -> None:
    """All replies must come within the deadline: the first frames may meet a path that is still warming up. Each must
    come once: a reply that is twice there again and again has a second sender, such as another host at the switch."""
    assert direction.rx_port is not None
    wanted = [expected_reply(frame, point, direction, info) for frame in frames]
    doubled = 0
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        raw = generator.exchange(direction.tx_port, frames, direction.rx_port, _WAIT_S)
        got = [c for c in (canonical(f, point.role is Role.FORWARD) for f in raw) if c is not None]
        absent = [w for w in wanted if w not in got]
        if not absent:
            if all(got.count(w) == 1 for w in wanted):
                return
            doubled += 1
            if doubled == _DOUBLED:
                raise StackError(f"role check ({point.role}): replies come more than once, so {point.host} is not the "
                                 "only one that answers; look for another host behind the switch that takes in its "
                                 "frames (promiscuous, or with a stack left running)")
            continue  # it may be one that was late for the exchange before
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
