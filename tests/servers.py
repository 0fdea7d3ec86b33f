# SPDX-License-Identifier: Apache-2.0
"""What the tests of stacks' C servers share: the server built without a warning, run over loopback, asked, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.host.build import source_files
from harness.stacks.servers import NATIVE

CORES = sorted(os.sched_getaffinity(0))
HOSTILE = ("stats", "stats ", "stats -1", "stats 1 2", "stats " + "9" * 40, "\x01\x7f")
ENDS = ("eof", "quit", "TERM", "INT")


def built(source: Path, target: str, folder: Path) -> Path:
    """The program, built in ``folder`` of what a DUT would be given; a warning of the compiler is an error."""
    for name, content in source_files(source, (NATIVE,)).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    subprocess.run(["make", "-C", folder, "CFLAGS=-O1 -Werror", target], check=True, capture_output=True, timeout=120)
    return folder / target


class Server:
    """A running server and its control line."""

    def __init__(self, process: subprocess.Popen[str], address: tuple[str, int]) -> None:
        self.process = process
        self.address = address
        self._asked = 0

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stats(self) -> dict[str, Any]:
        self._asked += 1
        self.say(f"stats {self._asked}\n")
        word, number, body = self.hear().split(" ", 2)
        assert (word, number) == ("stats", str(self._asked))
        return json.loads(body)  # type: ignore[no-any-return]

    def total(self, name: str) -> int:
        return sum(worker[name] for worker in self.stats()["workers"])

    def reaches(self, name: str, expected: int, within_s: float = 5) -> bool:
        """Whether a counter comes to this value or beyond: a reply may arrive before its worker has counted it."""
        deadline = time.monotonic() + within_s
        while self.total(name) < expected:
            if time.monotonic() > deadline:
                return False
        return True

    def end(self, how: str) -> int:
        """Its exit status after "eof", "quit" or a signal ("TERM")."""
        if how == "eof":
            assert self.process.stdin is not None
            self.process.stdin.close()
        elif how == "quit":
            self.say("quit\n")
        else:
            self.process.send_signal(getattr(signal, f"SIG{how}"))
        return self.process.wait(timeout=5)


def free_port(kind: socket.SocketKind) -> tuple[str, int]:
    """An address of loopback that nobody has at present."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
        return host, port


@contextmanager
def serving(program: Path, address: tuple[str, int], options: Sequence[str], cores: Sequence[int] = ()
            ) -> Iterator[Server]:
    """The server bound to this address, with one core where none are given."""
    argv = [program, "--bind", f"{address[0]}:{address[1]}", "--cores", ",".join(map(str, cores or CORES[:1])),
            *options]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            server = Server(process, address)
            assert server.hear().startswith("ready ")
            yield server
        finally:
            process.kill()


def refused(program: Path, options: Sequence[str]) -> tuple[int, str]:
    """Exit status and standard error of a server that is not to start."""
    done = subprocess.run([program, *options], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    return done.returncode, done.stderr
