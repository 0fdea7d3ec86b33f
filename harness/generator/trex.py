# SPDX-License-Identifier: Apache-2.0
"""The driver: the Generator contract on top of the agent, which holds TRex's client or the built-in one."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
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
from harness.generator.frames import flow_frame
from harness.generator.histogram import decode_hdr
from harness.generator.trexhost.release import receives_in_software
from harness.plan import WIRE_OVERHEAD, DirectionPlan

_CALL_S = 30.0


@dataclass(frozen=True)
class Server:
    """Where the RPC server listens, as the agent sees it, and which client to drive it with."""

    client: str
    host: str
    sync_port: int
    async_port: int
    stl_path: str = ""
    trex_dir: str = ""
    #: The agent runs on this machine and so reads our clock.
    here: bool = False


class TrexGenerator(Driven):
    """A TRex (or xdpgen) server driven through the agent. Implements :class:`harness.generator.contract.Generator`."""

    def __init__(self, agent: AgentClient, server: Server, ports: Sequence[int]) -> None:
        super().__init__(agent, {
            "client": server.client, "server": server.host, "sync_port": server.sync_port,
            "async_port": server.async_port, "stl_path": server.stl_path, "trex_dir": server.trex_dir,
            "ports": list(ports),
        }, _CALL_S)
        self._client, self._here = server.client, server.here
        self._traffic: TrafficSpec | None = None

    def describe(self) -> Mapping[str, Any]:
        told = {k: v for k, v in self._about.items() if k != "ports"}
        if "receives_in_software" in told:
            version = str(told["server"].get("version", ""))
            told["receives_in_software"] = receives_in_software(version, told["receives_in_software"])
        return told

    def configure(self, traffic: TrafficSpec) -> None:
        streams = [
            _stream(f"{kind}{number}-{size}", direction, size, share, latency_pps * share)
            for number, direction in enumerate(traffic.directions)
            for kind, latency_pps in (("load", 0.0), ("latency", traffic.latency_pps))
            if kind == "load" or latency_pps
            for size, share in traffic.frames.shares
        ]
        self._call("configure", {"streams": streams}, _CALL_S)
        self._traffic = traffic

    def trial(self, rate_pps: float, duration_s: float) -> TrafficResult:
        if self._traffic is None:
            raise GeneratorError("configure the traffic before a trial")
        deadline = _CALL_S + 20 * duration_s
        raw = self._call("trial", {"rate_pps": rate_pps, "duration_s": duration_s}, deadline)
        self._need_links(raw.get("links_down", []))
        clock = 0 if self._here else int(raw["now_ns"]) - time.monotonic_ns()
        asked = round(rate_pps * duration_s)
        directions = [_direction(d, raw["ports"], asked) for d in self._traffic.directions]
        latency = [_latency(entry) for entry in raw["latency"]]
        missing = _latency_missing(directions, latency) if self._client == "trex" else ""
        return TrafficResult(directions, [] if missing else latency, _self_report(raw, clock), missing)

    def _need_links(self, down: Sequence[int]) -> None:
        """A trial over a wire without a link says nothing of a stack. Raises GeneratorError."""
        assert self._traffic is not None
        used = {port for d in self._traffic.directions for port in (d.tx_port, d.rx_port)}
        lost = sorted(port for port in down if port in used)
        if lost:
            raise GeneratorError(f"port {lost[0]} of the generator has no link after the trial; look at its cable and "
                                 "at the port at the other end, then repeat the run (--resume)")

    def exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[bytes]:
        return [seen.frame for seen in self._exchange(port, frames, rx_port, wait_s, both=False)]

    def capture(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float) -> Sequence[CapturedFrame]:
        return self._exchange(port, frames, rx_port, wait_s, both=True)

    def _exchange(self, port: int, frames: Sequence[bytes], rx_port: int, wait_s: float, *,
                  both: bool) -> list[CapturedFrame]:
        params = {
            "port": port, "rx_port": rx_port, "wait_s": wait_s, "both": both,
            "frames": [base64.b64encode(f).decode() for f in frames],
        }
        raw = self._call("exchange", params, _CALL_S + wait_s)
        return [CapturedFrame(float(f["at"]), bool(f["sent"]), base64.b64decode(f["frame"])) for f in raw["frames"]]


def _stream(name: str, direction: DirectionPlan, frame_bytes: int, share: float, latency_pps: float) -> dict[str, Any]:
    """One stream of the agent's protocol: frames of one size over all flows. ``share``: of the direction's load."""
    flows = direction.flows
    last_ip = ip_address(flows.src_ip_first) + flows.src_ips - 1
    return {
        "name": name, "port": direction.tx_port, "share": share, "latency_pps": latency_pps,
        "rx_port": direction.tx_port if direction.rx_port is None else direction.rx_port,
        "frame": base64.b64encode(flow_frame(direction, frame_bytes)).decode(),
        "flows": {
            "version": flows.version, "l3": direction.l3, "ip_min": _last_word(ip_address(flows.src_ip_first)),
            "ip_max": _last_word(last_ip), "port_min": flows.src_port_first,
            "port_max": flows.src_port_first + flows.src_ports - 1, "count": flows.count,
        },
    }


def _last_word(address: IPv4Address | IPv6Address) -> str:
    """The last four bytes of an address, dotted: what TRex's tuple generator counts in."""
    return str(IPv4Address(int(address) & 0xFFFF_FFFF))


def _latency_missing(directions: Sequence[DirectionResult], latency: Sequence[LatencyResult]) -> str:
    """Why TRex has no latency: where its load comes back and not one latency frame is counted, it is blind to them
    (xdpgen counts both in the same program). Empty when there is some, or nothing came back at all."""
    back = sum(d.received or 0 for d in directions)
    sent = sum(entry.sent for entry in latency)
    if not sent or not back or any(entry.received for entry in latency):
        return ""
    return (
        f"TRex received {back} frames and recognised none of the {sent} latency frames it sent: its receiving core "
        "does not see them with this driver and these port settings; write software: true under generator.trex (a "
        "server that runs: start it with --software), or measure latency with another generator"
    )


def _direction(direction: DirectionPlan, ports: Mapping[str, Any], asked: int) -> DirectionResult:
    """Counters of one direction. xdpgen counts marked frames; TRex counts every frame that its port received."""
    tx = ports[str(direction.tx_port)]
    refused = int(tx.get("x_tx_refused", 0))
    received = None
    if direction.rx_port is not None:
        rx = ports[str(direction.rx_port)]
        received = int(rx.get("x_marked_ipackets", rx["ipackets"]))
    return DirectionResult(
        tx_port=direction.tx_port, rx_port=direction.rx_port, asked=asked, sent=int(tx["opackets"]) + refused,
        received=received, refused=refused, skipped=_skipped(tx),
    )


def _skipped(tx: Mapping[str, Any]) -> dict[str, int]:
    """Departures left out, by reason: xdpgen's members ``x_tx_skipped_<reason>``."""
    prefix = "x_tx_skipped_"
    return {name[len(prefix):]: int(count) for name, count in tx.items() if name.startswith(prefix)}


def _decimal_width(low: int) -> int:
    """Width of a bucket of TRex's decimal histogram: one step of its lowest value's first digit; all below 10 in
    one."""
    return int(10 ** (len(str(low)) - 1)) if low >= 10 else 10


def _latency(entry: Mapping[str, Any]) -> LatencyResult:
    unit = resolution = int(entry["unit_ns"])
    histogram = [(int(low) * unit, int(count)) for low, count in entry["histogram"]]
    if entry.get("hdrh"):
        histogram = decode_hdr(str(entry["hdrh"]))
    elif unit != 1:
        resolution = max((_decimal_width(low // unit) for low, _ in histogram), default=1) * unit
    exact = entry.get("exact") or {}
    return LatencyResult(
        rx_port=int(entry["rx_port"]), sent=int(entry["sent"]), received=int(entry["received"]),
        lost=int(entry["lost"]), out_of_order=int(entry["out_of_order"]), duplicate=int(entry["duplicate"]),
        min_ns=int(exact.get("min", entry["min_us"] * 1000)), max_ns=int(exact.get("max", entry["max_us"] * 1000)),
        mean_ns=float(exact.get("mean", entry["average_us"] * 1000)),
        jitter_ns=float(exact.get("jitter", entry["jitter_us"] * 1000)), histogram=histogram,
        resolution_ns=resolution,
    )


def _trex_state(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a TRex says of itself, kept with the trial as evidence: CPU of each core 0..1, attempts to send on a full
    queue, errors by port, how many frames of each stream were prepared ahead, latency frames that came late or that it
    could not place, and how full its links were."""
    latency = raw["latency"]
    links = {port: {way: _on_wire(c, way, float(raw["real_s"])) for way in ("o", "i")}
             for port, c in raw["ports"].items()}
    return {
        **raw["trex"], "queue_full": int(raw["queue_full"]),
        "errors": {port: {name: int(c.get(name, 0)) for name in ("ierrors", "oerrors")}
                   for port, c in raw["ports"].items()},
        "late_latency": sum(int(entry.get("late", 0)) for entry in latency),
        "strange_latency": max((int(entry.get("strange", 0)) for entry in latency), default=0),
        "link_gbps": links,
        # For tables of one value a trial: of all ports, the busiest link.
        "missed": sum(int(c.get("ierrors", 0)) for c in raw["ports"].values()),
        "link_out_gbps": max((link["o"] for link in links.values() if link["o"] is not None), default=None),
        "link_in_gbps": max((link["i"] for link in links.values() if link["i"] is not None), default=None),
    }


def _unsettled(told: Mapping[str, Any]) -> str:
    """What is said of counters that did not come to rest, a sentence."""
    which = ", ".join(told["counters"])
    return (f"the generator's counters did not come to rest after its traffic had ended ({which}, "
            f"watched for {float(told['watched_s']):.1f} s): frames that are not the test's (ARP, LLDP, a switch "
            "that floods), or a NIC that counts late; what was received may be wrong by those")


def _on_wire(counters: Mapping[str, Any], way: str, seconds: float) -> float | None:
    """Gbit/s on the wire, gaps and preambles included, out ("o") or in ("i")."""
    if seconds <= 0 or f"{way}bytes" not in counters:
        return None
    octets = int(counters[f"{way}bytes"]) + WIRE_OVERHEAD * int(counters[f"{way}packets"])
    return 8e-9 * octets / seconds


def _self_report(raw: Mapping[str, Any], clock_ns: int) -> SelfReport:
    """``clock_ns``: how far the generator host's CLOCK_MONOTONIC is ahead of ours; taken off every time."""
    reports = raw["reports"]
    pauses = [(int(start) - clock_ns, int(length)) for r in reports for start, length in r.get("pause_log", [])]
    utilisation = raw["utilisation"]
    if utilisation is None and reports:
        utilisation = max(float(r["utilisation"]) for r in reports)
    extra: dict[str, Any] = {
        "cores": reports,
        "receive_drops": {port: int(c.get("ierrors", 0)) for port, c in raw["ports"].items()},
    }
    if raw["queue_full"]:
        extra["queue_full"] = int(raw["queue_full"])
    if "trex" in raw:
        extra["trex"] = _trex_state(raw)
    if raw.get("unsettled"):
        extra["unsettled"] = _unsettled(raw["unsettled"])
    return SelfReport(
        asked_s=float(raw["asked_s"]), real_s=float(raw["real_s"]), started_ns=int(raw["started_ns"]) - clock_ns,
        ended_ns=int(raw["ended_ns"]) - clock_ns, utilisation=utilisation, queue_full=int(raw["queue_full"]),
        pauses=pauses, extra=extra,
    )
