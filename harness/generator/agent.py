# SPDX-License-Identifier: Apache-2.0
"""The agent beside the generator: one file, standard library only, Python 3.6 syntax.

It runs on the generator's host in a process of its own, holds one of two clients with the same interface (TRex's
``trex.stl.api`` from a TRex installation, or the built-in ``stl.py``) or, for TCP connections, TRex's
``trex.astf.api``, and talks JSON lines on stdin and stdout:

    {"id": 1, "op": "connect", "params": {...}}  ->  {"id": 1, "ok": true, "result": {...}}
                                                     {"id": 1, "ok": false, "error": {"kind": K, "message": M}}

Kinds: ``usage`` (bad request), ``generator`` (the generator refused), ``testbed`` (somebody else has it), ``lost`` (the
generator is gone). A broken line
is answered and survived; end of input ends the agent after it has stopped the traffic and released the ports.
Whatever a client prints goes to stderr, never between the replies.
"""

import base64
import binascii
import importlib
import importlib.util
import json
import os
import socket
import struct
import sys
import time
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple

Json = Dict[str, Any]

MAX_LINE = 64 * 1024 * 1024
#: Latency groups start here, so that a human reading the server's statistics knows them.
LATENCY_PG = 1000
#: Counters are read once what was received has stood still this long; frames may wait in a queue of the DUT (seconds).
STILL_S, STILL_DEADLINE_S = 0.02, 2.0
#: What has to stand still on every port.
SETTLING = ("opackets", "ipackets", "oerrors", "ierrors")
#: As long as it is not known how often a NIC brings its counters up to date (TRex asks the driver every time): longer
#: than the second that some take. Known after so many changes were seen.
UNKNOWN_STILL_S, KNOWN_AFTER = 1.5, 5
#: Ports whose counters are the driver's own, right at every moment: xdpgen's, and DPDK's for interfaces of the kernel.
IMMEDIATE = ("net_af_packet",)
#: In the names of a driver's counters (DPDK's xstats) that say what was lost.
NIC_SIGNS = ("drop", "err", "miss", "discard", "out_of_buffer", "no_mbuf", "nombuf")
#: How long a client waits after the last departure: TRex's port counters follow by some 10 ms, xdpgen's at once.
RX_DELAY_MS = {"stl": 0, "trex": 100}
#: TRex prepares frames up to this long, without FCS, ahead of a trial, where a stream has up to so many flows: its
#: field engine then costs the sending core nothing; of longer frames fewer are sent. It is for NICs: in software mode
#: the system calls cost more (asked for 1 Mpps a v3.08 sent 478 and 459 kpps with, 315 and 460 kpps without).
CACHED_BYTES, CACHED_FLOWS = 128, 4096
#: A trial that takes so many times its duration, and a second, is ended: its load is beyond what TRex can send.
STRETCHED = 3.0
#: How often TRex is asked whether it still sends, once its time is up (s).
LOOK_AGAIN_S = 0.003


class UsageError(Exception):
    """The request is not of the protocol."""


class HeldError(Exception):
    """Somebody else has the server's ports."""


# ---------------------------------------------------------------------------------------------- the two clients


def load_builtin(path: str) -> Any:
    """The built-in client from its file, without installing anything."""
    spec = importlib.util.spec_from_file_location("harness_stl", path)
    if spec is None or spec.loader is None:
        raise UsageError("%s cannot be loaded" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness_stl"] = module
    spec.loader.exec_module(module)
    return module


def load_trex(trex_dir: str, mode: str = "stl") -> Any:
    """``trex.stl.api`` (or ``trex.astf.api``) from a TRex installation: the release layout or the source tree's."""
    for tail in ("automation/trex_control_plane/interactive", "scripts/automation/trex_control_plane/interactive"):
        tree = os.path.join(trex_dir, tail)
        if os.path.isdir(os.path.join(tree, "trex", mode)):
            if tree not in sys.path:
                sys.path.insert(0, tree)
            return importlib.import_module("trex.%s.api" % mode)
    raise UsageError("no TRex client below %s: trex_dir must be the directory that holds t-rex-64" % trex_dir)


LISTENS_S, ANSWERS_S = 2.0, 3.0


class Refused(Exception):
    """The server's error to one RPC."""


class RawRpc:
    """RPCs of a TRex server without its client: owns nothing, subscribes to nothing. A socket is used once per
    request and timed out; what is known to crash a server is never sent."""

    def __init__(self, trex_dir: str, host: str, port: int) -> None:
        load_trex(trex_dir)  # it brings the pyzmq that suits this interpreter
        self.zmq = importlib.import_module("zmq")
        self.context = self.zmq.Context()
        self.socket = self.context.socket(self.zmq.REQ)
        self.socket.setsockopt(self.zmq.LINGER, 0)
        self.socket.setsockopt(self.zmq.RCVTIMEO, int(ANSWERS_S * 1000))
        self.socket.setsockopt(self.zmq.SNDTIMEO, int(ANSWERS_S * 1000))
        self.socket.connect("tcp://%s:%d" % (host, port))
        self.handle = {}  # type: Json

    def call(self, method: str, **params: Any) -> Any:
        """The result; Refused with the server's own words, zmq.Again when it stays silent."""
        params.update(self.handle)
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.send(json.dumps(request).encode())
        reply = json.loads(self.socket.recv().decode("utf-8", "replace"))
        if not isinstance(reply, dict) or "error" in reply:
            error = reply.get("error", {}) if isinstance(reply, dict) else {}
            raise Refused(str(error.get("specific_err") or error.get("message") or reply)[:300])
        return reply["result"]

    def introduce(self, mode: str, apis: List[List[int]]) -> None:
        """Agree on the API's version, which every other RPC needs. ``apis``: those to try, (major, minor)."""
        for number, (major, minor) in enumerate(apis):
            try:
                self.handle = {"api_h": self.call("api_sync_v2", name=mode, major=major, minor=minor)["api_h"]}
                return
            except Refused:
                if number + 1 == len(apis):
                    raise

    def close(self) -> None:
        self.socket.close()
        self.context.term()


def look(params: Json) -> Json:
    """Who serves there: nobody, a stranger, or a TRex, with its version, mode, ports and their owners. Changes
    nothing."""
    host, port = str(params["server"]), int(params["sync_port"])
    try:
        socket.create_connection((host, port), LISTENS_S).close()
    except OSError:
        return {"serving": False}
    rpc = RawRpc(params["trex_dir"], host, port)
    try:
        version = rpc.call("get_version")
        mode = str(version["mode"])
        told = {"serving": True, "version": str(version["version"]), "mode": mode, "ports": [], "software": None}
        if mode in params["apis"]:
            rpc.introduce(mode, params["apis"][mode])
            system = rpc.call("get_system_info")
            told["ports"] = port_owners(rpc, mode, system)
            told["software"] = in_software(system) if mode == "STL" else None
        return told
    except (rpc.zmq.ZMQError, Refused, ValueError, KeyError, TypeError, AttributeError) as error:
        return {"serving": False, "stranger": "it does not answer as one: %s: %s" % (type(error).__name__, error)}
    finally:
        rpc.close()


def port_owners(rpc: RawRpc, mode: str, system: Json) -> List[Json]:
    """Every port of a server: index, MACs, device, owner ("" where it is free), state."""
    ports = []
    for told in system["ports"]:
        index = int(told["index"])
        owner = rpc.call("get_owner", port_id=index)["owner"]
        profile = {"profile_id": "*"} if mode == "STL" else {}  # an unknown profile would crash the server
        status = rpc.call("get_port_status", port_id=index, block=False, **profile)
        ether = status.get("attr", {}).get("layer_cfg", {}).get("ether", {})
        ports.append({"index": index, "mac": str(told.get("hw_mac") or told.get("src_mac") or ""),
                      "src_mac": str(ether.get("src") or ""), "driver": str(told.get("driver", "")),
                      "pci": str(told.get("pci_addr", "")), "owner": "" if owner == "<FREE>" else str(owner),
                      "state": str(status.get("state", ""))})
    return ports


def in_software(system: Json) -> bool:
    """Whether a stateless server receives every frame in software, by what it can do then: count tagged groups. (Of
    releases before these came, False says nothing.)"""
    return any("tpg" in port.get("rx", {}).get("caps", []) for port in system.get("ports", []))


def take_ports(client: Any, ports: List[int], user: str) -> None:
    """Become the ports' owner, without force: what somebody takes in this moment stays his. Only a port of our own user
    is taken by force, from a harness that died: there is one at a time on a generator's host."""
    for index in ports:
        if index not in client.ports:
            raise HeldError("the server has no port %d; it serves %s" % (index, ", ".join(map(str, client.ports))))
    owners = {index: str(client.ports[index].get_owner() or "") for index in ports}
    for index, owner in sorted(owners.items()):
        if owner not in ("", user):
            raise HeldError("port %d belongs to %r, who uses this TRex; ask for it, or have it released (trex-console: "
                            "release)" % (index, owner[:60]))
    client.acquire(ports=ports, force=user in owners.values())


class Cadence:
    """How often the counters of a server's ports move while frames are sent, learnt from looks at a sending port during
    the first trials: where a NIC or its driver brings them up to date now and then, they stand still in between, and
    what was read then would be too little."""

    def __init__(self, immediate: bool) -> None:
        self.period_s = 0.0 if immediate else None  # type: Optional[float]

    def still_s(self) -> float:
        """How long counters have to stand still to be final: twice the longest time that they did while they rose."""
        return UNKNOWN_STILL_S if self.period_s is None else max(STILL_S, 2.0 * self.period_s)

    def learn(self, looks: List[Tuple[float, int]]) -> None:
        """From (time, counter) of a port that sends, in order."""
        moved = [looks[i][0] for i in range(1, len(looks)) if looks[i][1] != looks[i - 1][1]]
        if len(moved) > KNOWN_AFTER:
            self.period_s = max(moved[i] - moved[i - 1] for i in range(1, len(moved)))


class Session:
    """One connected client, its ports and the streams configured on them."""

    def __init__(self, params: Json) -> None:
        self.kind = params["client"]
        if self.kind not in ("stl", "trex"):
            raise UsageError("client must be stl or trex")
        self.api = load_builtin(params["stl_path"]) if self.kind == "stl" else load_trex(params["trex_dir"])
        self.ports = [int(p) for p in params["ports"]]
        self.latency: Dict[int, Json] = {}
        #: (port, id on it) of each latency stream.
        self.latency_streams: List[Tuple[int, int]] = []
        self.tx_ports: List[int] = []
        #: Of each load stream of a TRex: how many of its frames are prepared ahead, and why none are.
        self.prepared: List[Json] = []
        self.configured: Json = {"streams": []}
        user = str(params.get("user", "harness"))
        self.client = self.api.STLClient(
            username=user, server=params["server"],
            sync_port=int(params["sync_port"]), async_port=int(params["async_port"]), verbose_level="error")
        self.client.connect()
        if self.kind == "trex":
            take_ports(self.client, self.ports, user)
        self.client.reset(ports=self.ports)
        self.cadence = Cadence(self.kind == "stl" or all(
            str(self.client.get_port_info(ports=[port])[0].get("driver")) in IMMEDIATE for port in self.ports))

    def describe(self) -> Json:
        """Server and client versions, and the ports."""
        version = self.client.get_server_version()
        ports = []
        for index in self.ports:
            info = self.client.get_port_info(ports=[index])[0]
            ports.append({"index": index, "mac": info.get("hw_mac") or info.get("src_mac") or "",
                          "speed_gbps": float(info.get("speed", 0)), "driver": str(info.get("driver", "")),
                          "link_up": str(info.get("link", "UP")).upper() != "DOWN"})
        about = {"client": "trex.stl.api" if self.kind == "trex" else "stl", "server": version, "ports": ports,
                 "python": sys.version.split()[0]}
        if self.kind == "trex":
            about["receives_in_software"] = in_software(self.client.get_server_system_info())
        return about

    def ping(self) -> Json:
        """Ask the server something; raises when it is gone."""
        return {"server": self.client.ping_rpc_server()}

    # ------------------------------------------------------------------------------------------------ streams

    def cached(self, spec: Json) -> int:
        """How many frames of a stream TRex prepares before it starts, 0: none. Only as many as there are flows, or it
        would send fewer flows, or some of them more often: its first core takes the flows that do not divide by the
        cores, while the frames that do not are spread over all. It has none for latency streams (every frame has its
        own time). What is prepared is kept, with why it is not, and told with every trial."""
        if self.kind != "trex" or spec["latency_pps"]:
            return 0
        count, cores = int(spec["flows"]["count"]), self.sending_cores()
        why = ""
        if len(spec["frame"]) * 3 // 4 > CACHED_BYTES:
            why = "frames of more than %d bytes" % CACHED_BYTES
        elif count > CACHED_FLOWS:
            why = "more than %d flows" % CACHED_FLOWS
        elif count % cores:
            why = "%d flows do not divide by %d sending cores" % (count, cores)
        frames = 0 if why else count
        self.prepared.append({"stream": spec["name"], "port": int(spec["port"]), "frames": frames, "why_none": why})
        return frames

    def sending_cores(self) -> int:
        """Cores that send from one port."""
        return max(1, int(self.client.get_server_system_info().get("dp_core_count_per_port", 1)))

    def field_engine(self, flows: Json, cached: int = 0) -> Any:
        """Address and port of every flow by TRex's tuple generator, then the checksum that covers them: the IPv4
        header's (UDP's is 0), or over IPv6 UDP's. Of an IPv6 address the last four bytes are the flow's."""
        api, l3, v6 = self.api, flows["l3"], flows["version"] == 6
        l4 = l3 + (40 if v6 else 20)
        fix = (api.STLVmFixChecksumHw(l3_offset=l3, l4_offset=l4, l4_type=api.CTRexVmInsFixHwCs.L4_TYPE_UDP) if v6
               else api.STLVmFixIpv4(offset=l3))
        return api.STLScVmRaw([
            api.STLVmTupleGen(name="flow", ip_min=flows["ip_min"], ip_max=flows["ip_max"],
                              port_min=flows["port_min"], port_max=flows["port_max"], limit_flows=flows["count"]),
            api.STLVmWrFlowVar(fv_name="flow.ip", pkt_offset=l3 + (20 if v6 else 12)),
            api.STLVmWrFlowVar(fv_name="flow.port", pkt_offset=l4),
            fix,
        ], **({"cache_size": cached} if cached else {}))

    def stream(self, spec: Json) -> Any:
        """One protocol stream as an STLStream. Latency streams have a rate of their own and are never scaled."""
        api = self.api
        builder = api.STLPktBuilder(pkt_buffer=base64.b64decode(spec["frame"], validate=True),
                                    vm=self.field_engine(spec["flows"], self.cached(spec)))
        options: Json = {"mac_src_override_by_pkt": 1, "mac_dst_override_mode": 1}
        extra = {}  # type: Json
        if spec["flows"]["version"] == 6:
            extra["fix_checksum"] = True
        if not spec["latency_pps"]:
            extra["mark"] = True
        if self.kind == "stl" and extra:
            options["xdpgen"] = extra
        if spec["latency_pps"]:
            group = LATENCY_PG + len(self.latency)
            self.latency[group] = {"tx_port": spec["port"], "rx_port": spec["rx_port"]}
            return api.STLStream(name=spec["name"], packet=builder, mode=api.STLTXCont(pps=spec["latency_pps"]),
                                 flow_stats=api.STLFlowLatencyStats(pg_id=group), **options)
        return api.STLStream(name=spec["name"], packet=builder, mode=api.STLTXCont(pps=1000.0 * spec["share"]),
                             **options)

    def configure(self, params: Json) -> Json:
        """Replace the streams of all ports."""
        self.configured = params
        self.client.stop(ports=self.ports)
        self.client.remove_all_streams(ports=self.ports)
        self.latency, self.latency_streams, self.prepared = {}, [], []
        for spec in params["streams"]:
            self.add(spec)
        self.tx_ports = sorted({int(s["port"]) for s in params["streams"]})
        return {"latency_groups": sorted(self.latency)}

    def add(self, spec: Json) -> None:
        """One stream; the id of one with latency is kept."""
        port = int(spec["port"])
        told = self.client.add_streams([self.stream(spec)], ports=[port])
        if spec["latency_pps"]:
            self.latency_streams.append((port, int(told[0] if isinstance(told, list) else told)))

    def renew_latency(self) -> None:
        """New packet groups, for TRex's histogram, minimum and maximum begin anew with those only, not with
        clear_stats. The load's streams stay."""
        for port, stream in self.latency_streams:
            self.client.remove_streams([stream], ports=[port])
        self.latency, self.latency_streams = {}, []
        for spec in self.configured["streams"]:
            if spec["latency_pps"]:
                self.add(spec)

    # -------------------------------------------------------------------------------------------------- trials

    def raw(self, method: str, params: Json) -> Any:
        """One RPC of xdpgen's that TRex's API has no name for."""
        return self.client.rpc(method, params)

    def port_counters(self) -> Dict[int, Json]:
        """Counters of every port, as {port: {name: int}}; xdpgen's extra members included."""
        if self.kind == "stl":
            return {p: self.raw("get_port_stats", {"port_id": p}) for p in self.ports}
        stats = self.client.get_stats(ports=self.ports)
        return {p: stats[p] for p in self.ports}

    def trial(self, params: Json) -> Json:
        """Start at a rate, let it end by itself, read every counter once after it has settled."""
        rate, duration = float(params["rate_pps"]), float(params["duration_s"])
        if not (0 < rate < 1e10 and 0 < duration < 86400):
            raise UsageError("rate_pps or duration_s out of range")
        if self.kind == "trex" and self.latency:
            self.renew_latency()
        self.client.clear_stats(ports=self.ports)
        if self.kind == "stl":
            self.raw("x_reset_reports", {})
        before = self.port_counters()
        queue_before = self.queue_full()
        started = time.monotonic()
        # Ports that share a sending core of xdpgen have to begin as one; TRex's have cores of their own.
        together = self.kind == "stl" and len(self.tx_ports) > 1
        try:
            self.client.start(ports=self.tx_ports, mult="%.6fpps" % rate, duration=duration, force=True,
                              synchronized=together)
            ended = self.await_end(started, duration)
        except self.api.STLError:
            if self.client.is_connected():
                self.client.stop(ports=self.tx_ports)  # a trial that failed sends nothing more
            raise
        after, unsettled = self.settled()
        reports = self.raw("x_get_reports", {}) if self.kind == "stl" else []
        first, last = sending_time(reports, int(started * 1e9), int(ended * 1e9))
        result = {"asked_s": duration, "real_s": (last - first) / 1e9, "started_ns": first, "ended_ns": last,
                  "ports": {str(p): difference(before[p], after[p]) for p in self.ports},
                  "latency": self.latency_results(), "queue_full": self.queue_full() - queue_before,
                  "reports": reports, "utilisation": None, "unsettled": unsettled}
        if self.kind == "trex":
            told = self.own_state(duration)
            told["trex"]["prepared"] = self.prepared
            result.update(told)
        # Last of all: the controller takes its own time when the answer arrives.
        result["now_ns"] = int(time.monotonic() * 1e9)
        return result

    def await_end(self, started: float, duration: float) -> float:
        """Wait until all is sent and what comes back has arrived; when sending ended (of TRex to some ms: its ports are
        looked at, for its client counts the time for stragglers from that end, which nobody else sees)."""
        if self.cadence.period_s is None:
            self.watch(started + duration)
        time.sleep(max(0.0, duration - (time.monotonic() - started)))
        if self.kind == "trex":
            self.cut_short(started + STRETCHED * duration + 1.0)
        ended = time.monotonic()
        self.client.wait_on_traffic(ports=self.tx_ports, timeout=max(10.0, duration * 20),
                                    rx_delay_ms=RX_DELAY_MS[self.kind])
        return ended if self.kind == "trex" else time.monotonic()

    def watch(self, until: float) -> None:
        """Learn how often counters move, while frames are sent. What is read here counts for nothing else."""
        port, looks = self.tx_ports[0], []  # type: int, List[Tuple[float, int]]
        while time.monotonic() < until:
            looks.append((time.monotonic(), int(self.client.get_stats(ports=[port])[port]["opackets"])))
            time.sleep(STILL_S)
        self.cadence.learn(looks)

    def cut_short(self, latest: float) -> None:
        """Stop traffic that is still sent at this time: TRex sends every frame of a load, however long that takes, and
        of one that it cannot send by far (line rate in software mode: 30 times the duration) nothing more is learnt."""
        while self.client.is_traffic_active(ports=self.tx_ports):
            if time.monotonic() > latest:
                self.client.stop(ports=self.tx_ports)
                return
            time.sleep(LOOK_AGAIN_S)

    def settled(self) -> Tuple[Dict[int, Json], Json]:
        """The counters, once all have stood still for longer than they do between two updates; read at most until a
        deadline. Second: which then still moved, and for how long they had been watched; empty when they did not."""
        still_s = self.cadence.still_s()
        began = since = time.monotonic()
        moving, counters = [], self.port_counters()  # type: List[str], Dict[int, Json]
        while time.monotonic() - since < still_s:
            if time.monotonic() - began > max(STILL_DEADLINE_S, 3.0 * still_s):
                return counters, {"counters": moving, "watched_s": round(time.monotonic() - began, 3)}
            time.sleep(STILL_S)
            last, counters = counters, self.port_counters()
            moved = ["%s of port %d" % (name, port) for port in self.ports for name in SETTLING
                     if counters[port].get(name) != last[port].get(name)]
            if moved:
                moving, since = moved, time.monotonic()
        return counters, {}

    def queue_full(self) -> int:
        """TRex's count of transmit attempts on a full queue."""
        if self.kind == "stl":
            return 0
        return int(self.client.get_stats(ports=self.ports)["global"].get("queue_full", 0))

    def own_state(self, duration: float) -> Json:
        """What TRex says of itself: CPU share of each core in the busiest second that lay wholly inside the trial, None
        where none did (its history has one figure a second, newest first, at seconds of its own), and of the core that
        receives."""
        inside = slice(1, max(1, int(duration) - 1))
        cores = []
        for core in self.client.get_util_stats().get("cpu", []):
            seconds = [float(value) / 100.0 for value in core.get("history", [])[inside]]
            cores.append({"ports": [int(p) for p in core.get("ports", []) if p >= 0],
                          "utilisation": max(seconds) if seconds else None})
        overall = self.client.get_stats(ports=self.ports)["global"]
        busiest = [core["utilisation"] for core in cores if core["utilisation"] is not None]
        return {"utilisation": max(busiest) if busiest else None,
                "links_down": [port for port in self.ports if self.link_down(port)],
                "trex": {"cores": cores, "receiving_utilisation": float(overall.get("rx_cpu_util", 0.0)) / 100.0,
                         "rx_drop_bps": float(overall.get("rx_drop_bps", 0.0)), "nic": self.nic_errors(),
                         "still_s": self.cadence.still_s()}}

    def nic_errors(self) -> Json:
        """By port, what its driver counts of errors and drops, under the driver's names; those that are not zero."""
        told = {}  # type: Json
        for port in self.ports:
            counted = self.client.get_xstats(port)
            told[str(port)] = {str(name)[:64]: int(value) for name, value in sorted(counted.items())
                               if isinstance(value, int) and value and any(sign in name for sign in NIC_SIGNS)}
        return told

    def link_down(self, port: int) -> bool:
        """Whether a port has no link now, as the server says when asked."""
        return str(self.client.get_port_info(ports=[port])[0].get("link", "UP")).upper() == "DOWN"

    def latency_results(self) -> List[Json]:
        """Per latency group: counts, errors, and the histogram in the finest form that the server offers."""
        if not self.latency:
            return []
        groups = sorted(self.latency)
        if self.kind == "stl":
            answer = self.raw("get_pgid_stats", {"pgids": groups})
            return [self.raw_latency(g, answer) for g in groups]
        answer = self.client.get_pgid_stats(groups)
        return [self.api_latency(g, answer) for g in groups]

    def raw_latency(self, group: int, answer: Json) -> Json:
        """From the RPC's own form, with xdpgen's histogram in ns."""
        route, key = self.latency[group], str(group)
        flow, entry = answer["flow_stats"][key], answer["latency"].get(key, {"lat": {}})
        lat, errors = entry["lat"], entry.get("er", {})
        histogram = lat.get("x_hist_ns", [])
        return {"rx_port": route["rx_port"], "sent": flow["tp"][str(route["tx_port"])],
                "received": flow["rp"][str(route["rx_port"])], "lost": errors.get("drp", 0),
                "out_of_order": errors.get("ooo", 0), "duplicate": errors.get("dup", 0),
                "min_us": lat.get("total_min", 0), "max_us": lat.get("total_max", 0),
                "average_us": lat.get("average", 0), "jitter_us": lat.get("jit", 0),
                "histogram": histogram, "unit_ns": 1, "exact": lat.get("x_exact_ns")}

    def api_latency(self, group: int, answer: Json) -> Json:
        """From TRex's API: its HDR histogram where the server keeps one, else its decimal one, both in us."""
        route = self.latency[group]
        flow, entry = answer["flow_stats"][group], answer["latency"][group]
        lat, errors = entry["latency"], entry["err_cntrs"]
        return {"rx_port": route["rx_port"], "sent": flow["tx_pkts"][route["tx_port"]],
                "received": flow["rx_pkts"][route["rx_port"]], "lost": errors["dropped"],
                "out_of_order": errors["out_of_order"], "duplicate": errors["dup"],
                "min_us": number(lat["total_min"]), "max_us": number(lat["total_max"]),
                "average_us": number(lat["average"]), "jitter_us": number(lat["jitter"]),
                "hdrh": lat.get("hdrh"), "unit_ns": 1000,
                "late": errors.get("seq_too_low", 0),
                "strange": sum(int(v) for v in answer["latency"].get("global", {}).values()),
                "histogram": sorted([int(k), int(v)] for k, v in lat.get("histogram", {}).items())}

    # --------------------------------------------------------------------------------------------- role checks

    def exchange(self, params: Json) -> Json:
        """Push a few frames from one port, return what another (or the same) received within a time; with ``both``
        what was sent as well. ``at``: seconds since the epoch by this host's clock."""
        tx_port, rx_port = int(params["port"]), int(params["rx_port"])
        frames = [base64.b64decode(f, validate=True) for f in params["frames"]]
        self.client.set_service_mode(ports=self.ports, enabled=True)
        try:
            sent = {"tx_ports": [tx_port]} if params.get("both") else {}  # type: Json
            capture = self.client.start_capture(rx_ports=[rx_port], limit=1000, **sent)
            began = time.time() - float(capture["ts"])
            seen: List[Json] = []
            try:
                self.push(tx_port, frames)
                time.sleep(float(params["wait_s"]))
            finally:  # a capture left behind holds the port in service mode
                self.client.stop_capture(capture["id"], seen)
        finally:
            self.client.set_service_mode(ports=self.ports, enabled=False)
        return {"frames": [{"frame": base64.b64encode(as_bytes(p["binary"])).decode(), "at": began + float(p["ts"]),
                            "sent": p["origin"] == "TX"} for p in seen]}

    def push(self, port: int, frames: List[bytes]) -> None:
        """Send frames with the MACs they have."""
        buffers = [self.api.PacketBuffer(f, port_src=False, port_dst=False) for f in frames]
        self.client.push_packets(buffers, ports=[port], force=True)

    def close(self) -> None:
        """Stop, release, disconnect."""
        self.client.stop(ports=self.ports)
        self.client.remove_all_streams(ports=self.ports)
        self.client.disconnect(stop_traffic=False, release_ports=True)


def as_bytes(binary: Any) -> bytes:
    """A captured frame: the two clients return bytes or base64 text."""
    return binary if isinstance(binary, bytes) else base64.b64decode(binary)


def sending_time(reports: List[Json], started_ns: int, ended_ns: int) -> Tuple[int, int]:
    """(start, end) of sending: first and last departure where the generator says (xdpgen), else how long we waited
    (TRex; exact to some 10 ms)."""
    busy = [r for r in reports if r["last_departure_ns"]]
    if not busy:
        return started_ns, ended_ns
    return min(r["first_departure_ns"] for r in busy), max(r["last_departure_ns"] for r in busy)


def difference(before: Json, after: Json) -> Json:
    """Counter differences."""
    return {name: value - before.get(name, 0) for name, value in after.items() if isinstance(value, int)}


# ----------------------------------------------------------------------------------------------- TCP connections


#: How often TRex is asked whether its flows have ended, and how busy its cores are.
LOOK_S, BUSY_S = 0.02, 0.25
#: A connection that took longer from its SYN to the end of the reply is late. TRex repeats a SYN 0.5 s after it at the
#: earliest, so one whose SYN was repeated is always late. Its programs have a clock of 10 ms.
LATE_S = 0.4
#: Flows that are still open so long after the last was begun are given up.
LINGER_S = 2.0
#: Connections of which packets are captured, at most: every 2^n-th. Packets kept: with SYNs repeated, more than four.
SAMPLED, KEPT = 2000, 32000
#: Client addresses of one trial; the next takes others. The server keeps TIME-WAIT for a minute, and the time stamps
#: of TRex's TCP begin anew with every profile: a port used again would be met as an old duplicate (PAWS).
BLOCK, PORTS = 64, 64512
#: What the program of TRex's client counts: whole replies in time and late.
IN_TIME, LATE = "user_counter_A", "user_counter_B"
SYN = 2


class AstfSession:
    """TRex's stateful client (``t-rex-64 -i --astf``): connections from its client port to the DUT, the server."""

    def __init__(self, params: Json) -> None:
        self.api = load_trex(params["trex_dir"], "astf")
        if not hasattr(self.api.ASTFProgram, "add_stats"):
            raise UsageError("this TRex's programs cannot count (ASTFProgram.add_stats); those from v3.00 on can")
        self.port = int(params["ports"][0])
        self.configured: Json = {}
        self.first_ip = self.blocks = self.used = self.reply = 0
        user = str(params.get("user", "harness"))
        self.client = self.api.ASTFClient(
            username=user, server=params["server"],
            sync_port=int(params["sync_port"]), async_port=int(params["async_port"]), verbose_level="error")
        self.client.connect()
        try:
            self.take(user)
        except Exception:
            self.client.disconnect(stop_traffic=False, release_ports=True)
            raise

    def take(self, user: str) -> None:
        """Make the ports ours; only then does reset(), which takes every one by force, take nothing from anybody."""
        self.ports = sorted(self.client.get_all_ports())
        self.threads = max(1, int(self.client.get_server_system_info().get("dp_core_count_per_port", 1)))
        if [port for port in self.ports if port // 2 != self.port // 2]:
            raise UsageError("TRex shares connections out over all its pairs of ports; start it with this pair alone "
                             "(it has ports %s)" % ", ".join(map(str, self.ports)))
        take_ports(self.client, sorted({self.port, *self.ports}), user)
        self.client.reset()

    def describe(self) -> Json:
        """Server and client versions, and the client port."""
        info = self.client.get_port_info(ports=[self.port])[0]
        port = {"index": self.port, "mac": info.get("hw_mac") or info.get("src_mac") or "",
                "speed_gbps": float(info.get("speed", 0)), "driver": str(info.get("driver", "")),
                "link_up": str(info.get("link", "UP")).upper() != "DOWN"}
        return {"client": "trex.astf.api", "server": self.client.get_server_version(), "ports": [port],
                "python": sys.version.split()[0]}

    def ping(self) -> Json:
        """Ask the server something; raises when it is gone."""
        return {"server": self.client.ping_rpc_server()}

    # ------------------------------------------------------------------------------------------------ profile

    def configure(self, params: Json) -> Json:
        """Other addresses: where clients are, where the server is, what they ask. One connection is made to learn how
        long the reply is: TRex waits for a number of bytes."""
        first, count = struct.unpack("!I", socket.inet_aton(params["ip_first"]))[0], int(params["ips"])
        if count < BLOCK or first % BLOCK:
            raise UsageError("clients need blocks of %d addresses, the first a multiple of it" % BLOCK)
        self.configured, self.first_ip, self.blocks = params, first, count // BLOCK
        gateway = self.api.TopoGW(str(self.port), dotted(first), dotted(first + count - 1), params["dst_mac"])
        self.client.topo_clear()
        self.client.topo_load(self.api.ASTFTopology(gws=[gateway]))
        self.client.topo_resolve()
        first_one = self.run(10.0, 0.1, 1, self.asking())
        self.reply = first_one["counters"].get("tcps_rcvbyte", 0)
        return {"reply_bytes": self.reply}

    def asking(self) -> Any:
        """The client of the first connection: whatever is replied."""
        program = self.api.ASTFProgram()
        program.send(base64.b64decode(self.configured["request"], validate=True))
        program.recv(1)
        return program

    def counting(self) -> Any:
        """The client of all others: SYN, request, whole reply, the server's close; replies in time and late told
        apart. (connect() would have to be the first command, and nothing could tell the time before it.)"""
        program = self.api.ASTFProgram()
        program.set_tick_var("begun")
        program.send(base64.b64decode(self.configured["request"], validate=True))
        program.recv(max(1, self.reply))
        program.jmp_dp("begun", "in time", LATE_S)
        program.add_stats(LATE[-1], 1)
        program.jmp("end")
        program.set_label("in time")
        program.add_stats(IN_TIME[-1], 1)
        program.set_label("end")
        return program  # at its end TRex closes, after the server

    def profile(self, program: Any, connections: int) -> Any:
        """One connection a second, to be multiplied, no more than so many in all. TRex wants a server's program too,
        which nothing reaches: the DUT is the server."""
        api, told = self.api, self.configured
        first = self.first_ip + self.used % self.blocks * BLOCK
        self.used += 1
        clients = api.ASTFIPGenDist(ip_range=[dotted(first), dotted(first + BLOCK - 1)], distribution="seq")
        servers = api.ASTFIPGenDist(ip_range=[told["dst_ip"], told["dst_ip"]], distribution="seq")
        addresses = api.ASTFIPGen(dist_client=clients, dist_server=servers,
                                  glob=api.ASTFIPGenGlobal(ip_offset="0.0.0.0"))
        answering = api.ASTFProgram(side="s")
        answering.recv(1)
        port = int(told["dst_port"])
        return api.ASTFProfile(default_ip_gen=addresses, templates=[api.ASTFTemplate(
            client_template=api.ASTFTCPClientTemplate(program=program, ip_gen=addresses, port=port, cps=1,
                                                      limit=connections),
            server_template=api.ASTFTCPServerTemplate(program=answering, assoc=api.ASTFAssociationRule(port=port)))])

    # -------------------------------------------------------------------------------------------------- trials

    def trial(self, params: Json) -> Json:
        """So many connections a second; every counter read once, after the last flow has ended."""
        rate, duration = float(params["rate_pps"]), float(params["duration_s"])
        connections = max(1, round(rate * duration))
        if not (0.5 <= rate < 1e9 and 0 < duration < 86400 and connections <= BLOCK * PORTS):
            raise UsageError("rate_pps or duration_s out of range")
        if not self.configured:
            raise UsageError("configure first")
        every = sampling(connections)
        capture = self.start_sampling(every)
        ahead = time.monotonic() - float(capture["ts"])  # of the server's clock
        packets = []  # type: List[Json]
        try:
            result = self.run(rate, duration, connections, self.counting())
        finally:
            self.client.stop_capture(capture["id"], packets)
        if len(packets) >= KEPT:
            raise RuntimeError("TRex captured more packets than %d connections have" % SAMPLED)
        sample = sampled_times(packets)
        result.update(pace(sample.pop("begun_s"), every / rate, connections / rate, ahead))
        result.update({"asked_s": duration, "sample": sample, "reply_bytes": self.reply,
                       "now_ns": int(time.monotonic() * 1e9)})
        return result

    def run(self, rate: float, duration: float, connections: int, program: Any) -> Json:
        """Load and start, look until every flow has ended, read."""
        self.client.clear_profile()
        self.client.load_profile(self.profile(program, connections))
        self.client.clear_stats()
        queue_before = self.queue_full()
        busy = [0.0]
        # Its flows are begun at 0, 1/rate, 2/rate ...; the limit ends them, the duration only if it could not.
        self.client.start(mult=rate, duration=duration + 1.0 / rate, t_duration=LINGER_S,
                          client_mask=1 << self.port)
        started = asked = time.monotonic()
        deadline = started + 30.0 + 20 * duration
        while self.client.is_traffic_active():
            now = time.monotonic()
            if now > deadline:
                self.client.stop()
                raise RuntimeError("TRex did not end within %.0f s" % (deadline - started))
            if now - asked > BUSY_S:
                asked = now
                busy.append(self.busiest())
            time.sleep(LOOK_S)
        counters = self.client.get_traffic_stats(skip_zero=True)["client"]
        stats = self.client.get_stats(ports=self.ports)
        return {"connections": connections, "counters": integers(counters), "utilisation": max(busy),
                "ports": {str(p): integers(stats[p]) for p in self.ports},
                "queue_full": self.queue_full() - queue_before}

    def queue_full(self) -> int:
        """TRex's count of transmit attempts on a full queue."""
        return int(self.client.get_stats(ports=self.ports)["global"].get("queue_full", 0))

    def busiest(self) -> float:
        """CPU share of the busiest core of our port, 0..1, over TRex's last second."""
        cores = [core for core in self.client.get_util_stats()["cpu"] if self.port in core["ports"]]
        return max([float(core["history"][0]) for core in cores] or [0.0]) / 100.0

    # -------------------------------------------------------------------------------------- times of a sample

    def start_sampling(self, every: int) -> Json:
        """Have the SYNs and requests of every so-many-th connection captured, and what answers them. Each of TRex's
        threads takes its share of the block's addresses in turn, and with every round the next port."""
        told = {"port": int(self.configured["dst_port"]), "ips": max(1, BLOCK // self.threads), "mask": every - 1}
        there = "tcp dst port %(port)d and (tcp[0:2] * %(ips)d + ip[12:4]) & %(mask)d = 0 and tcp[13] & 10 != 0"
        back = "tcp src port %(port)d and (tcp[2:2] * %(ips)d + ip[16:4]) & %(mask)d = 0 and tcp[13] & 11 != 0"
        return dict(self.client.start_capture(
            tx_ports=[self.port], rx_ports=[self.port], limit=KEPT,
            bpf_filter="(%s) or (%s)" % (there % told, back % told)))

    def exchange(self, params: Json) -> Json:
        """Frames of one's own are not sent in this mode."""
        raise UsageError("a stateful TRex sends no frames of its own")

    def close(self) -> None:
        """Stop, release, disconnect."""
        self.client.stop()
        self.client.clear_profile()
        self.client.topo_clear()
        self.client.disconnect(stop_traffic=False, release_ports=True)


def sampling(connections: int) -> int:
    """Every how-many-th connection is captured: a power of two."""
    every = 1
    while connections / every > SAMPLED:
        every *= 2
    return every


def pace(begun_s: List[float], step_s: float, whole_s: float, ahead_s: float) -> Json:
    """How connections were begun, by their captured SYNs ``step_s`` apart if all went well: ``started_ns``/``ended_ns``
    by our clock, ``real_s`` that they took, ``behind_s``: how late the latest was, by the first. With fewer than two
    nothing is known but what was asked."""
    if len(begun_s) < 2:
        now = int(time.monotonic() * 1e9)
        return {"started_ns": now - int(whole_s * 1e9), "ended_ns": now, "real_s": whole_s, "behind_s": None}
    first, last = begun_s[0], begun_s[-1]
    behind = max(at - first - number * step_s for number, at in enumerate(begun_s))
    return {"started_ns": int((first + ahead_s) * 1e9), "ended_ns": int((last + ahead_s) * 1e9),
            "real_s": last - first + step_s, "behind_s": behind}


def sampled_times(packets: List[Json]) -> Json:
    """Of captured connections: when each was begun (s, the server's clock), ns from the SYN (the first, where it was
    repeated) to its answer, ns from the request to the reply."""
    open_at = {}  # type: Dict[bytes, float]
    asked_at = {}  # type: Dict[bytes, float]
    begun = []  # type: List[float]
    handshakes: List[int] = []
    replies: List[int] = []
    for packet in sorted(packets, key=lambda p: float(p["ts"])):
        to_server = packet["origin"] == "TX"
        parsed = tcp_of(as_bytes(packet["binary"]), to_server)
        if parsed is None:
            continue
        key, flags, payload = parsed
        at = float(packet["ts"])
        if to_server and flags & SYN:
            if key not in open_at:
                begun.append(at)
                open_at[key] = at
                asked_at.pop(key, None)
        elif to_server and payload:
            asked_at.setdefault(key, at)
        elif not to_server and flags & SYN and key in open_at:
            handshakes.append(round((at - open_at.pop(key)) * 1e9))
        elif not to_server and payload and key in asked_at:
            replies.append(round((at - asked_at.pop(key)) * 1e9))
    return {"begun_s": begun, "connections": len(begun), "handshake_ns": handshakes, "reply_ns": replies}


def dotted(address: int) -> str:
    """An IPv4 address as it is written."""
    return socket.inet_ntoa(struct.pack("!I", address))


def tcp_of(frame: bytes, to_server: bool) -> Optional[Tuple[bytes, int, int]]:
    """(client's address and port, flags, bytes of payload) of a TCP frame over IPv4."""
    l3 = 14
    if frame[12:14] != b"\x08\x00" or len(frame) < l3 + 40 or frame[l3 + 9] != 6:
        return None
    l4 = l3 + (frame[l3] & 15) * 4
    total = (frame[l3 + 2] << 8) + frame[l3 + 3]
    payload = total - (l4 - l3) - (frame[l4 + 12] >> 4) * 4
    key = frame[l3 + 12:l3 + 16] + frame[l4:l4 + 2] if to_server else frame[l3 + 16:l3 + 20] + frame[l4 + 2:l4 + 4]
    return key, frame[l4 + 13], payload


def integers(counters: Json) -> Json:
    """The counters that are whole numbers and not zero."""
    return {name: value for name, value in counters.items() if isinstance(value, int) and value}


# ------------------------------------------------------------------------------------------------ the protocol


def open_session(params: Json) -> Any:
    """A connected session of the kind asked for."""
    return AstfSession(params) if params["client"] == "astf" else Session(params)


class Agent:
    """Dispatches requests; at most one session."""

    def __init__(self) -> None:
        self.session: Any = None
        self.params: Json = {}
        #: The last call found the server gone.
        self.lost = False

    def connect(self, params: Json) -> Any:
        if self.session is not None:
            raise UsageError("already connected")
        self.session, self.params = open_session(params), params
        return self.session.describe()

    def need(self) -> Any:
        if self.session is None:
            raise UsageError("connect first")
        if self.lost and self.params["client"] != "stl":
            self.reconnect()
        return self.session

    def reconnect(self) -> None:
        """The server was gone: connect anew, once a call, and put the streams back."""
        before = self.session
        try:
            before.client.disconnect(stop_traffic=False, release_ports=False)
        except Exception as error:  # noqa: BLE001 - it is the connection to a server that is gone
            sys.stderr.write("leaving the old connection: %s\n" % error)
        session = open_session(self.params)
        if before.configured.get("streams", before.configured):
            session.configure(before.configured)
        self.session, self.lost = session, False

    def handle(self, op: Any, params: Json) -> Any:
        """One request's result."""
        if op == "hello":
            return {"python": sys.version.split()[0], "pid": os.getpid()}
        if op == "look":
            return look(params)
        if op == "connect":
            return self.connect(params)
        if op == "ping":
            return self.need().ping()
        if op == "configure":
            return self.need().configure(params)
        if op == "trial":
            return self.need().trial(params)
        if op == "exchange":
            return self.need().exchange(params)
        if op == "close":
            self.close()
            return {}
        raise UsageError("unknown op %r: hello, look, connect, ping, configure, trial, exchange, close" % (op,))

    def close(self) -> None:
        """Release the session, if there is one."""
        if self.session is not None:
            session, self.session = self.session, None
            session.close()


def number(value: Any) -> float:
    """A statistic of TRex's client, which has an object in place of a number (StatNotAvailable) where no latency frame
    was received: there are no samples then that the 0 could be taken for."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def failure(request_id: Any, kind: str, error: Exception) -> Json:
    return {"id": request_id, "ok": False,
            "error": {"kind": kind, "message": "%s: %s" % (type(error).__name__, str(error)[:4000])}}


def is_lost(error: Exception) -> bool:
    """Whether the client's error says that the server no longer answers."""
    text = str(error).lower()
    signs = ("timed out", "connection lost", "lost connection", "failed to get server response",
             "api handler provided mismatch", "connection is down", "failed to send message to server",
             "while disconnected")
    return any(sign in text for sign in signs)


def answer(agent: "Agent", line: str) -> Json:
    """The reply to one line of input; every failure becomes a reply."""
    request_id = None
    try:
        try:
            request = json.loads(line)
        except RecursionError:
            raise UsageError("nested too deeply") from None
        if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
            raise UsageError("a request is an object with id, op and an object params")
        if not isinstance(request.get("id"), (int, str, type(None))):
            raise UsageError("an id is a number or a text")
        request_id = request.get("id")
        return {"id": request_id, "ok": True, "result": agent.handle(request.get("op"), request.get("params", {}))}
    except (UsageError, KeyError, ValueError, TypeError, binascii.Error) as error:
        return failure(request_id, "usage", error)
    except HeldError as error:
        return failure(request_id, "testbed", error)
    except Exception as error:  # noqa: BLE001 - the clients raise many types; the reply carries type and text
        agent.lost = agent.lost or is_lost(error)
        return failure(request_id, "lost" if is_lost(error) else "generator", error)


def lines(stream: BinaryIO, limit: int) -> Iterator[Optional[str]]:
    """Lines of at most ``limit`` bytes; None once for a longer one, of which nothing is taken for a request."""
    skipping = False
    for line in iter(lambda: stream.readline(limit), b""):
        ended = line.endswith(b"\n")
        if not skipping:
            skipping = not ended and len(line) >= limit
            yield None if skipping else line.decode("utf-8", "replace")
        elif ended:
            skipping = False


def reply_to(agent: "Agent", line: Optional[str]) -> str:
    """The reply, as JSON, to one of :func:`lines`."""
    if line is None:
        return json.dumps(failure(None, "usage", UsageError("a line is at most %d bytes long" % MAX_LINE)))
    reply = answer(agent, line)
    try:
        return json.dumps(reply)
    except (TypeError, ValueError) as error:
        return json.dumps(failure(reply["id"], "generator", error))


def main() -> None:
    # Clients print; keep the reply channel to ourselves and give them stderr.
    replies = os.fdopen(os.dup(1), "w", 1)
    os.dup2(2, 1)
    agent = Agent()
    try:
        for line in lines(sys.stdin.buffer, MAX_LINE):
            replies.write(reply_to(agent, line) + "\n")
            replies.flush()
    finally:
        agent.close()


if __name__ == "__main__":
    main()
