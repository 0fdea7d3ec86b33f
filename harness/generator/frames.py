# SPDX-License-Identifier: Apache-2.0
"""Frames of the test traffic: templates for the generator, single flows for role checks.

IPv4 templates carry UDP checksum 0: TRex writes its latency header over the payload's end without fixing the L4
checksum, and a kernel does not deliver a datagram with a wrong one (design.md, "Echo and latency").
"""

from __future__ import annotations

from ipaddress import IPv4Address

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness.plan import FCS, DirectionPlan

#: Payload byte pattern: easy to recognise in a capture, compared byte by byte in role checks.
_PATTERN = bytes(range(0x20, 0x7F))
_HEADERS = 14 + 20 + 8


def payload(frame_bytes: int) -> bytes:
    """The UDP payload that makes a frame of ``frame_bytes`` including FCS."""
    length = frame_bytes - FCS - _HEADERS
    if length < 0:
        raise ValueError(f"a frame of {frame_bytes} bytes has no room for Ethernet, IPv4 and UDP headers")
    return (_PATTERN * (length // len(_PATTERN) + 1))[:length]


def flow_address(direction: DirectionPlan, flow: int) -> tuple[str, int]:
    """Source address and port of flow ``flow`` (0-based), as FlowPlan defines."""
    flows = direction.flows
    address = IPv4Address(flows.src_ip_first) + flow % flows.src_ips
    return str(address), flows.src_port_first + flow // flows.src_ips % flows.src_ports


def flow_frame(direction: DirectionPlan, frame_bytes: int, flow: int = 0) -> bytes:
    """The frame of one flow, without FCS."""
    address, port = flow_address(direction, flow)
    packet = (
        Ether(src=direction.src_mac, dst=direction.dst_mac)
        / IP(src=address, dst=direction.flows.dst_ip, ttl=64, id=1)
        / UDP(sport=port, dport=direction.flows.dst_port, chksum=0)
        / payload(frame_bytes)
    )
    return bytes(packet)
