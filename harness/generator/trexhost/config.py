# SPDX-License-Identifier: Apache-2.0
"""The text of ``trex_cfg.yaml``: ports in the testbed's order, MACs of both ends, cores as they were shared out.

TRex takes ports in pairs; an odd number is filled with its ``dummy`` port.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.generator.trexhost.cores import CorePlan, TrexPort, nodes_of

#: Of DPDK's af_packet: blocks of 64 frames that hold what TRex's buffers do.
_RING = "blocksz=593920,framesz=9280,framecnt=4096"
_INDENT = "  "


def config_text(ports: Sequence[TrexPort], cores: CorePlan, *, sync_port: int, async_port: int, software: bool,
                speed_gbps: float, memory_mb: int, prefix: str) -> str:
    """The configuration file. ``memory_mb``: MiB that it may take, of hugepages on each memory node of a pair, or in
    all on kernel interfaces, which need none (without it DPDK maps every free hugepage of the host); ``prefix`` keeps
    its files apart from those of another TRex or DPDK program on the host."""
    interfaces = [_interface(index, port) for index, port in enumerate(ports)] + ["dummy"] * (len(ports) % 2)
    lines = [
        "# Written by netstack-harness for one run, and removed after it.",
        "- version: 2",
        f"{_INDENT}interfaces: [{', '.join(map(_quoted, interfaces))}]",
        f"{_INDENT}port_limit: {len(interfaces)}",
        f"{_INDENT}zmq_pub_port: {async_port}",
        f"{_INDENT}zmq_rpc_port: {sync_port}",
        f"{_INDENT}prefix: {prefix}",
        f"{_INDENT}limit_memory: {memory_mb}",
    ]
    if not software and speed_gbps > 10:
        lines.append(f"{_INDENT}port_bandwidth_gb: {speed_gbps:.0f}")
    lines.append(f"{_INDENT}port_info:")
    for port in ports:
        lines += [f"{_INDENT * 2}- dest_mac: {_quoted(port.peer)}", f"{_INDENT * 3}src_mac: {_quoted(port.mac)}"]
    if len(ports) % 2:
        lines += [f"{_INDENT * 2}- dest_mac: {_quoted(ports[-1].mac)}",
                  f"{_INDENT * 3}src_mac: {_quoted(ports[-1].peer)}"]
    return "\n".join([*lines, *_core_lines(ports, cores)]) + "\n"


def _interface(index: int, port: TrexPort) -> str:
    """A PCI address as it is. An interface of the kernel with a ring of 4096 frames: the driver's own of 256 is full
    after 2.6 ms at 100 kpps, and TRex, which sends and receives on one core, lost 2 to 3 % of what came back in it."""
    if ":" in port.interface:
        return port.interface
    return f"--vdev=net_af_packet{index},iface={port.interface},{_RING}"


def _core_lines(ports: Sequence[TrexPort], cores: CorePlan) -> list[str]:
    if cores.single:
        return [f"{_INDENT}low_end: true", f"{_INDENT}low_end_core: {cores.master}"]
    lines = [f"{_INDENT}c: {len(cores.threads[0])}", f"{_INDENT}platform:",
             f"{_INDENT * 2}master_thread_id: {cores.master}", f"{_INDENT * 2}latency_thread_id: {cores.latency}",
             f"{_INDENT * 2}dual_if:"]
    for node, group in zip(nodes_of(ports), cores.threads, strict=True):
        lines += [f"{_INDENT * 3}- socket: {node or 0}",
                  f"{_INDENT * 4}threads: [{', '.join(map(str, group))}]"]
    return lines


def _quoted(text: str) -> str:
    """For YAML; every value here is a MAC, a PCI address or an interface's name, and holds no quote."""
    return f'"{text}"'
