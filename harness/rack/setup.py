# SPDX-License-Identifier: Apache-2.0
"""From what a user asked to the text of a testbed file: connect, look, try the cables, choose, write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.errors import HarnessError, HostNotRestored, TestbedError, UsageError
from harness.host.dut import AgentDut
from harness.plan import GENERATOR_HOST
from harness.rack.cabling import try_cables
from harness.rack.choose import Choice, choose
from harness.rack.look import Connections, HostSeen, Nic, look
from harness.rack.write import text_of_testbed
from harness.testbed import LAB, Jump, Ssh
from harness.texttable import columns
from harness.units import shown

_LOGIN = re.compile(r"(?:(?P<user>[^@/\s]+)@)?(?P<address>[^@/\s:]+)(?::(?P<port>\d{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LOCAL = "local"
#: Asks which of a host's ports to try: (host, names) -> names.
Ask = Callable[[str, list[str]], list[str]]
_Way = TypeVar("_Way", bound=Jump)


@dataclass(frozen=True)
class Asked:
    """Hosts in order, the generator first (None: this machine), ports by host (all where there are none), TRex."""

    hosts: dict[str, Ssh | None]
    ports: dict[str, list[str]]
    trex: str

    @classmethod
    def of(cls, generator: str, duts: Sequence[str], ports: Sequence[str], *, key: str = "", known_hosts: str = "",
           jump: str = "", trex: str = "") -> Asked:
        """From the words of the command line. Raises UsageError."""
        if not generator:
            raise UsageError("which host is the generator? --generator USER@HOST[:PORT], or --generator local")
        if not duts:
            raise UsageError("which hosts are to be tested? --dut NAME=USER@HOST[:PORT] for each")
        more = {"key": key, "known_hosts": known_hosts}
        way = {**more, "jump": _login("--jump", jump, more, Jump)} if jump else more
        hosts: dict[str, Ssh | None] = {GENERATOR_HOST: None}
        if generator != _LOCAL:
            hosts[GENERATOR_HOST] = _login("--generator", generator, way, Ssh)
        for text in duts:
            name, equals, login = text.partition("=")
            if not equals or not _NAME.fullmatch(name):
                raise UsageError(f"--dut {shown(text)}: write it like sut1=root@sut1.example.net")
            if name in hosts:
                raise UsageError(f"--dut {shown(text)}: {name} is taken; choose another name")
            hosts[name] = _login("--dut", login, way, Ssh)
        if trex and not re.fullmatch(r"/[A-Za-z0-9/_.+ -]+", trex):
            raise UsageError(f"--trex {shown(trex)}: write the whole path, such as /opt/trex/v3.08")
        return cls(hosts, _ports_by_host(ports, hosts), trex)


def _login(option: str, text: str, more: dict[str, Any], kind: type[_Way]) -> _Way:
    found = _LOGIN.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {shown(text)}: write it like root@host.example.net, or root@host.example.net:2222")
    given = {name: value for name, value in {**found.groupdict(), **more}.items() if value}
    try:
        return kind.model_validate({**given, "port": int(found["port"] or 22)})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{option} {shown(text)}: {first['loc'][0]}: {shown(first['input'])} does not fit") from None


def _ports_by_host(ports: Sequence[str], hosts: dict[str, Ssh | None]) -> dict[str, list[str]]:
    by_host: dict[str, list[str]] = {}
    for text in ports:
        host, slash, ifname = text.partition("/")
        if not slash or host not in hosts or not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,14}", ifname):
            raise UsageError(f"--port {shown(text)}: write it like {list(hosts)[-1]}/enp3s0f0; hosts are "
                             f"{', '.join(hosts)}")
        by_host.setdefault(host, []).append(ifname)
    return by_host


@dataclass(frozen=True)
class SetUp:
    """What was found, and the file's text. ``missing``: what is to be filled in."""

    generator: HostSeen
    duts: tuple[HostSeen, ...]
    chosen: Choice
    text: str
    missing: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "hosts": [{"name": host.name, "hostname": host.hostname, "management": host.management,
                       "cores": list(host.online), "ports": [vars(nic) for nic in host.nics],
                       "bound": [vars(one) for one in host.bound], "trex": [vars(one) for one in host.trex]}
                      for host in (self.generator, *self.duts)],
            "wires": [vars(cable) for cable in self.chosen.cables],
            "notes": list(self.chosen.notes), "missing": list(self.missing)}

    def summary(self) -> str:
        """Hosts, ports and wires for a person."""
        rows = [("host", "port", "driver", "PCI", "MAC", "is")]
        ends = {(GENERATOR_HOST, nic.ifname): f"port {index}" for index, nic in enumerate(self.chosen.tg)}
        for dut, ports in zip(self.duts, self.chosen.duts, strict=True):
            ends |= {(dut.name, nic.ifname): f"port {index}" for index, nic in enumerate(ports)}
        for host in (self.generator, *self.duts):
            for nic in host.nics:
                what = ends.get((host.name, nic.ifname)) or nic.why_not or "not cabled to the other side"
                rows.append((host.name, nic.ifname, nic.driver or "-", nic.pci or "-", nic.mac, what))
            rows += [(host.name, "-", one.driver or "none", one.pci, "-", "not the kernel's: not tried")
                     for one in host.bound]
        wires = [f"wire: generator port {cable.tg} to {cable.host}/{cable.port}, "
                 f"{'speed not known' if cable.speed is None else f'{cable.speed:g}G'}"
                 + (", virtual" if cable.virtual else "") for cable in self.chosen.cables]
        trex = [f"TRex: {one.dir} ({one.version or 'version not known'})" for one in self.generator.trex]
        told = [*wires, *(trex or ["TRex: none found; without one the generator is xdpgen, started by hand"]),
                *(f"note: {note}" for note in self.chosen.notes), *(f"missing: {text}" for text in self.missing)]
        return columns(rows) + "\n" + columns([(line,) for line in told])


def set_up(asked: Asked, name: str, say: Callable[[str], None], ask: Ask | None) -> SetUp:
    """Look at the hosts and find the wires. Everything is put back before this returns. Raises TestbedError with what
    keeps hosts from being reached, all of them; UsageError before anything is looked at."""
    if not _NAME.fullmatch(name) or name == LAB:
        raise UsageError(f"--name {shown(name)}: letters, digits, ., _ and -, 63 at most, and not {LAB}")
    with ExitStack() as owned:
        duts, seen = _looked_at(asked, say, owned)
        narrowed = {host: _narrowed(one, asked.ports.get(host), ask) for host, one in seen.items()}
        ports = {host: [nic.ifname for nic in one.candidates()] for host, one in narrowed.items()}
        same = {host: [other for other in duts if duts[other] is duts[host]] for host in duts}
        _need_divided(same, ports)
        kept_off = {host: [nic.ifname for nic in one.nics if nic.why_not and nic.up and not any(
            nic.ifname in ports[other] for other in same[host])] for host, one in narrowed.items()}
        say("sending a marked frame out of " + ", ".join(f"{host} {' '.join(names) or 'nothing'}"
                                                        for host, names in ports.items()))
        tried = try_cables(duts, ports, kept_off)
    generator, *others = narrowed.values()
    chosen = choose(generator, others, tried)
    text, missing = text_of_testbed(name, generator, others, chosen)
    return SetUp(generator, tuple(others), chosen, text, missing)


def _looked_at(asked: Asked, say: Callable[[str], None], owned: ExitStack,
               ) -> tuple[dict[str, AgentDut], dict[str, HostSeen]]:
    duts: dict[str, AgentDut] = {}
    seen: dict[str, HostSeen] = {}
    problems = []
    connections = Connections(owned)
    for host, ssh in asked.hosts.items():
        say(f"looking at {host} ({f'{ssh.user}@{ssh.address}:{ssh.port}' if ssh else 'this machine'})")
        try:
            duts[host] = connections.open(host, ssh)
            trex = asked.trex if host == GENERATOR_HOST else ""
            seen[host] = look(duts[host], ssh, name=host, trex=trex, named=asked.ports.get(host, ()))
        except HostNotRestored:
            raise
        except HarnessError as error:
            problems.append(f"{host}: {error}")
    if problems:
        raise TestbedError("\n".join(problems) + "\nNothing was written.")
    return duts, seen


def _narrowed(host: HostSeen, named: Sequence[str] | None, ask: Ask | None) -> HostSeen:
    """The host with those candidates only that were named, or chosen when asked. Raises UsageError, TestbedError."""
    if named is None and ask is not None and host.candidates():
        named = ask(host.name, [nic.ifname for nic in host.candidates()])
    if named is None:
        return host
    for ifname in named:
        nic = host.nic(ifname)
        if nic is None:
            there = ", ".join(nic.ifname for nic in host.nics)
            raise UsageError(f"{host.name} has no interface {ifname}; it has {there or 'none'}")
        if nic.why_not:
            raise TestbedError(f"{ifname} of {host.name} is {nic.why_not}; it is never a test port, and nothing was "
                               "sent")
    return replace(host, nics=tuple(_kept(nic, named) for nic in host.nics))


def _need_divided(same: Mapping[str, Sequence[str]], ports: Mapping[str, Sequence[str]]) -> None:
    """Raise UsageError where names of one host (``same``, by name) could have the same port."""
    for host, others in same.items():
        for other in others:
            both = [ifname for ifname in ports[host] if ifname in ports[other]]
            if other != host and both:
                raise UsageError(f"{host} and {other} are one host, and {', '.join(both)} could be a port of either; "
                                 f"divide its ports between them: --port {host}/{both[0]} --port {other}/"
                                 f"{both[1] if len(both) > 1 else 'IFNAME'} ...")


def _kept(nic: Nic, named: Sequence[str]) -> Nic:
    return nic if nic.why_not or nic.ifname in named else replace(nic, why_not="not chosen")
