# SPDX-License-Identifier: Apache-2.0
"""trex_cfg.yaml for the generator's ports: TRex's own file format, version 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from harness.errors import TestbedError

#: A port that TRex pairs with the last one where their number is odd: it sends nothing and takes no device.
DUMMY = "dummy"


@dataclass(frozen=True)
class TrexPort:
    """One of TRex's ports: ``device`` is its PCI address, or the kernel's interface in software mode; ``peer``: MAC of
    the port at the wire's other end. ``node``: NUMA node of the NIC, -1 where there is none."""

    device: str
    mac: str
    peer: str
    node: int = -1


def text(ports: Sequence[TrexPort], cores: Sequence[int], sync_port: int, async_port: int) -> str:
    """The file. ``cores``: what the generator may use, in the order they are given out: TRex's master and its latency
    thread have one each, the others send, as many for each pair of ports. With too few of them for that ("low end")
    one does everything. Raises TestbedError where the ports cannot be had in one TRex."""
    kernel = [port.device for port in ports if ":" not in port.device]
    if kernel and len(kernel) != len(ports):
        raise TestbedError(f"TRex takes either interfaces of the kernel or PCI devices, not both: {', '.join(kernel)} "
                           "has no `pci` under generator.ports")
    devices = [port.device for port in ports]
    infos = [{"dest_mac": port.peer, "src_mac": port.mac} for port in ports]
    if len(ports) % 2:
        devices.append(DUMMY)
        infos.append({"dest_mac": "00:00:00:00:00:00", "src_mac": "00:00:00:00:00:00"})
    section: dict[str, Any] = {
        "version": 2, "port_limit": len(devices), "interfaces": devices, "port_info": infos,
        "zmq_rpc_port": sync_port, "zmq_pub_port": async_port, **_threads(ports, cores, len(devices) // 2),
    }
    return yaml.safe_dump([section], sort_keys=False)


def _threads(ports: Sequence[TrexPort], cores: Sequence[int], pairs: int) -> Mapping[str, Any]:
    each = (len(cores) - 2) // pairs
    if each < 1:
        return {"low_end": True, "low_end_core": cores[0]}
    sending = list(cores[2:])
    duals = [{"socket": max(ports[2 * pair].node, 0), "threads": sending[pair * each:(pair + 1) * each]}
             for pair in range(pairs)]
    return {"c": each, "platform": {"master_thread_id": cores[0], "latency_thread_id": cores[1], "dual_if": duals}}
