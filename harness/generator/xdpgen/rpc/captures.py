# SPDX-License-Identifier: Apache-2.0
"""Captured frames: who wants them, and how they get there from the dataplane (trex-stl-rpc.md 3.3)."""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from harness.generator.xdpgen.contract import Dataplane
from harness.generator.xdpgen.rpc.bpf_filter import BpfFilter
from harness.generator.xdpgen.rpc.errors import ExecuteError

MAX_CAPTURES = 32
MAX_FRAMES = 100_000
#: Received frames the dataplane copies per port while a port is watched.
_TAP_LIMIT = 1_000_000


@dataclass(frozen=True)
class Frame:
    """One captured frame; ``index`` counts within its capture from 1."""

    at: float
    origin: str
    port: int
    data: bytes
    index: int

    def reply(self, snaplen: int) -> dict[str, Any]:
        """The frame as clients get it."""
        data = self.data[:snaplen] if snaplen else self.data
        return {
            "binary": base64.b64encode(data).decode(),
            "ts": self.at,
            "port": self.port,
            "index": self.index,
            "origin": self.origin,
            "wirelen": len(self.data),
        }


@dataclass
class Capture:
    """One capture; ``tx``/``rx``: the ports it listens on."""

    capture_id: int
    limit: int
    cyclic: bool
    tx: frozenset[int]
    rx: frozenset[int]
    pattern: BpfFilter
    snaplen: int
    started: float
    active: bool = True
    matched: int = 0
    fetched: int = 0
    frames: deque[Frame] = field(default_factory=deque)

    def offer(self, at: float, origin: str, port: int, data: bytes) -> None:
        """Keep a frame if this capture wants it."""
        wanted = self.tx if origin == "TX" else self.rx
        if not self.active or at < self.started or port not in wanted or not self.pattern.matches(data):
            return
        self.matched += 1
        if len(self.frames) >= self.limit:
            if not self.cyclic:
                return
            self.frames.popleft()
        self.frames.append(Frame(at, origin, port, data, self.matched))

    def status(self) -> dict[str, Any]:
        """One entry of ``capture status``."""
        return {
            "id": self.capture_id,
            "state": "ACTIVE" if self.active else "STOPPED",
            "matched": self.matched,
            "fetched": self.fetched,
            "filter": {
                "tx": sum(1 << port for port in self.tx),
                "rx": sum(1 << port for port in self.rx),
                "bpf": self.pattern.expression,
            },
            "count": len(self.frames),
            "bytes": sum(len(frame.data) for frame in self.frames),
            "limit": self.limit,
            "mode": "cyclic" if self.cyclic else "fixed",
        }


class Captures:
    """All captures and receive queues; the dataplane is asked for frames only while somebody wants them."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._captures: dict[int, Capture] = {}
        self._queues: dict[int, deque[Frame]] = {}
        self._tapped: set[int] = set()
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._captures)

    def all(self) -> list[Capture]:
        """Every capture, oldest first."""
        return list(self._captures.values())

    def get(self, capture_id: int) -> Capture:
        """A capture by number; ``ExecuteError`` if there is none."""
        if capture_id not in self._captures:
            raise ExecuteError("capture ID not found")
        return self._captures[capture_id]

    def add(self, capture: Capture) -> None:
        """Begin a capture."""
        self._captures[capture.capture_id] = capture
        self._retap()

    def next_id(self) -> int:
        """The number of a new capture; ``ExecuteError`` when there are too many."""
        if len(self._captures) >= MAX_CAPTURES:
            raise ExecuteError(f"at most {MAX_CAPTURES} captures can exist; remove one")
        number, self._next_id = self._next_id, self._next_id + 1
        return number

    def stop(self, capture_id: int) -> Capture:
        """End a capture; its frames stay."""
        self.pull()
        capture = self.get(capture_id)
        capture.active = False
        self._retap()
        return capture

    def remove(self, capture_id: int) -> None:
        """Forget a capture."""
        self.get(capture_id).pattern.close()
        del self._captures[capture_id]
        self._retap()

    def watched(self, port: int) -> bool:
        """True while an active capture listens on a port."""
        return any(capture.active and port in capture.tx | capture.rx for capture in self._captures.values())

    def queue_on(self, port: int, size: int) -> None:
        """Keep the last ``size`` received frames of a port."""
        self._queues[port] = deque(self._queues.get(port, ()), maxlen=size)
        self._retap()

    def queue_off(self, port: int) -> None:
        """Stop keeping received frames."""
        self._queues.pop(port, None)
        self._retap()

    def queue(self, port: int) -> deque[Frame] | None:
        """Received frames kept for a port; None while its queue is off."""
        return self._queues.get(port)

    def _retap(self) -> None:
        for info in self._dataplane.ports:
            wanted = info.index in self._queues or self.watched(info.index)
            if wanted is not (info.index in self._tapped):
                self._dataplane.capture(info.index, wanted, _TAP_LIMIT)
                (self._tapped.add if wanted else self._tapped.discard)(info.index)

    def pull(self) -> None:
        """Distribute what the dataplane has captured since the last call, in order of time."""
        frames = [
            (at, port, origin, data)
            for port in sorted(self._tapped)
            for at, origin, data in self._dataplane.captured(port)
        ]
        for at, port, origin, data in sorted(frames, key=lambda item: item[0]):
            for capture in self._captures.values():
                capture.offer(at, origin, port, data)
            if origin == "RX" and port in self._queues:
                self._queues[port].append(Frame(at, "NONE", -1, data, 0))
