# SPDX-License-Identifier: Apache-2.0
"""A testbed file against its hosts: is what it says true? What `harness doctor` asks, whether the hosts are fit to be
measured on, is not asked here; what the file expects of doctor's checks is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from harness.doctor.contract import HostView, PortView
from harness.doctor.examine import check_host
from harness.errors import HarnessError, HostNotRestored
from harness.flows import wire_plans
from harness.generator.trexhost.release import find_release
from harness.host.dut import AgentDut
from harness.host.inventory import Request
from harness.host.topology import Topology, listed
from harness.plan import GENERATOR_HOST, WirePlan
from harness.rack.cabling import End, Tried, try_cables
from harness.rack.look import Connections, HostSeen, Nic, look
from harness.records import Check
from harness.testbed import DutHost, Port, Testbed

_WHY = {
    "reached": "nothing is known of a host that cannot be asked",
    "port": "a port that is another one is measured, bound to DPDK, or cut off in its place",
    "management": "the interface that carries SSH must be known to be left alone",
    "link": "without a link every frame is lost",
    "link-speed": "line rate, and with it every bound of the search, is computed from it",
    "wires": "a wire in another port measures another path, or none",
    "cores": "stacks are pinned to cores that the file names",
    "trex": "the generator is started from there",
}


@dataclass
class _Open:
    """A host that was reached. ``ports``: interface of each of the file's ports, None where it is not to be used."""

    dut: AgentDut
    seen: HostSeen
    ports: dict[int, Nic | None]


def check_against_hosts(testbed: Testbed, say: Callable[[str], None]) -> list[Check]:
    """Every statement of the file that its hosts can prove or refute, status ok, fail or unknown. Ports that are down
    are up meanwhile; everything is put back."""
    checks: list[Check] = []
    with ExitStack() as owned:
        hosts: dict[str, _Open] = {}
        connections = Connections(owned)
        for name in (GENERATOR_HOST, *(dut.name for dut in testbed.duts)):
            say(f"looking at {name}")
            try:
                hosts[name] = _opened(testbed, name, connections)
            except HostNotRestored:
                raise
            except HarnessError as error:
                checks.append(_check("reached", name, "", "no", "yes", False, str(error)))
                continue
            checks.append(_check("reached", name, "", _how(hosts[name]), "yes", True))
            checks += _host_checks(testbed, hosts[name])
        say("sending marked frames over the wires")
        checks += _wire_checks(testbed, hosts)
        for name, host in hosts.items():
            checks += _expectations(testbed, name, host)
    return checks


def _check(name: str, host: str, target: str, value: str, expected: str, good: bool | None, remedy: str = "",
           reason: str = "") -> Check:
    status = {True: "ok", False: "fail", None: "unknown"}[good]
    return Check(name=name, host=host, target=_plain(target), value=_plain(value), expected=_plain(expected),
                 why=_WHY[name], remedy="" if good else _plain(remedy), status=status, policy="fail",
                 reason=_plain(reason))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:1000])


def _how(host: _Open) -> str:
    seen, first = host.seen, host.dut.name
    over = f", over the connection of {first}, which is at the same address" if first != seen.name else ""
    return f"yes, {seen.hostname or 'without a name'}, {len(seen.online) or '?'} cores{over}"


def _opened(testbed: Testbed, name: str, connections: Connections) -> _Open:
    generator = testbed.generator
    if name == GENERATOR_HOST:
        dut = connections.open(name, generator.ssh, generator.netns)
        seen = look(dut, generator.ssh, name=name, named=_named(generator.ports))
    else:
        about = testbed.dut(name)
        dut = connections.open(name, about.ssh)
        seen = look(dut, about.ssh, name=name, named=_named(about.ports), management=about.management)
    return _Open(dut, seen, {})


def _named(ports: Sequence[Port]) -> list[str]:
    return [name for port in ports for name in (port.ifname, port.pci) if name]


def _host_checks(testbed: Testbed, host: _Open) -> Iterator[Check]:
    name = host.seen.name
    about = testbed.generator if name == GENERATOR_HOST else testbed.dut(name)
    for index, port in enumerate(about.ports):
        yield _port_check(host, index, port)
    if isinstance(about, DutHost):
        yield _management(about, host.seen)
    yield from _cores(host.seen, about.cores, about if isinstance(about, DutHost) else None)
    if name == GENERATOR_HOST and testbed.generator.trex is not None:
        yield _trex(host.dut, testbed.generator.trex.dir)


def _trex(dut: AgentDut, directory: str) -> Check:
    """As a run would: its binary tells its version, and an interpreter imports its client."""
    expected = "an installation that runs, and a Python that imports its client"
    try:
        found = find_release(dut, directory)
    except HarnessError as error:
        return _check("trex", GENERATOR_HOST, directory, "of no use", expected, False, str(error))
    return _check("trex", GENERATOR_HOST, directory,
                  f"{found.version}; {found.python} ({found.python_version}) imports its client", expected, True)


def _port_check(host: _Open, index: int, port: Port) -> Check:
    """Whether interface, MAC and PCI address are of one and the same port, which may be used."""
    seen, said = host.seen, port.ifname or port.pci
    host.ports[index] = None
    by_mac = next((nic for nic in seen.nics if nic.mac == port.mac), None)
    nic = seen.nic(port.ifname) if port.ifname else next((nic for nic in seen.nics if nic.pci == port.pci), by_mac)
    expected = ", ".join(filter(None, (port.ifname, port.mac, port.pci)))

    def wrong(value: str, remedy: str) -> Check:
        return _check("port", seen.name, f"port {index} ({said})", value, expected, False, remedy)

    bound = next((one for one in seen.bound if one.pci == port.pci), None)
    if bound is not None:
        return _check("port", seen.name, f"port {index} ({said})", "", expected, None, reason=(
            f"{bound.pci} is bound to {bound.driver or 'no driver'}; its MAC and link cannot be seen by the kernel"))
    if nic is None:
        also = f"; {port.mac} is {by_mac.ifname}" if by_mac else ""
        names = ", ".join(one.ifname for one in seen.nics)
        return wrong(f"there is no such interface{also}", f"correct ports[{index}]; the host has {names or 'none'}")
    value = ", ".join(filter(None, (nic.ifname, nic.mac, nic.pci)))
    if nic.why_not:
        return wrong(f"{nic.ifname} is {nic.why_not}", "name a port that carries test traffic only")
    if nic.mac != port.mac:
        also = f", or ifname: {by_mac.ifname}, which has {port.mac}" if by_mac else ""
        return wrong(value, f"write mac: \"{nic.mac}\" in ports[{index}]{also}")
    if port.pci and nic.pci != port.pci:
        return wrong(value + ("" if nic.pci else ", which is on no PCI bus"),
                     f"write pci: \"{nic.pci}\" in ports[{index}]" if nic.pci else f"remove pci from ports[{index}]")
    host.ports[index] = nic
    return _check("port", seen.name, f"port {index} ({said})", value, expected, True)


def _management(about: DutHost, seen: HostSeen) -> Check:
    expected = about.management
    if not seen.management:
        return _check("management", seen.name, "", "", expected, None,
                      reason="the host does not tell by which interface SSH comes in")
    return _check("management", seen.name, "", seen.management, expected, seen.management == expected,
                  f"write management: {seen.management}")


def _cores(seen: HostSeen, given: tuple[int, ...], about: DutHost | None) -> Iterator[Check]:
    if not seen.topology:
        yield _check("cores", seen.name, "", "", listed(given), None, reason="lscpu tells no topology")
        return
    there, absent = listed(seen.online), [core for core in given if core not in seen.online]
    if about is not None and about.topology is not None and (
            Topology.parse(about.topology.cpus) != Topology.parse(seen.topology)):
        yield _check("cores", seen.name, "topology", f"{there}, otherwise arranged", "as the file says", False,
                     "paste anew into topology.cpus what `lscpu -p=CPU,CORE,SOCKET,NODE` prints there")
    elif about is not None and about.all_cores != max(seen.online) + 1:
        yield _check("cores", seen.name, "all_cores", str(max(seen.online) + 1), str(about.all_cores), False,
                     f"write all_cores: {max(seen.online) + 1}")
    else:
        yield _check("cores", seen.name, "", there, listed(given), not absent,
                     f"{listed(absent)} is not online; correct cores" if absent else "")


def _wire_checks(testbed: Testbed, hosts: Mapping[str, _Open]) -> Iterator[Check]:
    ports = {name: [nic.ifname for nic in host.ports.values() if nic] for name, host in hosts.items()}
    try:
        tried = try_cables({name: host.dut for name, host in hosts.items()}, ports, {})
    except HarnessError as error:
        yield _check("wires", "all", "", "frames could not be tried", "as the file says", False, str(error))
        return
    for name, host in hosts.items():
        yield from _link_checks(testbed, name, host, tried)
    plans = wire_plans(testbed)
    told: list[WirePlan] = []
    for one, other in _crossed(plans, hosts, tried):
        yield _crossed_check(one, other, hosts)
        told += [one, other]
    for plan in plans:
        if plan not in told:
            yield _wire_check(plan, hosts, tried)


def _link_checks(testbed: Testbed, name: str, host: _Open, tried: Tried) -> Iterator[Check]:
    told: set[tuple[str, float]] = set()  # a generator's port may have wires to several hosts
    for plan in wire_plans(testbed):
        index = plan.tg.index if name == GENERATOR_HOST else plan.dut.index
        nic = host.ports.get(index) if name in (GENERATOR_HOST, plan.host) else None
        if nic is None or (nic.ifname, plan.speed_gbps) in told:
            continue
        told.add((nic.ifname, plan.speed_gbps))
        end = End(name, nic.ifname)
        if end in tried.no_link:
            yield _check("link", name, nic.ifname, "no carrier", "up", False,
                         "look at the cable, the transceivers, and whether the other end's port is set up")
            continue
        yield _check("link", name, nic.ifname, "up", "up", True)
        speed = tried.speeds.get(end)
        good = None if speed is None or (plan.virtual and speed != plan.speed_gbps) else speed == plan.speed_gbps
        yield _check("link-speed", name, nic.ifname, "" if speed is None else f"{speed:g} Gbit/s",
                     f"{plan.speed_gbps:g} Gbit/s", good, f"write speed: {speed:g}G in its wire, or look at `ethtool "
                     f"{nic.ifname}` on both ends" if speed else "",
                     "the driver tells no speed, or a nominal one" if good is None else "")


def _ends(plan: WirePlan, hosts: Mapping[str, _Open]) -> tuple[End, End] | None:
    """The ends of a wire as interfaces; None where one of them is not to be had."""
    found = []
    for name, index in ((GENERATOR_HOST, plan.tg.index), (plan.host, plan.dut.index)):
        nic = hosts[name].ports.get(index) if name in hosts else None
        if nic is None:
            return None
        found.append(End(name, nic.ifname))
    return found[0], found[1]


def _crossed(plans: Sequence[WirePlan], hosts: Mapping[str, _Open], tried: Tried,
             ) -> Iterator[tuple[WirePlan, WirePlan]]:
    """Two wires of a host that go to each other's port, each wire in one pair at most."""
    left = list(plans)
    while left:
        one = left.pop(0)
        other = next((other for other in left if _swapped(one, other, hosts, tried)), None)
        if other is not None:
            left.remove(other)
            yield one, other


def _swapped(one: WirePlan, other: WirePlan, hosts: Mapping[str, _Open], tried: Tried) -> bool:
    first, second = _ends(one, hosts), _ends(other, hosts)
    if not first or not second or one.host != other.host or one.tg.index == other.tg.index:
        return False
    straight = tried.both_ways(*first) or tried.both_ways(*second)
    return not straight and tried.both_ways(first[0], second[1]) and tried.both_ways(second[0], first[1])


def _crossed_check(one: WirePlan, other: WirePlan, hosts: Mapping[str, _Open]) -> Check:
    """One finding of both wires."""
    first, second = _ends(one, hosts), _ends(other, hosts)
    assert first  # the ports heard each other
    assert second
    return _check(
        "wires", one.host, f"generator ports {one.tg.index} and {other.tg.index}",
        f"cabled the wrong way round: {first[0]} to {second[1]}, {second[0]} to {first[1]}",
        f"{first[0]} to {first[1]}, {second[0]} to {second[1]}", False,
        "swap the two cables at one end, or write under wires "
        f"{{tg: {one.tg.index}, dut: {one.host}/{other.dut.index}}} and "
        f"{{tg: {other.tg.index}, dut: {one.host}/{one.dut.index}}}")


def _wire_check(plan: WirePlan, hosts: Mapping[str, _Open], tried: Tried) -> Check:
    target = f"generator port {plan.tg.index} to {plan.host}/{plan.dut.index}"
    ends = _ends(plan, hosts)
    if ends is None:
        return _check("wires", plan.host, target, "", target, None, reason=(
            "one end cannot be tried (its host, its port, or a driver that is not the kernel's; see above). Once the "
            "generator serves, `harness doctor --testbed FILE` sends its frames"))
    dead = [str(end) for end in ends if end in tried.no_link]
    if dead:
        return _check("wires", plan.host, target, "", target, None, reason=f"{' and '.join(dead)} has no link")
    tg, end = ends
    hearers = tried.hearers(tg)
    if tried.both_ways(tg, end):
        also = [str(other) for other in hearers if other != end]
        switch = f"; through a switch, {', '.join(also)} too" if also else ""
        return _check("wires", plan.host, target, f"{tg} and {end} hear each other{switch}", target, True)
    value = f"{tg} is heard by {' and '.join(map(str, hearers))}" if hearers else f"nobody hears {tg}"
    if end in hearers:
        value = f"{end} hears {tg}, but not the other way round"
    return _check("wires", plan.host, target, value, f"{tg} and {end} hear each other", False,
                  "move the cable, or correct `wires` in the testbed file" if hearers else
                  "look at the cable, at what is between the ports, and at `wires` in the testbed file")


def _expectations(testbed: Testbed, name: str, host: _Open) -> list[Check]:
    """Doctor's checks for which the file names the value that is right."""
    named = {check for check, setting in testbed.checks.items() if setting.expect is not None}
    if not named:
        return []
    plans = wire_plans(testbed)
    side = "generator" if name == GENERATOR_HOST else "dut"
    ends = [(plan, plan.tg if side == "generator" else plan.dut) for plan in plans
            if side == "generator" or plan.host == name]
    ports = tuple(PortView(end, plan, nic.ifname if nic else "", "" if nic else "not as the file says")
                  for plan, end in ends for nic in [host.ports.get(end.index)])
    cores = testbed.generator.cores if side == "generator" else testbed.dut(name).cores
    survey = host.dut.survey(Request(tuple(port.ifname for port in ports if port.ifname), cores=cores, tools=False))
    view = HostView(name, side, survey, ports, cores, False, plans, 0)
    return [check for check in check_host(view, testbed.checks) if check.name in named]
