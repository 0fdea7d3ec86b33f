# SPDX-License-Identifier: Apache-2.0
"""The server over real sockets on loopback, driven by raw ZMQ and by the built-in client (simulated dataplane)."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq

from harness.errors import GeneratorDied, GeneratorError, UsageError
from harness.generator import stl
from harness.generator.xdpgen.__main__ import main, parse_cores, parse_dst_macs
from harness.generator.xdpgen.contract import TxStream
from harness.generator.xdpgen.rpc.codec import MAGIC
from harness.generator.xdpgen.rpc.state import ServerState
from harness.generator.xdpgen.server import Server, link_up
from tests.unit.generator.rpc_client import FRAME, Direct, Refused
from tests.unit.generator.simulated import SimulatedDataplane


class RealTimeDataplane(SimulatedDataplane):
    """The simulated dataplane on the machine's clock."""

    def now(self) -> float:
        self.clock = time.monotonic()
        return self.clock


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server(ServerState(RealTimeDataplane()), sync_port=0, async_port=0)) as one:
        thread = threading.Thread(target=one.run)
        thread.start()
        try:
            yield one
        finally:
            one.stop()
            thread.join(timeout=10)
            assert not thread.is_alive()


@pytest.fixture
def client(server: Server) -> Iterator[stl.STLClient]:
    one = stl.STLClient(username="tester", server="127.0.0.1", sync_port=server.sync_port)
    with one:
        one.reset()
        yield one


@contextlib.contextmanager
def _socket(kind: int, port: int) -> Iterator[Any]:
    with zmq.Context() as context, context.socket(kind) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RCVTIMEO, 3000)
        if kind == zmq.SUB:
            sock.setsockopt(zmq.SUBSCRIBE, b"")
        sock.connect(f"tcp://127.0.0.1:{port}")
        yield sock


def _cont(pps: float, **options: Any) -> stl.STLStream:
    return stl.STLStream(packet=stl.STLPktBuilder(pkt_buffer=FRAME), mode=stl.STLTXCont(pps=pps), **options)


def test_replies_are_zipped_exactly_when_requests_are(server: Server) -> None:
    plain = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}).encode()
    zipped = struct.pack(">II", MAGIC, len(plain)) + zlib.compress(plain)
    with _socket(zmq.REQ, server.sync_port) as sock:
        sock.send(plain)
        assert json.loads(sock.recv())["id"] == 1
        sock.send(zipped)
        magic, length = struct.unpack(">II", (answer := sock.recv())[:8])
        assert magic == MAGIC
        assert len(zlib.decompress(answer[8:])) == length


def test_garbage_and_many_parts_are_answered(server: Server) -> None:
    with _socket(zmq.REQ, server.sync_port) as sock:
        for parts in ([b"garbage"], [b""], [b"a", b"b", b"c"], [b"\xab\xe8\x5c\xea"], [b"x" * 2_000_000]):
            began = time.monotonic()
            sock.send_multipart(parts)
            assert json.loads(sock.recv())["error"]["code"] in (-32700, -32600, -32603)
            assert time.monotonic() - began < 1.0


def test_events_wake_subscribers(server: Server) -> None:
    api = stl.STLClient(server="127.0.0.1", sync_port=server.sync_port)
    with _socket(zmq.SUB, server.async_port) as subscriber, api:
        deadline = time.monotonic() + 5
        while not subscriber.poll(50):  # until the subscription has arrived
            assert time.monotonic() < deadline
            api.rpc("publish_now", {"key": 1, "baseline": False})
        assert subscriber.recv() == b"{}"


def test_a_run_with_the_built_in_client(client: stl.STLClient) -> None:
    vm = stl.STLScVmRaw(
        [
            stl.STLVmTupleGen("t", ip_min="16.0.0.1", ip_max="16.0.0.9", limit_flows=9),
            stl.STLVmWrFlowVar("t.ip", 26),
            stl.STLVmFixIpv4(14),
        ]
    )
    packet = stl.STLPktBuilder(pkt_buffer=FRAME, vm=vm)
    marked = stl.STLStream(packet=packet, mode=stl.STLTXCont(pps=1000), xdpgen={"mark": True})
    latency = _cont(100, flow_stats=stl.STLFlowLatencyStats(5))
    ids = client.add_streams([marked, latency], ports=[0])
    assert isinstance(ids, list)
    assert len(ids) == 2
    client.clear_stats()
    began = time.monotonic()
    client.start(ports=[0], mult="2100pps", duration=0.6)
    assert client.is_traffic_active(ports=[0])
    client.wait_on_traffic(ports=[0], timeout=10)
    assert 0.6 < time.monotonic() - began < 3
    stats = client.get_stats()
    assert stats[0]["opackets"] == stats[1]["ipackets"] == pytest.approx(1260, abs=4)
    assert stats["total"]["opackets"] == stats[0]["opackets"]
    assert stats["flow_stats"][5]["rx_pkts"] == {0: 0, 1: pytest.approx(60, abs=2), "total": pytest.approx(60, abs=2)}
    entry = stats["latency"][5]
    assert entry["latency"]["histogram"] == {20: stats["flow_stats"][5]["rx_pkts"][1]}
    assert entry["err_cntrs"] == {"dropped": 0, "out_of_order": 0, "dup": 0, "seq_too_high": 0, "seq_too_low": 0}
    assert entry["latency"]["x_hist_ns"][0][0] == 25_000
    client.clear_stats()
    assert client.get_stats()[0]["opackets"] == 0
    assert client.get_pgid_stats([5])["flow_stats"][5]["tx_pkts"]["total"] == 0


def test_changing_a_run_with_the_built_in_client(client: stl.STLClient) -> None:
    client.add_streams(_cont(1000), ports=[0])
    client.start(ports=[0])
    client.pause()
    assert client.get_paused_ports() == [0]
    client.resume()
    client.update(mult="2kpps")
    client.update(mult="1kpps+")
    client.stop()
    assert client.get_active_ports() == []
    assert client.get_port_info(ports=[0])[0]["status"] == "STREAMS"


def test_capture_and_push_with_the_built_in_client(client: stl.STLClient) -> None:
    client.set_service_mode(ports=[0, 1])
    capture = client.start_capture(tx_ports=[0], rx_ports=[1], limit=100, bpf_filter="udp")
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    client.push_packets([stl.PacketBuffer(FRAME), stl.PacketBuffer(arp)], ports=[0])
    frames: list[dict[str, Any]] = []
    client.stop_capture(capture["id"], frames)
    assert [(one["origin"], one["port"], one["binary"]) for one in frames] == [("TX", 0, FRAME), ("RX", 1, FRAME)]
    assert client.get_capture_status() == {}


def test_the_servers_reasons_reach_the_user(client: stl.STLClient) -> None:
    with pytest.raises(stl.STLError, match="cannot be executed on current state: 'IDLE") as failed:
        client.start(ports=[0])
    assert failed.value.code == -32000
    client.add_streams(_cont(1000), ports=[0])
    with pytest.raises(stl.STLError, match="exceeds port line rate"):
        client.start(ports=[0], mult="11gbps")
    with pytest.raises(stl.STLError, match="not a valid pattern"):
        client.start_capture(rx_ports=[1], bpf_filter="no such ((")
    with pytest.raises(stl.STLError, match="invalid value: '3'"):
        client.start(ports=[3])


def test_another_user_needs_force(server: Server, client: stl.STLClient) -> None:
    with stl.STLClient(username="other", server="127.0.0.1", sync_port=server.sync_port) as other:
        with pytest.raises(stl.STLError, match="already taken by 'tester'"):
            other.acquire(ports=[0])
        other.acquire(ports=[0], force=True)
        with pytest.raises(stl.STLError, match="not owned by you"):
            client.remove_all_streams(ports=[0])
        other.release(ports=[0])
    client.acquire(ports=[0], force=True)


def test_large_batches_are_split(client: stl.STLClient) -> None:
    frame = FRAME + bytes(1400)
    streams = [stl.STLStream(packet=stl.STLPktBuilder(pkt_buffer=frame), mode=stl.STLTXCont(pps=1)) for _ in range(600)]
    client.add_streams(streams, ports=[0])
    assert len(client.rpc("get_stream_list", {"port_id": 0})) == 600


def test_an_absent_server_is_reported() -> None:
    silent = stl.STLClient(server="127.0.0.1", sync_port=9, sync_timeout=0.05)
    with pytest.raises(stl.STLError, match=r"no answer from the server at tcp://127\.0\.0\.1:9"):
        silent.connect()
    assert not silent.is_connected()


def test_shutdown_ends_the_loop() -> None:
    with contextlib.closing(Server(ServerState(RealTimeDataplane()), sync_port=0, async_port=0)) as one:
        thread = threading.Thread(target=one.run)
        thread.start()
        with stl.STLClient(server="127.0.0.1", sync_port=one.sync_port) as api:
            api.rpc("shutdown", {"user": "tester", "force": True})
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_the_end_of_its_starters_pipe_ends_the_loop() -> None:
    read_end, write_end = os.pipe()
    with contextlib.closing(Server(ServerState(RealTimeDataplane()), sync_port=0, async_port=0)) as one:
        one.stop_at_eof(read_end)
        thread = threading.Thread(target=one.run)
        thread.start()
        with stl.STLClient(server="127.0.0.1", sync_port=one.sync_port) as api:
            os.write(write_end, b"not the end")
            assert api.is_connected()
        os.close(write_end)
        thread.join(timeout=10)
        assert not thread.is_alive()
    os.close(read_end)


class DyingDataplane(RealTimeDataplane):
    """Its process is gone as soon as traffic shall start."""

    def start(self, streams: Sequence[TxStream], at: float, until: float | None) -> None:
        raise GeneratorDied("the native process ended")


def test_a_dead_dataplane_is_reported_and_ends_the_server() -> None:
    with contextlib.closing(Server(ServerState(DyingDataplane()), sync_port=0, async_port=0)) as one:
        failures: list[GeneratorDied] = []

        def run() -> None:
            try:
                one.run()
            except GeneratorDied as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        api = stl.STLClient(server="127.0.0.1", sync_port=one.sync_port)
        api.connect()
        try:
            api.acquire(ports=[0])
            api.add_streams(_cont(10), ports=[0])
            with pytest.raises(stl.STLError, match="the native process ended"):
                api.start(ports=[0])
        finally:
            api.disconnect(stop_traffic=False, release_ports=False)
            one.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()
        assert len(failures) == 1


def test_a_frame_that_cannot_be_sent_later_does_not_end_the_server() -> None:
    server = Direct()
    frame = {"binary": "A" * 80}
    server.call("push_pkts", port_id=0, pkts=[frame, frame], force=False, ipg_usec=1000.0)

    def refuse(port: int, frames: Sequence[bytes]) -> None:
        raise GeneratorError("message too long")

    server.dataplane.send = refuse  # type: ignore[method-assign]
    server.run(1.0)
    assert server.call("ping")["ts"] > 0
    with pytest.raises(Refused, match="message too long"):
        server.call("push_pkts", port_id=0, pkts=[frame], force=False, ipg_usec=0)


def test_a_taken_port_is_a_clear_error(server: Server) -> None:
    with pytest.raises(GeneratorError, match="another generator runs there"):
        Server(ServerState(RealTimeDataplane()), sync_port=server.sync_port, async_port=0)


def test_link_state_of_real_interfaces() -> None:
    assert not link_up("no-such-if")


@pytest.mark.parametrize(
    ("text", "value", "op", "kind"),
    [
        ("1", 1.0, "abs", "raw"),
        ("5kpps", 5e3, "abs", "pps"),
        ("10gbps", 1e10, "abs", "bps"),
        ("2.5mbpsl1", 2.5e6, "abs", "bpsl1"),
        ("85%", 85.0, "abs", "percentage"),
        ("100pps-", 100.0, "sub", "pps"),
    ],
)
def test_multipliers(text: str, value: float, op: str, kind: str) -> None:
    assert stl.decode_multiplier(text, allow_update=True) == {"type": kind, "value": value, "op": op}


@pytest.mark.parametrize("text", ["", "fast", "5 kpps", "-1", "1kpps+", "10tbps", "nan"])
def test_bad_multipliers(text: str) -> None:
    with pytest.raises(stl.STLError):
        stl.decode_multiplier(text)


def test_arguments_of_the_command_are_checked() -> None:
    assert parse_cores("0,3") == [0, 3]
    assert parse_dst_macs(["1=02:00:00:00:00:0A"]) == {1: "02:00:00:00:00:0a"}
    for bad in ("", "a", "1,,2"):
        with pytest.raises(UsageError):
            parse_cores(bad)
    for bad in ("1", "x=02:00:00:00:00:01", "1=02"):
        with pytest.raises(UsageError):
            parse_dst_macs([bad])


def test_the_client_file_is_python_3_6() -> None:
    """Syntax of 3.6 (checked by the compiler's own feature version), imports from the standard library and zmq."""
    source = Path(stl.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"zmq"}


def test_an_interface_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--interface", "veth0", "--interface", "veth0", "--cores", "0"]) == 2
    assert "--interface veth0 is given twice" in capsys.readouterr().err


def test_the_help_names_defaults_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for said in ("usage: harness xdpgen", "(default: 127.0.0.1)", "(default: 4501)", "in Gbit/s", "(default: 10.0)"):
        assert said in text
    assert "(default: None)" not in text
