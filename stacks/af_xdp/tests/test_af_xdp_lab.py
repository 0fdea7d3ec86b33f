# SPDX-License-Identifier: Apache-2.0
"""af-xdp deployed on the lab's DUT, with real frames: roles, modes, what the kernel keeps, losses, what is left."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from harness import stacks
from harness.errors import StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.lab.lab import Lab
from harness.measure.accounting import rise
from harness.measure.places import DUT_RING, port_losses
from harness.measure.rolecheck import FRAMES, check_role
from harness.plan import PointPlan, Role
from harness.stack import StackContext

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]
COPY = {"mode": "copy"}
VARIANTS = [COPY, COPY | {"need_wakeup": False, "wait": "spin"}, COPY | {"attach": "generic", "batch": 1},
            COPY | {"bypass": "whole", "ring": 64}, {"mode": "zero-copy", "busy_poll": 64}]


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def deployed(dut: Dut, point: PointPlan) -> Any:
    return stacks.create(point.stack, point.params).deploy(context(dut, point))


def network_of(lab: Lab) -> str:
    """What a deployment may change in the DUT's network: links with their programs and flags, addresses, neighbours,
    routes. (AF_XDP sockets and maps are file descriptors: they end with the process.)"""
    commands = [["ip", "-d", "link"], ["ip", "addr"], ["ip", "neigh", "show", "nud", "permanent"], ["ip", "route"]]
    return "".join(subprocess.run(lab.exec_argv("dut", argv), capture_output=True, text=True, check=True).stdout
                   for argv in commands)


@pytest.mark.parametrize("params", VARIANTS, ids=lambda p: ",".join(f"{k}={v}" for k, v in p.items()))
@pytest.mark.parametrize("role", [Role.DROP, Role.REFLECT, Role.ECHO, Role.FORWARD])
def test_fills_its_role(lab: Lab, dut: Dut, wires: Any, make_point: MakePoint, role: Role,
                        params: dict[str, Any]) -> None:
    before = network_of(lab)
    point = make_point("af-xdp", role, params)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with deployed(dut, point) as running:
        check_role(wires, point, stack.roles[role], lambda: running.counters().totals["discarded"])
        counters = running.counters()
        handled = counters.totals["discarded" if role is Role.DROP else "sent"]
        assert handled > 0
        assert handled % FRAMES == 0
        assert counters.totals["received"] == handled + counters.totals["other"]
        assert counters.totals["redirected"] >= counters.totals["received"]
        assert set(counters.losses.values()) == {0}
        assert [worker["core"] for worker in counters.per_worker] == list(point.cores)
        assert running.poll_usage().useful > 0
        tasks = Path(f"/proc/{running.process.pid}/task")
        assert all((task / "comm").read_text().startswith(running.thread_names) for task in tasks.iterdir())
    assert network_of(lab) == before
    assert not Path(f"/proc/{running.process.pid}").exists()


def test_says_what_is_slower_than_asked(dut: Dut, make_point: MakePoint) -> None:
    """veth has no zero-copy, and from kernel 6.14 on a socket in copy mode is tied to no NAPI."""
    with deployed(dut, make_point("af-xdp", Role.ECHO, COPY)) as running:
        assert running.degraded == ""
        assert not any(s.zero_copy for s in running.stats().sockets)
    with deployed(dut, make_point("af-xdp", Role.ECHO, {"busy_poll": 64})) as running:
        sockets = running.stats().sockets
        assert not any(s.zero_copy or s.napi_id for s in sockets)
        assert "zero-copy was asked" in running.degraded
        assert "busy polling has no effect" in running.degraded
        assert dut.read(f"/sys/class/net/{sockets[0].ifname}/gro_flush_timeout").strip() == "0"


def test_forwards_both_ways(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("af-xdp", Role.FORWARD, COPY, bidirectional=True)
    with deployed(dut, point) as running:
        check_role(wires, point, stacks.get("af-xdp").roles[Role.FORWARD], None)
        assert all(port.redirected for port in running.stats().ports)


@pytest.mark.parametrize("role", [Role.DROP, Role.ECHO, Role.FORWARD])
def test_every_worker_serves_its_own_queues(lab: Lab, dut: Dut, wires: Any, make_point: MakePoint, role: Role) -> None:
    """Two workers with memory of their own each; veth chooses the queue by the flow's hash."""
    point = make_point("af-xdp", role, COPY, flows=64, bidirectional=role is Role.FORWARD)
    point = dataclasses.replace(point, cores=(*lab.dut_cores[:1], *lab.tg_cores[:1]))
    with deployed(dut, point) as running:
        check_role(wires, point, stacks.get("af-xdp").roles[role], lambda: running.counters().totals["discarded"])
        for direction in point.directions:
            frames = [flow_frame(direction, 64, n) for n in range(64)]
            wires.exchange(direction.tx_port, frames, direction.tx_port, 0.2)
        counters = running.counters()
        assert [worker["core"] for worker in counters.per_worker] == list(point.cores)
        assert all(worker["received"] for worker in counters.per_worker), counters.per_worker
        done = counters.totals["discarded" if role is Role.DROP else "sent"]
        assert done == counters.totals["redirected"] >= 64 * len(point.directions)


def test_more_cores_than_queues_is_skipped_with_the_remedy(dut: Dut, make_point: MakePoint) -> None:
    point = dataclasses.replace(make_point("af-xdp", Role.DROP), cores=tuple(range(50)))
    (missing,) = stacks.create("af-xdp", {}).requirements(dut, point)
    assert missing.what.startswith("50 receive queues of")
    assert missing.remedy.startswith("ethtool -L")


@pytest.mark.parametrize("frame", [64, 65, 512, 1518])
def test_echoes_every_frame_size(dut: Dut, wires: Any, make_point: MakePoint, frame: int) -> None:
    point = make_point("af-xdp", Role.ECHO, COPY, frame=frame)
    with deployed(dut, point):
        check_role(wires, point, stacks.get("af-xdp").roles[Role.ECHO], None)


def test_expired_frames_are_refused_not_forwarded(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("af-xdp", Role.FORWARD, COPY)
    frame = Ether(flow_frame(point.directions[0], 64))
    frame[IP].ttl, frame[IP].chksum = 1, None
    with deployed(dut, point) as running:
        assert not [r for r in wires.exchange(0, [bytes(frame)], 1, 0.3) if UDP in Ether(r)]
        counters = running.counters()
    assert (counters.totals["refused"], counters.losses["application"]) == (1, 1)


def stray(point: PointPlan) -> dict[str, Packet]:
    """Frames that are not the test's and that a kernel answers, by name."""
    direction, wire = point.directions[0], point.wires[0]
    ether = Ether(src=direction.src_mac, dst=direction.dst_mac)
    ip = IP(src=direction.flows.src_ip_first, dst=wire.dut.ip)
    return {
        "another UDP port": ether / ip / UDP(sport=4000, dport=direction.flows.dst_port + 1) / b"x",
        "ping": ether / ip / ICMP(id=7),
        "TCP": ether / ip / TCP(sport=4000, dport=direction.flows.dst_port, flags="S", seq=1),
        "ARP": Ether(src=direction.src_mac, dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=wire.dut.ip, psrc=wire.tg.ip),
    }


def answers(frames: list[bytes]) -> set[str]:
    """What the DUT's kernel answered, in the words of ``stray``."""
    found = set()
    for packet in map(Ether, frames):
        if ICMP in packet:
            found.add("ping" if packet[ICMP].type == 0 else "another UDP port")
        elif TCP in packet and "R" in str(packet[TCP].flags):
            found.add("TCP")
        elif ARP in packet and packet[ARP].op == 2:
            found.add("ARP")
    return found


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_partial_bypass_leaves_everything_else_to_the_kernel(dut: Dut, wires: Any, make_point: MakePoint,
                                                             attach: str) -> None:
    point = make_point("af-xdp", Role.DROP, COPY | {"attach": attach})
    strays, test = stray(point), flow_frame(point.directions[0], 64)
    with deployed(dut, point) as running:
        sent = [test, *map(bytes, strays.values()), test]
        assert answers(wires.exchange(0, sent, 0, 0.5)) == set(strays)
        totals = running.counters().totals
    assert (totals["redirected"], totals["discarded"], totals["other"], totals["passed"]) == (2, 2, 0, len(strays))


def test_whole_bypass_leaves_nothing_to_the_kernel_and_counts_the_test_alone(
        dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("af-xdp", Role.DROP, COPY | {"bypass": "whole"})
    strays, test = stray(point), flow_frame(point.directions[0], 64)
    with deployed(dut, point) as running:
        assert answers(wires.exchange(0, [test, *map(bytes, strays.values()), test], 0, 0.5)) == set()
        totals = running.counters().totals
    assert (totals["discarded"], totals["other"], totals["passed"]) == (2, len(strays), 0)


@pytest.mark.parametrize("vlan", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_takes_ipv6_and_tagged_frames_of_the_test(dut: Dut, wires: Any, make_point: MakePoint, version: int,
                                                  vlan: bool) -> None:
    point = make_point("af-xdp", Role.ECHO, COPY)
    direction = point.directions[0]
    src, dst = (direction.flows.src_ip_first, direction.flows.dst_ip) if version == 4 else ("2001:2::2", "2001:2::1")
    flows = dataclasses.replace(direction.flows, dst_ip=dst)
    point = dataclasses.replace(point, directions=(dataclasses.replace(direction, flows=flows),))
    ether = Ether(src=direction.src_mac, dst=direction.dst_mac)
    family = IP if version == 4 else IPv6
    lower = (ether / Dot1Q(vlan=5) if vlan else ether) / family(src=src, dst=dst)
    asked = Ether(bytes(lower / UDP(sport=1025, dport=flows.dst_port) / bytes(range(40))))
    other = Ether(bytes(lower / UDP(sport=1025, dport=flows.dst_port + 1) / bytes(range(40))))
    with deployed(dut, point) as running:
        frames = [Ether(f) for f in wires.exchange(0, [bytes(asked), bytes(other)], 0, 0.3)]
        assert running.counters().totals["sent"] == 1
    (reply,) = [f for f in frames if UDP in f and f[UDP].sport == flows.dst_port]
    assert (reply[family].src, reply[family].dst, reply.src, reply.dst) == (dst, src, asked.dst, asked.src)
    assert reply[UDP].chksum == asked[UDP].chksum != 0
    assert bytes(reply[UDP].payload) == bytes(asked[UDP].payload)


def test_frames_without_room_are_found_by_place_and_once(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    """A stopped worker: its rings fill up, and what the kernel then drops is received + lost = redirected."""
    point = make_point("af-xdp", Role.DROP, COPY | {"ring": 64})
    ifname = point.wires[0].dut.ifname
    with deployed(dut, point) as running:
        before = dut.interface_counters([ifname])[ifname]
        os.kill(running.process.pid, signal.SIGSTOP)
        frames = [flow_frame(point.directions[0], 64, n) for n in range(64)]
        for _ in range(6):
            wires.exchange(0, frames, 0, 0.05)
        os.kill(running.process.pid, signal.SIGCONT)
        deadline = time.monotonic() + 5
        while (counters := running.counters()).totals["discarded"] + sum(counters.losses.values()) < 6 * 64:
            assert time.monotonic() < deadline, counters
        lost = sum(counters.losses.values())
        assert lost > 0
        assert counters.totals["discarded"] + lost == counters.totals["redirected"] == 6 * 64
        assert counters.losses["AF_XDP rx ring"] + counters.losses["AF_XDP fill ring"] == lost
        port_drops = port_losses(before, rise(before, dut.interface_counters([ifname])[ifname]))[DUT_RING]
        assert port_drops == counters.in_port_drops == lost, "veth counts them as its own, too"


def test_death_is_noticed_and_leaves_nothing(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    before = network_of(lab)
    with deployed(dut, make_point("af-xdp", Role.ECHO, COPY)) as running:
        running.check_alive()
        assert network_of(lab).count("prog/xdp") == 1
        os.kill(running.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while running.process.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(StackError, match="ended with status"):
            running.check_alive()
        with pytest.raises(StackError):
            running.counters()
        assert "prog/xdp" not in network_of(lab)
    assert network_of(lab) == before


def test_another_program_on_the_port_is_left_alone(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    with deployed(dut, make_point("xdp", Role.DROP)) as first:
        there = network_of(lab)
        with pytest.raises(StackError, match="did not start") as failed:
            with deployed(dut, make_point("af-xdp", Role.DROP, COPY)):
                pytest.fail("two programs on one port")
        assert "another XDP program is attached; remove it: ip link set dev" in failed.value.log_tail
        assert network_of(lab) == there
        first.check_alive()


def test_deploying_again_takes_well_under_three_seconds(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("af-xdp", Role.ECHO, COPY)
    with deployed(dut, point):
        pass
    start = time.monotonic()
    with deployed(dut, point):
        pass
    assert time.monotonic() - start < 3
