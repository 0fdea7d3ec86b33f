# SPDX-License-Identifier: Apache-2.0
"""What is cabled to what: a marked frame out of every test port, listened for on the ports of all hosts.

Ports that are set down are up meanwhile, without IPv6, on their host's journal, for the caller to undo.
Nothing is ever sent out of an interface that is only listened on (management).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HostError
from harness.host.dut import AgentDut, DutProcess
from harness.rack import frames
from harness.stacks.ports import bring_up_silently

_SCRIPT = Path(frames.__file__)
_READY_S, _ANSWER_S, _ROUNDS, _FRAMES = 10.0, 10.0, 3, 4
#: A link trains and negotiates once its port is set up: seconds on copper.
_LINK_S, _POLL_S = 15.0, 0.05
_SECONDS = 120


@dataclass(frozen=True, order=True)
class End:
    """A port of a host."""

    host: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.host} {self.ifname}"


@dataclass(frozen=True)
class Tried:
    """``heard``: (from, at) of frames that arrived. ``no_link``: ports whose link did not come. ``speeds``: of those
    that have one and whose driver says, Gbit/s."""

    heard: frozenset[tuple[End, End]]
    no_link: frozenset[End] = frozenset()
    speeds: Mapping[End, float] = field(default_factory=dict)

    def both_ways(self, one: End, other: End) -> bool:
        """Whether frames pass between two ports in both directions."""
        return (one, other) in self.heard and (other, one) in self.heard

    def hearers(self, sender: End) -> list[End]:
        """The ports that heard a port."""
        return sorted(at for source, at in self.heard if source == sender)


def try_cables(hosts: Mapping[str, AgentDut], ports: Mapping[str, Sequence[str]],
               listened: Mapping[str, Sequence[str]]) -> Tried:
    """Every port in ``ports`` (by host) sends, those and ``listened`` ones listen. Raises HostError."""
    set_up = {End(host, name) for host, names in ports.items() for name in names
              if bring_up_silently(hosts[host], name)}
    no_link = _await_links(hosts, set_up) | {
        End(host, name) for host, names in ports.items() for name in names
        if End(host, name) not in set_up and not _carrier(hosts[host], name)}
    programs: dict[str, DutProcess] = {}
    heard: set[tuple[End, End]] = set()
    nonce, order = secrets.token_hex(8), list(hosts)
    try:
        for number, (host, dut) in enumerate(hosts.items()):
            programs[host] = _start(dut, ports.get(host, ()), listened.get(host, ()), nonce, number)
        live = [End(host, name) for host, names in ports.items() for name in names if End(host, name) not in no_link]
        for _ in range(_ROUNDS):
            _send(programs, ports, live)
            for host, program in programs.items():
                heard |= _heard(program, host, [*ports.get(host, ()), *listened.get(host, ())], order, ports)
            if {source for source, _ in heard} >= set(live):
                break
    finally:
        for program in programs.values():
            program.stop()
    return Tried(frozenset(heard), frozenset(no_link), _speeds(hosts, live))


def _carrier(dut: AgentDut, ifname: str) -> bool:
    return dut.read(f"/sys/class/net/{ifname}/carrier", "0").strip() == "1"


def _speeds(hosts: Mapping[str, AgentDut], ends: Sequence[End]) -> dict[End, float]:
    told = {end: hosts[end.host].read(f"/sys/class/net/{end.ifname}/speed", "").strip() for end in ends}
    return {end: int(text) / 1000 for end, text in told.items() if re.fullmatch(r"[1-9]\d{0,6}", text)}


def _await_links(hosts: Mapping[str, AgentDut], ends: set[End]) -> set[End]:
    """Wait for links of ports that were set up just now; those that did not come."""
    deadline, waiting = time.monotonic() + _LINK_S, set(ends)
    while waiting := {end for end in waiting if not _carrier(hosts[end.host], end.ifname)}:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return waiting


def _start(dut: AgentDut, send: Sequence[str], listen: Sequence[str], nonce: str, number: int) -> DutProcess:
    asked = json.dumps({"ports": [*send, *listen], "may_send": len(send), "nonce": nonce, "host": number,
                        "seconds": _SECONDS})
    program = dut.spawn([dut.python(), "-I", "-c", _SCRIPT.read_text(encoding="utf-8"), asked], name="cable-frames")
    program.wait_output("^ready$", _READY_S)
    return program


def _send(programs: Mapping[str, DutProcess], ports: Mapping[str, Sequence[str]], live: Sequence[End]) -> None:
    """A port that cannot send now is one that nobody hears."""
    for end in live:
        index = list(ports[end.host]).index(end.ifname)
        programs[end.host].write(f"send {index} {_FRAMES}\n")
        programs[end.host].wait_output(rf"^(sent|failed) {index} ", _ANSWER_S)


def _heard(program: DutProcess, host: str, names: Sequence[str], order: Sequence[str],
           ports: Mapping[str, Sequence[str]]) -> set[tuple[End, End]]:
    program.write("heard\n")
    line = program.wait_output(r"^heard \[.*\]$", _ANSWER_S)
    try:
        rows = json.loads(re.sub(r"^heard ", "", line))
        pairs = set()
        for at, source, port, _ in rows[:4096]:
            if not (0 <= at < len(names) and 0 <= source < len(order) and 0 <= port < len(ports[order[source]])):
                raise ValueError("an end that there is not")
            pairs.add((End(order[source], ports[order[source]][port]), End(host, names[at])))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HostError(f"{host}: which frames it heard was not told as expected: {line[:200]!r}") from error
    return pairs
