# SPDX-License-Identifier: Apache-2.0
"""A host of the tests' own making: sysfs, ``ip`` and the journal in memory. It says what the harness would do to a host
with such devices, and not that a kernel does it: that is what tests in a virtual machine are for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.errors import HostError
from harness.host.contract import Completed

DEVICES, NET, DRIVERS = "/sys/bus/pci/devices", "/sys/class/net", "/sys/bus/pci/drivers"


class SimulatedHost:
    """``files``: path -> text (a folder is there when something is in it); ``answers``: words after ``ip`` -> rows or
    text; ``settings`` and ``lost``: of every interface; ``done`` and ``journal``: what was applied, and what would
    undo it."""

    name = "sut"
    virtual = False

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.answers: dict[str, object] = {}
        self.programs = {"python3", "ip", "modprobe", "stdbuf", "dpdk-testpmd"}
        self.done: list[tuple[str, ...]] = []
        self.journal: list[tuple[str, ...]] = []
        self.forgets = False
        self.settings: dict[str, str] = {}
        self.lost: list[str] = []

    def nic(self, pci: str, ifname: str, driver: str = "ixgbe", iommu: bool = False, node: int = -1) -> None:
        """A NIC with an interface that is up."""
        self.files |= {
            f"{DEVICES}/{pci}/driver": driver, f"{DEVICES}/{pci}/driver_override": "(null)\n",
            f"{DEVICES}/{pci}/class": "0x020000\n", f"{DEVICES}/{pci}/numa_node": f"{node}\n",
            f"{DEVICES}/{pci}/net/{ifname}": "", f"{NET}/{ifname}/address": "3c:fd:fe:00:00:01\n",
            f"{NET}/{ifname}/mtu": "9000\n", f"{NET}/{ifname}/flags": "0x1003\n",
            f"{DRIVERS}/{driver}/bind": "",
        }
        if iommu:
            self.files[f"{DEVICES}/{pci}/iommu_group/devices/{pci}"] = ""

    def exists(self, path: str) -> bool:
        return any(name == path or name.startswith(path + "/") for name in self.files)

    def read(self, path: str, default: str | None = None) -> str:
        if path not in self.files and default is not None:
            return default
        return self.files[path]

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    def run(self, argv: Sequence[str], *, check: bool = True, **_: Any) -> Completed:
        out, status = "", 0
        if argv[0] == "ls":
            names = {name[len(argv[1]) + 1 :].split("/")[0] for name in self.files if name.startswith(argv[1] + "/")}
            out = "\n".join(sorted(names))
        elif argv[0] == "readlink":
            out = f"../x/{self.files[argv[-1]]}\n" if argv[-1] in self.files else ""
            if argv[1] == "-f":
                ifname = argv[-1].split("/")[4]
                device = next((path for path in self.files if path.endswith(f"/net/{ifname}")), "")
                out = "/".join(device.split("/")[:-2])
        elif argv[0] == "ip":
            answer = self.answers.get(" ".join(argv[1:]), [] if argv[1] == "-j" else "")
            out = answer if isinstance(answer, str) else json.dumps(answer)
        elif argv[0] == "python3" and argv[3] == "show":
            out = json.dumps({"settings": self.settings, "lost": self.lost})
        elif argv[0] == "modprobe":
            told = {"--show-depends": "depends", "--resolve-alias": "aliases"}.get(argv[1])
            status = 0 if told or argv[-1] in self.answers.get("modules", ()) else 1  # type: ignore[operator]
            out = self.answers.get(told, {}).get(argv[-1], "") if told else ""  # type: ignore[attr-defined]
        return Completed(tuple(argv), status, out, "")

    def set_file(self, path: str, value: str, *, verify: bool = True) -> None:
        self.journal.append(("restore", path, self.files[path].strip()))
        self.done.append(("set", path, value))
        self.files[path] = value
        if path.endswith("/sriov_numvfs") and value == "1":
            device = path.rpartition("/")[0]
            self.files[f"{device}/virtfn0"] = "0000:03:10.0"
            self.files[f"{DEVICES}/0000:03:10.0/driver_override"] = "(null)\n"

    def apply(self, do: Sequence[str], undo: Sequence[str]) -> Completed:
        self.journal.append(tuple(undo))
        self.done.append(tuple(do))
        if do[0] == "python3":
            pci, driver = do[3], do[4]
            if driver == "refused":
                raise HostError("python3 ended with status 1: 0000:03:00.0: No such device")
            self.files[f"{DEVICES}/{pci}/driver"] = driver
        return Completed(tuple(do), 0, "", "")

    def undo_mark(self) -> int:
        return len(self.journal)

    def undo_to(self, mark: int) -> None:
        self.undone = [entry for entry in reversed(self.journal[mark:]) if entry != ("true",)]
        del self.journal[mark:]
        if self.forgets:
            self.answers = {words: rows for words, rows in self.answers.items() if "addr show" not in words}
            self.settings = dict.fromkeys(self.settings, "0")
