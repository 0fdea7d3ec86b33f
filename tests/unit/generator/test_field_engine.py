# SPDX-License-Identifier: Apache-2.0
"""The field engine against values seen on a real TRex's wire, and against a packet-by-packet model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from harness.generator.xdpgen import field_engine as fe

FRAME = bytes(
    Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    / IP(src="16.0.0.1", dst="48.0.0.1")
    / UDP(sport=1025, dport=12)
    / (b"x" * 54)
)


def _u16(table: fe.Table, offset: int, count: int) -> list[int]:
    rows = table.headers
    index = np.arange(count) % len(rows)
    return [int(value) for value in rows[index, offset].astype(int) * 256 + rows[index, offset + 1]]


def _var(**fields: object) -> fe.FlowVar:
    return fe.FlowVar(**({"name": "v", "size": 2, "op": "inc"} | fields))  # type: ignore[arg-type]


WRITE = fe.Write("v", 34, 0, True)


@pytest.mark.parametrize(
    ("var", "expected"),
    [
        (_var(init=3, low=0, high=5), [3, 4, 5, 0, 1, 2, 3]),
        (_var(op="dec", init=3, low=0, high=5), [3, 2, 1, 0, 5, 4, 3]),
        (_var(init=0, low=0, high=9, step=4), [0, 4, 8, 0, 4, 8]),
        (_var(values=(5, 9, 7)), [5, 9, 7, 5]),
        (_var(op="dec", values=(5, 9, 7)), [7, 9, 5, 7]),
        (_var(init=7, low=7, high=7), [7, 7, 7]),
        (_var(size=8, init=2**64 - 2, low=0, high=2**64 - 1), [0xFFFF, 0xFFFF]),
    ],
)
def test_counters_as_seen_on_the_wire(var: fe.FlowVar, expected: list[int]) -> None:
    table = fe.build_table(FRAME, [var, WRITE], needed=20)
    assert _u16(table, 34, len(expected)) == expected


def test_chained_variables() -> None:
    program = [
        _var(name="a", low=0, high=2, next_var="b"),
        _var(name="b", low=0, high=3),
        fe.Write("a", 34, 0, True),
        fe.Write("b", 38, 0, True),
    ]
    table = fe.build_table(FRAME, program)
    assert len(table.headers) == 12
    assert _u16(table, 34, 14) == [0, 1, 2] * 4 + [0, 1]
    assert _u16(table, 38, 14) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 0]


def test_tuples_count_addresses_then_ports() -> None:
    var = fe.TupleVar("t", 0x10000001, 0x10000003, 1025, 1027, 0, False)
    program = [var, fe.Write("t.ip", 26, 0, True), fe.Write("t.port", 34, 0, True)]
    table = fe.build_table(FRAME, program)
    assert len(table.headers) == 9
    assert table.headers[:, 29].tolist() == [1, 2, 3] * 3
    assert _u16(table, 34, 9) == [1025] * 3 + [1026] * 3 + [1027] * 3
    limited = fe.build_table(FRAME, [fe.TupleVar("t", 1, 3, 5, 7, 4, False), *program[1:]])
    assert _u16(limited, 34, 6) == [5, 5, 5, 6, 5, 5]
    any_port = fe.build_table(FRAME, [fe.TupleVar("t", 1, 2, 5, 7, 0, True), *program[1:]])
    assert _u16(any_port, 34, 4) == [1025, 1025, 1026, 1026]


def test_masked_writes() -> None:
    program = [_var(low=0, high=5), fe.WriteMask("v", 34, 2, 0x0FF0, 4, 1, True)]
    values = _u16(fe.build_table(FRAME, program), 34, 6)
    assert values == [0x0401 & 0xF00F | (v + 1) << 4 for v in range(6)]
    right = [_var(low=0x100, high=0x101, init=0x100), fe.WriteMask("v", 34, 1, 0xFF, -4, 0, False)]
    assert fe.build_table(FRAME, right).headers[:, 34].tolist() == [0x10, 0x10]


def test_truncation_and_byte_order() -> None:
    program = [_var(size=1, init=254, low=0, high=255), fe.Write("v", 34, 3, True)]
    assert fe.build_table(FRAME, program).headers[:3, 34].tolist() == [1, 2, 3]
    little = [_var(low=0x102, high=0x102, init=0x102), fe.Write("v", 34, 0, False)]
    assert fe.build_table(FRAME, little).headers[0, 34:36].tolist() == [2, 1]


def test_random_variables_repeat_and_stay_in_range() -> None:
    table = fe.build_table(FRAME, [fe.RandomLimit("v", 2, 3, 7, 10, 20), WRITE])
    values = _u16(table, 34, 9)
    assert values[:3] == values[3:6]
    assert all(10 <= value <= 20 for value in values)
    again = fe.build_table(FRAME, [_var(op="random", low=10, high=20), WRITE], seed=5)
    assert len(again.headers) == fe.RANDOM_PERIOD
    assert set(_u16(again, 34, 4000)) == set(range(10, 21))
    assert (again.headers == fe.build_table(FRAME, [_var(op="random", low=10, high=20), WRITE], seed=5).headers).all()


def test_trimming_changes_lengths_only() -> None:
    program = [_var(low=60, high=96, init=60, step=9), fe.Trim("v")]
    table = fe.build_table(FRAME, program)
    assert table.lengths is not None
    assert table.lengths[:5].tolist() == [60, 69, 78, 87, 96]
    assert fe.mean_length(program, len(FRAME)) == 78
    below = fe.build_table(FRAME, [_var(low=40, high=90, init=40, step=10), fe.Trim("v")])
    assert below.lengths is not None
    assert int(below.lengths.min()) >= 60


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ([_var(size=4, low=0, high=2**21), fe.Write("v", 26, 0, True)], "repeat only after 2097153 packets"),
        ([fe.Write("nope", 34, 0, True)], "no valid flow variable name 'nope'"),
        ([_var(low=0, high=3), fe.Write("v", 95, 0, True)], "bigger than packet size"),
        ([_var(low=0, high=3, next_var="w"), WRITE], "next_var"),
        ([_var(low=0, high=3), _var(low=0, high=3), WRITE], "already exists"),
        ([_var(low=0, high=3), fe.WriteMask("v", 34, 3, 1, 0, 0, True)], "cast size"),
        ([_var(size=4, low=60, high=90, init=60), fe.Trim("v")], "size 2"),
        ([fe.FixTransport(14, 20, 99)], "TCP or UDP"),
        ([_var(low=200, high=300, init=200), fe.Trim("v")], "bigger than max packet size"),
    ],
)
def test_impossible_programs_say_why(program: Sequence[fe.Instruction], reason: str) -> None:
    with pytest.raises(fe.FieldEngineError, match=reason):
        fe.build_table(FRAME, program)


def test_cache_and_bursts_shorten_the_table() -> None:
    long = [_var(size=4, low=0, high=2**31), fe.Write("v", 26, 0, True)]
    assert len(fe.build_table(FRAME, long, cache=255).headers) == 255
    assert len(fe.build_table(FRAME, long, needed=14).headers) == 14


def _is_valid(frame: bytes, layer: type) -> bool:
    given = (Ether(frame)[IP].chksum if IP in Ether(frame) else 0, Ether(frame)[layer].getfieldval(_field(layer)))
    copy = Ether(frame)
    if IP in copy:
        del copy[IP].chksum
    delattr(copy[layer], _field(layer))
    copy = Ether(bytes(copy))
    return given == (copy[IP].chksum if IP in copy else 0, copy[layer].getfieldval(_field(layer)))


def _field(layer: type) -> str:
    return "cksum" if layer is ICMPv6EchoRequest else "chksum"


@pytest.mark.parametrize(
    ("l3", "l4", "fix"),
    [
        (IP(dst="48.0.0.1"), UDP(), fe.FixTransport(14, 20, fe.L4_UDP)),
        (IP(dst="48.0.0.1"), TCP(), fe.FixTransport(14, 20, fe.L4_TCP)),
        (IPv6(dst="2001::1"), UDP(), fe.FixTransport(14, 40, fe.L4_UDP)),
        (IPv6(dst="2001::1"), ICMPv6EchoRequest(), fe.FixIcmpv6(14, 40)),
    ],
)
@pytest.mark.parametrize("payload", [0, 1, 18, 19, 200, 201])
def test_checksums_against_scapy(l3: IP, l4: UDP, fix: fe.Instruction, payload: int) -> None:
    frame = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / l3 / l4 / bytes(range(payload)))
    frame = frame.ljust(60, b"\0")
    offset = 14 + len(l3) - len(l3.payload) - 4
    table = fe.build_table(frame, [_var(size=4, low=1, high=50, init=1), fe.Write("v", offset, 0, True), fix])
    assert len(table.headers) == 50
    for row in table.headers[::7]:
        assert _is_valid(bytes(row) + frame[len(row) :], type(l4))


def _model(instructions: Sequence[fe.Instruction]) -> Iterator[dict[str, int]]:
    """Variables before each packet, stepping one packet at a time."""
    variables = [fe.pad_range(item) for item in instructions if isinstance(item, fe.FlowVar)]
    values = {var.name: var.init for var in variables}
    while True:
        yield dict(values)
        advance = True
        for var in variables:
            if not advance:
                break
            span, base = var.high - var.low + 1, values[var.name] - var.low
            moved = base + var.step if var.op == "inc" else base - var.step
            values[var.name] = var.low + moved % span
            advance = bool(var.next_var) and not 0 <= moved < span
            if not var.next_var:
                advance = True


@st.composite
def _programs(draw: st.DrawFn) -> list[fe.Instruction]:
    count = draw(st.integers(1, 3))
    chained = draw(st.booleans())
    program: list[fe.Instruction] = []
    for number in range(count):
        low = draw(st.integers(50, 300))
        high = draw(st.integers(low, low + 12))
        program.append(
            fe.FlowVar(
                f"v{number}", 2, draw(st.sampled_from(["inc", "dec"])), draw(st.integers(low, high)), low, high,
                draw(st.integers(1, 5)), next_var=f"v{number + 1}" if chained and number + 1 < count else "",
            )
        )  # fmt: skip
    return program + [fe.Write(f"v{number}", 34 + 2 * number, 0, True) for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(_programs())
def test_tables_equal_the_packet_by_packet_model(program: list[fe.Instruction]) -> None:
    table = fe.build_table(FRAME, program)
    count = min(2 * len(table.headers), 3000)
    names = [item.name for item in program if isinstance(item, fe.FlowVar)]
    for number, expected in enumerate(itertools.islice(_model(program), count)):
        row = table.headers[number % len(table.headers)]
        seen = {name: int(row[34 + 2 * i]) * 256 + int(row[35 + 2 * i]) for i, name in enumerate(names)}
        assert seen == expected
