# SPDX-License-Identifier: Apache-2.0
"""The C server itself, built and spoken to over loopback: what is answered, what is counted, how it ends."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests import servers
from tests.servers import CORES, ENDS, Server, built, free_port, refused

SOURCE = Path(__file__).parent.parent / "src"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(SOURCE, "accept-server", tmp_path_factory.mktemp("accept-server"))


def serving(program: Path, *options: str, cores: Sequence[int] = ()) -> AbstractContextManager[Server]:
    """A server on a free loopback port."""
    return servers.serving(program, free_port(socket.SOCK_STREAM), options, cores)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.address, timeout=5)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(4096):
        data += chunk
    return data


def exchange(server: Server, *pieces: bytes) -> bytes:
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return read_all(connection)


@pytest.mark.parametrize("mode", ["epoll", "block"])
@pytest.mark.parametrize("sharing", [(), ("--reuseport",), ("--reuseport", "--steering", "cpu")])
def test_every_connection_is_answered_once_and_closed_by_the_server(
        program: Path, mode: str, sharing: tuple[str, ...]) -> None:
    with serving(program, "--mode", mode, "--per-core", "2", *sharing, cores=CORES[:2]) as server:
        assert [exchange(server, REQUEST) for _ in range(40)] == [REPLY] * 40
        assert server.reaches("completed", 40)
        stats = server.stats()
        assert [w["core"] for w in stats["workers"]] == [core for core in CORES[:2] for _ in range(2)]
        assert len(stats["listeners"]) == (4 if sharing else 1)
        assert (server.total("accepted"), server.total("completed"), server.total("failed")) == (40, 40, 0)
        assert server.total("voluntary_switches") >= server.total("wakeups") > 0


def test_a_request_in_pieces_is_answered_when_it_is_complete(program: Path) -> None:
    with serving(program) as server, connect(server) as slow:
        slow.sendall(REQUEST[:10])
        assert exchange(server, REQUEST) == REPLY, "nobody waits for the slow one"
        slow.sendall(REQUEST[10:])
        assert read_all(slow) == REPLY


def ports_in_time_wait(local: int) -> set[int]:
    """Peers' ports of the connections that this local port keeps in TIME-WAIT."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [tuple(int(end.rsplit(":", 1)[1], 16) for end in row[1:3]) for row in rows if row[3] == "06"]
    return {peer for mine, peer in ends if mine == local}


def test_the_client_closes_second_and_keeps_no_time_wait(program: Path) -> None:
    """The reply comes with the FIN: in TIME-WAIT is the server's port alone, so a client never runs out of ports."""
    with serving(program) as server:
        ports = set()
        for _ in range(20):
            with connect(server) as connection:
                ports.add(connection.getsockname()[1])
                connection.sendall(REQUEST)
                assert read_all(connection) == REPLY
        deadline = time.monotonic() + 5
        while ports_in_time_wait(server.address[1]) != ports and time.monotonic() < deadline:
            time.sleep(0.02)  # the last acknowledgements are on their way
        assert ports_in_time_wait(server.address[1]) == ports
        assert not any(ports_in_time_wait(port) for port in ports)


def test_connections_without_a_request_are_counted_as_failed_not_as_completed(program: Path) -> None:
    with serving(program) as server:
        connect(server).close()
        with connect(server) as reset:
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with connect(server) as endless:
            endless.sendall(b"x" * 2048)
            assert read_all(endless) == b""
        assert server.reaches("failed", 3)
        assert (server.total("accepted"), server.total("completed"), server.total("failed")) == (3, 0, 3)


def test_a_silent_client_is_given_up_and_holds_a_blocking_worker_for_a_second_at_most(program: Path) -> None:
    with serving(program, "--mode", "block") as server, connect(server) as silent:
        assert exchange(server, REQUEST) == REPLY
        assert read_all(silent) == b""
        assert server.reaches("failed", 1)
        assert server.reaches("completed", 1)
        assert (server.total("completed"), server.total("failed")) == (1, 1)


def test_a_full_accept_queue_holds_what_its_backlog_says(program: Path) -> None:
    """Linux lets one more than the backlog wait; the server says how many do, and serves them when it can."""
    with serving(program, "--backlog", "4") as server, ExitStack() as opened:
        stop(server.process)
        waiting = [opened.enter_context(connect(server)) for _ in range(5)]
        for connection in waiting:
            connection.sendall(REQUEST)
        with socket.socket() as beyond:
            beyond.settimeout(0.3)
            with pytest.raises(TimeoutError):
                beyond.connect(server.address)
        server.process.send_signal(signal.SIGCONT)
        assert [read_all(connection) for connection in waiting] == [REPLY] * 5
        assert server.stats()["listeners"][0]["backlog"] == 4


def stop(process: subprocess.Popen[str]) -> None:
    """SIGSTOP, and wait until no thread runs any more."""
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 5
    tasks = list(Path(f"/proc/{process.pid}/task").iterdir())
    while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks):
        assert time.monotonic() < deadline, "it does not stop"


CONNECT = """
import os, socket, sys
core, count, host, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
os.sched_setaffinity(0, {core})
for _ in range(count):
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
        while connection.recv(4096):
            pass
"""


def test_steering_by_cpu_hands_connections_to_the_workers_of_the_receiving_core(program: Path) -> None:
    """Loopback receives on the core that sends; a core's workers share its connections."""
    with serving(program, "--reuseport", "--steering", "cpu", "--per-core", "2", cores=CORES[1::-1]) as server:
        for core, number in ((CORES[0], 30), (CORES[1], 50)):
            subprocess.run([sys.executable, "-c", CONNECT, str(core), str(number), *map(str, server.address)],
                           check=True)
        assert server.reaches("completed", 80)
        workers = server.stats()["workers"]
        accepted = {core: [w["accepted"] for w in workers if w["core"] == core] for core in CORES[:2]}
        assert {core: sum(each) for core, each in accepted.items()} == {CORES[0]: 30, CORES[1]: 50}
        assert all(each > 0 for pair in accepted.values() for each in pair)


@pytest.mark.parametrize("end", ENDS)
def test_ends_at_once_when_told_even_with_connections_open(program: Path, end: str) -> None:
    with serving(program) as server, connect(server):
        assert server.end(end) == 0


@pytest.mark.parametrize("wrong", [
    ["--bind", "127.0.0.1"], ["--bind", "127.0.0.1:65536"], ["--cores", "0,,1"], ["--cores", "1025"],
    ["--mode", "busy"], ["--steering", "cpu"], ["--backlog", "0"], ["--backlog", "1x"], ["--per-core", "65"], ["extra"],
    ["--per-core", "64", "--cores", ",".join(map(str, range(20)))], ["--unknown"],
])
def test_wrong_options_are_refused_before_anything_is_opened(program: Path, wrong: list[str]) -> None:
    status, said = refused(program, ["--bind", "127.0.0.1:9", "--cores", "0", *wrong])
    assert status == 2
    assert "usage: accept-server" in said


def test_an_address_in_use_is_an_error_not_a_share(program: Path) -> None:
    with serving(program) as server:
        status, said = refused(program, ["--bind", f"127.0.0.1:{server.address[1]}", "--cores", str(CORES[0])])
        assert status == 1
        assert "Address already in use" in said
