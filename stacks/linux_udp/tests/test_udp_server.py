# SPDX-License-Identifier: Apache-2.0
"""The C server itself, built and spoken to over loopback: what comes back, what is counted, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent.parent / "src"
CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server, built without a warning."""
    folder = tmp_path_factory.mktemp("udp-server") / "src"
    shutil.copytree(SOURCE, folder)
    subprocess.run(["make", "-C", folder, "CFLAGS=-O1 -Werror", "udp-server"], check=True, capture_output=True,
                   timeout=120)
    return folder / "udp-server"


class Server:
    """A running server and its control line."""

    def __init__(self, process: subprocess.Popen[str], address: tuple[str, int]) -> None:
        self.process = process
        self.address = address
        self._asked = 0

    def stats(self) -> dict[str, Any]:
        self._asked += 1
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"stats {self._asked}\n")
        self.process.stdin.flush()
        word, number, body = self.process.stdout.readline().split(" ", 2)
        assert (word, number) == ("stats", str(self._asked))
        return json.loads(body)  # type: ignore[no-any-return]

    def total(self, name: str) -> int:
        return sum(worker[name] for worker in self.stats()["workers"])

    def reaches(self, name: str, expected: int) -> bool:
        """Whether a counter comes to this value or beyond within 5 s: a reply may arrive before its worker has counted
        it."""
        deadline = time.monotonic() + 5
        while self.total(name) < expected:
            if time.monotonic() > deadline:
                return False
        return True


@contextmanager
def serving(program: Path, *options: str, role: str = "echo", cores: list[int] | None = None) -> Iterator[Server]:
    """A server on a free loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    argv = [program, "--role", role, "--bind", f"{address[0]}:{address[1]}",
            "--cores", ",".join(map(str, cores or CORES[:1])), *options]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready ")
            yield Server(process, address)
        finally:
            process.kill()


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


@pytest.mark.parametrize("steering", ["cpu", "incoming-cpu"])
def test_steering_by_cpu_hands_datagrams_to_the_worker_of_the_receiving_core(program: Path, steering: str) -> None:
    """Loopback receives on the core that sends."""
    with serving(program, "--reuseport", "--steering", steering, role="drop", cores=CORES[1::-1]) as server:
        for core, number in ((CORES[0], 30), (CORES[1], 50)):
            subprocess.run([sys.executable, "-c", SEND, str(core), str(number), *map(str, server.address)], check=True)
        assert server.reaches("received", 80), "workers count what they have been woken for"
        received = {worker["core"]: worker["received"] for worker in server.stats()["workers"]}
        assert received == {CORES[0]: 30, CORES[1]: 50}


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


@pytest.mark.parametrize("end", ["eof", "quit", "TERM", "INT"])
def test_ends_at_once_when_told(program: Path, end: str) -> None:
    with serving(program) as server:
        assert server.process.stdin is not None
        if end == "eof":
            server.process.stdin.close()
        elif end == "quit":
            server.process.stdin.write("quit\n")
            server.process.stdin.flush()
        else:
            server.process.send_signal(getattr(signal, f"SIG{end}"))
        assert server.process.wait(timeout=5) == 0


def test_hostile_control_lines_do_no_harm(program: Path) -> None:
    with serving(program) as server:
        assert server.process.stdin is not None
        assert server.process.stdout is not None
        for line in ("stats", "stats ", "stats -1", "stats 1 2", "stats " + "9" * 40, "\x01\x7f"):
            server.process.stdin.write(line + "\n")
            server.process.stdin.flush()
            assert server.process.stdout.readline() == "error unknown command\n"
        assert len(server.stats()["workers"]) == 1
        server.process.stdin.write("x" * 5000)
        server.process.stdin.flush()
        assert server.process.wait(timeout=5) == 0, "a line without end ends the server"


@pytest.mark.parametrize("wrong", [
    ["--bind", "127.0.0.1"], ["--bind", "localhost:1"], ["--bind", "127.0.0.1:0"], ["--bind", "127.0.0.1:65536"],
    ["--cores", "0,,1"], ["--cores", "-1"], ["--cores", "1025"], ["--batch", "65"], ["--batch", "0"], ["--mode", "x"],
    ["--role", "reflect"], ["--steering", "cpu"],
    ["--steering", "ebpf"], ["--steering", "x"], ["--rcvbuf", "1x"], ["extra"], ["--unknown"],
])
def test_wrong_options_are_refused_before_anything_is_opened(program: Path, wrong: list[str]) -> None:
    argv = [program, "--role", "echo", "--bind", "127.0.0.1:9", "--cores", "0", *wrong]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "usage: udp-server" in done.stderr


def test_an_address_in_use_is_an_error_not_a_share(program: Path) -> None:
    with serving(program) as server:
        argv = [program, "--role", "echo", "--bind", f"127.0.0.1:{server.address[1]}", "--cores", str(CORES[0])]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
        assert done.returncode == 1
        assert "bind: Address already in use" in done.stderr
