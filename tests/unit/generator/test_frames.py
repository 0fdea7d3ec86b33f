# SPDX-License-Identifier: Apache-2.0
"""Changes to templates, checked with scapy as an independent reader."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from harness.generator.xdpgen.frames import clear_flow_id, layout, mac_bytes, write_flow_id

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def _checksum_is_right(frame: bytes) -> bool:
    given = Ether(frame)[IP].chksum
    copy = Ether(frame)
    del copy[IP].chksum
    return bool(Ether(bytes(copy))[IP].chksum == given)


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("tos", [0, 0xB8, 0xFF])
def test_flow_id_in_ipv4(tags: int, tos: int) -> None:
    packet = Ether(**MACS)
    for _ in range(tags):
        packet = packet / Dot1Q(vlan=5)
    frame = bytes(packet / IP(src="16.0.0.1", dst="48.0.0.1", tos=tos, id=1) / UDP() / bytes(20))
    changed = write_flow_id(frame, 0xFC05)
    assert Ether(changed)[IP].id == 0xFC05
    assert Ether(changed)[IP].tos == tos | 1
    assert _checksum_is_right(changed)
    assert len(changed) == len(frame)


def test_a_wrong_checksum_stays_wrong() -> None:
    frame = bytes(Ether(**MACS) / IP(src="16.0.0.1", dst="48.0.0.1", chksum=0x1234) / UDP() / bytes(20))
    assert not _checksum_is_right(write_flow_id(frame, 0xFFFF))


def test_flow_label_in_ipv6() -> None:
    frame = bytes(Ether(**MACS) / IPv6(src="::1", dst="::2", tc=0xB8, fl=0x12345) / UDP() / bytes(20))
    changed = Ether(write_flow_id(frame, 0xFFFF))[IPv6]
    assert (changed.tc, changed.fl & 0xFFFF, changed.version) == (0xB9, 0xFFFF, 6)


def test_other_frames_keep_their_bytes() -> None:
    frame = bytes(Ether(**MACS) / ARP()).ljust(60, b"\0")
    assert write_flow_id(frame, 0xFC00) == frame == clear_flow_id(frame)


def test_ids_of_uncounted_streams_are_moved_out_of_the_way() -> None:
    frame = bytes(Ether(**MACS) / IP(src="16.0.0.1", dst="48.0.0.1", id=0xFFFE, tos=4) / UDP() / bytes(20))
    changed = clear_flow_id(frame)
    assert Ether(changed)[IP].id == 0xEFFE
    assert Ether(changed)[IP].tos == 4
    assert _checksum_is_right(changed)
    harmless = bytes(Ether(**MACS) / IP(id=0xFBFF) / UDP())
    assert clear_flow_id(harmless) == harmless


def test_layout_of_tags_fragments_and_extensions() -> None:
    plain = layout(bytes(Ether(**MACS) / Dot1Q() / IP() / TCP()))
    assert (plain.l3, plain.version, plain.proto, plain.l4) == (18, 4, 6, 38)
    assert layout(bytes(Ether(**MACS) / IP(frag=5) / bytes(20))).l4 is None
    assert layout(bytes(Ether(**MACS) / IPv6() / UDP())).l4 == 54
    assert layout(bytes(14)).version == 0
    assert layout(bytes(12) + b"\x08\x00\x45").version == 0


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02:00:00:00:00:zz", "2:0:0:0:0:1", "02-00-00-00-00-01"])
def test_bad_mac_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        mac_bytes(text)
