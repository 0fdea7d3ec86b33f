# SPDX-License-Identifier: Apache-2.0
"""What ``dpdk-testpmd`` prints, as numbers. Written for DPDK 22.11; ``tests/data`` holds its real output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import StackError

_NIC_HEADER = re.compile(r"# NIC statistics for port (\d{1,9}) {1,40}#")
_FORWARD_HEADER = re.compile(r"- Forward statistics for port (\d{1,9}) {1,40}-")
_COUNTER = re.compile(r"\b([RT]X-[a-z]{1,40}): {1,40}(\d{1,20})\b")
_BURSTS = re.compile(r"^ *([RT]X)-bursts ?: (\d{1,20}) \[", re.MULTILINE)
#: What ends a section, and how long one can be at most.
_RULE = re.compile(r"\n {0,80}[-+#]{20}")
_MOST_BYTES = 8192


@dataclass(frozen=True)
class Bursts:
    """Polls that testpmd recorded, of all streams: ``rx`` all of them, ``tx`` bursts handed on, which is one for each
    poll that brought frames where the mode sends. (How many brought none it says in whole percentages only.)"""

    rx: int
    tx: int


def answer(output: str, command: str, mark: str) -> str:
    """The part of an interactive session's output between a command's echo and the mark after it.

    Raises StackError when one of the two is not there (an output cut off at its beginning, another version).
    """
    end = output.rfind(mark)
    begin = output.rfind(command, 0, end) if end >= 0 else -1
    if begin < 0:
        raise StackError(f"dpdk: testpmd's answer to '{command}' was not found in its output.", output[-2000:])
    return output[begin + len(command) : end]


def port_statistics(text: str) -> Mapping[int, Mapping[str, int]]:
    """``show port stats all``: port -> counter (``RX-packets``, ``RX-missed``, ``RX-nombuf``, ``TX-packets`` ...)."""
    return _sections(text, _NIC_HEADER, "port statistics")


def forward_statistics(text: str) -> Mapping[int, Mapping[str, int]]:
    """``show fwd stats all``: port -> counter (``RX-packets``, ``RX-dropped``, ``TX-dropped`` ...)."""
    return _sections(text, _FORWARD_HEADER, "forward statistics")


def bursts(text: str) -> Bursts | None:
    """Bursts in ``show fwd stats all``, summed over streams; None while ``record-burst-stats`` is off."""
    found = [(kind, int(count)) for kind, count in _BURSTS.findall(text)]
    if not found:
        return None
    return Bursts(
        rx=sum(count for kind, count in found if kind == "RX"),
        tx=sum(count for kind, count in found if kind == "TX"),
    )


def _sections(text: str, header: re.Pattern[str], what: str) -> dict[int, dict[str, int]]:
    """Counters below each header, up to the rule that ends its section; the first of each name counts."""
    result: dict[int, dict[str, int]] = {}
    for found in header.finditer(text):
        begin, most = found.end(), found.end() + _MOST_BYTES
        rule = _RULE.search(text, begin, most)
        body = text[begin:rule.start() if rule else most]
        counters: dict[str, int] = {}
        for name, value in _COUNTER.findall(body):
            counters.setdefault(name, int(value))
        result[int(found[1])] = counters
    if not result or any("RX-packets" not in counters for counters in result.values()):
        raise StackError(f"dpdk: testpmd's {what} could not be read.", text[-2000:])
    return result
