# SPDX-License-Identifier: Apache-2.0
"""Generator and DUT of a run on one host, which the testbed file has under two addresses, over a real sshd: the run has
the host's lock as a whole, and neither a second run nor a second DUT gets in."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import TestbedError
from harness.planning import build_plan
from harness.scenario import load_scenario
from harness.sites import Site, site_of
from harness.testbed import Testbed
from tests.lab.test_trex_trouble import SCENARIO
from tests.rackhosts import rack
from tests.trex.testbeds import TrexRack

pytestmark = pytest.mark.lab
#: More addresses of the generator's host.
SECOND, THIRD = "192.0.2.102", "192.0.2.103"


@pytest.fixture(scope="module")
def hosts() -> Iterator[TrexRack]:
    with rack(["sut"]) as made:
        key = (made.folder / "host_key.pub").read_text()
        for address in (SECOND, THIRD):
            made.generator.run("ip", "address", "add", f"{address}/24", "dev", "eno1")
            with (made.folder / "known_hosts").open("a") as known:
                known.write(f"{address} {key}")
        yield TrexRack.of(made)


@pytest.fixture
def document(hosts: TrexRack) -> dict[str, Any]:
    """The DUT is the generator's host, by another address of it."""
    made = hosts.document()
    dut, = made["duts"]
    dut["ssh"] = {**made["generator"]["ssh"], "address": SECOND}
    return made


def site(document: dict[str, Any], folder: Path) -> AbstractContextManager[Site]:
    (folder / "small.yaml").write_text(SCENARIO)
    testbed = Testbed.model_validate(document)
    return site_of(testbed, build_plan(load_scenario(folder / "small.yaml"), testbed, seed=1))


def test_one_run_has_the_host_as_both_and_another_as_neither(document: dict[str, Any], tmp_path: Path,
                                                            hosts: TrexRack) -> None:
    elsewhere = copy.deepcopy(document)  # another run, whose DUT is a host of its own
    elsewhere["duts"] = hosts.document()["duts"]
    reverse = copy.deepcopy(elsewhere)  # and one whose generator is
    reverse["duts"][0]["ssh"], reverse["generator"]["ssh"] = document["duts"][0]["ssh"], elsewhere["duts"][0]["ssh"]
    changed = tmp_path / "changed"
    with site(document, tmp_path) as run, run.open_dut("sut", ()) as dut:
        dut.create_file(str(changed), "by the DUT's part")
        for other in (document, elsewhere):
            with pytest.raises(TestbedError, match=r"generator is in use by .*since 20"), site(other, tmp_path):
                pytest.fail("a second run got the generator's host")
        with site(reverse, tmp_path) as second, pytest.raises(TestbedError, match="sut is in use by"):
            second.open_dut("sut", ())
    assert not changed.exists()
    with site(elsewhere, tmp_path):
        pass  # it is free again


def test_two_duts_are_two_machines(document: dict[str, Any], tmp_path: Path) -> None:
    again = copy.deepcopy(document["duts"][0])
    again["name"], again["ssh"]["address"] = "sut2", THIRD
    for number, port in enumerate(again["ports"]):
        port["mac"] = f"02:00:00:00:0a:{number:02x}"
    document["duts"].append(again)
    document["wires"] += [{**wire, "dut": wire["dut"].replace("sut/", "sut2/")} for wire in document["wires"]]
    with site(document, tmp_path) as run, run.open_dut("sut", ()):
        with pytest.raises(TestbedError, match="sut2 is a machine that the testbed file has under another name"):
            run.open_dut("sut2", ())
