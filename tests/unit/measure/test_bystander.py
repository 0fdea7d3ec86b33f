# SPDX-License-Identifier: Apache-2.0
"""The bystander: the real prober against real TCP servers on loopback, and its record."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from harness.errors import MeasurementError
from harness.generator.channel import AgentClient
from harness.host.channel import PipeChannel
from harness.measure.bystander import Connections, Unavailable, record, times
from harness.plan import BystanderSettings, PortPlan, WirePlan
from harness.sites import PROBER
from tests.interpreters import interpreters

SETTINGS = BystanderSettings("ssh", 100, 0.2)
LOOPBACK = PortPlan(0, "lo", "02:00:00:00:00:01", "127.0.0.1", 8)
WIRE = WirePlan(0, "dut", LOOPBACK, LOOPBACK, 10.0, "127.1.0.0/16", virtual=True)


@contextmanager
def server(greet: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that does ``greet`` with every connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection = listening.accept()[0]
                except OSError:
                    return
                kept.append(connection)
                greet(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.fixture(params=interpreters())
def prober(request: pytest.FixtureRequest) -> Iterator[AgentClient]:
    client = AgentClient(PipeChannel([request.param, "-I", str(PROBER)]))
    yield client
    client.close()


def watch(prober: AgentClient, port: int) -> Connections:
    return Connections(prober, SETTINGS, {"dut": port}, fifo=0)


def test_greetings_are_timed_from_the_attempt_on_and_on_this_machines_clock(prober: AgentClient) -> None:
    def late(connection: socket.socket) -> None:
        time.sleep(0.002)
        connection.sendall(b"SSH-2.0-x\r\n")

    with server(late) as port:
        seen = watch(prober, port)
        began = time.monotonic_ns()
        seen.start(WIRE)
        time.sleep(0.5)
        ended = time.monotonic_ns()
        first = seen.stop(began, ended)
        assert first.target == f"127.0.0.1:{port}"
        most = (ended - began) * 1e-9 * 100 + 1  # a hundred a second
        assert 10 <= first.attempts <= most
        assert (first.lost, first.reasons) == (0, {})
        assert first.connected is not None
        assert first.greeted is not None
        assert 0 < first.connected.min_ns < first.greeted.min_ns
        assert first.greeted.min_ns > 2_000_000, "the server took that long"
        assert len(first.greeted_ns) == first.greeted.samples == first.attempts
        seen.start(WIRE)
        assert seen.stop(0, began).attempts == 0, "what began outside the trial is not the trial's"


@pytest.mark.parametrize(("greet", "reason"), [
    (lambda connection: None, "no greeting in time"),
    (lambda connection: connection.close(), "closed without a greeting"),
])
def test_a_connection_without_a_greeting_is_lost_for_a_reason(
        prober: AgentClient, greet: Callable[[socket.socket], None], reason: str) -> None:
    with server(greet) as port:
        seen = watch(prober, port)
        seen.start(WIRE)
        time.sleep(0.1)
        found = seen.stop()
    assert found.attempts == found.lost > 0
    assert found.reasons == {reason: found.lost}
    assert found.greeted is None
    assert found.connected is not None


def test_nobody_listening_and_a_lost_address_are_losses_not_failures(prober: AgentClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = int(taken.getsockname()[1])
    seen = watch(prober, free)
    for wire, reason in ((WIRE, "Connection refused"),
                         (replace(WIRE, tg=replace(LOOPBACK, ip="198.18.0.2")), "Cannot assign requested address")):
        seen.start(wire)
        time.sleep(0.05)
        found = seen.stop()
        assert found.reasons == {reason: found.attempts}
        assert found.lost > 0


def test_a_prober_that_is_gone_is_no_death_of_the_generator() -> None:
    client = AgentClient(PipeChannel(["true"]))
    with pytest.raises(MeasurementError, match="the bystander's prober did not start") as caught:
        watch(client, 22).start(WIRE)
    assert type(caught.value) is MeasurementError, "GeneratorDied would restart the generator"
    client.close()


def test_percentiles_need_samples_behind_them() -> None:
    assert times([]) is None
    few, many = times(range(19)), times([*range(1, 1000), 5_000])
    assert few is not None
    assert many is not None
    assert (few.p50_ns, few.max_ns) == (None, 18)
    assert (many.min_ns, many.p50_ns, many.p90_ns, many.p99_ns, many.max_ns) == (1, 500, 900, 990, 5_000)


def test_unavailable_says_why_and_counts_nothing() -> None:
    found = Unavailable(SETTINGS, "TRex has the port").stop()
    assert (found.attempts, found.lost, found.reason) == (0, 0, "TRex has the port")
    assert found.greeted is None


def test_loss_is_by_reason() -> None:
    found = record(SETTINGS, "d:22", [(0, 5, 9, ""), (1, 5, None, "late"), (2, None, None, "refused"),
                                      (3, None, None, "refused")])
    assert (found.attempts, found.lost, found.reasons) == (4, 3, {"late": 1, "refused": 2})
    assert found.greeted_ns == [9]
