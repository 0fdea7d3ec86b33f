# SPDX-License-Identifier: Apache-2.0
"""Checks on a recorded survey of a lab's DUT, and on the same host with one thing wrong, or with a NIC on a bus."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.doctor import answer
from harness.doctor.contract import HostView, PortView
from harness.doctor.examine import CHECKS, check_host, no_generator, not_surveyed, refuse
from harness.doctor.items import ITEMS, read_settings
from harness.doctor.text import checks_text
from harness.doctor.wires import probe_frame, probe_wires, read_answer
from harness.errors import GeneratorError, HostError, TestbedError
from harness.host.facts import expand, facts_of
from harness.host.inventory import Survey
from harness.plan import PortPlan, WirePlan
from harness.records import Check

DUT_MAC = bytes.fromhex("020000000100")
RECORDED = json.loads((Path(__file__).parents[2] / "data/surveys/lab-dut.json").read_text())
Data = dict[str, Any]
CPU1 = "/sys/devices/system/cpu/cpu1"


def wire(index: int) -> WirePlan:
    tg = PortPlan(index, f"t{index}", f"02:00:00:00:02:0{index}", f"198.18.{index}.2", 24)
    mac = RECORDED["interfaces"][f"d{index}"]["address"].strip()
    return WirePlan(index, "dut", tg, PortPlan(index, f"d{index}", mac, f"198.18.{index}.1", 24), 10.0,
                    f"198.19.{index * 64}.0/18", virtual=True)


def look(change: Callable[[Data], None] = lambda data: None, **view: Any) -> HostView:
    data = copy.deepcopy(RECORDED)
    change(data)
    wires = (wire(0), wire(1))
    ports = tuple(PortView(one.dut, one, one.dut.ifname) for one in wires)
    return HostView("dut", "dut", Survey(data), ports, (1,), **{"lab": True, "wires": wires, "largest": 64} | view)


def odd(host: HostView, settings: Data | None = None) -> dict[str, Check]:
    """What is not as expected, by name."""
    records = check_host(host, read_settings(settings or {}))
    return {record.name: record for record in records if record.status in ("warn", "fail")}


def on_a_bus(data: Data) -> None:
    """The port as a 25G NIC on PCIe reads: formats of sysfs and of the ioctls."""
    data["interfaces"]["d0"] |= {
        "device": "0000:3b:00.0", "speed": "25000\n", "device/vendor": "0x8086\n", "device/device": "0x159b\n",
        "driver": {"driver": "ice", "version": "6.1.0", "firmware": "4.40 0x8001c967 1.3534.0", "bus": "0000:3b:00.0"},
        "pci": {"numa_node": "0\n", "current_link_speed": "16.0 GT/s PCIe\n", "current_link_width": "8\n",
                "max_link_speed": "16.0 GT/s PCIe\n", "max_link_width": "8\n", "address": "0000:3b:00.0"},
        "rings": {"rx_max": 8160, "rx": 2048, "tx_max": 8160, "tx": 256}, "pause": {"autoneg": 0, "rx": 0, "tx": 0},
    }


def set_(*path: str, to: Any, bus: bool = False) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        if bus:
            on_a_bus(data)
        for name in path[:-1]:
            data = data[name]
        data[path[-1]] = to
    return change


def both(*changes: Callable[[Data], None]) -> Callable[[Data], None]:
    return lambda data: [change(data) for change in changes] and None


def addresses(change: Callable[[list[Data]], None]) -> Callable[[Data], None]:
    def whole(data: Data) -> None:
        told = json.loads(data["commands"]["addresses"]["out"])
        change(told)
        data["commands"]["addresses"]["out"] = json.dumps(told)
    return whole


def nft(*objects: Data) -> Callable[[Data], None]:
    return set_("commands", "nftables", "out", to=json.dumps({"nftables": [{"metainfo": {}}, *objects]}))


DUPLICATE = {"family": "inet", "local": "198.18.0.1", "prefixlen": 32, "scope": "global"}
RULE = {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": []}}
SOCKET = {"protocol": "0003", "ifindex": 0, "type": 3, "pid": 77, "name": "tcpdump"}
BROKEN = [
    ("link", "fail", "d0 no carrier", set_("interfaces", "d0", "carrier", to="0\n")),
    ("link", "fail", "d0 set down", set_("interfaces", "d0", "flags", to="0x1002\n")),
    ("mtu", "fail", "d1 40", set_("interfaces", "d1", "mtu", to="40\n")),
    ("duplicate-addresses", "fail", "198.18.0.1 on lo", addresses(lambda a: a[0]["addr_info"].append(DUPLICATE))),
    ("duplicate-addresses", "fail", "on lo", addresses(lambda a: a[0].update(address=wire(1).tg.mac))),
    ("firewall", "warn", "nftables inet filter: 1 rules in 0 hooked chains", nft(RULE)),
    ("firewall", "warn", "iptables: 2 rules, 1 chains that drop", set_("commands", "iptables", to={
        "status": 0, "cut": False, "err": "", "out":
        "*filter\n:INPUT DROP [0:0]\n[0:0] -A INPUT -i lo -j ACCEPT\n[4:9] -A INPUT -p tcp -j ACCEPT\nCOMMIT\n"})),
    ("packet-sockets", "warn", "tcpdump (pid 77) on every interface", set_("packet_sockets", to=[SOCKET])),
    ("xdp-programs", "warn", "d0 attached", addresses(lambda a: a[1].update(xdp={"mode": 1, "prog": {"id": 7}}))),
    ("offloads", "warn", "tcp-segmentation-offload on",
     set_("interfaces", "d0", "features", "tx-tcp-segmentation", to=True)),
    ("governor", "warn", "schedutil", set_("files", f"{CPU1}/cpufreq/scaling_governor", to="schedutil\n")),
    ("turbo", "warn", "on", set_("files", "/sys/devices/system/cpu/intel_pstate/no_turbo", to="0\n")),
    ("idle-states", "warn", "C6 (133 us)", both(set_("files", f"{CPU1}/cpuidle/state2/name", to="C6\n"),
                                              set_("files", f"{CPU1}/cpuidle/state2/latency", to="133\n"))),
    ("smt", "warn", "siblings of these cores: 3", both(
        set_("files", "/sys/devices/system/cpu/smt/active", to="1\n"),
        set_("commands", "lscpu", "out", to="# CPU,Core,Socket,Node\n0,0,0,0\n1,1,0,0\n2,0,0,0\n3,1,0,0\n"))),
    ("irqbalance", "warn", "running", set_("programs", to=["irqbalance"])),
    ("command-line", "warn", "slub_debug=FZ", set_("files", "/proc/cmdline", to="quiet slub_debug=FZ tsc=reliable")),
    ("mitigations", "warn", "mitigations=off", set_("files", "/proc/cmdline", to="quiet mitigations=off")),
    ("hugepages", "warn", "0 free, 3 can be made", set_(
        "files", "/proc/buddyinfo", to="Node 0, zone   Normal 4 0 0 0 0 0 0 0 0 1 1\n")),
    ("load", "warn", "core 1 40%", set_("load", to={"seconds": 0.25, "shares": {"1": 0.0}, "threads": [
        [1, "cc1", 0.1]]})),
    ("clock", "warn", "hpet", set_(
        "files", "/sys/devices/system/clocksource/clocksource0/current_clocksource", to="hpet\n")),
    ("pause-frames", "warn", "d0 rx on", set_(
        "interfaces", "d0", "pause", to={"autoneg": 1, "rx": 1, "tx": 0}, bus=True)),
    ("rings", "warn", "d0 rx 512 of 8160", set_("interfaces", "d0", "rings", "rx", to=512, bus=True)),
    ("pcie", "warn", "d0 8.0 GT/s PCIe x8", set_(
        "interfaces", "d0", "pci", "current_link_speed", to="8.0 GT/s PCIe\n", bus=True)),
    ("pcie", "warn", "d0 16.0 GT/s PCIe x4", set_(
        "interfaces", "d0", "pci", "current_link_width", to="4\n", bus=True)),
    ("numa", "warn", "NIC on node 0, cores on 1", set_(
        "commands", "lscpu", "out", to="0,0,0,0\n1,1,1,1\n", bus=True)),
]


def test_the_lab_as_recorded_is_as_expected() -> None:
    assert odd(look()) == {}
    statuses = {record.name: record.status for record in check_host(look(), {})}
    assert {name for name, status in statuses.items() if status == "n/a"} == {
        "numa", "pause-frames", "rings", "pcie", "firmware"}
    assert {name for name, status in statuses.items() if status == "unknown"} == {"governor", "turbo"}


@pytest.mark.parametrize(("name", "status", "words", "change"), BROKEN, ids=[f"{b[0]}: {b[2]}" for b in BROKEN])
def test_one_thing_wrong_is_named_with_remedy(name: str, status: str, words: str,
                                              change: Callable[[Data], None]) -> None:
    found = odd(look(change))
    assert list(found) == [name]
    assert found[name].status == status
    assert words in f"{found[name].target} {found[name].value}"
    assert found[name].remedy
    assert found[name].why == ITEMS[name].why


def test_every_check_has_been_seen_to_fail_and_has_a_function() -> None:
    assert set(CHECKS) | {"wires", "frame-size"} == set(ITEMS)
    assert set(CHECKS) - {entry[0] for entry in BROKEN} == {"link-speed", "isolated-cores", "firmware"}


def test_speed_firmware_and_isolation_of_a_host() -> None:
    host = look(both(on_a_bus, set_("interfaces", "d1", to=copy.deepcopy(RECORDED["interfaces"]["d1"]) | {
        "device": "0000:3b:00.1", "driver": {"driver": "ice", "firmware": "4.20 0x80017785"}})), lab=False)
    cable = [PortView(p.plan, WirePlan(**{**vars(p.wire), "virtual": False}), p.ifname) for p in host.ports]
    found = odd(HostView(**{**vars(host), "ports": tuple(cable)}))
    assert (found["link-speed"].value, found["link-speed"].expected) == ("25 Gbit/s", "10 Gbit/s")
    assert "they have 4.20 0x80017785, 4.40 0x8001c967 1.3534.0" in found["firmware"].remedy
    assert "isolcpus=managed_irq,domain,1" in found["isolated-cores"].remedy


def test_policies_and_expected_values_of_a_testbed_and_tuning() -> None:
    slow = set_("files", f"{CPU1}/cpufreq/scaling_governor", to="powersave\n")
    assert odd(look(slow), {"governor": "fail"})["governor"].status == "fail"
    assert odd(look(slow), {"governor": "ignore"}) == odd(look(slow), {"governor": {"expect": "PowerSave"}}) == {}
    assert "performance" in odd(look(), {"firewall": {"policy": "fail", "expect": "performance"}})["firewall"].expected
    assert odd(look(slow, tuning={"governor": "performance"})) == {}
    for wrong, words in (({"wifi": "warn"}, "is no check"), ({"smt": "maybe"}, "no policy"), ({"smt": 1}, "no setting"),
                         ({"smt": {"expect": 1}}, "quotes"), (["smt"], "no mapping")):
        with pytest.raises(ValueError, match=words):
            read_settings(wrong)


def test_what_a_host_cannot_answer_is_unknown_with_the_reason() -> None:
    records = not_surveyed("dut", "dut", True, "no Python", {})
    assert {(record.status, record.reason) for record in records} == {("unknown", "no Python")}
    silent = look(lambda data: data.clear())
    ports = tuple(PortView(port.plan, port.wire, "", "no such interface") for port in silent.ports)
    records = check_host(HostView(**{**vars(silent), "ports": ports}), {})
    assert {record.name for record in records} == set(CHECKS)
    assert {record.name: record.status for record in records if record.status != "unknown"} == {}
    no_save = set_("commands", "iptables", to={"missing": True, "error": "iptables-legacy-save: not found"})
    (told,) = [record for record in check_host(look(no_save), {}) if record.name == "firewall"]
    assert (told.status, "not found" in told.reason) == ("unknown", True)
    (wires, sizes) = no_generator(look(), "start it: t-rex-64 -i", {})
    assert (wires.status, sizes.status, wires.remedy) == ("fail", "fail", "start it: t-rex-64 -i")
    gone = look()
    bound = HostView(**{**vars(gone), "ports": (PortView(gone.ports[0].plan, gone.wires[0], "", "vfio-pci has it"),)})
    assert {r.reason for r in check_host(bound, {}) if r.name in ("mtu", "rings")} == {"vfio-pci has it"}


@pytest.mark.parametrize("hostile", [[], {"survey": 1}, "\x1b[31m" * 5000, -1, None, {"a": {"b": []}}])
def test_whatever_a_host_says_no_check_breaks(hostile: Any) -> None:
    for key in RECORDED:
        records = check_host(look(set_(key, to=hostile)), {})
        assert len(json.dumps([record.model_dump() for record in records])) < 60_000
        assert "\x1b" not in checks_text(records) + "".join(record.model_dump_json() for record in records)
        facts_of(look(set_(key, to=hostile)).survey)
    for name in RECORDED["interfaces"]["d0"]:
        check_host(look(set_("interfaces", "d0", name, to=hostile)), {})


def test_output_that_is_no_survey_and_cores_that_cannot_be_are_refused() -> None:
    for text in ("", "[]", "{}", "[" * 100_000, "x" * (1 << 20 | 1)):
        with pytest.raises(HostError):
            Survey.parse(text)
    with pytest.raises(ValueError, match="ids go up"):
        expand("0-99999999999")


class Wired:
    """A generator whose port n reaches the answering port ``cables[n]``, up to a size; a DUT that answers, on the ports
    that are up. The link of a port that is set up, or that is ``training``, comes at the third look."""

    def __init__(self, cables: dict[int, list[int]], largest: int = 2000, down: Iterable[int] = (),
                 training: Iterable[int] = ()) -> None:
        self.cables, self.largest, self.stopped = cables, largest, False
        self.down, self.undo = {f"d{number}" for number in down}, list[list[str]]()
        self.looks = dict.fromkeys(self.down, 99) | {f"d{number}": 3 for number in training}

    def read(self, path: str, default: str | None = None) -> str:
        ifname, what = path.split("/")[4:]
        if what == "flags":
            return "0x1002" if ifname in self.down else "0x1003"
        if what == "operstate":
            return "up"
        assert what == "carrier"
        self.looks[ifname] = self.looks.get(ifname, 1) - 1
        return "0" if self.looks[ifname] > 0 else "1"

    def apply(self, do: list[str], undo: list[str]) -> None:
        assert (do[:3], do[4]) == (["ip", "link", "set"], "up")
        self.looks[do[3]] = 3
        self.down.remove(do[3])
        self.undo.append(undo)

    def exchange(self, port: int, frames: list[bytes], rx_port: int, wait_s: float) -> list[bytes]:
        if port not in self.cables:
            raise GeneratorError("port is down")
        return [b"\xff" * 60, *(answer.answer(frame, end, DUT_MAC) for end in self.cables[port] for frame in frames
                                if len(frame) + 4 <= self.largest and self.looks.get(f"d{end}", 0) <= 0)]

    def python(self) -> str:
        return "python3"

    def spawn(self, argv: list[str], *, name: str) -> Any:
        return self

    def wait_output(self, pattern: str, timeout_s: float) -> str:
        return "ready"

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize(("cables", "largest", "bad"), [
    ({0: [0], 1: [1]}, 2000, []),
    ({0: [1], 1: [0]}, 2000, [("wires", "dut/1 (d1) answers"), ("wires", "dut/0 (d0) answers")]),
    ({0: [0, 1], 1: [1]}, 2000, [("wires", "dut/0 (d0) and dut/1 (d1) answers")]),
    ({0: [0], 1: []}, 2000, [("wires", "no answer"), ("frame-size", "none")]),
    ({0: [0], 1: [1]}, 1000, [("frame-size", "64 bytes"), ("frame-size", "64 bytes")]),
])
def test_wires_and_frame_sizes(cables: dict[int, list[int]], largest: int, bad: list[tuple[str, str]]) -> None:
    wired = Wired(cables, largest)
    found = list(probe_wires(look(largest=1518), wired, wired))  # type: ignore[arg-type]
    assert [(name, finding.value) for name, finding in found if finding.good is False] == bad
    assert len(found) == 4
    assert wired.stopped


def test_ports_of_a_host_that_are_down_are_up_for_the_probe_and_those_of_a_lab_are_found() -> None:
    for lab, down, wrong in ((False, [0, 1], 0), (False, [1], 0), (True, [0, 1], 4), (True, [1], 2)):
        wired = Wired({0: [0], 1: [1]}, down=down)
        found = list(probe_wires(look(lab=lab), wired, wired))  # type: ignore[arg-type]
        assert sum(finding.good is False for _, finding in found) == wrong
        undone = [] if lab else [["ip", "link", "set", f"d{number}", "down"] for number in down]
        assert wired.undo == undone, "left to the DUT's journal, and nothing else touched"


def test_a_link_that_still_trains_is_waited_for() -> None:
    """As after a boot, or once a driver has its device back."""
    wired = Wired({0: [0], 1: [1]}, training=[0])
    assert all(finding.good for _, finding in probe_wires(look(lab=False), wired, wired))  # type: ignore[arg-type]
    assert wired.undo == []


def test_a_probe_that_cannot_be_made_is_unknown() -> None:
    wired = Wired({})
    found = list(probe_wires(look(), wired, wired))  # type: ignore[arg-type]
    assert {(name, finding.good) for name, finding in found} == {("wires", None), ("frame-size", None)}
    assert "port is down" in found[0][1].reason


def test_only_answers_to_this_probe_count() -> None:
    frame = probe_frame("02:00:00:00:02:00", b"12345678", 3, 0, 64)
    assert len(frame) == 60
    assert read_answer(frame, b"12345678") is None
    reply = answer.answer(frame, 1, DUT_MAC)
    assert (reply[:6], reply[6:12]) == (bytes.fromhex("020000000200"), DUT_MAC), "a switch must not learn it wrongly"
    heard = read_answer(reply, b"12345678")
    assert heard is not None
    assert (heard.wire, heard.port, heard.size) == (3, 1, 64)
    assert read_answer(reply, b"87654321") is None
    assert all(answer.answer(other, 0, DUT_MAC) == b"" for other in (reply, b"", bytes(60)))


def test_a_refusal_says_everything_and_warnings_refuse_nothing() -> None:
    records = check_host(look(BROKEN[0][3]), {})
    with pytest.raises(TestbedError, match=r"link \(dut d0\): no carrier, expected up.*look at the cable") as refusal:
        refuse(records)
    assert refusal.value.exit_code == 3
    refuse(check_host(look(BROKEN[5][3]), {}))
    text = checks_text(records)
    assert text.startswith("fail  link  dut d0\n      no carrier; expected up\n      why: without a link")
    assert f"{len(records)} checks: 1 fail, " in text
