# SPDX-License-Identifier: Apache-2.0
"""docs/rack.md step by step with a real TRex: from hosts with sshd, cables and an unpacked TRex to the first run. What
the commands print is kept where RACK_RECORD names a folder; the document's outputs are from there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rack import ROOT, Rack, rack
from tests.trex.testbeds import pass_on, servers

pytestmark = [pytest.mark.trex, pytest.mark.lab]
WHO = ["--generator", "root@tg.example.net", "--dut", "sut1=root@sut1.example.net"]
TREX = Path("/opt/trex/v3.08")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Two hosts and two cables; TRex lies on the generator's where a release is unpacked."""
    unpacked = tmp_path_factory.mktemp("release") / TREX.name
    # A build tree's links are followed, as they are in a release; those to what was not built lead nowhere.
    subprocess.run(["cp", "-rL", os.environ["TREX_DIR"], unpacked], check=False, capture_output=True)
    assert (unpacked / "_t-rex-64").is_file()
    with rack(["tg", "sut1"], mounts={"tg": (unpacked, TREX)}) as made:
        for port in (0, 1):
            made.cable(("tg", f"ens1f{port}"), ("sut1", f"ens2f{port}"))
        pass_on(made.folder, made.netns_of("tg"), ["ens1f0", "ens1f1"])
        yield made
    shutil.rmtree(unpacked)


def step(made: Rack, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """One command as its user types it; its output and time are kept."""
    began = time.monotonic()
    done = made.harness(*words)
    took = time.monotonic() - began
    if folder := os.environ.get("RACK_RECORD"):
        Path(folder, f"{name}.txt").write_text(
            f"{' '.join(words)}\nstatus {done.returncode}, {took:.1f} s\n{done.stdout}{done.stderr}", encoding="utf-8")
    return done


def test_from_an_empty_rack_to_a_first_run(made: Rack) -> None:
    (made.folder / "nobody").write_text("")
    done = step(made, "1-unknown", "testbed", "init", *WHO, *made.login(known_hosts="nobody"))
    assert (done.returncode, "the host key of tg.example.net is not in" in done.stderr) == (3, True), done.stderr

    done = step(made, "2-init", "testbed", "init", *WHO, *made.login())
    assert done.returncode == 0, done.stdout + done.stderr
    file = made.folder / "testbed.yaml"
    keep(file, "2-testbed.yaml")
    written = file.read_text()
    assert f'trex: {{dir: "{TREX}"' in written
    assert len(re.findall(r"dut: sut1/", written)) == 2

    done = step(made, "3-check", "testbed", "check", "testbed.yaml")
    assert done.returncode == 0, done.stdout + done.stderr

    # One machine is both hosts here.
    divided = written.replace("cores: auto", "cores: [1]")
    file.write_text(re.sub(r"(?m)^  cores: \[.*\]$", "  cores: [0]", divided, count=1))
    done = step(made, "4-doctor", "doctor", "--testbed", "testbed.yaml")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert re.search(r"ok +wires +sut1 generator port 1 to sut1/1", done.stdout), done.stdout

    done = step(made, "5-run", "run", str(ROOT / "scenarios" / "quickstart.yaml"), "--testbed", "testbed.yaml",
                "--only", "xdp")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert re.search(r"\[1/1\] xdp: .*PDR (>= )?[\d.]+ kpps", said), said
    show = step(made, "6-show", "results", "show", "latest")
    assert "quickstart on rack, complete" in show.stdout, show.stdout


def keep(path: Path, name: str) -> None:
    if folder := os.environ.get("RACK_RECORD"):
        Path(folder, name).write_text(path.read_text(), encoding="utf-8")


def test_nothing_is_left_on_the_generators_host(made: Rack) -> None:
    assert servers(made.netns_of("tg")) == []
    assert [path for path in made.folder.glob("*/var/journal*") if path.stat().st_size] == []
    assert list(made.folder.rglob("trex_cfg*")) == []
