# SPDX-License-Identifier: Apache-2.0
"""What tests of a deployed stack need beside it: a hand on the generator's end of each wire, and points."""

from __future__ import annotations

import mmap
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from harness import stacks
from harness.flows import addressed, directions
from harness.lab import netns
from harness.lab.addresses import LINK_PREFIX_LEN, flow_prefix, link_ip
from harness.lab.lab import Lab
from harness.plan import FrameMix, PointPlan, Role, WirePlan, line_rate_pps

#: linux/if_packet.h: struct tpacket_auxdata.
_SOL_PACKET, _PACKET_AUXDATA, _VLAN_VALID, _AUXDATA = 263, 8, 1 << 4, struct.Struct("=IIIHHHH")


#: Of the same header: the sending ring of an AF_PACKET socket.
_PACKET_VERSION, _PACKET_TX_RING, _TPACKET_V2 = 10, 13, 1
_STATUS, _SEND_REQUEST, _AVAILABLE, _HEADER = struct.Struct("=II"), 1, 0, 32
_SLOTS, _SLOT = 64, 2048


class PagedSender:
    """Sends frames out of a ring of AF_PACKET's (PACKET_TX_RING), as DPDK's driver for interfaces of the kernel does:
    the kernel copies the Ethernet header alone and lets the rest lie in the ring's pages, so that IP and UDP headers
    arrive in a page of the frame (a non-linear skb)."""

    def __init__(self, ifname: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, struct.pack("=i", _TPACKET_V2))
        request = struct.pack("=IIII", _SLOTS * _SLOT, 1, _SLOT, _SLOTS)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_TX_RING, request)
        self._ring = mmap.mmap(self._socket.fileno(), _SLOTS * _SLOT)
        self._socket.bind((ifname, 0x0800))
        self._next = 0

    def send(self, frames: Sequence[bytes]) -> None:
        """Up to 64 frames; all have left when it returns."""
        assert len(frames) <= _SLOTS
        for frame in frames:
            data = frame.ljust(60, b"\0")
            start = self._next * _SLOT
            self._next = (self._next + 1) % _SLOTS
            deadline = time.monotonic() + 5  # a slot is the receiver's until it has let go of the frame
            while _STATUS.unpack_from(self._ring, start)[0] != _AVAILABLE:
                assert time.monotonic() < deadline
            self._ring[start + _HEADER:start + _HEADER + len(data)] = data
            _STATUS.pack_into(self._ring, start, _SEND_REQUEST, len(data))
        self._socket.send(b"")

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()
        self._socket.close()


def _open(ifname: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    opened.bind((ifname, 0x0003))
    opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    return opened


def _receive(opened: socket.socket) -> tuple[bytes, int]:
    """(frame, packet type). The kernel takes a VLAN tag out of the frame and reports it beside: it is put back."""
    frame, ancillary, _, address = opened.recvmsg(65536, socket.CMSG_SPACE(_AUXDATA.size))
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack(data)
            if status & _VLAN_VALID:
                frame = frame[:12] + struct.pack(">HH", tpid or 0x8100, tci) + frame[12:]
    return frame, address[2]


class Wires:
    """Raw frames at the generator's ends: ``exchange`` as role checks use it, no load generator."""

    def __init__(self, lab: Lab) -> None:
        self._namespace, self._names = lab.tg_netns, lab.ifnames("tg")
        self._sockets = [netns.in_netns(self._namespace, partial(_open, name)) for name in self._names]

    def exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> list[bytes]:
        """Send frames on one port; all that arrived from outside at ``rx_port`` until ``wait_s`` later."""
        for frame in frames:
            self._sockets[port].send(frame.ljust(60, b"\0"))
        received, deadline = [], time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._sockets[rx_port]], [], [], left)[0]:
                frame, kind = _receive(self._sockets[rx_port])
                if kind != socket.PACKET_OUTGOING:
                    received.append(frame)
        return received

    def paged(self, port: int) -> PagedSender:
        """A sender at a port whose frames have their headers in a page."""
        return netns.in_netns(self._namespace, partial(PagedSender, self._names[port]))

    def close(self) -> None:
        for opened in self._sockets:
            opened.close()


def with_ip_version(wire: WirePlan, version: int) -> WirePlan:
    """A wire with its addresses of another IP version."""
    tg, dut = (replace(port, ip=link_ip(wire.index, side, version), prefix_len=LINK_PREFIX_LEN[version])
               for side, port in (("tg", wire.tg), ("dut", wire.dut)))
    return replace(wire, tg=tg, dut=dut, flow_prefix=flow_prefix(wire.index, version))


def point_maker(wires: Sequence[WirePlan], cores_there: Sequence[int]) -> Callable[..., PointPlan]:
    """Makes points of one stack on these wires: ``make("linux-udp", Role.ECHO, {"reuseport": True})``; ``cores_there``:
    the DUT's, of which a point is given the first."""

    def make(stack: str, role: Role, params: dict[str, Any] | None = None, *, frame: int | FrameMix = 64,
             flows: int = 64, bidirectional: bool = False, cores: int = 1, version: int = 4,
             vlan: int | None = None) -> PointPlan:
        used = tuple(with_ip_version(wire, version) for wire in (wires if role is Role.FORWARD else wires[:1]))
        frame = 0 if role is Role.ACCEPT else frame
        frames = FrameMix.of(frame) if isinstance(frame, int) else frame
        created = stacks.create(stack, params or {})
        there = directions(role, used, flows, bidirectional=bidirectional, vlan=vlan)
        return PointPlan(
            id="test", label=stack, stack=stack, params=created.params.model_dump(mode="json"), role=role,
            host="dut", frame_bytes=frames.smallest, mix=None if frames.single else frames,
            cores=tuple(cores_there[:cores]), wires=used,
            directions=addressed(there, used, created.role_info(role).layer),
            line_rate_pps=line_rate_pps(used[0].speed_gbps, frames.mean) if frames.smallest else 0.0)

    return make
