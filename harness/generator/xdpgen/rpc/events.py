# SPDX-License-Identifier: Apache-2.0
"""Event queues per client session (trex-stl-rpc.md 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

#: A session with pending events that did not poll for so long gets no further ones (seconds).
IDLE_LIMIT = 10.0
#: Sessions remembered; the one that polled longest ago makes room for a new one.
MAX_SESSIONS = 256
#: Events kept per session.
MAX_QUEUE = 10_000


class EventType(IntEnum):
    """Numbers of TRex's events."""

    PORT_STARTED = 0
    PORT_STOPPED = 1
    PORT_PAUSED = 2
    PORT_RESUMED = 3
    PORT_JOB_DONE = 4
    PORT_ACQUIRED = 5
    PORT_RELEASED = 6
    PORT_ATTR_CHANGED = 8
    PROFILE_STARTED = 10
    PROFILE_STOPPED = 11
    PROFILE_PAUSED = 12
    PROFILE_RESUMED = 13
    PROFILE_FINISHED = 14
    SERVER_STOPPED = 100


@dataclass
class _Session:
    queue: list[dict[str, Any]] = field(default_factory=list)
    next_seq: int = 0
    polled_at: float = 0.0


class EventHub:
    """Queues events for every known session; ``wake`` is called once per event (publishes ``{}``)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._sessions: dict[int, _Session] = {}
        self.wake: Callable[[], None] = lambda: None

    def register(self, session_id: int) -> None:
        """Make a session a receiver of later events."""
        if session_id in self._sessions:
            return
        if len(self._sessions) >= MAX_SESSIONS:
            oldest = min(self._sessions, key=lambda key: self._sessions[key].polled_at)
            del self._sessions[oldest]
        self._sessions[session_id] = _Session(polled_at=self._now())

    def emit(self, kind: EventType, data: dict[str, Any]) -> None:
        """Queue one event for every session that still polls; sequence numbers have no gaps."""
        for session in self._sessions.values():
            silent = self._now() - session.polled_at > IDLE_LIMIT
            if (silent and session.queue) or len(session.queue) >= MAX_QUEUE:
                continue
            event = {"name": "trex-event", "type": int(kind), "data": dict(data), "seq": session.next_seq}
            session.queue.append(event)
            session.next_seq += 1
        self.wake()

    def take(self, session_id: int) -> list[dict[str, Any]]:
        """Empty and return a session's queue; an unknown session is registered."""
        self.register(session_id)
        session = self._sessions[session_id]
        session.polled_at = self._now()
        events, session.queue = session.queue, []
        return events
