# SPDX-License-Identifier: Apache-2.0
"""Where the harness's own programs run beside the generator's ports: on this machine, or on a host over SSH."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from harness.errors import HostError
from harness.host.channel import ByteChannel, PipeChannel
from harness.host.child import Spawn
from harness.host.contract import Completed
from harness.host.dut import CACHE_DIR
from harness.host.interpreter import that_imports
from harness.host.inventory import SURVEY_S, Request, Survey
from harness.host.ssh import SshConnection


class Side(Protocol):
    """Runs programs where the generator's ports are."""

    @property
    def python(self) -> str:
        """A Python there, for programs that need nothing but its standard library."""

    def python_for_client(self) -> str:
        """A Python there that has what the built-in client needs. Raises TestbedError."""

    def place(self, program: Path) -> str:
        """The path there of a file of the harness, put there if need be."""

    def start(self, argv: Sequence[str]) -> ByteChannel:
        """Start a program that is talked to."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed:
        """Run a command to its end. Raises HostError on a non-zero status (``check``) and when it takes longer."""


class ThisMachine:
    """``spawn`` starts a program where the ports are; ``inside`` is the argv that runs one there."""

    def __init__(self, spawn: Spawn, inside: Callable[[Sequence[str]], Sequence[str]]) -> None:
        self._spawn, self._inside = spawn, inside

    @property
    def python(self) -> str:
        return sys.executable

    def python_for_client(self) -> str:
        return sys.executable

    def place(self, program: Path) -> str:
        return str(program)

    def start(self, argv: Sequence[str]) -> ByteChannel:
        return PipeChannel(argv, self._spawn)

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed:
        try:
            done = subprocess.run(self._inside(argv), capture_output=True, text=True, timeout=timeout_s, check=False,
                                  stdin=subprocess.DEVNULL, errors="replace")
        except subprocess.TimeoutExpired as error:
            raise HostError(f"{argv[0]} on this machine was not done within {timeout_s:g} s") from error
        if check and done.returncode:
            raise HostError(f"{argv[0]} on this machine ended with status {done.returncode}: "
                            f"{done.stderr[-500:].strip()}")
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


class OverSsh:
    """A host that is connected to. Nothing of it is changed but files in the cache."""

    def __init__(self, connection: SshConnection) -> None:
        self._connection = connection

    @property
    def python(self) -> str:
        return "python3"

    def python_for_client(self) -> str:
        return that_imports(self._connection, "zmq", lacking="no Python on the generator host has the pyzmq that the "
                            "generator's client needs", remedy="Install it there: apt-get install python3-zmq").name

    def place(self, program: Path) -> str:
        return self._connection.deploy(program.read_bytes(), CACHE_DIR, program.name)

    def start(self, argv: Sequence[str]) -> ByteChannel:
        return self._connection.start(argv)

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed:
        return self._connection.run(argv, timeout_s=timeout_s, check=check)


def survey(side: Side, request: Request) -> Survey:
    """Look at the generator's host, from where its ports are. Raises HostError."""
    return Survey.parse(side.run(request.argv(side.python), timeout_s=SURVEY_S).stdout)
