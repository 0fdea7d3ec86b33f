# SPDX-License-Identifier: Apache-2.0
"""linux-tcp deployed on the lab's DUT, with real connections made by the real client over the test wire."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import stacks
from harness.errors import StackError
from harness.generator.contract import TrafficSpec
from harness.generator.tcpclient import ClientHost, TcpClientGenerator
from harness.host.contract import Dut
from harness.host.tuning.napi import pin_napi
from harness.lab import netns
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, check_role
from harness.measure.trial import Bench, make_trial
from harness.plan import PointPlan, Role
from harness.records import Phase, Trial, Verdict
from harness.stack import StackContext

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture
def client(lab: Lab, make_point: MakePoint) -> Iterator[TcpClientGenerator]:
    """The client of a run in this lab, put away at the end."""
    point = make_point("linux-tcp", Role.ACCEPT)
    host = ClientHost(partial(lab.spawn, "tg", name="tcp-client"), lambda call: netns.in_netns(lab.tg_netns, call),
                      lab.tg_cores)
    with closing(TcpClientGenerator(host, point.wires[0], point.directions[0])) as made:
        lab.pin_napi("tg")
        yield made


@contextmanager
def deployed(dut: Dut, point: PointPlan, client: TcpClientGenerator) -> Iterator[Bench]:
    """A point as the runner has it: deployed, its NAPI threads on its cores."""
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(StackContext(dut, point, stacks.source(point.stack))) as running:
        ifname = point.wires[0].dut.ifname
        pin_napi(dut, ifname, point.cores)
        client.configure(TrafficSpec(point.directions, point.frames))
        yield Bench(client, dut, point, running, "completed", None, True, 2, (f"napi/{ifname}-",), (ifname,))


def trial(bench: Bench, rate: float, seconds: float) -> Trial:
    return make_trial(bench, number=1, repeat=0, phase=Phase.LOAD, attempt=0, rate_pps=rate, duration_s=seconds)


@pytest.mark.parametrize("params", [
    {}, {"workers": 4}, {"workers": 4, "reuseport": True}, {"workers": 2, "reuseport": True, "steering": "cpu"},
    {"mode": "block"}, {"mode": "block", "workers": 3, "reuseport": True},
])
def test_every_connection_is_counted_once_at_both_ends_and_by_both_kernels(
        dut: Dut, make_point: MakePoint, client: TcpClientGenerator, params: dict[str, Any]) -> None:
    point = make_point("linux-tcp", Role.ACCEPT, params)
    with deployed(dut, point, client) as bench:
        check_role(client, point, stacks.get(point.stack).roles[Role.ACCEPT], bench.counted)
        assert bench.counted() == FRAMES
        made = trial(bench, 500, 1)
        assert (made.sent, made.received, made.lost, made.unexplained) == (500, 500, 0, 0)
        assert made.directions[0].asked >= 500
        stack, kernel = made.counters["stack"], made.counters["client"]["kernel"]
        assert stack["accepted"] == stack["completed"] == stack["kernel.tcp.PassiveOpens"] == 500
        assert kernel["tcp.ActiveOpens"] == 500
        assert "tcpext.TW" not in kernel, "the server keeps TIME-WAIT"
        assert made.latency is not None
        assert (made.latency.samples, made.latency.p99_ns is None) == (500, True)
        assert made.handshake is not None
        assert 0 < made.handshake.min_ns <= made.handshake.mean_ns <= made.handshake.max_ns
        assert sum(worker.get("completed", 0) for worker in made.counters["workers"]) == 500
        pid = bench.stack.process.pid  # type: ignore[attr-defined]  # this stack's own
    assert not dut.exists(f"/proc/{pid}")


def test_a_queue_that_overflows_is_where_the_connections_were_lost(
        dut: Dut, make_point: MakePoint, client: TcpClientGenerator) -> None:
    """One connection at a time, two may wait, and eight arrive at once."""
    point = make_point("linux-tcp", Role.ACCEPT, {"mode": "block", "backlog": 1})
    with deployed(dut, point, client) as bench:
        made = trial(bench, 8000, 0.5)
        assert made.sent == 4000
        assert 0 < made.lost < 4000
        late = made.counters["stack"]["completed"] - made.received
        places = {"listen queue", "answered too late", "application"}
        assert set(made.losses) <= places, "on a busy machine clients give up before the server has read, too"
        assert made.losses["listen queue"] == made.lost - late - made.losses.get("application", 0) > 0
        assert made.losses.get("answered too late", 0) + made.unexplained == late
        assert made.unexplained <= 0.01 * made.sent
        assert made.counters["stack"]["kernel.tcpext.ListenOverflows"] > 0
        assert made.counters["stack"]["kernel.tcpext.SyncookiesSent"] > 0


def test_a_backlog_beyond_the_hosts_limit_is_granted_and_the_limit_put_back(
        dut: Dut, make_point: MakePoint, client: TcpClientGenerator) -> None:
    limit = "/proc/sys/net/core/somaxconn"
    before = int(dut.read(limit))
    with deployed(dut, make_point("linux-tcp", Role.ACCEPT, {"backlog": before + 1}), client) as bench:
        assert int(dut.read(limit)) == before + 1
        assert bench.stack.degraded == ""
    assert int(dut.read(limit)) == before


def test_a_rate_beyond_the_client_is_its_own_limit_and_said_so(
        dut: Dut, make_point: MakePoint, client: TcpClientGenerator) -> None:
    with deployed(dut, make_point("linux-tcp", Role.ACCEPT), client) as bench:
        made = trial(bench, 400_000, 0.05)
        assert made.sent == 20_000
        assert made.real_s > 0.1, "it took its time, and that is what was recorded"
        assert made.directions[0].asked > made.sent
        assert made.offered_pps == pytest.approx(made.sent / made.real_s)
        assert Verdict.GENERATOR_LIMITED in made.verdicts


def test_a_server_that_dies_fails_the_trial_and_the_next_with_the_reason(
        dut: Dut, make_point: MakePoint, client: TcpClientGenerator) -> None:
    point = make_point("linux-tcp", Role.ACCEPT)
    with deployed(dut, point, client) as bench:
        os.kill(bench.stack.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        refused = client.trial(200, 0.5)
        assert (refused.directions[0].sent, refused.directions[0].received) == (100, 0)
        assert refused.report.extra["client"]["kernel"]["tcp.AttemptFails"] == 100, "each was answered with a RST"
        with pytest.raises(StackError, match="accept-server"):
            trial(bench, 200, 0.5)
        with pytest.raises(StackError, match=f"0 of {FRAMES} connections were made.*{FRAMES} were refused"):
            check_role(client, point, stacks.get(point.stack).roles[Role.ACCEPT], lambda: 0)


def test_a_server_that_counts_otherwise_does_not_pass_the_role_check(
        dut: Dut, make_point: MakePoint, client: TcpClientGenerator) -> None:
    point = make_point("linux-tcp", Role.ACCEPT)
    with deployed(dut, point, client), pytest.raises(StackError, match=f"{FRAMES} connections were completed, the"):
        check_role(client, point, stacks.get(point.stack).roles[Role.ACCEPT], lambda: 0)


def test_the_client_leaves_the_generators_kernel_as_it_was(lab: Lab, make_point: MakePoint) -> None:
    point = make_point("linux-tcp", Role.ACCEPT)

    def state() -> tuple[str, str, str]:
        ip = [subprocess.run(["ip", "-4", *words], capture_output=True, text=True, check=True).stdout
              for words in (("address",), ("neigh",))]
        return ip[0], ip[1], PORT_RANGE.read_text()

    before = netns.in_netns(lab.tg_netns, state)
    host = ClientHost(partial(lab.spawn, "tg", name="tcp-client"), lambda call: netns.in_netns(lab.tg_netns, call),
                      lab.tg_cores)
    with closing(TcpClientGenerator(host, point.wires[0], point.directions[0])) as made:
        assert netns.in_netns(lab.tg_netns, state) != before
        assert made.describe()["version"].startswith("nghttp2/")
    assert netns.in_netns(lab.tg_netns, state) == before


def test_an_address_in_use_fails_the_point_with_the_log(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    point = make_point("linux-tcp", Role.ACCEPT)

    def occupy() -> subprocess.Popen[bytes]:
        code = ("import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); print(flush=True); "
                "sys.stdin.read()")
        return subprocess.Popen(["python3", "-c", code, point.wires[0].dut.ip, str(point.directions[0].flows.dst_port)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with netns.in_netns(lab.dut_netns, occupy) as taken:
        assert taken.stdout is not None
        assert taken.stdout.readline()
        with pytest.raises(StackError, match="did not start") as caught:
            with stacks.create(point.stack, {}).deploy(StackContext(dut, point, stacks.source(point.stack))):
                pytest.fail("it cannot serve")
        assert "Address already in use" in caught.value.log_tail
        assert taken.stdin is not None
        taken.stdin.close()
