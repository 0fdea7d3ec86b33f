# SPDX-License-Identifier: Apache-2.0
"""The bystander on the generator's side: opens a TCP connection at a fixed rate, waits for the server's greeting, and
times both. One file, standard library only, Python 3.6 syntax; JSON lines on stdin and stdout.

Started with the generator host's interpreter; ends with its input. ``start`` begins at once and answers with this
host's CLOCK_MONOTONIC; ``stop`` lets what is under way come to its end or its deadline, and answers with every attempt
as ``[start ns, ns until connected or None, ns until greeted or None, reason]``.
"""

import errno
import json
import os
import selectors
import socket
import struct
import sys
import time
from typing import Any, Dict, List, Optional, Set, Tuple

#: Attempts kept of one series; the caller's rate and duration stay below it.
MOST_ATTEMPTS = 100000
GREETING_BYTES = 256
#: Reset instead of FIN: the server's child ends at once, no TIME_WAIT stays behind.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def now_ns() -> int:
    """CLOCK_MONOTONIC; ``monotonic_ns`` came with Python 3.7."""
    return time.monotonic_ns() if hasattr(time, "monotonic_ns") else int(time.monotonic() * 1e9)


class Attempt:
    """One connection under way."""

    def __init__(self, source: str, target: Tuple[str, int], deadline_ns: int) -> None:
        self.deadline_ns = deadline_ns
        self.connected_ns: Optional[int] = None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.socket.bind((source, 0))
        self.started_ns = now_ns()
        self.error = self.socket.connect_ex(target)


class Prober:
    """A series of attempts. ``fifo`` > 0: at this real-time priority, where the generator spins on the same core."""

    def __init__(self, selector: selectors.BaseSelector, source: str, address: str, port: int, rate: float,
                 timeout_s: float, fifo: int) -> None:
        self.selector, self.source, self.target = selector, source, (address, port)
        self.period_ns, self.timeout_ns = int(1e9 / rate), int(timeout_s * 1e9)
        self.open: Set[Attempt] = set()
        self.done: List[List[Any]] = []
        self.next_ns = now_ns()
        self.running = True
        if fifo:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(fifo))

    def wait_s(self) -> Optional[float]:
        """How long nothing is due."""
        due = [attempt.deadline_ns for attempt in self.open]
        if self.running:
            due.append(self.next_ns)
        return max(0.0, (min(due) - now_ns()) / 1e9) if due else None

    def tick(self) -> None:
        """Begin what is due, end what is overdue. A late turn is not caught up with."""
        now = now_ns()
        if self.running and now >= self.next_ns and len(self.done) + len(self.open) < MOST_ATTEMPTS:
            self.next_ns = max(self.next_ns + self.period_ns, now)
            self._begin(now)
        for attempt in [a for a in self.open if now >= a.deadline_ns]:
            self._end(attempt, None, "no connection in time" if attempt.connected_ns is None else "no greeting in time")

    def _begin(self, now: int) -> None:
        try:
            attempt = Attempt(self.source, self.target, now + self.timeout_ns)
        except OSError as error:  # the source address has gone, or no descriptor is left
            self.done.append([now, None, None, error.strerror or str(error)])
            return
        self.open.add(attempt)
        if attempt.error not in (0, errno.EINPROGRESS):
            self._end(attempt, None, os.strerror(attempt.error))
            return
        self.selector.register(attempt.socket, selectors.EVENT_WRITE, attempt)

    def ready(self, attempt: Attempt) -> None:
        """The attempt's socket has news."""
        now = now_ns()
        try:
            if attempt.connected_ns is None:
                error = attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                attempt.connected_ns = now - attempt.started_ns
                self.selector.modify(attempt.socket, selectors.EVENT_READ, attempt)
                return
            greeting = attempt.socket.recv(GREETING_BYTES)
        except OSError as error:
            self._end(attempt, None, error.strerror or str(error))
            return
        if greeting:
            self._end(attempt, now - attempt.started_ns, "")
        else:
            self._end(attempt, None, "closed without a greeting")

    def _end(self, attempt: Attempt, greeted_ns: Optional[int], reason: str) -> None:
        self.open.discard(attempt)
        if attempt.socket in self.selector.get_map():
            self.selector.unregister(attempt.socket)
        attempt.socket.close()
        self.done.append([attempt.started_ns, attempt.connected_ns, greeted_ns, reason])

    def finish(self) -> bool:
        """Begin nothing more; true once nothing is under way."""
        self.running = False
        return not self.open

    def abandon(self) -> None:
        """Close what is under way."""
        for attempt in list(self.open):
            self._end(attempt, None, "abandoned")


class Service:
    """Requests in, one answer a request out."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        self.prober: Optional[Prober] = None
        self.stopping: Optional[int] = None
        self.pending = b""

    def serve(self) -> None:
        """Until the end of input."""
        while True:
            wait = self.prober.wait_s() if self.prober else None
            for key, _ in self.selector.select(wait):
                if key.data is None:
                    if not self._read():
                        return
                elif self.prober:
                    self.prober.ready(key.data)
            if self.prober:
                self.prober.tick()
            if self.prober and self.stopping is not None and self.prober.finish():
                self._answer(self.stopping, {"attempts": self.prober.done})
                self.prober, self.stopping = None, None

    def _read(self) -> bool:
        data = os.read(sys.stdin.fileno(), 65536)
        self.pending += data
        while b"\n" in self.pending:
            line, _, self.pending = self.pending.partition(b"\n")
            self._obey(json.loads(line.decode()))
        return bool(data)

    def _obey(self, request: Dict[str, Any]) -> None:
        try:
            if request["op"] == "start":
                if self.prober:
                    self.prober.abandon()
                self.prober = Prober(self.selector, **request["params"])
                self._answer(request["id"], {"now_ns": now_ns()})
            elif request["op"] == "stop" and self.prober:
                self.stopping = request["id"]
            else:
                raise ValueError("unknown request, or nothing to stop: {!r}".format(request["op"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._write({"id": request.get("id"), "ok": False, "error": {"kind": "refused", "message": str(error)}})

    def _answer(self, number: int, result: Dict[str, Any]) -> None:
        self._write({"id": number, "ok": True, "result": result})

    def _write(self, answer: Dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Service().serve()
