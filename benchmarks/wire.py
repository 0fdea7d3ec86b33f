# SPDX-License-Identifier: Apache-2.0
"""One veth pair between two fresh namespaces: senders at ``tx0``, at ``rx0`` xdpgen's receiving program, which counts
and drops every frame in a NAPI thread (SCHED_FIFO, so that nothing else on its core disturbs it) of another core."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.generator.xdpgen.native_dataplane import NativeDataplane
from harness.lab import in_netns, napi, netns

TX, RX = "tx0", "rx0"
MODERATION_NS = 8000
_LATENCY_LIMIT = Path("/dev/cpu_dma_latency")
TX_MAC, RX_MAC = "02:00:00:00:b0:01", "02:00:00:00:b0:02"


@dataclass(frozen=True)
class BenchWire:
    """The pair and what stands at its receiving end."""

    tx_space: str
    rx_space: str
    send_core: int
    receive_core: int
    receiver: NativeDataplane

    def delivered(self) -> int:
        """Frames counted by the receiver's program so far."""
        return self.receiver.port_counters(0).rx_packets

    def handed_over(self) -> tuple[int, int]:
        """(accepted, refused) frames that sockets have sent on the pair so far."""
        table = in_netns(self.tx_space, Path("/proc/thread-self/net/dev").read_text)
        columns = next(line.split(":")[1].split() for line in table.splitlines() if line.strip().startswith(TX + ":"))
        return int(columns[9]), int(columns[11])


@contextmanager
def bench_wire(send_core: int, receive_core: int) -> Iterator[BenchWire]:
    """Build the pair and the receiver; nothing is left of them afterwards."""
    tx_space, rx_space = (f"xgbench-{end}-{os.getpid()}" for end in ("tx", "rx"))
    netns.prepare_directory()
    try:
        for space in (tx_space, rx_space):
            netns.create(space)
        _make_pair(tx_space, rx_space)
        receiver = in_netns(rx_space, lambda: NativeDataplane([RX], [receive_core], table_cells=64))
        try:
            in_netns(rx_space, _receive_like_hardware)
            napi.pin_napi(RX, 1, lambda _queue: receive_core, fifo=napi.TG_FIFO_PRIORITY)
            with _awake():
                yield BenchWire(tx_space, rx_space, send_core, receive_core, receiver)
        finally:
            receiver.close()
    finally:
        for space in (tx_space, rx_space):
            netns.delete(space)
        with suppress(OSError):  # another lab's names are still there
            netns.remove_directory()


def _make_pair(tx_space: str, rx_space: str) -> None:
    _ip("-n", tx_space, "link", "add", TX, "address", TX_MAC, "type", "veth", "peer", "name", RX, "address", RX_MAC,
        "netns", rx_space)  # fmt: skip
    for space, name in ((tx_space, TX), (rx_space, RX)):
        in_netns(space, partial(_silence, name))
        _ip("-n", space, "link", "set", name, "up")


def _silence(name: str) -> None:
    """No frames but the bench's: neighbour discovery and MLD are IPv6's."""
    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


def _receive_like_hardware() -> None:
    """Reception in a thread of its own, and moderated: once awake, the receiver looks again after a few microseconds
    by its own timer, so that the sender need not wake it (an inter-processor interrupt) at every flush.

    Possible once the device has a NAPI, which its XDP program gives it.
    """
    settings = {"threaded": "1", "napi_defer_hard_irqs": "1000", "gro_flush_timeout": str(MODERATION_NS)}
    with netns.sysfs() as root:
        for name, value in settings.items():
            fd = os.open(f"class/net/{RX}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
            with os.fdopen(fd, "w") as setting:
                setting.write(value)


@contextmanager
def _awake() -> Iterator[None]:
    """Keep idle cores from halting, for as long as the file is open: they poll for work. A halted core of a virtual
    machine is woken by the sender, microseconds a time, which no frame on a real wire costs its sender.

    Not with a process that spins: beside a receiver that is never idle the kernel gives it 5 % of the core's time
    (the fair server), 50 ms at a stretch in which the receiver takes nothing and its ring runs over.
    """
    with _LATENCY_LIMIT.open("wb", buffering=0) as limit:
        limit.write(bytes(4))
        yield


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
