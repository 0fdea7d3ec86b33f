# SPDX-License-Identifier: Apache-2.0
"""A Python of a host that can import a module. Nothing is assumed of versions: one suits when it has imported it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.errors import TestbedError
from harness.host.contract import Completed

#: Tried in this order: the newer they are, the more likely a host has what they need.
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(13, 5, -1)))
_IMPORT_S = 60.0
#: argv: the module, a folder to look for it first ("": none). Prints one JSON line: that it imports here, or why not.
_TRY = """
import json, sys
module, folder = sys.argv[1:]
if folder:
    sys.path.insert(0, folder)
said = {"python": "%d.%d" % sys.version_info[:2]}
try:
    __import__(module)
except BaseException as error:
    said["error"] = "%s: %s" % (type(error).__name__, str(error)[:300])
sys.stderr.flush()
print("\\n" + json.dumps(said))
"""


class Runner(Protocol):
    """Runs a command on a host: an SSH connection, an agent, or this machine."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed: ...


@dataclass(frozen=True)
class Interpreter:
    """``name``: as its host calls it; ``version``: "3.11"."""

    name: str
    version: str


def that_imports(host: Runner, module: str, folder: str = "", *, lacking: str, remedy: str) -> Interpreter:
    """The first interpreter under which ``module`` imports, with ``folder`` first in its path. Raises TestbedError,
    "``lacking`` (what each said). ``remedy``", when there is none."""
    reasons: dict[str, str] = {}
    for name in PYTHONS:
        # An agent refuses to run what is not there; env says it by its status.
        said = _answer(host.run(["env", name, "-c", _TRY, module, folder], check=False, timeout_s=_IMPORT_S))
        if said is None:
            continue  # no such interpreter
        if "error" not in said:
            return Interpreter(name, str(said["python"]))
        reasons.setdefault(str(said["python"]), str(said["error"]))
    tried = "; ".join(f"Python {python}: {why}" for python, why in reasons.items()) or "none is installed"
    raise TestbedError(f"{lacking} ({tried}). {remedy}")


def _answer(done: Completed) -> dict[str, str] | None:
    last = done.stdout.strip().rpartition("\n")[2]
    try:
        said = json.loads(last)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and "python" in said else None
