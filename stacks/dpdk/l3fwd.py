# SPDX-License-Identifier: Apache-2.0
"""DPDK's example ``dpdk-l3fwd``: routing by longest prefix. It has no session, so its counters come by telemetry."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import HostError, StackError
from harness.host.contract import Dut, RemoteProcess
from harness.plan import WirePlan
from harness.stack import RunningStack, StackCounters

from .command import Layout
from .telemetry import Telemetry

PROGRAM = "dpdk-l3fwd"
#: Kernel drivers of devices that check no IPv4 header's sum; l3fwd does not start on them.
WITHOUT_CHECKSUMS = ("vmxnet3", "virtio-pci")
READY_S = 60.0
LOG_BYTES = 8192
#: Its two tables of routes take 64 MiB and 16 MiB, whatever is in them, and its pool is its own.
MEMORY_MIB = 384
#: Packet buffers that are in this; more rings take more.
COVERED_MBUFS = 65536
_WRITE = "import sys; open(sys.argv[1], 'x').write(sys.argv[2])"
#: It wants a route for IPv6, too; the prefix is for documentation (RFC 3849).
_NO_IPV6 = "R2001:0db8:0000:0000:0000:0000:0000:0000/32 0\n"


def in_port_order(layout: Layout, wires: Sequence[WirePlan]) -> list[WirePlan]:
    """DPDK counts PCI devices by address, in whatever order they are named."""
    addresses = [word for word in layout.devices if word != "-a"]
    return [wire for _, wire in sorted(zip(addresses, wires, strict=True), key=lambda pair: pair[0])]


def command(program: str, layout: Layout, wires: Sequence[WirePlan], rules: tuple[str, str]) -> list[str]:
    """The whole argv. ``wires``: of ports 0 and 1; every worker polls its queue of each. ``--parse-ptype``: some
    devices do not say what a packet is."""
    lcores = ",".join(f"{n}@{core}" for n, core in enumerate(layout.workers))
    memory = ["--in-memory"] if layout.hugepages else ["--no-huge", "-m", str(MEMORY_MIB)]
    config = ",".join(f"({port},{queue},{queue % len(layout.workers)})"
                      for port in range(layout.ports) for queue in range(layout.queues))
    destinations = [f"--eth-dest={port},{wire.tg.mac}" for port, wire in enumerate(wires)]
    return [
        "stdbuf", "-oL", program, "--lcores", lcores, "--main-lcore", "0", *memory, "--file-prefix", layout.prefix,
        *layout.devices, "--", "-p", hex((1 << layout.ports) - 1), "-P", f"--config={config}", *destinations,
        "--lookup=lpm", "--parse-ptype", f"--rule_ipv4={rules[0]}", f"--rule_ipv6={rules[1]}",
    ]  # fmt: skip


def write_rules(dut: Dut, wires: Sequence[WirePlan], prefix: str) -> tuple[str, str]:
    """Files with the routes to both wires, of ports 0 and 1, journalled; their paths."""
    texts = ("".join(f"R{wire.flow_prefix} {port}\n" for port, wire in enumerate(wires)), _NO_IPV6)
    paths = (f"/run/{prefix}.ipv4", f"/run/{prefix}.ipv6")
    for path, text in zip(paths, texts, strict=True):
        dut.apply(["python3", "-c", _WRITE, path, text], ["rm", "-f", path])
    return paths


class RunningL3fwd(RunningStack):
    """Forwards until it is stopped."""

    thread_names = ("dpdk-", "rte", "lcore-", "eal-", "telemetry-")

    def __init__(self, process: RemoteProcess, telemetry: Telemetry, *, ports: int, degraded: str, misses: bool,
                 ) -> None:
        """``misses`` as for testpmd: frames that a driver's ring had no room for are in no counter of the kernel's."""
        self.process, self.telemetry = process, telemetry
        self._ports, self._misses = ports, misses
        self.degraded = degraded

    def start(self) -> None:
        """Wait until it forwards. Raises StackError with its own words."""
        try:
            self.process.wait_output("entering main loop on lcore", READY_S)
        except HostError as error:
            raise StackError("dpdk: l3fwd did not start; its last words say why.", self.log_tail()) from error

    def check_alive(self) -> None:
        if not self.process.alive():
            raise StackError(f"dpdk: l3fwd ended with status {self.process.returncode()}.", self.log_tail())

    def counters(self) -> StackCounters:
        ports = self.telemetry.xstats(self._ports)
        received = sum(port["rx_good_packets"] for port in ports)
        sent = sum(port["tx_good_packets"] for port in ports)
        # No route, a bad header, or a ring that was full: l3fwd does not tell them apart.
        losses = {"mbuf pool": sum(port["rx_mbuf_allocation_errors"] for port in ports),
                  "application": max(received - sent, 0)}
        if self._misses:
            losses["driver ring"] = sum(port["rx_missed_errors"] for port in ports)
        workers = tuple({"port": number, **port} for number, port in enumerate(ports))
        return StackCounters({"received": received, "sent": sent}, workers, losses)

    def log_tail(self) -> str:
        return self.process.output(LOG_BYTES)
