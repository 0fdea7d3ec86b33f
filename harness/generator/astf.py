# SPDX-License-Identifier: Apache-2.0
"""The Generator contract for role accept on a testbed: TCP connections made by TRex's stateful mode (ASTF).

TRex is the client only, its own TCP stack sends from an even port; the DUT is the server. What was begun, completed and
failed is counted by TRex: ``sent`` are its ``tcps_connattempt``, ``received`` the connections that its client's program
saw through to the whole reply in time. A connection that needed a second SYN is not one of them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

from harness.errors import GeneratorError
from harness.generator.channel import AgentClient
from harness.generator.contract import (
    CapturedFrame,
    DirectionResult,
    LatencyResult,
    SelfReport,
    TrafficResult,
    TrafficSpec,
)
from harness.generator.driven import Driven
from harness.generator.histogram import Histogram, percentile
from harness.generator.trex import Server
from harness.plan import TREX_ASTF, DirectionPlan, FlowPlan

_CALL_S = 60.0
#: More than this share of its time over it, or this long, the client was late.
_LATE, _LATE_S = 0.005, 0.005
#: Times in the capture are those of TRex's data plane, told in microseconds.
_RESOLUTION_NS = 1000
#: Most connections of one trial: each has an address and a port of its own.
MOST = 64 * 64512


def request(flows: FlowPlan) -> bytes:
    """What every connection asks: what a server of role accept reads up to its empty line."""
    return f"GET / HTTP/1.1\r\nHost: {flows.dst_ip}:{flows.dst_port}\r\n\r\n".encode("ascii")


class AstfGenerator(Driven):
    """TRex's stateful client, driven through the agent. Implements :class:`harness.generator.contract.Generator`; rates
    are connections per second, counts are connections."""

    def __init__(self, agent: AgentClient, server: Server, port: int) -> None:
        super().__init__(agent, {
            "client": "astf", "server": server.host, "sync_port": server.sync_port, "async_port": server.async_port,
            "trex_dir": server.trex_dir, "ports": [port],
        }, _CALL_S)
        self._here = server.here
        self._direction: DirectionPlan | None = None

    def describe(self) -> Mapping[str, Any]:
        return {k: v for k, v in self._about.items() if k != "ports"} | {"kind": TREX_ASTF, "tcp": "TRex's own"}

    def configure(self, traffic: TrafficSpec) -> None:
        if len(traffic.directions) != 1:
            raise GeneratorError("connections have one direction, from their client to their server")
        direction, = traffic.directions
        flows = direction.flows
        if flows.version != 4 or direction.vlan is not None:
            raise GeneratorError("TRex's connections are driven over untagged IPv4 only")
        self._direction = direction
        self._call("configure", {
            "ip_first": flows.src_ip_first, "ips": flows.src_ips, "dst_ip": flows.dst_ip,
            "dst_port": flows.dst_port, "dst_mac": direction.dst_mac,
            "request": base64.b64encode(request(flows)).decode(),
        }, _CALL_S)

    def trial(self, rate_pps: float, duration_s: float) -> TrafficResult:
        if self._direction is None:
            raise GeneratorError("configure the traffic before a trial")
        if rate_pps * duration_s > MOST:
            raise GeneratorError(f"{rate_pps:,.0f} connections/s for {duration_s:g} s are more than the {MOST:,} of "
                                 "one trial; shorten the trial")
        raw = self._call("trial", {"rate_pps": rate_pps, "duration_s": duration_s}, _CALL_S + 20 * duration_s)
        clock = 0 if self._here else int(raw["now_ns"]) - time.monotonic_ns()
        made = Made(rate_pps, duration_s, raw)
        port = self._direction.tx_port
        direction = DirectionResult(tx_port=port, rx_port=port, asked=made.asked, sent=made.begun,
                                    received=made.in_time, skipped=made.skipped())
        report = SelfReport(
            asked_s=duration_s, real_s=made.took_s, started_ns=int(raw["started_ns"]) - clock,
            ended_ns=int(raw["ended_ns"]) - clock, utilisation=float(raw["utilisation"]),
            queue_full=int(raw["queue_full"]), timed=True, extra={
                "client": made.evidence(),
                "receive_drops": {at: int(counts.get("ierrors", 0)) for at, counts in raw["ports"].items()},
            },
        )
        latency = _replies(port, raw["sample"])
        return TrafficResult([direction], [latency] if latency else [], report, "" if latency else _NO_SAMPLE)

    def exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[bytes]:
        raise GeneratorError("a stateful TRex sends no frames of its own; roles other than accept need t-rex-64 -i "
                             "without --astf")

    def capture(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[CapturedFrame]:
        raise GeneratorError("a stateful TRex captures nothing here; the capture on the DUT has both directions")


@dataclass(frozen=True)
class Made:
    """One trial as TRex counted it: the agent's answer ``raw`` to what was asked for."""

    rate: float
    duration_s: float
    raw: Mapping[str, Any]

    def _count(self, name: str) -> int:
        return int(self.raw["counters"].get(name, 0))

    @property
    def begun(self) -> int:
        """Connections begun: SYNs without their repetitions."""
        return self._count("tcps_connattempt")

    @property
    def in_time(self) -> int:
        """Whole replies within 0.4 s of the SYN."""
        return self._count("user_counter_A")

    @property
    def late(self) -> int:
        """Whole replies that took longer. TRex repeats a SYN after 0.5 s at the earliest, so every connection that
        needed a second one is here, or failed."""
        return self._count("user_counter_B")

    @property
    def refused(self) -> int:
        """SYNs that met a RST: dropped before they were established, and not for a time-out."""
        return max(0, self._count("tcps_conndrops") - self._count("tcps_keepdrops") - self._count("tcps_timeoutdrop"))

    @property
    def took_s(self) -> float:
        """From the first connection begun to the last, and the pause that follows it."""
        return float(self.raw["real_s"])

    @property
    def asked(self) -> int:
        """Connections that the rate asks for, in the time that was really taken when that was too long."""
        wanted = int(self.raw["connections"])
        late = self.took_s - self.duration_s > max(_LATE * self.duration_s, _LATE_S)
        return max(wanted, round(self.rate * self.took_s)) if late else wanted

    def skipped(self) -> dict[str, int]:
        """Connections that TRex left out, by its own reason; what is left over has none."""
        missing = int(self.raw["connections"]) - self.begun
        found = {}
        for reason, counter in (("no free port", "err_c_tuple_err"), ("flow table full", "err_c_nf_throttled"),
                                ("out of memory", "err_no_memory")):
            count = max(0, min(missing, self._count(counter)))
            missing -= count
            if count:
                found[reason] = count
        return found

    def evidence(self) -> dict[str, Any]:
        """For the trial's record. ``refused`` and ``late`` are what the accounting reads of any client."""
        sample, behind = self.raw["sample"], self.raw["behind_s"]
        return {
            "refused": self.refused, "late": self.late,
            "repeated_syns": self._count("tcps_rexmttimeo_syn"), "reset": self._count("tcps_drops"),
            "unfinished": self._count("tcps_testdrops"), "reply_bytes": int(self.raw["reply_bytes"]),
            "behind_ms": None if behind is None else round(float(behind) * 1000, 3),
            "connect": _handshake(sample), "sampled": int(sample["connections"]),
            "trex": dict(self.raw["counters"]), "ports": self.raw["ports"],
        }


_NO_SAMPLE = "none of the connections whose packets TRex captured was answered"


def _handshake(sample: Mapping[str, Any]) -> dict[str, Any] | None:
    """SYN to SYN-ACK of the captured connections, as :class:`harness.records.Handshake` has it."""
    times = [int(ns) for ns in sample["handshake_ns"]]
    if not times:
        return None
    histogram = _histogram(times)
    return {"min_ns": min(times), "max_ns": max(times), "mean_ns": round(fmean(times)), "sd_ns": round(pstdev(times)),
            "samples": len(times), "p50_ns": percentile(histogram, 0.5), "p99_ns": percentile(histogram, 0.99)}


def _replies(port: int, sample: Mapping[str, Any]) -> LatencyResult | None:
    """Request to reply of the captured connections, in their order."""
    times = [int(ns) for ns in sample["reply_ns"]]
    if not times:
        return None
    jitter = fmean(abs(b - a) for a, b in pairwise(times)) if len(times) > 1 else 0.0
    begun = int(sample["connections"])
    return LatencyResult(
        rx_port=port, sent=begun, received=len(times), lost=begun - len(times), out_of_order=0, duplicate=0,
        min_ns=min(times), max_ns=max(times), mean_ns=fmean(times), jitter_ns=jitter, histogram=_histogram(times),
        resolution_ns=_RESOLUTION_NS,
    )


def _histogram(times: Sequence[int]) -> Histogram:
    counts: dict[int, int] = {}
    for ns in times:
        low = ns // _RESOLUTION_NS * _RESOLUTION_NS
        counts[low] = counts.get(low, 0) + 1
    return sorted(counts.items())

