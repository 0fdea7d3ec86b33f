# SPDX-License-Identifier: Apache-2.0
"""Trials of runs as one pandas table: what exports, charts and notebooks start from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.records import Trial
from harness.store import RunReader

#: Columns, in order. Rates are frames per second per direction; a missing value is a number that does not exist.
#: ``params``: the stack's parameters as JSON; ``cores``: ids of those given to it, separated by spaces. Both are empty,
#: as are ``stack``, ``host`` and ``frame_bytes``, for trials of no point of the plan (the ceiling's). ``mix``: where
#: frames of several sizes were sent, "64x7 594x4 1518x1"; ``frame_bytes`` is then the smallest. ``losses``: frames by
#: place as JSON, null where no counter told of the place.
COLUMNS = ("run", "number", "point", "stack", "params", "host", "frame_bytes", "mix", "cores", "repeat", "phase",
           "attempt", "superseded", "started_at", "asked_pps", "duration_s", "real_s", "offered_pps", "forwarding_pps",
           "sent", "received", "lost", "loss_ratio", "losses", "unexplained",
           "other_traffic", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns",
           "busy_cores", "cycles_per_packet", "generator_utilisation", "generator_missed", "generator_link_out_gbps",
           "generator_link_in_gbps", "generator_late_latency", "verdicts", "status", "reason")
_LATENCY = ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")
_CPU = ("busy_cores", "cycles_per_packet")
#: Of what TRex says of itself (``counters.generator``); columns have ``generator_`` before it.
GENERATOR = ("missed", "link_out_gbps", "link_in_gbps", "late_latency")
_COUNTS = ("number", "frame_bytes", "repeat", "attempt", "sent", "received", "lost", "unexplained", "other_traffic",
           "generator_missed", "generator_late_latency")
#: Whole numbers also where some are missing.
_WHOLE = {name: "Int64" for name in (*_LATENCY, *_COUNTS)}


def trials_table(readers: Sequence[RunReader]) -> pd.DataFrame:
    """One row a trial of these runs, in the order made; columns as ``COLUMNS``."""
    rows = []
    for reader in readers:
        points = {str(point.get("id")): _point(point) for point in reader.info.plan.get("points", [])}
        rows += [{"run": reader.info.run_id, **points.get(trial.point, {}), **trial_row(trial)}
                 for trial in reader.trials()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(_WHOLE)


def _point(point: dict[str, Any]) -> dict[str, object]:
    """A point of the plan as ``run.json`` holds it."""
    return {"stack": point.get("stack"), "params": json.dumps(point.get("params", {}), sort_keys=True),
            "host": point.get("host"), "frame_bytes": point.get("frame_bytes"),
            "mix": " ".join(f"{size}x{weight}" for size, weight in (point.get("mix") or {}).get("parts", ())),
            "cores": " ".join(map(str, point.get("cores", [])))}


def trial_row(trial: Trial) -> dict[str, object]:
    """The columns of ``COLUMNS`` that a trial itself holds."""
    row: dict[str, object] = {name: getattr(trial, name) for name in COLUMNS if hasattr(trial, name)}
    row |= {name: getattr(trial.latency, name) if trial.latency else None for name in _LATENCY}
    row |= {name: getattr(trial.cpu, name) if trial.cpu else None for name in _CPU}
    told = trial.counters.get("generator")
    row |= {f"generator_{name}": told.get(name) if isinstance(told, dict) else None for name in GENERATOR}
    row["phase"], row["verdicts"] = str(trial.phase), " ".join(trial.verdicts)
    row["losses"] = json.dumps(trial.losses | dict.fromkeys(trial.unread), ensure_ascii=False, separators=(",", ":"))
    return row
