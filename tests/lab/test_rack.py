# SPDX-License-Identifier: Apache-2.0
"""`harness testbed init` and `check` as a user calls them, on a rack of namespaces with an sshd each: what is found,
what is said when something is wrong, and that everything is put back."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.testbed import load_testbed
from tests.rack import Rack, rack

pytestmark = pytest.mark.lab
HOSTS = ["--generator", "root@tg.example.net", "--dut", "sut1=root@sut1.example.net",
         "--dut", "sut2=root@sut2.example.net"]

TWO = HOSTS[:4]


@pytest.fixture(scope="module")
def made() -> Iterator[Rack]:
    """Two DUTs with two cables each; of one cable both ends are set down."""
    with rack(["tg", "sut1", "sut2"]) as made:
        made.cable(("tg", "ens1f0"), ("sut1", "ens2f0"))
        made.cable(("tg", "ens1f1"), ("sut1", "ens2f1"), up=False)
        made.cable(("tg", "ens1f2"), ("sut2", "ens2f0"))
        made.cable(("tg", "ens1f3"), ("sut2", "ens2f1"))
        yield made


@pytest.fixture(scope="module")
def file(made: Rack) -> Path:
    """The file that init writes of it."""
    before = made.state()
    done = made.harness("testbed", "init", "-o", "rack.yaml", *HOSTS, *made.login())
    assert done.returncode == 0, done.stderr
    assert made.state() == before
    return made.folder / "rack.yaml"


def changed(file: Path, name: str, *subs: tuple[str, str]) -> str:
    """A copy of the file with every (pattern, text) put in once; its name."""
    text = file.read_text()
    for pattern, new in subs:
        text, count = re.subn(pattern, new, text, count=1)
        assert count == 1, pattern
    (file.parent / name).write_text(text)
    return name


def failures(made: Rack, name: str) -> list[dict[str, str]]:
    """What check says is wrong; everything is as before, and the exit code is 3."""
    before = made.state()
    done = made.harness("testbed", "check", name, "--json")
    assert made.state() == before
    told = json.loads(done.stdout)
    found = [check for check in told["checks"] if check["status"] == "fail"]
    assert done.returncode == told["exit_code"] == (3 if found else 0)
    return found


def test_init_finds_every_cable_and_check_agrees(made: Rack, file: Path) -> None:
    testbed = load_testbed(file)
    assert [(wire.tg, wire.dut, wire.speed, wire.virtual) for wire in testbed.wires] == [
        (0, "sut1/0", 10.0, True), (1, "sut1/1", 10.0, True), (2, "sut2/0", 10.0, True), (3, "sut2/1", 10.0, True)]
    assert [port.ifname for port in testbed.generator.ports] == ["ens1f0", "ens1f1", "ens1f2", "ens1f3"]
    for dut in testbed.duts:
        assert (dut.management, dut.all_cores) == ("eno1", os.cpu_count())
        assert set(dut.cores) <= os.sched_getaffinity(0)
        for port in dut.ports:
            assert made.run(dut.name, "cat", f"/sys/class/net/{port.ifname}/address").strip() == port.mac
    before = made.state()
    done = made.harness("testbed", "check", "rack.yaml")
    assert done.returncode == 0, done.stdout
    assert made.state() == before
    assert "generator ens1f1 and sut1 ens2f1 hear each other" in done.stdout
    assert re.search(r"\n\d+ checks: \d+ ok\n$", done.stdout)


def test_init_overwrites_only_when_told(made: Rack, file: Path) -> None:
    text = file.read_text()
    done = made.harness("testbed", "init", "-o", "rack.yaml", *HOSTS, *made.login())
    assert (done.returncode, file.read_text()) == (2, text)
    assert "rack.yaml exists; name another file with -o, or overwrite it with --force" in done.stderr


def test_no_marked_frame_leaves_a_management_interface(made: Rack, file: Path) -> None:
    """Somebody listens on the management network all the while; on a test port the same listener hears them."""
    listen = textwrap.dedent("""
        import select, socket, sys
        heard = 0
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
        opened.bind((sys.argv[1], 0x88b5))
        print("up", flush=True)
        while True:
            ready = select.select([sys.stdin, opened], [], [])[0]
            if opened in ready:
                heard += bool(opened.recv(2048))
            elif sys.stdin in ready:
                break
        print(heard)
        """)
    heard = {}
    programs = {(host, name): subprocess.Popen(
        ["ip", "netns", "exec", made.netns_of(host), "python3", "-c", listen, name], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True) for host, name in (("ctl", "lan"), ("sut2", "ens2f0"))}
    for program in programs.values():
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
    done = made.harness("testbed", "check", "rack.yaml")
    for place, program in programs.items():
        heard[place] = int(program.communicate("stop\n", timeout=20)[0])
    assert done.returncode == 0
    assert heard["ctl", "lan"] == 0
    assert heard["sut2", "ens2f0"] > 0


def test_wrong_mac_pci_and_interface_are_one_message_each(made: Rack, file: Path) -> None:
    mac = r'mac: "[0-9a-f:]+", ifname: ens2f0'
    (found,) = failures(made, changed(file, "mac.yaml", (mac, 'mac: "02:00:00:00:00:99", ifname: ens2f0')))
    real = load_testbed(file).duts[0].ports[0].mac
    assert (found["name"], found["host"]) == ("port", "sut1")
    assert f'write mac: "{real}" in ports[0]' in found["remedy"]
    (found,) = failures(made, changed(file, "pci.yaml", ("ifname: ens2f0", 'ifname: ens2f0, pci: "0000:03:00.0"')))
    assert found["value"].endswith("which is on no PCI bus")
    (found,) = failures(made, changed(file, "name.yaml", ("ifname: ens2f0", "ifname: ens9f9")))
    assert found["value"] == f"there is no such interface; {real} is ens2f0"


def test_a_management_interface_as_test_port_is_refused(made: Rack, file: Path) -> None:
    found = failures(made, changed(file, "eno.yaml", ("management: eno1", "management: ens7"),
                                   ("ifname: ens2f0", "ifname: eno1")))
    assert {check["name"] for check in found} == {"port", "management"}
    assert any("uses" in check["value"] or "default route" in check["value"] for check in found)


def test_cores_that_the_host_does_not_have(made: Rack, file: Path) -> None:
    more = f"{os.cpu_count()},{os.cpu_count()},0,0"
    (found,) = failures(made, changed(file, "cores.yaml", (r"(cpus: \|.*\n)", rf"\1        {more}\n"),
                                      (r"all_cores: \d+", f"all_cores: {(os.cpu_count() or 1) + 1}")))
    assert (found["name"], found["target"]) == ("cores", "topology")


def test_crossed_cables_are_one_message(made: Rack, file: Path) -> None:
    """One a pair, and each pair that is."""
    swap = [("tg: 0, dut: sut1/0", "tg: 0, dut: sut1/x"), ("tg: 1, dut: sut1/1", "tg: 1, dut: sut1/0"),
            ("sut1/x", "sut1/1")]
    (found,) = failures(made, changed(file, "crossed.yaml", *swap))
    assert found["value"] == ("cabled the wrong way round: generator ens1f0 to sut1 ens2f0, generator ens1f1 to sut1 "
                              "ens2f1")
    assert "{tg: 0, dut: sut1/0} and {tg: 1, dut: sut1/1}" in found["remedy"]
    both = [*swap, ("tg: 2, dut: sut2/0", "tg: 2, dut: sut2/x"), ("tg: 3, dut: sut2/1", "tg: 3, dut: sut2/0"),
            ("sut2/x", "sut2/1")]
    assert [check["host"] for check in failures(made, changed(file, "both.yaml", *both))] == ["sut1", "sut2"]


def test_a_cable_to_another_host(made: Rack, file: Path) -> None:
    found = failures(made, changed(file, "other.yaml", ("tg: 1, dut: sut1/1", "tg: 2, dut: sut1/1"),
                                   ("tg: 2, dut: sut2/0", "tg: 1, dut: sut2/0")))
    assert {check["value"] for check in found} == {"generator ens1f2 is heard by sut2 ens2f0",
                                                   "generator ens1f1 is heard by sut1 ens2f1"}


def test_a_link_that_is_down_and_a_switch(made: Rack, file: Path) -> None:
    made.set("sut2", "ens2f0", "down")
    made.cut("tg", "ens1f3")
    made.switch(("tg", "ens1f3"), ("sut2", "ens2f1"), ("sut2", "ens2f2"))
    try:
        before = made.state()
        done = made.harness("testbed", "init", "--force", "-o", "switch.yaml", *HOSTS, *made.login())
        assert (done.returncode, made.state()) == (0, before), done.stderr
        assert "note: generator ens1f3 is heard by sut2 ens2f1, sut2 ens2f2: a switch is between them" in done.stdout
        assert [(wire.tg, wire.dut) for wire in load_testbed(made.folder / "switch.yaml").wires][2:] == [
            (2, "sut2/0"), (3, "sut2/1")]
        made.cut("tg", "ens1f2")
        made.switch(("sut2", "ens2f0"))
        made.switch(("tg", "ens1f2"))
        found = failures(made, "switch.yaml")
        assert {(check["name"], check["host"]) for check in found} >= {("port", "generator"), ("port", "sut2")}
    finally:
        for name in ("ens1f2", "ens1f3"):
            made.cut("tg", name)
        for name in ("ens2f0", "ens2f2"):
            made.cut("sut2", name)
        if "ens2f1" in made.run("sut2", "ls", "/sys/class/net"):
            made.cut("sut2", "ens2f1")


def test_no_carrier_is_said_of_the_link_only() -> None:
    with rack(["tg", "sut1"]) as made:
        made.cable(("tg", "ens1f0"), ("sut1", "ens2f0"))
        words = ["--generator", "root@tg.example.net", "--dut", "sut1=root@sut1.example.net", *made.login()]
        assert made.harness("testbed", "init", "-o", "rack.yaml", *words).returncode == 0
        mac = load_testbed(made.folder / "rack.yaml").generator.ports[0].mac
        made.cut("tg", "ens1f0")
        made.cable(("tg", "ens1f0"), ("sw", "lost"), up=False)
        made.set("tg", "ens1f0", "address", mac, "up")
        made.cable(("sut1", "ens2f0"), ("sw", "lost2"))
        sut = load_testbed(made.folder / "rack.yaml").duts[0].ports[0].mac
        made.set("sut1", "ens2f0", "address", sut)
        (found,) = failures(made, "rack.yaml")
        assert (found["name"], found["host"], found["target"], found["value"]) == (
            "link", "generator", "ens1f0", "no carrier")
        # and init: nothing is cabled, the file says what to fill in, and does not load
        before = made.state()
        done = made.harness("testbed", "init", "-o", "empty.yaml", *words)
        assert (done.returncode, made.state()) == (3, before)
        assert "missing: no port of sut1 was reached from the generator: generator has ens1f0 without" in done.stdout
        assert "# wires: FILL IN" in (made.folder / "empty.yaml").read_text()


def test_what_keeps_hosts_from_being_reached_is_said_of_all_at_once() -> None:
    with rack(["tg", "sut1"]) as made:
        made.cable(("tg", "ens1f0"), ("sut1", "ens2f0"))
        words = ["--generator", "root@tg.example.net", "--dut", "sut1=root@sut1.example.net"]
        (made.folder / "nobody").write_text("")
        done = made.harness("testbed", "init", *words, *made.login(known_hosts="nobody"))
        assert done.returncode == 3
        print_ = made.run("tg", "ssh-keygen", "-lf", str(made.folder / "host_key.pub")).split()[1]
        for host in ("tg", "sut1"):
            assert re.search(rf"the host key of {host}\.example\.net is not in .*nobody \(ssh-ed25519 "
                             rf"{re.escape(print_)}\).*ssh-keyscan -p 22 {host}\.example\.net >> ", done.stderr)
        done = made.harness("testbed", "init", *words, *made.login(key="other_key"))
        assert done.returncode == 3
        assert done.stderr.count("does not accept") == 2
        assert not (made.folder / "testbed.yaml").exists()
        key = (made.folder / "host_key.pub").read_text()
        (made.folder / "changed").write_text(
            f"tg.example.net {key}sut1.example.net {(made.folder / 'other_key.pub').read_text()}")
        done = made.harness("testbed", "init", *words, *made.login(known_hosts="changed"))
        assert (done.returncode, done.stderr.count("is not the one in")) == (3, 1)
        assert re.search(r"sut1: the host key of .*sut1\.example\.net.* is not the one in .*ssh-keygen -R "
                         r"sut1\.example\.net -f ", done.stderr), done.stderr
        done = made.harness("testbed", "init", "--generator", "root@tg.example.net", "--dut",
                            "sut1=root@sut1.example.net:2", *made.login())
        assert (done.returncode, done.stderr.count("cannot reach")) == (3, 1)
        done = made.harness("testbed", "init")
        assert (done.returncode, "--generator USER@HOST" in done.stderr) == (2, True)


def test_sudo_that_asks_for_a_password() -> None:
    with rack(["tg", "sut1"]) as made, made.account("sut1") as (user, port):
        before = made.state()
        done = made.harness("testbed", "init", "--generator", "root@tg.example.net", "--dut",
                            f"sut1={user}@sut1.example.net:{port}", *made.login())
        assert (done.returncode, made.state()) == (3, before)
        assert f"sut1: sudo of sut1.example.net refuses to run the harness's programs for {user}" in done.stderr
        assert "docs/least-privilege.md has the sudoers file" in done.stderr
        assert not (made.folder / "testbed.yaml").exists()


def test_an_interrupt_while_links_are_waited_for_puts_everything_back() -> None:
    with rack(["tg", "sut1"]) as made:
        made.cable(("tg", "ens1f0"), ("sw", "lost"), up=False)  # its link never comes, so init waits for it
        before = made.state()
        process = subprocess.Popen(
            made.argv("testbed", "init", "--generator", "root@tg.example.net", "--dut", "sut1=root@sut1.example.net",
                      *made.login()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=made.folder)
        deadline = time.monotonic() + 60
        while not int(made.run("tg", "cat", "/sys/class/net/ens1f0/flags"), 16) & 1:
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert (process.returncode, made.state()) == (130, before), said
        assert not (made.folder / "testbed.yaml").exists()


def write_fake_trex(folder: Path) -> Path:
    """No TRex: a tree with the files of one, whose binary says a version and whose client is empty. Returns the
    client's module."""
    api = folder / "automation/trex_control_plane/interactive/trex/stl/api.py"
    api.parent.mkdir(parents=True)
    for path in (api, api.with_name("__init__.py"), api.parents[1] / "__init__.py", folder / "t-rex-64"):
        path.write_text("# fake, written by a test of netstack-harness\n")
    binary = folder / "_t-rex-64"
    binary.write_text("#!/bin/sh\n# fake, written by a test of netstack-harness\necho ' Version : v3.08'\n")
    binary.chmod(0o755)
    return api


def test_trex_is_found_where_named_and_check_has_it_run() -> None:
    """What init finds by its files, check proves: the binary tells its version and a Python imports the client."""
    with rack(["tg", "sut1"]) as made:
        made.cable(("tg", "ens1f0"), ("sut1", "ens2f0"))
        folder = made.folder / "v3.08"
        api = write_fake_trex(folder)
        done = made.harness("testbed", "init", "-o", "trex.yaml", "--trex", str(folder), *TWO, *made.login(), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["hosts"][0]["trex"] == [{"dir": str(folder), "version": "v3.08"}]
        trex = load_testbed(made.folder / "trex.yaml").generator.trex
        assert trex is not None
        assert (trex.dir, trex.software) == (str(folder), True)  # veth: only the software mode can have them
        done = made.harness("testbed", "check", "trex.yaml", "--json")
        (said,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "trex"]
        assert said["status"] == "ok"
        assert re.fullmatch(r"v3\.08; python3\S* \(3\.\d+\) imports its client", said["value"])
        api.write_text("raise ImportError('no such thing')\n")
        (found,) = failures(made, "trex.yaml")
        assert found["name"] == "trex"
        assert "no Python on the generator's host can run the client of TRex v3.08" in found["remedy"]
        (folder / "_t-rex-64").write_text("")
        (found,) = failures(made, "trex.yaml")
        assert "_t-rex-64 on the generator's host does not run" in found["remedy"]
        (folder / "t-rex-64").unlink()
        (found,) = failures(made, "trex.yaml")
        assert "is no TRex installation: it holds no t-rex-64" in found["remedy"]


def test_a_port_whose_macvlan_has_an_address_is_left_alone() -> None:
    with rack(["tg", "sut1"]) as made:
        for number in (0, 1):
            made.cable(("tg", f"ens1f{number}"), ("sut1", f"ens2f{number}"))
        made.run("sut1", "sh", "-ec", "ip link add link ens2f1 name storage type macvlan; ip link set storage up; "
                                      "ip addr add 10.99.0.1/24 dev storage")
        done = made.harness("testbed", "init", "-o", "rack.yaml", *TWO, *made.login())
        assert done.returncode == 0, done.stderr
        assert "sut1 ens2f0\n" in done.stderr  # that alone sends
        why = "in use: storage, which is on top of it, has the address 10.99.0.1"
        assert why in done.stdout
        assert [wire.dut for wire in load_testbed(made.folder / "rack.yaml").wires] == ["sut1/0"]
        done = made.harness("testbed", "init", "-o", "x.yaml", *TWO, *made.login(), "--port", "sut1/ens2f1")
        assert (done.returncode, f"ens2f1 of sut1 is {why}; it is never a test port" in done.stderr) == (3, True)


def test_a_port_that_is_set_up_for_the_time_says_nothing_of_ipv6() -> None:
    """Its other end listens; the same port set up by hand is heard there. Its addresses are there again afterwards."""
    listen = textwrap.dedent("""
        import select, socket, sys
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd))
        opened.bind((sys.argv[1], 0x86dd))
        print("up", flush=True)
        if sys.argv[2] == "one":
            print(len(select.select([opened], [], [], 30)[0]))
        else:
            sys.stdin.readline()
            print(len(select.select([opened], [], [], 0)[0]))
        """)
    show = "grep -s '' /proc/sys/net/ipv6/conf/ens1f0/disable_ipv6; ip -6 -br addr show dev ens1f0"

    def heard_of(made: Rack, way: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(["ip", "netns", "exec", made.netns_of("sut1"), "python3", "-c", listen, "ens2f0",
                                    way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        return program

    with rack(["tg", "sut1"]) as made:
        made.cable(("tg", "ens1f0"), ("sut1", "ens2f0"), up=False)
        made.set("sut1", "ens2f0", "up")
        made.run("tg", "sh", "-ec", "echo 0 > /proc/sys/net/ipv6/conf/ens1f0/disable_ipv6; "
                                    "ip addr add 2001:2::7/64 dev ens1f0")
        before = made.state(), made.run("tg", "sh", "-c", show)
        assert "2001:2::7/64" in before[1]
        program = heard_of(made, "all")
        done = made.harness("testbed", "init", "-o", "rack.yaml", *TWO, *made.login())
        heard = program.communicate("stop\n", timeout=20)[0]
        assert (done.returncode, heard) == (0, "0\n"), done.stderr
        assert (made.state(), made.run("tg", "sh", "-c", show)) == before
        program = heard_of(made, "one")
        made.set("tg", "ens1f0", "up")
        assert program.communicate(timeout=40)[0] == "1\n"


def test_generator_and_dut_on_one_host() -> None:
    """Two cables of a host to itself: one connection for both names, and each port is of one of them."""
    with rack(["tg"]) as made:
        for number in (0, 1):
            made.cable(("tg", f"ens1f{number}"), ("tg", f"ens2f{number}"))
        words = ["--generator", "root@tg.example.net", "--dut", "sut1=root@tg.example.net", *made.login()]
        before = made.state()
        done = made.harness("testbed", "init", "-o", "rack.yaml", *words)
        assert (done.returncode, made.state()) == (2, before)
        assert "generator and sut1 are one host, and ens1f0, ens1f1, ens2f0, ens2f1 could be" in done.stderr
        ports = [f"--port={name}/ens{nic}f{port}" for name, nic in (("generator", 1), ("sut1", 2)) for port in (0, 1)]
        done = made.harness("testbed", "init", "-o", "rack.yaml", *words, *ports)
        assert (done.returncode, made.state()) == (0, before), done.stderr
        assert "a switch is between them" not in done.stdout
        testbed = load_testbed(made.folder / "rack.yaml")
        assert [(wire.tg, wire.dut) for wire in testbed.wires] == [(0, "sut1/0"), (1, "sut1/1")]
        assert [port.ifname for port in testbed.duts[0].ports] == ["ens2f0", "ens2f1"]
        assert failures(made, "rack.yaml") == []
        swap = [("tg: 0, dut: sut1/0", "tg: 0, dut: sut1/x"), ("tg: 1, dut: sut1/1", "tg: 1, dut: sut1/0"),
                ("sut1/x", "sut1/1")]
        (found,) = failures(made, changed(made.folder / "rack.yaml", "crossed.yaml", *swap))
        assert found["value"].startswith("cabled the wrong way round")


def test_hosts_behind_a_jump_host() -> None:
    with rack(["gate", "tg", "sut1"], behind="gate") as made:
        made.cable(("tg", "ens1f0"), ("sut1", "ens2f0"))
        before = made.state()
        words = ["--generator", "root@tg.example.net", "--dut", "sut1=root@sut1.example.net"]
        done = made.harness("testbed", "init", *words, "--jump", "root@gate.example.net", *made.login())
        assert (done.returncode, made.state()) == (0, before), done.stderr
        written = yaml.safe_load((made.folder / "testbed.yaml").read_text())
        assert written["duts"][0]["ssh"]["jump"]["address"] == "gate.example.net"
        assert failures(made, "testbed.yaml") == []
        for line in (made.folder / "known_hosts").read_text().splitlines():
            if not line.startswith("sut1."):
                with (made.folder / "two").open("a") as stream:
                    stream.write(line + "\n")
        done = made.harness("testbed", "init", "--force", *words, "--jump", "root@gate.example.net",
                            *made.login(known_hosts="two"))
        assert "ssh -p 22 root@gate.example.net ssh-keyscan -p 22 sut1.example.net >> " in done.stderr
        done = made.harness("testbed", "init", "--force", "--generator", "root@tg.example.net", "--dut",
                            "sut1=root@sut1.example.net:2", "--jump", "root@gate.example.net", *made.login())
        assert "(through root@gate.example.net:22)" in done.stderr
        assert "the jump host says: Connect" in done.stderr


def test_questions_at_a_terminal() -> None:
    with rack(["tg", "sut1"]) as made:
        made.cable(("tg", "ens1f0"), ("sut1", "ens2f0"))
        made.cable(("tg", "ens1f1"), ("sut1", "ens2f1"))
        ours, theirs = pty.openpty()
        argv = made.argv("testbed", "init", "-o", "rack.yaml", *made.login())
        process = subprocess.Popen(argv, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   cwd=made.folder)
        os.close(theirs)
        os.write(ours, b"root@tg.example.net\nsut1=root@sut1.example.net\n\nens1f1\nall\n")
        said = process.communicate(timeout=60)[0]
        os.close(ours)
        assert process.returncode == 0, said
        assert "Ports of generator to try (ens1f0, ens1f1)" in said
        (wire,) = load_testbed(made.folder / "rack.yaml").wires
        assert (wire.tg, wire.dut) == (0, "sut1/0")
        assert load_testbed(made.folder / "rack.yaml").duts[0].ports[0].ifname == "ens2f1"
