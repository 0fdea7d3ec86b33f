# SPDX-License-Identifier: Apache-2.0
"""Programs of this machine, started beside this process and ended with it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

#: Starts an argv; takes stdin, stdout and stderr as subprocess.Popen does. A lab has its own, inside a namespace.
Spawn = Callable[..., "subprocess.Popen[bytes]"]


def spawn_here(argv: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
    """A child in a session of its own: signals of the terminal pass it by."""
    return subprocess.Popen(list(argv), start_new_session=True, **streams)


def wait_or_kill(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Wait for a child that was told to end; KILL when it takes longer. Reaped on return."""
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """End a child: TERM, and KILL when that does not end it in time. Reaped on return; its stdout is closed."""
    if process.poll() is None:
        process.terminate()
        wait_or_kill(process, patience_s)
    if process.stdout is not None:
        process.stdout.close()
