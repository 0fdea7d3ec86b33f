# SPDX-License-Identifier: Apache-2.0
"""50 kpps through the xdp reflector for a minute: does every lost frame coincide with a recorded pause?

    python -m benchmarks.reflector --json results/bench-reflector.json

Every 100 ms the counts of sent and of marked received frames are read. A window in which frames went missing
is compared with the pauses of both sides: the generator's gaps between program calls, the DUT's timer probe. A pause
explains at most the frames that arrived while it lasted, and only if it could half fill a ring (measure.pauses).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import stacks
from harness.errors import GeneratorError, HarnessError
from harness.generator import stl
from harness.generator.embedded import on_cores
from harness.generator.frames import flow_frame
from harness.machines import Machines, machines_of
from harness.measure.pauses import Interval, at_risk, within
from harness.options import RunOptions
from harness.stack import StackContext

SCENARIO = Path(__file__).with_suffix(".yaml")
WINDOW_S = 0.1
#: The generator logs its latest 1024 pauses: read them before they are overwritten.
_WINDOWS_A_LOG = 40
#: Loss may show up to a window after the pause that caused it, and a frame's way takes a little.
_SLACK_NS = round(WINDOW_S * 1e9)


def send_and_watch(arguments: argparse.Namespace) -> dict[str, Any]:
    """In the generator's namespace: send, read the counters every window. Times in ns, CLOCK_MONOTONIC."""
    # As the senders, whose core it shares: otherwise a reading could take seconds.
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    group = Path("/proc/self/autogroup")
    if group.exists():
        group.write_text("-20")
    client = stl.STLClient(server="127.0.0.1", sync_port=4501, async_port=4500)
    client.connect()
    client.reset(ports=[0])
    builder = stl.STLPktBuilder(pkt_buffer=base64.b64decode(arguments.frame))
    stream = stl.STLStream(packet=builder, mode=stl.STLTXCont(pps=arguments.rate), mac_src_override_by_pkt=1,
                           mac_dst_override_mode=1, xdpgen={"mark": True})
    client.add_streams([stream], ports=[0])
    client.clear_stats(ports=[0])
    client.rpc("x_reset_reports", {})
    begin = _counts(client)
    client.start(ports=[0], duration=arguments.seconds, force=True)
    windows, pauses = [begin], dict[int, int]()
    deadline = time.monotonic() + arguments.seconds + 2 * WINDOW_S
    while time.monotonic() < deadline:
        time.sleep(WINDOW_S)
        windows.append(_counts(client))
        if len(windows) % _WINDOWS_A_LOG == 0:
            _take_pauses(client, pauses)
    _take_pauses(client, pauses)
    client.disconnect()
    return {"windows": windows, "pauses": sorted(pauses.items())}


def _take_pauses(client: stl.STLClient, pauses: dict[int, int]) -> None:
    for core in client.rpc("x_get_reports", {}):
        pauses.update((int(start), int(length)) for start, length in core["pause_log"])


def _counts(client: stl.STLClient) -> dict[str, int]:
    stats = client.rpc("get_port_stats", {"port_id": 0})
    sent = stats["opackets"] + stats["x_tx_refused"]
    return {"time": time.monotonic_ns(), "sent": sent, "received": stats["x_marked_ipackets"]}


def losses(windows: Sequence[Mapping[str, int]]) -> list[int]:
    """Frames lost by the end of each window. What is still missing then may only be late: a frame counts as lost from
    the window on after which the deficit never falls below it."""
    lost, least = [0] * len(windows), windows[-1]["sent"] - windows[-1]["received"]
    for index in range(len(windows) - 1, -1, -1):
        least = min(least, windows[index]["sent"] - windows[index]["received"])
        lost[index] = max(0, least)
    return lost


def measure(machines: Machines, seconds: float, rate: float) -> dict[str, Any]:
    """Deploy the reflector, send through it, collect both sides' pauses."""
    with ExitStack() as owned:
        dut = machines.connect_dut("dut", owned)
        embedded = machines.site.embedded()
        assert embedded is not None
        owned.enter_context(embedded.run(machines.site.spawn))
        machines.after_generator()
        point = machines.plan.points[0]
        stack = stacks.create(point.stack, {})
        owned.enter_context(stack.deploy(StackContext(dut, point, stacks.source(point.stack))))
        machines.pin(point, before_programs=stack.in_softirq())
        frame = base64.b64encode(flow_frame(point.directions[0], point.frame_bytes)).decode()
        inside = [sys.executable, "-m", "benchmarks.reflector", "--inside", "--frame", frame, "--rate", str(rate),
                  "--seconds", str(seconds)]
        dut.start_sampling(1.0, point.cores)
        child = machines.site.spawn(on_cores(machines.plan.generator.cores, inside), stdout=subprocess.PIPE)
        output, _ = child.communicate(timeout=seconds * 2 + 60)
        sampling = dut.stop_sampling()
    if child.returncode:
        raise GeneratorError(f"the sender ended with status {child.returncode}; what it said is above")
    watched: dict[str, Any] = json.loads(output)
    watched["dut_pauses"] = [(start, length) for start, length, _ in sampling.pauses]
    return watched


def judge(watched: dict[str, Any], rate: float) -> dict[str, Any]:
    """Windows in which frames went missing, and whether a pause explains each."""
    sides: list[list[Interval]] = [list(map(tuple, watched[side])) for side in ("pauses", "dut_pauses")]
    windows = watched["windows"]
    rows, lost = [], losses(windows)
    for index in range(1, len(windows)):
        if lost[index] > lost[index - 1]:
            found = [within(side, windows[index - 1]["time"] - _SLACK_NS, windows[index]["time"]) for side in sides]
            risk = sum(at_risk(side, rate) for side in found)
            longest = max((length for side in found for _, length in side), default=0)
            missing = lost[index] - lost[index - 1]
            rows.append({"lost": missing, "longest_pause_ms": longest / 1e6, "explained": min(missing, round(risk))})
    sent = windows[-1]["sent"] - windows[0]["sent"]
    return {"rate_pps": rate, "sent": sent, "lost": lost[-1], "windows": len(windows), "windows_with_loss": rows,
            "lost_without_pause": sum(r["lost"] - r["explained"] for r in rows),
            "pauses_generator": len(watched["pauses"]), "pauses_dut": len(watched["dut_pauses"])}


def report(figures: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{figures['rate_pps']:,.0f} pps: sent {figures['sent']:,}, lost {figures['lost']:,}; pauses: generator "
             f"{figures['pauses_generator']}, DUT {figures['pauses_dut']}"]
    for row in figures["windows_with_loss"]:
        lines.append(f"  {row['lost']:6d} frames lost, longest pause {row['longest_pause_ms']:.2f} ms: "
                     f"{row['explained']} arrived during pauses long enough to half fill a ring")
    lines.append(f"lost without a recorded pause: {figures['lost_without_pause']}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print, or (``--inside``) send and watch."""
    parser = argparse.ArgumentParser(prog="bench-reflector", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50_000.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--frame", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.inside:
        print(json.dumps(send_and_watch(arguments)))
        return 0
    try:
        with machines_of(RunOptions(scenario=SCENARIO, testbed="lab"), print) as machines:
            figures = judge(measure(machines, arguments.seconds, arguments.rate), arguments.rate)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(report(figures))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if not figures["lost_without_pause"] else 4


if __name__ == "__main__":
    sys.exit(main())
