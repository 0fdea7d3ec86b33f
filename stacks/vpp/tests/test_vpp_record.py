# SPDX-License-Identifier: Apache-2.0
"""What a real VPP did and said in the lab (test_vpp_run.py and by hand), as the record has it: frames, counters, words.

data/README.md says which version, when and how.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness.stacks.vpp import parse
from harness.stacks.vpp.session import counters_of

DATA = Path(__file__).parent / "data"
RECORD = json.loads((DATA / "lab.json").read_text())
REAL = DATA / "v26.06"
WAYS = sorted(path.name for path in REAL.iterdir())


def said(way: str, what: str) -> str:
    return (REAL / way / f"{what}.txt").read_text()


def test_every_way_was_run_and_every_frame_is_accounted_for() -> None:
    ways = {(t["params"]["forward"], t["params"]["driver"], t["params"]["tpacket"]) for t in RECORD["trials"]}
    assert ways == {("ip4", "af_packet", "v2"), ("ip4", "af_packet", "v3"), ("l2", "af_packet", "v2"),
                    ("ip4", "af_xdp", "v2"), ("l2", "af_xdp", "v2")}
    for trial in RECORD["trials"]:
        own = trial["stack"]
        assert trial["sent"] - trial["received"] == trial["lost"]
        assert trial["lost"] == sum(trial["losses"].values()) + trial["unexplained"]
        assert trial["sent"] > 0.8 * 2 * trial["asked_pps"], "a trial is 2 s"
        assert own["received"] == own["vectors"] >= own["calls"] > 0
        assert own["received"] >= own["sent"] >= trial["received"]
        assert own["clocks"] / own["vectors"] > 50
        assert trial["useful_polls"] < trial["empty_polls"]
    assert RECORD["vpp"] == "vpp v26.06-release"


def test_it_was_up_and_gone_in_time() -> None:
    assert len(RECORD["deployed"]) == 5
    assert max(one["deploy_s"] + one["undeploy_s"] for one in RECORD["deployed"]) <= 3


@pytest.mark.parametrize("way", WAYS)
def test_what_it_said_is_read_and_agrees(way: str) -> None:
    """Of show interface, show runtime and show errors of one moment: the same frames."""
    first, second = ("host-d0", "host-d1") if way.startswith("af_packet") else ("port0", "port1")
    shown = parse.interfaces(said(way, "show-interface"))
    main, worker = parse.runtime(said(way, "show-runtime"))
    errors = parse.errors(said(way, "show-errors"))
    assert (main.name, main.core, worker.name, worker.core) == ("vpp_main", 0, "vpp_wk_0", 1)
    assert {"any wait", "running"} <= {node.state for node in main.nodes} <= {"any wait", "running", "not started"}
    assert [node.state for node in worker.inputs] == ["polling"]
    counts = worker.counts()
    counters = counters_of({port: shown[port] for port in (first, second)}, errors, {"vpp_wk_0": counts})
    assert counts["received"] <= counters.totals["received"] <= counts["received"] + 20, "a few before it was cleared"
    by_name = {node.name: node for node in worker.nodes}
    assert by_name[f"{second}-tx"].vectors <= shown[second]["tx packets"]
    assert by_name["ip4-rewrite" if "ip4" in way else "l2-output"].vectors >= shown[second]["tx packets"] - 20
    assert counts["calls"] == max(node.calls for node in worker.nodes if node.state == "active")
    refused = errors.get("host-d1-output: interface is down", 0)  # the second port came up a moment later
    assert counters.losses["tx ring"] == shown[second].get("tx-error", 0) == refused


def test_errors_of_a_real_one_have_node_and_reason_apart() -> None:
    found = set[str]().union(*(parse.errors(said(way, "show-errors")) for way in WAYS))
    assert {"host-d1-output: interface is down", "port1-tx: syscall required", "l2-input: L2 input packets"} <= found
