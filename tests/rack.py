# SPDX-License-Identifier: Apache-2.0
"""A rack of namespaces as its owner finds it: a controller, hosts that it reaches by name over a management network,
each with its own sshd, agent folders and hostname, and test ports with cables between them. Real frames, real SSH.

Every host's management interface is ``eno1``; its cable goes to a bridge of the controller's. Nothing of it is seen
outside of the namespaces, which have names of their own for each test. Racks whose ports are wired as a lab's are, for
measuring, are made of this one in tests/rackhosts.py.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.host.dut import RUN_DIR, STATE_DIR
from harness.lab import netns, sshd
from harness.lab.lab import enter_argv
from harness.lab.process import comm_of, stop_all
from harness.lab.wires import run_tool, tool

ROOT = Path(__file__).parents[1]
CONTROLLER = "ctl"
_OWN = (RUN_DIR, STATE_DIR)


@dataclass
class Rack:
    """``hosts``: name -> management address. ``folder``: keys, /etc/hosts, files of the tests."""

    folder: Path
    token: str
    hosts: dict[str, str] = field(default_factory=dict)
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    more_servers: int = 0
    #: What a host's sessions see in place of something: (source, target).
    mounts: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    def netns_of(self, name: str) -> str:
        return f"rr{self.token}-{name}"

    def run(self, host: str, *argv: str) -> str:
        """The output of a program in a host's network, with a /sys that shows its devices."""
        done = subprocess.run(enter_argv(self.netns_of(host), argv), capture_output=True, text=True, check=False,
                              timeout=60)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def harness(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The command as its user types it on the controller."""
        return subprocess.run(self.argv(*words), capture_output=True, text=True, check=False, timeout=240,
                              input=stdin, cwd=self.folder)

    def argv(self, *words: str) -> list[str]:
        """The command's argv: on the controller, where names are those of its /etc/hosts."""
        script = f"mount --bind {shlex.quote(str(self.folder / 'hosts'))} /etc/hosts; exec \"$@\""
        command = [sys.executable, "-m", "harness", *words]
        return enter_argv(self.netns_of(CONTROLLER), ["env", f"PYTHONPATH={ROOT}", "sh", "-ec", script, "sh", *command])

    def login(self, *, known_hosts: str = "known_hosts", key: str = "client_key") -> list[str]:
        """Options of the command that reach the hosts."""
        return ["--key", str(self.folder / key), "--known-hosts", str(self.folder / known_hosts)]

    def ssh(self, host: str) -> dict[str, str]:
        """How a testbed file reaches a host from outside of the rack."""
        return {"address": self.hosts[host], "netns": self.netns_of(CONTROLLER),
                "key": str(self.folder / "client_key"), "known_hosts": str(self.folder / "known_hosts")}

    def kill(self, host: str) -> None:
        """End everything that runs there at once, as a power failure does: SSH server, agent, stacks."""
        key = netns.key_of(self.netns_of(host))
        assert key is not None
        stop_all(partial(netns.processes_in, {key}))
        self.servers.pop(host).wait(timeout=5)

    def serve(self, host: str) -> None:
        """Its SSH server, again after :meth:`kill`; what a killed agent left is there still."""
        _serve(self, host)

    def cable(self, one: tuple[str, str], other: tuple[str, str], *, up: bool = True) -> None:
        """A wire between two ports (host, interface), made now."""
        run_tool(["ip", "-n", self.netns_of(one[0]), "link", "add", one[1], "type", "veth", "peer", "name", other[1],
                  "netns", self.netns_of(other[0])])
        for host, ifname in (one, other):
            if up:
                self.set(host, ifname, "up")

    def switch(self, *ends: tuple[str, str]) -> None:
        """A bridge that joins these ports."""
        name = f"br{secrets.token_hex(3)}"
        sw = self.netns_of("sw")
        run_tool(["ip", "-n", sw, "link", "add", name, "type", "bridge", "forward_delay", "0"])
        run_tool(["ip", "-n", sw, "link", "set", name, "up"])
        for host, ifname in ends:
            end = f"s{secrets.token_hex(4)}"
            self.cable((host, ifname), ("sw", end))
            run_tool(["ip", "-n", sw, "link", "set", end, "master", name])

    def set(self, host: str, ifname: str, *words: str) -> None:
        """``ip link set`` of a host."""
        run_tool(["ip", "-n", self.netns_of(host), "link", "set", ifname, *words])

    def cut(self, host: str, ifname: str) -> None:
        """Take a cable away with both its ends."""
        run_tool(["ip", "-n", self.netns_of(host), "link", "delete", ifname])

    def state(self) -> dict[str, str]:
        """What must be as before after every command: links and addresses, programs, the agents' journals."""
        show = ("cd /sys/class/net; grep -s '' */flags */mtu; ip -br -4 address show scope global | cut -c1-16,32-; "
                "ip route")
        there = {name: self.run(name, "sh", "-c", show) for name in self.hosts}
        keys = {key for name in self.hosts if (key := netns.key_of(self.netns_of(name))) is not None}
        there["programs"] = str(sorted(self._names(keys)))
        there["journals"] = str([path for path in sorted(self.folder.glob("*/var/journal*")) if path.stat().st_size])
        return there

    @contextmanager
    def account(self, host: str) -> Iterator[tuple[str, int]]:
        """An account of this machine without any right, let in by a second sshd of the host's: its name and port."""
        name, port = f"nsh{os.getpid()}", sshd.PORT + 2000
        run_tool(["useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", "--password", "*",
                  name])
        try:
            with tempfile.TemporaryDirectory(prefix="rack-") as folder:
                os.chmod(folder, 0o755)  # its key is read as that account
                keys = Path(folder, "authorized_keys")
                keys.write_text((self.folder / "authorized_keys").read_text())
                text = (self.folder / host / "sshd_config").read_text().replace(
                    f"AllowUsers {sshd.USER}", f"AllowUsers {name}").replace(
                    f":{sshd.PORT}\n", f":{port}\n").replace(str(self.folder / "authorized_keys"), str(keys))
                config = self.folder / host / "sshd_config_account"
                config.write_text(text)
                argv = enter_argv(self.netns_of(host), [tool("sshd"), "-D", "-e", "-f", str(config)])
                with (self.folder / host / "log_account").open("wb") as log:
                    server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                try:
                    host_key = (self.folder / "host_key.pub").read_text()
                    with (self.folder / "known_hosts").open("a") as known:
                        known.write(f"[{host}.example.net]:{port} {host_key}")
                    self._await_listener(host, port, server)
                    self.more_servers += 1
                    yield name, port
                finally:
                    self.more_servers = 0
                    server.terminate()
                    server.wait(10)
        finally:
            run_tool(["userdel", name])

    def _await_listener(self, host: str, port: int, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 10
        while f":{port} " not in self.run(host, "ss", "-Hltn"):
            assert server.poll() is None, (self.folder / host / "log_account").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _names(self, keys: set[tuple[int, int]]) -> list[str]:
        """Programs of the hosts; sessions of sshd end a moment after their client has gone."""
        deadline = time.monotonic() + 10
        while True:
            names = [str(comm_of(process.pid)) for process in netns.processes_in(keys)]
            if len(names) == len(self.hosts) + self.more_servers or time.monotonic() > deadline:
                return names
            time.sleep(0.02)


@contextmanager
def rack(hosts: Sequence[str], *, behind: str = "", mounts: Mapping[str, tuple[Path, Path]] | None = None
         ) -> Iterator[Rack]:
    """Hosts that the controller reaches by NAME.example.net. ``behind``: of these hosts one through which alone the
    others are reached; ``mounts``: a folder that a host's sessions see elsewhere, alone in its topmost folder (source,
    target, by host)."""
    with ExitStack() as undo:
        made = Rack(Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="rack-"))), secrets.token_hex(2),
                    mounts=dict(mounts or {}))
        names = [CONTROLLER, "sw", *hosts]
        # Another rack's hosts have mounts on those that are there: with the folder such a mount goes as well.
        undo.callback(_remove, made, names, [path for path in _OWN if not os.path.isdir(path)])
        netns.prepare_directory()
        for name in names:
            netns.create(made.netns_of(name))
            made.run(name, "sh", "-ec", "ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; "
                                        "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        _keys(made)
        _network(made, CONTROLLER, "192.0.2.254", [behind] if behind else hosts, "192.0.2")
        if behind:
            _network(made, behind, "203.0.113.254", [name for name in hosts if name != behind], "203.0.113")
        names_text = "".join(f"{address} {name}.example.net\n" for name, address in made.hosts.items())
        (made.folder / "hosts").write_text(f"127.0.0.1 localhost\n{names_text}")
        host_key = (made.folder / "host_key.pub").read_text()
        (made.folder / "known_hosts").write_text("".join(
            f"{name}.example.net,{address} {host_key}" for name, address in made.hosts.items()))
        for name in made.hosts:
            _serve(made, name)
        yield made


def _keys(made: Rack) -> None:
    sshd.PRIVSEP_DIR.mkdir(mode=0o755, exist_ok=True)
    sshd.prepare(made.folder, "rack")
    run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made.folder / "other_key")])


def _network(made: Rack, owner: str, address: str, hosts: Sequence[str], prefix: str) -> None:
    """A bridge of the owner's with the management interface of every host in it."""
    made.run(owner, "sh", "-ec", f"ip link add lan type bridge forward_delay 0; ip link set lan up; "
                                 f"ip address add {address}/24 dev lan")
    for number, name in enumerate(hosts, start=len(made.hosts) + 1):
        made.cable((name, "eno1"), (owner, f"m{number}"))
        made.hosts[name] = f"{prefix}.{number}"
        made.set(owner, f"m{number}", "master", "lan")
        made.run(name, "sh", "-ec",
                 f"ip address add {made.hosts[name]}/24 dev eno1; ip route add default via {address}")


def _serve(made: Rack, name: str) -> None:
    """A host's sshd: with a hostname, and folders of the agent, that only its sessions see."""
    folder = made.folder / name
    folder.mkdir(exist_ok=True)
    # On every address that the host has.
    text = sshd.config_text(made.folder, "0.0.0.0").replace("AllowTcpForwarding no", "AllowTcpForwarding yes")
    # python3 of a session is the one that runs this test: a generator's host has pyzmq. This machine's .bashrc, which
    # a shell of sshd's reads, would say otherwise.
    text += f"SetEnv PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin\n"
    (folder / "sshd_config").write_text(text)
    start = f"hostname {name}; if [ -e ~/.bashrc ]; then mount --bind /dev/null ~/.bashrc; fi; "
    if (names := made.folder / "hosts").exists():
        start += f"mount --bind {names} /etc/hosts; "
    for path in _OWN:
        own = folder / Path(path).parts[1]
        own.mkdir(mode=0o700, exist_ok=True)
        start += f"mkdir -p {path}; mount --bind {shlex.quote(str(own))} {path}; "
    if name in made.mounts:
        source, target = (shlex.quote(str(path)) for path in made.mounts[name])
        top = f"/{made.mounts[name][1].parts[1]}"
        start += f"mount -t tmpfs none {top}; mkdir -p {target}; mount --bind {source} {target}; "
    argv = [tool("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
    options = []
    if (shadow := sshd.unlocked_shadow()) is not None:
        (made.folder / "shadow").write_text(shadow)
        options = ["--shadow", str(made.folder / "shadow")]
    inside = enter_argv(made.netns_of(name), ["unshare", "--uts", "sh", "-ec", f"{start}exec {shlex.join(argv)}"],
                        options)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    made.servers[name] = process
    sshd.await_ready(sshd.SshTarget(name, sshd.PORT, sshd.USER, made.folder / "client_key", made.folder / "known_hosts",
                                    made.netns_of(name), made.hosts[name]), process, folder / "log")


def _remove(made: Rack, names: Sequence[str], folders: Sequence[str]) -> None:
    """``folders``: of the agent, which were not there before."""
    keys = {key for name in names if (key := netns.key_of(made.netns_of(name))) is not None}
    stop_all(partial(netns.processes_in, keys))
    for server in made.servers.values():
        server.wait(timeout=5)
    for name in names:
        netns.delete(made.netns_of(name))
    for path in folders:
        if os.path.isdir(path) and not os.listdir(path):
            os.rmdir(path)
