# SPDX-License-Identifier: Apache-2.0
"""VPP's startup.conf and the commands that make it forward, from the plan alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.plan import PointPlan

PLUGINS = {"dpdk": "dpdk_plugin.so", "af_packet": "af_packet_plugin.so", "af_xdp": "af_xdp_plugin.so"}
#: Where an interface checks no checksums VPP leaves the header out that it has the kernel expect before each frame, and
#: the frame's first bytes are taken for it.
_AF_PACKET = ("cksum-gso-disable",)
#: In copy mode VPP tries again for ever what the kernel puts off because the completion ring is full, and does not
#: empty that meanwhile: it has room for all that a socket's buffer lets be on the way, and some vectors. The lock is
#: for kernels before 5.6, and VPP refuses to wait for interrupts with it.
_AF_XDP = ("tx-queue-size", "4096", "no-syscall-lock")
_TPACKET: Mapping[str, tuple[str, ...]] = {"v2": ("v2",), "v3": ()}


@dataclass(frozen=True)
class Layout:
    """Where VPP runs. ``folder``: its own, for sockets and configuration; ``main``: the core of the thread that serves
    the command line; ``workers``: cores that handle frames; ``queues``: receive queues of each port."""

    driver: str
    folder: str
    main: int
    workers: tuple[int, ...]
    queues: tuple[int, ...]
    buffers: int
    rx_mode: str
    #: Whether buffers are in hugepages. VPP reserves by itself what is missing, and leaves it reserved.
    huge: bool
    #: af_packet: version of the kernel's ring.
    tpacket: str = "v2"
    #: Over DPDK: the PCI addresses of the ports in the order of the wires, and the driver they are bound to ("" where
    #: the kernel keeps them). VPP would choose one by itself and bind them anew.
    devices: tuple[str, ...] = ()
    bound: str = ""

    @property
    def socket(self) -> str:
        """Of the command line (vppctl -s)."""
        return f"{self.folder}/cli.sock"

    @property
    def prefix(self) -> str:
        """Of the names of its shared memory."""
        return self.folder.rpartition("/")[2]


def startup(layout: Layout, point: PointPlan) -> str:
    """The text of startup.conf."""
    workers = ",".join(map(str, layout.workers))
    sections = [
        ("unix", ["  nodaemon", "  nocolor", "  nobanner", f"  runtime-dir {layout.folder}",
                  f"  cli-listen {layout.socket}", f"  log {layout.folder}/vpp.log"]),
        ("api-segment", [f"  prefix {layout.prefix}"]),
        ("socksvr", [f"  socket-name {layout.folder}/api.sock"]),
        ("statseg", [f"  socket-name {layout.folder}/stats.sock"]),
        ("cpu", [f"  main-core {layout.main}", f"  corelist-workers {workers}"]),
        ("buffers", [f"  buffers-per-numa {layout.buffers}", *([] if layout.huge else ["  page-size default"])]),
        ("plugins", ["  plugin default { disable }", f"  plugin {PLUGINS[layout.driver]} {{ enable }}"]),
    ]
    if layout.driver == "dpdk":
        devices = [f"  dev {device} {{ name {name} num-rx-queues {queues} }}"
                   for device, name, queues in zip(layout.devices, names(layout, point), layout.queues, strict=True)]
        driver = [f"  uio-driver {layout.bound}"] if layout.bound else []
        sections.append(("dpdk", [*devices, *driver, "  no-tx-checksum-offload"]))
    return "".join(f"{title} {{\n" + "\n".join(lines) + "\n}\n" for title, lines in sections)


def names(layout: Layout, point: PointPlan) -> list[str]:
    """VPP's names of the ports, in the order of the wires."""
    if layout.driver == "af_packet":
        return [f"host-{wire.dut.ifname}" for wire in point.wires]
    return [f"port{number}" for number in range(len(point.wires))]


def create(layout: Layout, point: PointPlan) -> list[tuple[list[str], str]]:
    """Commands that make the ports, and what each prints: an af_packet port its name, an AF_XDP one nothing. None where
    the devices are DPDK's. A transmit queue for each worker: the default is one, behind a lock that all share."""
    made: list[tuple[list[str], str]] = []
    for wire, name, queues in zip(point.wires, names(layout, point), layout.queues, strict=True):
        if layout.driver == "af_packet":
            made.append((["create", "host-interface", "name", wire.dut.ifname, "num-rx-queues", str(queues),
                          "num-tx-queues", str(len(layout.workers)), *_AF_PACKET, *_TPACKET[layout.tpacket],
                          "hw-addr", wire.dut.mac], name))
        elif layout.driver == "af_xdp":
            made.append((["create", "interface", "af_xdp", "host-if", wire.dut.ifname, "name", name, "num-rx-queues",
                          str(queues), *_AF_XDP], ""))
    return made


def forward_ip4(layout: Layout, point: PointPlan) -> list[list[str]]:
    """Commands that make it route between the ports: addresses, static neighbours, a route for each port's flows."""
    made = []
    for wire, name in zip(point.wires, names(layout, point), strict=True):
        made += [
            ["set", "interface", "mac", "address", name, wire.dut.mac],
            ["set", "interface", "ip", "address", name, f"{wire.dut.ip}/{wire.dut.prefix_len}"],
            ["ip", "neighbor", name, wire.tg.ip, wire.tg.mac, "static"],
            ["ip", "route", "add", wire.flow_prefix, "via", wire.tg.ip, name],
        ]
    return made


def forward_l2(layout: Layout, point: PointPlan) -> list[list[str]]:
    """Commands that connect the two ports crosswise; frames leave as they came."""
    first, second = names(layout, point)
    promiscuous = [["set", "interface", "promiscuous", "on", name] for name in (first, second)]
    return [*(promiscuous if layout.driver == "dpdk" else []),
            ["set", "interface", "l2", "xconnect", first, second],
            ["set", "interface", "l2", "xconnect", second, first]]


def serve(layout: Layout, point: PointPlan) -> list[list[str]]:
    """The last commands: queues on workers in turn, how they are read, ports up."""
    queues = [(name, queue) for name, count in zip(names(layout, point), layout.queues, strict=True)
              for queue in range(count)]
    made = [["set", "interface", "rx-placement", name, "queue", str(queue), "worker",
             str(number % len(layout.workers))] for number, (name, queue) in enumerate(queues)]
    made += [["set", "interface", "rx-mode", name, layout.rx_mode] for name in names(layout, point)]
    return made + [["set", "interface", "state", name, "up"] for name in names(layout, point)]
