# SPDX-License-Identifier: Apache-2.0
"""Traffic with a start time (``start_at_ts``): kept until shortly before it, then handed over together.

A sending core waits for its first departure as busily as it sends. Handed over at once, the streams of one port would
keep the server from preparing those of the next, and the second direction would begin when the first had ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.generator.xdpgen.contract import Dataplane, TxStream

#: Head start given to the dataplane before the first frame is due (seconds), and per byte of prepared headers.
_LEAD, _LEAD_PER_BYTE = 0.02, 4e-9


def lead(streams: Sequence[TxStream]) -> float:
    """How long before their first departure streams have to be handed over, in seconds."""
    return _LEAD + _LEAD_PER_BYTE * sum(stream.headers.nbytes for stream in streams)


@dataclass
class _Waiting:
    at: float
    until: float | None
    streams: list[TxStream]

    @property
    def due(self) -> float:
        return self.at - lead(self.streams)


class Schedule:
    """Streams that wait for their time, by it and their end."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._waiting: list[_Waiting] = []

    def add(self, streams: Sequence[TxStream], at: float, until: float | None) -> None:
        """Start these at ``at``, in one with all others of the same time and end."""
        for waiting in self._waiting:
            if (waiting.at, waiting.until) == (at, until):
                waiting.streams += streams
                return
        self._waiting.append(_Waiting(at, until, list(streams)))

    def next_due(self) -> float | None:
        """When :meth:`begin_due` should next be called; None: no need."""
        return min((waiting.due for waiting in self._waiting), default=None)

    def begin_due(self) -> None:
        """Hand over what starts soon."""
        now = self._dataplane.now()
        self._hand_over([waiting for waiting in self._waiting if waiting.due <= now])

    def begin(self, keys: Collection[int]) -> None:
        """Hand over at once what holds any of these streams: they are about to be changed. Their time stays."""
        self._hand_over([w for w in self._waiting if any(stream.key in keys for stream in w.streams)])

    def forget(self, keys: Collection[int]) -> None:
        """These streams are not going to start."""
        for waiting in self._waiting:
            waiting.streams = [stream for stream in waiting.streams if stream.key not in keys]
        self._waiting = [waiting for waiting in self._waiting if waiting.streams]

    def _hand_over(self, chosen: list[_Waiting]) -> None:
        for waiting in chosen:
            self._waiting.remove(waiting)
            self._dataplane.start(waiting.streams, waiting.at, waiting.until)
