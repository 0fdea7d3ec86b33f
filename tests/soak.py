# SPDX-License-Identifier: Apache-2.0
"""Where `make soak` keeps what came out: one file a test in ``tests/data/soak``, with seed and commit."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


def keep(name: str, figures: dict[str, Any]) -> None:
    """Write ``figures`` to ``<name>.json`` in the folder that ``NSH_SOAK_DIR`` names; nothing when it names none.
    Call it last in a test: the file says that the test has passed."""
    if not (folder := os.environ.get("NSH_SOAK_DIR")):
        return
    kept = {"date": datetime.now(UTC).date().isoformat(), "commit": _commit(), **figures}
    (_ROOT / folder).mkdir(parents=True, exist_ok=True)
    (_ROOT / folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


def _commit() -> str:
    """The commit under test, marked ``-dirty`` where files differ from it."""
    argv = ["git", "-c", f"safe.directory={_ROOT}", "describe", "--always", "--dirty", "--abbrev=12",
            "--exclude=*"]
    done = subprocess.run(argv, cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"unknown ({done.stderr.strip()})"
