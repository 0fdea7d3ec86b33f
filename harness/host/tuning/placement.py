# SPDX-License-Identifier: Apache-2.0
"""Run on a host: show on which cores a port's interrupts and queues are served, or put that back.

A driver that makes its queues anew (``ethtool -L``, ``-G``) may give the interrupts other numbers and the default
cores, and the queues neither RPS nor XPS. So they are kept by name. Standard library only, Python 3.6 syntax.
``show ROOT IFNAME`` prints JSON, name -> value; ``restore ROOT IFNAME JSON`` writes what differs, reads it back, and
ends with status 1 and the differences when something stays another.
"""

import json
import os
import sys
from typing import Dict, List

_KNOBS = ("rps_cpus", "rps_flow_cnt", "xps_cpus", "xps_rxqs")


def read(path: str) -> str:
    """Text of a small file, stripped. Raises OSError."""
    with open(path) as stream:
        return stream.read(65536).strip()


def listed(folder: str) -> List[str]:
    """Names in a folder, none where there is no such folder."""
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def files(root: str, ifname: str) -> Dict[str, str]:
    """Name -> path of each setting of a port: ``rx-0/rps_cpus``, ``irq NAME``."""
    port = os.path.join(root, "sys/class/net", ifname)
    found = {}
    for queue in listed(port + "/queues"):
        for knob in listed(port + "/queues/" + queue):
            if knob in _KNOBS:
                found[queue + "/" + knob] = f"{port}/queues/{queue}/{knob}"
    for number in listed(port + "/device/msi_irqs"):
        name = os.path.join(root, "sys/kernel/irq", number, "actions")
        if os.path.exists(name) and read(name):
            found["irq " + read(name)] = os.path.join(root, "proc/irq", number, "smp_affinity_list")
    return found


def values(paths: Dict[str, str]) -> Dict[str, str]:
    """Name -> value, without those that cannot be read (XPS of a device with one transmit queue)."""
    shown = {}
    for name, path in sorted(paths.items()):
        try:
            shown[name] = read(path)
        except OSError:
            continue
    return shown


def restore(root: str, ifname: str, wanted: Dict[str, str]) -> List[str]:
    """Write what differs; returns what is another value all the same, in words."""
    paths = files(root, ifname)
    now, wrong = values(paths), []
    for name, value in sorted(wanted.items()):
        if now.get(name) == value:
            continue
        try:
            if name not in paths:
                raise OSError("it is gone")
            with open(paths[name], "w") as stream:
                stream.write(value)
            after = read(paths[name])
        except OSError as error:
            after = str(error)
        if after != value:
            wrong.append(f"{name} of {ifname} was {value}: {after}")
    return wrong


def main(argv: List[str]) -> int:
    """``show|restore ROOT IFNAME [JSON]``"""
    mode, root, ifname = argv[:3]
    if mode == "show":
        sys.stdout.write(json.dumps(values(files(root, ifname))))
        return 0
    wrong = restore(root, ifname, json.loads(argv[3]))
    sys.stderr.write("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
