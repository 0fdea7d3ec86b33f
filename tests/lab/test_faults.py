# SPDX-License-Identifier: Apache-2.0
"""What may happen to the machines at a random moment of a run's load trials: the run ends in words, or goes on where it
can; resumed, it holds every point; no trial that it told of is lost; the hosts are as before.

``NSH_FAULTS`` times each (1), at moments by ``NSH_SEED`` (printed). The testbed outlives the runs, so that what they
leave is seen. That the controller dies is tested in test_survive.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from harness.errors import HostLost, ResultsError, UsageError
from harness.options import RunOptions
from harness.records import Phase, Trial
from harness.runner import run
from harness.store import RunReader
from tests.lab.held import Held, held, lost
from tests.soak import keep
from tests.watching import Watching

pytestmark = pytest.mark.lab

TIMES = int(os.environ.get("NSH_FAULTS", "1"))
SEED = int(os.environ.get("NSH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
TRIAL_S = 2.0
SCENARIO = """
name: faults
role: echo
traffic: {{frame: 64, flows: 16}}
stacks:
{stacks}
measure:
  load_curve: {{rates: [3k, 5k], trial: 2s}}
  warmup: 100ms
order: given
"""
XDP_AND_UDP, UDP_ALONE = ("xdp", "linux-udp"), ("linux-udp", "linux-udp: {reuseport: true}")
SSH_DROP = "table inet nsh_fault { chain in { type filter hook input priority 0; tcp dport 22 drop; } ; }"
#: Until a process that is to be killed runs (between points none may).
_VICTIM_S = 20.0


@pytest.fixture
def bed() -> Iterator[Held]:
    with held() as bed:
        yield bed


def kill(bed: Held, side: str, word: str) -> None:
    """SIGKILL to every process of a side whose command line holds ``word``, once there is one."""
    deadline = time.monotonic() + _VICTIM_S
    while not (victims := bed.pids(side, word)):
        assert time.monotonic() < deadline, f"no {word} runs on {side}"
        time.sleep(0.005)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def nothing(bed: Held) -> None:
    """Needs no repair."""


def kill_sshd(bed: Held) -> None:
    """The server and every session of it: the connection breaks."""
    kill(bed, "dut", "sshd")


def start_sshd(bed: Held) -> None:
    bed.server.wait(10)
    bed.host.start()


def restart_sshd(bed: Held) -> None:
    """As a service manager does it: the server ends and comes back, its sessions stay."""
    bed.server.terminate()
    start_sshd(bed)


def cut_connection(bed: Held) -> None:
    """The kernel of the DUT destroys the socket of the SSH session (CONFIG_INET_DIAG_DESTROY)."""
    cut = bed.run("dut", "ss", "-HtK", "state", "established", "sport", "=", ":22")
    assert cut.strip(), "the kernel destroyed no socket"


def drop_management(bed: Held) -> None:
    bed.run("dut", "nft", "-f", "-", stdin=SSH_DROP)


def pass_management(bed: Held) -> None:
    bed.run("dut", "nft", "delete", "table", "inet", "nsh_fault")


@dataclass(frozen=True)
class Fault:
    """``repair``: what the user does before the run is resumed. ``ends``: how the run ends: the host is lost; or it is
    complete, with every point or with one that failed."""

    strike: Callable[[Held], None]
    ends: str
    repair: Callable[[Held], None] = nothing
    stacks: tuple[str, str] = XDP_AND_UDP
    #: After the beginning of a trial, which lasts 2 s.
    latest_s: float = TRIAL_S + 0.4
    #: What a killed agent left is undone by the next one, not before: it is looked for after the run was resumed.
    by_next_agent: bool = False
    #: What the fault itself changes of the DUT's state, where the agent can undo only by its lease: the rest is looked
    #: at before the repair, too, which lets the connection's end through.
    marks: tuple[str, ...] = ()
    #: Until that end arrives: TCP repeats it ever more rarely, and the SSH server's session waits for it.
    longer_s: float = 0.0


FAULTS = {
    "agent_killed": Fault(partial(kill, side="dut", word="agent"), "lost", by_next_agent=True),
    "sshd_killed": Fault(kill_sshd, "lost", start_sshd),
    "sshd_restarted": Fault(restart_sshd, "whole"),
    "connection_cut": Fault(cut_connection, "lost"),
    "management_dropped": Fault(drop_management, "lost", pass_management, marks=("nft list ruleset", "processes"),
                                longer_s=130.0),
    "generator_killed": Fault(partial(kill, side="tg", word="harness.generator.xdpgen"), "whole"),
    "stack_killed": Fault(partial(kill, side="dut", word="udp"), "one failed", stacks=UDP_ALONE, latest_s=TRIAL_S),
}


@dataclass(frozen=True)
class Result:
    """What came of a fault, counted."""

    fault: str
    told: int
    trials_lost: int
    differences: int


#: Of the tests that passed, in this process.
RESULTS: list[Result] = []


class Striking(Watching):
    """Does something once, in a thread of its own, so long after the n-th load trial (from 0) was begun."""

    def __init__(self, strike: Callable[[], None], nth: int, after_s: float) -> None:
        super().__init__(self._begun)
        self._strike, self._nth, self._after_s, self._loads = strike, nth, after_s, 0
        self._thread = ThreadPoolExecutor(1)
        self._struck: Future[None] | None = None
        #: The trial that it struck in, or after which it did.
        self.number = 0

    def _begun(self, phase: Phase) -> None:
        if phase is Phase.LOAD:
            if self._loads == self._nth:
                self.number = max(self.told, default=0) + 1
                self._struck = self._thread.submit(self._later)
            self._loads += 1

    def _later(self) -> None:
        time.sleep(self._after_s)  # the moment that was drawn
        self._strike()

    def struck(self) -> None:
        """Raises what went wrong with striking."""
        assert self._struck is not None, "the run ended before"
        self._struck.result(60)
        self._thread.shutdown()


def scenario(folder: Path, stacks: tuple[str, ...]) -> Path:
    path = folder / "faults.yaml"
    path.write_text(SCENARIO.format(stacks="\n".join(f"  - {stack}" for stack in stacks)))
    return path


def moment(name: str, time_: int, latest_s: float = TRIAL_S + 0.4) -> tuple[int, float]:
    """A load trial that is not the last of the run's four, and seconds after its begin: in it or soon after."""
    chance = random.Random(f"{SEED} {name} {time_}")
    return chance.randrange(3), chance.uniform(0.0, latest_s)


def check_whole(path: Path, statuses: set[str]) -> None:
    """The run holds each point of its plan once, in order."""
    reader = RunReader(path)
    assert reader.info.state == "complete"
    assert [(o.repeat, o.point) for o in reader.outcomes()] == [tuple(e) for e in reader.info.plan["sequence"]]
    assert {o.status for o in reader.outcomes()} == statuses
    loads = {(t.point, t.asked_pps) for t in reader.trials() if t.phase is Phase.LOAD and not t.superseded}
    assert len(loads) == 4 or statuses != {"ok"}


def count(name: str, path: Path, sessions: list[Watching], differences: int) -> None:
    """Count what is lost of all that the sessions told, keep it, and fail where it is not nothing."""
    told = [session.told for session in sessions]
    assert any(told), "a session told of trials"
    result = Result(name, sum(map(len, told)), sum(len(lost(path, each)) for each in told), differences)
    print(result)
    assert (result.trials_lost, result.differences) == (0, 0)
    RESULTS.append(result)


def see_left(bed: Held, besides: tuple[str, ...] = (), longer_s: float = 0.0) -> int:
    """How much is not as before."""
    left = bed.differences(besides, longer_s)
    for name, (before, now) in left.items():
        print(f"LEFT: {name}: {before!r} -> {now!r}")
    return len(left)


@pytest.mark.parametrize("time_", range(TIMES))
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_the_run_in_words_or_is_survived_and_resuming_finishes_it(
        tmp_path: Path, bed: Held, name: str, time_: int) -> None:
    fault = FAULTS[name]
    nth, after_s = moment(name, time_, fault.latest_s)
    print(f"seed {SEED}: {name} {after_s:.3f} s after load trial {nth} began")
    first = Striking(lambda: fault.strike(bed), nth, after_s)
    options = RunOptions(scenario(tmp_path, fault.stacks), str(bed.testbed), results=tmp_path / "r")
    if fault.ends == "lost":
        with pytest.raises(HostLost, match="dut: "):
            run(options, first)
    else:
        assert run(options, first) == (0 if fault.ends == "whole" else 4)
    first.struck()
    differences = see_left(bed, besides=fault.marks) if fault.marks else 0
    fault.repair(bed)
    differences += 0 if fault.by_next_agent else see_left(bed, longer_s=fault.longer_s)
    state = RunReader(first.path).info.state
    assert not lost(first.path, first.told)
    assert state == ("failed" if fault.ends == "lost" else "complete")
    again = Watching()
    resuming = RunOptions(Path(), results=tmp_path / "r", resume=first.path.name)
    if fault.ends == "lost":
        assert run(resuming, again) == 0
        assert again.told
        differences += see_left(bed)
    else:
        with pytest.raises(UsageError, match="the run is complete"):
            run(resuming, again)
    check_whole(first.path, {"ok", "failed"} if fault.ends == "one failed" else {"ok"})
    count(name, first.path, [first, again], differences)


@pytest.mark.parametrize("time_", range(TIMES))
def test_a_full_disk_ends_the_run_and_resuming_finishes_it(tmp_path: Path, bed: Held, time_: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], check=True)
    try:
        fill, (nth, after_s) = tmp_path / "fill", moment("full_disk", time_)
        first = Striking(lambda: _fill(fill), nth, after_s)
        with pytest.raises(ResultsError, match="No space left on device; the run ends here"):
            run(RunOptions(scenario(tmp_path, XDP_AND_UDP), str(bed.testbed), results=tmp_path / "r"), first)
        first.struck()
        differences = see_left(bed)
        assert RunReader(first.path).info.state == "failed"
        assert not lost(first.path, first.told)
        fill.unlink()
        again = Watching()
        assert run(RunOptions(Path(), results=tmp_path / "r", resume=first.path.name), again) == 0
        check_whole(first.path, {"ok"})
        count("full_disk", first.path, [first, again], differences + see_left(bed))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)) == 4096:
                pass
        except OSError:
            return


def pull(bed: Held, side: str) -> None:
    """Take one end of the first wire down for 0.3 s: to the DUT its own port, or a cable that was pulled."""
    ifname = bed.ifnames(side)[0]
    bed.run(side, "ip", "link", "set", ifname, "down")
    time.sleep(0.3)  # the fault's own length
    bed.run(side, "ip", "link", "set", ifname, "up")


@pytest.mark.parametrize("time_", range(TIMES))
@pytest.mark.parametrize("side", ["dut", "tg"])
def test_a_wire_that_goes_down_and_up_costs_frames_of_that_trial_alone(
        tmp_path: Path, bed: Held, side: str, time_: int) -> None:
    """In the middle of a trial. In the others nothing is lost but what recorded pauses account for."""
    chance = random.Random(f"{SEED} wire {side} {time_}")
    nth, after_s = chance.randrange(3), chance.uniform(0.8, 1.4)
    watching = Striking(lambda: pull(bed, side), nth, after_s)
    code = run(RunOptions(scenario(tmp_path, ("xdp", "xdp: {mode: generic}")), str(bed.testbed),
                          results=tmp_path / "r"), watching)
    watching.struck()
    trials = [Trial.model_validate(told) for told in watching.told.values()]
    load = [trial for trial in trials if trial.phase is Phase.LOAD]
    for one in load:
        print(f"{side} {one.number}{' struck' * (one.number == watching.number)}: {one.status} {one.reason} sent "
              f"{one.sent} lost {one.lost} {one.losses} unexplained {one.unexplained} {list(map(str, one.verdicts))} "
              f"spoilt {one.spoilt} skipped {[d.skipped for d in one.directions]}")
    assert code == 0, watching.outcomes
    (hit,) = [trial for trial in load if trial.number == watching.number]
    assert hit.lost > 0.05 * hit.asked_pps * hit.duration_s, "0.3 s of 2 s"
    assert hit.unexplained <= 0.01 * hit.lost
    assert sum(hit.losses.values()) == hit.lost - hit.unexplained
    assert not [trial.number for trial in load if trial is not hit and trial.lost and not trial.spoilt]
    check_whole(watching.path, {"ok"})
    count(f"wire_down_and_up_{side}", watching.path, [watching], see_left(bed))


def test_every_fault_was_made_and_nothing_is_left() -> None:
    """Last in this file: what `make soak` keeps, only when the tests before it passed."""
    assert len(RESULTS) == (len(FAULTS) + 3) * TIMES, f"only {[r.fault for r in RESULTS]} passed"
    keep("faults", {"seed": SEED, "each": TIMES, "faults": sorted({r.fault for r in RESULTS}),
                    "trials_told": sum(r.told for r in RESULTS), "trials_lost": sum(r.trials_lost for r in RESULTS),
                    "differences": sum(r.differences for r in RESULTS)})
