# SPDX-License-Identifier: Apache-2.0
"""The command line of ``dpdk-testpmd`` for a point: EAL's part, one device after another, and testpmd's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.plan import Role

MODES = {Role.DROP: "rxonly", Role.REFLECT: "macswap", Role.ECHO: "5tswap"}
#: Bytes of hugepage memory one mbuf takes with its headers (data room 2048 + headroom 128, struct, mempool).
MBUF_BYTES = 2560
MBUF_SIZE = 2176
#: What EAL, rings and ports take besides the mbufs.
BASE_MIB = 64


@dataclass(frozen=True)
class Layout:
    """Where testpmd runs and on what. ``devices``: EAL options that make the ports; ``queues``: receive queues of one
    port; ``main``: the core of the thread that waits for commands; ``workers``: cores that poll."""

    devices: tuple[str, ...]
    queues: int
    main: int
    workers: tuple[int, ...]
    prefix: str
    hugepages: bool


def memory_mib(mbufs: int) -> int:
    """Memory that testpmd needs, in MiB, rounded up."""
    return BASE_MIB + -(-mbufs * MBUF_BYTES // 2**20)


def af_xdp_devices(ports: Sequence[tuple[str, int]], busy_budget: int) -> tuple[str, ...]:
    """One device a receive queue, for (interface, number of its receive queues): the driver believes that an interface
    without "combined" channels, such as veth, has one queue."""
    queues = [(ifname, queue) for ifname, count in ports for queue in range(count)]
    return ("--no-pci", *(
        f"--vdev=net_af_xdp{n},iface={ifname},start_queue={queue},queue_count=1,busy_budget={busy_budget}"
        for n, (ifname, queue) in enumerate(queues)
    ))


def af_packet_devices(ifnames: Sequence[str], queues: int) -> tuple[str, ...]:
    """One device an interface; with several queues the kernel spreads flows over them by their hash (fanout)."""
    return ("--no-pci", *(
        f"--vdev=net_af_packet{n},iface={ifname},qpairs={queues},qdisc_bypass=1" for n, ifname in enumerate(ifnames)
    ))


def pci_devices(addresses: Sequence[str]) -> tuple[str, ...]:
    """Only the ports of the plan; EAL would otherwise take every device it has a driver for."""
    return tuple(word for address in addresses for word in ("-a", address))


def command(program: str, role: Role, layout: Layout, *, mbufs: int, burst: int, descriptors: int) -> list[str]:
    """The whole argv; ``descriptors`` 0 leaves the driver's ring sizes. ``stdbuf``: testpmd's answers come line by
    line, in order with the echo of its commands."""
    lcores = ",".join(f"{n}@{core}" for n, core in enumerate((layout.main, *layout.workers)))
    memory = ["--in-memory"] if layout.hugepages else ["--no-huge", "-m", str(memory_mib(mbufs))]
    eal = ["--lcores", lcores, "--main-lcore", "0", *memory, "--file-prefix", layout.prefix, "--no-telemetry"]
    own = [
        "--interactive", f"--forward-mode={MODES[role]}", "--port-topology=loop", f"--nb-cores={len(layout.workers)}",
        f"--rxq={layout.queues}", f"--txq={layout.queues}", f"--burst={burst}", f"--total-num-mbufs={mbufs}",
        f"--mbuf-size={MBUF_SIZE}", *([f"--rxd={descriptors}", f"--txd={descriptors}"] if descriptors else []),
    ]  # fmt: skip
    return ["stdbuf", "-oL", program, *eal, *layout.devices, "--", *own]
