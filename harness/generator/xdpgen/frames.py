# SPDX-License-Identifier: Apache-2.0
"""Where the headers of an Ethernet frame lie, and the few changes xdpgen makes to a stream's template."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
#: VLAN tags (802.1Q, 802.1ad); up to two are skipped.
_TAGS = (0x8100, 0x88A8)
IPPROTO_TCP = 6
IPPROTO_UDP = 17
#: First IP id / flow label that marks a counted stream, and the one that marks latency frames.
FLOW_ID_BASE = 0xFC00
FLOW_ID_LATENCY = 0xFFFF


@dataclass(frozen=True)
class Layout:
    """Offsets from the frame's start; ``version`` is 4, 6 or 0 (not IP), ``l4`` None when there is no L4 header."""

    l3: int
    version: int
    proto: int
    l4: int | None


def layout(frame: bytes) -> Layout:
    """The layout of a frame: up to two VLAN tags, IPv4 with options (not fragments' L4), IPv6 without extensions."""
    offset = 12
    ethertype = _u16(frame, offset)
    for _ in range(2):
        if ethertype in _TAGS:
            offset += 4
            ethertype = _u16(frame, offset)
    l3 = offset + 2
    if ethertype == ETHERTYPE_IPV4 and len(frame) >= l3 + 20 and frame[l3] >> 4 == 4:
        header = (frame[l3] & 0xF) * 4
        fragment = _u16(frame, l3 + 6) & 0x3FFF
        has_l4 = header >= 20 and not fragment and len(frame) >= l3 + header + 4
        return Layout(l3, 4, frame[l3 + 9], l3 + header if has_l4 else None)
    if ethertype == ETHERTYPE_IPV6 and len(frame) >= l3 + 40 and frame[l3] >> 4 == 6:
        return Layout(l3, 6, frame[l3 + 6], l3 + 40 if len(frame) >= l3 + 44 else None)
    return Layout(l3, 0, -1, None)


def _u16(frame: bytes, offset: int) -> int:
    return int.from_bytes(frame[offset : offset + 2], "big") if offset + 2 <= len(frame) else 0


def fold(total: int) -> int:
    """A ones' complement sum folded to 16 bits."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _adjust_checksum(frame: bytearray, at: int, old: int, new: int) -> None:
    """RFC 1624: update the checksum at ``at`` for one changed 16-bit word; a wrong checksum stays wrong."""
    value = _u16(bytes(frame[at : at + 2]), 0)
    value = ~fold((~value & 0xFFFF) + (~old & 0xFFFF) + new) & 0xFFFF
    struct.pack_into(">H", frame, at, value)


def _write_ipv4_word(frame: bytearray, l3: int, word: int, value: int) -> None:
    old = _u16(bytes(frame), l3 + word)
    struct.pack_into(">H", frame, l3 + word, value)
    _adjust_checksum(frame, l3 + 10, old, value)


def write_flow_id(frame: bytes, flow_id: int) -> bytes:
    """The frame with ``flow_id`` as IPv4 id or IPv6 flow label and bit 0 of TOS / traffic class set.

    The IPv4 header checksum is updated incrementally. A frame without IP is returned as it is.
    """
    place = layout(frame)
    result = bytearray(frame)
    if place.version == 4:
        _write_ipv4_word(result, place.l3, 4, flow_id)
        _write_ipv4_word(result, place.l3, 0, _u16(frame, place.l3) | 1)
    elif place.version == 6:
        first = int.from_bytes(frame[place.l3 : place.l3 + 4], "big")
        struct.pack_into(">I", result, place.l3, (first & 0xFFF0_0000) | 1 << 20 | flow_id)
    return bytes(result)


def clear_flow_id(frame: bytes) -> bytes:
    """The frame with an IPv4 id below 0xFC00, so that receivers do not take it for a counted one."""
    place = layout(frame)
    if place.version != 4 or _u16(frame, place.l3 + 4) < FLOW_ID_BASE:
        return frame
    result = bytearray(frame)
    _write_ipv4_word(result, place.l3, 4, _u16(frame, place.l3 + 4) & 0xEFFF)
    return bytes(result)


def mac_bytes(text: str) -> bytes:
    """Six bytes of ``02:00:00:00:00:01``; ``ValueError`` for anything else."""
    parts = text.split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts):
        raise ValueError(f"not a MAC address: {text!r}")
    return bytes(int(part, 16) for part in parts)


def as_row(frame: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The frame's bytes as a one-dimensional array of uint8 (a copy)."""
    return np.array(bytearray(frame), dtype=np.uint8)
