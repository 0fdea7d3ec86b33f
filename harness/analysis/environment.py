# SPDX-License-Identifier: Apache-2.0
"""What of a run's circumstances changes its results: the items by which two runs are alike or not, and their key.

An item's value is text. ``none``: the host was asked and has no such thing (no cpufreq in a virtual machine);
``unknown``: the record does not say, because the host could not tell or the run is older than the item. An unknown
item is never taken for equal to a known one. Host names, addresses, times, pids and paths are no items; neither is what
tells the points of one run apart (:class:`harness.analysis.metrics.PointKey`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.plan import GENERATOR_HOST
from harness.records import RunInfo

NONE, UNKNOWN, NOT_MEASURED = "none", "unknown", "not measured"
_MOST_TEXT = 400
_MOST_PORTS = 8
_MOST_MITIGATIONS = 64
#: Of the kernel's command line: where it boots from and what it prints.
_HARMLESS = frozenset({
    "BOOT_IMAGE", "root", "rootfstype", "rootflags", "rootwait", "rootdelay", "ro", "rw", "initrd", "init", "rdinit",
    "quiet", "splash", "console", "earlycon", "earlyprintk", "loglevel", "log_buf_len", "panic", "reboot", "resume",
    "noresume", "crashkernel", "net.ifnames", "biosdevname", "vga", "fbcon", "video", "systemd.show_status", "plymouth",
})
_HOST_ITEMS = (
    ("cpu.model", ("cpu", "model")), ("cpu.microcode", ("cpu", "microcode")), ("cpu.count", ("cpu", "cores")),
    ("cpu.smt", ("cpu", "smt_active")), ("cpu.governor", ("cpu", "governor")), ("cpu.driver", ("cpu", "driver")),
    ("cpu.turbo", ("cpu", "turbo")), ("cpu.idle_states", ("cpu", "idle_states")),
    ("cpu.isolated", ("cpu", "isolated")), ("cpu.nohz_full", ("cpu", "nohz_full")),
    ("kernel.release", ("kernel", "release")), ("kernel.version", ("kernel", "version")), ("os", ("os",)),
    ("transparent_hugepages", ("memory", "transparent_hugepages")), ("clocksource", ("clocksource",)),
    ("virtualisation", ("virtualisation",)),
)
_DUT_ITEMS = (("compiler", ("tools", "cc")), ("bpf_compiler", ("tools", "clang")))
_PORT_ITEMS = ("driver", "driver_version", "device", "firmware", "speed_mbps", "mtu", "queues", "rings", "pause",
               "coalescing", "offloads", "threaded_napi", "numa_node", "pcie")
_SEARCH = ("goals", "trial_s", "initial_trial_s", "width", "pdr_loss", "min_load_pps", "max_search_s", "duration_sum_s",
           "exceed_ratio")
#: Settings of a part of the measurement, and what is empty or None in the plan when the part is left out.
_MEASURE = (("warmup_s", ""), ("pause_retries", ""), ("bystander", ""),
            ("latency_of", "latency_fractions"), ("latency_trial_s", "latency_fractions"),
            ("latency_pps", "latency_fractions"), ("load_trial_s", "load_rates_pps"))
_TRAFFIC = ("flows", "l3", "l4", "vlan", "direction")
_MISSING = object()


@dataclass(frozen=True)
class Difference:
    """One item in which two runs differ, or may: one side may be :data:`UNKNOWN`, never both."""

    item: str
    a: str
    b: str

    @property
    def unknown(self) -> bool:
        """Whether the runs may still be alike: one of them does not say."""
        return UNKNOWN in (self.a, self.b)

    def __str__(self) -> str:
        return f"{self.item}: {self.a} against {self.b}"


def comparability(info: RunInfo) -> dict[str, str]:
    """Item -> value of everything recorded that changes results, such as ``dut.cpu.model``. Several DUTs are called
    ``dut1``, ``dut2`` in the plan's order, of which one without a point is not measured; ports are numbered as the
    plan's wires."""
    items = dict(_run_items(info))
    names = [str(_at(host, "name")) for host in _list(_at(info.plan, "hosts"))[:8]]
    used = {str(_at(point, "host")) for point in _list(_at(info.plan, "points"))}
    for number, name in enumerate(names, 1):
        prefix = "dut" if len(names) == 1 else f"dut{number}"
        facts = info.hosts.get(name, {})
        if used and name not in used:
            items[prefix] = NOT_MEASURED
            continue
        items.update(_host(prefix, facts))
        items.update((f"{prefix}.{item}", _text(_at(facts, *path))) for item, path in _DUT_ITEMS)
        items.update(_ports(prefix, facts, info.plan, name))
    items.update(_host("generator", info.hosts.get(GENERATOR_HOST, {})))
    return items


def differences(a: RunInfo, b: RunInfo) -> list[Difference]:
    """Where two runs differ or may differ, in the order of the items; empty when nothing known tells them apart.
    Settings of what one of them did not measure, a host for example, are no difference."""
    return apart(comparability(a), comparability(b))


def apart(left: Mapping[str, str], right: Mapping[str, str]) -> list[Difference]:
    """As :func:`differences`, of the items of two runs (:func:`comparability`)."""
    pairs = ((item, left.get(item, UNKNOWN), right.get(item, UNKNOWN)) for item in {**left, **right})
    left_out = {item for item in {**left, **right} if NOT_MEASURED in (left.get(item), right.get(item))}
    return [Difference(item, one, other) for item, one, other in pairs
            if one != other and not left_out & {item, item.partition(".")[0]}]


def unknown(a: RunInfo, b: RunInfo) -> list[str]:
    """Items that neither run tells: whether they are alike in these cannot be said."""
    left, right = comparability(a), comparability(b)
    return [item for item in {**left, **right}
            if left.get(item, UNKNOWN) == UNKNOWN == right.get(item, UNKNOWN)]


def key(info: RunInfo) -> str:
    """12 hex digits that are the same for runs whose items are. A first sieve: runs of which one leaves a part of the
    measurement out have different keys and may be without :func:`differences`."""
    text = json.dumps(comparability(info), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _run_items(info: RunInfo) -> Iterator[tuple[str, str]]:
    plan = info.plan
    wires = _list(_at(plan, "wires"))
    virtual = any(_at(wire, "virtual") is True for wire in wires)
    yield "testbed", "lab" if _at(plan, "lab") is True else "virtual wires" if virtual else "hardware"
    yield "wires", ", ".join(f"{_text(_at(wire, 'speed_gbps'))} Gbit/s" for wire in wires[:_MOST_PORTS]) or UNKNOWN
    yield "harness", _text(info.harness_version)
    yield "generator", _text(_at(plan, "generator", "kind"))
    yield "generator.version", _text(_at(info.generator, "server", "version"))
    yield "generator.client", _text(_at(info.generator, "client"))
    if _at(plan, "generator", "kind") == "trex":
        yield "generator.software", _text(_at(info.generator, "receives_in_software"))
    yield "cores.generator", _cores(plan, _at(plan, "generator", "cores"))
    yield "cores.dut", "; ".join(_cores(plan, _at(host, "cores")) for host in _list(_at(plan, "hosts"))[:8]) or UNKNOWN
    yield "tuning", _tuning(plan)
    for name in _TRAFFIC:
        yield f"traffic.{name}", _text(_at(info.scenario, "traffic", name))
    measure = _at(plan, "measure")
    search = _at(measure, "search")
    for name in _SEARCH:
        yield f"search.{name}", NOT_MEASURED if search is None else _text(_at(search, name))
    for name, part in _MEASURE:
        left_out = part and _at(measure, part) in ([], ())
        yield f"measure.{name}", NOT_MEASURED if left_out else _text(_at(measure, name))


def _cores(plan: Mapping[str, Any], cores: object) -> str:
    """Which cores: where they stand matters. The lab gives each side the quieter one each time, so there: how many."""
    if cores is _MISSING:
        return UNKNOWN
    ids = _list(cores)
    return f"{len(ids)} core{'s' * (len(ids) != 1)}" if _at(plan, "lab") is True else _text(ids)


def _tuning(plan: Mapping[str, Any]) -> str:
    """The profile of all points; where it is not one, each point's is part of its own key."""
    profiles = {_text(_at(point, "profile")) for point in _list(_at(plan, "points"))}
    return next(iter(profiles), UNKNOWN) if len(profiles) < 2 else "by point"


def _host(prefix: str, facts: object) -> Iterator[tuple[str, str]]:
    for item, path in _HOST_ITEMS:
        yield f"{prefix}.{item}", _text(_at(facts, *path))
    line = _at(facts, "kernel", "command_line")
    yield f"{prefix}.kernel.parameters", _parameters(line) if isinstance(line, str) else _text(line)
    found = _at(facts, "mitigations")
    if not isinstance(found, Mapping) or not found:
        yield f"{prefix}.mitigations", UNKNOWN if found is _MISSING else NONE
        return
    for name in sorted(map(str, found))[:_MOST_MITIGATIONS]:
        yield f"{prefix}.mitigations.{name[:60]}", _text(found[name])


def _parameters(line: str) -> str:
    """The kernel's parameters but for harmless ones; what follows ``--`` is for the init program."""
    words = line.split(" -- ")[0].split()
    return _text(" ".join(sorted(word for word in words if word.partition("=")[0] not in _HARMLESS)) or None)


def _ports(prefix: str, facts: object, plan: Mapping[str, Any], host: str) -> Iterator[tuple[str, str]]:
    """Of the host's test ports. How the interfaces are called is no item: the lab's change every time."""
    ports = [_at(wire, "dut") for wire in _list(_at(plan, "wires")) if _at(wire, "host") == host]
    for number, port in enumerate(ports[:_MOST_PORTS]):
        nic = _nic(facts, port)
        for name in _PORT_ITEMS:
            yield f"{prefix}.port{number}.{name}", _text(_at(nic, name))


def _nic(facts: object, port: object) -> object:
    """The facts of a port: by MAC address, or by the interface's name."""
    nics = _at(facts, "nics")
    if not isinstance(nics, Mapping):
        return _MISSING
    mac, ifname = _at(port, "mac"), _at(port, "ifname")
    by_mac = [nic for nic in nics.values() if isinstance(mac, str) and _at(nic, "mac") == mac]
    return by_mac[0] if by_mac else nics.get(ifname, _MISSING)


def _at(data: object, *path: str) -> Any:
    """The value at a path of keys; ``_MISSING`` where there is none, whatever the record holds instead."""
    for name in path:
        if not isinstance(data, Mapping) or name not in data:
            return _MISSING
        data = data[name]
    return data


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _text(value: object) -> str:
    """A value in one short printable line; what is longer keeps its beginning and the hash of the rest."""
    if value is _MISSING:
        return UNKNOWN
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        value = ", ".join(f"{name}={_text(value[name])}" for name in sorted(value, key=str)) or NONE
    elif isinstance(value, list | tuple):
        value = ",".join(map(_text, value)) or NONE
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    if len(text) <= _MOST_TEXT:
        return text
    return f"{text[:_MOST_TEXT]}… {hashlib.sha256(text.encode()).hexdigest()[:8]}"
