# SPDX-License-Identifier: Apache-2.0
"""Starts xdpgen as a process of its own, beside the lab's generator ports, and ends it."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from harness.errors import GeneratorError
from harness.generator.channel import stop_process

_READY_S = 20.0
#: What the server prints once it answers.
READY = b"serving"


@dataclass(frozen=True)
class EmbeddedServer:
    """How to start xdpgen. ``prefix``: argv that enters the generator's namespace and pins to its cores."""

    prefix: tuple[str, ...]
    ifnames: tuple[str, ...]
    cores: tuple[int, ...]
    sync_port: int
    async_port: int

    def argv(self) -> list[str]:
        """The whole command."""
        options = [f"--interface={name}" for name in self.ifnames]
        options.append("--cores=" + ",".join(str(core) for core in self.cores))
        options += [f"--sync-port={self.sync_port}", f"--async-port={self.async_port}"]
        return [*self.prefix, sys.executable, "-m", "harness.generator.xdpgen", *options]

    @contextlib.contextmanager
    def run(self) -> Iterator[subprocess.Popen[bytes]]:
        """Serve while the context lasts. Raises GeneratorError with the log's tail when it does not come up."""
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
            try:
                _wait_ready(process, log)
                yield process
            finally:
                _stop(process)


def _wait_ready(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    assert process.stdout is not None
    deadline, seen = time.monotonic() + _READY_S, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while READY not in seen:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise GeneratorError(f"xdpgen did not serve within {_READY_S:.0f} s{_tail(log)}")
            data = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                raise GeneratorError(f"xdpgen ended before it served{_tail(log)}")
            seen += data


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, 2)
    log.seek(max(0, size - 2000))
    text = log.read().decode(errors="replace").strip()
    return f": {text}" if text else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it ended first
        process.stdin.close()
    stop_process(process)
    process.stdout.close()


def python_prefix(netns: str, cores: Sequence[int]) -> tuple[str, ...]:
    """argv prefix for a program of the generator's side: in its namespace, on its cores."""
    core_list = ",".join(str(core) for core in cores)
    return ("ip", "netns", "exec", netns, "taskset", "-c", core_list)
