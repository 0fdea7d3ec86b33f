# SPDX-License-Identifier: Apache-2.0
"""trex_cfg.yaml: cores by topology, ports in order, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.errors import TestbedError
from harness.generator.trexhost.config import CorePlan, TrexPort, config_text, plan_cores
from harness.host.topology import Topology

DATA = Path(__file__).parents[3] / "data" / "topologies"
NICS = tuple(TrexPort(f"0000:{bus}:00.{function}", f"3c:fd:fe:a0:{bus}:0{function}", f"3c:fd:fe:b0:{bus}:0{function}",
                      node) for bus, node in (("3b", 0), ("af", 1)) for function in (0, 1))


def topology(name: str) -> Topology:
    return Topology.parse((DATA / name).read_text(encoding="utf-8"))


def written(ports: tuple[TrexPort, ...], cores: CorePlan, *, software: bool = False) -> dict[str, object]:
    text = config_text(ports, cores, sync_port=4601, async_port=4600, software=software, speed_gbps=25.0, memory_mb=512,
                       prefix="harness-4601")
    only, = yaml.safe_load(text)
    assert isinstance(only, dict)
    return only


def test_each_pair_sends_from_cores_of_its_nics_node() -> None:
    host = topology("intel-2x32c128t.csv")
    near = [[cpu.cpu for cpu in host.cpus if cpu.node == node][:5] for node in (0, 1)]
    cores = plan_cores([*near[0], *near[1]], (0, 1), host, software=False)
    assert cores.master == 0  # core 0 does the host's own work as well, so no thread that sends is put there
    for node, group in enumerate(cores.threads):
        assert [found.node for core in group if (found := host.find(core))] == [node] * 4
    assert len({cores.master, cores.latency, *cores.threads[0], *cores.threads[1]}) == 10
    text = written(NICS, cores)
    assert text["interfaces"] == [port.interface for port in NICS]
    assert text["platform"]["dual_if"] == [{"socket": 0, "threads": list(cores.threads[0])},  # type: ignore[index]
                                           {"socket": 1, "threads": list(cores.threads[1])}]
    assert (text["c"], text["port_bandwidth_gb"], text["port_limit"]) == (4, 25, 4)
    assert text["port_info"][1] == {"dest_mac": NICS[1].peer, "src_mac": NICS[1].mac}  # type: ignore[index]


def test_cores_far_from_the_nic_are_master_and_latency() -> None:
    host = topology("intel-2x32c128t.csv")
    far = [cpu.cpu for cpu in host.cpus if cpu.node == 1][:2]
    near = [cpu.cpu for cpu in host.cpus if cpu.node == 0][1:3]
    cores = plan_cores([*near, *far], (0,), host, software=False)
    assert {cores.master, cores.latency} == set(far)
    assert cores.threads == (tuple(near),)


def test_chosen_cores_stay_what_they_are_told_to_be() -> None:
    cores = plan_cores([2, 3, 4, 5], (None,), None, software=False, master=5, latency=3)
    assert (cores.master, cores.latency, cores.threads) == (5, 3, ((2, 4),))


def test_in_software_mode_one_core_sends_and_few_cores_do_with_one() -> None:
    assert plan_cores([2, 3, 4, 5], (None,), None, software=True).threads == ((4,),)
    single = plan_cores([1], (None,), None, software=True)
    veths = (TrexPort("veth0", "02:00:00:00:00:01", "02:00:00:00:00:02"),)
    text = written(veths, single, software=True)
    assert (text["low_end"], text["low_end_core"], "platform" in text) == (True, 1, False)
    assert text["interfaces"] == ["veth0", "dummy"]  # TRex takes ports in pairs
    assert (text["limit_memory"], text["prefix"], text["zmq_rpc_port"]) == (512, "harness-4601", 4601)
    assert len(text["port_info"]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "says"), [
    ([1, 2], "needs 3 cores for 2 ports"), ([1, 2, 64], "core 64: it knows cores 0 to 63"),
    ([1, 2, 40], "has no core 40; correct generator.cores"),
])
def test_cores_that_cannot_be(given: list[int], says: str) -> None:
    with pytest.raises(TestbedError, match=says):
        plan_cores(given, (0,), topology("desktop-8c16t.csv"), software=False)
