# SPDX-License-Identifier: Apache-2.0
"""A TRex release on a host: that it is one, its version, and a Python under which its client imports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import HostError, TestbedError
from harness.host.contract import Dut

#: Tried in this order. TRex's client imports only under some of them: 3.13 lacks modules that v3.08's wants, older
#: releases break earlier.
PYTHONS = ("python3.11", "python3.10", "python3.9", "python3.8", "python3.7", "python3.6", "python3.12", "python3")
_TREES = ("automation/trex_control_plane/interactive", "scripts/automation/trex_control_plane/interactive")
_VERSION = re.compile(r"^ *Version : (v[0-9][0-9A-Za-z.-]{0,30})", re.MULTILINE)
_RUN_S = 60.0


@dataclass(frozen=True)
class Release:
    """``directory`` holds t-rex-64; ``version``: what its server says of itself, like "v3.08"; ``python``: an
    interpreter of the host that has imported its client."""

    directory: str
    version: str
    python: str


def find_release(host: Dut, directory: str, mode: str) -> Release:
    """Look at ``directory``. ``mode``: "stl" or "astf", whose client is to import. Raises TestbedError."""
    for program in ("t-rex-64", "_t-rex-64"):
        if not host.exists(f"{directory}/{program}"):
            raise TestbedError(f"{directory} of {host.name} is no TRex: it holds no {program}. generator.trex.dir is "
                               "the directory of an unpacked release, such as /opt/trex/v3.08")
    tree = next((f"{directory}/{tail}" for tail in _TREES if host.exists(f"{directory}/{tail}/trex/{mode}")), None)
    if tree is None:
        raise TestbedError(f"{directory} of {host.name} has no client for {mode.upper()} (automation/…/trex/{mode}): "
                           "unpack the whole release")
    return Release(directory, _version(host, directory), _python(host, tree, mode))


def _version(host: Dut, directory: str) -> str:
    done = host.run(["env", "-C", directory, f"LD_LIBRARY_PATH={directory}", "./_t-rex-64", "--help"], timeout_s=_RUN_S,
                    check=False)
    found = _VERSION.search(done.stdout)
    if found is None:
        raise TestbedError(f"{directory}/_t-rex-64 of {host.name} does not run (status {done.returncode}): "
                           f"{_last_line(done.stderr or done.stdout)}. ldd {directory}/_t-rex-64 shows what it lacks")
    return found[1]


def _python(host: Dut, tree: str, mode: str) -> str:
    reasons: list[str] = []
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import trex.{mode}.api"
    for python in _present(host):
        try:
            done = host.run([python, "-W", "ignore", "-c", code, tree], timeout_s=_RUN_S, check=False)
        except HostError as error:
            reasons.append(f"{python}: {error}")
            continue
        if done.returncode == 0:
            return python
        reasons.append(f"{python}: {_last_line(done.stderr)}")
    raise TestbedError(f"no Python of {host.name} imports TRex's client; it needs one of 3.6 to 3.12 (apt-get install "
                       "python3.11, or dnf install python3.11)" + "".join(f"\n  {reason}" for reason in reasons))


def _present(host: Dut) -> Sequence[str]:
    return [path for path in map(host.which, PYTHONS) if path is not None]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:300] or "it said nothing"
