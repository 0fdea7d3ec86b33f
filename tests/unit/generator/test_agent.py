# SPDX-License-Identifier: Apache-2.0
"""The generator's agent and driver over a real pipe, with a simulated client, under several interpreters."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import GeneratorDied, GeneratorError
from harness.generator.agent import MAX_LINE, Session
from harness.generator.channel import AgentClient
from harness.generator.contract import DirectionResult, LatencyResult, TrafficSpec
from harness.generator.trex import Server, TrexGenerator, _latency_missing
from harness.generator.trex import _latency as latency_result
from harness.generator.xdpgen.contract import LatencyCounters
from harness.generator.xdpgen.rpc.latency import latency_entry
from harness.host.channel import PipeChannel
from harness.plan import DirectionPlan, FlowPlan, FrameMix
from tests.interpreters import interpreters

AGENT = Path(__file__).parents[3] / "harness" / "generator" / "agent.py"
CLIENT = Path(__file__).with_name("simulated_client.py")
FLOWS = FlowPlan(16, "198.19.0.1", 4, 1024, 4, "198.18.0.1", 9000)
TRAFFIC = TrafficSpec((DirectionPlan(0, 0, "02:00:00:00:02:00", "02:00:00:00:01:00", FLOWS),), FrameMix.of(64))


@pytest.fixture(params=interpreters())
def agent(request: pytest.FixtureRequest) -> Iterator[AgentClient]:
    client = AgentClient(PipeChannel([request.param, str(AGENT)]))
    yield client
    client.close()


def connected(agent: AgentClient) -> TrexGenerator:
    return TrexGenerator(agent, Server("stl", "127.0.0.1", 4501, 4500, stl_path=str(CLIENT), here=True), [0])


def test_a_trial_through_agent_and_driver(agent: AgentClient) -> None:
    generator = connected(agent)
    assert generator.describe()["client"] == "stl"
    assert generator.ports()[0].mac == "02:00:00:00:00:00"
    generator.configure(TRAFFIC)
    result = generator.trial(10_000.0, 0.05)
    direction = result.directions[0]
    assert (direction.asked, direction.sent, direction.received, direction.refused) == (500, 550, 500, 50)
    assert direction.skipped == {"stall": 5}
    assert result.report.utilisation == 0.25
    assert result.report.pauses == [(1, 2)]
    assert result.report.real_s == 0.05
    assert (result.report.started_ns, result.report.ended_ns) == (1000, 50_001_000)
    assert result.latency == []


def test_latency_comes_with_its_histogram(agent: AgentClient) -> None:
    generator = connected(agent)
    generator.configure(TrafficSpec(TRAFFIC.directions, FrameMix.of(64), latency_pps=100.0))
    latency = generator.trial(10_000.0, 0.02).latency[0]
    assert (latency.sent, latency.received, latency.lost) == (100, 99, 1)
    assert latency.histogram == [(3000, 98), (9000, 1)]
    assert (latency.min_ns, latency.max_ns, latency.resolution_ns) == (3000, 9000, 1)


def test_exact_times_go_from_the_server_through_the_agent_to_the_result() -> None:
    counters = LatencyCounters(received=4, min_ns=1234, max_ns=9876, sum_ns=20_002, jitter_ns=321.5,
                               average_ns=77_000.0, histogram=[(1234, 3), (9872, 1)])
    session = Session.__new__(Session)
    session.latency = {1000: {"tx_port": 0, "rx_port": 1}}
    answer = {"flow_stats": {"1000": {"tp": {"0": 4}, "rp": {"1": 4}}}, "latency": {"1000": latency_entry(counters)}}
    result = latency_result(session.raw_latency(1000, json.loads(json.dumps(answer))))
    assert (result.min_ns, result.max_ns, result.mean_ns, result.jitter_ns) == (1234, 9876, 5000.5, 321.5)
    assert (result.histogram, result.resolution_ns) == ([(1234, 3), (9872, 1)], 1)


class Stretching:
    """A client whose traffic ends by itself after so many looks, or when it is stopped."""

    def __init__(self, looks: float) -> None:
        self.looks, self.stopped = looks, False

    def is_traffic_active(self, ports: list[int]) -> bool:
        self.looks -= 1
        return self.looks >= 0 and not self.stopped

    def stop(self, ports: list[int]) -> None:
        self.stopped = True


@pytest.mark.parametrize(("looks", "later_s", "stopped"), [(3, 60.0, False), (float("inf"), 0.0, True)])
def test_a_load_far_beyond_what_trex_sends_is_cut_short(looks: float, later_s: float, stopped: bool) -> None:
    session = Session.__new__(Session)
    session.client, session.tx_ports = Stretching(looks), [0]
    session.cut_short(time.monotonic() + later_s)
    assert session.client.stopped is stopped


class Streams:
    """A client that notes what is added to its ports and removed."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def add_streams(self, streams: list[str], ports: list[int]) -> list[int]:
        self.said.append(f"add {streams[0]} to {ports[0]}")
        return [len(self.said)]

    def remove_streams(self, ids: list[int], ports: list[int]) -> None:
        self.said.append(f"remove {ids[0]} from {ports[0]}")


def test_a_trial_renews_latency_and_leaves_the_load_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session.__new__(Session)
    session.client, session.latency, session.latency_streams = Streams(), {}, []
    monkeypatch.setattr(session, "stream", lambda spec: spec["name"])
    session.configured = {"streams": [{"name": f"{kind}{port}", "port": port, "latency_pps": pps}
                                      for port in (0, 1) for kind, pps in (("load", 0.0), ("latency", 100.0))]}
    for spec in session.configured["streams"]:
        session.add(spec)
    session.client.said.clear()
    session.renew_latency()
    assert session.client.said == ["remove 2 from 0", "remove 4 from 1", "add latency0 to 0", "add latency1 to 1"]


def test_trex_that_sees_no_latency_frame_says_so() -> None:
    blind = LatencyResult(0, 100, 0, 100, 0, 0, 0, 0, 0.0, 0.0, [], 1000)
    back, lost = DirectionResult(0, 0, 1000, 1000, 900), DirectionResult(0, 0, 1000, 1000, 0)
    assert "none of the 100 latency frames" in _latency_missing([back], [blind])
    assert _latency_missing([back], [replace(blind, received=1)]) == ""
    assert _latency_missing([lost], [blind]) == ""
    assert _latency_missing([back], []) == ""


def test_a_decimal_histogram_says_how_coarse_it_is() -> None:
    entry = {"unit_ns": 1000, "histogram": [[0, 5], [90, 2], [300, 1]], "rx_port": 0, "sent": 8, "received": 8,
             "lost": 0, "out_of_order": 0, "duplicate": 0, "min_us": 4, "max_us": 310, "average_us": 60.0,
             "jitter_us": 3}
    result = latency_result(entry)
    assert (result.histogram, result.resolution_ns) == ([(0, 5), (90_000, 2), (300_000, 1)], 100_000)
    assert latency_result(entry | {"histogram": [[0, 8]]}).resolution_ns == 10_000


def test_frames_pushed_come_back_from_the_capture(agent: AgentClient) -> None:
    assert connected(agent).exchange(0, [b"a" * 60, b"b" * 60], 0, 0.01) == [b"a" * 60, b"b" * 60]


def test_a_capture_holds_what_was_sent_beside_what_came_back(agent: AgentClient) -> None:
    began = time.time()
    seen = connected(agent).capture(0, [b"a" * 60, b"b" * 60], 0, 0.01)
    assert [(f.sent, f.frame[:1]) for f in seen] == [(True, b"a"), (False, b"a"), (True, b"b"), (False, b"b")]
    assert began + 0.5 <= seen[0].at <= time.time() + 0.5
    assert seen[2].at - seen[0].at == pytest.approx(1.0)


def test_a_refusal_is_an_error_and_the_agent_lives(agent: AgentClient) -> None:
    generator = connected(agent)
    generator.configure(TRAFFIC)
    with pytest.raises(GeneratorError, match="minimum rate"):
        generator.trial(5.0, 0.01)
    assert generator.trial(100.0, 0.01).directions[0].asked == 1


def test_a_client_that_dies_is_said_to_be_dead(agent: AgentClient) -> None:
    generator = connected(agent)
    generator.configure(TRAFFIC)
    with pytest.raises(GeneratorDied, match="ended during trial"):
        generator.trial(2e6, 0.01)
    with pytest.raises(GeneratorDied):
        generator.trial(100.0, 0.01)


@pytest.mark.parametrize("line", [
    b"not json\n", b"[]\n", b'"text"\n', b'{"id": 1, "op": "nonsense"}\n', b'{"id": 1, "op": "trial"}\n',
    b'{"id": 1, "op": "connect", "params": {"client": "zzz"}}\n', b'{"id": 1, "op": "hello", "params": []}\n',
    b"\xff\xfe\n", b'{"id": 1, "op": "connect", "params": {}}\n',
    pytest.param(b"x" * MAX_LINE + b'{"id": 77, "op": "hello"}\n', id="oversized"),
    pytest.param(b"[" * 200_000 + b"\n", id="nested"),
    pytest.param(b'{"op": "hello", "id": ' + b"[" * 900 + b"]" * 900 + b"}\n", id="nested id"),
])
def test_a_bad_line_is_answered_and_survived(line: bytes) -> None:
    process = subprocess.run([sys.executable, str(AGENT)], input=line + b'{"id": 7, "op": "hello"}\n',
                             capture_output=True, timeout=20, check=False)
    replies = [json.loads(r) for r in process.stdout.splitlines()]
    assert [r["ok"] for r in replies] == [False, True]
    assert replies[0]["error"]["kind"] == "usage"
    assert replies[1]["id"] == 7
    assert process.returncode == 0


def test_a_deadline_ends_waiting(tmp_path: Path) -> None:
    channel = PipeChannel(["sleep", "5"])
    with pytest.raises(GeneratorDied, match="did not answer hello"):
        AgentClient(channel).call("hello", {}, 0.1)
    channel.process.terminate()
    channel.close()
