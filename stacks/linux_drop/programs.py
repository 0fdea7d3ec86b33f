# SPDX-License-Identifier: Apache-2.0
"""The places that take a program of ours: at a socket (``src/drop_socket.c``), and in BPF (``src/tc_drop.c``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.host.contract import Dut, RemoteProcess
from harness.stack import Missing, RunningStack, StackContext, StackCounters
from harness.stacks.ports import enable_ipv6
from harness.stacks.servers import RunningServer, build, missing_compiler, serving

from .place import DISCARDED, Place, summed
from .target import Target


class RunningProgram(RunningServer[StackCounters]):
    """A program whose answer ``counted`` turns into counters."""

    thread_names = ("drop_socket", "drop-worker/", "tc_drop")

    def __init__(self, dut: Dut, process: RemoteProcess, name: str, counted: Callable[[Any], StackCounters]) -> None:
        super().__init__(dut, process, name, lambda text: counted(json.loads(text)))

    def counters(self) -> StackCounters:
        return self.stats()


def read(answer: Any) -> StackCounters:
    """Readers, one a socket: datagrams read are discarded, those that a full buffer kept away are lost."""
    workers = [{"core": int(s["core"]), DISCARDED: int(s["received"])} for s in answer["sockets"]]
    return summed(workers, {"socket buffer": sum(int(s["drops"]) for s in answer["sockets"])})


def dropped(answer: Any) -> StackCounters:
    """Sockets that nobody reads: what they drop is what is discarded, so none of it is lost in their buffers, where
    the kernel counts it, too (RcvbufErrors)."""
    return summed([{DISCARDED: int(s["drops"])} for s in answer["sockets"]], {"socket buffer": 0})


def shot(answer: Any) -> StackCounters:
    """The BPF program, seen through its loader: one count a CPU."""
    return summed([{"cpu": cpu, DISCARDED: int(n)} for cpu, n in enumerate(answer["discarded"]) if int(n)])


class SocketPlace(Place):
    """At a socket, by ``drop_socket``; ``mode`` is its first argument."""

    after_conntrack = True
    has_rules = False
    mode: str
    counted = staticmethod(dropped)

    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        return missing_compiler(dut)

    @contextmanager
    def deploy(self, context: StackContext, target: Target) -> Iterator[RunningStack]:
        dut, cores = context.dut, context.point.cores
        program = build(context, "drop_socket")
        ip = f"[{target.ip}]" if target.version == 6 else target.ip
        argv = [program, self.mode, f"{ip}:{target.udp_port}", str(target.rules), ",".join(map(str, cores))]
        with serving(dut, argv, "drop_socket", cores=cores) as process:
            yield RunningProgram(dut, process, "drop_socket", self.counted)


class SocketUnread(SocketPlace):
    """A bound socket that nobody reads, its buffer full."""

    semantics = "dropped at a bound socket that nobody reads, its buffer full"
    mode = "unread"

    @contextmanager
    def deploy(self, context: StackContext, target: Target) -> Iterator[RunningStack]:
        """The buffer is filled from the host itself, through ``lo``."""
        if target.version == 6:
            enable_ipv6(context.dut, "lo")
        with super().deploy(context, target) as running:
            yield running


class SocketFilter(SocketPlace):
    """A bound socket with a filter that takes nothing."""

    semantics = "dropped by a socket filter (SO_ATTACH_FILTER)"
    checks_checksum = True
    has_rules = True
    mode = "filter"


class Recvmmsg(SocketPlace):
    """A program that receives and forgets."""

    semantics = "received by a program with recvmmsg and thrown away"
    in_softirq = False
    checks_checksum = True
    mode = "recvmmsg"
    counted = staticmethod(read)
