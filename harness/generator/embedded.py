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
from harness.host.child import Spawn, stop

_READY_S = 20.0
_STOP_S = 10.0
#: What the server prints once it answers.
READY = b'"serving": true'


@dataclass(frozen=True)
class EmbeddedServer:
    """How to start xdpgen. ``dst_macs``: by port, the MAC of the DUT's port at the other end."""

    ifnames: tuple[str, ...]
    dst_macs: tuple[str, ...]
    cores: tuple[int, ...]
    sync_port: int
    async_port: int
    speed_gbps: float
    #: Room for prepared headers (:func:`table_cells`); 0: the server's own.
    table_cells: int = 0

    def argv(self) -> list[str]:
        """The whole command, pinned to the generator's cores."""
        options = [f"--interface={name}" for name in self.ifnames]
        options.append("--cores=" + ",".join(str(core) for core in self.cores))
        options += [f"--dst-mac={port}={mac}" for port, mac in enumerate(self.dst_macs)]
        options += [f"--sync-port={self.sync_port}", f"--async-port={self.async_port}", f"--speed={self.speed_gbps}"]
        if self.table_cells:
            options.append(f"--table-cells={self.table_cells}")
        options.append("--until-eof")
        return on_cores(self.cores, [sys.executable, "-m", "harness.generator.xdpgen", *options])

    @contextlib.contextmanager
    def run(self, spawn: Spawn) -> Iterator[subprocess.Popen[bytes]]:
        """Serve while the context lasts. Raises GeneratorError with the log's tail when it does not come up."""
        with tempfile.TemporaryFile() as log:
            # This process holds the pipe's other end: the server ends with it, even where it is killed.
            process = spawn(self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            try:
                _wait_ready(process, log)
                yield process
            finally:
                stop(process, _STOP_S)
                if process.stdin is not None:
                    process.stdin.close()


def on_cores(cores: Sequence[int], argv: Sequence[str]) -> list[str]:
    """The argv that runs a program of the generator's side on the generator's cores."""
    return ["taskset", "-c", ",".join(str(core) for core in cores), *argv]


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
