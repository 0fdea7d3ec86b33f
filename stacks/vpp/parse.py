# SPDX-License-Identifier: Apache-2.0
"""What ``vppctl`` prints, as numbers: ``show runtime``, ``show interface``, ``show errors``. VPP 20 to 25."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import StackError

_THREAD = re.compile(r"Thread (\d+) (\S+)(?: \(lcore (\d+)\))?")
#: Names may run into the state: "acl-plugin-fa-worker-cleaner-pinterrupt wa".
_NODE = re.compile(r"\s*(\S.*?)\s*"
                   r"(polling|active|disabled|done|interrupt(?: wa)?|any wait|event wait|time wait|suspended)"
                   r"\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+(?:\.\d+)?(?:e-?\d{1,2})?)\s+[0-9.]+\s*")
_STATES = r"up|down|unknown|bond-slave"
_FIRST = re.compile(rf"(\S+)\s+\d+\s+(?:{_STATES})(?:\s+\d+(?:/\d+)+)?(?:\s+(\S+(?: \S+)*)\s+(\d+))?\s*")
_NEXT = re.compile(r"\s+(\S+(?: \S+)*)\s+(\d+)\s*")
_ERROR = re.compile(r"\s*(\d+)\s+(\S+)\s+(\S+(?: \S+)*?)(?:\s+(?:error|warn|info|debug))?(?:\s+\d+)?\s*")
#: Nodes in the state "polling" that take in no frames.
_NOT_INPUT = ("unix-epoll-input",)
INPUT = "-input"
#: Longer lines are none of VPP's tables.
MOST_LINE = 300


@dataclass(frozen=True)
class Node:
    """One graph node of one thread since the start. ``clocks``: a packet (a call where it had no packets), to three
    digits as VPP prints it."""

    name: str
    state: str
    calls: int
    vectors: int
    clocks: float


@dataclass(frozen=True)
class Thread:
    """One thread of VPP; ``core`` -1 where it is not pinned."""

    name: str
    core: int
    nodes: tuple[Node, ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        """Nodes that take frames in from devices."""
        return tuple(n for n in self.nodes if n.state in ("polling", "interrupt", "interrupt wa", "disabled")
                     and n.name.endswith(INPUT) and n.name not in _NOT_INPUT)

    @property
    def graph(self) -> tuple[Node, ...]:
        """Nodes that work on frames taken in."""
        return tuple(n for n in self.nodes if n.state == "active" and n.vectors)

    def counts(self) -> dict[str, int]:
        """``polls``: calls of its input nodes; ``vectors``: frames they took in; ``clocks``: spent by the graph's nodes
        on frames (three digits a node); ``busy_calls``: calls of the node called most, so polls with frames at most."""
        polls = sum(node.calls for node in self.inputs)
        most = max((node.calls for node in self.graph), default=0)
        return {"core": self.core, "polls": polls, "vectors": sum(node.vectors for node in self.inputs),
                "clocks": round(sum(node.clocks * node.vectors for node in self.graph)), "busy_calls": min(most, polls)}


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) <= MOST_LINE]


def runtime(text: str) -> tuple[Thread, ...]:
    """``show runtime``: every thread with its nodes; without workers VPP prints one, unnamed. Raises StackError."""
    threads: list[tuple[str, int, list[Node]]] = []
    for line in _lines(text):
        header = _THREAD.match(line.strip())
        if header:
            threads.append((header[2], int(header[3]) if header[3] else -1, []))
            continue
        row = _NODE.fullmatch(line)
        if row:
            if not threads:
                threads.append(("vpp_main", -1, []))
            threads[-1][2].append(Node(row[1], row[2], int(row[3]), int(row[4]), float(row[6])))
    if not any(nodes for _, _, nodes in threads):
        raise StackError("vpp: 'show runtime' could not be read.", text[-2000:])
    return tuple(Thread(name, core, tuple(nodes)) for name, core, nodes in threads)


def interfaces(text: str) -> Mapping[str, Mapping[str, int]]:
    """``show interface``: interface -> counter ("rx packets", "drops", "rx-miss" ...); counters that are zero are not
    printed. Raises StackError."""
    found: dict[str, dict[str, int]] = {}
    current: dict[str, int] | None = None
    for line in _lines(text):
        first = _FIRST.fullmatch(line)
        if first:
            current = found.setdefault(first[1], {})
            if first[2]:
                current[first[2]] = int(first[3])
        elif current is not None and (row := _NEXT.fullmatch(line)):
            current[row[1]] = int(row[2])
    if not found:
        raise StackError("vpp: 'show interface' could not be read.", text[-2000:])
    return found


def errors(text: str) -> Mapping[str, int]:
    """``show errors``: "node: reason" -> count; empty where there are none. Not all of them are losses."""
    rows = (_ERROR.fullmatch(line) for line in _lines(text))
    return {f"{row[2]}: {row[3]}": int(row[1]) for row in rows if row}
