# SPDX-License-Identifier: Apache-2.0
"""How long it takes on a running TRex from nothing to the first frame at the DUT, and whether another rate loads
streams anew. Needs root and an installation that TREX_DIR names; TRex runs on a rack of namespaces, by software.

    TREX_DIR=/opt/trex/v3.08 python -m benchmarks.trexstart --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.generator.channel import AgentClient
from harness.generator.contract import TrafficSpec
from harness.generator.trex import TrexGenerator
from harness.planning import build_plan
from harness.scenario import load_scenario
from harness.sites import Site, site_of
from harness.testbed import load_testbed
from tests.rackhosts import rack
from tests.trex.testbeds import SYNC_PORT, TrexRack

SCENARIO = """
name: start
role: forward
traffic: {frame: 64, flows: 1024}
cores: [1]
stacks: [linux-forward]
measure:
  load_curve: {rates: [10k], trial: 2s}
"""
#: A second client of TRex's, which owns nothing: the ids of all streams. New ones have new ids.
_STREAMS = """
import json, sys, zmq
socket = zmq.Context().socket(zmq.REQ)
socket.connect("tcp://127.0.0.1:" + sys.argv[1])
def call(method, **params):
    socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    return json.loads(socket.recv().decode())["result"]
handle = call("api_sync_v2", name="STL", major=5, minor=1)["api_h"]
found = []
for port in (0, 1):
    for streams in call("get_all_streams", port_id=port, profile_id="*", api_h=handle)["profiles"].values():
        found += ["%d/%s" % (port, stream) for stream in streams]
print(json.dumps(found))
"""
STEPS = ("agent and connection", "streams loaded", "first frame after start", "all of these")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result)."""
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result


def first_frame(hosts: TrexRack, trial: Callable[[], Any]) -> float:
    """Seconds from the order to send until the DUT's interface has counted a frame; looked for every few ms."""
    path = f"/sys/class/net/{hosts.sut.ports[0].ifname}/statistics/rx_packets"
    script = f"before=$(cat {path}); echo ready; while [ $(cat {path}) = $before ]; do :; done; echo came"
    seen: list[float] = []

    def watch() -> None:
        hosts.sut.run("sh", "-c", script)
        seen.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(0.2)  # its shell looks by then
    began = time.monotonic()
    trial()
    watcher.join(30)
    return seen[0] - began


def loaded_streams(hosts: TrexRack) -> list[str]:
    """Ids of the streams that TRex has."""
    found: list[str] = json.loads(hosts.generator.run(sys.executable, "-c", _STREAMS, str(SYNC_PORT)))
    return found


def one_round(hosts: TrexRack, site: Site, traffic: TrafficSpec, ports: list[int]) -> dict[str, Any]:
    """One agent beside the server that runs: connect, load, first frame; then two more rates."""
    began = time.monotonic()
    agent = AgentClient(site.agent_channel())
    generator = TrexGenerator(agent, site.server(), ports)
    connected = time.monotonic() - began
    try:
        loaded, _ = timed(lambda: generator.configure(traffic))
        sent = first_frame(hosts, lambda: generator.trial(10_000.0, 0.5))
        streams = loaded_streams(hosts)
        for rate in (5_000.0, 20_000.0):
            generator.trial(rate, 0.3)
        again = loaded_streams(hosts)
    finally:
        generator.close()
    return {**dict(zip(STEPS, (connected, loaded, sent, connected + loaded + sent), strict=True)),
            "loaded anew by two more rates": len(set(again) - set(streams)), "streams": len(streams)}


def main() -> None:
    """Print a table, and JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, rack(["sut"]) as made:
        hosts, path = TrexRack.of(made), Path(folder)
        (path / "start.yaml").write_text(SCENARIO)
        testbed = load_testbed(hosts.write(path / "testbed.yaml"))
        plan = build_plan(load_scenario(path / "start.yaml"), testbed, seed=1)
        point = plan.points[0]
        ports = sorted({wire.tg.index for wire in plan.wires})
        with site_of(testbed, plan) as site:
            first = AgentClient(site.agent_channel())
            try:
                with site.serving(first, lambda text: None, print):
                    traffic = TrafficSpec(point.directions, point.frames)
                    rows = [one_round(hosts, site, traffic, ports) for _ in range(options.rounds)]
            finally:
                first.close()
    for step in STEPS:
        values = [row[step] for row in rows]
        print(f"{step:<26} median {statistics.median(values):.3f} s, longest {max(values):.3f} s")
    print(f"streams: {rows[0]['streams']}, loaded anew by two more rates: "
          f"{max(row['loaded anew by two more rates'] for row in rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
