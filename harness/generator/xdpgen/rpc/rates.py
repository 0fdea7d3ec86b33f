# SPDX-License-Identifier: Apache-2.0
"""Multipliers to factors (trex-stl-rpc.md 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.generator.xdpgen.rpc.errors import BadParams, ExecuteError
from harness.generator.xdpgen.rpc.graph import Graph
from harness.generator.xdpgen.rpc.params import Params

_TYPES = ("raw", "bps", "bpsl1", "pps", "percentage")
_OPS = ("abs", "add", "sub")
#: Over line rate by at most this is float noise, not a request.
_TOLERANCE = 1.0001


@dataclass(frozen=True)
class Multiplier:
    """A client's wish: ``value`` of ``kind``, absolute or relative to the present factor."""

    kind: str
    op: str
    value: float


def parse_multiplier(p: Params, only_absolute: bool) -> Multiplier:
    """The ``mul`` member; ``BadParams`` for zero, unknown types and (if ``only_absolute``) relative values."""
    kind = p.choice("type", _TYPES)
    op = p.text("op")
    value = p.positive("value")
    if value == 0:
        raise BadParams("multiplier can't be zero")
    if op not in _OPS:
        raise BadParams(f"bad op str: {op}")
    if only_absolute and op != "abs":
        raise BadParams("start message can only specify absolute speed rate")
    return Multiplier(kind, op, value)


def _scaled(wanted: float, fixed: float, variable: float, unit: str) -> float:
    if wanted < fixed:
        raise ExecuteError(f"current stream configuration enforces a minimum rate of '{fixed:g}' {unit}")
    if variable <= 0:
        raise ExecuteError("no stream can be scaled to this rate: latency streams keep their own")
    return (wanted - fixed) / variable


def _plain_factor(mul: Multiplier, graph: Graph, speed_bps: float, current: float) -> float:
    variable, fixed = graph.variable, graph.fixed
    if mul.kind == "raw":
        return mul.value
    if mul.kind == "pps":
        return _scaled(mul.value, fixed.pps, variable.pps, "pps")
    if mul.kind == "bps":
        return _scaled(mul.value, fixed.bps_l2, variable.bps_l2, "BPS L2")
    if mul.kind == "bpsl1":
        return _scaled(mul.value, fixed.bps_l1, variable.bps_l1, "BPS L1")
    if mul.op == "abs":
        return _scaled(mul.value / 100 * speed_bps, fixed.bps_l1, variable.bps_l1, "BPS L1")
    return current * mul.value / 100


def effective_factor(mul: Multiplier, graph: Graph, speed_bps: float, force: bool, current: float = 0.0) -> float:
    """The factor by which the streams' own rates are multiplied.

    Raises ``ExecuteError`` below the latency streams' rate and, without ``force``, above line rate.
    """
    if mul.op == "abs":
        factor = _plain_factor(mul, graph, speed_bps, current)
    else:
        # As recorded: the latency streams' rate is subtracted from a relative wish, too.
        change = _plain_factor(mul, graph, speed_bps, current)
        factor = current + change if mul.op == "add" else current - change
        if factor <= 0:
            raise ExecuteError("Update request will lower traffic to less than zero")
    if factor <= 0:
        raise ExecuteError(f"Factor must be positive, got: {factor:g}")
    if force:
        return factor
    expected = graph.variable.bps_l1 * factor + graph.fixed.bps_l1
    if expected / speed_bps > _TOLERANCE:
        raise ExecuteError(
            f"Expected L1 B/W: '{expected / 1e9:g} Gbps' exceeds port line rate: '{speed_bps / 1e9:g} Gbps'"
        )
    if graph.variable.bps_l1 <= 0:
        return factor
    return min(factor, (speed_bps - graph.fixed.bps_l1) / graph.variable.bps_l1)
