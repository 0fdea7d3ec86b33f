# SPDX-License-Identifier: Apache-2.0
"""The DUT's wall clock is set while a run is under way (the guest's, never this machine's): nothing goes by it.

With the guest's own Python, and with the oldest at hand, whose time-outs of locks end by the wall clock.
"""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import TestbedError
from harness.host.dut import LEASE_S, SshDut
from harness.lab import in_netns
from harness.lab.vm import VmLab
from harness.lab.vm.taps import management_tap
from harness.lab.wires import run_tool
from harness.records import Phase
from harness.store import RunReader
from tests.interpreters import interpreters
from tests.vm.measuring import check_counts, measure

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

HOUR = 3600
STEPS = pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "back"])
STACKS, TRIAL_S = ("linux-udp", "xdp: {mode: generic}"), 8
STATE = "ip -br addr; ip neigh show nud permanent; sysctl -a 2>/dev/null | grep 'ipv4.conf.data'"
#: Of an interpreter's library, what no agent imports and takes long to carry.
LEFT_OUT = ("test", "tests", "__pycache__", "idlelib", "lib2to3", "ensurepip", "site-packages", "tkinter", "turtledemo")


def guest(vm: VmLab, script: str, timeout_s: float = 60.0) -> str:
    done = subprocess.run(vm.exec_argv("dut", ["sh", "-es"]), input=script, capture_output=True, text=True,
                          timeout=timeout_s, check=True)
    return done.stdout.strip()


def step(vm: VmLab, seconds: int) -> None:
    guest(vm, f"date -s @$(($(date +%s) + {seconds}))")


def until(said: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.5)


@contextmanager
def old_python(vm: VmLab) -> Iterator[None]:
    """The oldest interpreter of this machine is the guest's python3."""
    program = Path(interpreters()[0]).resolve()
    home, name = program.parents[1], program.name
    files = subprocess.Popen(vm.exec_argv("dut", ["tar", "xf", "-", "-C", "/"]), stdin=subprocess.PIPE)
    assert files.stdin is not None
    with tarfile.open(fileobj=files.stdin, mode="w|") as archive:
        for file in (program, *(home / "lib").glob("libpython*.so*")):
            archive.add(file)
        archive.add(home / "lib" / name, filter=lambda entry: None if _heavy(entry.name) else entry)
    files.stdin.close()
    assert files.wait(120) == 0
    try:
        guest(vm, f"ln -s {program} /usr/local/bin/python3")
        assert name.removeprefix("python") in guest(vm, "python3 --version")
        yield
    finally:
        guest(vm, f"rm -f /usr/local/bin/python3; rm -r {home}")


def _heavy(name: str) -> bool:
    return any(part in LEFT_OUT or part.startswith("config-") for part in Path(name).parts)


@pytest.fixture(params=["own", "oldest"], scope="module")
def python(vm: VmLab, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whose interpreter the agent runs under."""
    if request.param == "own":
        yield
        return
    with old_python(vm):
        yield


class Stepping:
    """Has the guest set its own clock in the middle of the first load trial, and back in that of the second. Between
    them somebody else asks for the guest's lock. The harness's own SSH rests meanwhile: the guest is slow."""

    def __init__(self, vm: VmLab, seconds: int) -> None:
        self._vm, self._steps = vm, [seconds, -seconds]
        self.refused = ""

    def before(self, phase: Phase) -> None:
        """Before a trial."""
        if phase is Phase.LOAD:
            if len(self._steps) == 1:
                with pytest.raises(TestbedError) as raised:
                    SshDut.connect("vm", self._vm.ssh, lock_wait_s=1.0).close()
                self.refused = str(raised.value)
            # A second of it passes while counters are read before the traffic.
            later = f"sleep {TRIAL_S / 2 + 1}; date -s @$(($(date +%s) + {self._steps.pop(0)}))"
            guest(self._vm, f"setsid sh -c '{later}' </dev/null >/dev/null 2>&1 &")


@STEPS
@pytest.mark.usefixtures("python")
def test_a_run_goes_on_as_if_nothing_were(vm: VmLab, tmp_path: Path, seconds: int) -> None:
    """All points, with sane numbers; the lock stays the run's; everything is put back; the run says in which trials the
    clock was set and by how much."""
    stepping, before, began = Stepping(vm, seconds), guest(vm, STATE), time.monotonic()
    watching = measure(vm.testbed_file, tmp_path, "echo", *STACKS, before=stepping.before, trial_s=TRIAL_S)
    took = time.monotonic() - began
    assert "vm is in use by" in stepping.refused
    check_counts(watching, len(STACKS))
    reader, load = RunReader(watching.path), watching.load_trials()
    for trial in reader.trials():
        assert 0.5 * trial.duration_s < trial.real_s < took
        assert trial.pauses is not None
        assert trial.pauses.longest_ns < took * 1e9
    for trial, moved in zip(load, (seconds, -seconds), strict=True):
        assert trial.cpu is not None, trial.cpu_note
        assert trial.cpu.seconds < took
        assert trial.counters["wall_clock_set_by_s"] == pytest.approx(moved, abs=5)
    said = [note for note in reader.info.notes if "its wall clock was set by" in note]
    assert [f"during trial {trial.number}." in note for trial, note in zip(load, said, strict=True)] == [True] * 2
    assert reader.info.wall_s is not None
    assert 0 < reader.info.wall_s < took + 1
    assert guest(vm, STATE) == before
    with SshDut.connect("vm", vm.ssh) as again:
        assert again.left_over == (0, [])


@STEPS
@pytest.mark.usefixtures("python")
def test_a_lease_ends_in_its_time(vm: VmLab, seconds: int) -> None:
    """Not when the clock is set ahead by more than its length; ten seconds after the controller was heard last, not an
    hour, when it was set back."""
    made, tap = "/run/harness-test", management_tap(vm.name)
    dut = SshDut.connect("vm", vm.ssh)
    try:
        dut.create_file(made, "of a run")
        step(vm, seconds)
        time.sleep(0.5 * LEASE_S)
        assert dut.read(made) == "of a run"
        in_netns(vm.tg_netns, lambda: run_tool(["ip", "link", "set", tap, "down"]))
        try:
            time.sleep(LEASE_S + 5)
        finally:
            in_netns(vm.tg_netns, lambda: run_tool(["ip", "link", "set", tap, "up"]))
        until(lambda: guest(vm, f"ls {made} 2>/dev/null || true") == "", 20.0)
        with SshDut.connect("vm", vm.ssh, lock_wait_s=5.0) as again:
            assert again.left_over == (0, [])
    finally:
        dut.abandon()
        dut.connection.close()
        step(vm, -seconds)
