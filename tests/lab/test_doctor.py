# SPDX-License-Identifier: Apache-2.0
"""The checks on a real lab: as it is made all is well, and whatever is broken is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

import pytest

from harness.doctor.examination import Examination
from harness.lab.lab import Lab
from harness.machines import Machines, machines_of
from harness.options import RunOptions
from harness.records import Check
from harness.resources import resource
from harness.sites import LabSite

pytestmark = pytest.mark.lab

#: Of this machine, whatever runs on it just now.
NOT_THE_LABS = {"load", "governor", "turbo", "idle-states", "smt", "irqbalance", "command-line", "mitigations",
                "hugepages", "clock"}
QUICKSTART = resource("scenarios") / "quickstart.yaml"
LISTENER = "import socket, time; s = socket.socket(17, 3, 768); print('open', flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with ExitStack() as owned:
        made = owned.enter_context(machines_of(RunOptions(QUICKSTART, "lab"), lambda text: None))
        made.connect_dut("dut", owned)
        made.start_generator(owned)
        yield made


@pytest.fixture
def lab(machines: Machines) -> Lab:
    assert isinstance(machines.site, LabSite)
    return machines.site._lab


def inside(lab: Lab, side: str, *argv: str) -> None:
    subprocess.run(lab.exec_argv(side, argv), check=True, capture_output=True, text=True)


def odd(machines: Machines) -> Mapping[str, Check]:
    """What is not as expected, by name and host, but for what is this machine's."""
    machines.survey_dut("dut")
    examination = Examination(machines, 1518)
    checks = [*examination.hosts(), *examination.wires()]
    return {f"{check.name} {check.host}": check for check in checks
            if check.status in ("warn", "fail") and check.name not in NOT_THE_LABS}


def test_a_lab_as_it_is_made_is_as_expected(machines: Machines) -> None:
    assert odd(machines) == {}
    examination = Examination(machines, 1518)
    examination.hosts()
    assert {(c.name, c.value) for c in examination.wires() if c.name == "frame-size"} == {
        ("frame-size", "64 and 1518 bytes")}
    assert examination.generator_facts is not None
    assert examination.generator_facts["cpu"]["model"] == machines.dut("dut").facts()["cpu"]["model"]


def test_a_wire_taken_down_is_named_on_both_ends(machines: Machines, lab: Lab) -> None:
    ifname = lab.ifnames("dut")[1]
    inside(lab, "dut", "ip", "link", "set", "dev", ifname, "down")
    found = odd(machines)
    inside(lab, "dut", "ip", "link", "set", "dev", ifname, "up")
    assert (found["link dut"].target, found["link dut"].value, found["link dut"].status) == (ifname, "set down", "fail")
    assert found["link generator"].value == "no carrier"
    assert found["wires dut"].value == "no answer"
    assert found["wires dut"].target == "generator port 1 to dut/1"
    assert odd(machines) == {}


def test_wires_that_are_not_as_the_testbed_says(machines: Machines) -> None:
    plan, (one, two) = machines.plan, machines.plan.wires
    machines.plan = replace(plan, wires=(replace(one, dut=two.dut), replace(two, dut=one.dut)))
    found = odd(machines)
    machines.plan = plan
    assert found["wires dut"].status == "fail"
    assert found["wires dut"].remedy.startswith("swap the cables")


BREAKS = [
    ("mtu dut", "576", ("ip", "link", "set", "dev", "IF", "mtu", "576"), ("ip", "link", "set", "dev", "IF", "mtu",
                                                                         "1500")),
    ("duplicate-addresses dut", "198.18.0.1 on lo", ("ip", "address", "add", "198.18.0.1/32", "dev", "lo"),
     ("ip", "address", "del", "198.18.0.1/32", "dev", "lo")),
    ("offloads dut", "rx-checksumming off", ("ethtool", "-K", "IF", "rx", "off"), ("ethtool", "-K", "IF", "rx", "on")),
    ("firewall dut", "nftables inet doctor: 1 rules in 1 hooked chains",
     ("nft", "table inet doctor { chain input { type filter hook input priority 0; udp dport 7 drop; }; }"),
     ("nft", "delete table inet doctor")),
]


@pytest.mark.parametrize(("name", "words", "do", "undo"), BREAKS, ids=[entry[0] for entry in BREAKS])
def test_what_is_changed_on_the_dut_is_named(machines: Machines, lab: Lab, name: str, words: str,
                                             do: tuple[str, ...], undo: tuple[str, ...]) -> None:
    ifname = lab.ifnames("dut")[0]
    inside(lab, "dut", *(ifname if word == "IF" else word for word in do))
    found = odd(machines)
    inside(lab, "dut", *(ifname if word == "IF" else word for word in undo))
    assert words in found[name].value
    expected = {name, "frame-size dut"} if name == "mtu dut" else {name}
    assert set(found) == expected
    assert odd(machines) == {}


def test_a_packet_socket_is_named_with_its_program(machines: Machines, lab: Lab) -> None:
    argv = lab.exec_argv("dut", [sys.executable, "-c", LISTENER])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        found = odd(machines)
        program.terminate()
    assert set(found) == {"packet-sockets dut"}
    assert f"(pid {program.pid}) on every interface" in found["packet-sockets dut"].value
