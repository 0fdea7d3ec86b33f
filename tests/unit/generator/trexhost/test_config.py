# SPDX-License-Identifier: Apache-2.0
"""trex_cfg.yaml: ports in order, cores, and what keeps TRex apart from other DPDK programs of the host."""

from __future__ import annotations

from typing import Any

import yaml

from harness.generator.trexhost.config import config_text
from harness.generator.trexhost.cores import CorePlan, TrexPort

NICS = tuple(TrexPort(f"0000:{bus}:00.{function}", f"3c:fd:fe:a0:{bus}:0{function}", f"3c:fd:fe:b0:{bus}:0{function}",
                      node) for bus, node in (("3b", 0), ("af", 1)) for function in (0, 1))


def written(ports: tuple[TrexPort, ...], cores: CorePlan, *, software: bool = False) -> dict[str, Any]:
    text = config_text(ports, cores, sync_port=4601, async_port=4600, software=software, speed_gbps=25.0, memory_mb=512,
                       prefix="harness-4601")
    only, = yaml.safe_load(text)
    assert isinstance(only, dict)
    return only


def test_nics() -> None:
    text = written(NICS, CorePlan(0, 2, ((4, 6), (3, 5))))
    assert text["interfaces"] == [port.interface for port in NICS]
    assert text["platform"] == {"master_thread_id": 0, "latency_thread_id": 2, "dual_if": [
        {"socket": 0, "threads": [4, 6]}, {"socket": 1, "threads": [3, 5]}]}
    assert (text["c"], text["port_bandwidth_gb"], text["port_limit"]) == (2, 25, 4)
    assert text["port_info"][1] == {"dest_mac": NICS[1].peer, "src_mac": NICS[1].mac}
    assert (text["limit_memory"], text["prefix"]) == (512, "harness-4601")  # DPDK's own files and pages


def test_kernel_interfaces_on_one_core() -> None:
    veths = (TrexPort("veth0", "02:00:00:00:00:01", "02:00:00:00:00:02"),)
    text = written(veths, CorePlan(1, 1, ((1,),), single=True), software=True)
    assert (text["low_end"], text["low_end_core"], "platform" in text) == (True, 1, False)
    ring = "blocksz=593920,framesz=9280,framecnt=4096"
    # TRex takes ports in pairs.
    assert text["interfaces"] == [f"--vdev=net_af_packet0,iface=veth0,{ring}", "dummy"]
    assert (text["limit_memory"], text["prefix"], text["zmq_rpc_port"]) == (512, "harness-4601", 4601)
    assert len(text["port_info"]) == 2
