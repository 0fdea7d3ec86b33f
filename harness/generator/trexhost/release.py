# SPDX-License-Identifier: Apache-2.0
"""A TRex installation on the generator's host: that the directory is one, its version, and a Python for its client.

Nothing is assumed: the version is what the binary prints, and an interpreter suits when it has imported the client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.errors import TestbedError
from harness.host.contract import Completed

#: Where a release, or the source tree, has the client's package ``trex``.
CLIENT_TREES = ("automation/trex_control_plane/interactive", "scripts/automation/trex_control_plane/interactive")
#: Tried in this order. 3.13 lacks modules that TRex's bundled libraries import; older ones are faster to come by.
PYTHONS = ("python3", "python3.12", "python3.11", "python3.10", "python3.9", "python3.8", "python3.7", "python3.6")
_VERSION = re.compile(r"^\s*Version\s*:\s*(\S{1,40})\s*$", re.MULTILINE)
_IMPORT_S = 60.0
#: argv: the client's tree, its mode. Prints one JSON line: that the client imports here, or why not.
_TRY = """
import json, sys
sys.path.insert(0, sys.argv[1])
said = {"python": "%d.%d" % sys.version_info[:2]}
try:
    __import__("trex.%s.api" % sys.argv[2])
except BaseException as error:
    said["error"] = "%s: %s" % (type(error).__name__, str(error)[:300])
sys.stderr.flush()
print("\\n" + json.dumps(said))
"""
#: Runs a program of the installation where it expects to be: ``sh -c TEXT trex DIRECTORY PROGRAM ...``.
INSIDE = ("sh", "-c", 'cd -- "$1" && shift && LD_LIBRARY_PATH="$PWD" exec "$@"', "trex")


class Runner(Protocol):
    """Runs a command on the generator's host: an SSH connection, an agent, or this machine."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed: ...


@dataclass(frozen=True)
class Release:
    """An installation: its directory (that of ``t-rex-64``), version ("v3.08"), client tree, and interpreter."""

    directory: str
    version: str
    client_tree: str
    python: str
    python_version: str


def find_release(host: Runner, directory: str, mode: str = "stl") -> Release:
    """Look at an installation. ``mode``: whose client is to import. Raises TestbedError with the remedy when it is none
    or nothing can run its client."""
    folder = directory.rstrip("/")
    if not _exists(host, f"{folder}/t-rex-64"):
        inner = f"{folder}/scripts"
        if not _exists(host, f"{inner}/t-rex-64"):
            raise TestbedError(f"{directory} on the generator's host is no TRex installation: it holds no t-rex-64. "
                               "Name the directory of a release, such as /opt/trex/v3.08, under generator.trex.dir")
        folder = inner
    version = _version(host, folder)
    tree = next((f"{folder}/{tail}" for tail in CLIENT_TREES if _exists(host, f"{folder}/{tail}/trex/stl/api.py")), "")
    if not tree:
        raise TestbedError(f"{folder} on the generator's host has t-rex-64 but not TRex's client ({CLIENT_TREES[0]}"
                           "); unpack the release again")
    python, python_version = _python(host, tree, version, mode)
    return Release(folder, version, tree, python, python_version)


def _exists(host: Runner, path: str) -> bool:
    return host.run(["test", "-e", path], check=False).returncode == 0


def _version(host: Runner, folder: str) -> str:
    """What the server's binary says of itself; it says it without root, ports or hugepages."""
    done = host.run([*INSIDE, folder, "./_t-rex-64", "--help"], check=False)
    match = _VERSION.search(done.stdout)
    if match is None:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise TestbedError(f"{folder}/_t-rex-64 on the generator's host does not run (status {done.returncode}: "
                           f"{said}); TRex is for 64-bit Linux; build it for this machine or take another release")
    return match.group(1)


def _python(host: Runner, tree: str, version: str, mode: str) -> tuple[str, str]:
    """The first interpreter under which the client imports."""
    reasons: dict[str, str] = {}
    for name in PYTHONS:
        # An agent refuses to run what is not there; env says it by its status.
        done = host.run(["env", name, "-c", _TRY, tree, mode], check=False, timeout_s=_IMPORT_S)
        said = _answer(done)
        if said is None:
            continue  # no such interpreter
        if "error" not in said:
            return name, str(said["python"])
        reasons.setdefault(str(said["python"]), str(said["error"]))
    tried = "; ".join(f"Python {python}: {why}" for python, why in reasons.items()) or "none is installed"
    raise TestbedError(f"no Python on the generator's host can run the client of TRex {version} ({tried}). It needs "
                       "one of 3.6 to 3.12: apt-get install python3.11, or uv python install 3.12")


def _answer(done: Completed) -> dict[str, str] | None:
    last = done.stdout.strip().rpartition("\n")[2]
    try:
        said = json.loads(last)
    except ValueError:
        return None
    return said if isinstance(said, dict) and "python" in said else None
