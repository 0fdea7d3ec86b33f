# SPDX-License-Identifier: Apache-2.0
"""The agent as a local child over pipes: no SSH, no root, under the oldest and the newest interpreter at hand."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.host.bootstrap import AGENT_FILE
from tests.interpreters import interpreters


@functools.cache
def compiled(python: str) -> str:
    """The agent compiled by an interpreter: compiling it for each of many agents would take most of the tests' time."""
    folder = Path(tempfile.mkdtemp(prefix="netstack-harness-test-"))
    atexit.register(shutil.rmtree, folder)  # no fixture: tests that import this module have a cache of their own
    code = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)"
    subprocess.run([python, "-I", "-c", code, str(AGENT_FILE), str(folder / "agent.pyc")], check=True)
    return str(folder / "agent.pyc")


class RawAgent:
    """An agent and its pipes. Its lease is short, and nothing beats unless a test does."""

    def __init__(self, folder: Path, python: str) -> None:
        argv = [python, "-I", compiled(python), "serve", str(folder), str(folder), str(folder / "cache")]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.buffer = b""
        self.number = 0

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, timeout_s: float = 20.0) -> dict[str, Any]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self.buffer:
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("no answer")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise EOFError("the agent ended")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, op: str, **args: Any) -> dict[str, Any]:
        """The whole answer of one request."""
        self.number += 1
        self.send(json.dumps({"id": self.number, "op": op, "args": args}).encode() + b"\n")
        answer = self.receive()
        assert answer["id"] == self.number
        return answer

    def ok(self, op: str, **args: Any) -> Any:
        """The result of a request that has to succeed."""
        answer = self.ask(op, **args)
        assert "ok" in answer, answer
        return answer["ok"]

    def hello(self, lease_s: float = 30.0, wait_s: float = 5.0) -> dict[str, Any]:
        return dict(self.ok("hello", protocol=1, owner="a test", lease_s=lease_s, home_cores=[], wait_s=wait_s))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Wait for its end, which the closed pipes brought about."""
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def close_pipes(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., RawAgent]]:
    """Start agents that share one state folder; all are ended afterwards."""
    started: list[RawAgent] = []

    def start(python: str = sys.executable, greet: bool = True, **hello: float) -> RawAgent:
        started.append(RawAgent(tmp_path / "state", python))
        if greet:
            started[-1].hello(**hello)
        return started[-1]

    try:
        yield start
    finally:
        for agent in started:
            agent.close_pipes()  # the agent undoes and ends
        for agent in started:
            agent.end()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawAgent]:
    """One agent for all tests of a module that leave nothing in it."""
    shared = RawAgent(tmp_path_factory.mktemp("shared") / "state", sys.executable)
    shared.hello(lease_s=300)
    yield shared
    shared.close_pipes()
    shared.end()


@pytest.fixture(params=interpreters(), ids=lambda path: Path(path).parts[-3])
def any_python(request: pytest.FixtureRequest) -> str:
    """Each interpreter in turn."""
    return str(request.param)
