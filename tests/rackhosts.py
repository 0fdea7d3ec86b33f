# SPDX-License-Identifier: Apache-2.0
"""The rack of tests/rack.py with test ports wired as a lab's: a generator, DUTs, cables between them or a switch that
joins every generator port with a port of every DUT. Real frames, real sshd; needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.lab import netns, wires
from harness.lab.lab import enter_argv
from tests import rack as racks

#: What a test machine of two cores and no NICs cannot be.
CHECKS = {name: "ignore" for name in ("isolated-cores", "load", "irqbalance", "idle-states", "governor", "turbo", "smt",
                                      "packet-sockets", "hugepages", "firewall")}
GENERATOR = "tg"


@dataclass(frozen=True)
class RackPort:
    """An end of a wire: its namespace, device and MAC."""

    netns: str
    ifname: str
    mac: str


@dataclass
class RackHost:
    """A host of the rack and its test ports."""

    name: str
    inside: racks.Rack
    ports: list[RackPort]

    @property
    def netns(self) -> str:
        """Its namespace."""
        return self.inside.netns_of(self.name)

    @property
    def folder(self) -> Path:
        """Of its sshd, and of what its sessions have in place of the agent's folders."""
        return self.inside.folder / self.name

    def run(self, *argv: str) -> str:
        """The output of a program in its namespace."""
        return self.inside.run(self.name, *argv)

    def counter(self, port: int, name: str) -> int:
        """A counter of one of its test ports, such as ``rx_packets``."""
        return int(self.run("cat", f"/sys/class/net/{self.ports[port].ifname}/statistics/{name}"))

    def kill(self) -> None:
        """End everything that runs there at once, as a power failure does."""
        self.inside.kill(self.name)

    def start(self) -> None:
        """Its SSH server, again after :meth:`kill`."""
        self.inside.serve(self.name)

    def entry(self, cores: Sequence[int]) -> dict[str, Any]:
        """Of ``duts`` in a testbed file."""
        return {"name": self.name, "management": "eno1", "cores": list(cores), "all_cores": os.cpu_count() or 1,
                "ssh": self.inside.ssh(self.name),
                "ports": [{"mac": port.mac, "ifname": port.ifname} for port in self.ports]}


@dataclass
class Rack:
    """A rack that is up. ``hosts``: the DUTs."""

    inside: racks.Rack
    generator: RackHost
    hosts: dict[str, RackHost]
    wires: list[dict[str, Any]]

    @property
    def folder(self) -> Path:
        """For files of the tests."""
        return self.inside.folder

    @property
    def token(self) -> str:
        """Of this rack alone."""
        return self.inside.token

    @property
    def tg_netns(self) -> str:
        """Where the generator's ports are."""
        return self.generator.netns

    def testbed(self, **more: Any) -> Path:
        """Its testbed file; ``more``: other sections. Of two cores the generator has one and the hosts share one."""
        cores = sorted(os.sched_getaffinity(0))
        document = {
            "name": "rack", "wires": self.wires, "checks": CHECKS,
            "generator": {"netns": self.tg_netns, "cores": cores[:1],
                          "ports": [{"mac": port.mac, "ifname": port.ifname} for port in self.generator.ports]},
            "duts": [host.entry(cores[1:2]) for host in self.hosts.values()], **more}
        path = self.folder / "rack.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path


@contextlib.contextmanager
def rack(hosts: Sequence[str], *, switched: bool = False, ports: int = 2, joined: bool = False) -> Iterator[Rack]:
    """``ports`` of every host. Cabled: as many generator ports for each host. ``switched``: ``ports`` generator ports,
    each in a segment (a bridge) with that port of every host; ``joined``: all in one segment."""
    with racks.rack([GENERATOR, *hosts]) as inside:
        made = Rack(inside, RackHost(GENERATOR, inside, []), {name: RackHost(name, inside, []) for name in hosts}, [])
        for name in (GENERATOR, *hosts):
            netns.in_netns(inside.netns_of(name), wires._set_sysctls)
        (_switch if switched else _cables)(made, ports, joined)
        yield made


def _cables(made: Rack, ports: int, joined: bool) -> None:
    for number, host in enumerate(made.hosts.values()):
        for port in range(ports):
            tg = _port(made.tg_netns, made.token, "t", number * ports + port)
            end = _port(host.netns, made.token, "d", number * ports + port)
            _veth(tg, end)
            _plug(made, tg, host, end, number * ports + port)


def _switch(made: Rack, ports: int, joined: bool) -> None:
    switch = made.inside.netns_of("sw")
    for bridge in range(1 if joined else ports):
        _in(switch, f"ip link add br{bridge} type bridge forward_delay 0 && ip link set br{bridge} up")
    for port in range(ports):
        tg = _port(made.tg_netns, made.token, "t", port)
        _into_switch(made, tg, f"s{port}", 0 if joined else port)
        for number, host in enumerate(made.hosts.values()):
            end = _port(host.netns, made.token, "d", number * ports + port)
            _into_switch(made, end, f"u{number * ports + port}", 0 if joined else port)
            _plug(made, tg, host, end, port)


def _into_switch(made: Rack, end: RackPort, letter: str, bridge: int) -> None:
    there = RackPort(made.inside.netns_of("sw"), f"r{made.token}{letter}", _mac(made.token, 9, int(letter[1:]) + 16 * (
        letter[0] == "u")))
    _veth(end, there)
    _in(there.netns, f"ip link set {there.ifname} master br{bridge}")


def _plug(made: Rack, tg: RackPort, host: RackHost, end: RackPort, number: int) -> None:
    if tg not in made.generator.ports:
        made.generator.ports.append(tg)
    host.ports.append(end)
    made.wires.append({"tg": number, "dut": f"{host.name}/{len(host.ports) - 1}", "speed": "10G", "virtual": True})


def _port(namespace: str, token: str, letter: str, number: int) -> RackPort:
    return RackPort(namespace, f"r{token}{letter}{number}", _mac(token, 1 if letter == "t" else 2, number))


def _mac(token: str, kind: int, number: int) -> str:
    return f"02:{token[:2]}:{token[2:]}:00:{kind:02x}:{number:02x}"


def _veth(one: RackPort, other: RackPort) -> None:
    """As the lab makes its wires: frames complete when they leave, a NAPI at the receiver."""
    queues = f"numtxqueues {os.cpu_count()} numrxqueues {os.cpu_count()}"
    _in(one.netns, f"ip link add {one.ifname} address {one.mac} {queues} type veth peer name {other.ifname} address "
                   f"{other.mac} {queues} netns {other.netns}")
    for end in (one, other):
        _in(end.netns, f"ethtool -K {end.ifname} {' '.join(wires._FEATURES)} && ip link set {end.ifname} up")
    for end in (one, other):
        _in(end.netns, f"ethtool -K {end.ifname} gro on && echo 1 > /sys/class/net/{end.ifname}/threaded")


def _in(namespace: str, script: str) -> None:
    subprocess.run(enter_argv(namespace, ["sh", "-ec", script]), check=True, capture_output=True, timeout=30)
