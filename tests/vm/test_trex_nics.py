# SPDX-License-Identifier: Apache-2.0
"""A real TRex on PCI NICs of its host, a virtual machine: hugepages reserved, ports taken from the kernel, given back.

``TREX_DIR=... python -m pytest -m "vm and trex" tests/vm``. Its DUT is the namespace at the wires' other ends. The
last run's figures are in tests/data/trex (TREX_NIC_RECORD=FILE keeps them). Under QEMU's translation nothing is fast,
and no figure is asserted.
"""

from __future__ import annotations

import difflib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.host.dut import SshDut
from harness.measure.accounting import TG_RECEIVE
from harness.options import RunOptions
from harness.records import Phase, Trial
from harness.runner import run
from harness.stacks import binding
from harness.stacks.binding import given_to_dpdk
from harness.store import RunReader
from tests.vm.generator import VmRack, vm_rack
from tests.watching import Watching

pytestmark = [pytest.mark.vm, pytest.mark.trex, pytest.mark.timeout(600)]

STATE = (Path(__file__).parent / "guest_state.sh").read_text(encoding="utf-8")
SCENARIO = """
name: nics
role: forward
traffic: {{frame: 64, flows: 16, direction: {direction}}}
cores: [1]
stacks:
  - linux-forward
measure:
  load_curve: {{rates: {rates}, trial: {seconds}s}}
  warmup: 0
order: given
"""
#: What ports of a host may carry that TRex's are taken from: it has to be there again afterwards.
SETTLED = """
rmmod uio_pci_generic uio 2>/dev/null || true
for port in data0 data1 data2 data3; do ip link set $port up; done
ip link set data0 mtu 1400 txqueuelen 777
ip addr replace 192.168.77.1/24 dev data0
ip route replace 192.168.78.0/24 via 192.168.77.9 dev data0
ip neigh replace 192.168.77.7 lladdr 02:00:00:00:aa:bb nud permanent dev data0
sysctl -q net.ipv4.conf.data1.rp_filter=2
ip link set data3 down
udevadm settle
for port in data0 data1 data2; do until [ "$(cat /sys/class/net/$port/operstate)" = up ]; do sleep 0.2; done; done
"""


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmRack]:
    with vm_rack(tmp_path_factory.mktemp("rack")) as made:
        made.guest(SETTLED)
        yield made


@pytest.fixture(autouse=True)
def nothing_stays(rack: VmRack) -> Iterator[None]:
    """The whole state of TRex's host is the same after a test as before it."""
    before = state(rack)
    yield
    deadline = time.monotonic() + 30  # links take their time
    while (found := changes(before, state(rack))) and time.monotonic() < deadline:
        time.sleep(1)
    assert found == []


def state(rack: VmRack) -> list[str]:
    addresses = " ".join(wire.dut.pci for wire in rack.vm.wires)
    return rack.guest(f"set +e -- {addresses}\n{STATE}\ntrue\n").splitlines()


def changes(before: list[str], after: list[str]) -> list[str]:
    return [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if not line.startswith("@@")]


def scenario(folder: Path, rates: str = "[1k]", seconds: int = 3, direction: str = "one-way") -> Path:
    path = folder / "nics.yaml"
    path.write_text(SCENARIO.format(rates=rates, seconds=seconds, direction=direction))
    return path


def harness(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "harness", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, start_new_session=True)


def until(said: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.5)


def check_counts(run_dir: Path, document: dict[str, Any]) -> None:
    """Of the first load trial: what TRex sent is what the DUT's interfaces received, and what they sent is what it
    received, frame for frame."""
    reader = RunReader(run_dir)
    trial = next(trial for trial in reader.trials() if trial.phase is Phase.LOAD)
    used = [wire["dut"].rpartition("/")[2] for wire in document["wires"][:2]]
    names = [document["duts"][0]["ports"][int(port)]["ifname"] for port in used]
    interfaces = [trial.counters["interfaces"][name] for name in names]
    record(reader, trial, document, interfaces)
    assert trial.sent > 0
    assert trial.sent == sum(counts.get("rx_packets", 0) for counts in interfaces)
    assert trial.received + trial.losses.get(TG_RECEIVE, 0) == sum(
        counts.get("tx_packets", 0) for counts in interfaces)


def record(reader: RunReader, trial: Trial, document: dict[str, Any], interfaces: list[dict[str, int]]) -> None:
    """Keep what was counted where TREX_NIC_RECORD names a file."""
    if os.environ.get("TREX_NIC_RECORD"):
        generator, facts = document["generator"], reader.info.hosts["generator"]
        line = {"date": reader.info.started_at[:10], "version": reader.info.generator["server"]["version"],
                "kernel": facts["kernel"]["release"], "nics": [facts["nics"][port["ifname"]].get("driver") for port in
                                                               generator["ports"]],
                "ports": len(generator["ports"]), "cores": generator["cores"],
                "software": generator["trex"].get("software", False),
                "tx_port": trial.directions[0].tx_port, "directions": len(trial.directions),
                "asked_pps": trial.asked_pps, "real_s": trial.real_s, "sent": trial.sent, "received": trial.received,
                "losses": dict(trial.losses), "interfaces": interfaces, "verdicts": sorted(trial.verdicts)}
        with Path(os.environ["TREX_NIC_RECORD"]).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def test_the_testbed_file_is_proved_and_nothing_stays(rack: VmRack) -> None:
    child = harness("testbed", "check", str(rack.write(rack.document(4, (0, 1, 2, 3)))))
    said, _ = child.communicate(timeout=200)
    assert child.returncode == 0, said
    assert "python3" in said
    assert "generator port 3 to sut/3" in said


@pytest.mark.parametrize(("cores", "software"), [((1, 2, 3), False), ((1,), True)],
                         ids=["on NICs", "one core for everything"])
def test_what_it_sends_and_receives_is_what_passed_the_wires(rack: VmRack, tmp_path: Path, cores: tuple[int, ...],
                                                             software: bool) -> None:
    document = rack.document(2, cores, software=software)
    watching = Watching()
    run(RunOptions(scenario(tmp_path, direction="bidirectional"), str(rack.write(document)),
                   results=tmp_path / "results"), watching)
    assert [(outcome.status, outcome.reason) for outcome in watching.outcomes] == [("ok", "")]
    check_counts(watching.path, document)


def test_latency_frames_are_recognised(rack: VmRack, tmp_path: Path) -> None:
    """Without --software, as these NICs' filters let TRex."""
    path = scenario(tmp_path)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["measure"] = {
        "throughput": {"goals": ["pdr"], "trial": "300ms", "width": "50%", "loss": "50%", "timeout": "10s"},
        "latency": {"at": ["50%"], "of": "pdr", "trial": "2s", "rate": 200}, "warmup": 0}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    watching = Watching()
    run(RunOptions(path, str(rack.write(rack.document(2, (1, 2, 3)))), results=tmp_path / "results"), watching)
    trial, = (trial for trial in RunReader(watching.path).trials() if trial.phase is Phase.LATENCY)
    assert trial.latency is not None, trial.latency_note
    print(trial.latency)


def test_pages_that_its_host_does_not_have_are_said(rack: VmRack, tmp_path: Path) -> None:
    path = rack.write(rack.document(2, (1, 2, 3), hugepages=8192))
    child = harness("run", str(scenario(tmp_path)), "--testbed", str(path), "--results", str(tmp_path))
    said, _ = child.communicate(timeout=200)
    assert child.returncode == 3, said
    assert "cannot give TRex 8192 hugepages of 2048 kB on node 0; free memory, or reserve them at boot" in said


def test_a_host_of_four_ports_is_put_back_when_the_controller_is_killed(rack: VmRack, tmp_path: Path) -> None:
    """The second pair of TRex's ports is what the scenario uses. The trial that was over when the harness was killed is
    in the store."""
    document = rack.document(4, (0, 1, 2, 3), hugepages=1024)
    document["wires"] = document["wires"][2:] + document["wires"][:2]
    before, results = state(rack), tmp_path / "results"
    child = harness("run", str(scenario(tmp_path, "[1k, 2k]", 5, "bidirectional")), "--testbed",
                    str(rack.write(document)), "--results", str(results))
    try:
        until(lambda: child.poll() is not None or any('"phase":"load"' in path.read_text() for path in
                                                      results.glob("*/trials.jsonl")), 200.0)
        assert changes(before, state(rack)) != []
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        said, _ = child.communicate()
    assert child.returncode == -signal.SIGKILL, said
    deadline = time.monotonic() + 180  # under QEMU's translation every port takes its time
    while (found := changes(before, state(rack))) and time.monotonic() < deadline:
        time.sleep(1)
    assert found == []
    check_counts(next(results.iterdir()), document)


def test_what_is_set_on_a_port_that_stays_with_the_kernel_is_put_back(
        rack: VmRack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What TRex's start script does to Mellanox's ports, done to one that is treated as such."""
    monkeypatch.setattr(binding, "BIFURCATED", ("e1000",))
    wire = rack.vm.wires[1]
    with SshDut.connect("generator", rack.vm.ssh) as host, given_to_dpdk(host, [wire.dut.pci], "auto", ""):
        rack.guest(f"ethtool -A {wire.dut.ifname} autoneg off rx off tx off\nip link set {wire.dut.ifname} mtu 9000")
        assert host.read(f"/sys/class/net/{wire.dut.ifname}/mtu").strip() == "9000"
