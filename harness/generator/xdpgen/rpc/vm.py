# SPDX-License-Identifier: Apache-2.0
"""Field engine instructions of a stream's JSON to ``field_engine`` instructions, checked as TRex checks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.generator.xdpgen import field_engine as fe
from harness.generator.xdpgen.rpc.errors import BadParams
from harness.generator.xdpgen.rpc.params import Params, whole

#: Instructions per stream, and values in one list.
MAX_INSTRUCTIONS = 256
MAX_VALUES = 65_536
_SIZES = (1, 2, 4, 8)
_OPS = ("inc", "dec", "random")
_UNLIMITED_FLOWS = 1


def _check_range(size: int, init: int, step: int, low: int, high: int) -> None:
    if step == 0:
        raise BadParams("VM: step cannot be 0")
    if high < low:
        raise BadParams(f"VM: requested flow var max value: '{high}' is smaller than min value: {low}")
    if not low <= init <= high:
        raise BadParams(
            f"VM: requested flow var init value: '{init}' should be in range from min value '{low}' "
            f"to max value '{high}'"
        )
    limit = (1 << 8 * size) - 1
    if max(init, step, low, high) > limit:
        raise BadParams(f"VM: requested value is bigger than {limit}")


def _value_list(p: Params, size: int, step: int) -> tuple[int, ...]:
    values = []
    limit = (1 << 8 * size) - 1
    for value in p.array("value_list", MAX_VALUES):
        number = whole(value)
        if number is None or not 0 <= number <= limit:
            raise BadParams(f"VM: requested value is bigger than {limit}")
        values.append(number)
    if step == 0:
        raise BadParams("VM: step cannot be 0")
    if not values or step > len(values):
        raise BadParams("VM: step cannot be bigger than list size")
    return tuple(values)


def _flow_var(p: Params) -> fe.Instruction:
    name, following = p.text("name"), p.text("next_var", "")
    size = p.choice("size", _SIZES)
    op = p.choice("op", _OPS)
    step = p.u64("step")
    p.boolean("split_to_cores", True)
    if p.has("value_list"):
        values = _value_list(p, size, step)
        return fe.FlowVar(name, size, op, step=step, values=values, next_var=following)
    init, low, high = p.u64("init_value"), p.u64("min_value"), p.u64("max_value")
    _check_range(size, init, step, low, high)
    var = fe.FlowVar(name, size, op, init, low, high, step, next_var=following)
    try:
        fe.pad_range(var)
    except fe.FieldEngineError as error:
        raise BadParams(str(error)) from error
    return var


def _random_limit(p: Params) -> fe.Instruction:
    name, following = p.text("name"), p.text("next_var", "")
    size, seed, limit = p.choice("size", _SIZES), p.u64("seed"), p.u64("limit")
    low, high = p.u64("min_value"), p.u64("max_value")
    p.boolean("split_to_cores", True)
    if limit < 1:
        raise BadParams("VM: request random flow var variable with limit of zero")
    _check_range(size, low, 1, low, high)
    return fe.RandomLimit(name, size, limit, seed, low, high, following)


def _tuple(p: Params) -> fe.Instruction:
    var = fe.TupleVar(
        p.text("name"),
        p.u32("ip_min"),
        p.u32("ip_max"),
        p.u16("port_min"),
        p.u16("port_max"),
        p.u32("limit_flows"),
        bool(p.u16("flags") & _UNLIMITED_FLOWS),
    )
    if var.ip_low > var.ip_high or var.port_low > var.port_high:
        raise BadParams("VM: tuple_flow_var: a minimum is larger than its maximum")
    return var


def _write(p: Params) -> fe.Instruction:
    return fe.Write(p.text("name"), p.u16("pkt_offset"), p.i32("add_value"), p.boolean("is_big_endian"))


def _write_mask(p: Params) -> fe.Instruction:
    return fe.WriteMask(
        p.text("name"),
        p.u16("pkt_offset"),
        p.u16("pkt_cast_size"),
        p.u32("mask"),
        p.i32("shift"),
        p.i32("add_value"),
        p.boolean("is_big_endian"),
    )


_PARSERS: dict[str, Callable[[Params], fe.Instruction]] = {
    "fix_checksum_hw": lambda p: fe.FixTransport(p.u16("l2_len"), p.u16("l3_len"), p.u16("l4_type")),
    "fix_checksum_ipv4": lambda p: fe.FixIpv4(p.u16("pkt_offset")),
    "fix_checksum_icmpv6": lambda p: fe.FixIcmpv6(p.u16("l2_len"), p.u16("l3_len")),
    "flow_var": _flow_var,
    "write_flow_var": _write,
    "tuple_flow_var": _tuple,
    "trim_pkt_size": lambda p: fe.Trim(p.text("name")),
    "write_mask_flow_var": _write_mask,
    "flow_var_rand_limit": _random_limit,
}


def parse_instructions(items: list[Any]) -> tuple[fe.Instruction, ...]:
    """Instructions of ``vm.instructions``; unknown types and bad values raise ``BadParams``.

    Unknown variable names and writes past the frame's end are found when the stream is started, as in TRex.
    """
    program = []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadParams(f"'array element: {index + 1} ' is not an object")
        p = Params(item)
        program.append(_PARSERS[p.choice("type", tuple(_PARSERS))](p))
    return tuple(program)
