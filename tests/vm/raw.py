# SPDX-License-Identifier: Apache-2.0
"""Frames made by hand at the generator's end of a wire, paced, without its XDP program (which lets no SSH through)."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Self

from harness.lab import in_netns


class RawPort:
    """A packet socket on a port inside a namespace. A context manager."""

    def __init__(self, namespace: str, ifname: str) -> None:
        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            made.bind((ifname, 0))
            return made

        self._socket = in_netns(namespace, opened)

    def send_until(self, frame: bytes, stop: threading.Event, pps: float) -> None:
        """Send the frame ``pps`` times a second until ``stop`` is set."""
        due = time.monotonic()
        while not stop.is_set():
            self._socket.send(frame.ljust(60, b"\0"))
            due += 1 / pps
            if (ahead := due - time.monotonic()) > 0:
                stop.wait(ahead)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._socket.close()
