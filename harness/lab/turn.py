# SPDX-License-Identifier: Apache-2.0
"""One measurement at a time on this machine: labs share its cores, and two runs would measure each other."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

#: An abstract socket: it goes with the process that holds it, however that ends.
_NAME = "\0netstack-harness/turn"


@contextlib.contextmanager
def turn(waiting: Callable[[str], None], name: str = _NAME) -> Iterator[None]:
    """Wait until no other run measures, then hold off the others. ``waiting`` is told who is waited for, once each."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)) as held:
        while not _bind(held, name):
            _wait_for_holder(name, waiting)
        yield


def _bind(held: socket.socket, name: str) -> bool:
    try:
        held.bind(name)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    held.listen(128)
    return True


def _wait_for_holder(name: str, waiting: Callable[[str], None]) -> None:
    """Return when the present holder has let go: the connection to it, which it never takes, ends then."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)) as line:
        try:
            line.connect(name)
        except ConnectionRefusedError:
            os.sched_yield()  # between its bind and its listen, or gone since
            return
        credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        waiting(f"another run measures on this machine (process {struct.unpack('3i', credentials)[0]}); "
                "waiting until it has ended")
        with contextlib.suppress(ConnectionResetError):
            line.recv(1)
