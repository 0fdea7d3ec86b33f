# SPDX-License-Identifier: Apache-2.0
"""The kernel's TCP at the generator's end of a wire, inside its namespace: made fit for a client, and its counters.

The generator's end has no address of its own, since its kernel must not answer test traffic; role accept is the one
that needs it to. What is set here is put back by :meth:`TgKernel.close`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol, TypeVar

from harness.lab.wires import run_tool
from harness.plan import DirectionPlan, WirePlan

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Of the calling thread's namespace; a file stays that of the namespace that it was opened in.
_COUNTERS = ("/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat")
_KEPT = ("tcp.", "tcpext.")
T = TypeVar("T")


class Inside(Protocol):
    """Runs a call inside the generator's namespace and returns its result."""

    def __call__(self, call: Callable[[], T]) -> T: ...


class TgKernel:
    """Addresses, ports and counters of the generator's kernel on one wire. Close it."""

    def __init__(self, inside: Inside, wire: WirePlan, direction: DirectionPlan) -> None:
        self._inside, self._wire, self._flows = inside, wire, direction.flows
        self._undo = ExitStack()
        self._files: list[IO[str]] = []
        with ExitStack() as undo:
            inside(lambda: self._set_up(undo))
            self._undo = undo.pop_all()

    def _set_up(self, undo: ExitStack) -> None:
        """Address, permanent neighbour (no ARP in a trial), every port above the privileged ones for connections."""
        device, tg, dut = self._wire.tg.ifname, self._wire.tg, self._wire.dut
        for path in _COUNTERS:
            self._files.append(undo.enter_context(open(path, encoding="ascii")))  # noqa: SIM115 - on the stack
        run_tool(["ip", "address", "add", f"{tg.ip}/{tg.prefix_len}", "dev", device])
        undo.callback(self._in_namespace, ["ip", "address", "flush", "to", tg.ip, "dev", device])
        run_tool(["ip", "neigh", "replace", dut.ip, "lladdr", dut.mac, "dev", device, "nud", "permanent"])
        undo.callback(self._in_namespace, ["ip", "neigh", "flush", "to", dut.ip, "dev", device, "nud", "permanent"])
        before = _PORT_RANGE.read_text(encoding="ascii")
        first = self._flows.src_port_first
        _PORT_RANGE.write_text(f"{first} {first + self._flows.src_ports - 1}", encoding="ascii")
        undo.callback(self._inside, lambda: _PORT_RANGE.write_text(before, encoding="ascii"))

    def _in_namespace(self, argv: list[str]) -> None:
        self._inside(lambda: run_tool(argv))

    def counters(self) -> dict[str, int]:
        """The kernel's TCP counters, ``tcp.ActiveOpens``, ``tcpext.TCPSynRetrans`` and so on."""
        counters: dict[str, int] = {}
        for file in self._files:
            lines = os.pread(file.fileno(), 1 << 20, 0).decode("ascii").splitlines()
            for head, values in zip(lines[::2], lines[1::2], strict=True):
                prefix = head.partition(":")[0].lower() + "."
                if prefix in _KEPT:
                    names = zip(head.split()[1:], values.split()[1:], strict=True)
                    counters |= {prefix + name: int(value) for name, value in names}
        return counters

    def attempts(self) -> int:
        """Connections begun since the namespace exists: SYNs without their repetitions."""
        lines = os.pread(self._files[0].fileno(), 1 << 16, 0).decode("ascii").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(values[names.index("ActiveOpens")])

    def close(self) -> None:
        """Put everything back. Idempotent."""
        self._undo.close()
        self._files.clear()
