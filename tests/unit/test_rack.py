# SPDX-License-Identifier: Apache-2.0
"""Which ports become a testbed, and the file's text; the frames' program without a network."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import TestbedError, UsageError
from harness.host.inventory import Survey
from harness.rack.cabling import _SCRIPT as _FRAMES
from harness.rack.cabling import End, Tried
from harness.rack.choose import choose, generator_cores
from harness.rack.frames import frame_of, read_frame
from harness.rack.look import _SCRIPT as _THERE
from harness.rack.look import Bound, HostSeen, Nic, TrexFound, _above, _carrier_of, _nics, _trex
from harness.rack.setup import Asked, _narrowed, _need_divided
from harness.rack.write import text_of_testbed
from harness.testbed import Ssh, check_testbed
from harness.yamlfile import load
from tests.interpreters import interpreters

#: Two sockets of two cores with two threads each; CPU, core, socket, node.
TOPOLOGY = "0,0,0,0\n1,1,0,0\n2,2,1,1\n3,3,1,1\n4,0,0,0\n5,1,0,0\n6,2,1,1\n7,3,1,1"
KEPT_OFF = "the interface that this SSH connection uses"


def nic(host: int, number: int, why: str = "") -> Nic:
    return Nic(f"ens{host}f{number}", f"3c:fd:fe:{host:02x}:00:{number:02x}", f"0000:{host:02x}:00.{number}", "i40e", 1,
               True, True, True, why)


def host(name: str, number: int, ports: int = 2, **more: Any) -> HostSeen:
    nics = (*(nic(number, port) for port in range(ports)), nic(number, 7, KEPT_OFF))
    given = {"management": f"ens{number}f7", "busy": (), "bound": (), "trex": (), "pythons": ("python3.11",), **more}
    return HostSeen(name, Ssh(address=f"{name}.example.net"), name, "6.1", f"boot-{name}", TOPOLOGY, tuple(range(8)),
                    nics=nics, **given)


def cabled(*pairs: tuple[str, str], speed: float = 25.0) -> Tried:
    """Both ways, and of this speed."""
    ends = [(End(*one.split()), End(*other.split())) for one, other in pairs]
    heard = {*ends, *((other, one) for one, other in ends)}
    return Tried(frozenset(heard), frozenset(), {end: speed for pair in ends for end in pair})


def text_of(tried: Tried, generator: HostSeen, *duts: HostSeen) -> tuple[str, tuple[str, ...]]:
    return text_of_testbed("rack", generator, duts, choose(generator, duts, tried))


def loaded(text: str) -> Any:
    return check_testbed(load(Path("rack.yaml"), text))


def test_a_crossed_pair_of_cables_is_written_as_it_is() -> None:
    found = tuple(TrexFound(f"/opt/trex/{version}", version) for version in ("v3.08", "v3.02"))
    generator = host("generator", 1, trex=found)
    sut = host("sut1", 2, busy=(2,))
    text, missing = text_of(cabled(("generator ens1f0", "sut1 ens2f1"), ("generator ens1f1", "sut1 ens2f0")),
                            generator, sut)
    testbed = loaded(text)
    assert missing == ()
    assert [(wire.tg, wire.dut, wire.speed) for wire in testbed.wires] == [(0, "sut1/1", 25.0), (1, "sut1/0", 25.0)]
    assert testbed.generator.trex.dir == "/opt/trex/v3.08"
    assert '# trex: {dir: "/opt/trex/v3.02"}   # v3.02' in text
    assert testbed.generator.cores == (2, 3)
    # the NIC's node first, core 2, where the management's interrupts arrive, and core 0 last
    assert testbed.duts[0].cores == (3, 1, 2, 0)
    assert testbed.duts[0].ports[0].pci == "0000:02:00.0"
    assert f"not a test port: ens2f7 (0000:02:00.7): {KEPT_OFF}" in text


def test_a_switch_gives_each_port_one_wire_and_is_said() -> None:
    generator, sut = host("generator", 1), host("sut1", 2)
    ends = [f"{name} ens{number}f{port}" for name, number in (("generator", 1), ("sut1", 2)) for port in (0, 1)]
    every = cabled(*[(one, other) for one in ends for other in ends if one < other])
    chosen = choose(generator, [sut], every)
    assert [(cable.tg, cable.port, cable.shared) for cable in chosen.cables] == [(0, 0, False), (1, 1, False)]
    assert "generator ens1f0 is heard by generator ens1f1, sut1 ens2f0, sut1 ens2f1: a switch is between them" in (
        chosen.notes)


def test_one_generator_port_switched_to_two_hosts_is_a_shared_wire() -> None:
    generator, duts = host("generator", 1, 1), (host("sut1", 2, 1), host("sut2", 3, 1))
    tried = cabled(("generator ens1f0", "sut1 ens2f0"), ("generator ens1f0", "sut2 ens3f0"))
    chosen = choose(generator, duts, tried)
    assert [(cable.host, cable.shared) for cable in chosen.cables] == [("sut1", False), ("sut2", True)]
    text, missing = text_of_testbed("rack", generator, duts, chosen)
    if missing:  # where a file may not have such wires it says so, and what to write stands there as a comment
        assert "# - {tg: 0, dut: sut2/0, speed: 25G}   # through a switch" in text
    else:
        assert len(loaded(text).wires) == 2


def test_what_is_not_known_is_left_to_be_filled_in_and_never_guessed() -> None:
    generator = host("generator", 1, bound=(Bound("0000:05:00.0", "vfio-pci"),), pythons=())
    sut = host("sut1", 2, management="")
    slow = cabled(("generator ens1f0", "sut1 ens2f0"))
    text, missing = text_of(replace(slow, speeds={End("generator", "ens1f0"): 10.0}), generator, sut)
    assert "# management: FILL IN" in text
    assert "  # - {tg: 0, dut: sut1/0, speed: FILL IN}" in text
    assert "0000:05:00.0, which vfio-pci has" in text
    assert missing == ("the management interface of sut1 is not known: fill in `management`",
                       "generator ens1f0 says 10G and sut1 ens2f0 says no speed: fill in the wire's `speed`")
    with pytest.raises(UsageError):
        loaded(text)
    text, missing = text_of(Tried(frozenset(), frozenset({End("sut1", "ens2f0")})), generator, sut)
    assert "# wires: FILL IN" in text
    assert "0000:05:00.0 bound to vfio-pci" in missing[0]
    assert "ens2f0 without a link" in missing[0]


def test_one_way_wrong_network_and_loops_are_said() -> None:
    generator, sut = host("generator", 1), host("sut1", 2)
    heard = {(End("generator", "ens1f0"), End("sut1", "ens2f0")), (End("generator", "ens1f1"), End("sut1", "ens2f7")),
             (End("sut1", "ens2f0"), End("sut1", "ens2f1")), (End("sut1", "ens2f1"), End("sut1", "ens2f0"))}
    chosen = choose(generator, [sut], Tried(frozenset(heard)))
    assert chosen.cables == ()
    words = "\n".join(chosen.notes)
    assert "generator ens1f0 reaches sut1 ens2f0, but not the other way round" in words
    assert "generator ens1f1 is in one network with sut1 ens2f7, which is not for test traffic" in words
    assert "sut1 ens2f0 and sut1 ens2f1 are cabled to each other" in words


def test_cores_of_a_generator_with_one_core() -> None:
    assert generator_cores(replace(host("generator", 1), topology="0,0,0,0"), ()) == (0,)
    assert generator_cores(replace(host("generator", 1), topology=""), ()) == ()


def interface(mac: str, **more: object) -> dict[str, object]:
    return {"address": mac, "flags": "0x1003", "carrier": "1", "device": "x", "driver": {"driver": "i40e"}, **more}


def test_what_a_host_says_is_not_believed_blindly() -> None:
    survey = Survey({"interfaces": {
        "eth1": interface("3c:fd:fe:00:00:01"), "e\x1b[2J": interface("3c:fd:fe:00:00:02"),
        "eth3": interface("not a MAC"), "eth4": interface("3c:fd:fe:00:00:04", master="br0"),
        "eth5": interface("3c:fd:fe:00:00:05"), "veth0": interface("3c:fd:fe:00:00:06", device=None),
        "eth7": interface("3c:fd:fe:00:00:07", pci={"address": "../../x", "numa_node": "-1"})}})
    addresses = {"eth5": ["10.0.0.5"], "eth1": ["198.18.0.1"]}
    survey.data["interfaces"]["eth5"]["pci"] = {"address": "0000:05:00.0"}
    found = {one.ifname: one for one in _nics(survey, addresses, {"eth7": "x"}, ["0000:05:00.0"], {})}
    assert found["eth5"].why_not == ""  # the file names it, by its PCI address
    found = {one.ifname: one for one in _nics(survey, addresses, {"eth7": "x"}, [], {})}
    assert sorted(found) == ["eth1", "eth4", "eth5", "eth7", "veth0"]
    assert {name: one.why_not for name, one in found.items()} == {
        "eth1": "", "eth4": "part of br0", "eth5": "in use: it has the address 10.0.0.5", "eth7": "x",
        "veth0": "of software"}
    assert (found["eth7"].pci, found["eth7"].node) == ("", None)
    assert _trex({"trex": [{"dir": "/opt/v2.99", "version": "v2.99"}, {"dir": "/opt/v3.08", "version": "v3.08"},
                           {"dir": "x\ny", "version": ""}, 7]})[0] == TrexFound("/opt/v3.08", "v3.08")


def test_a_port_below_a_device_in_use_is_never_a_candidate() -> None:
    """A VLAN or macvlan that carries storage; named by the user or not, and whatever its name looks like."""
    names = ("eth1", "eth2", "eth3", "eth4")
    survey = Survey({"interfaces": {name: interface(f"3c:fd:fe:00:00:0{name[3]}") for name in names}})
    addresses = {"eth1.100": ["198.18.9.1", "10.0.0.5"], "e\x1b[2J": ["fd00::5"], "vlan9": ["198.18.0.9"]}
    above = _above({"above": {"eth1": ["mac0", "eth1.100"], "eth2": ["e\x1b[2J"], "eth3": ["vlan9"], "eth4": 7}})
    said = {"eth1": "in use: eth1.100, which is on top of it, has the address 10.0.0.5",
            "eth2": "in use: another interface, which is on top of it, has the address fd00::5"}
    found = {one.ifname: one.why_not for one in _nics(survey, addresses, {}, [], above)}
    assert found == {**said, "eth3": "in use: vlan9 is on top of it", "eth4": ""}
    found = {one.ifname: one.why_not for one in _nics(survey, addresses, {}, names, above)}
    assert found == {**said, "eth3": "", "eth4": ""}


def test_two_names_of_one_host_must_have_ports_of_their_own() -> None:
    same = {"generator": ["generator", "sut1"], "sut1": ["generator", "sut1"], "sut2": ["sut2"]}
    _need_divided(same, {"generator": ["eth1"], "sut1": ["eth2"], "sut2": ["eth1"]})
    with pytest.raises(UsageError, match=r"generator and sut1 are one host, and eth1, eth2 could be a port of either; "
                                         r"divide .* --port generator/eth1 --port sut1/eth2"):
        _need_divided(same, {"generator": ["eth1", "eth2"], "sut1": ["eth1", "eth2"], "sut2": []})


@pytest.mark.parametrize(("session", "found"), [
    ("192.0.2.1", "eno1"), ("::ffff:192.0.2.1", "eno1"), ("fe80::1%eno2", "eno2"), ("fe80::1", "eno1"),
    ("198.51.100.9", ""), ("", ""), (None, ""), (7, "")])
def test_the_interface_by_which_ssh_came(session: object, found: str) -> None:
    """Where sudo hides it from the guard this alone keeps frames off it, link-local addresses included."""
    rows = [{"ifname": name, "addr_info": [{"local": "fe80::1", "scope": "link"}, *more]} for name, more in (
        ("eno1", [{"local": "192.0.2.1", "scope": "global"}]), ("eno2", []))]
    assert _carrier_of(Survey({"commands": {"addresses": {"status": 0, "out": json.dumps(rows)}}}), session) == found


def test_only_marked_frames_with_the_nonce_count() -> None:
    nonce = bytes(8)
    frame = frame_of(b"\2" * 6, nonce, 3, 1, 9)
    assert (len(frame), read_frame(frame, nonce)) == (60, (3, 1))
    assert read_frame(frame, b"other...") == (-1, -1)
    assert read_frame(frame[:30], nonce) == (-1, -1)
    assert read_frame(frame[:12] + b"\x08\x00" + frame[14:], nonce) == (-1, -1)


@pytest.mark.parametrize("python", interpreters())
def test_the_hosts_programs_under_old_and_new_interpreters(python: str, tmp_path: Path) -> None:
    release = tmp_path / "v2.99"
    release.mkdir()
    (release / "t-rex-64").write_text("")

    def told(script: Path, asked: dict[str, object], said: str = "") -> str:
        return subprocess.run([python, "-I", "-c", script.read_text(), json.dumps(asked)], input=said, text=True,
                              capture_output=True, check=True, timeout=20).stdout

    found = json.loads(told(_THERE, {"trex": str(release)}))
    assert found["trex"] == [{"dir": str(release), "version": "v2.99"}]
    assert {"hostname", "session", "devices", "above", "pythons"} < set(found)
    asked = {"ports": [], "may_send": 0, "nonce": "00" * 8, "host": 0, "seconds": 20}
    assert told(_FRAMES, asked, "send 0 4\nx\nheard\nend\n") == (
        "ready\nfailed 0 this port never sends\nunknown\nheard []\n")


@pytest.mark.parametrize(("generator", "duts", "ports", "says"), [
    ("", ["a=root@b"], [], "which host is the generator"),
    ("root@a", [], [], "which hosts are to be tested"),
    ("root@a", ["root@b"], [], "write it like sut1=root@sut1.example.net"),
    ("root@a", ["a=x@b", "a=x@c"], [], "a is taken"),
    ("root@a", ["generator=x@b"], [], "generator is taken"),
    ("-oProxyCommand=x", ["a=x@b"], [], "--generator '-oProxyCommand=x': address"),
    ("root@a:99999", ["a=x@b"], [], "port: 99999 does not fit"),
    ("root@a", ["a=x@b"], ["b/eth0"], "hosts are generator, a"),
])
def test_words_that_do_not_fit(generator: str, duts: list[str], ports: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Asked.of(generator, duts, ports)
    assert says in str(caught.value)


def test_what_was_asked() -> None:
    asked = Asked.of("local", ["sut1=me@sut1.example.net:2222"], ["sut1/eth1"], key="k", jump="gate.example.net")
    assert asked.hosts["generator"] is None
    ssh = asked.hosts["sut1"]
    assert ssh is not None
    assert (ssh.user, ssh.port, ssh.key, ssh.jump and ssh.jump.address) == ("me", 2222, "k", "gate.example.net")
    sut = host("sut1", 2)
    assert [one.ifname for one in _narrowed(sut, ["ens2f1"], None).candidates()] == ["ens2f1"]
    with pytest.raises(TestbedError, match="it is never a test port"):
        _narrowed(sut, ["ens2f7"], None)
    with pytest.raises(UsageError, match="has no interface eth9"):
        _narrowed(sut, ["eth9"], None)


def test_a_jump_host_comes_from_the_file() -> None:
    from harness.sites import target_of

    ssh = Ssh.model_validate(json.loads(
        '{"address": "sut1", "user": "me", "netns": "n", "jump": {"address": "gate", "user": "guest", "port": 2222}}'))
    target = target_of(ssh)
    assert target.jump is not None
    assert (target.hostname, target.sudo, target.netns) == ("sut1", True, "")
    assert (target.jump.hostname, target.jump.port, target.jump.sudo, target.jump.netns) == ("gate", 2222, False, "n")
