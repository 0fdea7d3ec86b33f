# SPDX-License-Identifier: Apache-2.0
"""A run directory by somebody who wants the report's reader to run his script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAYLOAD = ("\"'><script>window.pwned=1</script><img src=x onerror=window.pwned=1><svg onload=window.pwned=1>"
           "</svg></style></title>-->]]>{{7*7}}{% raw %}$x^2$\u202e\u0000\u001b")
#: Values that a run must have exactly so; everything else that is text is poisoned.
_KEPT = {"role", "phase", "verdicts", "schema_version", "sequence_kind", "goals", "state"}
#: Mappings whose keys are free text.
_FREE_KEYS = {"params", "losses", "hosts", "generator", "counters", "skipped", "scenario", "cpu"}


def poison_run(folder: Path) -> None:
    """Put PAYLOAD behind every text of a run directory in place."""
    for name in ("run.json", "trials.jsonl", "points.jsonl"):
        file = folder / name
        text = file.read_text(encoding="utf-8")
        lines = [text] if name == "run.json" else text.splitlines()
        file.write_text("".join(json.dumps(_poison(json.loads(line), "")) + "\n" for line in lines), encoding="utf-8")


def _poison(value: Any, key: str) -> Any:
    if key in _KEPT or (key == "status" and value in ("ok", "warn")):
        return value
    if isinstance(value, str):
        return value + PAYLOAD
    if isinstance(value, list):
        return [_poison(entry, key) for entry in value]
    if key == "unread":
        return {f"a place{PAYLOAD}": PAYLOAD}
    if isinstance(value, dict):
        free = key in _FREE_KEYS and "tx_port" not in value and "cores" not in value and "sync_port" not in value
        return {(name + PAYLOAD if free else name): _poison(entry, name) for name, entry in value.items()}
    return value
