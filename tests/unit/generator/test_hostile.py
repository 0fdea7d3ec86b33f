# SPDX-License-Identifier: Apache-2.0
"""Malformed and hostile messages: each is answered within a second, and the server lives (simulated dataplane)."""

from __future__ import annotations

import json
import os
import random
import struct
import time
import zlib
from typing import Any

import pytest

from harness.generator.xdpgen.rpc.codec import MAGIC, MAX_REQUEST
from tests.unit.generator.recorded import exchanges
from tests.unit.generator.rpc_client import Direct, cont, stats, stream

#: Inputs of the random test; the environment variable XDPGEN_HOSTILE_ROUNDS sets another number.
ROUNDS = int(os.environ.get("XDPGEN_HOSTILE_ROUNDS", "1500"))
LIMIT_S = 1.0


def _zipped(plain: bytes, length: int | None = None) -> bytes:
    return struct.pack(">II", MAGIC, len(plain) if length is None else length) + zlib.compress(plain)


def _request(method: Any, params: Any, number: Any = 1, version: Any = "2.0") -> bytes:
    return json.dumps({"jsonrpc": version, "id": number, "method": method, "params": params}).encode()


@pytest.fixture
def server() -> Direct:
    direct = Direct()
    direct.add(1, stream(cont(1000), flow_stats=stats(1, "latency")))
    return direct


def _answered(server: Direct, message: bytes) -> Any:
    began = time.perf_counter()
    reply = server.core.handle(message)
    took = time.perf_counter() - began
    assert took < LIMIT_S, (took, message[:200])
    if reply[:4] == struct.pack(">I", MAGIC):
        reply = zlib.decompress(reply[8:])
    return json.loads(reply)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", -32700),
        (b"\x00" * 100, -32700),
        (b"\xff\xfe{}", -32700),
        (b'"a string aborts the real server"', -32600),
        (b"17", -32600),
        (b"null", -32600),
        (b"[1, 2, 3]"[:8] + b"]", None),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping","params":{}}', -32700),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"ping","params":{}}', -32700),
        (b"[" * 200_000, -32700),
        (b'{"a":' * 100_000, -32700),
        (_zipped(b"{}")[:12], -32700),
        (struct.pack(">II", MAGIC, 10) + b"not zlib", -32700),
        (_zipped(b" " * 50_000_000), -32603),
        (b" " * (MAX_REQUEST + 1), -32603),
        (_request(["ping"], {}), -32600),
        (_request("ping", [1]), -32000),
        (_request("ping", {}, number=None), -32600),
        (_request("ping", {}, version=2.0), -32600),
        (_request("x" * 100_000, {}), -32601),
        (_request("__class__", {}), -32601),
    ],
)
def test_malformed_messages(server: Direct, message: bytes, code: int | None) -> None:
    reply = _answered(server, message)
    if code is not None:
        assert reply["error"]["code"] == code
    assert _answered(server, _request("ping", {}))["result"]["ts"] > 0


def test_a_wrong_length_in_the_header_does_not_matter(server: Direct) -> None:
    assert "result" in _answered(server, _zipped(_request("ping", {}), length=7))


def test_empty_batches_and_batches_of_one(server: Direct) -> None:
    assert _answered(server, b"[]") is None
    assert "result" in _answered(server, b"[" + _request("ping", {}) + b"]")


def test_ids_come_back_as_they_are(server: Direct) -> None:
    for number in (0, -1, 1.5, "", "\ud800", [1, {"a": None}], {"b": []}, False):
        assert _answered(server, _request("ping", {}, number=number))["id"] == number
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    assert "id" in _answered(server, _request("ping", {}, number=deep))


def test_a_batch_of_expensive_requests_ends_in_time(server: Direct) -> None:
    for number in range(2, 120):
        server.add(number, stream(cont(1), flow_stats=stats(number, "latency")))
    server.start()
    server.run(5.0)
    params = {"pgids": [], "api_h": server.state.api_handle}
    batch = b"[" + b",".join([_request("get_pgid_stats", params)] * 6000) + b"]"
    began = time.perf_counter()
    replies = json.loads(server.core.handle(batch))
    assert time.perf_counter() - began < 3.0  # what a client waits
    assert len(replies) == 6000
    assert "result" in replies[0]
    assert replies[-1]["error"]["code"] == -32603


_ODD: list[Any] = [
    None, True, False, 0, -1, 1, 255, 256, 2**31, 2**32, 2**63, 2**64, 1e308, -1e308, 5e-324, 0.5, "", "_", "*",
    "p" * 500, "\x00", "\ud800", [], {}, [[]], [None], {"enabled": True}, [2**64], "AAAA", "\u202e", list(range(3000)),
]  # fmt: skip


def _mutated(random_source: random.Random, value: Any, depth: int = 0) -> Any:
    """The value with a few members replaced, dropped, or repeated."""
    if random_source.random() < 0.12:
        return random_source.choice(_ODD)
    if isinstance(value, dict):
        items = {key: _mutated(random_source, one, depth + 1) for key, one in value.items()}
        if items and random_source.random() < 0.15:
            del items[random_source.choice(sorted(items))]
        return items
    if isinstance(value, list):
        return [_mutated(random_source, one, depth + 1) for one in value]
    return value


def test_mutated_requests_of_a_real_client() -> None:
    seed = int(os.environ.get("XDPGEN_HOSTILE_SEED", "20261122"))
    source = random.Random(seed)
    server = Direct()
    recorded = [one for one in exchanges() if one.method not in ("(raw)", "shutdown")]
    codes: set[int] = set()
    for round_number in range(ROUNDS):
        one = source.choice(recorded)
        params = _mutated(source, dict(one.params))
        if isinstance(params, dict):
            params["api_h"] = server.state.api_handle
            port = params.get("port_id")
            if "handler" in params and isinstance(port, int) and port in server.state.ports:
                owner = server.state.ports[port].owner
                params["handler"] = owner.handler if owner else ""
        message = _request(one.method, params)
        if source.random() < 0.1:
            cut = source.randrange(len(message))
            message = message[:cut] + bytes([source.randrange(256)]) + message[cut + 1 :]
        reply = _answered(server, message)
        assert isinstance(reply, dict), (seed, round_number)
        codes.add(reply.get("error", {}).get("code", 0))
        server.run(source.choice([0.0, 0.01, 0.3]))
    assert -32603 not in codes, f"an unexpected failure inside the server, seed {seed}"
    assert {0, -32000, -32602} <= codes
