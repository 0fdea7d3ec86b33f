# SPDX-License-Identifier: Apache-2.0
"""Bytes of one ZMQ message to JSON and back: the optional compression and its limits (trex-stl-rpc.md 1.2)."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, NoReturn

from harness.generator.xdpgen.rpc.errors import BadJson, TooLarge

MAGIC = 0xABE85CEA
#: Largest request in bytes, before and after inflating, as TRex's server has it.
MAX_REQUEST = 999_999
_HEADER = struct.Struct(">II")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def is_zipped(message: bytes) -> bool:
    """True for a message that begins with the compression magic."""
    return len(message) >= _HEADER.size and _HEADER.unpack_from(message)[0] == MAGIC


def _inflate(message: bytes) -> bytes:
    engine = zlib.decompressobj()
    try:
        plain = engine.decompress(message[_HEADER.size :], MAX_REQUEST + 1)
    except zlib.error as error:
        raise BadJson() from error
    if len(plain) > MAX_REQUEST:
        raise TooLarge(len(plain))
    if not engine.eof:
        raise BadJson()
    return plain


def decode(message: bytes) -> Any:
    """The JSON value of a message.

    Raises ``TooLarge`` over ``MAX_REQUEST`` bytes and ``BadJson`` for everything that is not strict UTF-8 JSON.
    """
    if len(message) > MAX_REQUEST:
        raise TooLarge(len(message))
    plain = _inflate(message) if is_zipped(message) else message
    try:
        return json.loads(plain.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadJson() from error


def encode(value: Any, zipped: bool) -> bytes:
    """A message for a JSON value; ``zipped`` adds TRex's compression."""
    plain = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    if not zipped:
        return plain
    return _HEADER.pack(MAGIC, len(plain)) + zlib.compress(plain, 1)
