# SPDX-License-Identifier: Apache-2.0
"""The address plan: prefixes that hold what they must, names that fit, MACs that differ."""

from __future__ import annotations

import ipaddress

import pytest

from harness.lab import addresses
from harness.lab.errors import LabNameError


def test_link_and_flow_prefixes_do_not_overlap_and_stay_in_the_benchmark_range() -> None:
    networks = []
    for wire in range(addresses.MOST_WIRES):
        prefixes = (addresses.link_prefix(wire), addresses.flow_prefix(wire))
        networks += [ipaddress.ip_network(prefix) for prefix in prefixes]
    for index, network in enumerate(networks):
        assert network.subnet_of(ipaddress.ip_network("198.18.0.0/15"))
        assert not any(network.overlaps(other) for other in networks[index + 1 :])


def test_plan_of_two_wires() -> None:
    first, second = addresses.plan_wires("abc", 2)
    assert (first.dut.ip, first.tg.ip, first.flow_prefix) == ("198.18.0.1", "198.18.0.2", "198.19.0.0/18")
    assert (second.dut.ip, second.tg.ip, second.flow_prefix) == ("198.18.1.1", "198.18.1.2", "198.19.64.0/18")
    assert (first.dut.ifname, first.tg.ifname) == ("habcd0", "habct0")
    assert first.virtual
    assert first.speed_gbps == 10.0
    for port in (first.dut, first.tg):
        assert ipaddress.ip_address(port.ip) in ipaddress.ip_network(addresses.link_prefix(0))


def test_macs_are_local_unicast_distinct_and_the_same_every_time() -> None:
    macs = [port.mac for lab in ("a", "b") for wire in addresses.plan_wires(lab, 4) for port in (wire.tg, wire.dut)]
    assert len(set(macs)) == len(macs) == 16
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs)
    assert macs[:8] == [p.mac for wire in addresses.plan_wires("a", 4) for p in (wire.tg, wire.dut)]


def test_longest_name_still_fits_a_device_name() -> None:
    assert len(addresses.device_name("a" * 8, "dut", 3)) <= 15
    assert len(f"napi/{addresses.device_name('abc', 'dut', 1)}-999") <= 15


@pytest.mark.parametrize("name", ["", "UP", "a b", "a/b", "..", "a" * 9, "a-b", "a\n", "é"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(LabNameError, match="1 to 8"):
        addresses.check_name(name)


@pytest.mark.parametrize("wires", [0, 5, -1])
def test_number_of_wires_is_bounded(wires: int) -> None:
    with pytest.raises(ValueError, match="1 to 4"):
        addresses.plan_wires("a", wires)
