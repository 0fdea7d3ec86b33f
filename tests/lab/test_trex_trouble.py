# SPDX-License-Identifier: Apache-2.0
"""What keeps a TRex from being started, over a real sshd with a labelled FAKE of its start script: one message each
with the remedy, exit 3, and the host as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from harness.generator.trexhost import server
from harness.host.local import local_dut
from tests.rackhosts import rack
from tests.trex.testbeds import TrexRack

pytestmark = pytest.mark.lab

SCENARIO = """
name: small
role: drop
traffic: {frame: 64, flows: 16}
cores: [1]
stacks: [linux-drop]
measure:
  load_curve: {rates: [20k], trial: 2s}
"""
#: As a real v3.08 ends on a host without hugepages.
NO_HUGEPAGES = """EAL: Cannot get hugepage information.
 You might need to run ./trex-cfg  once
EAL: Error - exiting with code: 1
  Cause: Invalid EAL arguments
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[TrexRack]:
    with rack(["sut"]) as made:
        yield TrexRack.of(made)


def fake(folder: Path, said: str) -> Path:
    """FAKE: an installation whose server says something and ends."""
    client = folder / "automation" / "trex_control_plane" / "interactive" / "trex"
    (client / "stl").mkdir(parents=True)
    for path in (client / "__init__.py", client / "stl" / "__init__.py", client / "stl" / "api.py"):
        path.write_text("")
    (folder / "said").write_text(said)
    for name, line in (("t-rex-64", "cat said; exit 1"), ("_t-rex-64", "echo ' Version : v3.08'")):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def run(folder: Path, document: dict[str, object]) -> tuple[int, str]:
    scenario, testbed = folder / "small.yaml", folder / "testbed.yaml"
    scenario.write_text(SCENARIO)
    testbed.write_text(yaml.safe_dump(document))
    done = subprocess.run([sys.executable, "-m", "harness", "run", str(scenario), "--testbed", str(testbed),
                           "--results", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_server_that_ends_is_explained_and_its_configuration_gone(hosts: TrexRack, tmp_path: Path) -> None:
    code, said = run(tmp_path, hosts.document(dir=str(fake(tmp_path / "trex", NO_HUGEPAGES))))
    assert (code, "TRex v3.08 ended with status 1" in said, "reserve them at boot" in said) == (3, True, True), said
    assert list(hosts.generator.folder.rglob("trex_cfg*")) == []
    kept = "".join(path.read_text() for path in (hosts.generator.folder / "var").glob("journal*.jsonl"))
    assert "trex_cfg" not in kept  # nothing is left to undo


def refused_key(ssh: dict[str, str], folder: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "stranger")], check=True)
    ssh["key"] = str(folder / "stranger")


def changed_host_key(ssh: dict[str, str], folder: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "another")], check=True)
    (folder / "known_hosts").write_text(f"{ssh['address']} " + (folder / "another.pub").read_text())
    ssh["known_hosts"] = str(folder / "known_hosts")


def no_server(ssh: dict[str, object], folder: Path) -> None:
    ssh["port"] = 2222


@pytest.mark.parametrize(("trouble", "says"), [
    (refused_key, "does not accept"), (changed_host_key, "is not the one in"), (no_server, "is it up, is sshd running"),
])
def test_a_generator_that_is_not_reached(hosts: TrexRack, tmp_path: Path, trouble: Callable[..., None],
                                         says: str) -> None:
    document = hosts.document()
    trouble(document["generator"]["ssh"], tmp_path)
    code, said = run(tmp_path, document)
    assert (code, says in said) == (3, True), said
    assert "Traceback" not in said


@pytest.mark.parametrize("trex", [True, False], ids=["trex", "xdpgen"])
def test_two_runs_do_not_share_a_generator(hosts: TrexRack, tmp_path: Path, trex: bool) -> None:
    """The lock of the generator's host is held by a run, here by an agent of ours: the one message says by whom, since
    when and for how long after its silence."""
    from harness.host.dut import SshDut
    from harness.sites import target_of
    from harness.testbed import Ssh

    document = hosts.document()
    if not trex:
        del document["generator"]["trex"]
    target = target_of(Ssh.model_validate(document["generator"]["ssh"]))
    with SshDut.connect("generator", target):
        code, said = run(tmp_path, document)
    assert code == 3, said
    holder = (rf"generator is in use by \S+@\S+ \(harness pid {os.getpid()}\), since 20\S+ \S+ \S+, "
              r"agent pid \d+, lease 10 s")
    assert re.search(holder, " ".join(said.split())), said


def test_what_trexs_start_script_leaves_is_put_back() -> None:
    """It reserves pages by itself, after the harness has looked: undone all the same, with the files of pages."""
    pages = Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
    before = pages.read_text()
    wanted = server.Wanted(mode="stl", ports=(), cores=(0,), sync_port=4601, async_port=4600, start=True,
                           software=False, speed_gbps=10.0, hugepages=2048, memory_mb=512)
    left = Path("/var/run/dpdk/harness-4601")
    with local_dut() as host:
        server._remember_pages(host)
        server._remove_files(host, wanted)
        left.mkdir(parents=True, exist_ok=True)
        (left / "config").touch()
        pages.write_text(str(int(before) + 4))
        assert pages.read_text() != before
    assert pages.read_text() == before
    assert not left.exists()
