# SPDX-License-Identifier: Apache-2.0
"""What a host has: ports and which of them may be test ports, cores, the management interface, TRex.

What a host says is untrusted: names and addresses that do not look like such are left out, texts are bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HostError
from harness.host.dut import AgentDut, SshDut
from harness.host.facts import topology
from harness.host.guard import protected
from harness.host.inventory import Request, Survey, line_of, whole_of
from harness.host.link import ALONE, DUT_PART, GENERATOR_PART, Member, new_run
from harness.host.local import local_dut
from harness.host.topology import Topology, interrupt_cores
from harness.lab.lab import enter_argv
from harness.plan import GENERATOR_HOST
from harness.rack import there
from harness.sites import target_of
from harness.testbed import Ssh

_SCRIPT = Path(there.__file__)
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,14}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{0,40}")
_FOLDER = re.compile(r"/[A-Za-z0-9/_.+ -]{1,200}")
#: Drivers that hand a device to user space; others have an interface, if in another namespace.
_USER_DRIVERS = ("vfio-pci", "igb_uio", "uio_pci_generic", "pci-stub", "")
_TEST_NETWORKS = ("198.18.", "198.19.", "2001:2:")


@dataclass(frozen=True)
class Nic:
    """An interface of the kernel. ``why_not``: why it is no candidate for a test port; "" where it is one.
    ``physical``: a device on a bus. ``node``: NUMA."""

    ifname: str
    mac: str
    pci: str
    driver: str
    node: int | None
    up: bool
    carrier: bool
    physical: bool
    why_not: str = ""


@dataclass(frozen=True)
class Bound:
    """A network device that the kernel's drivers do not have: ``driver`` does, "" for none."""

    pci: str
    driver: str


@dataclass(frozen=True)
class TrexFound:
    """A TRex installation; ``version`` "" where it does not say."""

    dir: str
    version: str


@dataclass(frozen=True)
class HostSeen:
    """A host. ``ssh`` None: this machine. ``topology``: rows of lscpu, "" where the host tells none. ``management``:
    the interface by which SSH comes in, or the default route's; "" where neither is known. ``busy``: cores on which its
    interrupts arrive."""

    name: str
    ssh: Ssh | None
    hostname: str
    kernel: str
    boot: str
    topology: str
    online: tuple[int, ...]
    management: str
    busy: tuple[int, ...]
    nics: tuple[Nic, ...]
    bound: tuple[Bound, ...]
    trex: tuple[TrexFound, ...]
    pythons: tuple[str, ...]

    def candidates(self) -> list[Nic]:
        """The ports that may be test ports."""
        return [nic for nic in self.nics if not nic.why_not]

    def nic(self, ifname: str) -> Nic | None:
        """The interface of this name."""
        return next((nic for nic in self.nics if nic.ifname == ifname), None)


@contextmanager
def open_host(name: str, ssh: Ssh | None, netns: str = "", run: str = "") -> Iterator[AgentDut]:
    """Connect to a host, start the agent there and take the host's lock; on leaving everything is undone. Without
    ``ssh``: this machine, or a namespace of it. ``run``: a secret by which generator and DUT may be one machine under
    two names. Raises TestbedError with the remedy."""
    if ssh is not None:
        member = Member(run, GENERATOR_PART if name == GENERATOR_HOST else DUT_PART) if run else ALONE
        with SshDut.connect(name, target_of(ssh), member=member) as dut:
            yield dut
    else:
        with local_dut(prefix=enter_argv(netns, []) if netns else (), name=name) as dut:
            yield dut


class Connections:
    """Opens hosts until ``owned`` closes. Names that are reached at one address share a connection and its agent: a
    second one would be refused, since the first has the host's lock."""

    def __init__(self, owned: ExitStack) -> None:
        self._owned = owned
        self._run = new_run()
        self._opened: dict[tuple[object, ...], AgentDut] = {}

    def open(self, name: str, ssh: Ssh | None, netns: str = "") -> AgentDut:
        """As :func:`open_host`; ``name`` of the result is that of the first who asked."""
        way: tuple[object, ...] = (netns,)
        if ssh is not None:
            jump = (ssh.jump.address, ssh.jump.port) if ssh.jump is not None else ()
            way = (ssh.address, ssh.port, ssh.netns, jump)
        if way not in self._opened:
            self._opened[way] = self._owned.enter_context(open_host(name, ssh, netns, self._run))
        return self._opened[way]


def look(dut: AgentDut, ssh: Ssh | None, *, name: str, trex: str = "", named: Sequence[str] = (),
         management: str = "") -> HostSeen:
    """What a connected host has; changes nothing. ``name``: what the testbed calls it. ``named``: ports that the user
    named, by interface or PCI address, which may then be of software or carry an address. ``management``: what the
    testbed file says it is. Raises HostError."""
    survey = dut.survey(Request(ports=tuple(named), tools=False))
    told = _told(dut, trex)
    addresses = _addresses(survey)
    session = _carrier_of(survey, told.get("session"))
    kept_off = protected(dut, management or session)
    seen = _nics(survey, addresses, kept_off, named, _above(told))
    rows = topology(survey) or ""
    try:
        online = tuple(cpu.cpu for cpu in Topology.parse(rows).cpus)
    except ValueError:
        rows, online = "", ()
    found = session or next((name for name, why in kept_off.items() if "default route" in why), "")
    return HostSeen(
        name, ssh, _text(told.get("hostname")), line_of(survey.line("/proc/sys/kernel/osrelease")) or "",
        survey.line("/proc/sys/kernel/random/boot_id") or "", rows, online, found,
        interrupt_cores(dut, found) if found else (), tuple(seen), _bound(told), _trex(told),
        tuple(text for text in map(_text, _list(told, "pythons")) if text))


def _told(dut: AgentDut, trex: str) -> Mapping[str, Any]:
    argv = [dut.python(), "-I", "-c", _SCRIPT.read_text(encoding="utf-8"), json.dumps({"trex": trex})]
    text = dut.run(argv).stdout
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HostError(f"{dut.name}: what was asked of it was not answered in JSON: {text[:200]!r}") from error
    return told if isinstance(told, dict) else {}


def _list(told: Mapping[str, Any], key: str) -> list[Any]:
    value = told.get(key)
    return value[:64] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else ""


def _addresses(survey: Survey, *, link_local: bool = False) -> dict[str, list[str]]:
    """Addresses by interface, link-local ones left out unless asked for."""
    found: dict[str, list[str]] = {}
    for row in survey.json_of("addresses") or []:
        infos = row.get("addr_info") if isinstance(row, dict) else None
        for info in infos if isinstance(infos, list) else []:
            if isinstance(info, dict) and (link_local or info.get("scope") != "link"):
                found.setdefault(str(row.get("ifname"))[:15], []).append(str(info.get("local"))[:45])
    return found


def _carrier_of(survey: Survey, session: object) -> str:
    """The interface that has the address to which the SSH client came; "" where none has. That address may be a
    link-local one (``fe80::1%eth0``) or IPv4 within IPv6."""
    text, _, zone = (session if isinstance(session, str) else "").partition("%")
    text = text[7:] if text.lower().startswith("::ffff:") and "." in text else text
    having = [name for name, there in _addresses(survey, link_local=True).items() if text and text in there]
    return zone if zone in having else next(iter(having), "")


def _above(told: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is stacked on an interface. None of it is left out for its name: it would make a port a candidate."""
    given = told.get("above")
    return {name[:15]: [str(upper)[:15] for upper in uppers] for name, uppers in given.items()
            if isinstance(uppers, list)} if isinstance(given, dict) else {}


def _nics(survey: Survey, addresses: Mapping[str, Sequence[str]], kept_off: Mapping[str, str], named: Sequence[str],
          above: Mapping[str, Sequence[str]]) -> list[Nic]:
    names = [name for name in survey.names("interfaces") if _NAME.fullmatch(name)]
    some_physical = any(survey.at("interfaces", name, "device") is not None for name in names if name not in kept_off)
    found = []
    for name in names:
        nic = _nic(survey, name)
        why = kept_off.get(name, "") or _carries(above.get(name, ()), addresses)
        if not why and name not in named and (not nic.pci or nic.pci not in named):
            why = _in_use(survey, nic, addresses.get(name, ()), above.get(name, ()), some_physical)
        if _MAC.fullmatch(nic.mac) and not int(nic.mac[:2], 16) & 1:
            found.append(Nic(**{**vars(nic), "why_not": why}))
    return sorted(found, key=order)


def order(nic: Nic) -> tuple[object, ...]:
    """By PCI address, then by name with numbers as such."""
    return (nic.pci or "~", [(int(part), "") if part.isdigit() else (-1, part)
                             for part in re.findall(r"\d{1,9}|\D+", nic.ifname)])


def _nic(survey: Survey, name: str) -> Nic:
    at = ("interfaces", name)
    flags = line_of(survey.at(*at, "flags")) or ""
    pci, node = line_of(survey.at(*at, "pci", "address")) or "", whole_of(survey.at(*at, "pci", "numa_node"))
    return Nic(
        name, (line_of(survey.at(*at, "address")) or "").lower(), pci if _PCI.fullmatch(pci) else "",
        _text(survey.at(*at, "driver", "driver")), node if node is not None and 0 <= node < 1024 else None,
        bool(re.fullmatch(r"0x[0-9a-f]{1,8}", flags)) and bool(int(flags, 16) & 1),
        line_of(survey.at(*at, "carrier")) == "1", survey.at(*at, "device") is not None)


def _foreign(addresses: Sequence[str]) -> list[str]:
    """Those that are not of the test networks."""
    return [address for address in addresses if not address.startswith(_TEST_NETWORKS)]


def _carries(uppers: Sequence[str], addresses: Mapping[str, Sequence[str]]) -> str:
    """Why an interface is left alone even where the user names it: a VLAN, macvlan or the like on top of it is used,
    for storage for instance, and would be cut off by a run."""
    for upper in uppers:
        for address in _foreign(addresses.get(upper, ())):
            return f"in use: {_upper_name(upper)}, which is on top of it, has the address {address}"
    return ""


def _upper_name(name: str) -> str:
    return name if _NAME.fullmatch(name) else "another interface"


def _in_use(survey: Survey, nic: Nic, addresses: Sequence[str], uppers: Sequence[str], some_physical: bool) -> str:
    """Why an interface is left alone although it is not the way to the host."""
    master = survey.at("interfaces", nic.ifname, "master")
    foreign = _foreign(addresses)
    if master:
        return f"part of {_text(master) or 'another interface'}"
    if foreign:
        return f"in use: it has the address {foreign[0]}"
    if uppers:
        return f"in use: {_upper_name(uppers[0])} is on top of it"
    if not nic.physical and (some_physical or nic.driver not in ("veth", "")):
        return "of software"
    return ""


def _bound(told: Mapping[str, Any]) -> tuple[Bound, ...]:
    return tuple(Bound(row["pci"], _text(row.get("driver"))) for row in _list(told, "devices")
                 if isinstance(row, dict) and not row.get("interfaces") and _PCI.fullmatch(str(row.get("pci")))
                 and row.get("driver") in _USER_DRIVERS)


def _trex(told: Mapping[str, Any]) -> tuple[TrexFound, ...]:
    """The newest first."""
    found = [TrexFound(row["dir"], _text(row.get("version"))) for row in _list(told, "trex")
             if isinstance(row, dict) and _FOLDER.fullmatch(str(row.get("dir")))]
    return tuple(sorted(found, key=lambda one: [int(part) for part in re.findall(r"\d{1,4}", one.version)],
                        reverse=True))
