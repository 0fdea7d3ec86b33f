# SPDX-License-Identifier: Apache-2.0
"""The running ``af-xdp`` program, asked through its standard input."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from harness.host.contract import Dut, RemoteProcess
from harness.stack import PollUsage, StackCounters
from harness.stacks.servers import RunningServer

#: Where frames are lost between the XDP program and the worker, and after it.
RX_RING, FILL_RING, RECEIVE, APPLICATION, TX_RING = (
    "AF_XDP rx ring", "AF_XDP fill ring", "AF_XDP receive", "application", "tx ring")


class Worker(BaseModel):
    """One worker's counts: received = discarded + other + sent + refused + tx_full."""

    core: int
    received: int
    discarded: int
    other: int
    sent: int
    refused: int
    tx_full: int
    tx_busy: int
    wakeups: int
    useful_polls: int
    empty_polls: int
    cpu_ns: int


class Socket(BaseModel):
    """One socket: XDP_STATISTICS, and how it works. ``rx_dropped`` counts frames the kernel could not copy: for want of
    a free frame (then ``fill_ring_empty`` rose with it) or because they did not fit."""

    ifname: str
    queue: int
    zero_copy: bool
    napi_id: int
    rx_dropped: int
    rx_ring_full: int
    fill_ring_empty: int
    rx_invalid: int
    tx_invalid: int


class Port(BaseModel):
    """One port's XDP program: frames handed to sockets, frames left to the kernel."""

    ifname: str
    redirected: int
    passed: int


class Stats(BaseModel):
    """The program's answer to ``stats``."""

    workers: list[Worker]
    sockets: list[Socket]
    ports: list[Port]


def counters_of(stats: Stats, *, port_counts_refusals: bool) -> StackCounters:
    """Counters by name, worker and place of loss. ``port_counts_refusals``: the driver counts a frame that a socket had
    no room for as its own drop, too."""
    workers = tuple(worker.model_dump() for worker in stats.workers)
    totals = {name: sum(worker[name] for worker in workers) for name in Worker.model_fields if name != "core"}
    totals |= {name: sum(getattr(s, name) for s in stats.sockets)
               for name in ("rx_dropped", "rx_ring_full", "fill_ring_empty", "rx_invalid", "tx_invalid")}
    totals |= {name: sum(getattr(p, name) for p in stats.ports) for name in ("redirected", "passed")}
    starved = sum(min(s.rx_dropped, s.fill_ring_empty) for s in stats.sockets)
    losses = {RX_RING: totals["rx_ring_full"], FILL_RING: starved, RECEIVE: totals["rx_dropped"] - starved,
              APPLICATION: totals["refused"], TX_RING: totals["tx_full"]}
    refused = totals["rx_ring_full"] + totals["rx_dropped"]
    return StackCounters(totals, workers, losses, in_port_drops=refused if port_counts_refusals else 0)


class RunningAfXdp(RunningServer[Stats]):
    """The workers and their sockets."""

    thread_names = ("af-xdp",)

    def __init__(self, dut: Dut, process: RemoteProcess, said: Sequence[str], *, native: bool) -> None:
        super().__init__(dut, process, "af-xdp", Stats.model_validate_json)
        #: veth does, where the program runs in it; drivers of NICs have other names for it.
        self._port_counts_refusals = dut.virtual and native
        self.degraded = "; ".join(said)

    def counters(self) -> StackCounters:
        return counters_of(self.stats(), port_counts_refusals=self._port_counts_refusals)

    def poll_usage(self) -> PollUsage:
        workers = self.stats().workers
        return PollUsage(sum(w.useful_polls for w in workers), sum(w.empty_polls for w in workers),
                         "looks into a socket's rx ring with and without a frame")
