# SPDX-License-Identifier: Apache-2.0
"""Profiles, and each item against a host of texts that answers as real ones do (labelled: no real NIC here)."""

from __future__ import annotations

import shlex

import pytest

from harness.errors import HostError, HostNotRestored, StackError
from harness.host.contract import Completed
from harness.host.link import AgentRefused
from harness.host.tuning import ethtool
from harness.host.tuning.apply import ITEMS, tuned
from harness.host.tuning.change import Target
from harness.host.tuning.profile import PROFILES, STOCK, TUNED, Profile, named_profile, read_profile
from harness.host.tuning.steering import mask

CPU = "/sys/devices/system/cpu"


class SimulatedServer:
    """A host with one NIC whose settings can be read and set, on a journal of undo steps."""

    name, virtual = "sut", False

    def __init__(self) -> None:
        self.rings, self.queues, self.table = {"RX": 512, "TX": 512}, 8, [i % 8 for i in range(16)]
        self.gro, self.hash, self.irqbalance, self.stubborn = "on", "addresses", "active", False
        self.files = {
            "/sys/class/net/eth1/queues/rx-0/rps_cpus": "00000000,00000000\n",
            "/sys/class/net/eth1/queues/tx-0/xps_cpus": "f\n", "/sys/class/net/eth1/queues/tx-1/xps_cpus": "0\n",
            f"{CPU}/cpu4/cpufreq/scaling_governor": "powersave\n", f"{CPU}/intel_pstate/no_turbo": "0\n",
            f"{CPU}/cpu4/cpuidle/state0/latency": "0\n", f"{CPU}/cpu4/cpuidle/state0/disable": "0\n",
            f"{CPU}/cpu4/cpuidle/state1/latency": "133\n", f"{CPU}/cpu4/cpuidle/state1/disable": "0\n",
            "/proc/sys/net/core/netdev_budget": "300\n",
        }
        self.unreadable: set[str] = set()
        self.journal: list[object] = []

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}"

    def exists(self, path: str) -> bool:
        return path in self.files

    def read(self, path: str, default: str | None = None) -> str:
        if path in self.unreadable:
            raise AgentRefused(f"[Errno 2] No such file or directory: {path!r}", "failed")
        return self.files[path]

    def set_file(self, path: str, value: str, *, verify: bool = True) -> None:
        old = self.files[path]
        if self.stubborn:
            raise AgentRefused(f"{path}: wrote {value!r}, reads back {old!r}", "unverified")
        if int(old.replace(",", ""), 16) == int(value, 16) if value.isdigit() else old.strip() == value:
            return
        self.journal.append((path, old))
        size = 1 << (int(value) - 1).bit_length() if "flow_" in path and int(value) else value
        self.files[path] = f"{size}\n"
        if str(size) != value:
            self.undo_to(len(self.journal) - 1)
            raise AgentRefused(f"{path}: wrote {value!r}, reads back {size!r}", "unverified")

    def apply(self, do: list[str], undo: list[str]) -> Completed:
        self.journal.append(undo)
        return self.run(do)

    def undo_mark(self) -> int:
        return len(self.journal)

    def undo_to(self, mark: int) -> None:
        while len(self.journal) > mark:
            step = self.journal.pop()
            if isinstance(step, tuple):
                self.files[step[0]] = step[1]
            else:
                self.run(step)

    def run(self, argv, *, timeout_s=30.0, check=True, stdin=""):
        command = shlex.join(argv)
        output = self._answer(argv, command)
        if output is None:
            if check:
                raise HostError(f"{command} ended with status 1: netlink error: Operation not supported")
            return Completed(tuple(argv), 2, "", "")
        return Completed(tuple(argv), 0, output, "")

    def _answer(self, argv, command):
        if argv[0] == "ls":
            inside = [path[len(argv[1]) + 1:].split("/")[0] for path in self.files if path.startswith(argv[1] + "/")]
            return "\n".join(dict.fromkeys(inside)) or None
        if argv[0] == "systemctl":
            if argv[1] != "is-active":
                self.irqbalance = "inactive" if argv[1] == "stop" else "active"
            return self.irqbalance + "\n"
        settings = dict(zip(argv[3::2], argv[4::2], strict=False))
        if argv[1] == "-g":
            now = "".join(f"{name}:\t\t{size}\nRX Mini:\tn/a\n" for name, size in self.rings.items())
            return ("Ring parameters for eth1:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n"
                    f"Current hardware settings:\n{now}")
        if argv[1] == "-G":
            if not self.stubborn:
                self.rings = {name.upper(): int(value) for name, value in settings.items()}
            return ""
        if argv[1] == "-l":
            return ("Pre-set maximums:\nRX:\t\tn/a\nCombined:\t16\n"
                    f"Current hardware settings:\nCombined:\t{self.queues}\n")
        if argv[1] == "-L":
            self.queues = int(settings["combined"])
            return ""
        if argv[1] == "-x":
            rows = "".join(f"{at:5d}: " + " ".join(f"{q:5d}" for q in self.table[at:at + 8]) + "\n" for at in (0, 8))
            return f"RX flow hash indirection table for eth1 with 8 RX ring(s):\n{rows}RSS hash key:\n"
        if argv[1] == "-X":
            count = int(argv[4]) if argv[3] == "equal" else 8
            self.table = [i % count for i in range(16)]
            return ""
        if argv[1] == "-k":
            return f"Features for eth1:\ngeneric-receive-offload: {self.gro}\nlarge-receive-offload: off [fixed]\n"
        if argv[1] == "-K":
            self.gro = settings["gro"]
            return ""
        if argv[1] == "-n":
            ports = "L4 bytes 0 & 1 [TCP/UDP src port]\nL4 bytes 2 & 3 [TCP/UDP dst port]\n"
            return f"{argv[-1]} use these fields for computing Hash flow key:\nIP SA\nIP DA\n" + \
                (ports if self.hash == "ports" else "")
        if argv[1] == "-N":
            self.hash = "ports" if argv[-1] == "sdfn" else "addresses"
            return ""
        return None  # -a and -c: not supported by this driver

    def state(self):
        return dict(self.files), dict(self.rings), self.queues, list(self.table), self.gro, self.hash, self.irqbalance


def target(server: SimulatedServer) -> Target:
    return Target(server, ("eth1",), (4,))  # type: ignore[arg-type]


def test_every_item_of_a_profile_has_its_function() -> None:
    assert set(ITEMS) == set(Profile.model_fields) - {"required"}


def test_tuned_sets_verifies_and_puts_back() -> None:
    server = SimulatedServer()
    before = server.state()
    with tuned(target(server), TUNED) as changes:
        done = {(c.item, c.target): (c.before, c.after, c.status) for c in changes}
        assert done["rings", "eth1"] == ("rx 512 tx 512", "rx 4096 tx 4096", "applied")
        assert done["rss_queues", "eth1"] == ("combined 8", "combined 1", "applied")
        assert done["rss_indirection", "eth1"][1:] == (" ".join("0" * 16), "applied")
        assert done["rss_hash", "eth1 udp4"] == ("addresses", "ports", "applied")
        assert done["lro", "eth1"] == ("lro off", "lro off", "already")
        assert done["irqbalance", "sut"] == ("running", "stopped", "applied")
        assert done["idle_latency_us", f"{CPU}/cpu4/cpuidle/state1/disable"] == ("0", "1", "applied")
        assert done["idle_latency_us", f"{CPU}/cpu4/cpuidle/state0/disable"][2] == "already"
        assert done["turbo", f"{CPU}/intel_pstate/no_turbo"] == ("0", "1", "applied")
        assert done["xps", "/sys/class/net/eth1/queues/tx-0/xps_cpus"] == ("f", "10", "applied")
        missing = {c.item: c.reason for c in changes if c.status == "unsupported"}
        assert set(missing) == {"pause_frames", "coalesce_us", "rfs", "sysctls"}
        assert "Operation not supported" in missing["pause_frames"]
        assert server.state() != before
    assert server.state() == before
    assert not server.journal


def test_sysctls_of_an_interface_that_is_no_test_port_are_refused_before_anything_is_touched() -> None:
    server = SimulatedServer()
    mgmt, own = "net.ipv6.conf.mgmt0.disable_ipv6", "net.ipv4.conf.eth1.rp_filter"
    server.files |= {f"/proc/sys/{name.replace('.', '/')}": "1\n" for name in (mgmt, own)}
    before = server.state()
    with pytest.raises(StackError, match=rf"{mgmt}: no test port of this point, whose ports are eth1"):
        with tuned(target(server), read_profile({"rings": "max", "sysctls": {own: 0, mgmt: 1}})):
            pytest.fail("it was measured all the same")
    assert (server.state(), server.journal) == (before, [])
    with tuned(target(server), read_profile({"sysctls": {own: 0}})) as changes:
        assert [(c.before, c.after, c.status) for c in changes] == [("1", "0", "applied")]
    assert server.state() == before


def test_stock_touches_nothing() -> None:
    server = SimulatedServer()
    with tuned(target(server), STOCK) as changes:
        assert changes == ()
        assert not server.journal


def test_what_does_not_verify_is_undone_and_fails_the_point() -> None:
    server = SimulatedServer()
    before = server.state()
    server.stubborn = True
    with pytest.raises(StackError, match=r"rings of eth1 was set to 'rx 4096 tx 4096' and reads back 'rx 512 tx 512'"):
        with tuned(target(server), Profile(gro=False, rings="max")):
            pytest.fail("it was measured all the same")
    assert server.state() == before
    with pytest.raises(StackError, match="reads back"):
        with tuned(target(server), Profile(governor="performance")):
            pytest.fail("it was measured all the same")


def test_a_host_that_does_not_come_back_is_told() -> None:
    server = SimulatedServer()
    with pytest.raises(HostNotRestored, match=r"not as it was: gro of eth1 was 'gro on' and is 'gro off' now"):
        with tuned(target(server), Profile(gro=False)):
            server.journal.clear()


def test_required_items_fail_the_point_with_the_reason() -> None:
    server = SimulatedServer()
    before = server.state()
    profile = read_profile({"rings": "max", "pause_frames": False, "required": ["pause_frames"]})
    with pytest.raises(StackError, match=r"pause_frames is required and cannot be done .*Operation not supported"):
        with tuned(target(server), profile):
            pytest.fail("it was measured all the same")
    assert server.state() == before


def test_a_file_that_is_there_and_cannot_be_read_is_unsupported() -> None:
    server = SimulatedServer()
    server.unreadable.add("/sys/class/net/eth1/queues/tx-1/xps_cpus")
    with tuned(target(server), Profile(xps="cores")) as changes:
        assert [c.status for c in changes] == ["applied", "unsupported"]
        assert "No such file" in changes[1].reason


def test_a_setting_that_cannot_be_read_after_the_point_is_told() -> None:
    server = SimulatedServer()
    with pytest.raises(HostNotRestored, match=r"xps of .*tx-0/xps_cpus was 'f' and is .unreadable: .*No such file"):
        with tuned(target(server), Profile(xps="cores")):
            server.unreadable.add("/sys/class/net/eth1/queues/tx-0/xps_cpus")


@pytest.mark.parametrize(("wanted", "table", "share"), [(0, "0", "0"), (1, "1", "1"), (30_000, "32768", "16384"),
                                                        (32_768, "32768", "16384")])
def test_flow_tables_have_the_sizes_that_the_kernel_makes(wanted: int, table: str, share: str) -> None:
    server = SimulatedServer()
    queues = [f"/sys/class/net/eth1/queues/rx-{n}/rps_flow_cnt" for n in (0, 1)]
    flows = {"/proc/sys/net/core/rps_sock_flow_entries": "4\n", **dict.fromkeys(queues, "4\n")}
    server.files |= flows
    with tuned(target(server), Profile(rfs=wanted)) as changes:
        assert [c.after for c in changes] == [table, share, share]
    assert flows.items() <= server.files.items()


def test_a_table_set_by_hand_is_left_alone() -> None:
    server = SimulatedServer()
    server.table = [0, 0, 0, 1] * 4
    with tuned(target(server), Profile(rss_queues="cores")) as changes:
        assert [(c.item, c.status) for c in changes] == [("rss_queues", "applied"), ("rss_indirection", "unsupported")]
    assert server.table == [0, 0, 0, 1] * 4


@pytest.mark.parametrize(("cores", "text"), [((0,), "1"), ((1, 3), "a"), ((32,), "1,00000000"),
                                             ((0, 63, 64), "1,80000000,00000001")])
def test_masks(cores: tuple[int, ...], text: str) -> None:
    assert mask(cores) == text


@pytest.mark.parametrize(("value", "message"), [
    ("fast", "no profile; stock, tuned"), (3, "no profile"), ({"ring": "max"}, "Extra inputs"),
    ({"sysctls": {"kernel.sysrq": 1}}, "no setting of the network stack"),
    ({"sysctls": {"net.core.x/../../kernel": 1}}, "no setting of the network stack"),
    ({"sysctls": {"net.core.rmem_max": "1; reboot"}}, "not a number"),
    ({"sysctls": {"net.ipv4.ip_forward": 1}}, "every interface"),
    ({"sysctls": {"net.ipv6.conf.all.forwarding": 1}}, "every interface"),
    ({"sysctls": {"net.ipv4.neigh.default.gc_thresh3": 1}}, "every interface"),
    ({"sysctls": {"net.ipv4.conf.all": 1}}, "every interface"),
    ({"required": ["rings"]}, "not set in this profile"), ({"rings": 0}, "rings|at least"),
    ({"idle_latency_us": "fast"}, "not a quantity"),
])
def test_wrong_profiles_are_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_profile(value)


def test_profiles_build_on_each_other() -> None:
    profile = read_profile({"base": "tuned", "rings": 1024, "required": "all"})
    assert (profile.rings, profile.governor, profile.requires("xps")) == (1024, "performance", True)
    assert named_profile(profile).name == "custom"
    assert {named_profile(name).name for name in PROFILES} == set(PROFILES)
    assert Profile.model_validate(profile.model_dump(mode="json", exclude_defaults=True)) == profile


def test_adaptive_coalescing_is_read() -> None:
    words = ethtool.parse_words(
        "Coalesce parameters for eth1:\nAdaptive RX: on  TX: off\nrx-usecs:\t3\ntx-usecs:\tn/a\n")
    told = [words[name] for name in ("adaptive-rx", "adaptive-tx", "rx-usecs", "tx-usecs")]
    assert told == ["on", "off", "3", "n/a"]
