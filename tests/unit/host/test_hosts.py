# SPDX-License-Identifier: Apache-2.0
"""Facts, tuning, source archives and the local DUT."""

from __future__ import annotations

import io
import shlex
import tarfile

import pytest

from harness.errors import HostError, HostNotRestored, MeasurementError, TestbedError
from harness.host import facts
from harness.host.build import archive, source_files, source_hash
from harness.host.contract import Completed
from harness.host.inventory import Survey
from harness.host.local import local_dut
from harness.host.tuning.memory import hugepages
from harness.host.tuning.napi import pin_napi


class FakeHost:
    """A host of texts: files by path, outputs by command line."""

    name = "dut"

    def __init__(self, files=(), outputs=()):
        self.files, self.outputs, self.pins = dict(files), dict(outputs), []

    def run(self, argv, *, timeout_s=30.0, check=True, stdin=""):
        line = shlex.join(argv)
        if line not in self.outputs:
            raise HostError(f"{argv[0]}: no such program")
        return Completed(tuple(argv), 0, self.outputs[line], "")

    def read(self, path, default=None):
        if path not in self.files and default is None:
            raise HostError("no such file")
        return self.files.get(path, default)

    def set_file(self, path, value, *, verify=True):
        if self.files.get("full"):
            raise HostError("reads back '3'")
        self.files[path] = value

    def napi_threads(self, ifname):
        return {900: 31, 899: 30, 901: 32}

    def pin(self, pid, core, *, fifo=0):
        self.pins.append((pid, core, fifo))


# -- facts


def test_a_host_that_tells_nothing_has_no_facts():
    known = facts.facts_of(Survey({}))
    assert known["kernel"] == {"release": None, "version": None, "command_line": None}
    assert known["cpu"]["model"] is known["cpu"]["cores"] is known["cpu"]["nominal_hz"] is None
    assert known["nics"] == known["mitigations"] == known["tools"] == {}
    assert known["virtualisation"] is None


def test_facts_of_a_server():
    cpu = "/sys/devices/system/cpu"
    known = facts.facts_of(Survey({
        "files": {
            "/proc/cpuinfo": "vendor_id\t: GenuineIntel\nmodel name\t: Xeon\nmicrocode\t: 0x5\nflags\t: fpu\n",
            f"{cpu}/online": "0-3,8\n", f"{cpu}/cpu0/cpufreq/base_frequency": "2100000\n",
            f"{cpu}/intel_pstate/no_turbo": "1\n", f"{cpu}/smt/active": "1\n",
            f"{cpu}/cpu2/cpufreq/scaling_governor": "performance\n",
            f"{cpu}/cpu2/cpuidle/state1/name": "C1\n", f"{cpu}/cpu2/cpuidle/state1/latency": "2\n",
            f"{cpu}/cpu2/cpuidle/state2/name": "C6\n", f"{cpu}/cpu2/cpuidle/state2/disable": "1\n",
            f"{cpu}/vulnerabilities/mds": "Mitigation: Clear CPU buffers\n",
            "/proc/meminfo": "MemTotal:       1024 kB\n", "/etc/os-release": 'NAME=x\nPRETTY_NAME="Debian 12"\n',
        },
        "commands": {"virtualisation": {"status": 1, "out": "none\n"}, "tool.cc": {"missing": True, "error": "none"}},
        "interfaces": {"eth1": {
            "speed": "25000\n", "mtu": "1500\n", "address": "3c:fd:fe:a0:00:01\n",
            "driver": {"driver": "ice", "version": "6.1", "firmware": "4.2 0x8", "bus": "0000:03:00.0"},
            "device/vendor": "0x8086\n", "device/device": "0x159b\n", "device/subsystem_vendor": "0x8086\n",
            "device/subsystem_device": "0x0003\n",
            "pci": {"numa_node": "-1\n", "current_link_speed": "16.0 GT/s PCIe\n", "current_link_width": "8\n"},
            "channels": {"rx": 0, "tx": 0, "combined": 8, "combined_max": 64},
            "pause": {"autoneg": 0, "rx": 1, "tx": 0},
            "features": {"rx-checksum": True, "rx-ntuple-filter": False, "tx-checksum-ipv6": True, "zzz": True},
        }},
    }))
    assert known["os"] == "Debian 12"
    assert known["cpu"]["cores"] == 5
    assert known["cpu"]["nominal_hz"] == 2.1e9
    assert known["cpu"]["turbo"] is False
    assert (known["cpu"]["governor"], known["cpu"]["idle_states"]) == ("performance", "C1 2 us")
    assert known["mitigations"] == {"mds": "Mitigation: Clear CPU buffers"}
    assert known["memory"]["total_kb"] == 1024
    assert known["virtualisation"] == "none"
    assert known["tools"] == {"cc": None}
    nic = known["nics"]["eth1"]
    assert (nic["driver"], nic["firmware"], nic["speed_mbps"], nic["numa_node"]) == ("ice", "4.2 0x8", 25000, -1)
    assert (nic["device"], nic["pcie"]) == ("8086:159b (8086:0003)", "16.0 GT/s PCIe x8")
    assert nic["queues"] == {"combined": 8}
    assert nic["pause"] == {"autoneg": 0, "rx": 1, "tx": 0}
    assert nic["offloads"] == {"rx-checksumming": True, "tx-checksumming": True, "ntuple-filters": False}
    assert nic["rings"] is None


def test_nominal_frequency_from_the_name_when_nothing_else_tells():
    host = Survey({"files": {"/proc/cpuinfo": "model name : Intel(R) Xeon(R) Processor @ 2.50GHz\n"}})
    assert facts.cpu(host)["nominal_hz"] == 2.5e9


# -- tuning


def test_hugepages_are_added_to_those_in_use():
    folder = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    host = FakeHost({f"{folder}/nr_hugepages": "100\n", f"{folder}/free_hugepages": "10\n"})
    hugepages(host, 64)
    assert host.files[f"{folder}/nr_hugepages"] == "154"
    host.files[f"{folder}/free_hugepages"] = "64"
    hugepages(host, 64)
    assert host.files[f"{folder}/nr_hugepages"] == "154"
    host.files["full"] = "yes"
    with pytest.raises(HostError, match="reserve them at boot"):
        hugepages(host, 65)


def test_napi_threads_are_pinned_in_the_order_of_their_queues():
    host = FakeHost()
    assert pin_napi(host, "eth1", [4, 5], fifo=7) == 3
    assert host.pins == [(30, 4, 7), (31, 5, 7), (32, 4, 7)]


# -- sources


def test_sources_are_hashed_and_packed_without_products(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.c").write_text("int a;")
    (tmp_path / "Makefile").write_text("a:\n")
    files = source_files(tmp_path)
    assert list(files) == ["Makefile", "sub/a.c"]
    key = source_hash(files)
    (tmp_path / "a.o").write_text("product")
    (tmp_path / "prog").write_bytes(b"\x7fELF and so on")
    (tmp_path / ".hidden").write_text("x")
    assert source_hash(source_files(tmp_path)) == key
    with tarfile.open(fileobj=io.BytesIO(archive(files))) as tar:
        assert {member.name: member.size for member in tar} == {"Makefile": 3, "sub/a.c": 6}
    (tmp_path / "sub" / "a.c").write_text("int b;")
    assert source_hash(source_files(tmp_path)) != key


def test_sources_stay_in_their_folder(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "src" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(HostError, match="outside of its source folder"):
        source_files(tmp_path / "src")
    with pytest.raises(HostError, match="no such source folder"):
        source_files(tmp_path / "none")


# -- the whole, without SSH


def test_a_local_dut_does_what_a_remote_one_does(tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    with local_dut(cache_dir=str(tmp_path / "cache")) as dut:
        assert dut.left_over == (0, [])
        assert dut.run(["cat"], stdin="x").stdout == "x"
        with pytest.raises(HostError, match="local: sh -c 'exit 3' ended with status 3"):
            dut.run(["sh", "-c", "exit 3"])
        assert dut.run(["sh", "-c", "exit 3"], check=False).returncode == 3
        assert dut.which("sh") is not None
        assert dut.which("no-such-program") is None
        assert dut.read(str(tmp_path / "none"), "default") == "default"
        with pytest.raises(HostError, match="No such file"):
            dut.read(str(tmp_path / "none"))
        mark = dut.undo_mark()
        dut.set_file(str(target), "new")
        dut.create_directory(str(tmp_path / "made"))
        process = dut.spawn(["sh", "-c", "echo up; exec sleep 60"], name="p", env={"X": "y"})
        assert process.wait_output("up", 10) == "up"
        assert process.alive()
        assert process.stop(1.0) == process.stop() == process.returncode() == -2
        assert not process.alive()
        assert process.output() == "up\n"
        dut.undo_to(mark)
        assert target.read_text() == "old"
        assert not (tmp_path / "made").exists()
        dut.apply(["true"], ["sh", "-c", "echo never; exit 1"])
        with pytest.raises(HostNotRestored, match=r"not everything could be undone:\n.*never"):
            dut.undo_to(mark)


def test_a_host_that_cannot_be_put_back_takes_no_run_until_it_is_accepted(tmp_path):
    state, obstacle = tmp_path / "state", tmp_path / "obstacle"
    obstacle.touch()
    places = {"cache_dir": str(tmp_path / "cache"), "state_dir": str(state)}
    with pytest.raises(HostNotRestored, match="the next run tries it again") as ended:
        with local_dut(**places) as dut:
            dut.apply(["true"], ["test", "!", "-e", str(obstacle)])
    assert not isinstance(ended.value, MeasurementError)  # the next point would be measured on the changed host
    for _ in range(2):
        with pytest.raises(TestbedError, match=r"run test ! -e .*obstacle: exit status 1") as refused:
            with local_dut(**places):
                pytest.fail("it was taken all the same")
    assert f"remove {state}/journal.jsonl there" in str(refused.value)
    (state / "journal.jsonl").unlink()
    with local_dut(**places) as dut:
        assert dut.left_over == (0, [])


def test_an_interpreter_that_cannot_run_the_agent(tmp_path):
    with pytest.raises((TestbedError, HostError), match="agent"):
        with local_dut(cache_dir=str(tmp_path / "cache"), python="/bin/false"):
            pytest.fail("it started")
