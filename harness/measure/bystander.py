# SPDX-License-Identifier: Apache-2.0
"""The bystander: somebody else's connections to the DUT over the port under test, timed while the load runs.

From the generator's side of the wire, plain kernel TCP to the port's own address: connect, wait for the server's
greeting, close. A bypass that takes the whole port away answers none of them; one that takes the test's flows alone
must answer them all.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from harness.errors import GeneratorError, MeasurementError
from harness.generator.channel import AgentClient
from harness.plan import BystanderSettings, WirePlan
from harness.records import MOST_GREETINGS, Bystander, Times

_CALL_S = 10.0

#: (start ns, ns until connected, ns until greeted, reason); None where it did not come to that.
Attempt = tuple[int, int | None, int | None, str]


class BystanderUnavailable(MeasurementError):
    """This testbed has no place from which a bystander could connect; the text says why and what would help."""


class Watch(Protocol):
    """One series of a bystander's connections at a time."""

    def start(self, wire: WirePlan) -> None:
        """Begin connecting to the DUT's end of the wire."""

    def stop(self, start_ns: int | None = None, end_ns: int | None = None) -> Bystander:
        """End; what began within [start, end] (CLOCK_MONOTONIC of this machine) counts, all of it by default."""


class Unavailable:
    """A bystander that this testbed does not allow: every record says so."""

    def __init__(self, settings: BystanderSettings, reason: str) -> None:
        self._settings, self._reason = settings, reason

    def start(self, wire: WirePlan) -> None:
        """Nothing to begin."""

    def stop(self, start_ns: int | None = None, end_ns: int | None = None) -> Bystander:
        return record(self._settings, "", [], reason=self._reason)


class Connections:
    """The prober on the generator's side, asked over JSON lines. ``tcp_port``: of the service on the DUT; ``fifo``:
    real-time priority where it shares the generator's cores, 0 elsewhere."""

    def __init__(self, prober: AgentClient, settings: BystanderSettings, tcp_port: Mapping[str, int],
                 fifo: int) -> None:
        self._prober, self._settings, self._tcp_port, self._fifo = prober, settings, tcp_port, fifo
        self._target, self._clock_ns = "", 0

    def start(self, wire: WirePlan) -> None:
        port = self._tcp_port[wire.host]
        self._target = f"{wire.dut.ip}:{port}"
        before = time.monotonic_ns()
        answer = self._call("start", {
            "source": wire.tg.ip, "address": wire.dut.ip, "port": port, "rate": self._settings.rate,
            "timeout_s": self._settings.timeout_s, "fifo": self._fifo,
        })
        self._clock_ns = int(answer["now_ns"]) - (before + time.monotonic_ns()) // 2

    def stop(self, start_ns: int | None = None, end_ns: int | None = None) -> Bystander:
        answer = self._call("stop", {})
        attempts = [a for a in map(self._ours, answer["attempts"])
                    if (start_ns is None or a[0] >= start_ns) and (end_ns is None or a[0] <= end_ns)]
        return record(self._settings, self._target, attempts)

    def _call(self, op: str, params: Mapping[str, Any]) -> Any:
        """The prober's answer. Its end is not the generator's, which would be restarted."""
        try:
            return self._prober.call(op, params, self._settings.timeout_s + _CALL_S)
        except GeneratorError as error:
            raise MeasurementError(f"the bystander's prober did not {op}: {error}") from error

    def _ours(self, raw: Sequence[Any]) -> Attempt:
        try:
            start, connected, greeted, reason = raw
            times = [None if value is None else int(value) for value in (connected, greeted)]
            return int(start) - self._clock_ns, times[0], times[1], str(reason)[:100]
        except (ValueError, TypeError) as error:
            raise MeasurementError(f"the bystander's prober answered with something unreadable: {error}") from error


def record(settings: BystanderSettings, target: str, attempts: Sequence[Attempt], reason: str = "") -> Bystander:
    """One series as it is stored."""
    greeted = [ns for _, _, ns, _ in attempts if ns is not None]
    return Bystander(
        service=settings.service, target=target, rate=settings.rate, timeout_s=settings.timeout_s,
        attempts=len(attempts), lost=len(attempts) - len(greeted),
        reasons=dict(Counter(why for _, _, ns, why in attempts if ns is None)),
        connected=times([ns for _, ns, _, _ in attempts if ns is not None]), greeted=times(greeted),
        greeted_ns=greeted[:MOST_GREETINGS], reason=reason,
    )


def times(values: Sequence[int]) -> Times | None:
    """Order statistics; a percentile p only where at least 10 / (1 - p) values stand behind it."""
    if not values:
        return None
    ordered = sorted(values)

    def at(p: float) -> int | None:
        enough = len(ordered) * (1 - p) >= 10 * (1 - 1e-9)
        return ordered[math.ceil(p * len(ordered)) - 1] if enough else None

    return Times(samples=len(ordered), min_ns=ordered[0], p50_ns=at(0.5), p90_ns=at(0.9), p99_ns=at(0.99),
                 max_ns=ordered[-1])
