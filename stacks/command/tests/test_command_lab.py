# SPDX-License-Identifier: Apache-2.0
"""Programs of Debian as stacks in the lab, with real frames: roles, counters, troubles, and what is left."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness import stacks
from harness.errors import StackError
from harness.generator.frames import flow_frame
from harness.host.contract import Dut
from harness.lab import netns
from harness.lab.lab import Lab
from harness.measure.rolecheck import FRAMES, check_role
from harness.plan import PointPlan, Role
from harness.stack import RunningStack, StackContext

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]

LISTENER = "UDP4-LISTEN:{udp_port},bind={ip0},reuseaddr,fork"
#: cat on the socket of each client: over a pipe, datagrams that come close together would leave as one.
SOCAT: dict[str, Any] = {"title": "socat", "start": ["socat", LISTENER, "EXEC:cat,nofork"],
                         "ready": {"udp": "{udp_port}"}, "threads": ["cat"]}
SINK = {"start": ["socat", "-u", "UDP4-RECV:{udp_port},bind={ip0}", "OPEN:/dev/null"], "ready": {"udp": "{udp_port}"},
        "counters": ["nstat", "-asz", "--json"], "discard_counter": "kernel.UdpInDatagrams",
        "losses": {"socket buffer": "kernel.UdpRcvbufErrors"}}


def context(dut: Dut, point: PointPlan) -> StackContext:
    return StackContext(dut, point, stacks.source(point.stack))


def bound(dut: Dut) -> bool:
    """Whether some UDP socket of the DUT has the test's port."""
    return f":{9000:04X} " in dut.read("/proc/net/udp")


def gone(dut: Dut, running: Any) -> bool:
    return not dut.exists(f"/proc/{running.process.pid}") and not bound(dut)


def until_dead(running: RunningStack) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        running.check_alive()
        time.sleep(0.02)


def read(running: RunningStack) -> int:
    return running.counters().totals["kernel.UdpInDatagrams"]


def test_socat_echoes_and_all_its_processes_end(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("command", Role.ECHO, SOCAT, flows=8)
    stack = stacks.create(point.stack, point.params)
    assert stack.requirements(dut, point) == []
    with stack.deploy(context(dut, point)) as running:
        assert bound(dut)
        check_role(wires, point, stack.role_info(Role.ECHO), None)
        children = dut.read(f"/proc/{running.process.pid}/task/{running.process.pid}/children").split()
        assert children, "a process a client"
        assert {dut.read(f"/proc/{child}/comm").strip() for child in children} == {"cat"}
        assert running.thread_names == ("socat", "cat")
        assert os.sched_getaffinity(int(children[0])) == set(point.cores)
        assert running.counters().totals == {}
    assert gone(dut, running)
    left = [dut.read(f"/proc/{child}/status", "State: Z") for child in children]
    assert all("State:\tZ" in status or status == "State: Z" for status in left), "ended, if not yet reaped by init"


def test_a_sink_drops_and_its_counters_are_the_users(dut: Dut, wires: Any, make_point: MakePoint) -> None:
    point = make_point("command", Role.DROP, SINK)
    stack = stacks.create(point.stack, point.params)
    info = stack.role_info(Role.DROP)
    with stack.deploy(context(dut, point)) as running:
        assert read(running) == 0, "counted from the deployment on"
        check_role(wires, point, info, lambda: read(running))
        before = read(running)
        assert before % FRAMES == 0 < before
        wires.exchange(0, [flow_frame(point.directions[0], 64, n) for n in range(50)], 0, 0.1)
        deadline = time.monotonic() + 5
        while read(running) < before + 50 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert read(running) == before + 50
        assert running.counters().losses == {"socket buffer": 0}
    assert gone(dut, running)


@pytest.mark.parametrize(("changes", "says"), [
    ({"start": ["socat", "UDP4-LISTEN:{udp_port},bind=192.0.2.1", "PIPE"]},
     r"socat did not start: it ended with status 1"),
    ({"ready": {"output": "never printed", "timeout_s": 0.3}}, r"socat did not start: .*no line matched"),
    ({"ready": {"command": ["false"], "timeout_s": 0.3}}, "not ready in 0.3 s"),
    ({"ready": {"tcp": 9000, "timeout_s": 0.3}}, "not ready in 0.3 s"),
    ({"start": ["true"], "ready": {"command": ["true"]}}, "socat .*ended with status 0; a program that goes to"),
    ({"counters": ["cat", "/sys/class/net/{if0}/address"]}, "printed no counters; it prints a JSON object"),
    ({"counters": ["false"]}, "socat: its counter command failed"),
])
def test_a_start_that_fails_says_why_and_leaves_nothing(dut: Dut, make_point: MakePoint, changes: dict[str, Any],
                                                        says: str) -> None:
    point = make_point("command", Role.ECHO, {**SOCAT, **changes})
    with pytest.raises(StackError, match=says) as caught:
        with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
            until_dead(running)  # `true` may have been seen alive
    if "192.0.2.1" in str(changes):
        assert "Cannot assign requested address" in caught.value.log_tail
    assert not bound(dut)


def test_a_port_that_others_have_is_not_taken_for_readiness(lab: Lab, dut: Dut, make_point: MakePoint) -> None:
    point = make_point("command", Role.ECHO, SOCAT)
    with netns.in_netns(lab.dut_netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind((point.wires[0].dut.ip, point.udp_port))
        with pytest.raises(StackError, match="is taken on dut already; end what has it"):
            with stacks.create(point.stack, point.params).deploy(context(dut, point)):
                pytest.fail("it cannot serve")


def alive_for(running: Any, seconds: float) -> None:
    """Ask again and again until it is found dead."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        running.check_alive()
        time.sleep(0.02)


def test_a_program_that_dies_is_noticed(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("command", Role.DROP, SINK)
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        running.check_alive()
        os.kill(running.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        with pytest.raises(StackError, match="socat on dut ended with status -9"):
            alive_for(running, 5.0)  # a killed process takes a moment to end
    assert gone(dut, running)


def test_what_is_missing_is_said_with_the_users_remedy(dut: Dut, make_point: MakePoint) -> None:
    changes = {"start": ["no-such-program"], "install": "apt-get install it", "directory": "/no/such"}
    point = make_point("command", Role.DROP, {**SOCAT, **changes})
    missing = stacks.create(point.stack, point.params).requirements(dut, point)
    assert [(one.what, one.remedy) for one in missing][:1] == [("the program no-such-program", "apt-get install it")]
    assert [one.what for one in missing][1:] == ["the directory /no/such", "an exact count of what was discarded"]
    point = make_point("command", Role.ECHO, {**SOCAT, "start": ["socat", "{if1}", "{pci0}", "{core63}"]})
    missing = stacks.create(point.stack, point.params).requirements(dut, point)
    assert [one.what.split(":")[0] for one in missing] == ["a value for {if1}", "a value for {pci0}",
                                                           "a value for {core63}"]
    assert stacks.create("command", {}).requirements(dut, make_point("command", Role.ECHO))


def test_it_runs_in_its_directory_and_environment_and_is_cleaned_up(dut: Dut, make_point: MakePoint, tmp_path: Any,
                                                                    ) -> None:
    """stop as a command and cleanup, each run where the program ran; the file it leaves is gone."""
    script = 'echo "$PORT on $CORES in $(pwd)" > "$LEFT"; echo "{{if0}}" serves; exec sleep 600'
    params = {
        "title": "script", "start": ["sh", "-c", script], "ready": {"output": r"^\{if0\} serves$"},
        "directory": str(tmp_path), "stop": ["sh", "-c", "kill {pid}"], "cleanup": ["sh", "-c", 'rm -f "$LEFT"'],
        "environment": {"PORT": "{udp_port}", "CORES": "{cores}", "LEFT": "left.txt"}, "threads": ["sleep"],
    }
    point = make_point("command", Role.REFLECT, params)
    with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
        told = (tmp_path / "left.txt").read_text().strip()
        assert told == f"9000 on {','.join(map(str, point.cores))} in {tmp_path}"
        running.check_alive()
        assert running.thread_names == ("sh", "sleep")
    assert not (tmp_path / "left.txt").exists()
    assert running.process.returncode() == -signal.SIGTERM  # type: ignore[attr-defined]


def test_a_stop_that_fails_is_said_and_the_program_ended_all_the_same(dut: Dut, make_point: MakePoint) -> None:
    point = make_point("command", Role.ECHO, {**SOCAT, "stop": ["sh", "-c", "echo no >&2; exit 3"]})
    with pytest.raises(StackError, match="its stop command failed, so it was killed: status 3: no"):
        with stacks.create(point.stack, point.params).deploy(context(dut, point)) as running:
            pass
    assert gone(dut, running)
