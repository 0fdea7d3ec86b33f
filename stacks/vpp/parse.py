# SPDX-License-Identifier: Apache-2.0
"""What ``vppctl`` prints, as numbers: ``show runtime``, ``show interface``, ``show errors``. VPP 20 to 26.

VPP pads every column to its width and cuts what is longer, so that a name may run into the state after it
("acl-plugin-fa-worker-cleaner-pinterrupt wa"): the names and states of ``show runtime`` are read by column. Newer
versions have the state of a process in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import StackError

_THREAD = re.compile(r"Thread (\d+) (\S+)(?: \(lcore (\d+)\))?")
#: Above each thread's nodes, also where none was called.
_TITLES = re.compile(r"\s*Name\s+State\s+Calls\s+Vectors\s+Suspends\s+\S*Clocks\s+Vectors/Call\s*")
#: Name in 30 characters, state in 12, then numbers, of which VPP leaves the 0 before a decimal point out.
_NODE = re.compile(r"(\S.{29})(.{12})\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+(?:\.\d+)?(?:e-?\d{1,2})?)\s+[0-9.]+\s*")
_STATES = r"up|down|error|up/punt|down/punt|unknown|bond-slave"
_FIRST = re.compile(rf"(\S+)\s+\d+\s+(?:{_STATES})(?:\s+\d+(?:/\d+)+)?(?:\s+(\S+(?: \S+)*)\s+(\d+))?\s*")
_NEXT = re.compile(r"\s+(\S+(?: \S+)*)\s+(\d+)\s*")
_ERROR = re.compile(r"\s*(\d+)\s+(\S+)\s+(\S+(?: \S+)*?)(?:\s+(?:error|warn|info|debug|unknown))?(?:\s+\d+)?\s*")
#: Nodes in the state "polling" that take in no frames.
_NOT_INPUT = ("unix-epoll-input",)
INPUT = "-input"
#: Longer lines are none of VPP's tables.
MOST_LINE = 300


@dataclass(frozen=True)
class Node:
    """One graph node of one thread since its counters were cleared. ``clocks``: a packet (a call where it had no
    packets), to three digits as VPP prints it."""

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
        return tuple(n for n in self.nodes if n.state in ("polling", "interrupt wa", "disabled")
                     and n.name.endswith(INPUT) and n.name not in _NOT_INPUT)

    @property
    def graph(self) -> tuple[Node, ...]:
        """Nodes that work on frames taken in."""
        return tuple(n for n in self.nodes if n.state == "active" and n.vectors)

    def counts(self) -> dict[str, int]:
        """``polls``: calls of its input nodes; ``received``: frames they took in; ``clocks``: spent by the graph's
        nodes on frames (three digits a node); ``calls``: of that called most, so polls with frames at most."""
        polls = sum(node.calls for node in self.inputs)
        most = max((node.calls for node in self.graph), default=0)
        return {"polls": polls, "calls": min(most, polls), "received": sum(node.vectors for node in self.inputs),
                "clocks": round(sum(node.clocks * node.vectors for node in self.graph))}


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) <= MOST_LINE]


def runtime(text: str) -> tuple[Thread, ...]:
    """``show runtime``: every thread with its nodes, of which a thread that did nothing has none; without workers VPP
    prints one thread, unnamed. Raises StackError."""
    threads: list[tuple[str, int, list[Node]]] = []
    titles = False
    for line in _lines(text):
        header = _THREAD.match(line.strip())
        if header:
            threads.append((header[2], int(header[3]) if header[3] else -1, []))
            continue
        titles = titles or _TITLES.fullmatch(line) is not None
        row = _NODE.fullmatch(line)
        if row:
            if not threads:
                threads.append(("vpp_main", -1, []))
            threads[-1][2].append(Node(row[1].strip(), row[2].strip(' "'), int(row[3]), int(row[4]), float(row[6])))
    if not threads or not titles:
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
    """``show errors``: "node: reason" -> count of all threads together, which have lines of their own; empty where
    there are none. Not all of them are losses."""
    found: dict[str, int] = {}
    for row in (_ERROR.fullmatch(line) for line in _lines(text)):
        if row:
            name = f"{row[2]}: {row[3]}"
            found[name] = found.get(name, 0) + int(row[1])
    return found
