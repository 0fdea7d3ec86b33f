# SPDX-License-Identifier: Apache-2.0
"""VPP's configuration from a plan, what vppctl prints as numbers, and what is said where VPP is missing.

Nothing here runs VPP, of which Debian has no package: test_vpp_lab.py does. data/README.md says where the samples come
from.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.stacks.dpdk.tests.simulated_host import DEVICES, SimulatedHost
from harness.stacks.vpp import config, parse
from harness.stacks.vpp.config import Layout
from harness.stacks.vpp.session import RunningVpp, Vppctl, counters_of
from harness.stacks.vpp.stack import Vpp, VppParams

from harness import stacks
from harness.errors import StackError
from harness.flows import directions
from harness.host.contract import Completed, Dut
from harness.lab.addresses import plan_wires
from harness.plan import PointPlan, Role

DATA = Path(__file__).parent / "data"
LOAD, TRICKLE = ((DATA / f"show-runtime-{name}.txt").read_text() for name in ("load", "trickle"))


def point(cores: tuple[int, ...]) -> PointPlan:
    wires = plan_wires("abc")
    return PointPlan(id="p", label="vpp", stack="vpp", params={}, role=Role.FORWARD, host="dut", frame_bytes=64,
                     cores=cores, wires=wires, directions=directions(Role.FORWARD, wires, 64, bidirectional=False),
                     line_rate_pps=1.0)


def layout(driver: str, cores: tuple[int, ...], queues: int) -> Layout:
    return Layout(driver, "/run/netstack-harness-vpp-x", 0, cores, (queues, queues), 16384, "polling",
                  huge=driver == "dpdk")


def test_runtime_under_load() -> None:
    main, worker = parse.runtime(LOAD)
    assert (main.name, main.core, worker.name, worker.core) == ("vpp_main", 1, "vpp_wk_0", 2)
    assert [node.name for node in worker.inputs] == ["dpdk-input"]
    counts = worker.counts()
    assert (counts["polls"], counts["received"], counts["calls"]) == (47106, 23442944, 47106)
    # By hand: (9.47 + 42.2 + 10.2 + 41.8) x 11721472 + (175 + 15.5 + 32.3 + 29.1 + 24.8) x 23442944
    assert counts["clocks"] == pytest.approx(103.67 * 11721472 + 276.7 * 23442944, rel=1e-9)
    assert counts["received"] / counts["polls"] == pytest.approx(497.66, abs=0.01), "as VPP says: two ports a call"


def test_runtime_with_one_frame_a_vector_is_nearly_all_empty_polls() -> None:
    worker = parse.runtime(TRICKLE)[1]
    counts = worker.counts()
    assert (counts["polls"], counts["calls"], worker.core) == (24239296364, 804395, 9)


def test_a_name_that_runs_into_its_state_is_read() -> None:
    names = [node.name for node in parse.runtime(LOAD)[1].nodes]
    assert names[4] == "acl-plugin-fa-worker-cleaner-p"
    assert len(names) == 12


def test_interfaces_of_older_and_newer_versions() -> None:
    older = parse.interfaces((DATA / "show-interface.txt").read_text())
    assert older["GigabitEthernet0/8/0"] == {"rx packets": 138, "rx bytes": 18681, "tx packets": 100, "tx bytes": 29658,
                                             "drops": 1, "ip4": 137, "tx-error": 2}
    assert older["local0"] == {"drops": 1}
    newer = parse.interfaces((DATA / "show-interface-mtu.txt").read_text())
    assert newer["GigabitEthernet2/0/1"] == {}
    assert newer["TenGigabitEthernet8/0/0"]["rx-miss"] == 3298
    assert set(newer) == {"GigabitEthernet2/0/0", "GigabitEthernet2/0/1", "TenGigabitEthernet8/0/0", "local0"}


def test_counters_name_losses_by_place() -> None:
    shown = parse.interfaces((DATA / "show-interface-mtu.txt").read_text())
    ports = {name: shown[name] for name in ("GigabitEthernet2/0/0", "TenGigabitEthernet8/0/0")}
    errors = parse.errors((DATA / "show-errors.txt").read_text())
    assert errors == {"nsim: Packets buffered": 9991, "nsim: Network loss simulation drop packets": 9,
                      "ethernet-input: l3 mac mismatch": 9991}
    worker = parse.runtime(LOAD)[1]
    counters = counters_of(ports, errors, {worker.name: {"core": worker.core, **worker.counts()}})
    assert counters.totals["received"] == 2321062 + 1818160552
    assert counters.totals["vectors"] == 23442944
    assert counters.totals["error ethernet-input: l3 mac mismatch"] == 9991
    assert counters.losses == {"driver ring": 3298, "buffers": 0, "tx ring": 1, "vpp drops": 2227926}
    assert [worker["core"] for worker in counters.per_worker] == [2]


def test_errors_of_newer_versions_have_a_severity_and_a_line_for_each_thread() -> None:
    line = "        12          ip4-input                   ip4 ttl <= 1               error   "
    text = f"   Count    Node   Reason   Severity\n{line}\n{line}\n"
    assert parse.errors(text) == {"ip4-input: ip4 ttl <= 1": 24}
    assert parse.errors("   Count    Node   Reason   Severity\n") == {}


@pytest.mark.parametrize("text", ["", "show: unknown input `runtme'", "Thread 0 vpp_main (lcore 1)\n"])
def test_another_shape_is_an_error(text: str) -> None:
    with pytest.raises(StackError, match="could not be read"):
        parse.runtime(text)
    with pytest.raises(StackError, match="could not be read"):
        parse.interfaces(text)


def sections(text: str) -> dict[str, list[str]]:
    found = dict(re.findall(r"^([a-z-]+) \{\n(.*?)^\}$", text, re.M | re.S))
    return {name: [line.strip() for line in body.splitlines()] for name, body in found.items()}


def test_startup_in_the_lab() -> None:
    text = config.startup(layout("af_packet", (1, 3), 2), point((1, 3)))
    assert text.count("{") == text.count("}")
    found = sections(text)
    assert found["cpu"] == ["main-core 0", "corelist-workers 1,3"]
    assert found["plugins"] == ["plugin default { disable }", "plugin af_packet_plugin.so { enable }"]
    assert {"nodaemon", "cli-listen /run/netstack-harness-vpp-x/cli.sock"} <= set(found["unix"])
    assert found["api-segment"] == ["prefix netstack-harness-vpp-x"], "beside another VPP of the host"
    assert "dpdk" not in found


def test_startup_over_pci() -> None:
    plan, pci = point((2, 4)), ("0000:03:00.0", "0000:03:00.1")
    taken = dataclasses.replace(layout("dpdk", (2, 4), 2), devices=pci, bound="vfio-pci")
    found = sections(config.startup(taken, plan))
    assert found["dpdk"] == ["dev 0000:03:00.0 { name port0 num-rx-queues 2 }",
                             "dev 0000:03:00.1 { name port1 num-rx-queues 2 }", "uio-driver vfio-pci",
                             "no-tx-checksum-offload"]
    assert found["plugins"][1] == "plugin dpdk_plugin.so { enable }"
    assert config.create(taken, plan) == []


def over_pci(management: str = "eth0") -> tuple[SimulatedHost, PointPlan]:
    """A host whose second port is known by its PCI address only and belongs to a driver that DPDK shares."""
    host, plan = SimulatedHost(), point((2, 3))
    host.programs |= {"vpp", "vppctl"}
    host.nic("0000:03:00.0", "eth1")
    host.nic("0000:04:00.0", "eth2", driver="mlx5_core")
    host.answers["modules"] = ["uio_pci_generic"]
    pages = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    host.files |= {"/sys/devices/system/cpu/online": "0-7\n", f"{pages}/nr_hugepages": "0\n",
                   f"{pages}/free_hugepages": "0\n"}
    ports = (("eth1", ""), ("", "0000:04:00.0"))
    wires = tuple(dataclasses.replace(wire, dut=dataclasses.replace(wire.dut, ifname=ifname, pci=pci))
                  for wire, (ifname, pci) in zip(plan.wires, ports, strict=True))
    return host, dataclasses.replace(plan, wires=wires, management=management)


def test_over_dpdk_ports_are_taken_and_memory_is_made() -> None:
    host, plan = over_pci()
    stack = stacks.create("vpp", {"driver": "dpdk"})
    assert stack.requirements(host, plan) == []  # type: ignore[arg-type]
    assert isinstance(stack, Vpp)
    with stack._layout(host, plan) as made:  # type: ignore[arg-type]
        assert made.devices == ("0000:03:00.0", "0000:04:00.0")
        assert made.bound == "uio_pci_generic"
        # 16384 x 2496 B are 39 MiB, and 64: 52 pages.
        assert ("set", "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "52") in host.done
        assert [words[3:5] for words in host.done if words[0] == "python3"] == [("0000:03:00.0", "uio_pci_generic")]
        host.files[f"{DEVICES}/0000:03:00.0/driver"] = "ixgbe"


def test_the_management_interface_is_refused_though_dpdk_would_share_it() -> None:
    host, plan = over_pci(management="eth2")
    stack = stacks.create("vpp", {"driver": "dpdk"})
    assert [m.what for m in stack.requirements(host, plan)] == [  # type: ignore[arg-type]
        "a port of its own: eth2 (0000:04:00.0) is the management interface"]
    assert isinstance(stack, Vpp)
    with pytest.raises(StackError, match=r"^eth2 \(0000:04:00\.0\) of sut is the management interface"):
        with stack._layout(host, plan):  # type: ignore[arg-type]
            pytest.fail("taken")
    assert host.done == []


def test_ports_are_made_and_each_command_known_by_what_it_prints() -> None:
    """As src/plugins/af_packet/cli.c and src/plugins/af_xdp/cli.c of VPP have it."""
    first = point((1,)).wires[0].dut
    (words, printed), _ = config.create(layout("af_packet", (1, 2, 3), 1), point((1, 2, 3)))
    assert " ".join(words) == (f"create host-interface name {first.ifname} num-rx-queues 1 num-tx-queues 3 "
                               f"cksum-gso-disable v2 hw-addr {first.mac}")
    assert printed == f"host-{first.ifname}"
    (words, printed), _ = config.create(layout("af_xdp", (1,), 2), point((1,)))
    assert " ".join(words) == (f"create interface af_xdp host-if {first.ifname} name port0 num-rx-queues 2 "
                               "tx-queue-size 4096 no-syscall-lock")
    assert printed == ""


def test_routing_has_static_neighbours_and_every_flows_route() -> None:
    plan = point((1,))
    commands = [" ".join(words) for words in config.forward_ip4(layout("af_packet", (1,), 1), plan)]
    for wire in plan.wires:
        port = f"host-{wire.dut.ifname}"
        assert f"set interface ip address {port} {wire.dut.ip}/{wire.dut.prefix_len}" in commands
        assert f"ip neighbor {port} {wire.tg.ip} {wire.tg.mac} static" in commands
        assert f"ip route add {wire.flow_prefix} via {wire.tg.ip} {port}" in commands


def test_a_cross_connect_goes_both_ways() -> None:
    first, second = (f"host-{wire.dut.ifname}" for wire in point((1,)).wires)
    commands = [" ".join(words) for words in config.forward_l2(layout("af_packet", (1,), 1), point((1,)))]
    assert commands == [f"set interface l2 xconnect {first} {second}", f"set interface l2 xconnect {second} {first}"]
    assert Vpp(VppParams(forward="l2")).role_info(Role.FORWARD).layer == "l2"
    assert Vpp(VppParams()).role_info(Role.FORWARD).layer == "l3"


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_queues_go_to_the_workers_in_turn(cores: int) -> None:
    workers = tuple(range(1, cores + 1))
    commands = config.serve(layout("af_packet", workers, cores), point(workers))
    placed = [words[-1] for words in commands if "rx-placement" in words]
    assert sorted(set(placed), key=int) == [str(number) for number in range(cores)]
    assert {placed.count(worker) for worker in set(placed)} == {2}, "two ports, each with a queue a worker"


class Silent:
    """A DUT whose vppctl answers with a text and status 0, as VPP's does for errors too."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def run(self, argv: list[str], **options: object) -> Completed:
        return Completed(tuple(argv), 0, self.answer, "")

    def output(self, tail_bytes: int) -> str:
        return "log"


def test_a_command_that_vpp_refuses_is_noticed_although_its_status_is_0() -> None:
    refused = Silent("set interface state: unknown interface `x up'\n")
    with pytest.raises(StackError, match=r"'set interface state x up' was answered with .set interface state: unknown"):
        Vppctl(refused, refused, "vppctl", "s").tell(["set", "interface", "state", "x", "up"])  # type: ignore[arg-type]
    made = Silent("host-d0\n")
    Vppctl(made, made, "vppctl", "s").tell(["create"], expected="host-d0")  # type: ignore[arg-type]


class Answering:
    """A VPP that says what the samples say, each time anew, and its process."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, argv: list[str], **options: object) -> Completed:
        what = " ".join(argv[3:])
        self.asked.append(what)
        text = {"show interface": (DATA / "show-interface-mtu.txt").read_text(), "show runtime": LOAD,
                "show errors": (DATA / "show-errors.txt").read_text(), "show version": "vpp v25.10-release built by x"}
        return Completed(tuple(argv), 0, text.get(what, ""), "")

    def alive(self) -> bool:
        return True


def test_workers_count_on_over_readings_and_the_kernels_ring_is_a_place_of_loss() -> None:
    vpp, given = Answering(), iter([1818160552 + 7, 1818160552 + 7, 1818160552 + 57])
    running = RunningVpp(vpp, Vppctl(vpp, vpp, "vppctl", "s"), ["TenGigabitEthernet8/0/0"], "",  # type: ignore[arg-type]
                         lambda: next(given))
    assert running.remark.startswith("vpp v25.10-release;")
    first, second, third = (running.counters() for _ in range(3))
    assert vpp.asked.count("clear runtime") == 3, "clocks a packet are means since then"
    assert [c.totals["vectors"] for c in (first, second, third)] == [n * 23442944 for n in (1, 2, 3)]
    assert [c.per_worker[0]["received"] for c in (first, third)] == [23442944, 3 * 23442944]
    assert {c.per_worker[0]["core"] for c in (first, third)} == {2}
    assert [c.losses["packet socket"] for c in (first, second, third)] == [0, 0, 50]


def test_af_packet_is_not_asked_for_what_vpp_cannot_do_with_it() -> None:
    host, plan = over_pci()
    said = [{m.what for m in stacks.create("vpp", {"driver": driver, "rx_mode": "adaptive"}).requirements(
        host, plan)} for driver in ("af_packet", "af_xdp")]  # type: ignore[arg-type]
    assert said[0] - said[1] >= {"a driver that VPP can switch between polling and interrupts (af_packet it cannot)"}


@pytest.mark.lab
def test_where_vpp_is_missing_the_point_says_how_to_get_it(dut: Dut, make_point: Callable[..., PointPlan]) -> None:
    made = make_point("vpp", Role.FORWARD)
    missing = stacks.create("vpp", {}).requirements(dut, made)
    assert [one.what for one in missing] == [f"the program {name}" for name in ("vpp", "vppctl")
                                             if dut.which(name) is None]
    assert all("fd.io" in one.remedy for one in missing)
    pci = stacks.create("vpp", {"driver": "dpdk"}).requirements(dut, made)
    assert "the PCI address of the DUT's port 0" in [one.what for one in pci]
