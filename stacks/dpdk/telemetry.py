# SPDX-License-Identifier: Apache-2.0
"""DPDK's telemetry: version, extended statistics of ports, use of lcores.

``/ethdev/xstats`` is in every version since 20.05; ``/eal/lcore/usage`` since 23.03. What a program has is asked for
(``/``), not concluded from its version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HostError, StackError
from harness.host.contract import Dut

RUNTIME_DIR = "/var/run/dpdk"
LCORE_USAGE = "/eal/lcore/usage"
_XSTATS = "/ethdev/xstats"
_ASK = Path(__file__).with_name("ask_telemetry.py")


@dataclass(frozen=True)
class LcoreUsage:
    """Cycles of all lcores that reported, since recording began. A turn of the loop is busy when it handled at least
    one packet."""

    busy: int
    total: int


class Telemetry:
    """The telemetry socket of one running program. ``prefix``: its EAL file prefix."""

    def __init__(self, dut: Dut, prefix: str) -> None:
        self._dut = dut
        self._socket = f"{RUNTIME_DIR}/{prefix}/dpdk_telemetry.v2"
        self._client = _ASK.read_text(encoding="utf-8")

    def commands(self) -> tuple[str, ...]:
        """Names of what can be asked. Raises StackError."""
        return tuple(str(name) for name in self._ask("/")[0] or ())

    def xstats(self, ports: int) -> list[dict[str, int]]:
        """Extended statistics of ports 0 to ``ports`` - 1. Raises StackError."""
        return [xstats(answer) for answer in self._ask(*(f"{_XSTATS},{port}" for port in range(ports)))]

    def lcore_usage(self) -> LcoreUsage | None:
        """None where no lcore reports. Raises StackError."""
        return lcore_usage(self._ask(LCORE_USAGE)[0])

    def _ask(self, *commands: str) -> list[Any]:
        try:
            done = self._dut.run(["python3", "-c", self._client, self._socket, *commands])
        except HostError as error:
            raise StackError(f"dpdk: its telemetry does not answer: {str(error)[-300:]}") from error
        return answers(done.stdout, commands)


def answers(output: str, commands: Sequence[str]) -> list[Any]:
    """The bare answer to each command, from the client's output. Raises StackError."""
    lines = output.splitlines()[1:]  # after the greeting
    try:
        rows = [json.loads(line) for line in lines]
        return [row[command.partition(",")[0]] for row, command in zip(rows, commands, strict=True)]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise StackError(f"dpdk: an answer of its telemetry could not be read: {error}", output[-2000:]) from error


def xstats(answer: Any) -> dict[str, int]:
    """``/ethdev/xstats``: name -> value. Raises StackError."""
    if not isinstance(answer, Mapping) or not all(isinstance(value, int) for value in answer.values()):
        raise StackError("dpdk: the extended statistics of a port could not be read.", str(answer)[:2000])
    return {str(name): value for name, value in answer.items()}


def lcore_usage(answer: Any) -> LcoreUsage | None:
    """``/eal/lcore/usage``: the sum over lcores; None where none reports (the program records nothing). Raises
    StackError."""
    try:
        busy, total = answer["busy_cycles"], answer["total_cycles"]
        if len(busy) != len(total) or len(total) != len(answer["lcore_ids"]):
            raise ValueError("lists of different lengths")
        return LcoreUsage(sum(busy), sum(total)) if total else None
    except (KeyError, TypeError, ValueError) as error:
        raise StackError(f"dpdk: the use of lcores could not be read: {error}", str(answer)[:2000]) from error
