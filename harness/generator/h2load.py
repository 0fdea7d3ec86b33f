# SPDX-License-Identifier: Apache-2.0
"""h2load (nghttp2), the client that makes TCP connections at a fixed rate: its command line, its summary, its log.

Each of its clients is one connection: made, one HTTP/1.1 request, one reply, closed. Why this one, and what others did
in the same place, is in docs/tcp-client.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.errors import GeneratorError
from harness.generator.histogram import Histogram

PROGRAM, PACKAGE = "h2load", "nghttp2-client"
#: A connection on which nothing happens for so long has failed. Below the first retransmission of a SYN (1 s), so that
#: a SYN that the server dropped is a failed connection and not a slow one.
PATIENCE_MS = 800
#: How far the pace may be from the rate asked for, and the longest time between two batches. The number of connections
#: is exact in any case; a finer pace would need larger batches, in which one connection waits for the other.
_PACE_ERROR, _LONGEST_PERIOD_MS = 0.01, 2000
#: Its times have this granularity; its log tells microseconds.
LOG_RESOLUTION_NS = 1000
_NS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_COUNTS = re.compile(r"^requests: (\d{1,15}) total, (\d{1,15}) started, (\d{1,15}) done, (\d{1,15}) succeeded, "
                     r"(\d{1,15}) failed, (\d{1,15}) errored, (\d{1,15}) timeout$", re.MULTILINE)
_STATUS = re.compile(r"^status codes: (\d{1,15}) 2xx, (\d{1,15}) 3xx, (\d{1,15}) 4xx, (\d{1,15}) 5xx$", re.MULTILINE)
#: min, max, mean and standard deviation, each a number and its unit.
_CONNECT = re.compile("^time for connect:" + r" +(\d{1,15}(?:\.\d{1,9})?)(us|ms|s)" * 4 + " ", re.MULTILINE)


@dataclass(frozen=True)
class ConnectTimes:
    """What the client tells of the handshakes of connections that succeeded, ns, each to three digits: no
    distribution."""

    min_ns: int
    max_ns: int
    mean_ns: int
    sd_ns: int


@dataclass(frozen=True)
class Summary:
    """The client's own count: ``total`` connections it was told to make, of which ``succeeded`` ended with a complete
    reply of status 2xx; ``failed`` did not connect, were reset, or made no progress for ``PATIENCE_MS``; ``timeout`` of
    those had sent their request. ``connect`` is None when none succeeded."""

    total: int
    started: int
    succeeded: int
    failed: int
    timeout: int
    connect: ConnectTimes | None


@dataclass(frozen=True)
class Replies:
    """Time from a request, which is sent as soon as the handshake is over, to the end of its reply, of connections
    that succeeded. ``jitter_ns``: mean difference between one reply and the next to be asked for."""

    histogram: Histogram
    jitter_ns: float


def pace(rate: float) -> tuple[int, int]:
    """(connections, ms): so many at once, so often, within 1 % of ``rate`` per second with the shortest period."""
    for period in range(1, _LONGEST_PERIOD_MS + 1):
        batch = max(1, round(rate * period / 1000))
        if abs(batch * 1000 / period - rate) <= _PACE_ERROR * rate:
            return batch, period
    raise GeneratorError(f"{rate:g} connections/s are too few for {PROGRAM}; at least 0.5")


def command(url: str, connections: int, rate: float, threads: int, log: str) -> list[str]:
    """The argv that makes ``connections`` connections at ``rate`` per second and writes its log to ``log``."""
    batch, period = pace(rate)
    return [PROGRAM, "--h1", f"--clients={connections}", f"--requests={connections}", f"--rate={batch}",
            f"--rate-period={period}ms", f"--threads={max(1, min(threads, batch, connections))}",
            f"--connection-inactivity-timeout={PATIENCE_MS}ms", f"--log-file={log}", url]


def parse_summary(output: str) -> Summary:
    """The counts that it prints at its end. Raises GeneratorError when they are missing or contradict each other."""
    counts, status = _COUNTS.search(output), _STATUS.search(output)
    if counts is None or status is None:
        raise GeneratorError(f"{PROGRAM} ended without its summary: {output[-500:].strip() or 'no output'}")
    total, started, done, succeeded, failed, errored, timeout = map(int, counts.groups())
    if succeeded + failed != total or int(status[1]) != succeeded or not errored <= failed or done < succeeded:
        raise GeneratorError(f"{PROGRAM} contradicts itself: {counts[0]}; {status[0]}")
    times = _CONNECT.search(output)
    connect = None
    if times is not None and succeeded:  # it times the handshakes of those alone
        low, high, mean, sd = (round(float(times[i]) * _NS[times[i + 1]]) for i in (1, 3, 5, 7))
        connect = ConnectTimes(low, high, mean, sd)
    return Summary(total, started, succeeded, failed, timeout, connect)


def parse_log(lines: Iterable[str]) -> Replies:
    """Its log: start (us since the epoch), HTTP status, us until the end of the reply. Raises GeneratorError."""
    rows = []
    for line in lines:
        fields = line.split("\t")
        if len(fields) < 3 or not all(re.fullmatch(r"-?\d{1,18}\n?", field) for field in fields[:3]):
            raise GeneratorError(f"{PROGRAM} wrote a log line that cannot be read: {line[:100]!r}")
        if 200 <= int(fields[1]) < 300:
            rows.append((int(fields[0]), int(fields[2])))
    histogram = sorted((us * 1000, count) for us, count in Counter(us for _, us in rows).items())
    return Replies(histogram, _jitter([us for _, us in sorted(rows)]) * 1000)


def _jitter(times: Sequence[int]) -> float:
    if len(times) < 2:
        return 0.0
    return sum(abs(b - a) for a, b in pairwise(times)) / (len(times) - 1)
