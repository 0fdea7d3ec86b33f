# SPDX-License-Identifier: Apache-2.0
"""Typed access to request parameters: every value from outside is checked here, with TRex's wording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.generator.xdpgen.rpc.errors import BadParams

_MISSING: Any = object()
U16, U32, U64 = 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


def _type_name(value: Any) -> str:
    names = {bool: "boolean", int: "int", float: "double", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def whole(value: Any) -> int | None:
    """The value as int where JSON says a whole number (``5`` or ``5.0``), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return None


class Params:
    """The members of one JSON object. Readers raise ``BadParams``; ``default`` makes a member optional."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members

    def _get(self, name: str, default: Any) -> Any:
        value = self.members.get(name)
        if value is None:
            if default is _MISSING:
                raise BadParams(f"field '{name}' value is null")
            return _MISSING
        return value

    def has(self, name: str) -> bool:
        """True when the member is present and not null."""
        return self.members.get(name) is not None

    def _wrong(self, name: str, value: Any, expected: str) -> BadParams:
        return BadParams(f"'{name}' is '{_type_name(value)}', expecting '{expected}'")

    def _unsigned(self, name: str, default: Any, limit: int, kind: str) -> int:
        value = self._get(name, default)
        if value is _MISSING:
            return int(default)
        number = whole(value)
        if number is None or number < 0 or number > U64:
            raise self._wrong(name, value, kind)
        if number > limit:
            raise BadParams(f"'{name}' has size bigger than {'uint8' if kind == 'byte' else kind}.")
        return number

    def byte(self, name: str, default: Any = _MISSING) -> int:
        """An integer 0..255."""
        return self._unsigned(name, default, 0xFF, "byte")

    def u16(self, name: str, default: Any = _MISSING) -> int:
        """An integer 0..65535."""
        return self._unsigned(name, default, U16, "uint16")

    def u32(self, name: str, default: Any = _MISSING) -> int:
        """An integer of 32 bits."""
        return self._unsigned(name, default, U32, "uint32")

    def u64(self, name: str, default: Any = _MISSING) -> int:
        """An integer of 64 bits."""
        return self._unsigned(name, default, U64, "uint64")

    def i32(self, name: str, default: Any = _MISSING) -> int:
        """A signed integer of 32 bits."""
        value = self._get(name, default)
        if value is _MISSING:
            return int(default)
        number = whole(value)
        if number is None or not -(1 << 31) <= number < (1 << 31):
            raise self._wrong(name, value, "int")
        return number

    def number(self, name: str, default: Any = _MISSING) -> float:
        """A finite number."""
        value = self._get(name, default)
        if value is _MISSING:
            return float(default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, value, "double")
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if not math.isfinite(result):
            raise BadParams(f"'{name}' is too large")
        return result

    def positive(self, name: str, default: Any = _MISSING) -> float:
        """A finite number >= 0."""
        value = self.number(name, default)
        if value < 0:
            raise BadParams(f"'{name}' has negative value.")
        return value

    def boolean(self, name: str, default: Any = _MISSING) -> bool:
        """true or false."""
        value = self._get(name, default)
        if value is _MISSING:
            return bool(default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "bool")
        return value

    def text(self, name: str, default: Any = _MISSING) -> str:
        """A string."""
        value = self._get(name, default)
        if value is _MISSING:
            return str(default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "string")
        return value

    def choice(self, name: str, allowed: Sequence[Any], default: Any = _MISSING) -> Any:
        """One of the values of ``allowed``."""
        value = self._get(name, default)
        if value is _MISSING:
            return default
        if isinstance(value, bool) or type(value) not in (str, int) or value not in allowed:
            listed = " ,".join(f"'{item}'" if isinstance(item, str) else str(item) for item in allowed)
            raise BadParams(f"field '{name}' can only be one of [{listed}]")
        return value

    def object(self, name: str) -> Params:
        """A nested object."""
        value = self._get(name, _MISSING)
        if not isinstance(value, dict):
            raise self._wrong(name, value, "object")
        return Params(value)

    def array(self, name: str, limit: int, default: Any = _MISSING) -> list[Any]:
        """A list of at most ``limit`` elements."""
        value = self._get(name, default)
        if value is _MISSING:
            return list(default)
        if not isinstance(value, list):
            raise self._wrong(name, value, "array")
        if len(value) > limit:
            raise BadParams(f"'{name}' has {len(value)} elements; at most {limit} are accepted")
        return value

    def whole_numbers(self, name: str, limit: int, top: int = U32, default: Any = _MISSING) -> list[int]:
        """A list of integers 0..``top``."""
        numbers = []
        for index, value in enumerate(self.array(name, limit, default)):
            number = whole(value)
            if number is None or not 0 <= number <= top:
                raise self._wrong(f"array element: {index + 1}", value, "uint32")
            numbers.append(number)
        return numbers
