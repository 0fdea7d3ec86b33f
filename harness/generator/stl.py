# SPDX-License-Identifier: Apache-2.0
"""A built-in client of TRex's stateless RPC: a subset of ``trex.stl.api`` under the same names.

One file, Python 3.6 syntax, standard library and pyzmq only, so that it runs beside any generator. Written from the
protocol (API 5.1); it drives xdpgen and TRex servers v2.8x to v3.x. Classes, methods, parameters and the members of
what is returned are TRex's; what it leaves out: scapy packets (give ``pkt_buffer``), named field-engine offsets
(give numbers), pcap and YAML profiles, TPG, ARP resolution, asynchronous events (the end of traffic is polled).
"""

# ruff: noqa: B905 (zip's ``strict`` needs Python 3.10)
import base64
import getpass
import json
import random
import re
import socket
import struct
import time
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import zmq

#: STL API versions to try, newest first.
API_VERSIONS = ((5, 1), (5, 0))
#: Characters of JSON in one batch.
BATCH_LIMIT = 500000
#: Further waits for an answer after the first time-out.
RECEIVE_RETRIES = 3
ALL_CORES = (1 << 64) - 1
DEFAULT_PROFILE = "_"
EXECUTE_ERROR = -32000

Ports = Union[int, Sequence[int], None]


class TRexError(Exception):
    """A request failed; ``code`` is the JSON-RPC error code where the server gave one."""

    def __init__(self, msg: str, code: Optional[int] = None) -> None:
        super(TRexError, self).__init__(msg)
        self.msg = msg
        self.code = code


class TRexArgumentError(TRexError):
    """An argument has a value that is not possible."""

    def __init__(self, name: str, got: Any, valid_values: Any = None) -> None:
        text = "Argument: '{0}' invalid value: '{1}'".format(name, got)
        if valid_values:
            text += " - valid values are '{0}'".format(valid_values)
        super(TRexArgumentError, self).__init__(text)


class TRexTypeError(TRexError):
    """An argument has a type that is not possible."""

    def __init__(self, name: str, got: Any, valid_types: Any) -> None:
        super(TRexTypeError, self).__init__(
            "Argument: '{0}' invalid type: '{1}', expecting type(s): {2}.".format(name, type(got), valid_types)
        )


class TRexTimeoutError(TRexError):
    """Something took longer than the caller allowed."""

    def __init__(self, timeout: Any) -> None:
        super(TRexTimeoutError, self).__init__("Timeout: operation took more than '{0}' seconds".format(timeout))


STLError = TRexError


# ---- packets and the field engine ---------------------------------------------------------------------------------


def _value(value: Union[int, str]) -> int:
    """An integer, or an IPv4 address as one."""
    if isinstance(value, str):
        return int(struct.unpack("!I", socket.inet_aton(value))[0])
    if isinstance(value, bool) or not isinstance(value, int):
        raise TRexTypeError("value", value, "int or IPv4 address")
    return value


def _offset(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TRexError("field-engine offsets must be numbers here (got {0!r}): named ones need scapy".format(value))
    return value


class _Instruction(object):
    """One instruction; ``fields`` is what the server gets."""

    def __init__(self, kind: str, **fields: Any) -> None:
        self.fields = dict(fields, type=kind)  # type: Dict[str, Any]

    def to_json(self) -> Dict[str, Any]:
        """The instruction as the RPC has it."""
        return dict(self.fields)


class STLVmTupleGen(_Instruction):
    """Addresses and ports: variables ``name.ip`` and ``name.port``."""

    def __init__(
        self,
        name: str,
        ip_min: Union[int, str] = "0.0.0.1",
        ip_max: Union[int, str] = "0.0.0.10",
        port_min: int = 1025,
        port_max: int = 65535,
        limit_flows: int = 100000,
        flags: int = 0,
    ) -> None:
        super(STLVmTupleGen, self).__init__(
            "tuple_flow_var",
            name=name,
            ip_min=_value(ip_min),
            ip_max=_value(ip_max),
            port_min=port_min,
            port_max=port_max,
            limit_flows=limit_flows,
            flags=flags,
        )


class STLVmWrFlowVar(_Instruction):
    """Write a variable into the packet."""

    def __init__(
        self, fv_name: str, pkt_offset: int, offset_fixup: int = 0, add_val: int = 0, is_big: bool = True
    ) -> None:
        super(STLVmWrFlowVar, self).__init__(
            "write_flow_var",
            name=fv_name,
            pkt_offset=_offset(pkt_offset) + offset_fixup,
            add_value=add_val,
            is_big_endian=is_big,
        )


class STLVmFixIpv4(_Instruction):
    """Repair the IPv4 header's checksum."""

    def __init__(self, offset: int) -> None:
        super(STLVmFixIpv4, self).__init__("fix_checksum_ipv4", pkt_offset=_offset(offset))


class CTRexVmInsFixHwCs(object):
    """Numbers of ``STLVmFixChecksumHw``'s ``l4_type``."""

    L4_TYPE_UDP = 11


class STLVmFixChecksumHw(_Instruction):
    """Repair the IPv4 header's and the TCP/UDP checksum."""

    def __init__(self, l3_offset: int, l4_offset: int, l4_type: int) -> None:
        super(STLVmFixChecksumHw, self).__init__(
            "fix_checksum_hw",
            l2_len=_offset(l3_offset),
            l3_len=_offset(l4_offset) - _offset(l3_offset),
            l4_type=l4_type,
        )


class STLScVmRaw(object):
    """A list of instructions. ``cache_size``: packets to prepare ahead instead of computing each."""

    def __init__(self, list_of_commands: Optional[List[_Instruction]] = None, cache_size: Optional[int] = None) -> None:
        self.commands = list(list_of_commands or [])
        self.cache_size = cache_size

    def to_json(self) -> Dict[str, Any]:
        """The program as the RPC has it."""
        result = {"instructions": [command.to_json() for command in self.commands]}  # type: Dict[str, Any]
        if self.cache_size:
            result["cache"] = self.cache_size
        return result


class STLPktBuilder(object):
    """A packet from raw bytes (without FCS), and its field engine."""

    def __init__(
        self,
        pkt: Optional[bytes] = None,
        pkt_buffer: Optional[bytes] = None,
        vm: Union[STLScVmRaw, List[_Instruction], None] = None,
    ) -> None:
        buffer = pkt_buffer if pkt_buffer is not None else pkt
        if not isinstance(buffer, (bytes, bytearray)):
            raise TRexTypeError("pkt_buffer", buffer, "bytes (scapy packets: pass bytes(packet))")
        self.pkt_raw = bytes(buffer)
        self.vm = STLScVmRaw(vm) if isinstance(vm, list) else vm or STLScVmRaw()

    def to_json(self) -> Dict[str, Any]:
        """Packet and program as the RPC has them."""
        binary = base64.b64encode(self.pkt_raw).decode("ascii")
        return {"packet": {"binary": binary, "meta": ""}, "vm": self.vm.to_json()}


class PacketBuffer(object):
    """Bytes for ``push_packets``; ``port_src``/``port_dst``: take the MAC from the port."""

    def __init__(self, buffer: bytes, port_src: bool = False, port_dst: bool = False) -> None:
        self.buffer = buffer
        self.port_src = port_src
        self.port_dst = port_dst


# ---- streams ------------------------------------------------------------------------------------------------------


class STLTXMode(object):
    """A rate in exactly one unit; 1 pps if none is given."""

    def __init__(
        self,
        pps: Optional[float] = None,
        bps_L1: Optional[float] = None,
        bps_L2: Optional[float] = None,
        percentage: Optional[float] = None,
    ) -> None:
        given = [("pps", pps), ("bps_L1", bps_L1), ("bps_L2", bps_L2), ("percentage", percentage)]
        chosen = [(kind, value) for kind, value in given if value is not None] or [("pps", 1.0)]
        if len(chosen) > 1:
            raise TRexError("give the rate in one unit only, not in {0}".format([kind for kind, _ in chosen]))
        kind, value = chosen[0]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TRexTypeError(kind, value, "int or float")
        if kind == "percentage" and not 0 < value <= 100:
            raise TRexArgumentError("percentage", value)
        self.fields = {"rate": {"type": kind, "value": value}}  # type: Dict[str, Any]

    def to_json(self) -> Dict[str, Any]:
        """The mode as the RPC has it."""
        return dict(self.fields)


class STLTXCont(STLTXMode):
    """Until stopped."""

    def __init__(self, **kwargs: Any) -> None:
        super(STLTXCont, self).__init__(**kwargs)
        self.fields["type"] = "continuous"


class STLFlowStats(object):
    """Count the stream in packet group ``pg_id``."""

    rule_type = "stats"

    def __init__(self, pg_id: int, vxlan: bool = False, ieee_1588: bool = False) -> None:
        self.fields = {
            "enabled": True,
            "rule_type": self.rule_type,
            "stream_id": pg_id,
            "vxlan": vxlan,
            "ieee_1588": ieee_1588,
        }

    def to_json(self) -> Dict[str, Any]:
        """The rule as the RPC has it."""
        return dict(self.fields)


class STLFlowLatencyStats(STLFlowStats):
    """Count and measure latency: the last 16 bytes of the frames carry a header."""

    rule_type = "latency"


class STLStream(object):
    """One stream. ``xdpgen``: members for the embedded generator only; TRex servers ignore them."""

    def __init__(
        self,
        name: Optional[str] = None,
        packet: Optional[STLPktBuilder] = None,
        mode: Optional[STLTXMode] = None,
        enabled: bool = True,
        self_start: bool = True,
        isg: float = 0.0,
        flow_stats: Optional[STLFlowStats] = None,
        next: Optional[str] = None,
        stream_id: Optional[int] = None,
        action_count: int = 0,
        random_seed: int = 0,
        mac_src_override_by_pkt: Optional[int] = None,
        mac_dst_override_mode: Optional[int] = None,
        dummy_stream: bool = False,
        start_paused: bool = False,
        core_id: int = -1,
        xdpgen: Optional[Dict[str, Any]] = None,
    ) -> None:
        if packet is None:
            raise TRexError("a stream needs a packet: STLPktBuilder(pkt_buffer=...)")
        mode = mode or STLTXCont(pps=1)
        if isinstance(mode, STLTXCont) and next is not None:
            raise TRexError("Continuous stream cannot have a next stream ID")
        self.name = name
        self.next = next
        self.id = stream_id
        flags = int(bool(mac_src_override_by_pkt)) | int(mac_dst_override_mode or 0) << 1 | int(dummy_stream) << 3
        self.fields = {
            "flags": flags,
            "action_count": action_count,
            "enabled": enabled,
            "self_start": self_start,
            "start_paused": start_paused,
            "isg": isg,
            "core_id": core_id,
            "mode": mode.to_json(),
            "flow_stats": flow_stats.to_json() if flow_stats else {"enabled": False},
        }  # type: Dict[str, Any]
        self.fields.update(packet.to_json())
        if random_seed:
            self.fields["random_seed"] = random_seed
        if xdpgen:
            self.fields["xdpgen"] = dict(xdpgen)

    def has_flow_stats(self) -> bool:
        """True if it counts in a packet group."""
        return bool(self.fields["flow_stats"]["enabled"])

    def to_json(self) -> Dict[str, Any]:
        """The stream as the RPC has it, without ``next_stream_id``."""
        result = dict(self.fields)
        for key in ("name", "next"):
            if getattr(self, key) is not None:
                result[key] = getattr(self, key)
        return result


# ---- transport ----------------------------------------------------------------------------------------------------


class _Rpc(object):
    """JSON-RPC over a ZMQ REQ socket."""

    def __init__(self, server: str, port: int, timeout_s: float) -> None:
        self._address = "tcp://{0}:{1}".format(server, port)
        self._timeout_ms = int(timeout_s * 1000)
        self._context = None  # type: Any
        self._socket = None  # type: Any
        self._serial = 0
        self.api_h = None  # type: Optional[str]

    def open(self) -> None:
        """Connect anew; the old socket's unfinished business is dropped."""
        self.close()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDTIMEO, self._timeout_ms)
        self._socket.setsockopt(zmq.RCVTIMEO, self._timeout_ms)
        self._socket.connect(self._address)

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._context.term()
            self._socket = self._context = None

    def is_open(self) -> bool:
        """True between ``open`` and ``close``."""
        return self._socket is not None

    def _exchange(self, message: Any) -> Any:
        if self._socket is None:
            raise TRexError("not connected")
        try:
            self._socket.send(json.dumps(message).encode("ascii"))
            answer = self._receive()
        except zmq.ZMQError as error:
            # A REQ socket cannot send twice: begin with a new one.
            self.open()
            raise TRexError("no answer from the server at {0}: {1}".format(self._address, error)) from error
        try:
            return json.loads(answer.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise TRexError("the server at {0} sent something that is not JSON".format(self._address)) from error

    def _receive(self) -> bytes:
        """The answer; like TRex's client, wait several times: preparing a large start takes a while."""
        for _ in range(RECEIVE_RETRIES):
            try:
                return bytes(self._socket.recv())
            except zmq.Again:
                continue
        return bytes(self._socket.recv())

    def _request(self, method: str, params: Dict[str, Any]) -> Dict[str, Any]:
        self._serial += 1
        members = dict(params)
        if self.api_h is not None:
            members["api_h"] = self.api_h
        return {"jsonrpc": "2.0", "id": str(self._serial), "method": method, "params": members}

    @staticmethod
    def _result(reply: Any, method: str) -> Any:
        if not isinstance(reply, dict) or ("result" not in reply and "error" not in reply):
            raise TRexError("{0}: the server's reply is not JSON-RPC".format(method))
        if "error" in reply:
            error = reply["error"]
            text = error.get("specific_err") or error.get("message") or "unknown error"
            raise TRexError("{0}: {1}".format(method, text), error.get("code"))
        return reply["result"]

    def call(self, method: str, params: Dict[str, Any]) -> Any:
        """The result of one request; TRexError if it failed."""
        return self._result(self._exchange(self._request(method, params)), method)

    def batch(self, calls: Sequence[Tuple[str, Dict[str, Any]]]) -> List[Any]:
        """Results of many requests in order; the first failure is raised."""
        results = []  # type: List[Any]
        for part in self._parts([self._request(method, params) for method, params in calls]):
            replies = self._exchange(part)
            replies = replies if isinstance(replies, list) else [replies]
            if len(replies) != len(part):
                raise TRexError("the server answered {0} of {1} requests".format(len(replies), len(part)))
            results += [self._result(reply, request["method"]) for reply, request in zip(replies, part)]
        return results

    @staticmethod
    def _parts(requests: List[Dict[str, Any]]) -> Iterable[List[Dict[str, Any]]]:
        part, size = [], 0  # type: List[Dict[str, Any]], int
        for request in requests:
            length = len(json.dumps(request))
            if part and size + length > BATCH_LIMIT:
                yield part
                part, size = [], 0
            part.append(request)
            size += length
        if part:
            yield part


_MULTIPLIER = re.compile(r"^(\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?:([kmg]?)(bpsl1|pps|bps)|(%))?([+-]?)$")
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def decode_multiplier(text: str, allow_update: bool = False, divide_count: int = 1) -> Dict[str, Any]:
    """``"10kpps"``, ``"5%"``, ``"2"`` (and ``"1kpps+"`` if ``allow_update``) as the RPC's multiplier."""
    match = _MULTIPLIER.match(text)
    if not match or (match.group(5) and not allow_update):
        raise TRexArgumentError("mult", text)
    number, scale, unit, percent, sign = match.groups()
    kind = unit or ("percentage" if percent else "raw")
    value = float(number) * _SCALE[scale or ""] / divide_count
    return {"type": kind, "value": value, "op": {"": "abs", "+": "add", "-": "sub"}[sign]}


# ---- statistics ---------------------------------------------------------------------------------------------------

_PORT_COUNTERS = ("opackets", "ipackets", "obytes", "ibytes", "oerrors", "ierrors")
_PORT_RATES = {
    "tx_bps": "m_total_tx_bps",
    "tx_pps": "m_total_tx_pps",
    "rx_bps": "m_total_rx_bps",
    "rx_pps": "m_total_rx_pps",
}
_FLOW_FIELDS = {
    "rp": "rx_pkts",
    "rb": "rx_bytes",
    "tp": "tx_pkts",
    "tb": "tx_bytes",
    "rbs": "rx_bps",
    "rps": "rx_pps",
    "tbs": "tx_bps",
    "tps": "tx_pps",
}
_FLOW_COUNTERS = ("rx_pkts", "tx_pkts", "rx_bytes", "tx_bytes")
_LATENCY_FIELDS = {
    "jit": "jitter",
    "average": "average",
    "total_max": "total_max",
    "total_min": "total_min",
    "last_max": "last_max",
}
_ERROR_FIELDS = {"drp": "dropped", "ooo": "out_of_order", "dup": "dup", "sth": "seq_too_high", "stl": "seq_too_low"}
_LAYER1 = 160.0


def _flow_entry(raw: Dict[str, Any]) -> Dict[str, Dict[Any, float]]:
    entry = {}  # type: Dict[str, Dict[Any, float]]
    for field, name in _FLOW_FIELDS.items():
        by_port = {int(port): value for port, value in raw.get(field, {}).items()}  # type: Dict[Any, float]
        by_port["total"] = sum(by_port.values())
        entry[name] = by_port
    for side in ("rx", "tx"):
        bps, pps = entry[side + "_bps"], entry[side + "_pps"]
        entry[side + "_bps_l1"] = {port: bps[port] + pps.get(port, 0.0) * _LAYER1 for port in bps}
    return entry


def _latency_entry(raw: Dict[str, Any]) -> Dict[str, Any]:
    lat, errors = raw.get("lat", {}), raw.get("er", {})
    latency = {name: lat.get(field, 0) for field, name in _LATENCY_FIELDS.items()}  # type: Dict[str, Any]
    latency["histogram"] = {int(edge): count for edge, count in lat.get("histogram", {}).items()}
    for extra in ("hdrh", "x_hist_ns"):
        if extra in lat:
            latency[extra] = lat[extra]
    return {"err_cntrs": {name: errors.get(field, 0) for field, name in _ERROR_FIELDS.items()}, "latency": latency}


def _translate_pgid(raw: Dict[str, Any]) -> Dict[str, Any]:
    """The RPC's packet-group statistics under TRex's API names."""
    flow = {"global": {"rx_err": {}, "tx_err": {}}}  # type: Dict[Any, Any]
    for pgid, entry in (raw.get("flow_stats") or {}).items():
        if pgid.isdigit():
            flow[int(pgid)] = _flow_entry(entry)
            ports = [port for port in flow[int(pgid)]["tx_pkts"] if port != "total"]
            flow["global"] = {name: dict.fromkeys(ports, 0) for name in ("rx_err", "tx_err")}
    latency = {"global": {"old_flow": 0, "bad_hdr": 0}}  # type: Dict[Any, Any]
    for pgid, entry in (raw.get("latency") or {}).items():
        if pgid.isdigit():
            latency[int(pgid)] = _latency_entry(entry)
    return {"ver_id": raw.get("ver_id") or {}, "flow_stats": flow, "latency": latency}


class _PgidReference(object):
    """What packet-group counters stood at when they were cleared."""

    def __init__(self) -> None:
        self.taken = {"ver_id": {}, "flow_stats": {}, "latency": {}}  # type: Dict[str, Dict[Any, Any]]

    def take(self, stats: Dict[str, Any]) -> None:
        """Count from here on."""
        self.taken = stats

    def _valid(self, stats: Dict[str, Any], pgid: Any) -> bool:
        version = self.taken["ver_id"].get(str(pgid))
        return version is not None and version == stats["ver_id"].get(str(pgid))

    def subtract(self, stats: Dict[str, Any]) -> Dict[str, Any]:
        """The statistics since the reference; groups created anew count from zero."""
        for pgid, entry in stats["flow_stats"].items():
            before = self.taken["flow_stats"].get(pgid)
            if before and self._valid(stats, pgid):
                for name in _FLOW_COUNTERS:
                    entry[name] = {port: n - before[name].get(port, 0) for port, n in entry[name].items()}
        for pgid, entry in stats["latency"].items():
            before = self.taken["latency"].get(pgid)
            if before and self._valid(stats, pgid):
                old = before["latency"]["histogram"]
                rest = {edge: n - old.get(edge, 0) for edge, n in entry["latency"]["histogram"].items()}
                entry["latency"]["histogram"] = {edge: n for edge, n in rest.items() if n}
                for name in entry["err_cntrs"]:
                    entry["err_cntrs"][name] = abs(entry["err_cntrs"][name] - before["err_cntrs"].get(name, 0))
        return stats


class _Port(object):
    """What the client remembers of a port."""

    def __init__(self, info: Dict[str, Any]) -> None:
        self.info = info
        self.handler = ""
        self.streams = {}  # type: Dict[int, STLStream]
        self.profiles = {DEFAULT_PROFILE}
        self.reference = {}  # type: Dict[str, Any]
        self.expected_end = None  # type: Optional[float]


# ---- the client ---------------------------------------------------------------------------------------------------


class STLClient(object):
    """A stateless client. Use it as a context manager, or call ``connect`` and ``disconnect``."""

    def __init__(
        self,
        username: Optional[str] = None,
        server: str = "localhost",
        sync_port: int = 4501,
        async_port: int = 4500,
        verbose_level: str = "error",
        logger: Any = None,
        sync_timeout: Optional[float] = None,
        async_timeout: Optional[float] = None,
    ) -> None:
        self.username = username or getpass.getuser()
        self.session_id = random.getrandbits(32)
        self._rpc = _Rpc(server, sync_port, sync_timeout or 3.0)
        self._ports = {}  # type: Dict[int, _Port]
        self._system = {}  # type: Dict[str, Any]
        self._version = {}  # type: Dict[str, Any]
        self._pgid_reference = _PgidReference()
        self._global_reference = {}  # type: Dict[str, Any]

    def __enter__(self) -> "STLClient":
        self.connect()
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.disconnect()

    # -- connection -------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the connection and read what the server has."""
        self._rpc.open()
        try:
            self._rpc.api_h = self._sync_api()
            self._version = self._rpc.call("get_version", {})
            self._system = self._rpc.call("get_system_info", {})
        except TRexError:
            self._rpc.close()
            raise
        self._ports = {info["index"]: _Port(info) for info in self._system["ports"]}
        self.clear_stats()

    def _sync_api(self) -> str:
        failure = TRexError("no API version to try")
        for major, minor in API_VERSIONS:
            try:
                return str(self._rpc.call("api_sync_v2", {"name": "STL", "major": major, "minor": minor})["api_h"])
            except TRexError as error:
                if error.code != EXECUTE_ERROR:
                    raise
                failure = error
        raise failure

    def disconnect(self, stop_traffic: bool = True, release_ports: bool = True) -> None:
        """Stop and release what is held, then close. Does nothing if not connected."""
        if not self._rpc.is_open():
            return
        try:
            if stop_traffic and self.get_acquired_ports():
                self.stop()
            if release_ports and self.get_acquired_ports():
                self.release()
        finally:
            self._rpc.close()
            self._rpc.api_h = None

    def is_connected(self) -> bool:
        """True between ``connect`` and ``disconnect``."""
        return self._rpc.is_open()

    def rpc(self, method: str, params: Optional[Dict[str, Any]] = None) -> Any:
        """One RPC by name, for what has no method here; returns the bare result."""
        return self._rpc.call(method, params or {})

    def ping_rpc_server(self) -> Dict[str, Any]:
        """The server's clock."""
        return dict(self._rpc.call("ping", {}))

    def get_server_version(self) -> Dict[str, Any]:
        """Version, mode and build of the server."""
        return dict(self._version)

    def get_server_system_info(self) -> Dict[str, Any]:
        """Host, cores and ports of the server."""
        return dict(self._system)

    # -- ports ------------------------------------------------------------------------------------------------------

    def _chosen(self, ports: Ports, acquired: bool = False) -> List[int]:
        if ports is None:
            return self.get_acquired_ports() if acquired else self.get_all_ports()
        chosen = [ports] if isinstance(ports, int) else list(ports)
        for port in chosen:
            if port not in self._ports:
                raise TRexArgumentError("ports", port, self.get_all_ports())
            if acquired and not self._ports[port].handler:
                raise TRexError("port {0} must be acquired first".format(port))
        return chosen

    def _owned(self, port: int, **params: Any) -> Dict[str, Any]:
        return dict(params, port_id=port, handler=self._ports[port].handler)

    def get_all_ports(self) -> List[int]:
        """All port numbers, ascending."""
        return sorted(self._ports)

    def get_acquired_ports(self) -> List[int]:
        """Ports this client holds."""
        return sorted(port for port, one in self._ports.items() if one.handler)

    def _status(self, port: int) -> Dict[str, Any]:
        return dict(self._rpc.call("get_port_status", {"port_id": port, "profile_id": "*", "block": False}))

    def get_port_info(self, ports: Ports = None) -> List[Dict[str, Any]]:
        """One dictionary per port: what the server says of it, and its present state."""
        return [self._port_info(port) for port in self._chosen(ports)]

    def _port_info(self, port: int) -> Dict[str, Any]:
        info, status = dict(self._ports[port].info), self._status(port)
        attr = status["attr"]
        layer = attr["layer_cfg"]
        info.update(
            owner=status["owner"],
            status={"TX": "TRANSMITTING", "STREAMS": "STREAMS", "PAUSE": "PAUSE", "IDLE": "IDLE"}.get(
                status["state"], status["state"]
            ),
            link="UP" if attr["link"]["up"] else "DOWN",
            speed=attr["speed"],
            prom="on" if attr.get("promiscuous", {}).get("enabled") else "off",
            mult="on" if attr.get("multicast", {}).get("enabled") else "off",
            src_mac=layer["ether"]["src"],
            layer_mode="Ethernet" if layer["ipv4"]["state"] == "none" else "IPv4",
            dest=layer["ether"]["dst"] if layer["ipv4"]["state"] == "none" else layer["ipv4"]["dst"],
            rx_filter_mode="hardware match" if attr["rx_filter_mode"] == "hw" else "fetch all",
            is_virtual="yes" if info.get("is_virtual") else "no",
        )
        return info

    def acquire(self, ports: Ports = None, force: bool = False, sync_streams: bool = True) -> None:
        """Become owner of ports; all or none."""
        chosen = self._chosen(ports)
        taken = []  # type: List[int]
        try:
            for port in chosen:
                members = {"port_id": port, "user": self.username, "session_id": self.session_id, "force": force}
                self._ports[port].handler = str(self._rpc.call("acquire", members))
                taken.append(port)
        except TRexError:
            self.release(taken)
            raise
        for port in chosen:
            self._ports[port].profiles = set(self._status(port).get("state_profile") or {DEFAULT_PROFILE: ""})

    def release(self, ports: Ports = None) -> None:
        """Give ports back."""
        for port in self._chosen(ports, acquired=True):
            self._rpc.call("release", self._owned(port))
            self._ports[port].handler = ""

    def reset(self, ports: Ports = None, restart: bool = False) -> None:
        """Take ports by force, stop their traffic, remove their streams and captures, clear counters."""
        chosen = self._chosen(ports)
        self.acquire(chosen, force=True)
        self.stop(chosen)
        self.remove_all_streams(chosen)
        self.clear_stats(chosen)
        if all(self._ports[port].info.get("is_prom_supported") for port in chosen):
            self.set_port_attr(chosen, promiscuous=False)
        for port in chosen:
            self._rpc.call("set_rx_feature", self._owned(port, type="queue", enabled=False))
        self.remove_all_captures()
        self.set_service_mode(chosen, False)

    def set_port_attr(
        self,
        ports: Ports = None,
        promiscuous: Optional[bool] = None,
        link_up: Optional[bool] = None,
        led_on: Optional[bool] = None,
        flow_ctrl: Optional[int] = None,
        multicast: Optional[bool] = None,
        vxlan_fs: Optional[List[int]] = None,
    ) -> None:
        """Change attributes; what is None stays as it is."""
        wanted = {
            "promiscuous": None if promiscuous is None else {"enabled": promiscuous},
            "link_status": None if link_up is None else {"up": link_up},
            "led_status": None if led_on is None else {"on": led_on},
            "flow_ctrl_mode": None if flow_ctrl is None else {"mode": flow_ctrl},
            "multicast": None if multicast is None else {"enabled": multicast},
            "vxlan_fs": vxlan_fs,
        }
        attr = {name: value for name, value in wanted.items() if value is not None}
        for port in self._chosen(ports, acquired=True):
            self._rpc.call("set_port_attr", self._owned(port, attr=attr))

    def set_service_mode(
        self, ports: Ports = None, enabled: bool = True, filtered: bool = False, mask: Optional[int] = None
    ) -> None:
        """Switch service mode; captures of received frames on real servers need it."""
        for port in self._chosen(ports, acquired=True):
            params = self._owned(port, enabled=enabled, filtered=filtered)
            if filtered and mask is not None:
                params["mask"] = mask
            self._rpc.call("service", params)

    # -- streams ----------------------------------------------------------------------------------------------------

    def add_streams(self, streams: Union[STLStream, Sequence[STLStream]], ports: Ports = None) -> Union[int, List[int]]:
        """Add streams to every port; returns their ids (of the last port), a single id for a single stream."""
        items = [streams] if isinstance(streams, STLStream) else list(streams)
        ids = []  # type: List[int]
        for port in self._chosen(ports, acquired=True):
            ids = self._add_to_port(port, items)
        return ids[0] if isinstance(streams, STLStream) else ids

    def _add_to_port(self, port: int, items: List[STLStream]) -> List[int]:
        known = self._ports[port].streams
        first = max([int(self._status(port)["max_stream_id"]), *known]) + 1
        ids = [item.id if item.id is not None else first + index for index, item in enumerate(items)]
        by_name = {item.name: number for item, number in zip(items, ids) if item.name is not None}
        calls = []
        for item, number in zip(items, ids):
            if item.next is not None and item.next not in by_name:
                raise TRexError("stream dependency error - unable to find '{0}'".format(item.next))
            stream = dict(item.to_json(), next_stream_id=by_name[item.next] if item.next is not None else -1)
            calls.append(("add_stream", self._owned(port, profile_id=DEFAULT_PROFILE, stream_id=number, stream=stream)))
        self._rpc.batch(calls)
        known.update(zip(ids, items))
        return ids

    def remove_streams(self, stream_id_list: Union[int, Sequence[int]], ports: Ports = None) -> None:
        """Remove streams by id."""
        numbers = [stream_id_list] if isinstance(stream_id_list, int) else list(stream_id_list)
        for port in self._chosen(ports, acquired=True):
            calls = [self._owned(port, profile_id=DEFAULT_PROFILE, stream_id=number) for number in numbers]
            self._rpc.batch([("remove_stream", call) for call in calls])
            for number in numbers:
                self._ports[port].streams.pop(number, None)

    def remove_all_streams(self, ports: Ports = None) -> None:
        """Remove the streams of every profile."""
        for port in self._chosen(ports, acquired=True):
            for profile in sorted(self._ports[port].profiles):
                self._rpc.call("remove_all_streams", self._owned(port, profile_id=profile))
            self._ports[port].streams.clear()

    # -- traffic ----------------------------------------------------------------------------------------------------

    def start(
        self,
        ports: Ports = None,
        mult: str = "1",
        force: bool = False,
        duration: float = -1,
        total: bool = False,
        core_mask: Union[int, List[int], None] = None,
        synchronized: bool = False,
    ) -> None:
        """Start all streams of ports. ``duration`` <= 0: until stopped. ``total``: share the rate among the ports."""
        chosen = self._chosen(ports, acquired=True)
        mul = decode_multiplier(mult, divide_count=len(chosen) if total else 1)
        active = self.get_active_ports()
        if force and set(chosen) & set(active):
            self.stop([port for port in chosen if port in active])
        ahead = 0.5 * len(chosen) if synchronized else 0.0
        at = self.ping_rpc_server()["ts"] + ahead if synchronized else 0
        masks = core_mask if isinstance(core_mask, list) else [core_mask] * len(chosen)
        self._pgid_reference.take(self._raw_pgid_stats([]))
        for port, mask in zip(chosen, masks):
            params = self._owned(port, profile_id=DEFAULT_PROFILE, mul=mul, duration=duration, force=force)
            params.update(core_mask=ALL_CORES if mask is None else mask, start_at_ts=at)
            self._rpc.call("start_traffic", params)
            self._ports[port].expected_end = time.monotonic() + ahead + duration if duration > 0 else None

    def stop(self, ports: Ports = None, rx_delay_ms: Optional[int] = None) -> None:
        """Stop all traffic of ports; returns when nothing is sent any more."""
        chosen = self._chosen(ports, acquired=True)
        if ports is None:
            active = self.get_active_ports()
            chosen = [port for port in chosen if port in active]
        for port in chosen:
            for profile in sorted(self._ports[port].profiles):
                self._rpc.call("stop_traffic", self._owned(port, profile_id=profile))
        self._remove_rx_filters(chosen, rx_delay_ms)

    def _remove_rx_filters(self, ports: List[int], rx_delay_ms: Optional[int]) -> None:
        counting = [port for port in ports if any(s.has_flow_stats() for s in self._ports[port].streams.values())]
        if rx_delay_ms is None:
            virtual = any(self._ports[port].info.get("is_virtual") for port in counting)
            rx_delay_ms = (100 if virtual else 10) if counting else 0
        time.sleep(rx_delay_ms / 1000.0)
        for port in counting:
            self._rpc.call("remove_rx_filters", self._owned(port, profile_id=DEFAULT_PROFILE))

    def get_active_ports(self, owned: bool = True) -> List[int]:
        """Ports that send or are paused."""
        return self._ports_in(("TX", "PAUSE", "PCAP_TX"), owned)

    def get_transmitting_ports(self, owned: bool = True) -> List[int]:
        """Ports that send."""
        return self._ports_in(("TX", "PCAP_TX"), owned)

    def get_paused_ports(self, owned: bool = True) -> List[int]:
        """Ports that are paused."""
        return self._ports_in(("PAUSE",), owned)

    def _ports_in(self, states: Sequence[str], owned: bool) -> List[int]:
        ports = self.get_acquired_ports() if owned else self.get_all_ports()
        return [port for port in ports if self._status(port)["state"] in states]

    def is_traffic_active(self, ports: Ports = None) -> bool:
        """True while one of the ports sends or is paused."""
        return bool(set(self._chosen(ports, acquired=True)) & set(self.get_active_ports()))

    def wait_on_traffic(
        self, ports: Ports = None, timeout: Optional[float] = None, rx_delay_ms: Optional[int] = None
    ) -> None:
        """Block until the traffic of ports has ended by itself; TRexTimeoutError after ``timeout`` seconds."""
        chosen = self._chosen(ports, acquired=True)
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_traffic_active(chosen):
            if deadline is not None and time.monotonic() > deadline:
                raise TRexTimeoutError(timeout)
            time.sleep(self._patience(chosen))
        self._remove_rx_filters(chosen, rx_delay_ms)

    def _patience(self, ports: List[int]) -> float:
        """Seconds until the next look: the generator's cores are busy, so ask rarely before the expected end."""
        ends = [self._ports[port].expected_end for port in ports]
        left = max([end - time.monotonic() for end in ends if end is not None] or [0.0])
        return min(max(left / 2, 0.02), 0.5)

    def pause(self, ports: Ports = None) -> None:
        """Stop sending for now (default: all that send)."""
        for port in self._chosen(self.get_transmitting_ports() if ports is None else ports, acquired=True):
            self._rpc.call("pause_traffic", self._owned(port, profile_id=DEFAULT_PROFILE))

    def resume(self, ports: Ports = None) -> None:
        """Go on sending (default: all that are paused)."""
        for port in self._chosen(self.get_paused_ports() if ports is None else ports, acquired=True):
            self._rpc.call("resume_traffic", self._owned(port, profile_id=DEFAULT_PROFILE))

    def update(self, ports: Ports = None, mult: str = "1", total: bool = False, force: bool = False) -> None:
        """Change the rate of running traffic (default: all that is active); ``mult`` may end in + or -."""
        chosen = self._chosen(self.get_active_ports() if ports is None else ports, acquired=True)
        mul = decode_multiplier(mult, allow_update=True, divide_count=len(chosen) if total else 1)
        for port in chosen:
            params = self._owned(port, profile_id=DEFAULT_PROFILE, mul=mul, force=force)
            self._rpc.call("update_traffic", params)

    # -- statistics -------------------------------------------------------------------------------------------------

    def _port_stats(self, raw: Dict[str, Any], port: int, speed: float) -> Dict[str, Any]:
        reference = self._ports[port].reference
        stats = {name: raw[name] - reference.get(name, 0) for name in _PORT_COUNTERS}  # type: Dict[str, Any]
        stats.update({name: raw[source] for name, source in _PORT_RATES.items()})
        for side in ("tx", "rx"):
            layer1 = stats[side + "_bps"] + stats[side + "_pps"] * _LAYER1
            stats[side + "_bps_L1"] = layer1
            stats[side + "_util"] = 100.0 * layer1 / (speed * 1e9) if speed else 0.0
        return stats

    def get_stats(self, ports: Ports = None, sync_now: bool = True) -> Dict[Any, Any]:
        """Statistics by port number, and under ``global``, ``total``, ``flow_stats`` and ``latency``."""
        everything = self.get_all_ports()
        calls = [("get_global_stats", {})]  # type: List[Tuple[str, Dict[str, Any]]]
        calls += [("get_port_stats", {"port_id": port}) for port in everything]
        calls += [("get_port_status", {"port_id": port, "profile_id": "*", "block": False}) for port in everything]
        results = self._rpc.batch(calls)
        count = len(everything)
        output = {"global": self._global_stats(results[0])}  # type: Dict[Any, Any]
        for port, raw, status in zip(everything, results[1 : 1 + count], results[1 + count :]):
            output[port] = self._port_stats(raw, port, float(status["attr"]["speed"]))
        output["total"] = {
            name: sum(output[port][name] for port in everything) for name in (output[everything[0]] if count else [])
        }
        output.update(self.get_pgid_stats())
        return output

    def _global_stats(self, raw: Dict[str, Any]) -> Dict[str, Any]:
        stats = {name[2:]: value for name, value in raw.items() if name.startswith("m_")}
        before = self._global_reference.get("m_total_queue_full", 0)
        stats["queue_full"] = raw.get("m_total_queue_full", 0) - before
        return stats

    def clear_stats(
        self,
        ports: Ports = None,
        clear_global: bool = True,
        clear_flow_stats: bool = True,
        clear_latency_stats: bool = True,
        clear_xstats: bool = True,
    ) -> None:
        """Count from here on: later statistics are differences to now."""
        chosen = self._chosen(ports)
        results = self._rpc.batch(
            [("get_global_stats", {})] + [("get_port_stats", {"port_id": port}) for port in chosen]
        )
        if clear_global:
            self._global_reference = results[0]
        for port, raw in zip(chosen, results[1:]):
            self._ports[port].reference = raw
        if clear_flow_stats or clear_latency_stats:
            self._pgid_reference.take(self._raw_pgid_stats([]))

    def _raw_pgid_stats(self, pgid_list: Sequence[int]) -> Dict[str, Any]:
        return _translate_pgid(self._rpc.call("get_pgid_stats", {"pgids": list(pgid_list)}))

    def get_pgid_stats(self, pgid_list: Union[int, Sequence[int], None] = None) -> Dict[str, Any]:
        """``flow_stats`` and ``latency`` of packet groups (all if none are named), since the last clear or start."""
        wanted = [pgid_list] if isinstance(pgid_list, int) else list(pgid_list or [])
        return self._pgid_reference.subtract(self._raw_pgid_stats(wanted))

    def get_util_stats(self) -> Dict[str, Any]:
        """CPU history per core, newest first."""
        return dict(self._rpc.call("get_utilization", {}))

    # -- single packets ---------------------------------------------------------------------------------------------

    def push_packets(self, pkts: Any, ports: Ports = None, force: bool = False, ipg_usec: float = 0) -> None:
        """Send a few frames (bytes, or PacketBuffer); bytes get the port's MACs."""
        items = list(pkts) if isinstance(pkts, (list, tuple)) else [pkts]
        encoded = []
        for item in items:
            item = item if isinstance(item, PacketBuffer) else PacketBuffer(item, port_src=True, port_dst=True)
            binary = base64.b64encode(item.buffer).decode("ascii")
            encoded.append({"binary": binary, "use_port_src_mac": item.port_src, "use_port_dst_mac": item.port_dst})
        for port in self._chosen(ports, acquired=True):
            params = {"port_id": port, "pkts": encoded, "force": force, "ipg_usec": ipg_usec}
            self._rpc.call("push_pkts", params)

    def start_capture(
        self,
        tx_ports: Ports = None,
        rx_ports: Ports = None,
        limit: int = 1000,
        mode: str = "fixed",
        bpf_filter: str = "",
        endpoint: str = "",
        snaplen: int = 0,
    ) -> Dict[str, Any]:
        """Begin a capture: its ``id``, and the server's time ``ts``."""
        params = {
            "command": "start",
            "limit": limit,
            "mode": mode,
            "tx": [] if tx_ports is None else self._chosen(tx_ports),
            "rx": [] if rx_ports is None else self._chosen(rx_ports),
            "filter": bpf_filter,
        }  # type: Dict[str, Any]
        if not params["tx"] and not params["rx"]:
            raise TRexError("start_capture - must get a non empty list of ports: tx or rx")
        if endpoint:
            params["endpoint"] = endpoint
        if snaplen:
            params["snaplen"] = snaplen
        answer = self._rpc.call("capture", params)
        return {"id": answer["capture_id"], "ts": answer["start_ts"]}

    def fetch_capture_packets(
        self,
        capture_id: int,
        output: List[Dict[str, Any]],
        pkt_count: int = 1000,
        fetch_limit: int = 50,
        snaplen: int = 0,
    ) -> None:
        """Fill ``output`` with captured packets (``binary`` as bytes, ``ts`` on the server's clock)."""
        del output[:]
        pending = pkt_count
        while pending > 0 and len(output) < pkt_count:
            limit = min(fetch_limit, pkt_count - len(output))
            params = {"command": "fetch", "capture_id": capture_id, "pkt_limit": limit, "snaplen": snaplen}
            answer = self._rpc.call("capture", params)
            if not answer["pkts"]:
                return
            pending = answer["pending"]
            output += [dict(one, binary=base64.b64decode(one["binary"])) for one in answer["pkts"]]

    def stop_capture(self, capture_id: int, output: Optional[List[Dict[str, Any]]] = None) -> None:
        """End a capture and forget it; its packets go to ``output``."""
        count = self._rpc.call("capture", {"command": "stop", "capture_id": capture_id})["pkt_count"]
        if output is not None:
            self.fetch_capture_packets(capture_id, output, count)
        self._rpc.call("capture", {"command": "remove", "capture_id": capture_id})

    def get_capture_status(self) -> Dict[int, Dict[str, Any]]:
        """All captures by id."""
        return {one["id"]: one for one in self._rpc.call("capture", {"command": "status"})}

    def remove_all_captures(self) -> None:
        """Forget all captures."""
        for capture_id in self.get_capture_status():
            self._rpc.call("capture", {"command": "remove", "capture_id": capture_id})
