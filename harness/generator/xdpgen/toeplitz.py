# SPDX-License-Identifier: Apache-2.0
"""Receive-side scaling hash, vectorised: which core sends a flow.

veth has no RSS table; its receive queue is the sending core. So each header is sent by the core that a NIC's
RSS would pick: Toeplitz over addresses and ports with the default key, then a 128-entry indirection table.
Source of key, input order and test vectors: Microsoft, "Verifying the RSS Hash Calculation".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.generator.xdpgen.frames import IPPROTO_TCP, IPPROTO_UDP, layout

#: The 40-byte key of Microsoft's specification, the default of most drivers.
DEFAULT_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
#: Entries of the indirection table.
INDIRECTION = 128


def _contributions(key: bytes, positions: int) -> npt.NDArray[np.uint32]:
    """Array (positions, 256): what byte value v at position p adds (XOR) to the hash."""
    bits = int.from_bytes(key, "big")
    total = len(key) * 8
    table = np.zeros((positions, 256), dtype=np.uint32)
    values = np.arange(256)
    for position in range(positions):
        for bit in range(8):
            shift = total - 32 - (position * 8 + bit)
            window = np.uint32(bits >> shift & 0xFFFF_FFFF)
            table[position, (values >> (7 - bit)) & 1 == 1] ^= window
    return table


_TABLE = _contributions(DEFAULT_KEY, len(DEFAULT_KEY) - 4)


def toeplitz(inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Hashes (n,) of inputs (n, bytes), bytes <= 36: source address, destination address[, ports], network order."""
    result = np.zeros(len(inputs), dtype=np.uint32)
    for position in range(inputs.shape[1]):
        result ^= _TABLE[position, inputs[:, position]]
    return result


def hash_columns(template: bytes) -> list[int]:
    """Byte offsets in the frame that the hash covers, in input order; empty when the frame is not IP.

    UDP and TCP: addresses and ports; other IP (and fragments): addresses only.
    """
    place = layout(template)
    if not place.version:
        return []
    first, length = (place.l3 + 12, 8) if place.version == 4 else (place.l3 + 8, 32)
    columns = list(range(first, first + length))
    if place.l4 is not None and place.proto in (IPPROTO_TCP, IPPROTO_UDP):
        columns += range(place.l4, place.l4 + 4)
    return columns


def flow_hashes(headers: npt.NDArray[np.uint8], template: bytes) -> npt.NDArray[np.uint32]:
    """Hashes (n,) of header rows (n, width); bytes beyond the width come from the template. Not IP: all 0."""
    columns = hash_columns(template)
    width = headers.shape[1]
    inputs = np.empty((len(headers), len(columns)), dtype=np.uint8)
    for index, column in enumerate(columns):
        inputs[:, index] = headers[:, column] if column < width else template[column]
    return toeplitz(inputs)


def sending_cores(headers: npt.NDArray[np.uint8], template: bytes, cores: Sequence[int]) -> npt.NDArray[np.uint16]:
    """Array (n,): the element of ``cores`` that sends each row, by the hash's place in the indirection table."""
    indirection = np.array([cores[entry % len(cores)] for entry in range(INDIRECTION)], dtype=np.uint16)
    chosen: npt.NDArray[np.uint16] = indirection[flow_hashes(headers, template) & np.uint32(INDIRECTION - 1)]
    return chosen
