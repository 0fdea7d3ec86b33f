# SPDX-License-Identifier: Apache-2.0
"""Role accept on a real TRex in ASTF mode, on the lab's wire, against linux-tcp: both ends count the same.

``TREX_DIR`` names the installation; TRex runs in software mode on the generator's end of the wire, with a dummy port
as the server's. Root, as the lab needs it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import stacks
from harness.errors import StackError
from harness.flows import addressed, directions
from harness.generator.astf import AstfGenerator
from harness.generator.channel import AgentClient
from harness.generator.contract import TrafficSpec
from harness.generator.trex import Server
from harness.host.channel import PipeChannel
from harness.host.dut import RUN_DIR, STATE_DIR, SshDut
from harness.host.tuning.napi import pin_napi
from harness.lab import netns
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, check_role
from harness.measure.trial import Bench, make_trial
from harness.measure.verdicts import shortfall
from harness.plan import PointPlan, Role
from harness.records import Phase, Trial, Verdict
from harness.rundata import RunData, load_run
from harness.sites import AGENT
from harness.stack import StackContext
from tests.wires import point_maker

pytestmark = [pytest.mark.trex, pytest.mark.timeout(240)]
TREX = os.environ.get("TREX_DIR", "")
RPC = ("127.0.0.1", 4501)
MakePoint = Callable[..., PointPlan]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(wires=1, pause_s=0.2) as made:
        yield made


@pytest.fixture(scope="module")
def dut(lab: Lab) -> Iterator[SshDut]:
    with SshDut.connect("dut", lab.ssh, home_cores=lab.tg_cores, virtual=True,
                        state_dir=str(lab.dut_state_dir)) as connected:
        yield connected


@pytest.fixture(scope="module")
def trex(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A TRex that serves in ASTF mode on the wire; its log."""
    folder, wire = tmp_path_factory.mktemp("trex"), lab.wires[0]
    (folder / "cfg.yaml").write_text(json.dumps([{
        "version": 2, "port_limit": 2, "prefix": lab.name, "low_end": True, "low_end_core": lab.tg_cores[0],
        "interfaces": [wire.tg.ifname, "dummy"],
        "port_info": [{"src_mac": wire.tg.mac, "dest_mac": wire.dut.mac}]}]))
    argv = ["env", "-C", TREX, "./t-rex-64", "-i", "--astf", "--software", "--no-scapy-server", "--cfg",
            str(folder / "cfg.yaml")]
    with (folder / "log").open("wb") as log:
        process = lab.spawn("tg", argv, name="trex", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not serves(lab):
            assert process.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        lab.pin_napi("tg")
        yield folder / "log"  # the lab ends it


def serves(lab: Lab) -> bool:
    try:
        netns.connect_in_netns(lab.tg_netns, RPC, 1.0).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def client(lab: Lab, trex: Path) -> Iterator[AstfGenerator]:
    channel = PipeChannel([sys.executable, str(AGENT)], lambda argv, **k: lab.spawn("tg", argv, name="agent", **k))
    with closing(AstfGenerator(AgentClient(channel), Server("trex", *RPC, 4500, trex_dir=TREX, here=True), 0)) as made:
        yield made


@pytest.fixture
def make_point(lab: Lab) -> MakePoint:
    """A point of role accept as it is planned for TRex."""
    make = point_maker(lab.wires, lab.dut_cores)

    def made(params: dict[str, Any]) -> PointPlan:
        point = make("linux-tcp", Role.ACCEPT, params)
        there = directions(Role.ACCEPT, point.wires, 1, bidirectional=False, own_tcp=True)
        return replace(point, directions=addressed(there, point.wires, "host"))

    return made


@contextmanager
def deployed(dut: SshDut, point: PointPlan, client: AstfGenerator) -> Iterator[Bench]:
    """A point as the runner has it: deployed, its NAPI threads on its cores."""
    with stacks.create(point.stack, point.params).deploy(
            StackContext(dut, point, stacks.source(point.stack))) as running:
        ifname = point.wires[0].dut.ifname
        pin_napi(dut, ifname, point.cores)
        client.configure(TrafficSpec(point.directions, point.frames))
        yield Bench(client, dut, point, running, "completed", None, True, 2, (f"napi/{ifname}-",), (ifname,))


def trial(bench: Bench, rate: float, seconds: float) -> Trial:
    return make_trial(bench, number=1, repeat=0, phase=Phase.LOAD, attempt=0, rate_pps=rate, duration_s=seconds)


SCENARIO = """
name: accept-trex
role: accept
traffic: {l4: tcp}
cores: [1]
stacks: [linux-tcp: {workers: 2}]
measure:
  throughput: {goals: [mrr, ndr, pdr], trial: 500ms, width: 10%, min_load: 500, timeout: 60s}
  latency: {at: [50%], of: pdr, trial: 1s}
  load_curve: {rates: [2k], trial: 2500ms}
  warmup: 500ms
"""


#: A folder of its own for the agents of a host: here hosts are namespaces, and the machine has one for itself.
_PRIVATE = f'for folder in {RUN_DIR} {STATE_DIR}; do mount -t tmpfs -o mode=0700 none $folder; done; exec "$@"'


def run_on(lab: Lab, folder: Path, trex: Mapping[str, Any]) -> tuple[RunData, str]:
    """``harness run`` where TRex is on this host (inside the generator's namespace) and the DUT behind SSH; what it
    said."""
    wire, ssh = lab.wires[0], lab.ssh
    for each in (RUN_DIR, STATE_DIR):
        Path(each).mkdir(mode=0o700, exist_ok=True)
    subprocess.run(lab.exec_argv("dut", ["sh", "-c", _PRIVATE, "sh", "true"]), check=True)
    key = (lab.directory / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"127.0.0.1 {key}")
    (folder / "scenario.yaml").write_text(SCENARIO)
    (folder / "testbed.yaml").write_text(json.dumps({
        "name": "simulated-rack",
        "generator": {"cores": list(lab.tg_cores), "trex": dict(trex),
                      "ports": [{"mac": wire.tg.mac, "ifname": wire.tg.ifname}]},
        "duts": [{"name": "dut", "management": "lo", "cores": list(lab.dut_cores), "all_cores": os.cpu_count(),
                  "ports": [{"mac": wire.dut.mac, "ifname": wire.dut.ifname}],
                  "ssh": {"address": "127.0.0.1", "netns": ssh.netns, "key": str(lab.directory / "client_key"),
                          "known_hosts": str(folder / "known_hosts")}}],
        "wires": [{"tg": 0, "dut": "dut/0", "speed": "10G", "virtual": True}],
    }))
    argv = [sys.executable, "-m", "harness", "run", str(folder / "scenario.yaml"), "--testbed",
            str(folder / "testbed.yaml"), "--results", str(folder / "results")]
    done = lab.spawn("tg", ["sh", "-c", _PRIVATE, "sh", *argv], name="harness", stdin=subprocess.DEVNULL,
                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.communicate(timeout=200)[0].decode()
    assert done.returncode in (0, 4), said
    return load_run(next((folder / "results").iterdir())), said


def check_run(run: RunData, said: str) -> None:
    """A search that ended within what TRex can do, and a load curve with all that the role has to tell."""
    outcome = run.outcomes[0]
    assert outcome.status == "ok", said
    ceiling = run.info.ceilings[0]
    assert ceiling.kept_pps is not None
    assert outcome.mrr is not None
    assert outcome.mrr.load_pps is not None
    assert outcome.mrr.load_pps <= 1.05 * ceiling.kept_pps, "the search's upper bound is what TRex was seen to send"
    assert run.info.generator["kind"] == "trex-astf"
    load = next(t for t in run.trials if t.phase is Phase.LOAD)
    assert load.cpu is not None
    assert load.handshake is not None
    assert load.counters["stack"]["completed"] == load.sent


def test_a_whole_run_that_starts_its_trex_and_ends_it(tmp_path: Path) -> None:
    with Lab.up(wires=1, pause_s=0.2) as own:
        check_run(*run_on(own, tmp_path, {"dir": TREX, "software": True}))
        assert not serves(own)


def test_a_whole_run_on_a_trex_that_serves_already(lab: Lab, trex: Path, tmp_path: Path) -> None:
    """Before the module's client takes the ports."""
    check_run(*run_on(lab, tmp_path, {"dir": TREX, "start": "never"}))
    assert serves(lab), "it is not this run's to end"


@pytest.mark.parametrize("params", [{"workers": 2}, {"workers": 2, "reuseport": True}, {"mode": "block"}])
def test_every_connection_is_counted_once_at_both_ends(
        dut: SshDut, make_point: MakePoint, client: AstfGenerator, params: dict[str, Any]) -> None:
    point = make_point(params)
    with deployed(dut, point, client) as bench:
        check_role(client, point, stacks.get(point.stack).roles[Role.ACCEPT], bench.counted)
        made = [trial(bench, 500, 1), trial(bench, 2000, 1)]  # the second on ports of which the first has TIME-WAIT
    for each, wanted in zip(made, (500, 2000), strict=True):
        stack, told = each.counters["stack"], each.counters["client"]
        assert (each.sent, stack["kernel.tcp.PassiveOpens"]) == (wanted, wanted)
        assert stack["accepted"] == stack["completed"] == told["trex"]["tcps_connects"] == wanted
        assert each.received == wanted - told["late"]
        assert told["trex"]["tcps_rcvbyte"] == told["reply_bytes"] * wanted
        assert told["ports"]["0"]["opackets"] == each.counters["interfaces"][bench.ifnames[0]]["rx_packets"]
        assert each.handshake is not None
        assert each.handshake.samples == told["sampled"] == wanted
        assert 0 < each.handshake.min_ns <= each.handshake.mean_ns <= each.handshake.max_ns
        assert each.latency is not None


def test_a_queue_that_overflows_is_where_connections_were_lost_and_repeated_syns_are_not_clean(
        dut: SshDut, make_point: MakePoint, client: AstfGenerator) -> None:
    point = make_point({"mode": "block", "backlog": 1})
    with deployed(dut, point, client) as bench:
        made = trial(bench, 8000, 0.5)
    stack, told = made.counters["stack"], made.counters["client"]
    assert made.sent == 4000
    assert told["repeated_syns"] > 0
    assert stack["completed"] > made.received, "TRex repeats its SYNs, and the server completes what came of them"
    assert stack["kernel.tcpext.ListenOverflows"] > 0
    assert stack["kernel.tcpext.SyncookiesSent"] > 0
    assert made.losses["listen queue"] > 0.9 * made.lost > 0
    assert made.unexplained <= 0.1 * made.lost


def test_a_rate_beyond_trex_is_its_own_limit_and_said_so(
        dut: SshDut, make_point: MakePoint, client: AstfGenerator) -> None:
    with deployed(dut, make_point({"workers": 2}), client) as bench:
        made = trial(bench, 400_000, 0.2)
    assert made.sent == 80_000, "it makes them all, and takes its time"
    assert made.real_s > 0.4
    assert made.directions[0].asked > made.sent
    assert shortfall(made) > 0, "a search takes the load for too high: it is never an NDR"
    assert Verdict.GENERATOR_LIMITED in made.verdicts


def test_a_server_that_died_refuses_and_the_role_check_says_so(
        dut: SshDut, make_point: MakePoint, client: AstfGenerator) -> None:
    point = make_point({})
    with deployed(dut, point, client) as bench:
        os.kill(bench.stack.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]  # this stack's own
        refused = client.trial(200, 0.5)
        assert (refused.directions[0].sent, refused.directions[0].received) == (100, 0)
        assert refused.report.extra["client"]["refused"] == 100, "each was answered with a RST"
        with pytest.raises(StackError, match=f"0 of {FRAMES} connections were made.*{FRAMES} were refused"):
            check_role(client, point, stacks.get(point.stack).roles[Role.ACCEPT], lambda: 0)
