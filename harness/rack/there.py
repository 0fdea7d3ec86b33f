# SPDX-License-Identifier: Apache-2.0
"""Tells what of a host only a rack's setting-up needs, as one JSON object. Changes nothing.

One file, standard library only, Python 3.6 syntax, run on the host (``python3 -I -c``). argv[1], JSON: ``trex``, where
a TRex installation is looked for instead of the usual places. Printed: ``session`` (the address to which the SSH client
came), ``devices`` (PCI network devices: address, driver, interfaces), ``above`` (by interface, what is stacked on it),
``trex`` (folder, version), ``pythons``.
"""

import glob
import json
import os
import re
import shutil
import socket
import sys
from typing import Any, Dict, List

Json = Dict[str, Any]

MOST, MOST_FILE = 64, 4096
USUAL = ("/opt/trex*", "/opt/trex*/*", "/opt/trex*/*/scripts", "/usr/local/trex*", "/usr/local/trex*/*", "/root/trex*",
         "/root/v[0-9].*", "/home/*/trex*", "/home/*/trex*/*")


def read(path: str) -> bytes:
    """The beginning of a file, empty where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(MOST_FILE)
    except OSError:
        return b""


def session() -> str:
    """The server's address of the SSH connection that this belongs to: sudo hides it from its children, not from
    root."""
    pid = os.getpid()
    for _ in range(MOST):
        for word in read("/proc/%d/environ" % pid).split(b"\0"):
            if word.startswith(b"SSH_CONNECTION=") and len(word.split()) == 4:
                return word.split()[2].decode("ascii", "replace")
        fields = read("/proc/%d/stat" % pid).rpartition(b")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
        if pid < 2:
            break
    return ""


def devices() -> List[Json]:
    """PCI devices of the class of network controllers."""
    found: List[Json] = []
    for folder in sorted(glob.glob("/sys/bus/pci/devices/*")):
        if read(folder + "/class").startswith(b"0x02") and len(found) < MOST:
            driver = os.path.realpath(folder + "/driver") if os.path.exists(folder + "/driver") else ""
            nets = glob.glob(folder + "/net/*") + glob.glob(folder + "/virtio*/net/*")
            found.append({"pci": os.path.basename(folder), "driver": os.path.basename(driver),
                          "interfaces": sorted(os.path.basename(net) for net in nets)})
    return found


def above() -> Dict[str, List[str]]:
    """Of interfaces that have such: everything that is stacked on them, such as a VLAN, and on that again."""
    direct: Dict[str, List[str]] = {}
    for path in sorted(glob.glob("/sys/class/net/*/upper_*")):
        direct.setdefault(path.split("/")[4], []).append(os.path.basename(path)[len("upper_"):])
    found: Dict[str, List[str]] = {}
    for name in direct:
        found[name] = list(direct[name])
        for upper in found[name]:  # grows meanwhile
            found[name] += [more for more in direct.get(upper, []) if more not in found[name]]
    return found


def version(folder: str) -> str:
    """Of a TRex: releases carry it in their folder's name, builds in a file."""
    for text in (os.path.basename(os.path.realpath(folder)),
                 read(folder + "/VERSION").decode("ascii", "replace"),
                 read(os.path.dirname(folder) + "/VERSION").decode("ascii", "replace")):
        match = re.search(r"v\d{1,3}\.\d{1,3}", text)
        if match:
            return match.group(0)
    return ""


def installations(given: str) -> List[Json]:
    """Folders with TRex's start script, each once."""
    found: Dict[str, Json] = {}
    for pattern in [glob.escape(given)] if given else USUAL:
        for folder in sorted(glob.glob(pattern)):
            if os.path.isfile(folder + "/t-rex-64"):
                found.setdefault(os.path.realpath(folder), {"dir": folder, "version": version(folder)})
    return list(found.values())[:MOST]


def pythons() -> List[str]:
    """Interpreters under which TRex's client runs."""
    names = ["python3.%d" % minor for minor in range(12, 5, -1)]
    return [name for name in names if shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps({
        "hostname": socket.gethostname(), "session": session(), "devices": devices(),
        "above": above(), "trex": installations(str(asked.get("trex", ""))), "pythons": pythons()}))
