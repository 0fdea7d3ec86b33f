# SPDX-License-Identifier: Apache-2.0
"""A host of texts with one NIC that answers, refuses and rounds as real drivers do (no real NIC is at hand here)."""

from __future__ import annotations

import json
import shlex
from typing import Any

from harness.errors import HostError, HostNotRestored
from harness.host.contract import Completed
from harness.host.link import AgentRefused

CPU = "/sys/devices/system/cpu"
QUEUES = "/sys/class/net/eth1/queues"


class Refused(Exception):
    """What a driver or the kernel says no to; its words, and the status of ethtool."""

    def __init__(self, words: str = "netlink error: Operation not supported", status: int = 1) -> None:
        super().__init__(words)
        self.status = status


class SimulatedServer:
    """A host whose settings can be read and set, on a journal of undo steps.

    ``driver``: virtual knows neither coalescing nor pause frames. i40e refuses new usecs while adaptive coalescing is
    on, and autonegotiation of pause frames off; usecs are even, rings multiples of 32. ixgbe has vectors for both
    directions, so no tx-usecs. mlx5 sets the usecs itself when adaptive is switched; its rings are powers of two.
    e1000e heeds rx and tx pause frames only while their autonegotiation is off."""

    name, virtual = "sut", False

    def __init__(self, driver: str = "virtual") -> None:
        self.driver = driver
        self.rings, self.most, self.queues = {"RX": 512, "TX": 512}, 16, 8
        self.table, self.configured = [i % 8 for i in range(16)], False
        self.gro, self.hash, self.irqbalance, self.stubborn = "on", "addresses", "active", False
        adaptive = "n/a" if driver == "ixgbe" else "on"
        self.coalescing = {"adaptive-rx": adaptive, "adaptive-tx": adaptive, "rx-usecs": "50", "tx-usecs": "50"}
        if driver == "ixgbe":
            self.coalescing["tx-usecs"] = "0"
        self.pause = {"autoneg": "on", "rx": "on", "tx": "on"}
        self.interrupts = {"nic-TxRx-0": "2", "nic-TxRx-1": "3"}
        #: Where its NAPI threads run; none: its NAPI is not threaded.
        self.napi: list[str] = []
        self.files = {
            f"{QUEUES}/rx-0/rps_cpus": "00000000,00000000\n",
            f"{QUEUES}/tx-0/xps_cpus": "f\n", f"{QUEUES}/tx-1/xps_cpus": "0\n",
            f"{CPU}/cpu4/cpufreq/scaling_governor": "powersave\n", f"{CPU}/intel_pstate/no_turbo": "0\n",
            f"{CPU}/cpu4/cpuidle/state0/latency": "0\n", f"{CPU}/cpu4/cpuidle/state0/disable": "0\n",
            f"{CPU}/cpu4/cpuidle/state1/latency": "133\n", f"{CPU}/cpu4/cpuidle/state1/disable": "0\n",
            "/proc/sys/net/core/netdev_budget": "300\n",
        }
        self.unreadable: set[str] = set()
        self.journal: list[Any] = []

    def state(self):
        return {name: json.loads(json.dumps(value)) for name, value in vars(self).items()
                if name not in ("journal", "unreadable", "stubborn")}

    # -- the Dut's operations

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}"

    def exists(self, path: str) -> bool:
        return path in self.files

    def read(self, path: str, default: str | None = None) -> str:
        if path in self.unreadable:
            raise AgentRefused(f"[Errno 2] No such file or directory: {path!r}", "failed")
        return self.files[path]

    def set_file(self, path: str, value: str, *, verify: bool = True) -> None:
        old = self.files[path]
        if self.stubborn:
            raise AgentRefused(f"{path}: wrote {value!r}, reads back {old!r}", "unverified")
        if int(old.replace(",", ""), 16) == int(value, 16) if value.isdigit() else old.strip() == value:
            return
        self.journal.append((path, old))
        size = 1 << (int(value) - 1).bit_length() if "flow_" in path and int(value) else value
        self.files[path] = f"{size}\n"
        if str(size) != value:
            self.undo_to(len(self.journal) - 1)
            raise AgentRefused(f"{path}: wrote {value!r}, reads back {size!r}", "unverified")

    def apply(self, do, undo, *, made=()) -> Completed:
        self.journal.append(undo)
        try:
            return self.run(do)
        except HostError:
            self.run(self.journal.pop(), check=False)
            raise

    def keep_napi(self, ifname: str) -> None:
        if self.napi:
            self.journal.append(("napi", list(self.napi)))

    def undo_mark(self) -> int:
        return len(self.journal)

    def undo_to(self, mark: int) -> None:
        failures = []
        while len(self.journal) > mark:
            step = self.journal.pop()
            if step[0] == "napi":
                self.napi = step[1]
                continue
            if isinstance(step, tuple):
                self.files[step[0]] = step[1]
                continue
            try:
                self.run(step)
            except HostError as error:
                failures.append(str(error))
        if failures:
            raise HostNotRestored("\n".join(failures))

    def run(self, argv, *, timeout_s=30.0, check=True, stdin=""):
        try:
            return Completed(tuple(argv), 0, self._answer(argv), "")
        except Refused as refused:
            if check:
                raise HostError(f"{shlex.join(argv)} ended with status {refused.status}: {refused}") from None
            return Completed(tuple(argv), refused.status, "", str(refused))

    # -- programs

    def _answer(self, argv) -> str:
        if argv[0] == "true":
            return ""
        if argv[0] == "ls":
            inside = [path[len(argv[1]) + 1:].split("/")[0] for path in self.files if path.startswith(argv[1] + "/")]
            if not inside:
                raise Refused("No such file or directory", 2)
            return "\n".join(dict.fromkeys(inside))
        if argv[0] == "systemctl":
            if argv[1] != "is-active":
                self.irqbalance = "inactive" if argv[1] == "stop" else "active"
            return self.irqbalance + "\n"
        if argv[0] == "python3":
            return self._placement(*argv[3:])
        show = {"-g": self._show_rings, "-l": self._show_queues, "-x": self._show_table, "-c": self._show_coalescing,
                "-a": self._show_pause, "-k": self._show_features}.get(argv[1])
        if show:
            return show()
        if argv[1] == "-n":
            return self._show_hash(argv[-1])
        change = {"-G": self._set_rings, "-L": self._set_queues, "-C": self._set_coalescing, "-A": self._set_pause,
                  "-K": self._set_features}.get(argv[1])
        if change:
            change(dict(zip(argv[3::2], argv[4::2], strict=True)))
        elif argv[1] == "-X":
            self._set_table(argv[3:])
        else:
            self.hash = "ports" if argv[-1] == "sdfn" else "addresses"
        return ""

    def _placement(self, mode, root, ifname, wanted="") -> str:
        """As harness/host/tuning/placement.py, which has its own tests."""
        paths = {path[len(QUEUES) + 1:]: path for path in self.files if path.startswith(QUEUES)}
        if mode == "show":
            return json.dumps({**{name: self.files[path].strip() for name, path in paths.items()},
                               **{f"irq {name}": cores for name, cores in self.interrupts.items()}})
        for name, value in json.loads(wanted).items():
            if name in paths:
                if self.files[paths[name]].strip() != value:
                    self.files[paths[name]] = value + "\n"
            else:
                self.interrupts[name[4:]] = value
        return ""

    def _renew(self) -> None:
        """What making the queues anew loses."""
        self.interrupts = dict.fromkeys(self.interrupts, "0-7")
        self.napi = ["0-7" for _ in self.napi]
        for path in self.files:
            if path.startswith(QUEUES):
                self.files[path] = "0\n"

    def _show_rings(self) -> str:
        now = "".join(f"{name}:\t\t{size}\nRX Mini:\tn/a\n" for name, size in self.rings.items())
        return ("Ring parameters for eth1:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n"
                f"Current hardware settings:\n{now}")

    def _set_rings(self, settings) -> None:
        if self.stubborn:
            return
        for name, value in settings.items():
            size = int(value)
            rounded = {"i40e": -(-size // 32) * 32, "mlx5": 1 << (size - 1).bit_length()}
            self.rings[name.upper()] = rounded.get(self.driver, size)
        self._renew()

    def _show_queues(self) -> str:
        return (f"Pre-set maximums:\nRX:\t\tn/a\nCombined:\t{self.most}\n"
                f"Current hardware settings:\nCombined:\t{self.queues}\n")

    def _set_queues(self, settings) -> None:
        count = int(settings["combined"])
        if self.configured and max(self.table) >= count:
            raise Refused("requested channel counts are too low for existing indirection table settings")
        self.queues = count
        if not self.configured:
            self.table = [i % count for i in range(16)]
        self._renew()

    def _show_table(self) -> str:
        rows = "".join(f"{at:5d}: " + " ".join(f"{q:5d}" for q in self.table[at:at + 8]) + "\n" for at in (0, 8))
        return f"RX flow hash indirection table for eth1 with 8 RX ring(s):\n{rows}RSS hash key:\n"

    def _set_table(self, words) -> None:
        count = int(words[1]) if words[0] == "equal" else self.queues
        if count > self.queues:
            raise Refused("Cannot set RX flow hash configuration: Invalid argument")
        self.table, self.configured = [i % count for i in range(16)], words[0] == "equal"

    def _show_coalescing(self) -> str:
        if self.driver == "virtual":
            raise Refused
        now = self.coalescing
        return (f"Coalesce parameters for eth1:\nAdaptive RX: {now['adaptive-rx']}  TX: {now['adaptive-tx']}\n"
                f"stats-block-usecs:\tn/a\nrx-usecs:\t{now['rx-usecs']}\ntx-usecs:\t{now['tx-usecs']}\n")

    def _set_coalescing(self, settings) -> None:
        new = self.coalescing | settings
        if new == self.coalescing:
            raise Refused("no coalesce parameters changed, aborting", 80)
        for way in ("rx", "tx"):
            changes = new[f"{way}-usecs"] != self.coalescing[f"{way}-usecs"]
            if self.driver == "i40e" and changes:
                if new[f"adaptive-{way}"] == "on":
                    raise Refused("netlink error: Invalid argument")
                new[f"{way}-usecs"] = str(int(new[f"{way}-usecs"]) // 2 * 2)
            if self.driver == "mlx5" and new[f"adaptive-{way}"] != self.coalescing[f"adaptive-{way}"]:
                new[f"{way}-usecs"] = "50" if new[f"adaptive-{way}"] == "on" else "8"
        if self.driver == "ixgbe" and new["tx-usecs"] != "0":
            raise Refused("netlink error: Invalid argument")
        self.coalescing = new

    def _show_pause(self) -> str:
        if self.driver == "virtual":
            raise Refused
        return "Pause parameters for eth1:\nAutonegotiate:\t{autoneg}\nRX:\t\t{rx}\nTX:\t\t{tx}\n".format(**self.pause)

    def _set_pause(self, settings) -> None:
        new = self.pause | settings
        if new == self.pause:
            raise Refused("no pause parameters changed, aborting", 78)
        if self.driver in ("i40e", "mlx5") and new["autoneg"] != self.pause["autoneg"]:
            raise Refused("netlink error: Operation not supported")
        if self.driver == "e1000e" and new["autoneg"] == "on":
            new = {"autoneg": "on", "rx": "on", "tx": "on"}
        self.pause = new

    def _show_features(self) -> str:
        return f"Features for eth1:\ngeneric-receive-offload: {self.gro}\nlarge-receive-offload: off [fixed]\n"

    def _set_features(self, settings) -> None:
        self.gro = settings["gro"]

    def _show_hash(self, flow) -> str:
        ports = "L4 bytes 0 & 1 [TCP/UDP src port]\nL4 bytes 2 & 3 [TCP/UDP dst port]\n"
        return f"{flow} use these fields for computing Hash flow key:\nIP SA\nIP DA\n" + \
            (ports if self.hash == "ports" else "")
