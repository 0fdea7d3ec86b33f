# SPDX-License-Identifier: Apache-2.0
"""TRex's field engine, evaluated ahead of time into a table of prepared headers.

The instructions of a stream (trex-stl-rpc.md 3.4) describe a sequence of frames that repeats. The table holds one
period of it, checksums included; the dataplane copies row after row. Everything is vectorised over the rows.
Random variables come from a seeded generator and repeat after ``RANDOM_PERIOD`` packets (or their own limit).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from harness.generator.xdpgen import checksums
from harness.generator.xdpgen.contract import MIN_FRAME
from harness.generator.xdpgen.frames import as_row

#: Largest number of prepared headers, and of their bytes, per stream.
MAX_ENTRIES = 1 << 20
MAX_BYTES = 128 << 20
#: Packets after which a ``random`` variable repeats.
RANDOM_PERIOD = 1 << 16
#: Writes are accepted in the first bytes of a frame only, as in TRex.
MAX_WIDTH = 512
#: Tables are at least so wide: one cell of the dataplane's (shares.py). What lies beyond comes from the template.
_MIN_WIDTH = 60
#: First port of a tuple variable that ignores its port range.
_UNLIMITED_MIN_PORT = 1025

U64 = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.uint8]


class FieldEngineError(Exception):
    """The instructions cannot be turned into a table; the text says why."""


@dataclass(frozen=True)
class FlowVar:
    """A counter or random number. ``values``: the value list, empty for a range; ``low``..``high`` closed."""

    name: str
    size: int
    op: str
    init: int = 0
    low: int = 0
    high: int = 0
    step: int = 1
    values: tuple[int, ...] = ()
    next_var: str = ""


@dataclass(frozen=True)
class RandomLimit:
    """Random numbers that repeat after ``limit``."""

    name: str
    size: int
    limit: int
    seed: int
    low: int
    high: int
    next_var: str = ""


@dataclass(frozen=True)
class TupleVar:
    """Addresses and ports: defines ``name.ip`` (4 bytes) and ``name.port`` (2 bytes)."""

    name: str
    ip_low: int
    ip_high: int
    port_low: int
    port_high: int
    limit: int
    any_port: bool


@dataclass(frozen=True)
class Write:
    """Store variable + ``add``, truncated to the variable's size, at ``offset``."""

    name: str
    offset: int
    add: int
    big_endian: bool


@dataclass(frozen=True)
class WriteMask:
    """Replace the masked bits of a ``size``-byte field by (variable + ``add``) shifted left (right if negative)."""

    name: str
    offset: int
    size: int
    mask: int
    shift: int
    add: int
    big_endian: bool


@dataclass(frozen=True)
class Trim:
    """The frame's length is the variable's value."""

    name: str


@dataclass(frozen=True)
class FixIpv4:
    """Write the checksum of the IPv4 header at ``offset``."""

    offset: int


@dataclass(frozen=True)
class FixTransport:
    """Write the IPv4 header's and the L4 checksum; ``l4_type`` as TRex has it."""

    l2: int
    l3: int
    l4_type: int


@dataclass(frozen=True)
class FixIcmpv6:
    """Write the ICMPv6 checksum."""

    l2: int
    l3: int


Variable = FlowVar | RandomLimit | TupleVar
Instruction = FlowVar | RandomLimit | TupleVar | Write | WriteMask | Trim | FixIpv4 | FixTransport | FixIcmpv6
#: ``FixTransport.l4_type``: UDP, TCP, IPv4 header only.
L4_UDP, L4_TCP, L4_IP = 11, 13, 17


@dataclass(frozen=True)
class Table:
    """``headers``: (n, width) uint8; ``lengths``: (n,) frame lengths without FCS, None when all are the template's."""

    headers: Rows
    lengths: npt.NDArray[np.uint16] | None


# ---- variables as sequences ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sequence:
    """A variable as a function of how often it has advanced: ``period`` advances bring it back."""

    period: int

    def wraps(self, count: U64) -> U64:
        """Completed cycles after ``count`` advances."""
        return count // np.uint64(min(self.period, 2**63))

    def values(self, count: U64, part: str) -> U64:
        """Value after ``count`` advances; ``part`` names the member of a tuple."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Counter(_Sequence):
    """``low`` + lattice: positions 0..period-1 of ``step``, beginning at ``start`` with remainder ``rest``."""

    low: int
    step: int
    start: int
    rest: int
    down: bool
    high: int

    def wraps(self, count: U64) -> U64:
        turns = count // np.uint64(min(self.period, 2**63))
        inside = count % np.uint64(min(self.period, 2**63))
        return turns + (inside >= np.uint64(min(self.period - self.start, 2**63))).astype(np.uint64)

    def values(self, count: U64, part: str) -> U64:
        inside = count % np.uint64(min(self.period, 2**63))
        left = np.uint64(min(self.period - self.start, 2**63))
        wrapped = inside >= left
        place = np.where(wrapped, inside - np.where(wrapped, left, np.uint64(0)), inside + np.uint64(self.start))
        offset = place * np.uint64(self.step) + np.uint64(self.rest)
        return np.uint64(self.high) - offset if self.down else np.uint64(self.low) + offset


@dataclass(frozen=True)
class _Listed(_Sequence):
    """Values in the order they appear; one period of them."""

    order: U64 = field(repr=False)

    def values(self, count: U64, part: str) -> U64:
        return self.order[(count % np.uint64(self.period)).astype(np.int64)]


@dataclass(frozen=True)
class _Tuple(_Sequence):
    variable: TupleVar

    def values(self, count: U64, part: str) -> U64:
        var = self.variable
        place = count % np.uint64(self.period)
        addresses = np.uint64(var.ip_high - var.ip_low + 1)
        if part == "ip":
            return np.uint64(var.ip_low) + place % addresses
        low, high = _tuple_ports(var)
        return np.uint64(low) + place // addresses % np.uint64(high - low + 1)


def _tuple_ports(var: TupleVar) -> tuple[int, int]:
    return (_UNLIMITED_MIN_PORT, 0xFFFF) if var.any_port else (var.port_low, var.port_high)


def pad_range(var: FlowVar) -> FlowVar:
    """The variable with its range widened to a multiple of the step (``inc`` raises max, ``dec`` lowers min).

    Raises ``FieldEngineError`` where that would leave the 64-bit numbers.
    """
    if var.values or var.op == "random":
        return var
    missing = -(var.high - var.low + 1) % var.step
    if var.op == "inc" and var.high + missing < 1 << 64:
        return replace(var, high=var.high + missing)
    if var.op == "dec" and var.low >= missing:
        return replace(var, low=var.low - missing)
    raise FieldEngineError(
        "VM: could not pad range to be a true cycle - '(max_value - min_value + 1) % step' should be zero"
    )


def _counter(var: FlowVar) -> _Counter:
    var = pad_range(var)
    distance = var.high - var.init if var.op == "dec" else var.init - var.low
    start, rest = divmod(distance, var.step)
    period = (var.high - var.low + 1) // var.step
    return _Counter(period, var.low, var.step, start, rest, var.op == "dec", var.high)


def _listed(var: FlowVar) -> _Listed:
    values = var.values[::-1] if var.op == "dec" else var.values
    period = len(values) // math.gcd(len(values), var.step)
    return _Listed(period, np.array([values[i * var.step % len(values)] for i in range(period)], dtype=np.uint64))


def _random(low: int, high: int, count: int, seed: int) -> U64:
    generator = np.random.default_rng(seed)
    return generator.integers(low, high, size=count, dtype=np.uint64, endpoint=True)


def _sequence(var: Variable, seed: int) -> _Sequence:
    if isinstance(var, TupleVar):
        low, high = _tuple_ports(var)
        flows = (var.ip_high - var.ip_low + 1) * (high - low + 1)
        return _Tuple(var.limit or flows, var)
    if isinstance(var, RandomLimit):
        if var.limit > MAX_ENTRIES:
            raise FieldEngineError(_too_long(var.limit))
        return _Listed(var.limit, _random(var.low, var.high, var.limit, var.seed))
    if var.op == "random":
        if var.values:
            picks = _random(0, len(var.values) - 1, RANDOM_PERIOD, seed)
            return _Listed(RANDOM_PERIOD, np.array(var.values, dtype=np.uint64)[picks.astype(np.int64)])
        return _Listed(RANDOM_PERIOD, _random(var.low, var.high, RANDOM_PERIOD, seed))
    return _listed(var) if var.values else _counter(var)


def _too_long(entries: int) -> str:
    return (
        f"field engine: the frames repeat only after {entries} packets and at most {MAX_ENTRIES} are prepared ahead; "
        "use smaller ranges, ranges that share factors, or the stream's cache size"
    )


# ---- the program --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Driven:
    """A variable's sequence, the variable that drives it (None: advances with every packet), its overall period."""

    sequence: _Sequence
    driver: str | None
    period: int
    size: int


def _index(program: Sequence[Instruction], seed: int) -> dict[str, _Driven]:
    """Every variable by name, chains of ``next_var`` resolved."""
    found: dict[str, _Driven] = {}
    previous: Variable | None = None
    for number, item in enumerate(program):
        if not isinstance(item, (FlowVar, RandomLimit, TupleVar)):
            if previous is not None and not isinstance(previous, TupleVar) and previous.next_var:
                raise FieldEngineError(f"instruction id '{number - 1}': next_var must name the next instruction")
            previous = None
            continue
        if item.name in found:
            raise FieldEngineError(f"instruction id '{number}' flow variable name {item.name} already exists")
        driver = None if previous is None or isinstance(previous, TupleVar) else previous.next_var or None
        if driver is not None and driver != item.name:
            raise FieldEngineError("Next instruction name does not match next_var")
        sequence = _sequence(item, seed + number)
        before = found[previous.name].period if driver is not None and previous is not None else 1
        driver_name = previous.name if driver is not None and previous is not None else None
        size = 0 if isinstance(item, TupleVar) else item.size
        found[item.name] = _Driven(sequence, driver_name, sequence.period * before, size)
        previous = item
    if previous is not None and not isinstance(previous, TupleVar) and previous.next_var:
        raise FieldEngineError("Last instruction in the list of instructions has next_var")
    return found


def _split(variables: dict[str, _Driven], name: str, number: int) -> tuple[_Driven, str, int]:
    """Variable, tuple member and byte size that a write's name refers to."""
    if name in variables and variables[name].size:
        return variables[name], "", variables[name].size
    base, _, part = name.rpartition(".")
    if base in variables and not variables[base].size and part in ("ip", "port"):
        return variables[base], part, 4 if part == "ip" else 2
    raise FieldEngineError(f"instruction id '{number}' packet write with no valid flow variable name '{name}'")


def _advances(variables: dict[str, _Driven], var: _Driven, count: int) -> U64:
    """How often a variable has advanced before each of the first ``count`` packets."""
    if var.driver is None:
        return np.arange(count, dtype=np.uint64)
    driver = variables[var.driver]
    return driver.sequence.wraps(_advances(variables, driver, count))


class _Builder:
    """Runs a program over all rows at once."""

    def __init__(self, template: bytes, program: Sequence[Instruction], seed: int) -> None:
        self.template = template
        self.program = list(enumerate(program))
        self.variables = _index(program, seed)
        self.lengths: npt.NDArray[np.uint16] | None = None

    def entries(self, cache: int, needed: int) -> int:
        """Rows of the table: the cache size, else the common period of all variables that matter.

        No more than the ``needed`` packets (0 = endless) are prepared.
        """
        if cache:
            return min(cache, needed) if needed else cache
        count = 1
        for number, item in self.program:
            if isinstance(item, (Write, WriteMask, Trim)):
                count = math.lcm(count, _split(self.variables, item.name, number)[0].period)
        if needed:
            count = min(count, needed)
        if count > MAX_ENTRIES:
            raise FieldEngineError(_too_long(count))
        return count

    def width(self) -> int:
        """Bytes of a row: all that instructions write, rounded up to 8, at least one cell."""
        touched = _MIN_WIDTH
        for number, item in self.program:
            end = self._end(number, item)
            if end > len(self.template):
                raise FieldEngineError(
                    f"instruction id '{number}' packet write with packet_offset {end} "
                    f"bigger than packet size {len(self.template)}"
                )
            if end > MAX_WIDTH:
                raise FieldEngineError(f"instruction id '{number}' writes beyond the first {MAX_WIDTH} bytes")
            touched = max(touched, -(-end // 8) * 8)
        return min(touched, len(self.template))

    def _end(self, number: int, item: Instruction) -> int:
        if isinstance(item, Write):
            return item.offset + _split(self.variables, item.name, number)[2]
        if isinstance(item, WriteMask):
            _split(self.variables, item.name, number)
            if item.size not in (1, 2, 4):
                raise FieldEngineError(f"instruction id '{number}' cast size should be 1,2,4 it is {item.size}")
            return item.offset + item.size
        if isinstance(item, FixIpv4):
            return item.offset + 20
        if isinstance(item, FixTransport):
            return item.l2 + item.l3 + {L4_UDP: 8, L4_TCP: 20}.get(item.l4_type, 0)
        if isinstance(item, FixIcmpv6):
            return item.l2 + item.l3 + 4
        return 0

    def run(self, cache: int, needed: int) -> Table:
        """The finished table."""
        count, width = self.entries(cache, needed), self.width()
        if count * width > MAX_BYTES:
            raise FieldEngineError(f"field engine: {count} headers of {width} bytes exceed {MAX_BYTES >> 20} MiB")
        rows = np.tile(as_row(self.template[:width]), (count, 1))
        for number, item in self.program:
            self._apply(number, item, rows)
        return Table(rows, self.lengths)

    def _apply(self, number: int, item: Instruction, rows: Rows) -> None:
        if isinstance(item, Write):
            values, size = self._values(number, item.name, len(rows))
            _store(rows, item.offset, size, values + np.uint64(item.add & (1 << 64) - 1), item.big_endian)
        elif isinstance(item, WriteMask):
            self._write_mask(number, item, rows)
        elif isinstance(item, Trim):
            self._trim(number, item, len(rows))
        elif isinstance(item, FixIpv4):
            checksums.fix_ipv4(rows, item.offset)
        elif isinstance(item, FixTransport):
            protocol = {L4_UDP: checksums.UDP, L4_TCP: checksums.TCP, L4_IP: None}.get(item.l4_type, -1)
            if protocol == -1:
                raise FieldEngineError(f"instruction id '{number}' fix hw command L4 should be TCP or UDP")
            checksums.fix_transport(rows, self.template, item.l2, item.l3, protocol)
        elif isinstance(item, FixIcmpv6):
            checksums.fix_transport(rows, self.template, item.l2, item.l3, checksums.ICMPV6)

    def _values(self, number: int, name: str, count: int) -> tuple[U64, int]:
        var, part, size = _split(self.variables, name, number)
        return var.sequence.values(_advances(self.variables, var, count), part), size

    def _write_mask(self, number: int, item: WriteMask, rows: Rows) -> None:
        values, _ = self._values(number, item.name, len(rows))
        values = values + np.uint64(item.add & (1 << 64) - 1) & np.uint64(0xFFFF_FFFF)
        shift = np.uint64(min(abs(item.shift), 63))
        values = values << shift if item.shift >= 0 else values >> shift
        old = _load(rows, item.offset, item.size, item.big_endian)
        mask = np.uint64(item.mask)
        _store(rows, item.offset, item.size, (old & ~mask) | (values & mask), item.big_endian)

    def _trim(self, number: int, item: Trim, count: int) -> None:
        var = next((one for _, one in self.program if isinstance(one, FlowVar) and one.name == item.name), None)
        if var is None or var.size != 2:
            raise FieldEngineError(
                f"instruction id '{number}' packet size change should point to a flow variable with size 2"
            )
        values, _ = self._values(number, item.name, count)
        self.lengths = np.clip(values, MIN_FRAME, len(self.template)).astype(np.uint16)


def _byte_shifts(size: int, big_endian: bool) -> list[int]:
    shifts = [8 * index for index in range(size)]
    return shifts[::-1] if big_endian else shifts


def _store(rows: Rows, offset: int, size: int, values: U64, big_endian: bool) -> None:
    for index, shift in enumerate(_byte_shifts(size, big_endian)):
        rows[:, offset + index] = (values >> np.uint64(shift)).astype(np.uint8)


def _load(rows: Rows, offset: int, size: int, big_endian: bool) -> U64:
    values = np.zeros(len(rows), dtype=np.uint64)
    for index, shift in enumerate(_byte_shifts(size, big_endian)):
        values |= rows[:, offset + index].astype(np.uint64) << np.uint64(shift)
    return values


def limit_trim(program: Sequence[Instruction], frame_length: int) -> list[Instruction]:
    """The program with every variable that trims frames kept within 60..``frame_length``, as TRex does."""
    trimming = {item.name for item in program if isinstance(item, Trim)}
    result: list[Instruction] = []
    for item in program:
        if isinstance(item, FlowVar) and item.name in trimming and not item.values:
            low, high = max(item.low, MIN_FRAME), min(item.high, frame_length)
            if low > high:
                raise FieldEngineError(f"min packet size {low} is bigger than max packet size {high}")
            item = replace(item, low=low, high=high, init=min(max(item.init, low), high))
        result.append(item)
    return result


def mean_length(program: Sequence[Instruction], frame_length: int) -> float:
    """Mean frame length without FCS: the middle of the trimming variable's range, else the template's length."""
    trims = [item.name for item in program if isinstance(item, Trim)]
    for item in limit_trim(program, frame_length):
        if isinstance(item, FlowVar) and item.name in trims:
            return sum(item.values) / len(item.values) if item.values else (item.low + item.high) / 2
    return float(frame_length)


def build_table(
    template: bytes, program: Sequence[Instruction], cache: int = 0, seed: int = 0, needed: int = 0
) -> Table:
    """One period of a stream's headers.

    ``template``: the frame without FCS, at least 60 bytes. ``cache``: number of packets to prepare instead of a full
    period (0 = full period). ``needed``: packets the stream sends in all (0 = endless). Raises ``FieldEngineError``
    for programs that are wrong or do not repeat within ``MAX_ENTRIES`` packets.
    """
    return _Builder(template, limit_trim(program, len(template)), seed).run(cache, needed)
