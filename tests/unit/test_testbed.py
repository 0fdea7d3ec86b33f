# SPDX-License-Identifier: Apache-2.0
"""Testbed files: the shipped example, and one clear message for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.flows import wire_plans
from harness.lab import plan_wires
from harness.resources import resource
from harness.testbed import json_schema, lab_testbed, load_testbed

Write = Callable[..., Path]


def good() -> dict[str, Any]:
    return {
        "name": "rack", "generator": {
            "cores": [2, "4-6"], "trex": {"dir": "/opt/trex/v3.08"},
            "ports": [{"mac": "3C:fd:fe:a0:00:00", "pci": "03:00.0"}, {"mac": "3c:fd:fe:a0:00:01"}]},
        "duts": [{
            "name": "sut1", "ssh": {"address": "sut1.example.net"}, "management": "eno1",
            "cores": ["2-3"], "all_cores": 8,
            "ports": [{"mac": "3c:fd:fe:b0:00:00", "ifname": "ens1f0"},
                      {"mac": "3c:fd:fe:b0:00:01", "pci": "03:00.1"}]}],
        "wires": [{"tg": 0, "dut": "sut1/0", "speed": "25G"}, {"tg": 1, "dut": "sut1/1", "speed": "25G"}],
    }


def test_the_shipped_example_is_valid() -> None:
    testbed = load_testbed(resource("scenarios") / "testbeds" / "example.yaml")
    assert testbed.generator.kind == "trex"
    assert not testbed.lab


def test_normal_forms(write: Write) -> None:
    testbed = load_testbed(write(json.dumps(good())))
    assert testbed.generator.cores == (2, 4, 5, 6)
    assert (testbed.generator.ports[0].mac, testbed.generator.ports[0].pci) == ("3c:fd:fe:a0:00:00", "0000:03:00.0")
    assert testbed.wires[1].host == "sut1"
    assert testbed.wires[1].port == 1
    assert testbed.wires[0].speed == 25.0


def test_the_lab_is_a_testbed_like_any() -> None:
    testbed = lab_testbed(plan_wires("abc"), (0,), (1,))
    assert testbed.lab
    assert testbed.generator.kind == "xdpgen"
    assert [wire.speed for wire in testbed.wires] == [10.0, 10.0]
    assert testbed.duts[0].ports[0].mac == plan_wires("abc")[0].dut.mac


@pytest.mark.parametrize(("place", "value", "says"), [
    (("name",), "lab", "name: lab is the embedded testbed"),
    (("nam",), "x", "nam: unknown key; did you mean 'name'?"),
    (("generator", "cores"), "x", "generator.cores: 'x' is not a quantity"),
    (("generator", "cores"), [2, 2], "is not a list of distinct cores"),
    (("generator", "ports", 0, "mac"), "1:2", "generator.ports[0].mac: '1:2' is not a MAC address; write it like"),
    (("generator", "ports", 0, "mac"), "01:00:5e:00:00:01", "is a multicast address"),
    (("generator", "ports", 1, "mac"), "3c:fd:fe:b0:00:00", "duts[0].ports[0].mac: 3c:fd:fe:b0:00:00 is given twice"),
    (("generator", "trex", "master_core"), 3, "generator.trex.master_core: core 3 is not in generator.cores"),
    (("generator", "trex", "async_port"), 4501, "generator.trex.async_port: 4501 is sync_port too"),
    (("generator", "trex", "start"), "always", "generator.trex.start: 'always' "),
    (("generator", "trex", "hugepages"), 8, "generator.trex.hugepages: 8 should be greater"),
    (("generator", "ports", 1, "ifname"), "eth1", "has no pci, others have; TRex takes PCI devices"),
    (("generator", "trex", "dir"), "trex", "generator.trex.dir: 'trex' does not fit; TRex's directory"),
    (("duts", 0, "ssh", "address"), "-oProxyCommand=x", "duts[0].ssh.address: '-oProxyCommand=x' does not fit"),
    (("duts", 0, "ssh", "user"), "a;b", "duts[0].ssh.user: 'a;b' does not fit"),
    (("duts", 0, "ssh", "password"), "secret", "duts[0].ssh.password: unknown key"),
    (("duts", 0, "management"), "ens1f0", "ens1f0 is also a test port; SSH would be cut off"),
    (("duts", 0, "cores"), [9], "duts[0].cores: core 9 does not exist; all_cores says 8"),
    (("duts", 0, "ports", 0, "ifname"), "-x", "duts[0].ports[0].ifname: '-x' does not fit"),
    (("duts", 0, "ports", 0, "ifname"), "", "is known by neither ifname nor pci"),
    (("wires", 0, "tg"), 5, "wires[0].tg: the generator has no port 5"),
    (("wires", 0, "dut"), "sut2/0", "wires[0].dut: 'sut2/0' is no port of a DUT; one of sut1/0, sut1/1"),
    (("wires", 0, "speed"), 10, "wires[0].speed: 10 is not a link speed; write for example 10G"),
    (("wires", 1, "tg"), 0, "wires[1]: port 0 of generator already has a wire to sut1"),
    (("duts", 0, "name"), "generator", "duts[0].name: results call the generator's host generator"),
    (("checks",), {"wifi": "warn"}, "checks: 'wifi' is no check; they are link, link-speed"),
    (("checks",), {"smt": "maybe"}, "is no policy; ignore, warn or fail"),
    (("wires",), [], "wires: nothing in it; list the wires, like {tg: 0"),
])
def test_refused(write: Write, place: tuple[str | int, ...], value: object, says: str) -> None:
    data: Any = good()
    where = data
    for part in place[:-1]:
        where = where[part]
    where[place[-1]] = value
    path = write(json.dumps(data, indent=1), "bed.yaml")
    with pytest.raises(UsageError) as caught:
        load_testbed(path)
    message = str(caught.value)
    assert says in message
    assert all(line.startswith(f"{path}:") for line in message.splitlines())


def switched() -> dict[str, Any]:
    """Both generator ports reach two hosts through a switch."""
    data = good()
    data["duts"].append({**data["duts"][0], "name": "sut2", "ports": [
        {"mac": f"3c:fd:fe:c0:00:0{port}", "ifname": f"e{port}"} for port in range(2)]})
    data["wires"] += [{"tg": port, "dut": f"sut2/{port}", "speed": "25G"} for port in range(2)]
    return data


def test_a_generator_port_may_have_a_wire_to_each_host(write: Write) -> None:
    testbed = load_testbed(write(json.dumps(switched())))
    wires = wire_plans(testbed)
    assert [(wire.tg.index, wire.host, wire.dut.index) for wire in wires] == [
        (0, "sut1", 0), (1, "sut1", 1), (0, "sut2", 0), (1, "sut2", 1)]
    for told in ("tg.ip", "dut.ip", "dut.mac", "flow_prefix"):
        assert len({attrgetter(told)(wire) for wire in wires}) == 4, f"{told} of wires at one switch differ"
    assert len({wire.tg.mac for wire in wires}) == 2


def test_a_dut_of_a_file_needs_ssh_and_a_wire(write: Write) -> None:
    data = good()
    data["duts"].append({**data["duts"][0], "name": "sut2", "ports": [{"mac": "3c:fd:fe:c0:00:00", "ifname": "e0"}]})
    del data["duts"][0]["ssh"]
    with pytest.raises(UsageError) as caught:
        load_testbed(write(json.dumps(data)))
    assert "ssh is missing" in str(caught.value)
    assert "sut2 has no wire; add one under wires" in str(caught.value)


def test_a_list_of_wrong_items_is_not_called_too_short_as_well(write: Write) -> None:
    data = good()
    data["wires"] = [{"tg": 0, "dut": "sut1/0", "speed": 10}]
    with pytest.raises(UsageError) as raised:
        load_testbed(write(json.dumps(data)))
    (line,) = str(raised.value).splitlines()
    assert "wires[0].speed: 10 is not a link speed" in line
    data["wires"] = []
    with pytest.raises(UsageError, match="wires: nothing in it"):
        load_testbed(write(json.dumps(data)))


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(json_schema()))["additionalProperties"] is False


def test_checks_of_a_testbed(write: Write) -> None:
    data = good() | {"checks": {"governor": "ignore", "firmware": {"policy": "fail", "expect": "9.20"}}}
    checks = load_testbed(write(json.dumps(data))).checks
    assert (checks["governor"].policy, checks["governor"].expect) == ("ignore", None)
    assert (checks["firmware"].policy, checks["firmware"].expect) == ("fail", "9.20")
