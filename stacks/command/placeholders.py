# SPDX-License-Identifier: Apache-2.0
"""``{if0}`` and its like in the words of a command: what the plan knows, filled in word by word. No shell sees it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from harness.plan import PointPlan
from harness.yamlfile import close_match

#: Of each port of the DUT, numbered from 0: {if0}, {mac0} ...
PER_PORT = {
    "if": "interface name",
    "mac": "its MAC address",
    "ip": "its IP address",
    "prefix_len": "length of its prefix",
    "pci": "its PCI address, where the testbed file has it",
    "peer_mac": "MAC address of the generator's port at the other end",
    "peer_ip": "IP address of the generator's port",
    "flow_prefix": "prefix that holds the addresses of all flows behind it",
}
PLAIN = {
    "cores": "core ids, such as 2,3,8",
    "core_count": "how many",
    "udp_port": "destination port of the test traffic",
    "frame": "frame size in bytes with FCS",
    "pid": "process id of the program; not in start and cleanup",
}
MOST_PORTS = 4
#: {core0} is the first core given, and so on.
CORE = "core"
_BRACED = re.compile(r"\{\{([a-z_]+[0-9]*)\}\}|\{([a-z_]+)([0-9]*)\}")


def problem(word: str, *, with_pid: bool) -> str | None:
    """What is wrong with the placeholders of a word, None when nothing is."""
    for literal, name, index in _BRACED.findall(word):
        if literal:
            continue
        numbered = name in PER_PORT or name == CORE
        known = name in PLAIN and (with_pid or name != "pid")
        if not ((known and not index) or (numbered and index)):
            names = [*PLAIN, "core0", *(f"{port}0" for port in PER_PORT)]
            return (f"{{{name}{index}}} stands for nothing here; {close_match(name + index, names)}; for the text "
                    f"itself write {{{{{name}{index}}}}}")
    return None


def values(point: PointPlan, pid: int | None = None) -> Mapping[str, str]:
    """Every placeholder of a point and what it stands for."""
    found = {"cores": ",".join(map(str, point.cores)), "core_count": str(len(point.cores)),
             "udp_port": str(point.udp_port), "frame": str(point.frame_bytes)}
    found |= {f"{CORE}{number}": str(core) for number, core in enumerate(point.cores)}
    if pid is not None:
        found["pid"] = str(pid)
    for number, wire in enumerate(point.wires[:MOST_PORTS]):
        port = {"if": wire.dut.ifname, "mac": wire.dut.mac, "ip": wire.dut.ip, "prefix_len": str(wire.dut.prefix_len),
                "pci": wire.dut.pci, "peer_mac": wire.tg.mac, "peer_ip": wire.tg.ip, "flow_prefix": wire.flow_prefix}
        found |= {f"{name}{number}": value for name, value in port.items()}
    return found


def unknown(words: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """Placeholders that this point has no value for (a port or core too many, no PCI address), each once."""
    names = [name + index for word in words for literal, name, index in _BRACED.findall(word) if not literal]
    return list(dict.fromkeys(name for name in names if name != "pid" and not known.get(name)))


def fill(words: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """The words with their placeholders filled in; ``{{name}}`` becomes ``{name}``. KeyError for an unknown one."""
    def one(match: re.Match[str]) -> str:
        return f"{{{match[1]}}}" if match[1] else known[match[2] + match[3]]

    return [_BRACED.sub(one, word) for word in words]
