# SPDX-License-Identifier: Apache-2.0
"""When TRex receives in software: of its own accord for latency of sockets' echoes over NICs, and what the run says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.generator.agent import in_software
from harness.generator.trexhost.release import receives_in_software
from harness.generator.trexhost.software import remark
from harness.plan import Plan
from harness.planning import build_plan
from harness.planview import render_plan
from harness.scenario import load_scenario
from harness.testbed import Testbed
from tests.unit.generator.recorded import exchanges

SCENARIOS = Path(__file__).parents[4] / "scenarios"


def rack(software: object = None, *, pci: bool = True) -> Testbed:
    trex = {"dir": "/opt/trex/v3.08"} if software is None else {"dir": "/opt/trex/v3.08", "software": software}
    known = [{"pci": f"0000:03:00.{port}"} if pci else {"ifname": f"tg{port}"} for port in (0, 1)]
    return Testbed.model_validate({
        "name": "rack",
        "generator": {"cores": [1, 2, 3], "trex": trex,
                      "ports": [{"mac": f"02:00:00:00:01:0{port}", **known[port]} for port in (0, 1)]},
        "duts": [{"name": "sut1", "management": "eno1", "cores": [1, 2, 3, 4], "all_cores": 8,
                  "ports": [{"mac": f"02:00:00:00:02:0{port}", "ifname": f"e{port}"} for port in (0, 1)]}],
        "wires": [{"tg": port, "dut": f"sut1/{port}", "speed": "10G"} for port in (0, 1)]})


def planned(bed: Testbed, scenario: str = "udp-echo", *only: str) -> Plan:
    return build_plan(load_scenario(SCENARIOS / f"{scenario}.yaml"), bed, only=only, seed=1)


def test_sockets_echo_with_latency_needs_it_and_nothing_else_does() -> None:
    echo = planned(rack()).generator
    assert (echo.software, echo.software_for) == (True, ("linux-udp",))
    assert "; --software, for latency of linux-udp" in render_plan(planned(rack()))
    # Echoes that swap addresses in the frame keep TRex's marks.
    assert not planned(rack(), "udp-echo", "xdp").generator.software
    # No latency is measured; no reply comes; the reply is the frame itself.
    for scenario in ("drop-64b", "imix"):
        made = planned(rack(), scenario).generator
        assert (made.software, made.software_for) == (False, ()), scenario


def test_the_testbed_file_has_the_last_word() -> None:
    assert planned(rack(True), "drop-64b").generator.software
    refused = planned(rack(False)).generator
    assert (refused.software, refused.software_for) == (False, ("linux-udp",))
    kernel = planned(rack(False, pci=False)).generator
    assert (kernel.software, kernel.software_for) == (True, ()), "interfaces of the kernel have no filters"


@pytest.mark.parametrize(("software", "found", "started", "said"), [
    (None, {"software": True}, True, "TRex runs with --software, which latency of linux-udp in role echo needs"),
    (False, {"software": False}, True, "there is no latency of linux-udp in role echo: generator.trex.software is"),
    (None, {"software": False}, False, "the TRex that runs receives by its NIC's filters"),
    (None, {"software": None}, False, "does not tell whether it receives in software"),
    (None, {"software": True}, False, "")])
def test_a_run_says_it(software: bool | None, found: dict[str, bool | None], started: bool, said: str) -> None:
    text = remark(planned(rack(software)).generator, {"version": "v3.08", **found}, started=started)
    assert said in text
    assert bool(said) == bool(text)


def test_a_server_tells_how_it_receives() -> None:
    """By the reply of a real v3.08 in software mode; without the ability that only that mode has; older ones."""
    recorded = next(e.reply["result"] for e in exchanges() if e.method == "get_system_info" and "result" in e.reply)
    assert in_software(recorded)
    assert not in_software({"ports": [{"rx": {"caps": ["flow_stats", "latency"]}}]})
    assert [receives_in_software(version, seen) for version, seen in (
        ("v3.08", True), ("v3.08", False), ("v2.94", False), ("v2.93", False), ("v2.93", None), ("own", False))] == [
            True, False, False, None, None, False]
