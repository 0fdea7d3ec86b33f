# SPDX-License-Identifier: Apache-2.0
"""Profiles, and each item against a host of texts that answers as real ones do (labelled: no real NIC here)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HostNotRestored, StackError
from harness.host.tuning import ethtool, placement
from harness.host.tuning.apply import ITEMS, tuned
from harness.host.tuning.change import Target
from harness.host.tuning.profile import PROFILES, STOCK, TUNED, Profile, named_profile, read_profile
from harness.host.tuning.steering import mask
from tests.unit.host.simulated_server import CPU, QUEUES, SimulatedServer


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
        assert done["xps", f"{QUEUES}/tx-0/xps_cpus"] == ("f", "10", "applied")
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


def test_an_interrupted_undoing_is_told_as_the_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as the host that does not come back: the end of the connection undoes the rest."""
    server = SimulatedServer()

    def interrupted(mark: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "undo_to", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with tuned(target(server), Profile(gro=False)):
            pass
    assert server.gro == "off"


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
    server.unreadable.add(f"{QUEUES}/tx-1/xps_cpus")
    with tuned(target(server), Profile(xps="cores")) as changes:
        assert [c.status for c in changes] == ["applied", "unsupported"]
        assert "No such file" in changes[1].reason


def test_a_setting_that_cannot_be_read_after_the_point_is_told() -> None:
    server = SimulatedServer()
    with pytest.raises(HostNotRestored, match=r"xps of .*tx-0/xps_cpus was 'f' and is .unreadable: .*No such file"):
        with tuned(target(server), Profile(xps="cores")):
            server.unreadable.add(f"{QUEUES}/tx-0/xps_cpus")


@pytest.mark.parametrize(("wanted", "table", "share"), [(0, "0", "0"), (1, "1", "1"), (30_000, "32768", "16384"),
                                                        (32_768, "32768", "16384")])
def test_flow_tables_have_the_sizes_that_the_kernel_makes(wanted: int, table: str, share: str) -> None:
    server = SimulatedServer()
    queues = [f"{QUEUES}/rx-{n}/rps_flow_cnt" for n in (0, 1)]
    flows = {"/proc/sys/net/core/rps_sock_flow_entries": "4\n", **dict.fromkeys(queues, "4\n")}
    server.files |= flows
    with tuned(target(server), Profile(rfs=wanted)) as changes:
        assert [c.after for c in changes] == [table, share, share]
    assert flows.items() <= server.files.items()


def test_a_table_set_by_hand_is_left_alone_and_so_are_the_queues_that_could_reset_it() -> None:
    server = SimulatedServer()
    server.table = [0, 0, 0, 1] * 4
    with tuned(target(server), Profile(rss_queues="cores")) as changes:
        assert [(c.item, c.status) for c in changes] == [("rss_queues", "unsupported"),
                                                         ("rss_indirection", "unsupported")]
    assert (server.table, server.queues, server.journal) == ([0, 0, 0, 1] * 4, 8, [])


@pytest.mark.parametrize(("queues", "by_hand", "cores"), [(8, 0, 3), (8, 4, 2), (8, 4, 5), (2, 0, 4), (4, 2, 6),
                                                          (4, 4, 4), (4, 2, 4), (8, 8, 1)])
def test_queues_and_their_table_come_and_go_in_any_number(queues: int, by_hand: int, cores: int) -> None:
    """``by_hand``: the table was made by `ethtool -X equal` so many, and has to be so again; 0: the default table."""
    server = SimulatedServer()
    server.queues, server.table = queues, [i % (by_hand or queues) for i in range(16)]
    server.configured = bool(by_hand)
    server.interrupts["nic-TxRx-0"] = "5"
    before = server.state()
    with tuned(Target(server, ("eth1",), tuple(range(cores))), Profile(rss_queues="cores")) as changes:  # type: ignore[arg-type]
        assert {c.status for c in changes} <= {"applied", "already"}
        assert (server.queues, server.table) == (cores, [i % cores for i in range(16)])
    # A table by `equal` so many as there are queues cannot be told from the default one, to which it is reset.
    server.configured |= by_hand == queues
    assert server.state() == before


def done_on(driver: str, profile: Profile) -> dict[str, tuple[str, str, str]]:
    """What came of a profile on a driver that has to be as before afterwards."""
    server = SimulatedServer(driver)
    before = server.state()
    with tuned(target(server), profile) as changes:
        done = {c.target: (c.before, c.after, c.status) for c in changes}
    assert server.state() == before
    return done


@pytest.mark.parametrize("driver", ["i40e", "mlx5", "e1000e"])
def test_coalescing_is_set_one_by_one_and_put_back_adaptive_last(driver: str) -> None:
    assert done_on(driver, Profile(coalesce_us=10)) == {
        "eth1 adaptive-rx": ("adaptive-rx on", "adaptive-rx off", "applied"),
        "eth1 adaptive-tx": ("adaptive-tx on", "adaptive-tx off", "applied"),
        "eth1 rx-usecs": ("rx-usecs 50", "rx-usecs 10", "applied"),
        "eth1 tx-usecs": ("tx-usecs 50", "tx-usecs 10", "applied")}


def test_usecs_that_only_turning_adaptive_off_changed_need_no_undo() -> None:
    assert done_on("mlx5", Profile(coalesce_us=50))["eth1 rx-usecs"] == ("rx-usecs 50", "rx-usecs 50", "applied")


def test_vectors_of_both_directions_take_rx_usecs_alone() -> None:
    done = done_on("ixgbe", Profile(coalesce_us=10))
    assert done == {"eth1 rx-usecs": ("rx-usecs 50", "rx-usecs 10", "applied"),
                    "eth1 tx-usecs": ("", "", "unsupported")}


@pytest.mark.parametrize(("driver", "after"), [
    ("i40e", "autoneg on rx off tx off"), ("mlx5", "autoneg on rx off tx off"),
    ("e1000e", "autoneg off rx off tx off"),
])
def test_pause_frames_go_off_with_their_autonegotiation_only_where_that_is_needed(driver: str, after: str) -> None:
    assert done_on(driver, Profile(pause_frames=False)) == {"eth1": ("autoneg on rx on tx on", after, "applied")}
    assert done_on(driver, Profile(pause_frames=True))["eth1"][2] == "already"


@pytest.mark.parametrize(("driver", "profile", "text"), [
    ("i40e", Profile(rings=1000), "rx 1000 tx 1000' and reads back 'rx 1024 tx 1024"),
    ("mlx5", Profile(rings=1500), "rx 1500 tx 1500' and reads back 'rx 2048 tx 2048"),
    ("i40e", Profile(coalesce_us=11), "rx-usecs 11' and reads back 'rx-usecs 10"),
])
def test_what_a_driver_rounds_fails_the_point_and_is_put_back(driver: str, profile: Profile, text: str) -> None:
    server = SimulatedServer(driver)
    before = server.state()
    with pytest.raises(StackError, match=text):
        with tuned(target(server), profile):
            pytest.fail("it was measured all the same")
    assert server.state() == before


@pytest.mark.parametrize("driver", ["virtual", "i40e", "ixgbe", "mlx5", "e1000e"])
def test_the_whole_profile_leaves_every_driver_as_it_was(driver: str) -> None:
    server = SimulatedServer(driver)
    server.napi = ["2", "3 fifo"]
    before = server.state()
    with tuned(target(server), TUNED) as changes:
        assert server.napi != before["napi"]
        assert server.files[f"{QUEUES}/tx-0/xps_cpus"] == "10\n"  # not lost again by new rings and queues
        assert [c.item for c in changes if c.item in ("rings", "xps")] == ["rings", "xps", "xps"]
    assert server.state() == before


def test_cores_of_interrupts_and_queues_are_kept_by_name(tmp_path: Path) -> None:
    """The script for the host, on files of a made-up root; new interrupts have other numbers."""
    port, irq = tmp_path / "sys/class/net/eth1", tmp_path / "sys/kernel/irq"
    for queue, knob in (("rx-0", "rps_cpus"), ("tx-0", "xps_cpus")):
        (port / "queues" / queue).mkdir(parents=True)
        (port / "queues" / queue / knob).write_text("3\n")
    for number, name, cores in (("40", "nic-TxRx-0", "1"), ("41", "nic-TxRx-1", "2")):
        for folder in (port / "device/msi_irqs" / number, irq / number, tmp_path / "proc/irq" / number):
            folder.mkdir(parents=True)
        (irq / number / "actions").write_text(name + "\n")
        (tmp_path / "proc/irq" / number / "smp_affinity_list").write_text(cores + "\n")
    run = [sys.executable, "-c", Path(placement.__file__).read_text()]
    shown = subprocess.run([*run, "show", str(tmp_path), "eth1"], capture_output=True, text=True, check=True).stdout
    assert json.loads(shown) == {"irq nic-TxRx-0": "1", "irq nic-TxRx-1": "2", "rx-0/rps_cpus": "3",
                                 "tx-0/xps_cpus": "3"}
    (irq / "40/actions").write_text("nic-TxRx-1\n")
    (irq / "41/actions").write_text("nic-TxRx-0\n")
    (port / "queues/tx-0/xps_cpus").write_text("0\n")
    again = [*run, "restore", str(tmp_path), "eth1", shown]
    assert subprocess.run(again, capture_output=True, text=True, check=False).returncode == 0
    assert (port / "queues/tx-0/xps_cpus").read_text() == "3"
    assert (tmp_path / "proc/irq/40/smp_affinity_list").read_text() == "2"
    os.rename(port / "queues/rx-0", port / "queues/rx-9")
    failed = subprocess.run(again, capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stderr) == (1, "rx-0/rps_cpus of eth1 was 3: it is gone")


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
