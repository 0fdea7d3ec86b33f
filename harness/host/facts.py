# SPDX-License-Identifier: Apache-2.0
"""Environment of a host for run.json. What a host does not tell is None: nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from harness.errors import HostError
from harness.host.contract import Completed
from harness.host.topology import LSCPU, MOST_CPUS

_CPU = "/sys/devices/system/cpu"
_MAX_NICS = 32
_MAX_TEXT = 4096
_TOOLS = {
    "ethtool": ["ethtool", "--version"], "iproute2": ["ip", "-V"], "cc": ["cc", "--version"],
    "clang": ["clang", "--version"], "make": ["make", "--version"], "nft": ["nft", "--version"],
    "perf": ["perf", "--version"],
}
#: Offloads that change what a stack sees or costs.
_OFFLOADS = ("rx-checksumming", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload",
             "generic-segmentation-offload", "generic-receive-offload", "large-receive-offload", "ntuple-filters",
             "receive-hashing", "rx-vlan-offload", "tx-vlan-offload", "hw-tc-offload", "rx-gro-hw")


class Asked(Protocol):
    """The part of a Dut that facts are asked of."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True, stdin: str = "") -> Completed:
        """Run a command."""

    def read(self, path: str, default: str | None = None) -> str:
        """Text of a file."""


def collect(host: Asked) -> dict[str, Any]:
    """All facts of a host; see each function for its keys. Takes a second, changes nothing."""
    return {
        "kernel": {
            "release": _line(host, "/proc/sys/kernel/osrelease"),
            "version": _line(host, "/proc/sys/kernel/version"),
            "command_line": _line(host, "/proc/cmdline"),
        },
        "os": _match(r'^PRETTY_NAME="?([^"\n]*)', host.read("/etc/os-release", "")),
        "cpu": cpu(host),
        "mitigations": mitigations(host),
        "memory": memory(host),
        "clocksource": _line(host, "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "virtualisation": virtualisation(host),
        "nics": nics(host),
        "tools": {name: _first_line(host, argv) for name, argv in _TOOLS.items()},
    }


def cpu(host: Asked) -> dict[str, Any]:
    """Model, cores, frequency (Hz), SMT, governor, isolation; ``topology``: CPU, physical core, socket and NUMA node of
    every logical CPU, a line each (:mod:`harness.host.topology` reads it)."""
    info = host.read("/proc/cpuinfo", "")
    online = _line(host, f"{_CPU}/online")
    model = _match(r"^(?:model name|Model)\s*: (.*)$", info)
    return {
        "model": model,
        "vendor": _match(r"^vendor_id\s*: (.*)$", info),
        "microcode": _match(r"^microcode\s*: (.*)$", info),
        "cores": len(expand(online)) if online else None,
        "online": online,
        "isolated": _line(host, f"{_CPU}/isolated"),
        "nohz_full": _line(host, f"{_CPU}/nohz_full"),
        "smt": _line(host, f"{_CPU}/smt/control"),
        "smt_active": _flag(_line(host, f"{_CPU}/smt/active")),
        "governor": _line(host, f"{_CPU}/cpu0/cpufreq/scaling_governor"),
        "driver": _line(host, f"{_CPU}/cpu0/cpufreq/scaling_driver"),
        "turbo": _turbo(host),
        "nominal_hz": _nominal_hz(host, model or ""),
        "numa_nodes": _line(host, "/sys/devices/system/node/online"),
        "topology": _topology(host),
    }


def _topology(host: Asked) -> str | None:
    rows = [line for line in _output(host, LSCPU).splitlines() if not line.startswith("#")]
    return "\n".join(rows[:MOST_CPUS]) or None


def _turbo(host: Asked) -> bool | None:
    off = _line(host, f"{_CPU}/intel_pstate/no_turbo")
    if off is not None:
        return off == "0"
    return _flag(_line(host, f"{_CPU}/cpufreq/boost"))


def _nominal_hz(host: Asked, model: str) -> float | None:
    """Base frequency as the firmware, the driver or the model's name tells."""
    base = _number(_line(host, f"{_CPU}/cpu0/cpufreq/base_frequency"))  # kHz
    if base:
        return base * 1e3
    nominal = _number(_line(host, f"{_CPU}/cpu0/acpi_cppc/nominal_freq"))  # MHz
    if nominal:
        return nominal * 1e6
    named = _match(r"@ ([0-9.]+)GHz", model)
    return float(named) * 1e9 if named else None


def mitigations(host: Asked) -> dict[str, str]:
    """Vulnerability -> what the kernel does about it; empty where it does not tell."""
    folder = f"{_CPU}/vulnerabilities"
    names = _names(host, folder)
    return {name: _line(host, f"{folder}/{name}") or "" for name in names[:64]}


def memory(host: Asked) -> dict[str, Any]:
    """Total in kB, and hugepages of each size: pages there are and are free."""
    folder = "/sys/kernel/mm/hugepages"
    pages = {
        name.removeprefix("hugepages-"): {
            "total": _whole(_line(host, f"{folder}/{name}/nr_hugepages")),
            "free": _whole(_line(host, f"{folder}/{name}/free_hugepages")),
        }
        for name in _names(host, folder)[:8]
    }
    total = _match(r"^MemTotal:\s+(\d+) kB", host.read("/proc/meminfo", ""))
    thp = _match(r"\[(\w+)\]", host.read("/sys/kernel/mm/transparent_hugepage/enabled", ""))
    return {"total_kb": _whole(total), "hugepages": pages, "transparent_hugepages": thp}


def virtualisation(host: Asked) -> str | None:
    """What systemd-detect-virt says ("none" on metal); without it "unknown" when the CPU says it is virtual."""
    said = _first_line(host, ["systemd-detect-virt"])
    if said:
        return said
    return "unknown" if re.search(r"^flags\s*:.*\bhypervisor\b", host.read("/proc/cpuinfo", ""), re.M) else None


def nics(host: Asked) -> dict[str, dict[str, Any]]:
    """Interface -> driver, firmware, speed (Mbit/s), queues, rings, offloads, NAPI mode. Without ``lo``."""
    names = [name for name in _names(host, "/sys/class/net") if name != "lo" and "/" not in name]
    return {name: _nic(host, name) for name in names[:_MAX_NICS]}


def _nic(host: Asked, name: str) -> dict[str, Any]:
    about = _pairs(_output(host, ["ethtool", "-i", name]))
    speed = _whole(_line(host, f"/sys/class/net/{name}/speed"))
    features = _pairs(_output(host, ["ethtool", "-k", name]))
    return {
        "mac": _line(host, f"/sys/class/net/{name}/address"),
        "mtu": _whole(_line(host, f"/sys/class/net/{name}/mtu")),
        "driver": about.get("driver"),
        "driver_version": about.get("version"),
        "firmware": about.get("firmware-version") or None,
        "bus": about.get("bus-info") or None,
        "speed_mbps": speed if speed and speed > 0 else None,
        "numa_node": _whole(_line(host, f"/sys/class/net/{name}/device/numa_node")),
        "queues": _current(_output(host, ["ethtool", "-l", name])),
        "rings": _current(_output(host, ["ethtool", "-g", name])),
        "offloads": {key: features[key].split()[0] == "on" for key in _OFFLOADS if features.get(key)},
        "threaded_napi": _flag(_line(host, f"/sys/class/net/{name}/threaded")),
    }


def _current(text: str) -> dict[str, int] | None:
    """The numbers of the second part ("Current hardware settings") of ``ethtool -l`` and ``-g``."""
    found = {key.lower().replace(" ", "_"): _whole(value)
             for key, value in _pairs(text.partition("Current hardware settings:")[2]).items()}
    numbers = {key: value for key, value in found.items() if value is not None}
    return numbers or None


def expand(cores: str) -> list[int]:
    """``"0-2,5"`` as core ids. Raises ValueError on anything else."""
    ids: list[int] = []
    for part in cores.split(","):
        first, _, last = part.partition("-")
        ids += range(int(first), int(last or first) + 1)
    return ids


def _pairs(text: str) -> dict[str, str]:
    rows = [line.partition(":") for line in text.splitlines()]
    return {key.strip(): value.strip() for key, colon, value in rows if colon}


def _names(host: Asked, folder: str) -> list[str]:
    return sorted(_output(host, ["ls", "-1", folder]).split())


def _output(host: Asked, argv: Sequence[str]) -> str:
    """What a command prints; "" where there is none, it fails or it has nothing to say."""
    try:
        done = host.run(argv, timeout_s=10.0, check=False)
    except HostError:
        return ""
    return done.stdout if done.returncode in (0, 1) else ""


def _first_line(host: Asked, argv: Sequence[str]) -> str | None:
    return _output(host, argv).strip().partition("\n")[0][:200] or None


def _line(host: Asked, path: str) -> str | None:
    return host.read(path, "").strip()[:_MAX_TEXT] or None


def _match(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.M)
    return found.group(1).strip() if found else None


def _convert(convert: Callable[[str], float], text: str | None) -> float | None:
    try:
        return None if text is None else convert(text)
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    return _convert(float, text)


def _whole(text: str | None) -> int | None:
    value = _convert(int, text)
    return None if value is None else int(value)


def _flag(text: str | None) -> bool | None:
    return None if text is None else text not in ("0", "off", "N")
