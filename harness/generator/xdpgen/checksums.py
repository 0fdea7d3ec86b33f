# SPDX-License-Identifier: Apache-2.0
"""Internet checksums over many prepared headers at once (RFC 1071, 768, 793, 4443)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.uint64]

TCP, UDP, ICMPV6 = 6, 17, 58
#: Where each protocol keeps its checksum, from the start of its header.
_FIELD = {TCP: 16, UDP: 6, ICMPV6: 2}
#: Rows summed at a time: bounds the temporary memory.
_CHUNK = 1 << 16


def _word_sums(rows: Rows) -> Sums:
    """Sum of the big-endian 16-bit words of each row, an odd last byte padded with zero."""
    high: Sums = rows[:, 0::2].sum(axis=1, dtype=np.uint64)
    low: Sums = rows[:, 1::2].sum(axis=1, dtype=np.uint64)
    return high * np.uint64(256) + low


def _finish(sums: Sums) -> Sums:
    for _ in range(4):
        sums = (sums & np.uint64(0xFFFF)) + (sums >> np.uint64(16))
    return ~sums & np.uint64(0xFFFF)


def _put(rows: Rows, offset: int, values: Sums) -> None:
    rows[:, offset] = (values >> np.uint64(8)).astype(np.uint8)
    rows[:, offset + 1] = values.astype(np.uint8)


def fix_ipv4(rows: Rows, offset: int) -> None:
    """Write the checksum of the IPv4 header at ``offset`` into every row; its length is read from the first row."""
    end = min(offset + max(int(rows[0, offset] & 0xF) * 4, 20), rows.shape[1])
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        part[:, offset + 10 : offset + 12] = 0
        _put(part, offset + 10, _finish(_word_sums(part[:, offset:end])))


def _tail_sum(template: bytes, width: int, start: int, end: int) -> int:
    """Sum over template bytes ``width``..``end`` as words counted from ``start``."""
    tail = template[width:end]
    even = (width - start) % 2
    return sum(tail[even::2]) * 256 + sum(tail[1 - even :: 2])


def _lengths(rows: Rows, l3_offset: int, version: int, l3_length: int) -> Sums:
    """L4 length of every row from its IP header."""
    at = l3_offset + (2 if version == 4 else 4)
    length = rows[:, at].astype(np.int64) * 256 + rows[:, at + 1]
    if version == 4:
        length = np.maximum(length - l3_length, 0)
    return length.astype(np.uint64)


def _fix_chunk(rows: Rows, template: bytes, l3: int, l4: int, protocol: int, lengths: Sums) -> None:
    version = 6 if rows[0, l3] >> 4 == 6 else 4
    field = l4 + _FIELD[protocol]
    rows[:, field : field + 2] = 0
    addresses = rows[:, l3 + 8 : l3 + 40] if version == 6 else rows[:, l3 + 12 : l3 + 20]
    sums = _word_sums(addresses) + lengths + np.uint64(protocol)
    width = rows.shape[1]
    for length in np.unique(lengths):
        chosen = lengths == length
        end = min(l4 + int(length), len(template))
        body = _word_sums(rows[chosen, l4 : min(width, end)])
        sums[chosen] += body + np.uint64(_tail_sum(template, width, l4, end))
    values = _finish(sums)
    if protocol == UDP:
        values[values == 0] = 0xFFFF
    _put(rows, field, values)


def fix_transport(rows: Rows, template: bytes, l2: int, l3: int, protocol: int | None) -> None:
    """Write the IPv4 header checksum (if it is IPv4) and the L4 checksum of ``protocol`` into every row.

    ``l2``, ``l3``: lengths of the Ethernet and IP headers; ``template``: the frame's bytes beyond the rows' width.
    ``protocol`` None: the IPv4 header only. The L4 length is taken from each row's IP header.
    """
    version = 6 if rows[0, l2] >> 4 == 6 else 4
    if version == 4:
        fix_ipv4(rows, l2)
    if protocol is None:
        return
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        _fix_chunk(part, template, l2, l2 + l3, protocol, _lengths(part, l2, version, l3))
