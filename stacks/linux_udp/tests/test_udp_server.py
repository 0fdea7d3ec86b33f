# SPDX-License-Identifier: Apache-2.0
"""The C server itself, built and spoken to over loopback: what comes back, what is counted, how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests import servers
from tests.servers import CORES, ENDS, HOSTILE, Server, built, free_port, refused

SOURCE = Path(__file__).parent.parent / "src"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(SOURCE, "udp-server", tmp_path_factory.mktemp("udp-server"))


def serving(program: Path, *options: str, role: str = "echo", cores: Sequence[int] = ()
            ) -> AbstractContextManager[Server]:
    """A server on a free loopback port."""
    return servers.serving(program, free_port(socket.SOCK_DGRAM), ["--role", role, *options], cores)


def client() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(5)
    return made


@pytest.mark.parametrize("mode", ["block", "epoll", "busy"])
@pytest.mark.parametrize("sharing", [
    (), ("--reuseport",), *(("--reuseport", "--steering", how) for how in ("cpu", "ebpf", "incoming-cpu"))])
def test_echo_returns_every_payload_to_its_sender(program: Path, mode: str, sharing: tuple[str, ...]) -> None:
    with serving(program, "--mode", mode, *sharing, cores=CORES[:2]) as server:
        for n in range(8):
            with client() as one:
                payloads = [bytes([n, k]) * (9 + 40 * k) for k in range(20)]
                for payload in payloads:
                    one.sendto(payload, server.address)
                back = [one.recvfrom(9300) for _ in payloads]
                assert sorted(payload for payload, _ in back) == sorted(payloads)
                assert {sender for _, sender in back} == {server.address}
        assert server.reaches("received", 160)
        assert server.reaches("sent", 160)
        assert server.total("received") == server.total("sent") == 160
        assert server.total("send_errors") == server.total("discarded") == 0


def test_drop_counts_test_datagrams_by_length_and_answers_none(program: Path) -> None:
    with serving(program, "--payload", "18", role="drop") as server, client() as one:
        one.settimeout(0.2)
        for length in (18, 18, 17, 0, 18, 1400):
            one.sendto(bytes(length), server.address)
        with pytest.raises(TimeoutError):
            one.recv(100)
        assert (server.total("received"), server.total("discarded"), server.total("other")) == (6, 3, 3)


SEND = """
import os, socket, sys
core, count, host, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
os.sched_setaffinity(0, {core})
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(count):
    sender.sendto(b"x", (host, port))
"""


@pytest.mark.parametrize("per_core", [1, 3])
@pytest.mark.parametrize("steering", ["cpu", "incoming-cpu"])
def test_steering_by_cpu_hands_datagrams_to_the_workers_of_the_receiving_core(
        program: Path, steering: str, per_core: int) -> None:
    """Loopback receives on the core that sends. One of several workers there is picked for each datagram (cpu), or for
    each flow (incoming-cpu)."""
    options = ("--reuseport", "--steering", steering, "--per-core", str(per_core))
    with serving(program, *options, role="drop", cores=CORES[1::-1]) as server:
        for core, number in ((CORES[0], 30), (CORES[1], 50)):
            subprocess.run([sys.executable, "-c", SEND, str(core), str(number), *map(str, server.address)], check=True)
        assert server.reaches("received", 80), "workers count what they have been woken for"
        workers = server.stats()["workers"]
        assert [worker["core"] for worker in workers] == [CORES[1]] * per_core + [CORES[0]] * per_core
        for core, expected in ((CORES[0], 30), (CORES[1], 50)):
            taken = [worker["received"] for worker in workers if worker["core"] == core]
            assert sum(taken) == expected
            assert sum(map(bool, taken)) == (per_core if steering == "cpu" else 1)


@pytest.mark.parametrize("mode", ["block", "epoll", "busy"])
@pytest.mark.parametrize("sharing", [(), ("--reuseport",)])
def test_four_workers_on_one_core_share_a_socket_or_have_one_each(
        program: Path, mode: str, sharing: tuple[str, ...]) -> None:
    """Their counters sum up to what was sent, over one socket and over a group of four."""
    with serving(program, "--mode", mode, "--per-core", "4", *sharing, role="drop", cores=CORES[:1]) as server:
        for _ in range(100):
            with client() as one:
                one.sendto(b"x", server.address)
        assert server.reaches("received", 100)
        stats = server.stats()
        assert len(stats["sockets"]) == (4 if sharing else 1)
        taken = [worker["received"] for worker in stats["workers"]]
        assert (len(taken), sum(taken)) == (4, 100)
        assert all(taken) or not sharing, "a group gives every worker some of a hundred flows"


def test_steering_by_ebpf_spreads_senders_in_turn(program: Path) -> None:
    """Loopback's senders share an address: successive ports take the sockets in turn, whatever core they send on."""
    with serving(program, "--reuseport", "--steering", "ebpf", role="drop", cores=CORES[:2]) as server:
        expected = {CORES[0]: 0, CORES[1]: 0}
        for _ in range(40):
            with client() as one:
                one.sendto(b"x", server.address)
                number = int.from_bytes(socket.inet_aton("127.0.0.1")) + one.getsockname()[1]
                expected[CORES[number % 2]] += 1
        assert server.reaches("received", 40)
        assert {worker["core"]: worker["received"] for worker in server.stats()["workers"]} == expected
        assert min(expected.values()) > 0


def test_a_worker_that_shares_its_core_waits_for_it(program: Path) -> None:
    """Both workers poll on one core: each is switched out for the other, and waits while the other runs."""
    with serving(program, "--mode", "busy", "--reuseport", cores=[CORES[0], CORES[0]]) as server:
        deadline = time.monotonic() + 20
        while True:
            workers = server.stats()["workers"]
            if all(w["involuntary_switches"] > 5 and w["run_queue_wait_ns"] > 10_000_000 for w in workers):
                break
            assert time.monotonic() < deadline, workers


def test_drops_of_a_full_buffer_are_counted_exactly(program: Path) -> None:
    with serving(program, "--rcvbuf", "0", role="drop") as server, client() as one:
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(2000):
            one.sendto(bytes(18), server.address)
        server.process.send_signal(signal.SIGCONT)
        assert server.reaches("received", 1)
        dropped = server.stats()["sockets"][0]["drops"]
        assert dropped > 0
        assert server.reaches("received", 2000 - dropped)
        assert server.stats()["sockets"][0]["drops"] == dropped == 2000 - server.total("received"), "counted once"


def test_busy_mode_counts_polls_that_found_nothing(program: Path) -> None:
    with serving(program, "--mode", "busy") as server, client() as one:
        one.sendto(b"x", server.address)
        one.recv(10)
        assert server.reaches("batches", 1)
        assert server.reaches("empty_polls", 1000)
        assert server.total("batches") == 1


@pytest.mark.parametrize("end", ENDS)
def test_ends_at_once_when_told(program: Path, end: str) -> None:
    with serving(program) as server:
        assert server.end(end) == 0


def test_hostile_control_lines_do_no_harm(program: Path) -> None:
    with serving(program) as server:
        for line in HOSTILE:
            server.say(f"{line}\n")
            assert server.hear() == "error unknown command\n"
        assert len(server.stats()["workers"]) == 1
        server.say("x" * 5000)
        assert server.process.wait(timeout=5) == 0, "a line without end ends the server"


@pytest.mark.parametrize("wrong", [
    ["--bind", "127.0.0.1"], ["--bind", "localhost:1"], ["--bind", "127.0.0.1:0"], ["--bind", "127.0.0.1:65536"],
    ["--cores", "0,,1"], ["--cores", "-1"], ["--cores", "1025"], ["--batch", "65"], ["--batch", "0"], ["--mode", "x"],
    ["--per-core", "0"], ["--per-core", "65"],
    ["--role", "reflect"], ["--steering", "cpu"],
    ["--steering", "ebpf"], ["--steering", "x"], ["--rcvbuf", "1x"], ["extra"], ["--unknown"],
])
def test_wrong_options_are_refused_before_anything_is_opened(program: Path, wrong: list[str]) -> None:
    status, said = refused(program, ["--role", "echo", "--bind", "127.0.0.1:9", "--cores", "0", *wrong])
    assert status == 2
    assert "usage: udp-server" in said


def test_an_address_in_use_is_an_error_not_a_share(program: Path) -> None:
    with serving(program) as server:
        status, said = refused(program, ["--role", "echo", "--bind", f"127.0.0.1:{server.address[1]}",
                                         "--cores", str(CORES[0])])
        assert status == 1
        assert "bind: Address already in use" in said
