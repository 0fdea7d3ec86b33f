# SPDX-License-Identifier: Apache-2.0
"""Frames of the test traffic: templates for the generator, single flows for role checks.

IPv4 templates carry UDP checksum 0: TRex writes its latency header over the payload's end without fixing the L4
checksum, and a kernel does not deliver a datagram with a wrong one (design.md, "Echo and latency"). IPv6 has no such
checksum; its templates carry the right one, which xdpgen keeps right as it writes over the payload.
"""

from __future__ import annotations

from ipaddress import ip_address

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from harness.plan import FCS, DirectionPlan

#: Payload byte pattern: easy to recognise in a capture, compared byte by byte in role checks.
_PATTERN = bytes(range(0x20, 0x7F))
#: Time to live, or hop limit, of every frame sent.
HOPS = 64


def payload(direction: DirectionPlan, frame_bytes: int) -> bytes:
    """The UDP payload that makes a frame of ``frame_bytes`` including FCS."""
    length = frame_bytes - FCS - direction.headers
    if length < 0:
        raise ValueError(f"a frame of {frame_bytes} bytes has no room for {direction.headers} bytes of headers")
    return (_PATTERN * (length // len(_PATTERN) + 1))[:length]


def flow_address(direction: DirectionPlan, flow: int) -> tuple[str, int]:
    """Source address and port of flow ``flow`` (0-based), as FlowPlan defines."""
    flows = direction.flows
    address = ip_address(flows.src_ip_first) + flow % flows.src_ips
    return str(address), flows.src_port_first + flow // flows.src_ips % flows.src_ports


def flow_frame(direction: DirectionPlan, frame_bytes: int, flow: int = 0) -> bytes:
    """The frame of one flow, without FCS."""
    (address, port), flows = flow_address(direction, flow), direction.flows
    packet = Ether(src=direction.src_mac, dst=direction.dst_mac)
    if direction.vlan is not None:
        packet = packet / Dot1Q(vlan=direction.vlan)
    if flows.version == 6:
        packet = packet / IPv6(src=address, dst=flows.dst_ip, hlim=HOPS) / UDP(sport=port, dport=flows.dst_port)
    else:
        packet = packet / IP(src=address, dst=flows.dst_ip, ttl=HOPS, id=1)
        packet = packet / UDP(sport=port, dport=flows.dst_port, chksum=0)
    return bytes(packet / payload(direction, frame_bytes))
