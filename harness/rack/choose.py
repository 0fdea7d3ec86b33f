# SPDX-License-Identifier: Apache-2.0
"""Which of what the hosts have becomes the testbed: ports that are cabled to each other, cores near them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.host.topology import Topology
from harness.lab.addresses import MOST_WIRES
from harness.plan import GENERATOR_HOST
from harness.rack.cabling import End, Tried
from harness.rack.look import HostSeen, Nic

_MOST_CORES = 16


@dataclass(frozen=True)
class Cable:
    """A wire of the testbed: index of the generator's port, DUT, index of its port; ``speed`` Gbit/s, None: neither end
    says, or they differ. ``shared``: the generator's port has a wire to an earlier DUT already, through a switch."""

    tg: int
    host: str
    port: int
    speed: float | None
    virtual: bool
    shared: bool


@dataclass(frozen=True)
class Choice:
    """Ports of the generator and of each DUT (in the hosts' order) and the wires between them. ``notes``: what was
    found besides. ``missing``: what keeps the file from being complete, and what to do."""

    tg: tuple[Nic, ...]
    duts: tuple[tuple[Nic, ...], ...]
    cables: tuple[Cable, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def choose(generator: HostSeen, duts: Sequence[HostSeen], tried: Tried) -> Choice:
    """Ports that hear each other both ways, in the order of their PCI addresses; no more than a testbed may have."""
    pairs: list[tuple[Nic, str, Nic]] = []
    for dut in duts:
        pairs += _pairs(generator, dut, tried)
    over, pairs = len(pairs) - MOST_WIRES, pairs[:MOST_WIRES]
    tg = tuple(nic for nic in generator.nics if nic in [pair[0] for pair in pairs])
    ports = tuple(tuple(nic for nic in dut.nics if (dut.name, nic) in [pair[1:] for pair in pairs]) for dut in duts)
    cables: list[Cable] = []
    for dut, there in zip(duts, ports, strict=True):
        for one, host, other in pairs:
            if host == dut.name:
                index = tg.index(one)
                speed = tried.speeds.get(End(generator.name, one.ifname))
                same = speed == tried.speeds.get(End(host, other.ifname))
                cables.append(Cable(index, host, there.index(other), speed if same else None,
                                    not (one.physical and other.physical), index in [c.tg for c in cables]))
    more = [f"{over} more wires were found; a testbed has at most {MOST_WIRES}"] if over > 0 else []
    return Choice(tg, ports, tuple(cables), (*_notes(generator, duts, tried), *more),
                  tuple(_missing(generator, duts, cables, tried, tg, ports)))


def _pairs(generator: HostSeen, dut: HostSeen, tried: Tried) -> list[tuple[Nic, str, Nic]]:
    """Each port once; those with the fewest partners first, so that a switch leaves a cable its own."""
    reach = {one.ifname: [other for other in dut.candidates() if tried.both_ways(
        End(generator.name, one.ifname), End(dut.name, other.ifname))] for one in generator.candidates()}
    used: list[Nic] = []
    found: list[tuple[Nic, str, Nic]] = []
    for one in sorted(generator.candidates(), key=lambda nic: len(reach[nic.ifname])):
        free = next((other for other in reach[one.ifname] if other not in used), None)
        if free is not None:
            used.append(free)
            found.append((one, dut.name, free))
    return sorted(found, key=lambda pair: generator.nics.index(pair[0]))


def _notes(generator: HostSeen, duts: Sequence[HostSeen], tried: Tried) -> list[str]:
    notes, hosts = [], {host.name: host for host in (generator, *duts)}
    for sender in sorted({source for source, _ in tried.heard}):
        hearers = tried.hearers(sender)
        kept_off = [at for at in hearers if (nic := hosts[at.host].nic(at.ifname)) is None or nic.why_not]
        if kept_off:
            notes.append(f"{sender} is in one network with {_all(kept_off)}, which is not for test traffic; move its "
                         "cable before anything is measured")
        if len(hearers) > 1:
            notes.append(f"{sender} is heard by {_all(hearers)}: a switch is between them")
        notes += [f"{sender} reaches {at}, but not the other way round; look at the cable"
                  for at in hearers if (at, sender) not in tried.heard and at not in kept_off]
        notes += [f"{sender} and {at} are cabled to each other, and neither is wired for a test" for at in hearers
                  if at > sender and (at.host == GENERATOR_HOST) == (sender.host == GENERATOR_HOST) and
                  len(hearers) == 1]
    boots: dict[str, str] = {}
    for host in hosts.values():
        if host.boot and host.boot in boots:
            notes.append(f"{host.name} and {boots[host.boot]} are one machine: divide its cores between them by hand")
        boots.setdefault(host.boot, host.name)
    return notes


def _all(ends: Sequence[End]) -> str:
    return ", ".join(map(str, ends[:6])) + (f" and {len(ends) - 6} more" if len(ends) > 6 else "")


def _missing(generator: HostSeen, duts: Sequence[HostSeen], cables: Sequence[Cable], tried: Tried,
             tg: Sequence[Nic], ports: Sequence[Sequence[Nic]]) -> list[str]:
    said = []
    for dut in duts:
        if not any(cable.host == dut.name for cable in cables):
            said.append(f"no port of {dut.name} was reached from the generator: "
                        f"{_why_none(generator, tried)}; {_why_none(dut, tried)}")
        if not dut.management:
            said.append(f"the management interface of {dut.name} is not known: fill in `management`")
        if not dut.topology:
            said.append(f"{dut.name} does not tell its cores (lscpu): fill in `cores` and `all_cores`")
    for cable in cables:
        if cable.speed is None:
            one, other = tg[cable.tg], ports[[dut.name for dut in duts].index(cable.host)][cable.port]
            ends = (End(generator.name, one.ifname), End(cable.host, other.ifname))
            told = " and ".join(f"{end} says {_speed(tried, end)}" for end in ends)
            said.append(f"{told}: fill in the wire's `speed`")
    return said


def _speed(tried: Tried, end: End) -> str:
    return f"{tried.speeds[end]:g}G" if end in tried.speeds else "no speed"


def _why_none(host: HostSeen, tried: Tried) -> str:
    dead = [nic.ifname for nic in host.candidates() if End(host.name, nic.ifname) in tried.no_link]
    live = [nic.ifname for nic in host.candidates() if nic.ifname not in dead]
    words = [f"{', '.join(live)} heard nothing of it" if live else "",
             f"{', '.join(dead)} without a link (look at the cable and at the other end)" if dead else "",
             f"{', '.join(one.pci for one in host.bound)} bound to {host.bound[0].driver or 'no driver'}, where frames "
             "cannot be tried (give them back to the kernel for this, or fill the ports in)" if host.bound else ""]
    return f"{host.name} has " + ("; ".join(filter(None, words)) or "no port that may be used for a test")


def generator_cores(host: HostSeen, ports: Sequence[Nic]) -> tuple[int, ...]:
    """Physical cores on the node of its ports, without core 0 and the management interface's where others are left, at
    most 16, ascending; none where the host does not tell its cores."""
    if not host.topology:
        return ()
    cpus = Topology.parse(host.topology)
    node = node_of(ports)
    given = cpus.order(node, host.busy)
    near = [core for core in given if node is None or (found := cpus.find(core)) is None or found.node in (-1, node)]
    free = [core for core in near if core != 0 and core not in host.busy]
    return tuple(sorted((free or near or given)[:_MOST_CORES]))


def node_of(ports: Sequence[Nic]) -> int | None:
    """The NUMA node of all ports; None where they differ or do not say."""
    nodes = {nic.node for nic in ports}
    return nodes.pop() if len(nodes) == 1 else None
