# SPDX-License-Identifier: Apache-2.0
"""The whole state of a lab's DUT, and of the machine under it, as text: what a stack must leave as it found it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.lab.napi import napi_threads

#: Commands in the DUT's namespace whose output is state; those of programs that are not installed are left out.
_COMMANDS = (
    ("ip", "rule"), ("ip", "-6", "rule"), ("ip", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"), ("ip", "neigh", "show", "nud", "permanent"),
    ("ip", "-6", "neigh", "show", "nud", "permanent"), ("bridge", "fdb"), ("nft", "list", "ruleset"),
    ("iptables-legacy-save",), ("ip6tables-legacy-save",), ("tc", "qdisc"), ("ipset", "list", "-n"),
)
#: Files of each interface that stacks or tuning may set.
_KNOBS = ("threaded", "gro_flush_timeout", "napi_defer_hard_irqs", "mtu", "address", "flags")
_ETHTOOL = {"features": "-k", "channels": "-l", "rings": "-g", "coalescing": "-c", "pause frames": "-a",
            "RSS table": "-x"}
_SHOW_KNOBS = "cd /sys/class/net/$0 && grep -s '' $* queues/*/[rx]ps_*"
#: Counters and clocks among the files of /proc/sys/net.
_VOLATILE = re.compile(r"nf_conntrack_count|/stat|flush$|random|fib_sync_mem")
_COUNTERS = re.compile(r"\[\d+:\d+\]|^#.*$|\bexpires \S+|\bused \S+", re.M)


class Machine(Protocol):
    """Whose DUT is looked at: a lab, or a rack that outlives a run (:mod:`tests.lab.held`)."""

    dut_netns: str

    def ifnames(self, side: str) -> tuple[str, ...]:
        """Devices of the wires' ends of one side."""

    def exec_argv(self, side: str, argv: Sequence[str]) -> list[str]:
        """The argv that runs ``argv`` on one side."""


def snapshot(lab: Machine) -> dict[str, str]:
    """State by name. Two of them are equal when nothing was left behind."""
    state = _inside(lab, _commands(lab.ifnames("dut")))
    lines = state["sysctl"].splitlines()
    state["sysctl"] = "\n".join(line for line in lines if not _VOLATILE.search(line.partition(":")[0]))
    state["links"] = json.dumps(json.loads(state["links"]), sort_keys=True)
    for ifname in lab.ifnames("dut"):
        state[f"NAPI threads of {ifname}"] = str([
            (os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority, sorted(os.sched_getaffinity(pid)))
            for pid in napi_threads(ifname).values()])
    state["processes"] = str(Counter(_programs(lab)))
    mounts = state["mounts"].splitlines()
    state["mounts"] = "\n".join(line for line in mounts if " nsfs " not in line)  # other labs come and go
    return state | _machine()


def _commands(ifnames: Sequence[str]) -> dict[str, Sequence[str]]:
    """Whose output is state, by its name."""
    commands: dict[str, Sequence[str]] = {" ".join(command): command for command in _COMMANDS}
    commands |= {"links": ("ip", "-j", "-d", "addr"), "sysctl": ("grep", "-rs", "", "/proc/sys/net"),
                 "mounts": ("cut", "-d ", "-f4-", "/proc/self/mountinfo")}
    for ifname in ifnames:
        commands[f"filters of {ifname}"] = ("tc", "filter", "show", "dev", ifname, "ingress")
        commands[f"knobs of {ifname}"] = ("sh", "-c", _SHOW_KNOBS, ifname, *_KNOBS)
        commands |= {f"{what} of {ifname}": ("ethtool", option, ifname) for what, option in _ETHTOOL.items()}
    return commands


def _machine() -> dict[str, str]:
    pages = sorted(Path("/sys/kernel/mm/hugepages").glob("*/nr_hugepages"))
    pages += sorted(Path("/sys/devices/system/node").glob("node*/hugepages/*/nr_hugepages"))
    modules = Path("/proc/modules")  # a kernel without modules has no such file
    loaded = sorted(line.split()[0] for line in modules.read_text().splitlines()) if modules.exists() else []
    return {
        "hugepages": _texts(pages),
        "governors": _texts(sorted(Path("/sys/devices/system/cpu").glob("cpu*/cpufreq/scaling_governor"))),
        "cores of interrupts": _texts(sorted(Path("/proc/irq").glob("[0-9]*/smp_affinity_list"))),
        "modules": str(loaded),
        "BPF programs": _bpf("prog"), "BPF maps": _bpf("map"), "BPF links": _bpf("link"),
        "DPDK's folder": str(sorted(map(str, Path("/var/run/dpdk").glob("*")))),
    }


def _texts(paths: list[Path]) -> str:
    return str([(str(path), path.read_text().strip()) for path in paths])


def _bpf(kind: str) -> str:
    """How many BPF objects of each type and name there are that no process holds: attached ones, and those that were
    left behind. Held ones go with their process, and may be anybody's."""
    done = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True, check=True, timeout=30)
    held = _held(kind)
    objects = [one for one in json.loads(done.stdout or "[]") if one["id"] not in held]
    return str(sorted(Counter((one.get("type", ""), one.get("name", "")) for one in objects).items()))


def _held(kind: str) -> set[int]:
    """Ids of the BPF objects that file descriptors of processes refer to."""
    pattern, ids = re.compile(rf"^{kind}_id:\s*(\d+)$", re.M), set[int]()
    for path in Path("/proc").glob("[0-9]*/fdinfo/*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            ids.update(map(int, pattern.findall(path.read_text())))
    return ids


def _inside(lab: Machine, commands: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What each prints in the DUT's namespace, lines sorted; by one shell, since entering takes longer than most."""
    script = "\n".join(f"{shlex.join(command)} 2>/dev/null; printf '\\0'" for command in commands.values())
    done = subprocess.run(lab.exec_argv("dut", ["sh", "-c", script]), capture_output=True, text=True, check=True,
                          timeout=60)
    outputs = done.stdout.split("\0")[:-1]
    return {name: "\n".join(sorted(_COUNTERS.sub("", output).splitlines()))
            for name, output in zip(commands, outputs, strict=True)}


def _programs(lab: Machine) -> list[str]:
    pids = subprocess.run(["ip", "netns", "pids", lab.dut_netns], capture_output=True, text=True, check=True).stdout
    names = []
    for pid in pids.split():
        try:
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except FileNotFoundError:
            continue  # it has just ended
    return names
