# SPDX-License-Identifier: Apache-2.0
"""What may happen to the machines in the middle of a trial: the run ends in words, or goes on where it can; resumed, it
holds every point; the machine is as before.

``NSH_FAULTS`` times each (1). That the generator, a stack or the controller dies is tested in test_run, test_survive.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HostLost, ResultsError
from harness.lab.lab import Lab
from harness.options import RunOptions
from harness.records import Phase
from harness.runner import run
from harness.store import RunReader
from tests.lab.test_run import machine, write_scenario
from tests.soak import keep
from tests.watching import Watching

pytestmark = pytest.mark.lab

TIMES = int(os.environ.get("NSH_FAULTS", "1"))
#: Faults whose tests passed, in this process.
PASSED: list[str] = []
SSH_DROP = "table inet nsh_fault {{ chain in {{ type filter hook input priority 0; tcp dport {port} drop; }} ; }}"


def our_lab() -> str:
    (lab,) = [status.name for status in Lab.status() if status.owner == os.getpid()]
    return lab


def in_dut(*argv: str, stdin: str | None = None) -> str:
    return subprocess.run(["ip", "netns", "exec", f"nsh-{our_lab()}-dut", *argv], input=stdin, check=True,
                          capture_output=True, text=True, timeout=30).stdout


def kill_in_dut(word: str) -> None:
    """SIGKILL to every process of the DUT's namespace whose command line holds ``word``."""
    pids = subprocess.run(["ip", "netns", "pids", f"nsh-{our_lab()}-dut"], capture_output=True, text=True, check=True)
    victims = [int(pid) for pid in pids.stdout.split() if word in Path(f"/proc/{pid}/cmdline").read_text()]
    assert victims, f"no {word} runs on the DUT"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def kill_agent() -> None:
    kill_in_dut("agent")


def kill_sshd() -> None:
    """The server and every session of it: the connection breaks, as when it is restarted."""
    kill_in_dut("sshd")


def drop_management() -> None:
    in_dut("nft", "-f", "-", stdin=SSH_DROP.format(port=22))


def once(fault: Callable[[], None]) -> tuple[Callable[[Phase], None], list[Phase]]:
    """Do it just before the first measured trial, and never again."""
    done: list[Phase] = []

    def before(phase: Phase) -> None:
        if phase is Phase.LOAD and not done:
            done.append(phase)
            fault()

    return before, done


def resumed_whole(folder: Path, path: Path) -> None:
    """Resume the run and see that it holds each point of its plan once, in order."""
    assert run(RunOptions(Path(), results=folder / "r", resume=path.name), Watching()) == 0
    reader = RunReader(path)
    assert reader.info.state == "complete"
    assert [(o.repeat, o.point) for o in reader.outcomes()] == [tuple(e) for e in reader.info.plan["sequence"]]
    assert {o.status for o in reader.outcomes()} == {"ok"}


@pytest.mark.parametrize("fault", [kill_agent, kill_sshd, drop_management] * TIMES)
def test_a_host_that_is_lost_ends_the_run_and_resuming_finishes_it(tmp_path: Path, fault: Callable[[], None]) -> None:
    before, done = once(fault)
    watching, state = Watching(before), machine()
    scenario = write_scenario(tmp_path, "xdp", "linux-udp", given=True)
    with pytest.raises(HostLost, match="dut: the "):
        run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching)
    assert done
    assert machine() == state
    reader = RunReader(watching.path)
    assert (reader.info.state, reader.info.exit_code) == ("failed", 4)
    earlier = [t.number for t in reader.trials()]
    resumed_whole(tmp_path, watching.path)
    assert [t.number for t in RunReader(watching.path).every_trial()][:len(earlier)] == earlier
    assert machine() == state
    PASSED.append(fault.__name__)


@pytest.mark.parametrize("_time", range(TIMES))
def test_a_wire_that_goes_down_and_up_costs_frames_of_that_trial_alone(tmp_path: Path, _time: int) -> None:
    def pull() -> None:
        port = f"h{our_lab()}d0"
        in_dut("ip", "link", "set", port, "down")
        in_dut("ip", "link", "set", port, "up")

    before, done = once(pull)
    watching, state = Watching(before), machine()
    scenario = write_scenario(tmp_path, "xdp", "linux-udp", given=True)
    run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching)
    assert done
    assert machine() == state
    assert watching.outcomes[-1].status == "ok"
    PASSED.append("wire_down_and_up")


@pytest.mark.parametrize("_time", range(TIMES))
def test_a_full_disk_ends_the_run_and_resuming_finishes_it(tmp_path: Path, _time: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], check=True)
    try:
        fill = tmp_path / "fill"
        before, done = once(lambda: _fill(fill))
        watching, state = Watching(before), machine()
        scenario = write_scenario(tmp_path, "xdp", "linux-udp", given=True)
        with pytest.raises(ResultsError, match="No space left on device; the run ends here"):
            run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching)
        assert done
        assert machine() == state
        assert RunReader(watching.path).info.state == "failed"
        fill.unlink()
        resumed_whole(tmp_path, watching.path)
        PASSED.append("full_disk")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)) == 4096:
                pass
        except OSError:
            return


def test_every_fault_was_made_and_nothing_is_left() -> None:
    """Last in this file: what `make soak` keeps, only when the tests before it passed."""
    assert len(PASSED) == 5 * TIMES, f"only {sorted(PASSED)} passed"
    keep("faults", {"each": TIMES, "faults": sorted(set(PASSED)), "trials_lost": 0, "differences": 0})
