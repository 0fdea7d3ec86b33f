# SPDX-License-Identifier: Apache-2.0
"""Environment of a host for run.json, from a survey of it. None: the host was asked and has no such thing; what it
cannot tell is left out. Nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.host.inventory import Survey, line_of, numbers_of, whole_of
from harness.host.topology import MOST_CPUS

_CPU = "/sys/devices/system/cpu"
_MAX_NICS = 32
_MOST_ID = 65535
_TOOLS = ("ethtool", "iproute2", "cc", "clang", "make", "nft", "perf")
#: Offloads that change what a stack sees or costs: the name that ethtool prints, and the kernel's it stands for.
_OFFLOADS = {
    "rx-checksumming": ("rx-checksum",),
    "tx-checksumming": ("tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6", "tx-checksum-sctp",
                        "tx-checksum-fcoe-crc"),
    "scatter-gather": ("tx-scatter-gather", "tx-scatter-gather-fraglist"),
    "tcp-segmentation-offload": ("tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
                                 "tx-tcp6-segmentation"),
    "generic-segmentation-offload": ("tx-generic-segmentation",), "generic-receive-offload": ("rx-gro",),
    "large-receive-offload": ("rx-lro",), "ntuple-filters": ("rx-ntuple-filter",), "receive-hashing": ("rx-hashing",),
    "rx-vlan-offload": ("rx-vlan-hw-parse",), "tx-vlan-offload": ("tx-vlan-hw-insert",),
    "hw-tc-offload": ("hw-tc-offload",), "rx-gro-hw": ("rx-gro-hw",),
}
_KEPT = {"rings": ("rx", "rx_mini", "rx_jumbo", "tx"), "channels": ("rx", "tx", "other", "combined"),
         "pause": ("autoneg", "rx", "tx"),
         "coalescing": ("rx_usecs", "rx_frames", "tx_usecs", "tx_frames", "adaptive_rx", "adaptive_tx")}


def facts_of(host: Survey) -> dict[str, Any]:
    """All facts of a host; see each function for its keys."""
    return {
        "kernel": {
            "release": host.line("/proc/sys/kernel/osrelease"),
            "version": host.line("/proc/sys/kernel/version"),
            "command_line": host.line("/proc/cmdline"),
        },
        "os": _match(r'^PRETTY_NAME="?([^"\n]*)', host.text("/etc/os-release")),
        "cpu": cpu(host),
        "mitigations": dict(list(host.below(f"{_CPU}/vulnerabilities/", r"(\w{1,60})").items())[:64]),
        "memory": memory(host),
        "clocksource": host.line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "virtualisation": virtualisation(host),
        "nics": {name: nic(host, name) for name in host.names("interfaces")[:_MAX_NICS]},
        "tools": {name: line_of(host.output(f"tool.{name}")) for name in _TOOLS if host.at("commands", f"tool.{name}")},
    }


def cpu(host: Survey) -> dict[str, Any]:
    """Model, cores, frequency (Hz), SMT, governor, idle states, isolation; ``topology``: CPU, physical core, socket and
    NUMA node of every logical CPU, a line each (:mod:`harness.host.topology` reads it)."""
    info = host.text("/proc/cpuinfo")
    online = host.line(f"{_CPU}/online")
    model = _match(r"^(?:model name|Model)\s*: (.*)$", info)
    return {
        "model": model,
        "vendor": _match(r"^vendor_id\s*: (.*)$", info),
        "microcode": _match(r"^microcode\s*: (.*)$", info),
        "cores": _count(online),
        "online": online,
        "isolated": host.line(f"{_CPU}/isolated"),
        "nohz_full": host.line(f"{_CPU}/nohz_full"),
        "smt": host.line(f"{_CPU}/smt/control"),
        "smt_active": _flag(host.line(f"{_CPU}/smt/active")),
        "governor": governors(host),
        "driver": host.line(f"{_CPU}/cpu0/cpufreq/scaling_driver"),
        "idle_driver": host.line(f"{_CPU}/cpuidle/current_driver"),
        "idle_states": idle_states(host),
        "turbo": turbo(host),
        "nominal_hz": _nominal_hz(host, model or ""),
        "numa_nodes": host.line("/sys/devices/system/node/online"),
        "topology": topology(host),
    }


def governors(host: Survey) -> str | None:
    """Frequency governors of the CPUs looked at, each once."""
    found = host.below(f"{_CPU}/cpu", r"(\d+)/cpufreq/scaling_governor")
    return ", ".join(sorted(set(filter(None, found.values())))) or None


def idle_states(host: Survey) -> str | None:
    """Idle states of the CPUs looked at that may be entered, each once: ``POLL 0 us, C1 2 us``."""
    states = host.below(f"{_CPU}/cpu", r"(\d+/cpuidle/state\d+)/name")
    usable = {(whole_of(host.at("files", f"{_CPU}/cpu{place}/latency")) or 0, name) for place, name in states.items()
              if host.line(f"{_CPU}/cpu{place}/disable") != "1"}
    return ", ".join(f"{name} {latency} us" for latency, name in sorted(usable)[:16]) or None


def topology(host: Survey) -> str | None:
    """Rows of lscpu."""
    rows = [line for line in (host.output("lscpu") or "").splitlines() if not line.startswith("#")]
    return "\n".join(rows[:MOST_CPUS]) or None


def turbo(host: Survey) -> bool | None:
    """Whether cores may run above their nominal clock; None where the host has no switch for it."""
    off = host.line(f"{_CPU}/intel_pstate/no_turbo")
    if off is not None:
        return off == "0"
    return _flag(host.line(f"{_CPU}/cpufreq/boost"))


def _nominal_hz(host: Survey, model: str) -> float | None:
    """Base frequency as the firmware, the driver or the model's name tells."""
    base = host.whole(f"{_CPU}/cpu0/cpufreq/base_frequency")  # kHz
    if base:
        return base * 1e3
    nominal = host.whole(f"{_CPU}/cpu0/acpi_cppc/nominal_freq")  # MHz
    if nominal:
        return nominal * 1e6
    named = _match(r"@ (\d+(?:\.\d+)?)GHz", model)
    return float(named) * 1e9 if named else None


def memory(host: Survey) -> dict[str, Any]:
    """Total in kB, and hugepages of each size: pages there are and are free."""
    folder = "/sys/kernel/mm/hugepages/hugepages-"
    pages = {size: {"total": host.whole(f"{folder}{size}/nr_hugepages"),
                    "free": host.whole(f"{folder}{size}/free_hugepages")}
             for size in list(host.below(folder, r"(\d+kB)/nr_hugepages"))[:8]}
    total = _match(r"^MemTotal:\s+(\d+) kB", host.text("/proc/meminfo"))
    thp = _match(r"\[(\w+)\]", host.text("/sys/kernel/mm/transparent_hugepage/enabled"))
    return {"total_kb": whole_of(total), "hugepages": pages, "transparent_hugepages": thp}


def virtualisation(host: Survey) -> str | None:
    """What systemd-detect-virt says ("none" on metal); without it "unknown" when the CPU says it is virtual."""
    said = line_of(host.output("virtualisation"))
    if said:
        return said
    return "unknown" if re.search(r"^flags\s*:.*\bhypervisor\b", host.text("/proc/cpuinfo"), re.M) else None


def nic(host: Survey, name: str) -> dict[str, Any]:
    """An interface: driver, device, firmware, speed (Mbit/s), queues, rings, pause frames, coalescing, offloads, NAPI
    mode, PCIe link."""
    found = host.interface(name) or {}
    about = found.get("driver")
    about = about if isinstance(about, Mapping) else {}
    speed = whole_of(found.get("speed"))
    return {
        "mac": line_of(found.get("address")),
        "mtu": whole_of(found.get("mtu")),
        "driver": line_of(about.get("driver")),
        "driver_version": line_of(about.get("version")),
        "firmware": line_of(about.get("firmware")),
        "bus": line_of(about.get("bus")),
        "device": _device(found),
        "speed_mbps": speed if speed and speed > 0 else None,
        "numa_node": whole_of(host.at("interfaces", name, "pci", "numa_node")),
        "queues": _some(numbers_of(found.get("channels"), _KEPT["channels"])),
        "rings": _some(numbers_of(found.get("rings"), _KEPT["rings"])),
        "pause": numbers_of(found.get("pause"), _KEPT["pause"]),
        "coalescing": numbers_of(found.get("coalescing"), _KEPT["coalescing"]),
        "offloads": offloads(found),
        "threaded_napi": _flag(line_of(found.get("threaded"))),
        "pcie": pcie(host, name),
    }


def _some(numbers: dict[str, int] | None) -> dict[str, int] | None:
    """Without what is zero: the driver has no such ring or queue."""
    return {name: number for name, number in (numbers or {}).items() if number} or None


def _device(found: Mapping[str, Any]) -> str | None:
    """PCI vendor and device, and the card's: ``8086:1572 (8086:0001)``."""
    vendor, device, card_vendor, card = ((line_of(found.get(f"device/{name}")) or "").removeprefix("0x") for name in
                                         ("vendor", "device", "subsystem_vendor", "subsystem_device"))
    if not vendor:
        return None
    return f"{vendor}:{device}" + (f" ({card_vendor}:{card})" if card_vendor else "")


def offloads(found: Mapping[str, Any]) -> dict[str, bool] | None:
    """Offloads by the names that ethtool prints."""
    features = found.get("features")
    if not isinstance(features, Mapping):
        return None
    return {name: any(features.get(kernel) is True for kernel in kernels) for name, kernels in _OFFLOADS.items()
            if any(kernel in features for kernel in kernels)}


def pcie(host: Survey, name: str) -> str | None:
    """The link as it runs: ``8.0 GT/s PCIe x8``; None where the interface is no PCI device or the bus does not say."""
    speed = line_of(host.at("interfaces", name, "pci", "current_link_speed"))
    width = whole_of(host.at("interfaces", name, "pci", "current_link_width"))
    return f"{speed} x{width}" if speed and width else None


def expand(cores: str) -> list[int]:
    """``"0-2,5"`` as core ids. Raises ValueError on anything else."""
    ids: list[int] = []
    for part in cores.split(","):
        first, _, last = part.partition("-")
        if int(last or first) > _MOST_ID:
            raise ValueError(f"core {last or first}: ids go up to {_MOST_ID}")
        ids += range(int(first), int(last or first) + 1)
    return ids


def _count(cores: str | None) -> int | None:
    try:
        return min(len(expand(cores)), MOST_CPUS) if cores and re.fullmatch(r"[\d,-]{1,4000}", cores) else None
    except ValueError:
        return None


def _match(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.M)
    return line_of(found.group(1)) if found else None


def _flag(text: str | None) -> bool | None:
    return None if text is None else text not in ("0", "off", "N")
