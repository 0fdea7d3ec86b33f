# SPDX-License-Identifier: Apache-2.0
"""The RSS hash against Microsoft's published vectors ("Verifying the RSS Hash Calculation")."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest

from harness.generator.xdpgen.toeplitz import INDIRECTION, flow_hashes, sending_cores, toeplitz

#: Destination, destination port, source, source port, hash over addresses, hash over addresses and ports.
VECTORS = [
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    ("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4B61E985, 0x02D1FEEF),
]


def _frame(source: str, destination: str, ports: tuple[int, int], proto: int, tags: int = 0) -> bytes:
    src, dst = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    ethernet = bytes(12) + b"\x81\x00\x00\x05" * tags + (b"\x08\x00" if src.version == 4 else b"\x86\xdd")
    if src.version == 4:
        ip = b"\x45" + bytes(8) + bytes([proto]) + bytes(2) + src.packed + dst.packed
    else:
        ip = b"\x60" + bytes(5) + bytes([proto, 64]) + src.packed + dst.packed
    return ethernet + ip + ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + bytes(16)


def _rows(frame: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(frame, dtype=np.uint8)[None, :]


@pytest.mark.parametrize(("dst", "dport", "src", "sport", "addresses", "flow"), VECTORS)
def test_published_vectors(dst: str, dport: int, src: str, sport: int, addresses: int, flow: int) -> None:
    packed = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
    assert toeplitz(_rows(packed))[0] == addresses
    assert toeplitz(_rows(packed + ports))[0] == flow


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize(("dst", "dport", "src", "sport", "addresses", "flow"), VECTORS)
def test_frames_are_hashed_by_their_flow(
    dst: str, dport: int, src: str, sport: int, addresses: int, flow: int, tags: int
) -> None:
    for proto, expected in ((6, flow), (17, flow), (1, addresses)):
        frame = _frame(src, dst, (sport, dport), proto, tags)
        assert flow_hashes(_rows(frame), frame)[0] == expected
        # Bytes beyond the prepared header come from the template.
        assert flow_hashes(_rows(frame)[:, :20], frame)[0] == expected


def test_cores_follow_the_indirection_table() -> None:
    frame = _frame("16.0.0.1", "48.0.0.1", (1025, 12), 17)
    rows = np.repeat(_rows(frame), 4096, axis=0)
    rows[:, 34] = np.arange(4096) >> 8
    rows[:, 35] = np.arange(4096) & 0xFF
    cores = sending_cores(rows, frame, (0, 2))
    expected = np.array([0, 2])[(flow_hashes(rows, frame) % INDIRECTION) % 2]
    assert (cores == expected).all()
    assert 1800 < int((cores == 0).sum()) < 2300


def test_frames_without_ip_go_to_the_first_core() -> None:
    frame = bytes(12) + b"\x08\x06" + bytes(46)
    assert sending_cores(_rows(frame), frame, (1, 0)).tolist() == [1]
