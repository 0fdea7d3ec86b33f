# SPDX-License-Identifier: Apache-2.0
"""The generators that are compared: each sends 64-byte frames on the bench's pair from one core, as fast as it can."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.wire import RX_MAC, TX, TX_MAC, BenchWire
from harness.errors import MeasurementError
from harness.generator.xdpgen.contract import TxStream
from harness.generator.xdpgen.native_dataplane import NativeDataplane
from harness.lab import in_netns

FLOWS = 1000
#: Far above what one core can send: the schedule never makes it wait.
FULL_SPEED_PPS = 50e6
_HUGEPAGES = 64
_SEND_BUFFER = 8 << 20
_READY_S = 30.0

#: Reads (offered, refused) frames since some fixed moment.
Counter = Callable[[], tuple[int, int]]


@dataclass(frozen=True)
class Contender:
    """A generator by name. ``sending`` has it send until the context ends."""

    name: str
    what: str
    sending: Callable[[BenchWire], AbstractContextManager[Counter]]


def udp_frame() -> bytes:
    """60 bytes: Ethernet, IPv4, UDP without checksum, 18 bytes of payload."""
    ip = bytearray.fromhex("4500002e000100004011 0000 0a000001 0a000101")
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    ip[10:12] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
    macs = bytes.fromhex((RX_MAC + TX_MAC).replace(":", ""))
    return macs + b"\x08\x00" + bytes(ip) + bytes.fromhex("03e80009001a0000") + b"x" * 18


def load_stream(key: int, pps: float, *, trailer: str | None = "mark") -> TxStream:
    """1000 flows that differ in the UDP source port, with sequence numbers and time stamps."""
    template = udp_frame()
    headers = np.tile(np.frombuffer(template, np.uint8), (FLOWS, 1)).copy()
    headers[:, 34:36] = (np.arange(FLOWS, dtype=np.uint16) + 1024).astype(">u2").reshape(-1, 1).view(np.uint8)
    return TxStream(key, 0, template, headers, np.zeros(FLOWS, np.uint16), None, pps, trailer)


@contextmanager
def _xdpgen(wire: BenchWire) -> Iterator[Counter]:
    plane = in_netns(wire.tx_space, lambda: NativeDataplane([TX], [wire.send_core], table_cells=2 * FLOWS))
    try:
        plane.start([load_stream(1, FULL_SPEED_PPS)], plane.now() + 0.02, None)

        def count() -> tuple[int, int]:
            counters = plane.port_counters(0)
            return counters.tx_packets + counters.tx_refused, counters.tx_refused

        yield count
        plane.stop([1])
    finally:
        plane.close()


@contextmanager
def _trafgen(wire: BenchWire) -> Iterator[Counter]:
    fields = ", ".join(f"0x{byte:02x}" for byte in udp_frame())
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write("{ " + fields + " }\n")
        config.flush()
        argv = ["trafgen", "-o", TX, "-c", config.name, "-P", "1", "-Q", "-C"]
        with _send_buffers(), _program(wire, argv) as count:
            yield count


@contextmanager
def _send_buffers() -> Iterator[None]:
    """Room for a full veth ring in a socket's send buffer: trafgen ends when it is exceeded, and cannot raise the
    limit itself inside a namespace. The old values are back afterwards."""
    limits = [Path(f"/proc/sys/net/core/wmem_{name}") for name in ("max", "default")]
    before = [limit.read_text() for limit in limits]
    try:
        for limit, value in zip(limits, before, strict=True):
            limit.write_text(str(max(int(value), _SEND_BUFFER)))
        yield
    finally:
        for limit, value in zip(limits, before, strict=True):
            limit.write_text(value)


@contextmanager
def _testpmd(wire: BenchWire) -> Iterator[Counter]:
    core = wire.send_core
    argv = ["dpdk-testpmd", "--no-pci", "--in-memory", "-m", str(_HUGEPAGES), "--lcores", f"0@{core},1@{core}",
            "--vdev", f"net_af_xdp0,iface={TX}", "--", "--forward-mode=txonly", "--txpkts=60", "--nb-cores=1",
            "--total-num-mbufs=8192", "--auto-start", "--stats-period=1"]  # fmt: skip
    with _hugepages(_HUGEPAGES), _program(wire, argv) as count:
        yield count


@contextmanager
def _hugepages(count: int) -> Iterator[None]:
    """At least ``count`` free 2 MiB pages; the pool has its old size afterwards."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    before = int(pool.read_text())
    pool.write_text(str(before + count))
    try:
        if int(pool.read_text()) < before + count:
            raise MeasurementError(f"the kernel has no {count} free huge pages of 2 MiB for testpmd; free some memory")
        yield
    finally:
        pool.write_text(str(before))


@contextmanager
def _program(wire: BenchWire, argv: Sequence[str]) -> Iterator[Counter]:
    """A program that sends through a socket, on the sending core, with the priority that xdpgen gives itself."""
    with tempfile.TemporaryFile("w+") as log:

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        process = in_netns(wire.tx_space, spawn)
        try:
            _favour(process.pid, wire.send_core)
            yield lambda: _offered(wire)
        finally:
            _end(process)
            log.seek(0)
            if process.returncode not in (0, -signal.SIGINT, 128 + signal.SIGINT):
                raise MeasurementError(f"{argv[0]} failed ({process.returncode}):\n{log.read()[-2000:]}")


def _offered(wire: BenchWire) -> tuple[int, int]:
    accepted, refused = wire.handed_over()
    return accepted + refused, refused


def _favour(pid: int, core: int) -> None:
    os.sched_setaffinity(pid, {core})
    os.setpriority(os.PRIO_PROCESS, pid, -20)
    autogroup = Path(f"/proc/{pid}/autogroup")
    if autogroup.exists():
        autogroup.write_text("-20")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, 10.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def await_frames(wire: BenchWire) -> None:
    """Return when frames arrive steadily; MeasurementError after half a minute."""
    deadline = time.monotonic() + _READY_S
    before = wire.delivered()
    while True:
        time.sleep(0.1)
        now = wire.delivered()
        if now - before > 1000:
            return
        before = now
        if time.monotonic() > deadline:
            raise MeasurementError(f"no frames arrive within {_READY_S:.0f} s")


CONTENDERS = (
    Contender("trafgen", "af_packet TX ring, one unchanging frame", _trafgen),
    Contender("testpmd", "txonly over net_af_xdp, one flow", _testpmd),
    Contender("xdpgen", f"XDP live frames, {FLOWS} flows, sequence numbers, time stamps", _xdpgen),
)
