# SPDX-License-Identifier: Apache-2.0
"""What netmap's own programs print, as numbers. Written for the programs of 2026-02; ``tests/data`` has real output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import StackError

#: pkt-gen's multiples, without ``-N``; with it figures are whole.
_MULTIPLE = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_STAMP = r"^(\d+\.\d{6}) "
_REPORT = re.compile(_STAMP + r"main_thread \[\d+\] [\d.]+ ?[KMG]?pps \((\d+(?:\.\d+)?) ([KMG]?)pkts [\d.]+ [KMG]?bps"
                     r" in (\d+) usec\) (\d+(?:\.\d+)?) avg_batch (\d+) min_space", re.MULTILINE)
_SUMMARY = re.compile(r"^(?:Received (\d+) packets (\d+) bytes (\d+) events|(Received nothing\.))", re.MULTILINE)
#: A line of the programs' own logging, whose last words are the reason when one gives up.
_REASON = re.compile(r"^(?!\d+\.\d{6} )(?!Usage:)([^\n:]+: [A-Z][^\n]*)$", re.MULTILINE)
_BRIDGE_READY = re.compile(_STAMP + r"main \[\d+\] Ready to go, (\S+) 0x[0-9a-f]+/\d+ <-> (\S+) 0x[0-9a-f]+/\d+\.",
                           re.MULTILINE)
_ZERO_COPY = re.compile(r"zerocopy (NOT )?supported")
_POLL = re.compile(_STAMP + r"main \[\d+\] poll (timeout|ok) ", re.MULTILINE)


@dataclass(frozen=True)
class Report:
    """One line of pkt-gen's reports: ``stamp`` as printed (seconds modulo 1000), ``packets`` received since the last
    one, ``usec`` its length, ``batch`` packets a poll (mean), ``space`` the fewest free slots seen (None: none seen).
    ``exact``: printed with ``-N``, so that ``packets`` is not rounded."""

    stamp: str
    packets: float
    usec: int
    batch: float
    space: int | None
    exact: bool


@dataclass(frozen=True)
class Summary:
    """pkt-gen's summary as it ends: ``events`` are polls that brought packets."""

    packets: int
    size: int
    events: int


@dataclass(frozen=True)
class BridgeReady:
    """What bridge says before it begins: both ports' names as netmap has them, whether frames change hands uncopied."""

    ports: tuple[str, str]
    zero_copy: bool


def reports(text: str) -> Iterator[Report]:
    """pkt-gen's report lines in order."""
    for stamp, number, multiple, usec, batch, space in _REPORT.findall(text):
        exact = not multiple and "." not in number
        yield Report(stamp, float(number) * _MULTIPLE[multiple], int(usec), float(batch),
                     None if space == "99999" else int(space), exact)


def summary(text: str) -> Summary | None:
    """pkt-gen's summary; None when it is not there (it was ended by SIGTERM, or is still running)."""
    found = _SUMMARY.search(text)
    if found is None:
        return None
    return Summary(0, 0, 0) if found[4] else Summary(int(found[1]), int(found[2]), int(found[3]))


def reason(text: str) -> str:
    """Why a program of netmap's could not open a port, in the kernel's words (``nosuch0: No such device or address``);
    "" when it does not say. The usage text that follows is left out."""
    found = _REASON.search(text.split("Usage:")[0])
    return found[1].strip() if found else ""


def bridge_ready(text: str) -> BridgeReady | None:
    """bridge's announcement; None before it."""
    ready = _BRIDGE_READY.search(text)
    copies = _ZERO_COPY.search(text)
    if ready is None:
        return None
    return BridgeReady((ready[2], ready[3]), copies is not None and copies[1] is None)


def bridge_polls(text: str) -> Mapping[str, int]:
    """How many polls bridge reported as ``timeout`` (always) and ``ok`` (with ``-v`` only)."""
    words = [word for _, word in _POLL.findall(text)]
    return {"timeout": words.count("timeout"), "ok": words.count("ok")}


def balancer(text: str) -> Sequence[Mapping[str, int]]:
    """The last record of each ring in lb's JSON lines (``-o 1``), the input first: ``packets_received`` (the input's
    alone), ``packets_forwarded``, ``packets_dropped``. Raises StackError when a line is none of lb's."""
    last: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            record = json.loads(line)
            ring = record["output_ring"]
            names = ["packets_forwarded", "packets_dropped", *(["packets_received"] if ring is None else [])]
            last["" if ring is None else str(int(ring))] = {name: int(record[name]) for name in names}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise StackError(f"netmap: lb printed a line that cannot be read ({error!r}).", line[-500:]) from error
    return [last[ring] for ring in sorted(last, key=lambda ring: (ring != "", int(ring or 0)))]
