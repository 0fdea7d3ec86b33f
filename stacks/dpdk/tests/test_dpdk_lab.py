# SPDX-License-Identifier: Apache-2.0
"""dpdk deployed on the lab's DUT, with real frames: its roles, its counters, its troubles, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether

from harness import stacks
from harness.errors import StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.host.undo import undone
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, canonical, check_role
from harness.plan import PointPlan, Role
from harness.stack import StackContext, StackCounters
from harness.stacks.interface import snapshot

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]
NR_HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def state(lab: Lab) -> tuple[str, str, list[str], str]:
    """What a deployment may leave behind: flags and program of the port, hugepages, EAL's folders; or take away:
    permanent neighbours."""
    name = lab.ifnames("dut")[0]
    shown = subprocess.run(lab.exec_argv("dut", ["ip", "-d", "link", "show", "dev", name]), capture_output=True,
                           text=True, check=True).stdout
    flags = ("promisc" if "PROMISC" in shown else "") + (" xdp" if "prog/xdp" in shown else "")
    folders = [p.name for p in Path("/var/run/dpdk").glob("netstack-harness-*")]
    neighbours = subprocess.run(lab.exec_argv("dut", ["ip", "neigh", "show", "dev", name, "nud", "permanent"]),
                                capture_output=True, text=True, check=True).stdout
    assert lab.wires[0].tg.mac in neighbours
    return flags, NR_HUGEPAGES.read_text().strip(), folders, neighbours


def settled(running: Any, name: str) -> StackCounters:
    """Counters once this one has all test frames, at most 5 s later: a reply may arrive before it has been counted."""
    deadline = time.monotonic() + 5
    while True:
        counters: StackCounters = running.counters()
        if counters.totals[name] == counters.totals["received"] > 0 and counters.totals[name] % FRAMES == 0:
            return counters
        assert time.monotonic() < deadline, counters


@pytest.mark.parametrize("role", [Role.DROP, Role.REFLECT, Role.ECHO])
@pytest.mark.parametrize("params", [{}, {"busy_budget": 0, "coalesce_us": 0}, {"hugepages": "yes"},
                                    {"driver": "af_packet"}],
                         ids=["default", "plain", "hugepages", "af_packet"])
def test_fills_its_role(lab: Lab, dut: Dut, wires: Any, make_point: MakePoint, role: Role,
                        params: dict[str, Any]) -> None:
    before = state(lab)
    point = make_point("dpdk", role, params)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.roles[role], lambda: running.counters().totals["discarded"])
        counters = settled(running, "discarded" if role is Role.DROP else "sent")
        assert set(counters.losses.values()) == {0}
        assert running.degraded
    assert state(lab) == before


@pytest.mark.parametrize("frame", [64, 65, 512, 1518])
def test_echoes_every_frame_size(dut: Dut, wires: Any, make_point: MakePoint, frame: int) -> None:
    point = make_point("dpdk", Role.ECHO, frame=frame)
    stack = stacks.create(point.stack, point.params)
    with stack.deploy(context(dut, point)):
        check_role(wires, point, stack.roles[Role.ECHO], None)


@pytest.mark.parametrize("params", [{}, {"driver": "af_packet"}, {"driver": "af_packet", "rxq": 2}],
                         ids=["af_xdp", "af_packet", "queues"])
def test_forwards_both_ways(lab: Lab, dut: Dut, wires: Any, make_point: MakePoint, params: dict[str, Any]) -> None:
    before = state(lab)
    point = make_point("dpdk", Role.FORWARD, params, bidirectional=True)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(context(dut, point)) as running:
        check_role(wires, point, stack.role_info(Role.FORWARD), None)
        counters = settled(running, "sent")
        assert counters.totals["sent"] >= 2 * FRAMES
        assert set(counters.losses.values()) == {0}
        by_queue = [port for port in counters.per_worker if port["rx_q0_packets"]]
        assert len(by_queue) >= 2
    assert state(lab) == before


def test_an_interface_comes_back_as_it_was(dut: Dut) -> None:
    """The words that ``ip`` showed are taken by it: on an interface made anew, as an unbound device's is."""
    name, neighbour = "again7", ["192.0.2.3", "lladdr", "02:00:00:00:00:33"]
    make = ["ip", "link", "add", name, "address", "02:00:00:00:00:77", "type", "veth", "peer", "name", "again8"]
    with undone(dut):
        dut.set_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0")
        dut.apply(make, ["ip", "link", "del", name])
        for words in (["link", "set", "dev", name, "mtu", "1400", "up"], ["addr", "add", "192.0.2.1/28", "dev", name],
                      ["addr", "add", "192.0.2.20", "peer", "192.0.2.21/32", "dev", name],
                      ["-6", "addr", "add", "2001:db8::1/64", "dev", name, "nodad"],
                      ["addr", "add", "192.0.2.65/28", "dev", name, "noprefixroute", "valid_lft", "300",
                       "preferred_lft", "200"],
                      ["neigh", "add", *neighbour, "dev", name, "nud", "permanent"],
                      ["route", "add", "203.0.113.0/24", "via", "192.0.2.3", "dev", name, "metric", "7"],
                      ["route", "add", "198.51.100.0/24", "dev", name, "table", "77", "onlink", "via", "198.51.100.9"],
                      ["-6", "route", "add", "2001:db8:1::/48", "via", "2001:db8::9", "dev", name]):
            dut.run(["ip", *words])
        for words in (["ip", "link", "set", "dev", name, "promisc", "on", "txqueuelen", "77", "alias", "mine"],
                      ["ip", "link", "property", "add", "dev", name, "altname", f"{name}-other"],
                      ["ethtool", "-K", name, "tso", "off"], ["tc", "qdisc", "add", "dev", name, "clsact"],
                      ["tee", f"/proc/sys/net/ipv4/conf/{name}/rp_filter"],
                      ["tee", f"/sys/class/net/{name}/queues/rx-0/rps_cpus"]):
            dut.run(words, stdin="1" if words[0] == "tee" else "")
        assert snapshot(dut, name).lost == ("qdiscs of somebody's (clsact; tc qdisc)",)
        dut.run(["tc", "qdisc", "del", "dev", name, "clsact"])
        before = snapshot(dut, name)
        assert before.lost == ()
        assert len(before.addresses) == 4
        dut.run(["ip", "link", "del", name])
        dut.run(make)
        found = before.differences(snapshot(dut, name))
        for text in ("promisc was on and is off", "tx_queue_len was 77", "ifalias was mine", "is gone",
                     "tx-tcp-segmentation was off and is on", "rp_filter was 1 and is", "rps_cpus was 1 and is 0"):
            assert text in "; ".join(found)
        for _ in range(2):
            for command in before.commands():
                dut.run(command)
            assert before.differences(snapshot(dut, name)) == []


def test_echo_keeps_a_udp_checksum_valid(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("dpdk", Role.ECHO)
    asked = Ether(flow_frame(point.directions[0], 64))
    asked[UDP].chksum = None
    with stacks.create("dpdk", {}).deploy(context(dut, point)):
        replies = [Ether(r) for r in wires.exchange(0, [bytes(asked)], 0, 0.5)]
    replies = [r for r in replies if UDP in r]
    assert len(replies) == 1
    assert replies[0][UDP].chksum == Ether(bytes(asked))[UDP].chksum != 0
    assert canonical(bytes(replies[0]), keep_ttl=True) is not None


def test_polls_on_the_given_cores_only(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    point = make_point("dpdk", Role.DROP)
    with stacks.create("dpdk", {}).deploy(context(dut, point)) as running:
        tasks = {p.name: (p / "comm").read_text().strip() for p in Path(f"/proc/{running.process.pid}/task").iterdir()}
        workers = [int(tid) for tid, comm in tasks.items() if comm.startswith("rte-worker")]
        assert all(comm.startswith(running.thread_names) for comm in tasks.values()), tasks
        assert [os.sched_getaffinity(tid) for tid in workers] == [{core} for core in point.cores]
        if len(os.sched_getaffinity(0)) > 1:
            assert not os.sched_getaffinity(running.process.pid) & set(point.cores)


def test_counts_polls_only_when_asked(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("dpdk", Role.ECHO)
    stack = stacks.create(point.stack, point.params)
    with stack.deploy(context(dut, point)) as running:
        assert running.poll_usage() is None
        assert running.record_polls(True)
        check_role(wires, point, stack.roles[Role.ECHO], None)
        usage = running.poll_usage()
        assert usage is not None
        assert 1 <= usage.useful < usage.empty
        assert running.record_polls(False)
        assert running.poll_usage() is None


def test_useful_polls_of_drop_are_not_guessed(dut: Dut, make_point: MakePoint) -> None:
    with stacks.create("dpdk", {}).deploy(context(dut, make_point("dpdk", Role.DROP))) as running:
        assert not running.record_polls(True)
        assert running.poll_usage() is None


def test_death_is_noticed_and_leaves_nothing(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    """Killed, testpmd itself cannot take its XDP program off."""
    before = state(lab)
    point = make_point("dpdk", Role.DROP)
    with stacks.create("dpdk", {}).deploy(context(dut, point)) as running:
        os.kill(running.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while running.process.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(StackError, match="ended with status"):
            running.check_alive()
        assert "xdp" in state(lab)[0]
    assert state(lab) == before


def test_a_start_that_fails_says_why_and_leaves_nothing(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    before = state(lab)
    point = make_point("dpdk", Role.DROP, {"driver": "af_xdp", "rxq": 9})
    with pytest.raises(StackError, match="could not start its ports") as failed:
        with stacks.create("dpdk", point.params).deploy(context(dut, point)):
            pytest.fail("nine queues on two")
    assert "Fail to configure port 2 rx queues" in failed.value.log_tail
    assert state(lab) == before


def test_requirements_name_what_is_missing(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("dpdk", Role.DROP, {"driver": "pci"})
    missing = stacks.create("dpdk", point.params).requirements(dut, point)
    assert ["PCI address" in m.what for m in missing] == [True]
    assert "testbed file" in missing[0].remedy
