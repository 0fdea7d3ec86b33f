# SPDX-License-Identifier: Apache-2.0
"""A TRex installation on the generator's host: that the directory is one, its version, and a Python for its client.

Nothing is assumed: the version is what the binary prints, and an interpreter suits when it has imported the client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import TestbedError
from harness.host.interpreter import Runner, that_imports

#: Where a release, or the source tree, has the client's package ``trex``.
CLIENT_TREES = ("automation/trex_control_plane/interactive", "scripts/automation/trex_control_plane/interactive")
_VERSION = re.compile(r"^[ \t]{0,80}Version[ \t]{0,80}:[ \t]{0,80}(\S{1,40})[ \t\r]{0,80}$", re.MULTILINE)
#: Runs a program of the installation where it expects to be: ``sh -c TEXT trex DIRECTORY PROGRAM ...``.
INSIDE = ("sh", "-c", 'cd -- "$1" && shift && LD_LIBRARY_PATH="$PWD" exec "$@"', "trex")


@dataclass(frozen=True)
class Release:
    """An installation: its directory (that of ``t-rex-64``), version ("v3.08") and interpreter."""

    directory: str
    version: str
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
    python = that_imports(
        host, f"trex.{mode}.api", tree,
        lacking=f"no Python on the generator's host can run the client of TRex {version}",
        remedy="It needs one of 3.6 to 3.12: apt-get install python3.11, or uv python install 3.12")
    return Release(folder, version, python.name, python.version)


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
