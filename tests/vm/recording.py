# SPDX-License-Identifier: Apache-2.0
"""Figures of the runs that tests make on a virtual machine: HARNESS_VM_RECORD=FILE keeps them, a line of JSON a trial.

No path, address or name of the machine that ran it is among them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.records import Phase
from harness.store import RunReader


def record(run: Path, **more: object) -> None:
    """Append the load trials of a finished run to the file that HARNESS_VM_RECORD names, each with ``more``; nothing
    without one."""
    file = os.environ.get("HARNESS_VM_RECORD")
    if not file:
        return
    reader = RunReader(run)
    points = {point["id"]: point for point in reader.info.plan["points"]}
    with Path(file).open("a", encoding="utf-8") as lines:
        for trial in reader.trials():
            if trial.phase is not Phase.LOAD:
                continue
            point = points[trial.point]
            lines.write(json.dumps({
                "date": reader.info.started_at[:10], "os": reader.info.hosts[point["host"]]["os"],
                "kernel": reader.info.hosts[point["host"]]["kernel"]["release"], "stack": point["stack"],
                "params": point["params"], "role": point["role"], "frame": point["frame_bytes"],
                "vlan": point["directions"][0]["vlan"], "asked_pps": trial.asked_pps, "sent": trial.sent,
                "received": trial.received, "lost": trial.lost, "losses": dict(trial.losses),
                "unexplained": trial.unexplained, "verdicts": sorted(trial.verdicts),
                **({"counters": dict(trial.counters["stack"])} if more else {}), **more}) + "\n")
