# SPDX-License-Identifier: Apache-2.0
"""The command line of ``dpdk-testpmd`` for a point: EAL's part, one device after another, and testpmd's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.plan import Role

MODES = {Role.DROP: "rxonly", Role.REFLECT: "macswap", Role.ECHO: "5tswap", Role.FORWARD: "io"}
MAX_QUEUES = 64
#: What a receive queue is chosen by. Given together: before 23.03 the last one holds, later they add up.
_RSS = {"ip": ("--rss-ip",), "udp": ("--rss-ip", "--rss-udp")}
#: Bytes of hugepage memory one mbuf takes with its headers (data room 2048 + headroom 128, struct, mempool).
MBUF_BYTES = 2560
PAGE_BYTES = 4096
MBUF_SIZE = 2176
#: What EAL, rings and ports take besides the mbufs.
BASE_MIB = 64
#: Entries of a ring where the driver chooses: the most among common ones.
_PCI_RING, _VIRTUAL_RING = 1024, 2048
#: Buffers that an lcore keeps: testpmd's cache of 250, which is let grow by half, and a burst.
_LCORE_MBUFS = 512


@dataclass(frozen=True)
class Layout:
    """Where testpmd runs and on what. ``devices``: EAL options that make the ports; ``queues``: receive queues of one
    port; ``main``: the core of the thread that waits for commands; ``workers``: cores that poll; ``rss``: what the
    device chooses a queue by ("ip", "udp"), "" where that is not the device's to choose."""

    devices: tuple[str, ...]
    queues: int
    main: int
    workers: tuple[int, ...]
    prefix: str
    hugepages: bool
    rss: str = ""

    @property
    def ports(self) -> int:
        """How many ports DPDK has."""
        return sum(word == "-a" or word.startswith("--vdev=") for word in self.devices)


def memory_mib(mbufs: int, *, hugepages: bool = True) -> int:
    """Memory that testpmd needs, in MiB, rounded up. Without hugepages a buffer has a page of its own: none crosses the
    end of one."""
    return BASE_MIB + -(-mbufs * (MBUF_BYTES if hugepages else PAGE_BYTES) // 2**20)


def mbufs_for(layout: Layout, least: int, descriptors: int) -> int:
    """Packet buffers of the pool: enough for every ring to be full, receive and transmit, and for what every lcore
    keeps; with fewer, ports do not start or frames are lost for want of buffers. ``descriptors`` 0: the driver's own
    choice of ring size."""
    ring = descriptors or (_PCI_RING if "-a" in layout.devices else _VIRTUAL_RING)
    return max(least, layout.ports * layout.queues * 2 * ring + (1 + len(layout.workers)) * _LCORE_MBUFS)


def af_xdp_devices(ports: Sequence[tuple[str, int]], busy_budget: int) -> tuple[str, ...]:
    """One device a receive queue, for (interface, number of its receive queues): the driver believes that an interface
    without "combined" channels, such as veth, has one queue. Queue after queue, so that devices with the same queue of
    two interfaces are neighbours: testpmd forwards between neighbours."""
    queues = sorted(((ifname, queue) for ifname, count in ports for queue in range(count)), key=lambda pair: pair[1])
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
    line, in order with the echo of its commands. ``--record-core-cycles``: the use of lcores can be reported only by a
    testpmd that was started with it (from 23.03 on); recording is turned off again at once."""
    lcores = ",".join(f"{n}@{core}" for n, core in enumerate((layout.main, *layout.workers)))
    memory = ["--in-memory"] if layout.hugepages else ["--no-huge", "-m", str(memory_mib(mbufs, hugepages=False))]
    eal = ["--lcores", lcores, "--main-lcore", "0", *memory, "--file-prefix", layout.prefix]
    topology = "paired" if role is Role.FORWARD else "loop"
    own = [
        "--interactive", f"--forward-mode={MODES[role]}", f"--port-topology={topology}",
        f"--nb-cores={len(layout.workers)}", f"--rxq={layout.queues}", f"--txq={layout.queues}", f"--burst={burst}",
        f"--total-num-mbufs={mbufs}", f"--mbuf-size={MBUF_SIZE}", "--no-lsc-interrupt", "--record-core-cycles",
        *([f"--rxd={descriptors}", f"--txd={descriptors}"] if descriptors else []),
        *(_RSS[layout.rss] if layout.rss and layout.queues > 1 else ()),
    ]  # fmt: skip
    return ["stdbuf", "-oL", program, *eal, *layout.devices, "--", *own]
