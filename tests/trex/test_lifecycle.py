# SPDX-License-Identifier: Apache-2.0
"""A real TRex started, attached to, refused and stopped over real SSH: what a user sees, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from harness.records import Phase, Trial
from harness.store import RunReader
from tests.trex.testbeds import ASYNC_PORT, SYNC_PORT, TrexRack

pytestmark = pytest.mark.trex

SCENARIO = """
name: small
role: forward
traffic: {{frame: 64, flows: 16}}
cores: [1]
stacks:
  - linux-forward
measure:
  load_curve: {{rates: [{rate}], trial: {seconds}s}}
  warmup: 0
order: given
"""
TestbedFile = Callable[..., Path]


def harness(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "harness", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, start_new_session=True)


def scenario(folder: Path, rate: str = "20k", seconds: float = 2) -> Path:
    path = folder / "small.yaml"
    path.write_text(SCENARIO.format(rate=rate, seconds=seconds))
    return path


def run(folder: Path, testbed: Path, rate: str = "20k", seconds: float = 2) -> tuple[int, str]:
    """Exit code and output of a run."""
    child = harness("run", str(scenario(folder, rate, seconds)), "--testbed", str(testbed), "--results", str(folder))
    said, _ = child.communicate(timeout=120)
    return child.returncode, said


def load_trials(folder: Path) -> list[Trial]:
    path = max(folder.glob("*-small-*"), key=lambda one: one.stat().st_mtime)
    return [trial for trial in RunReader(path).trials() if trial.phase is Phase.LOAD]


@contextmanager
def server(hosts: TrexRack, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's TRex on the generator's ports."""
    config = folder / "other.yaml"
    ports = hosts.generator.ports
    config.write_text(yaml.safe_dump([{
        "version": 2, "port_limit": 2, "low_end": True, "low_end_core": min(os.sched_getaffinity(0)), "prefix": "other",
        "zmq_pub_port": ASYNC_PORT, "zmq_rpc_port": SYNC_PORT, "limit_memory": 512,
        "interfaces": [port.ifname for port in ports],
        "port_info": [{"src_mac": port.mac, "dest_mac": end.mac}
                      for port, end in zip(ports, hosts.sut.ports, strict=True)]}]))
    with (folder / "other.log").open("wb") as log:
        child = subprocess.Popen(
            ["ip", "netns", "exec", hosts.made.tg_netns, "./t-rex-64", "-i", *options, "--cfg", str(config),
             "--software", "--no-scapy-server", "--no-key", "--iom", "0"], cwd=os.environ["TREX_DIR"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: str(SYNC_PORT) in hosts.generator.run("ss", "-Hltn", f"sport = :{SYNC_PORT}"), 40.0)
        yield child
    finally:
        os.killpg(child.pid, signal.SIGINT)
        child.wait(20)


def until(said: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.1)


@contextmanager
def owned(hosts: TrexRack, user: str) -> Iterator[None]:
    """Port 0 owned by somebody, with TRex's own client."""
    tree = Path(os.environ["TREX_DIR"]) / "automation" / "trex_control_plane" / "interactive"
    program = (f"import sys; sys.path.insert(0, {str(tree)!r}); from trex.stl.api import STLClient\n"
               f"c = STLClient(username={user!r}, server='127.0.0.1', sync_port={SYNC_PORT}, async_port={ASYNC_PORT}, "
               "verbose_level='error')\nc.connect(); c.acquire(ports=[0]); print('owned', flush=True)\n"
               "sys.stdin.read()\nprint(c.ports[0].get_owner(), c.ports[0].is_acquired(), flush=True)\n"
               "c.disconnect()\n")
    inside = ["ip", "netns", "exec", hosts.made.tg_netns, sys.executable, "-W", "ignore", "-c", program]
    child = subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "owned\n"
        yield
    finally:
        child.stdin.close()
        said = child.stdout.read()
        child.stdout.close()
        child.wait(20)
    assert said == f"{user} True\n"  # nobody took it meanwhile


def test_it_is_started_for_a_run_and_nothing_of_it_stays(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    code, said = run(tmp_path, testbed())
    assert code == 0, said
    trial, = load_trials(tmp_path)
    assert trial.sent - trial.directions[0].asked in (0, 1)  # a continuous stream's last frame may be on the edge
    kept = RunReader(max(tmp_path.glob("*-small-*"))).info.generator
    assert kept["receives_in_software"] is True  # by what a real server tells of itself
    assert "Starting  TRex v3" in next(tmp_path.glob("*/logs/trex.log")).read_text()
    assert hosts.servers() == []
    assert list(hosts.generator.folder.rglob("trex_cfg*")) == []


def test_it_ends_when_the_controller_is_killed(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    child = harness("run", str(scenario(tmp_path, seconds=60)), "--testbed", str(testbed()), "--results", str(tmp_path))
    until(lambda: bool(hosts.servers()), 60.0)
    child.kill()
    child.communicate(timeout=20)
    until(lambda: not hosts.servers(), 30.0)


def test_a_running_server_is_used_and_left_running(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    with server(hosts, tmp_path) as other:
        code, said = run(tmp_path, testbed(start="never"))
        assert code == 0, said
        assert other.poll() is None
        with owned(hosts, "alice"):
            code, said = run(tmp_path, testbed())
        assert (code, "is owned by 'alice'" in said) == (3, True), said
    code, said = run(tmp_path, testbed(start="never"))
    assert (code, "no TRex serves" in said) == (3, True), said


def test_a_server_of_another_mode_is_said(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    with server(hosts, tmp_path, "--astf") as other:
        code, said = run(tmp_path, testbed())
        assert other.poll() is None
    assert (code, "runs in mode ASTF, and this needs STL" in said) == (3, True), said


def test_a_directory_that_is_no_installation_is_said(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    code, said = run(tmp_path, testbed(dir="/usr"))
    assert (code, "/usr on the generator's host is no TRex installation" in said) == (3, True), said
    assert hosts.servers() == []


def test_cables_the_wrong_way_round_are_said(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    path = testbed()
    document = yaml.safe_load(path.read_text())
    document["wires"][0]["dut"], document["wires"][1]["dut"] = "sut/1", "sut/0"
    path.write_text(yaml.safe_dump(document))
    code, said = run(tmp_path, path)
    assert code == 3, said
    assert "wire" in said
    assert hosts.servers() == []


def test_a_link_that_goes_down_in_the_middle_is_said(hosts: TrexRack, testbed: TestbedFile, tmp_path: Path) -> None:
    child = harness("run", str(scenario(tmp_path, seconds=6)), "--testbed", str(testbed()), "--results", str(tmp_path))
    before = hosts.generator.counter(0, "tx_packets")
    until(lambda: hosts.generator.counter(0, "tx_packets") > before + 20_000, 60.0)
    hosts.generator.run("ip", "link", "set", hosts.generator.ports[0].ifname, "down")
    said, _ = child.communicate(timeout=90)
    hosts.generator.run("ip", "link", "set", hosts.generator.ports[0].ifname, "up")
    assert (child.returncode, "has no link after the trial; look at its cable" in said) == (4, True), said
    assert hosts.servers() == []
