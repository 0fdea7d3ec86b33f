# SPDX-License-Identifier: Apache-2.0
"""Whole runs in the lab, on real frames: what is measured, and what happens when something dies in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.lab.lab import Lab
from harness.lab.napi import napi_threads
from harness.options import RunOptions
from harness.records import Phase, Trial
from harness.runner import run
from harness.store import RunReader
from tests.watching import Watching

pytestmark = pytest.mark.lab

SCENARIO = """
name: small
role: {role}
traffic: {{frame: 64, flows: 16, direction: {direction}}}
cores: [1]
stacks:
{stacks}
measure:
  load_curve: {{rates: [5k], trial: 2s}}
  {latency}
  warmup: 100ms
"""


def write_scenario(folder: Path, *stacks: str, role: str = "echo", latency: str = "", given: bool = False,
                   direction: str = "one-way") -> Path:
    path = folder / "small.yaml"
    lines = "\n".join(f"  - {stack}" for stack in stacks)
    order = "order: given\n" if given else ""
    path.write_text(SCENARIO.format(role=role, stacks=lines, latency=latency, direction=direction) + order)
    return path


def machine() -> tuple[str, str, list[str]]:
    """What a run must leave as it was: links, hugepages, and no lab of ours or of a dead process."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    pages = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").read_text()
    return links, pages, [s.name for s in Lab.status() if s.owner == os.getpid() or s.state == "stale"]


def trials_of(path: Path) -> list[Trial]:
    return list(RunReader(path).trials())


def find(name: str, lab_side: str) -> int:
    """Pid of the one process whose command line holds ``name`` in a side of the lab that is up."""
    (lab,) = [s for s in Lab.status() if s.owner == os.getpid()]
    netns = f"nsh-{lab.name}-{lab_side}"
    pids = subprocess.run(["ip", "netns", "pids", netns], capture_output=True, text=True, check=True).stdout.split()
    found = [int(p) for p in pids if name in Path(f"/proc/{p}/cmdline").read_text().replace("\0", " ")]
    assert found, f"{name} does not run in {netns}"
    return max(found)


def test_frames_are_counted_and_accounted_for(tmp_path: Path) -> None:
    before, watching = machine(), Watching()
    scenario = write_scenario(tmp_path, "xdp", "linux-udp: {reuseport: true}")
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0
    assert [o.status for o in watching.outcomes] == ["ok", "ok"]
    load = [t for t in trials_of(watching.path) if t.phase is Phase.LOAD]
    assert {t.point for t in load} == {o.point for o in watching.outcomes}
    for trial in load:
        direction = trial.directions[0]
        skipped = sum(direction.skipped.values())
        assert abs(direction.asked - direction.sent - skipped) <= 1
        assert direction.received is not None
        assert direction.received + direction.lost == direction.sent
        assert trial.sent > 0
        assert trial.received > 0.5 * trial.sent
        assert sum(trial.losses.values()) + trial.unexplained == trial.lost
        assert trial.cpu is not None
    assert RunReader(watching.path).info.state == "complete"
    assert machine() == before


def test_napi_threads_precede_programs_only_where_no_program_shares_their_work(tmp_path: Path) -> None:
    policies: list[set[int]] = []

    def look(phase: Phase) -> None:
        if phase is Phase.LOAD:
            (status,) = [s for s in Lab.status() if s.owner == os.getpid()]
            threads = napi_threads(Lab.open(status.name).ifnames("dut")[0])
            policies.append({os.sched_getscheduler(pid) for pid in threads.values()})

    scenario = write_scenario(tmp_path, "xdp", "linux-udp", "xdp: {mode: generic}", given=True)
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), Watching(look)) == 0
    assert policies == [{os.SCHED_FIFO}, {os.SCHED_OTHER}, {os.SCHED_FIFO}]


def test_search_and_latency_find_what_the_trials_show(tmp_path: Path) -> None:
    watching = Watching()
    latency = """throughput: {goals: [mrr, ndr, pdr], trial: 300ms, initial_trial: 200ms, width: 20%, timeout: 60s}
  latency: {at: [50%], of: pdr, trial: 2s, rate: 1k}"""
    scenario = write_scenario(tmp_path, "xdp", latency=latency)
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0
    (outcome,), trials = watching.outcomes, trials_of(watching.path)
    assert outcome.mrr is not None
    assert outcome.mrr.pps is not None
    assert outcome.pdr is not None
    assert [t.phase for t in trials].count(Phase.CEILING) == 4
    measured = {t.offered_pps for t in trials if t.phase is Phase.SEARCH and not t.superseded}
    assert outcome.mrr.load_pps in measured
    assert outcome.pdr.load_pps is None or outcome.pdr.load_pps in measured
    if outcome.pdr.load_pps is not None:
        (at,) = outcome.latency
        assert at.percentiles is not None, at.reason
        assert at.percentiles.p50_ns is not None
        assert at.percentiles.min_ns <= at.percentiles.p50_ns <= at.percentiles.max_ns
        assert at.percentiles.min_ns <= at.percentiles.mean_ns <= at.percentiles.max_ns
    ceiling = RunReader(watching.path).info.ceilings[0]
    assert ceiling.sent_pps is not None
    assert max(measured) <= ceiling.sent_pps * 1.1


def test_the_floor_is_what_the_cheapest_responder_shows(tmp_path: Path) -> None:
    watching = Watching()
    scenario = write_scenario(tmp_path, "xdp", latency="latency: {at: [50%], of: pdr, trial: 2s, rate: 2k}\n"
                              "  throughput: {goals: [pdr], trial: 200ms, width: 50%}")
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0, watching.outcomes
    (ceiling,) = RunReader(watching.path).info.ceilings
    assert ceiling.floor is not None
    (trial,) = [t for t in trials_of(watching.path) if t.phase is Phase.FLOOR]
    assert trial.latency is not None
    assert (ceiling.floor.trial, ceiling.floor.percentiles.p50_ns) == (trial.number, trial.latency.p50_ns)
    assert ceiling.floor.percentiles.samples > 3000
    assert trial.asked_pps == 10_000


def test_drop_counts_by_the_stacks_own_counter(tmp_path: Path) -> None:
    watching = Watching()
    scenario = write_scenario(tmp_path, "xdp", "linux-udp", role="drop")
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0
    for trial in [t for t in trials_of(watching.path) if t.phase is Phase.LOAD]:
        assert trial.received > 0.5 * trial.sent
        assert trial.latency is None
        assert "not defined" in trial.latency_note


def test_forwarding_goes_in_on_one_wire_and_out_on_the_other(tmp_path: Path) -> None:
    watching = Watching()
    scenario = write_scenario(tmp_path, "linux-forward", "xdp", role="forward")
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0
    for trial in [t for t in trials_of(watching.path) if t.phase is Phase.LOAD]:
        assert (trial.directions[0].tx_port, trial.directions[0].rx_port) == (0, 1)
        assert trial.received > 0.5 * trial.sent


def test_both_directions_are_sent_at_the_same_time(tmp_path: Path) -> None:
    watching = Watching()
    scenario = write_scenario(tmp_path, "xdp", role="forward", direction="bidirectional")
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0
    (trial,) = [t for t in trials_of(watching.path) if t.phase is Phase.LOAD]
    assert [(d.tx_port, d.rx_port) for d in trial.directions] == [(0, 1), (1, 0)]
    assert trial.real_s < 1.5 * trial.duration_s
    for direction in trial.directions:
        assert direction.sent + sum(direction.skipped.values()) == pytest.approx(direction.asked, abs=1)
        assert direction.received is not None
        assert direction.received > 0.5 * direction.sent


def test_a_stack_that_dies_fails_its_point_alone(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_server(phase: Phase) -> None:
        if phase is Phase.LOAD and not killed:
            killed.append(find("udp", "dut"))
            os.kill(killed[0], signal.SIGKILL)

    before, watching = machine(), Watching(kill_server)
    scenario = write_scenario(tmp_path, "linux-udp", "linux-udp: {reuseport: true}")
    code = run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r", seed=1), watching)
    assert code == 4
    assert sorted(o.status for o in watching.outcomes) == ["failed", "ok"]
    (failed,) = [o for o in watching.outcomes if o.status == "failed"]
    assert failed.reason
    assert machine() == before


def test_a_stack_that_may_be_lacking_is_skipped_and_the_run_is_complete(tmp_path: Path) -> None:
    lacking = "command: {start: [no-such-program-of-anybodys, '{ip0}'], ready: {udp: '{udp_port}'}}"
    codes = {}
    for word in ("", "\n    if_supported: true"):
        scenario, watching = write_scenario(tmp_path, lacking + word, "xdp", given=True), Watching()
        codes[word] = run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching)
        assert [o.status for o in watching.outcomes] == ["skipped", "ok"]
        assert "no-such-program-of-anybodys" in watching.outcomes[0].reason
    assert list(codes.values()) == [4, 0]


def write_accept(folder: Path, *stacks: str, measure: str = "load_curve: {rates: [500], trial: 2s}") -> Path:
    path = folder / "accept.yaml"
    lines = "\n".join(f"  - {stack}" for stack in stacks)
    path.write_text(f"name: accept\nrole: accept\nstacks:\n{lines}\nmeasure:\n  {measure}\n  warmup: 100ms\n"
                    "order: given\n")
    return path


def test_accept_counts_connections_and_a_dead_server_fails_its_point_alone(tmp_path: Path) -> None:
    loads = []

    def end_the_second(phase: Phase) -> None:
        if phase is Phase.LOAD:
            loads.append(find("accept-server", "dut"))
            if len(loads) == 2:
                os.kill(loads[-1], signal.SIGKILL)

    before, watching = machine(), Watching(end_the_second)
    scenario = write_accept(tmp_path, "linux-tcp", "linux-tcp: {mode: block}", "linux-tcp: {workers: 2}")
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 4
    assert [o.status for o in watching.outcomes] == ["ok", "failed", "ok"]
    assert "accept-server on dut ended with status" in watching.outcomes[1].reason
    load = [t for t in trials_of(watching.path) if t.phase is Phase.LOAD]
    assert [(t.sent, t.received, t.lost, t.unexplained) for t in load] == [(1000, 1000, 0, 0)] * 2
    assert all(t.latency is not None and t.latency.samples == 1000 and t.handshake is not None for t in load)
    assert all(t.cpu is not None and not t.cpu.indicative for t in load)
    info = RunReader(watching.path).info
    assert (info.generator["kind"], info.generator["client"]) == ("h2load", "h2load --h1")
    (ceiling,) = info.ceilings
    assert ceiling.sent_pps is not None
    assert ceiling.sent_pps > 1000
    assert machine() == before


def test_a_generator_that_dies_is_restarted_and_the_trial_repeated(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_generator(phase: Phase) -> None:
        if phase is Phase.LOAD and not killed:
            killed.append(find("harness.generator.xdpgen", "tg"))
            os.kill(killed[0], signal.SIGKILL)

    before, watching = machine(), Watching(kill_generator)
    scenario = write_scenario(tmp_path, "xdp")
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0, watching.outcomes
    assert killed
    load = [t for t in trials_of(watching.path) if t.phase is Phase.LOAD]
    assert [(t.status, t.superseded) for t in load] == [("failed", True), ("ok", False)]
    assert machine() == before


def harness(folder: Path, scenario: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "harness", "run", str(scenario), "--testbed", "lab", "--results", str(folder / "r")]
    with (folder / "stderr").open("wb") as errors:
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=errors)


def await_trials(folder: Path, process: subprocess.Popen[bytes]) -> Path:
    """The run's directory once a trial is on disk."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for run_dir in (folder / "r").glob("*"):
            trials = run_dir / "trials.jsonl"
            if trials.exists() and trials.stat().st_size:
                return run_dir
        time.sleep(0.05)
    raise AssertionError(f"no trial was made: {(folder / 'stderr').read_text()}")


def test_ctrl_c_undoes_everything_and_keeps_what_was_measured(tmp_path: Path) -> None:
    before = machine()
    process = harness(tmp_path, write_scenario(tmp_path, "xdp", "linux-udp"))
    run_dir = await_trials(tmp_path, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, (tmp_path / "stderr").read_text()
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    assert RunReader(run_dir).info.state == "interrupted"
    assert len(trials_of(run_dir)) >= 1
    assert machine() == before


def test_after_kill_9_the_next_command_leaves_nothing(tmp_path: Path) -> None:
    before = machine()
    process = harness(tmp_path, write_scenario(tmp_path, "xdp", "linux-udp"))
    run_dir = await_trials(tmp_path, process)
    process.kill()
    process.wait()
    assert len(trials_of(run_dir)) >= 1
    Lab.clean_stale()
    assert machine() == before


def test_a_tuned_host_is_measured_and_put_back(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(phase: Phase) -> None:
        if phase is Phase.LOAD:
            (status,) = [s for s in Lab.status() if s.owner == os.getpid()]
            lab = Lab.open(status.name)
            path = f"/sys/class/net/{lab.ifnames('dut')[0]}/queues/rx-0/rps_flow_cnt"
            seen.append(subprocess.run(lab.exec_argv("dut", ["cat", path]), capture_output=True, text=True,
                                       check=True).stdout.split())

    scenario = write_scenario(tmp_path, "xdp:\n    tuning: {base: tuned, rfs: 2048}", "xdp", given=True)
    watching = Watching(look)
    assert run(RunOptions(scenario=scenario, testbed="lab", results=tmp_path / "r"), watching) == 0
    assert seen[0] != ["0"]
    assert seen[1] == ["0"]
    tuned, stock = watching.outcomes
    states = {change.item: change.status for change in tuned.tuning}
    assert states["rfs"] == "applied"
    assert states["rss_queues"] == "unsupported"
    assert stock.tuning == []
