# SPDX-License-Identifier: Apache-2.0
"""One change of tuning: what it is made on, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import HostError
from harness.host.contract import Dut
from harness.host.link import AgentRefused

Status = Literal["applied", "already", "unsupported"]


@dataclass(frozen=True)
class Target:
    """Where a profile is applied: the test ports of a point by their kernel names, and the cores it is given. No other
    interface of the host is in it, so none is touched."""

    dut: Dut
    ports: tuple[str, ...]
    cores: tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """``before`` and ``after`` as the host shows them, read back; ``reason`` says why an item is unsupported.
    ``read`` reads the value anew."""

    item: str
    target: str
    before: str
    after: str
    status: Status
    reason: str = ""
    read: Callable[[], str] | None = None


#: Applies one item's wanted value.
Item = Callable[[Target, Any], Iterator[Change]]


def unsupported(item: str, target: str, reason: str) -> Change:
    """The host or the NIC cannot do it."""
    return Change(item, target, "", "", "unsupported", reason)


def made(item: str, target: str, wanted: str, read: Callable[[], str], change: Callable[[], object]) -> Change:
    """Bring what ``read`` shows to ``wanted`` by ``change``, unless it is so already; read back. What the kernel does
    not tell or refuses is unsupported, with its words. Raises HostError when it says yes and shows another value."""
    try:
        before = read()
        if before == wanted:
            return Change(item, target, before, before, "already")
        change()
    except HostError as error:
        return unsupported(item, target, str(error))
    after = read()
    if after != wanted:
        raise HostError(f"{item} of {target} was set to {wanted!r} and reads back {after!r}")
    return Change(item, target, before, after, "applied", read=read)


def file_change(item: str, dut: Dut, path: str, wanted: str) -> Change:
    """Set a file of /proc or /sys; the agent reads it back and, on undo, checks what it restores."""
    if not dut.exists(path):
        return unsupported(item, path, f"{dut.name} has no {path}")

    def read() -> str:
        return dut.read(path).strip()

    try:
        before = read()  # some are there and cannot be read, as XPS of a device with one transmit queue
        dut.set_file(path, wanted)
    except AgentRefused as error:
        if error.kind == "unverified":
            raise
        return unsupported(item, path, str(error))
    after = read()
    return Change(item, path, before, after, "already" if after == before else "applied", read=read)
