# SPDX-License-Identifier: Apache-2.0
"""A rack in namespaces of this machine: a generator, hosts each with an SSH server and agent of its own, cables between
them or a switch that joins every generator port with a port of every host. Real frames, real sshd; needs root."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from harness.host.dut import RUN_DIR, STATE_DIR
from harness.lab import netns, sshd, wires
from harness.lab.lab import enter_argv
from harness.lab.process import stop_all

#: What a test machine of two cores and no NICs cannot be.
CHECKS = {name: "ignore" for name in ("isolated-cores", "load", "irqbalance", "idle-states", "governor", "turbo", "smt",
                                      "packet-sockets", "hugepages", "firewall")}
#: Of every host, seen from inside its namespace: a host may be known under more than one.
_LOOPBACK = "127.0.0.1"
ADDRESSES = (_LOOPBACK, "127.0.0.2", "127.0.0.3")


@dataclass(frozen=True)
class RackPort:
    """An end of a wire: its namespace, device and MAC."""

    netns: str
    ifname: str
    mac: str


@dataclass
class RackHost:
    """A host: namespace, folder of its SSH keys, server process, test ports."""

    name: str
    netns: str
    folder: Path
    ports: list[RackPort]
    server: subprocess.Popen[bytes] | None = None

    def run(self, *argv: str) -> str:
        """The output of a program in its namespace."""
        done = subprocess.run(enter_argv(self.netns, argv), capture_output=True, text=True, check=True, timeout=30)
        return done.stdout

    def counter(self, port: int, name: str) -> int:
        """A counter of one of its test ports, such as ``rx_packets``."""
        return int(self.run("cat", f"/sys/class/net/{self.ports[port].ifname}/statistics/{name}"))

    def kill(self) -> None:
        """End everything that runs there at once, as a power failure does: SSH server, agent, stacks."""
        stop_all(partial(_processes, [self.netns]))
        if self.server is not None:
            self.server.wait(timeout=5)

    def start(self) -> None:
        """Its SSH server, again after :meth:`kill`; what a killed agent left is there still."""
        _serve(self)

    def entry(self, cores: Sequence[int]) -> dict[str, Any]:
        """Of ``duts`` in a testbed file."""
        return {"name": self.name, "management": "lo", "cores": list(cores), "all_cores": os.cpu_count() or 1,
                "ssh": {"address": _LOOPBACK, "netns": self.netns, "key": str(self.folder / "client_key"),
                        "known_hosts": str(self.folder / "known_hosts")},
                "ports": [{"mac": port.mac, "ifname": port.ifname} for port in self.ports]}


@dataclass
class Rack:
    """A rack that is up."""

    token: str
    folder: Path
    generator: list[RackPort]
    hosts: dict[str, RackHost]
    wires: list[dict[str, Any]]

    @property
    def tg_netns(self) -> str:
        """Where the generator's ports are."""
        return f"rk{self.token}-tg"

    def testbed(self, **more: Any) -> Path:
        """Its testbed file; ``more``: other sections. Of two cores the generator has one and the hosts share one."""
        cores = sorted(os.sched_getaffinity(0))
        document = {
            "name": "rack", "wires": self.wires, "checks": CHECKS,
            "generator": {"netns": self.tg_netns, "cores": cores[:1],
                          "ports": [{"mac": port.mac, "ifname": port.ifname} for port in self.generator]},
            "duts": [host.entry(cores[1:2]) for host in self.hosts.values()], **more}
        path = self.folder / "rack.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path


@contextlib.contextmanager
def rack(hosts: Sequence[str], *, switched: bool = False, ports: int = 2, joined: bool = False) -> Iterator[Rack]:
    """``ports`` of every host. Cabled: as many generator ports for each host. ``switched``: ``ports`` generator ports,
    each in a segment (a bridge) with that port of every host; ``joined``: all in one segment."""
    with contextlib.ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="rack-")))
        token = secrets.token_hex(2)
        made = Rack(token, folder, [], {}, [])
        names = [made.tg_netns, *(f"rk{token}-{name}" for name in hosts), *([f"rk{token}-sw"] if switched else [])]
        undo.callback(_remove, made, names)
        netns.prepare_directory()
        for name in names:
            netns.create(name)
            netns.in_netns(name, wires._set_sysctls)
            _in(name, "ip link set lo up")
        made.hosts = {name: RackHost(name, f"rk{token}-{name}", folder / name, []) for name in hosts}
        (_switch if switched else _cables)(made, ports, joined)
        for host in made.hosts.values():
            _serve(host)
        yield made


def _cables(made: Rack, ports: int, joined: bool) -> None:
    for number, host in enumerate(made.hosts.values()):
        for port in range(ports):
            tg = _port(made.tg_netns, made.token, "t", number * ports + port)
            end = _port(host.netns, made.token, "d", number * ports + port)
            _veth(tg, end)
            _plug(made, tg, host, end, number * ports + port)


def _switch(made: Rack, ports: int, joined: bool) -> None:
    switch = f"rk{made.token}-sw"
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
    there = RackPort(f"rk{made.token}-sw", f"r{made.token}{letter}", _mac(made.token, 9, int(letter[1:]) + 16 * (
        letter[0] == "u")))
    _veth(end, there)
    _in(there.netns, f"ip link set {there.ifname} master br{bridge}")


def _plug(made: Rack, tg: RackPort, host: RackHost, end: RackPort, number: int) -> None:
    if tg not in made.generator:
        made.generator.append(tg)
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


def _serve(host: RackHost) -> None:
    """An SSH server of its own keys; lock and journal of the agent in folders that only its sessions see."""
    if not host.folder.exists():
        host.folder.mkdir()
        sshd.PRIVSEP_DIR.mkdir(mode=0o755, exist_ok=True)
        sshd.prepare(host.folder, ",".join(ADDRESSES))
        (host.folder / "sshd_config").write_text(sshd.config_text(host.folder, "0.0.0.0"), encoding="ascii")
    start = ""
    for path in (RUN_DIR, STATE_DIR):
        own = host.folder / Path(path).parts[1]
        own.mkdir(mode=0o700, exist_ok=True)
        start += f"mkdir -p {path}; mount --bind {shlex.quote(str(own))} {path}; "
    argv = [wires.tool("sshd"), "-D", "-e", "-f", str(host.folder / "sshd_config")]
    options = []
    if (shadow := sshd.unlocked_shadow()) is not None:
        (host.folder / "shadow").write_text(shadow, encoding="utf-8")
        options = ["--shadow", str(host.folder / "shadow")]
    log = host.folder / "sshd.log"
    inside = enter_argv(host.netns, ["sh", "-ec", f"{start}exec {shlex.join(argv)}"], options)
    with log.open("wb") as output:
        host.server = subprocess.Popen(inside, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output)
    target = sshd.SshTarget(_LOOPBACK, sshd.PORT, sshd.USER, host.folder / "client_key", host.folder / "known_hosts",
                            host.netns)
    sshd.await_ready(target, host.server, log)


def _processes(names: Sequence[str]) -> set[Any]:
    return netns.processes_in({key for name in names if (key := netns.key_of(name)) is not None})


def _remove(made: Rack, names: Sequence[str]) -> None:
    stop_all(partial(_processes, names))
    for host in made.hosts.values():
        if host.server is not None:
            host.server.wait(timeout=5)
    for name in names:
        netns.delete(name)
