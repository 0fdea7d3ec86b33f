# SPDX-License-Identifier: Apache-2.0
"""A real VPP on the lab's DUT, with real frames: roles, drivers, counters, cores, troubles, and what is left.

Debian has no package of VPP. ``HARNESS_VPP_DIR=/folder/of/vpp/and/vppctl python -m pytest -m vpp`` runs these; without
it they are deselected. What the last run found is in data/ and tested by test_vpp_record.py.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import stacks
from harness.errors import HarnessError, StackError
from harness.host.contract import Dut
from harness.host.dut import SshDut
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, check_role
from harness.plan import FrameMix, PointPlan, Role
from harness.scenario import minimum_frame
from harness.stack import RunningStack, StackContext, StackCounters
from tests.lab.snapshot import snapshot

pytestmark = [pytest.mark.lab, pytest.mark.vpp]
MakePoint = Callable[..., PointPlan]
WAYS = [{"forward": forward, "driver": driver} for forward in ("ip4", "l2") for driver in ("af_packet", "af_xdp")]
SETTLE_S = 5.0


@pytest.fixture
def forwarding(make_point: MakePoint) -> MakePoint:
    """As make_point, of VPP in role forward."""
    def make(params: dict[str, Any] | None = None, **traffic: Any) -> PointPlan:
        return make_point("vpp", Role.FORWARD, {"dir": os.environ["HARNESS_VPP_DIR"], **(params or {})}, **traffic)

    return make


def deployed(dut: Dut, point: PointPlan) -> Any:
    stack = stacks.create("vpp", point.params)
    assert stack.requirements(dut, point) == []
    return stack.deploy(StackContext(dut, point, stacks.source("vpp")))


def state(lab: Lab) -> dict[str, str]:
    """All that a deployment may change; VPP's folders and segments, too."""
    left = [*Path("/run").glob("netstack-harness-vpp-*"), *Path("/dev/shm").glob("*vpp*")]
    return {"VPP's files": str(sorted(map(str, left))), **snapshot(lab)}


@pytest.fixture
def as_before(lab: Lab) -> Iterator[None]:
    """The kernel frees BPF objects and sockets' memory a moment after their process has ended."""
    before = state(lab)
    yield
    deadline = time.monotonic() + SETTLE_S
    while (after := state(lab)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after == before


def ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that its new parent has yet to take notice of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def settled(running: RunningStack, frames: int) -> StackCounters:
    """Counters once so many frames were sent on: a reply may arrive before it has been counted."""
    deadline = time.monotonic() + SETTLE_S
    while (counters := running.counters()).totals["sent"] < frames:
        assert time.monotonic() < deadline, counters
    return counters


@pytest.mark.parametrize("params", WAYS, ids=lambda params: "-".join(params.values()))
def test_forwards_both_ways_and_counts_every_frame(dut: Dut, wires: Any, receiving: None, as_before: None,
                                                   forwarding: MakePoint, params: dict[str, str]) -> None:
    point = forwarding(params, bidirectional=True)
    info = stacks.create("vpp", point.params).role_info(Role.FORWARD)
    with deployed(dut, point) as running:
        assert running.counters().totals["received"] == 0
        check_role(wires, point, info, None)
        counters = settled(running, 2 * FRAMES)
        totals = counters.totals
        assert totals["received"] == totals["sent"] == totals["vectors"]
        assert totals["received"] % FRAMES == 0
        assert set(counters.losses.values()) == {0}
        assert totals["vectors"] >= totals["calls"] >= 2
        assert 50 < totals["clocks"] / totals["vectors"] < 1_000_000
        usage = running.poll_usage()
        assert usage is not None
        assert 2 <= usage.useful < usage.empty
        again = running.counters()
        assert again.totals["vectors"] == totals["vectors"]
        assert again.totals["polls"] > totals["polls"]
        assert running.degraded
        assert running.remark.startswith("vpp v2")


@pytest.mark.parametrize("frames", [
    (4, None, FrameMix(((64, 7), (595, 4), (1518, 1)))), (6, None, FrameMix(((minimum_frame("ipv6"), 1), (1518, 1)))),
    (4, 7, FrameMix(((minimum_frame(vlan=True), 1), (1522, 1)))),
], ids=["imix", "ipv6", "vlan"])
@pytest.mark.parametrize("driver", ["af_packet", "af_xdp"])
def test_the_cross_connect_takes_any_frame(dut: Dut, wires: Any, receiving: None, forwarding: MakePoint, driver: str,
                                           frames: tuple[int, int | None, FrameMix]) -> None:
    version, vlan, mix = frames
    point = forwarding({"forward": "l2", "driver": driver}, bidirectional=True, version=version, vlan=vlan, frame=mix)
    stack = stacks.create("vpp", point.params)
    with deployed(dut, point):
        check_role(wires, point, stack.role_info(Role.FORWARD), None)


@pytest.mark.parametrize(("driver", "rx_mode"), [("af_packet", "interrupt"), ("af_xdp", "interrupt"),
                                                 ("af_xdp", "adaptive")])
def test_waits_for_frames_where_it_is_to(dut: Dut, wires: Any, receiving: None, as_before: None, forwarding: MakePoint,
                                         driver: str, rx_mode: str) -> None:
    point = forwarding({"driver": driver, "rx_mode": rx_mode}, bidirectional=True)
    stack = stacks.create("vpp", point.params)
    assert not stack.polls()
    with deployed(dut, point) as running:
        check_role(wires, point, stack.role_info(Role.FORWARD), None)
        settled(running, 2 * FRAMES)
        polls = running.counters().totals["polls"]
        time.sleep(0.2)
        assert running.counters().totals["polls"] - polls < 2000, "it polls"


@pytest.mark.parametrize("driver", ["af_packet", "af_xdp"])
def test_workers_are_on_the_given_cores_and_each_has_a_queue(lab: Lab, dut: Dut, wires: Any, receiving: None,
                                                             as_before: None, forwarding: MakePoint,
                                                             driver: str) -> None:
    point = forwarding({"driver": driver}, cores=len(lab.dut_cores), bidirectional=True)
    with deployed(dut, point) as running:
        tasks = {p.name: (p / "comm").read_text().strip() for p in Path(f"/proc/{running.process.pid}/task").iterdir()}
        assert all(comm.startswith(running.thread_names) for comm in tasks.values()), tasks
        pinned = sorted((comm, os.sched_getaffinity(int(tid))) for tid, comm in tasks.items() if "_wk_" in comm)
        assert pinned == [(f"vpp_wk_{number}", {core}) for number, core in enumerate(point.cores)]
        check_role(wires, point, stacks.create("vpp", point.params).role_info(Role.FORWARD), None)
        assert [worker["core"] for worker in settled(running, 2 * FRAMES).per_worker] == list(point.cores)


def test_death_is_noticed_and_leaves_nothing(lab: Lab, dut: Dut, as_before: None, forwarding: MakePoint) -> None:
    """Killed, VPP itself cannot take its XDP program off."""
    with deployed(dut, forwarding({"driver": "af_xdp"})) as running:
        os.kill(running.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + SETTLE_S
        while running.process.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(StackError, match="ended with status"):
            running.counters()
        shown = dut.run(["ip", "-d", "link", "show", "dev", lab.ifnames("dut")[0]]).stdout
        assert "prog/xdp" in shown


@pytest.mark.parametrize("driver", ["af_packet", "af_xdp"])
def test_the_journal_puts_everything_back_when_the_agent_was_killed(lab: Lab, as_before: None, forwarding: MakePoint,
                                                                    driver: str) -> None:
    def connect() -> SshDut:
        return SshDut.connect("dut", lab.ssh, home_cores=lab.tg_cores, virtual=True, state_dir=str(folder),
                              lock_wait_s=30)

    folder = lab.dut_state_dir.parent / "killed"
    folder.mkdir(mode=0o700, exist_ok=True)
    dut = connect()
    deployment = deployed(dut, forwarding({"driver": driver}))
    running = deployment.__enter__()
    pid = running.process.pid
    os.kill(int(dut.agent["pid"]), signal.SIGKILL)
    with pytest.raises(HarnessError):
        deployment.__exit__(None, None, None)
    dut.abandon()
    dut.connection.close()
    with connect() as again:
        assert again.left_over[0] > 3
        assert again.left_over[1] == []
    assert ended(pid)


def test_a_start_that_fails_says_why_and_leaves_nothing(lab: Lab, dut: Dut, as_before: None,
                                                        forwarding: MakePoint) -> None:
    """The port is there and VPP cannot have it: another AF_XDP socket has its queue."""
    point = forwarding({"driver": "af_xdp"})
    with deployed(dut, point):
        with pytest.raises(StackError, match=r"'create interface af_xdp .*' was answered with .*xsk_socket__create"):
            with stacks.create("vpp", point.params).deploy(StackContext(dut, point, stacks.source("vpp"))):
                pytest.fail("two on one queue")


def test_a_folder_without_vpp_is_named(dut: Dut, forwarding: MakePoint) -> None:
    point = forwarding({"dir": "/nonexistent/bin"})
    missing = stacks.create("vpp", point.params).requirements(dut, point)
    assert [one.what for one in missing] == [f"the program /nonexistent/bin/{name}" for name in ("vpp", "vppctl")]
    assert "dir" in missing[0].remedy
