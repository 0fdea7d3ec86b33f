# SPDX-License-Identifier: Apache-2.0
"""What arrives at the DUT of the traffic that was asked for: every flow, every size in its ratio, checksums right."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from harness.flows import directions
from harness.generator.channel import AgentClient
from harness.generator.contract import TrafficSpec
from harness.generator.frames import flow_address
from harness.generator.trex import TrexGenerator
from harness.lab import netns
from harness.lab.lab import Lab
from harness.measure.rolecheck import canonical
from harness.plan import SIMPLE_IMIX, DirectionPlan, FrameMix, Role
from harness.sites import LabSite
from tests.wires import with_ip_version

pytestmark = pytest.mark.lab

#: linux/if_packet.h, asm/socket.h.
_ETH_P_ALL, _SO_RCVBUFFORCE = 0x0003, 33
_ROW = 128


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab whose DUT only looks at what arrives: answering every frame takes longer than receiving it."""
    with Lab.up(wires=2, pause_s=0.2) as made:
        hook = f"type filter hook ingress device {made.ifnames('dut')[0]} priority 0; policy drop;"
        rules = f"add table netdev watch; add chain netdev watch in {{ {hook} }}"
        subprocess.run(made.exec_argv("dut", ["nft", rules]), check=True)
        yield made


@pytest.fixture(scope="module")
def generator(lab: Lab) -> Iterator[TrexGenerator]:
    """xdpgen as a run has it, behind the agent and its client, with room for a million flows."""
    site = LabSite(lab)
    with replace(site.embedded(), table_cells=1 << 21).run(site.spawn), closing(AgentClient(site.agent_channel())) as a:
        made = TrexGenerator(a, site.server(), [0, 1])
        lab.pin_napi("tg")
        yield made
        made.close()


def _open(ifname: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 30)
    opened.bind((ifname, _ETH_P_ALL))
    opened.settimeout(0.5)
    return opened


@contextmanager
def arriving(lab: Lab, wire: int, most: int) -> Iterator[tuple[npt.NDArray[np.uint8], list[int]]]:
    """The first bytes of what arrives at the DUT's end of a wire from its generator port, and the lengths, complete
    when the block has been left. Silence ends it."""
    rows, lengths = np.zeros((most + 1000, _ROW), np.uint8), list[int]()
    tg = bytes.fromhex(lab.wires[wire].tg.mac.replace(":", ""))
    view = memoryview(rows.reshape(-1))

    def receive(opened: socket.socket) -> None:
        while len(lengths) < len(rows):
            at = len(lengths) * _ROW
            try:
                length = opened.recv_into(view[at:at + _ROW], 0, socket.MSG_TRUNC)
            except TimeoutError:
                if done.is_set():
                    return
                continue
            if view[at + 6:at + 12] == tg:
                lengths.append(length)

    done = threading.Event()
    with netns.in_netns(lab.dut_netns, partial(_open, lab.ifnames("dut")[wire])) as opened:
        reader = threading.Thread(target=receive, args=(opened,))
        reader.start()
        try:
            yield rows, lengths
        finally:
            done.set()
            reader.join()


def traffic(lab: Lab, frames: FrameMix, *, flows: int = 64, version: int = 4, vlan: int | None = None,
            latency_pps: float = 0.0) -> TrafficSpec:
    wires = tuple(with_ip_version(wire, version) for wire in lab.wires)
    return TrafficSpec(directions(Role.DROP, wires, flows, bidirectional=False, vlan=vlan), frames, latency_pps)


def source(direction: DirectionPlan, flow: int) -> tuple[int, int]:
    address, port = flow_address(direction, flow)
    return int(ipaddress.ip_address(address)) & 0xFFFF_FFFF, port


def flows_seen(rows: npt.NDArray[np.uint8]) -> Counter[int]:
    """Frames by source address and port."""
    address = np.ascontiguousarray(rows[:, 26:30]).view(">u4").ravel().astype(np.uint64) << np.uint64(16)
    return Counter((address | np.ascontiguousarray(rows[:, 34:36]).view(">u2").ravel()).tolist())


@pytest.mark.parametrize(("flows", "pps"), [(1, 2e3), (1024, 20e3), (100_000, 50e3), (1_000_000, 100e3)])
def test_every_flow_is_sent(lab: Lab, generator: TrexGenerator, flows: int, pps: float) -> None:
    """Round after round, none twice in one. Departures that are left out leave no flow out, the round only takes longer
    for them; a frame that the DUT's full ring refuses arrives in another trial."""
    wanted = traffic(lab, FrameMix.of(64), flows=flows)
    generator.configure(wanted)
    expected = {ip << 16 | port for ip, port in (source(wanted.directions[0], flow) for flow in range(flows))}
    found = set[int]()
    for _ in range(5):
        with arriving(lab, 0, flows + flows // 10 + 1000) as (rows, lengths):
            direction, = generator.trial(pps, (flows * 1.1 + 1000) / pps).directions
        assert direction.sent >= flows
        assert len(lengths) == direction.sent - direction.refused
        seen = flows_seen(rows[:len(lengths)])
        assert set(seen) <= expected
        assert max(seen.values()) <= -(-direction.sent // flows)
        found |= set(seen)
        if found == expected:
            return
    raise AssertionError(f"{len(expected - found):,} of {flows:,} flows were not seen in five trials")


@pytest.mark.parametrize(("version", "vlan", "frames"), [
    (4, None, SIMPLE_IMIX), (6, None, FrameMix(((82, 2), (83, 1)))), (6, 4094, FrameMix(((86, 1), (87, 3), (127, 2)))),
])
def test_sizes_in_their_ratio_and_checksums_right(lab: Lab, generator: TrexGenerator, version: int, vlan: int | None,
                                                  frames: FrameMix) -> None:
    """Marks and latency headers are written as frames depart; over IPv6 the checksum has to follow."""
    generator.configure(traffic(lab, frames, version=version, vlan=vlan, latency_pps=600.0))
    with arriving(lab, 0, 6000) as (rows, lengths):
        direction, = generator.trial(6000, 1.0).directions
    tag = 4 if vlan is not None else 0
    sizes = Counter(length + tag + 4 for length in lengths)  # the kernel takes the tag out
    assert set(sizes) == set(frames.sizes)
    lost = direction.asked - len(lengths)
    for size, share in frames.shares:
        assert abs(sizes[size] - share * direction.asked) <= lost + 2
    checked = [canonical(bytes(row[:length]), False) for row, length in zip(rows, lengths, strict=False)
               if length <= _ROW]
    assert len(checked) > 1000
    assert None not in checked
    magics = Counter(int(row[length - 16]) for row, length in zip(rows, lengths, strict=False) if length <= _ROW)
    assert set(magics) == {0xAB, 0xAC}
