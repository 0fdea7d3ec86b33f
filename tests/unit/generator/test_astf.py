# SPDX-License-Identifier: Apache-2.0
"""TRex's connections through agent and driver over a real pipe, with a simulated client, under several interpreters."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import GeneratorDied, GeneratorError, HarnessError, TestbedError
from harness.generator.astf import AstfGenerator, Made
from harness.generator.channel import AgentClient
from harness.generator.contract import TrafficResult, TrafficSpec
from harness.generator.trex import Server
from harness.host.channel import PipeChannel
from harness.measure.verdicts import shortfall
from harness.plan import DirectionPlan, FlowPlan, FrameMix
from tests.interpreters import interpreters
from tests.unit.generator.test_agent import AGENT

CLIENT = Path(__file__).with_name("simulated_astf.py")
RECORD = Path(__file__).parents[2] / "data/trex-astf/v3.08.json"
FLOWS = FlowPlan(16128 * 64512, "198.19.1.0", 16128, 1024, 64512, "198.18.0.1", 9000, "tcp")
TRAFFIC = TrafficSpec((DirectionPlan(0, 0, "02:00:00:00:02:00", "02:00:00:00:01:00", FLOWS),), FrameMix.of(0))
#: Addresses of which the simulated client loses the SYN of every 40th connection, once.
LOSSY = replace(TRAFFIC, directions=(replace(TRAFFIC.directions[0], flows=replace(FLOWS, src_ip_first="198.19.2.0")),))


@pytest.fixture
def trex_dir(tmp_path: Path) -> Path:
    """A TRex installation with the simulated client in it."""
    package = tmp_path / "automation/trex_control_plane/interactive/trex/astf"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "api.py").write_bytes(CLIENT.read_bytes())
    return tmp_path


def connect(trex_dir: Path, python: str, port: int = 0) -> AstfGenerator:
    agent = AgentClient(PipeChannel([python, str(AGENT)]))
    try:
        return AstfGenerator(agent, Server("trex", "127.0.0.1", 4501, 4500, trex_dir=str(trex_dir), here=True), port)
    except HarnessError:
        agent.close()
        raise


@pytest.fixture
def generator(trex_dir: Path) -> Iterator[AstfGenerator]:
    with closing(connect(trex_dir, sys.executable)) as connected:
        yield connected


def evidence(result: TrafficResult) -> dict[str, object]:
    return dict(result.report.extra["client"])


@pytest.mark.parametrize("python", interpreters())
def test_a_trial_through_agent_and_driver(trex_dir: Path, python: str) -> None:
    with closing(connect(trex_dir, python)) as generator:
        about = generator.describe()
        assert (about["kind"], about["client"]) == ("trex-astf", "trex.astf.api")
        assert about["server"]["version"] == "simulated"
        assert generator.ports()[0].mac == "02:00:00:00:00:00"
        generator.configure(TRAFFIC)
        result = generator.trial(10_000.0, 0.5)
        direction = result.directions[0]
        assert (direction.asked, direction.sent, direction.received, direction.skipped) == (5000, 5000, 5000, {})
        assert result.report.real_s == pytest.approx(0.5, abs=1e-6)
        assert evidence(result)["reply_bytes"] == 59
        assert evidence(result)["sampled"] == 1250, "every fourth: at most 2,000"
        connect_times = evidence(result)["connect"]
        assert isinstance(connect_times, dict)
        assert connect_times["samples"] == 1250
        assert all(connect_times[f"{name}_ns"] == pytest.approx(100_000, abs=1000)
                   for name in ("min", "max", "mean", "p50", "p99"))
        assert result.latency[0].received == 1250
        assert result.latency[0].mean_ns == pytest.approx(200_000, abs=1000)


def test_a_connection_that_needed_a_second_syn_is_late_and_not_one_that_was_completed(generator: AstfGenerator) -> None:
    generator.configure(LOSSY)
    result = generator.trial(2000.0, 1.0)
    direction, told = result.directions[0], evidence(result)
    assert (direction.sent, direction.received) == (2000, 1950)
    assert (told["late"], told["repeated_syns"], told["refused"]) == (50, 50, 0)
    connect = told["connect"]
    assert isinstance(connect, dict)
    assert connect["max_ns"] == pytest.approx(600_100_000, abs=1000), "from the first SYN, not from its repetition"
    assert (connect["samples"], told["sampled"]) == (2000, 2000)


def test_a_trex_that_takes_its_time_is_asked_what_the_rate_makes_of_it(generator: AstfGenerator) -> None:
    generator.configure(TRAFFIC)
    result = generator.trial(100_000.0, 0.1)
    assert result.report.real_s == pytest.approx(0.2, rel=0.01)
    assert result.directions[0].sent == 10_000
    assert result.directions[0].asked == pytest.approx(20_000, rel=0.01)
    assert shortfall(result) == result.directions[0].asked - 10_000, "a search takes the load for too high"
    assert evidence(result)["behind_ms"] == pytest.approx(100, rel=0.02)


def test_no_trial_uses_the_addresses_of_the_one_before(generator: AstfGenerator) -> None:
    """The DUT keeps TIME-WAIT; the probe of ``configure`` has the first block, the fourth trial is in 198.19.2.0."""
    generator.configure(TRAFFIC)
    late = [evidence(generator.trial(1000.0, 0.04))["late"] for _ in range(4)]
    assert late == [0, 0, 0, 1]


def test_a_real_trexs_answers_read_as_they_were_measured() -> None:
    """The record of the day on which the end-to-end test last ran (tests/data/trex-astf)."""
    record = json.loads(RECORD.read_text())
    assert record["trex"].startswith("v3.08")
    made = {name: Made(float(name.split("/")[0]), float(name.split()[2]), raw) for name, raw in record["raw"].items()}
    clean, beyond, overflow, refused = made.values()
    assert (clean.begun, clean.in_time, clean.late, clean.asked) == (20_000, 20_000, 0, 20_000)
    assert (beyond.begun, beyond.in_time + beyond.late) == (40_000, 40_000)
    assert beyond.asked > 40_000, "it was late, and asked for what the rate makes of that"
    assert overflow.in_time + overflow.late < overflow.begun == 4000
    assert overflow.evidence()["repeated_syns"] > 0
    assert (refused.begun, refused.refused, refused.in_time, refused.late) == (100, 100, 0, 0)
    for each, server in zip(record["astf_trials"], record["h2load_trials"], strict=True):
        assert each["server"] == each["sent"] == server["sent"], "both clients made as many, and the server says so"


def test_what_trex_left_out_is_said_with_its_reason() -> None:
    sample = {"connections": 0, "handshake_ns": [], "reply_ns": []}
    raw = {"connections": 100, "real_s": 1.0, "behind_s": None, "reply_bytes": 59, "sample": sample, "ports": {},
           "counters": {"tcps_connattempt": 90, "err_c_tuple_err": 7, "err_c_nf_throttled": 9, "tcps_conndrops": 12,
                        "tcps_keepdrops": 2, "user_counter_A": 70, "user_counter_B": 5}}
    made = Made(100.0, 1.0, raw)
    assert made.skipped() == {"no free port": 7, "flow table full": 3}
    assert (made.refused, made.in_time, made.late, made.asked) == (10, 70, 5, 100)


def test_a_trex_that_somebody_else_holds_is_left_alone(trex_dir: Path) -> None:
    next(trex_dir.rglob("api.py")).with_name("held").touch()
    with pytest.raises(TestbedError, match="cannot be used: port 0 belongs to 'alice', who uses this TRex"):
        connect(trex_dir, sys.executable)


def test_a_trex_with_more_pairs_of_ports_is_refused(trex_dir: Path) -> None:
    next(trex_dir.rglob("api.py")).with_name("pairs").touch()
    with pytest.raises(GeneratorError, match=r"start it with this pair alone \(it has ports 0, 1, 2, 3\)"):
        connect(trex_dir, sys.executable)


def test_a_client_whose_programs_cannot_count_is_refused(trex_dir: Path) -> None:
    api = next(trex_dir.rglob("api.py"))
    api.write_text(api.read_text().replace("def add_stats", "def _gone"))
    with pytest.raises(GeneratorError, match="programs cannot count"):
        connect(trex_dir, sys.executable)


def test_a_trex_that_dies_is_said_to_be_dead(generator: AstfGenerator) -> None:
    generator.configure(TRAFFIC)
    with pytest.raises(GeneratorDied, match="ended during trial"):
        generator.trial(500_000.0, 0.01)
    assert not generator.alive()


@pytest.mark.parametrize(("direction", "words"), [
    (replace(TRAFFIC.directions[0], vlan=7), "untagged IPv4 only"),
    (replace(TRAFFIC.directions[0], flows=replace(FLOWS, src_ips=1)), "blocks of 64 addresses"),
])
def test_traffic_that_trex_is_not_driven_with_is_refused(
        generator: AstfGenerator, direction: DirectionPlan, words: str) -> None:
    with pytest.raises(GeneratorError, match=words):
        generator.configure(replace(TRAFFIC, directions=(direction,)))
    with pytest.raises(GeneratorError, match="configure the traffic" if direction.vlan else "configure first"):
        generator.trial(100.0, 0.1)


def test_it_sends_no_frames(generator: AstfGenerator) -> None:
    with pytest.raises(GeneratorError, match="sends no frames"):
        generator.exchange(0, [b"a" * 60], 0, 0.1)
    with pytest.raises(GeneratorError, match="captures nothing"):
        generator.capture(0, [b"a" * 60], 0, 0.1)
