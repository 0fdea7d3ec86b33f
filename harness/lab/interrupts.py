# SPDX-License-Identifier: Apache-2.0
"""Steps that are not interrupted: a Ctrl-C waits until a removal, or one step inside a namespace, has ended."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold INT, TERM and HUP back inside the block and deliver them after it. Outside the main thread, which alone
    receives signals in Python, there is nothing to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        pending.append(number)

    handlers: dict[signal.Signals, Any] = {}
    try:
        for number in _DEFERRED:
            handlers[number] = signal.signal(number, remember)
        yield
    finally:
        for number, handler in reversed(handlers.items()):  # INT, which raises, last
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for late in dict.fromkeys(pending):
            signal.raise_signal(late)
