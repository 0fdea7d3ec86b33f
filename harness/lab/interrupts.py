# SPDX-License-Identifier: Apache-2.0
"""Removal is not interrupted: a second Ctrl-C waits until everything is undone."""

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

    handlers: dict[int, Any] = {number: signal.signal(number, remember) for number in _DEFERRED}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in dict.fromkeys(pending):
            signal.raise_signal(number)
