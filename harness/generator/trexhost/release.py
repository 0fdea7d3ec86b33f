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


Number = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """Something of TRex's that this harness uses: the first release that has it (``since``), how that is known
    (``noted``: the line of TRex's release notes, or the first tag whose source has it), and for what it is used."""

    name: str
    since: Number
    noted: str
    used_for: str


#: What every run needs. All else that is used (--astf, --software, --no-watchdog, --no-key, --iom, --no-scapy-server,
#: limit_memory, prefix, zmq_*_port, --vdev, dummy ports, the client's trex.stl.api) is older than v2.50 by the tags.
NEEDED = (
    Part("low_end_core", (2, 72), "2.72: \"Add low_end_core option to platform YAML\"", "few cores"),
    Part("--hdrh", (2, 58), "2.58: \"hdrhistogram: experimental support for more accurate latency histogram\"",
         "latency"),
    Part("profiles of a port", (2, 57), "2.57: \"Dynamic add/remove multiple profiles feature\"", "who uses a port"),
)
#: What role accept needs beside.
NEEDED_ASTF = (
    Part("ASTFProgram.add_stats", (3, 0), "tag v3.00", "counting replies in time"),
    Part("start(t_duration=...)", (2, 90), "tag v2.90", "ending flows that stay open"),
    Part("ASTFProgram.jmp_dp", (2, 74), "tag v2.74", "telling late replies"),
    Part("topology of clients", (2, 49), "tag v2.49", "clients behind the generator's port"),
)
#: Without which a run does.
TELLS_RECEIVING = Part("tagged packet groups", (2, 94), "2.94: \"Add Tagged Packet Group (TPG) feature. It works in "
                       "software mode\"", "telling whether a server that runs receives in software")
#: (first release, API (major, minor) of its RPC), newest first: the first of which is at most a release is its.
STL_API: tuple[tuple[Number, Number], ...] = (
    ((2, 94), (5, 1)), ((2, 88), (5, 0)), ((2, 82), (4, 8)), ((2, 70), (4, 7)))
ASTF_API: tuple[tuple[Number, Number], ...] = (
    ((2, 97), (2, 3)), ((2, 96), (2, 2)), ((2, 89), (2, 1)), ((2, 88), (2, 0)), ((2, 74), (1, 9)), ((2, 70), (1, 8)))


def api_versions() -> dict[str, list[list[int]]]:
    """By mode every (major, minor) that a server may speak, newest first: for the agent, which tries them."""
    return {mode: [list(api) for _, api in table] for mode, table in (("STL", STL_API), ("ASTF", ASTF_API))}


def number_of(version: str) -> Number | None:
    """v3.08 -> (3, 8); None for what is no version."""
    match = re.fullmatch(r"v(\d{1,3})\.(\d{1,3})(?:[.-].{0,40})?", version)
    return (int(match[1]), int(match[2])) if match else None


def check_version(version: str, mode: str, directory: str) -> None:
    """Raises TestbedError, with what is lacking, where a release is too old for what this mode needs. A version that
    does not look like one (a build of one's own) is taken to be new."""
    number = number_of(version)
    if number is None:
        return
    lacking = [part for part in (*NEEDED, *(NEEDED_ASTF if mode == "astf" else ())) if number < part.since]
    if lacking:
        newest = max(part.since for part in lacking)
        role = "role accept" if mode == "astf" and newest not in {part.since for part in NEEDED} else "the harness"
        told = "; ".join(f"{part.name} ({part.used_for}) came with {shown(part.since)}" for part in lacking)
        raise TestbedError(f"TRex {version} in {directory} is too old for {role}: {told}. Name a release from "
                           f"{shown(newest)} on under generator.trex.dir")


def receives_in_software(version: str, seen: object) -> bool | None:
    """Whether a stateless server receives every frame in software. ``seen``: whether it can count tagged groups, which
    only that mode can. None where nobody can tell: releases without such groups, or no answer."""
    number = number_of(version)
    if not isinstance(seen, bool) or (not seen and number is not None and number < TELLS_RECEIVING.since):
        return None
    return seen


def shown(number: Number) -> str:
    """As TRex writes it: v2.72, v3.08."""
    return f"v{number[0]}.{number[1]:02d}"


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
    check_version(version, mode, folder)
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
