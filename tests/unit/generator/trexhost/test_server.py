# SPDX-License-Identifier: Apache-2.0
"""Whether a running TRex fits, whose it is, and what one that ended complained of."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import TestbedError
from harness.generator.trexhost import server
from harness.generator.trexhost.complaints import explain, plain
from harness.generator.trexhost.cores import TrexPort
from harness.generator.trexhost.release import Release, find_release
from harness.generator.trexhost.server import Wanted, check, command
from harness.host.contract import Completed

PORTS = tuple(TrexPort(f"veth{index}", f"02:00:00:00:00:0{index}", f"02:00:00:00:01:0{index}") for index in (0, 1))
RELEASE = Release("/opt/trex/v3.08", "v3.08", "python3", "3.11")
WANTED = Wanted(mode="stl", ports=PORTS, cores=(1,), sync_port=4501, async_port=4500, start=True, software=False,
                speed_gbps=10, hugepages=2048, memory_mb=512)
SERVES: dict[str, Any] = {"serving": True, "version": "v3.08", "mode": "STL", "ports": [
    {"index": index, "mac": f"02:00:00:00:00:0{index}", "src_mac": "", "owner": ""} for index in (1, 0)]}


def changed(*, port: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    found = copy.deepcopy(SERVES) | keys
    found["ports"][0] |= port or {}  # of index 1
    return found


def test_a_server_that_fits_is_used_also_after_a_harness_that_died() -> None:
    check(SERVES, RELEASE, WANTED)
    check(changed(port={"mac": "02:ff:00:00:00:00", "src_mac": "02:00:00:00:00:01"}), RELEASE, WANTED)
    check(changed(port={"owner": "harness"}), RELEASE, WANTED)  # the host's lock is held: no other harness lives there


@pytest.mark.parametrize(("found", "says"), [
    (changed(port={"owner": "alice"}), "port 1 of TRex at .* 4501 is owned by 'alice'.* never taken"),
    (changed(mode="ASTF", port={"owner": "bob"}), "mode ASTF, and this needs STL; port 1 is owned by 'bob'"),
    (changed(version="v2.99"), "is v2.99, but /opt/trex/v3.08, whose client would drive it, is v3.08"),
    (changed(port={"mac": "02:ff:00:00:00:00"}), "port 1 of TRex .* has the MAC 02:ff.* it is 02:00:00:00:00:01"),
    (changed(ports=SERVES["ports"][1:]), "has 1 ports, and the testbed's generator has 2"),
])
def test_a_server_that_does_not_fit_is_left_alone(found: dict[str, Any], says: str) -> None:
    with pytest.raises(TestbedError, match=says) as raised:
        check(found, RELEASE, WANTED)
    assert raised.value.exit_code == 3


def test_the_mode_is_an_option_and_memory_is_limited() -> None:
    assert "--astf" not in command(WANTED, "cfg")
    assert "--astf" in command(replace(WANTED, mode="astf"), "cfg")
    assert "--software" in command(WANTED, "cfg")  # on kernel interfaces always
    nics = tuple(replace(port, interface="0000:03:00.0") for port in PORTS)
    assert "--software" not in command(replace(WANTED, ports=nics), "cfg")
    assert (WANTED.limit_mb, replace(WANTED, ports=nics).limit_mb) == (512, 4096)  # or it would map every free page


@pytest.mark.parametrize(("output", "says"), [
    ("ZMQ port is used by the following process:\npid: 77, cmd: ./_t-rex-64 -i\n", r"pid 77: ./_t-rex-64 -i\)"),
    ("ERROR: Could not find Linux interface nope0.\nERROR encountered while configuring", "no interface nope0;"),
    (" 0000:03:00.0 does not exist \nERROR encountered", "no PCI device 0000:03:00.0"),
    ("Could not find all interfaces (asked for: 2, found: 0).\n", "found 0 of 2 ports"),
    ("EAL: Cannot get hugepage information.\n You might need to run ./trex-cfg  once  \n", "reserve them at boot"),
    (" ERROR there is not enough huge-pages memory in your system \nEAL: Error - exiting with code: 1\n"
     "Cannot init nodes mbuf pool nodes-1\n", "raise generator.trex.hugepages"),
    ("ERROR could not allocate memory for mbufs\nCannot init mbuf pool small-pkt-const\n", "memory_mb where"),
    ("Error: You have 2 threads available, but you asked for 4 threads.\n", "given 4 cores and sees 2"),
    ("\x1b[2J\x1b[1mboom\x1b[0m\r\nand gone\n", r"it says: boom \| and gone"), ("", "it said nothing"),
])
def test_a_complaint_is_one_sentence_with_the_remedy(output: str, says: str) -> None:
    assert re.search(says, explain(output)), explain(output)
    assert "\x1b" not in explain(output)


def test_a_kept_log_holds_no_control_characters() -> None:
    assert plain("a\x1b[2K\rb\x07\n") == "a\nb\n"


class Mellanox:
    """A host with a device that DPDK shares with the kernel, and one that it does not."""

    name = "generator"

    def __init__(self) -> None:
        self.applied: list[tuple[list[str], list[str]]] = []

    def which(self, program: str) -> str:
        return f"/usr/bin/{program}"

    def run(self, argv: Sequence[str], *, check: bool = True) -> Completed:
        said = {"readlink": "../drivers/mlx5_core\n" if "3b" in argv[1] else "../drivers/ice\n", "setpci": "2936\n"}
        return Completed(tuple(argv), 0, said[argv[0]], "")

    def apply(self, do: list[str], undo: list[str]) -> None:
        self.applied.append((do, undo))


def test_the_read_size_that_the_start_script_sets_is_put_back() -> None:
    host = Mellanox()
    for pci in ("0000:3b:00.0", "0000:5e:00.0"):
        server._remember_read_size(host, pci)  # type: ignore[arg-type]
    assert host.applied == [(["true"], ["setpci", "-s", "0000:3b:00.0", "68.w=2936"])]


class FakeHost:
    """A host on which some paths exist and some interpreters import the client."""

    def __init__(self, paths: Sequence[str], pythons: dict[str, str], version: str = " Version : v3.08   \n") -> None:
        self.paths, self.pythons, self.version = paths, pythons, version

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed:
        if argv[0] == "test":
            return Completed(tuple(argv), 0 if argv[2] in self.paths else 1, "", "")
        if argv[0] == "sh":
            return Completed(tuple(argv), 0, self.version, "cannot execute binary file")
        assert argv[0] == "env"  # an agent raises for a program that is not there
        said = self.pythons.get(argv[1], "")
        return Completed(tuple(argv), 0 if said else 127, said, "")


CLIENT = "automation/trex_control_plane/interactive/trex/stl/api.py"
GOOD, BAD = 'noise\n{"python": "3.11"}', '{"python": "3.13", "error": "ModuleNotFoundError: No module named cgi"}'


def test_version_and_interpreter_are_found_not_assumed() -> None:
    host = FakeHost(["/opt/t/scripts/t-rex-64", f"/opt/t/scripts/{CLIENT}"], {"python3": BAD, "python3.11": GOOD})
    found = find_release(host, "/opt/t")  # a source tree: its scripts are the installation
    assert (found.directory, found.version, found.python) == ("/opt/t/scripts", "v3.08", "python3.11")


@pytest.mark.parametrize(("host", "says"), [
    (FakeHost([], {}), "is no TRex installation: it holds no t-rex-64"),
    (FakeHost(["/opt/t/t-rex-64"], {}), "not TRex's client"),
    (FakeHost(["/opt/t/t-rex-64", f"/opt/t/{CLIENT}"], {"python3": BAD}), r"Python 3.13: ModuleNotFound.*python3.11"),
    (FakeHost(["/opt/t/t-rex-64"], {}, version="?"), "does not run .*cannot execute binary file"),
])
def test_what_is_wrong_with_an_installation(host: FakeHost, says: str) -> None:
    with pytest.raises(TestbedError, match=says):
        find_release(host, "/opt/t")
