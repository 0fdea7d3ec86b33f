# SPDX-License-Identifier: Apache-2.0
"""Which devices dpdk takes from the kernel, in what order, and what the journal holds; on a simulated host (sysfs and
journal in memory). That a kernel gives and takes devices so is shown in a virtual machine: data/vm."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.stacks.dpdk.tests.simulated_host import DEVICES, NET, SimulatedHost
from harness.stacks.dpdk.vf import functions_on, make_vf, other_mac

from harness import stacks
from harness.errors import HostNotRestored, StackError
from harness.plan import DirectionPlan, FlowPlan, PointPlan, PortPlan, Role, WirePlan
from harness.stacks import rebind
from harness.stacks.binding import given_to_dpdk, wanted_driver
from harness.stacks.placement import main_core, reserve

PCI, OTHER = "0000:03:00.0", "0000:03:00.1"
MAC = "3c:fd:fe:00:00:01"
ADDRESSES = [{"addr_info": [
    {"family": "inet", "local": "10.0.0.2", "prefixlen": 24, "broadcast": "10.0.0.255", "scope": "global",
     "label": "eth1", "valid_life_time": 2**32 - 1, "preferred_life_time": 2**32 - 1},
    {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"}]}]


@pytest.fixture
def host() -> SimulatedHost:
    made = SimulatedHost()
    made.nic(PCI, "eth1")
    made.files |= {"/sys/devices/system/cpu/online": "0-7\n", "/proc/net/if_inet6": ""}
    made.answers = {
        "-j addr show dev eth1": ADDRESSES,
        "-4 route show table all dev eth1": "10.0.0.0/24 proto kernel scope link src 10.0.0.2 linkdown \n"
                                            "16.0.0.0/16 via 10.0.0.1 table 100 \n"
                                            "local 10.0.0.2 table local proto kernel scope host src 10.0.0.2 \n",
        "-6 route show table all dev eth1": "fe80::/64 proto kernel metric 256 pref medium\n"
                                            "default via fe80::9 proto ra metric 1024 expires 100sec\n",
        "-j neigh show dev eth1 nud permanent": [{"dst": "10.0.0.1", "lladdr": "02:00:00:00:00:01"}],
        "-j -4 neigh show dev eth1 nud permanent": [{"dst": "10.0.0.1", "lladdr": "02:00:00:00:00:01"}],
        "modules": ["uio_pci_generic", "vfio-pci"],
    }
    return made


def point(params: dict[str, Any] | None = None, role: Role = Role.REFLECT, management: str = "eth0") -> PointPlan:
    tg, dut = PortPlan(0, "", "02:00:00:00:00:01", "10.0.0.1", 24), PortPlan(0, "eth1", MAC, "10.0.0.2", 24, PCI)
    wire = WirePlan(0, "sut", tg, dut, 10.0, "16.0.0.0/16", False)
    flows = FlowPlan(16, "16.0.1.0", 16, 1024, 1, "10.0.0.2", 9000)
    return PointPlan("p", "p", "dpdk", params or {}, role, "sut", 64, (2, 3), (wire,),
                     (DirectionPlan(0, 0, tg.mac, MAC, flows),), 14.88e6, management=management)


def removed(module: str) -> str:
    """The journal's words that take a module out."""
    gone = 'test ! -d "/sys/module/$0"'
    return f'sh -c {gone} || modprobe -r "$0" || {gone} {module}'


def missing(host: SimulatedHost, plan: PointPlan) -> list[str]:
    return [m.what for m in stacks.create("dpdk", plan.params).requirements(host, plan)]  # type: ignore[arg-type]


# -- what is never taken


@pytest.mark.parametrize("why", ["management", "default route", "IPv6 default route", "stacked", "several hops"])
def test_the_way_to_the_host_is_refused_by_name_before_anything_is_touched(host: SimulatedHost, why: str) -> None:
    management = "eth0"
    if why == "management":
        management = "eth1"
    elif why == "default route":
        host.answers["-j -4 route show default"] = [{"dst": "default", "dev": "eth1"}]
    elif why == "IPv6 default route":
        host.answers["-j -6 route show default"] = [{"dst": "default", "dev": "eth1"}]
    elif why == "several hops":
        host.answers["-j -4 route show default"] = [{"dst": "default", "nexthops": [{"dev": "x"}, {"dev": "eth1"}]}]
    else:
        management = "br0.7"
        host.files |= {f"{NET}/br0.7/lower_br0": "", f"{NET}/br0/lower_eth1": ""}
    assert [what for what in missing(host, point(management=management)) if "eth1" in what and PCI in what]
    with pytest.raises(StackError, match=r"eth1 \(0000:03:00\.0\) of sut is .*never taken"):
        with given_to_dpdk(host, [PCI], "auto", management):  # type: ignore[arg-type]
            pytest.fail("taken")
    assert host.done == host.journal == []


def test_a_port_that_a_bond_or_vlan_needs_is_refused(host: SimulatedHost) -> None:
    host.files[f"{NET}/eth1/upper_bond3"] = ""
    assert missing(host, point()) == ["eth1 (0000:03:00.0) free of bond3, which would break"]


# -- which driver


def test_choice_of_driver(host: SimulatedHost) -> None:
    host.nic("0000:04:00.0", "eth2", iommu=True)
    host.nic("0000:05:00.0", "eth3", driver="mlx5_core", iommu=True)
    host.nic("0000:06:00.0", "eth4", driver="igb_uio")
    assert [wanted_driver(host, pci, bind)  # type: ignore[arg-type]
            for pci in (PCI, "0000:04:00.0", "0000:05:00.0", "0000:06:00.0")
            for bind in ("auto", "vfio-pci", "none")] == [
        "uio_pci_generic", "vfio-pci", "ixgbe", "vfio-pci", "vfio-pci", "ixgbe",
        "mlx5_core", "mlx5_core", "mlx5_core", "igb_uio", "vfio-pci", "igb_uio",
    ]  # fmt: skip


def test_requirements_of_drivers(host: SimulatedHost) -> None:
    assert missing(host, point()) == []
    assert missing(host, point({"bind": "none"})) == [f"{PCI} bound to a DPDK driver (it is bound to ixgbe)"]
    assert missing(host, point({"bind": "vfio-pci"})) == [f"an IOMMU group of {PCI}"]
    host.files[f"{DEVICES}/{PCI}/iommu_group/devices/{PCI}"] = ""
    assert missing(host, point()) == []
    host.nic(OTHER, "eth9")
    host.nic("0000:00:01.0", "none", driver="pcieport")
    host.files |= {f"{DEVICES}/{PCI}/iommu_group/devices/{pci}": "" for pci in (OTHER, "0000:00:01.0")}
    host.files[f"{DEVICES}/0000:00:01.0/class"] = "0x060400\n"
    assert missing(host, point()) == [f"an IOMMU group of its own: {PCI} shares it with {OTHER}"]
    host.answers["modules"] = []
    assert missing(host, point({"bind": "uio_pci_generic"})) == ["the kernel module uio_pci_generic"]


# -- taking and giving back


def test_the_journal_gives_everything_back_in_order(host: SimulatedHost) -> None:
    host.settings = {"sysctl ipv4/conf/rp_filter": "2"}
    with given_to_dpdk(host, [PCI], "auto", "eth0"):  # type: ignore[arg-type]
        assert host.files[f"{DEVICES}/{PCI}/driver"] == "uio_pci_generic"
        host.files[f"{DEVICES}/{PCI}/driver"] = "ixgbe"
    made = [words for words in host.done if words != ("true",)]
    assert made[0] == ("modprobe", "uio_pci_generic")
    assert made[1][:2] == ("python3", "-c")
    assert made[1][3:] == (PCI, "uio_pci_generic", "(null)", "")
    back, *rest = host.undone
    assert back[3:] == (PCI, "ixgbe", "(null)", "eth1")
    settings = 'eth1 {"sysctl ipv4/conf/rp_filter": "2"}'
    assert [" ".join(words[3:] if words[0] == "python3" else words) for words in rest] == [
        "ip link set dev eth1 mtu 9000",
        f"prepare {settings}",
        "ip link set dev eth1 up",
        f"restore {settings}",
        "ip addr replace 10.0.0.2/24 brd 10.0.0.255 label eth1 scope global dev eth1",
        "ip -4 route replace 10.0.0.0/24 proto kernel scope link src 10.0.0.2 dev eth1",
        "ip -4 route replace 16.0.0.0/16 via 10.0.0.1 table 100 dev eth1",
        "ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth1 nud permanent",
        removed("uio_pci_generic"),
    ]


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_a_program_sets_on_a_port_that_it_shares_with_the_kernel_is_put_back(
        host: SimulatedHost, comes_back: bool) -> None:
    """Mellanox: nothing is bound; TRex's start script sets MTU and pause frames, DPDK flags."""
    shared = "0000:05:00.0"
    host.nic(shared, "eth3", driver="mlx5_core", iommu=True)
    listed = host.settings = {"ethtool -a rx": "on", "ethtool -a tx": "on", "link promisc": "off"}
    expected = nullcontext() if comes_back else pytest.raises(
        HostNotRestored, match=r"eth3: mtu was 9000 and is 9238; .*ethtool -a rx was on and is off")
    with expected, given_to_dpdk(host, [shared], "auto", "eth0"):  # type: ignore[attr-defined, arg-type]
        assert set(host.done) == {("true",)}, "nothing is changed"
        if not comes_back:
            host.files[f"{NET}/eth3/mtu"], host.settings = "9238", {**listed, "ethtool -a rx": "off"}
    assert host.files[f"{DEVICES}/{shared}/driver"] == "mlx5_core"
    settings = f"eth3 {json.dumps(listed)}"
    assert [" ".join(words[3:] if words[0] == "python3" else words) for words in host.undone] == [
        "ip link set dev eth3 mtu 9000", f"prepare {settings}", "ip link set dev eth3 up", f"restore {settings}"]


def test_what_is_bound_already_is_used_and_left(host: SimulatedHost) -> None:
    host.files[f"{DEVICES}/{PCI}/driver"] = "vfio-pci"
    with given_to_dpdk(host, [PCI], "auto", "eth0"):  # type: ignore[arg-type]
        assert host.done == []


def test_an_address_that_does_not_come_back_is_said(host: SimulatedHost) -> None:
    host.forgets, host.settings = True, {"sysctl ipv4/conf/rp_filter": "2"}
    text = r"eth1: addresses: '10\.0\.0\.2/24 .*' is gone; .*rp_filter was 2 and is 0$"
    with pytest.raises(HostNotRestored, match=text):
        with given_to_dpdk(host, [PCI], "auto", "eth0"):  # type: ignore[arg-type]
            pass


def test_a_device_with_something_that_could_not_be_put_back_is_left_alone(host: SimulatedHost) -> None:
    host.lost = ["2 ntuple rules (ethtool -n)"]
    assert missing(host, point()) == [
        f"eth1 ({PCI}) without 2 ntuple rules (ethtool -n): unbinding it would lose them for good"]
    with pytest.raises(StackError, match=r"^eth1 of sut has 2 ntuple rules \(ethtool -n\): unbinding it would"):
        with given_to_dpdk(host, [PCI], "auto", "eth0"):  # type: ignore[arg-type]
            pytest.fail("taken")
    assert host.done == []
    host.files[f"{DEVICES}/{PCI}/driver"] = "uio_pci_generic"
    assert missing(host, point()) == [], "bound already: nothing is lost"


def test_a_refusal_is_told_in_the_kernels_words(host: SimulatedHost) -> None:
    with pytest.raises(StackError, match=r"could not be bound to refused: 0000:03:00\.0: No such device"):
        with given_to_dpdk(host, [PCI], "refused", "eth0"):  # type: ignore[arg-type]
            pytest.fail("bound")
    assert host.undone[0][3:] == (PCI, "ixgbe", "(null)", "eth1")


class Bus:
    """A PCI bus as files: what a kernel does when ``unbind`` and ``drivers_probe`` are written."""

    def __init__(self, root: Path, native: str) -> None:
        self.device, self.native = root / "devices" / PCI, native
        self.device.mkdir(parents=True)
        (self.device / "driver_override").write_text("(null)\n")
        self.drivers = {native, "uio_pci_generic"}
        self.ifname = "eth1"
        self.bind(native)

    def bind(self, driver: str) -> None:
        (self.device / "driver").symlink_to(f"/sys/bus/pci/drivers/{driver}")
        if driver == self.native:
            (self.device / "net" / self.ifname).mkdir(parents=True)

    def write(self, path: str, value: str) -> None:
        name = Path(path).name
        if name == "driver_override":
            (self.device / name).write_text((value or "(null)") + "\n")
        elif name == "unbind":
            (self.device / "driver").unlink()
            for folder in (self.device / "net").glob("*"):
                folder.rmdir()
        elif name == "drivers_probe":
            override = (self.device / "driver_override").read_text().strip()
            driver = self.native if override == "(null)" else override
            if driver in self.drivers:
                self.bind(driver)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    made = Bus(tmp_path, "ixgbe")
    monkeypatch.setattr(rebind, "write", made.write)
    monkeypatch.setattr(rebind, "DEVICES", str(tmp_path / "devices"))
    for name in ("BIND_S", "NAME_S", "UDEV_S"):
        monkeypatch.setattr(rebind, name, 0.1)
    return made


def test_a_device_goes_and_comes_back_however_often_it_is_asked(bus: Bus) -> None:
    for _ in range(2):
        assert rebind.main(PCI, "uio_pci_generic", "(null)", "") == 0
        assert rebind.bound(str(bus.device)) == "uio_pci_generic"
        assert (bus.device / "driver_override").read_text() == "(null)\n"
    for _ in range(2):
        assert rebind.main(PCI, "ixgbe", "(null)", "eth1") == 0
        assert rebind.interfaces(str(bus.device)) == ["eth1"]
    for _ in range(2):
        assert rebind.main(PCI, "", "mine", "") == 0
        assert rebind.bound(str(bus.device)) == ""
        assert (bus.device / "driver_override").read_text() == "mine\n"


def test_a_driver_or_name_that_does_not_come_is_an_error(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    assert rebind.main(PCI, "no-such-driver", "(null)", "") == 1
    assert "is bound to '', not to 'no-such-driver'" in capsys.readouterr().err
    assert (bus.device / "driver_override").read_text() == "(null)\n"
    bus.native = "other"
    assert rebind.main(PCI, "uio_pci_generic", "(null)", "eth1") == 1
    assert "has no interface eth1, only none" in capsys.readouterr().err


def test_all_that_vfio_needs_is_taken_out_again_one_by_one(host: SimulatedHost) -> None:
    """As Debian 12's modprobe tells it; ``modprobe -r vfio-pci`` leaves vfio_virqfd there."""
    host.files |= {f"{DEVICES}/{PCI}/iommu_group/devices/{PCI}": "", "/sys/module/irqbypass/refcnt": "1\n"}
    folder = "/lib/modules/6.1.0-50-amd64/kernel"
    host.answers["depends"] = {"vfio-pci": "".join(f"insmod {folder}/{name}.ko \n" for name in (
        "drivers/vfio/vfio", "virt/lib/irqbypass", "drivers/vfio/vfio_virqfd", "drivers/vfio/pci/vfio-pci-core",
        "drivers/vfio/pci/vfio-pci"))}
    with given_to_dpdk(host, [PCI], "auto", "eth0"):  # type: ignore[arg-type]
        assert [words[1] for words in host.done if words[0] == "modprobe"] == [
            "vfio_iommu_type1", "vfio", "vfio_virqfd", "vfio-pci-core", "vfio-pci"]
    assert [" ".join(words) for words in host.undone if words[0] == "sh"] == [removed(name) for name in (
        "vfio_pci", "vfio_pci_core", "vfio_virqfd", "vfio", "vfio_iommu_type1")]


@pytest.mark.parametrize(("driver", "lacks"), [("ixgbe", []), ("vmxnet3", ["vmxnet3"]), ("virtio-pci", ["virtio-pci"])])
def test_l3fwd_is_refused_on_a_device_that_checks_no_sums(host: SimulatedHost, driver: str, lacks: list[str]) -> None:
    host.programs.add("dpdk-l3fwd")
    host.nic(PCI, "eth1", driver=driver)
    assert missing(host, point({"app": "l3fwd"}, Role.FORWARD)) == [
        f"a device that checks IPv4 checksums: l3fwd demands it, {PCI} ({driver}) has none" for driver in lacks]


# -- SR-IOV


@pytest.fixture
def sriov(host: SimulatedHost) -> SimulatedHost:
    host.files |= {f"{DEVICES}/{PCI}/sriov_totalvfs": "63\n", f"{DEVICES}/{PCI}/sriov_numvfs": "0\n",
                   f"{DEVICES}/{PCI}/sriov_drivers_autoprobe": "1\n"}
    return host


def test_a_function_takes_the_mac_of_the_plan_and_the_port_another(sriov: SimulatedHost) -> None:
    port = point().wires[0].dut
    assert make_vf(sriov, port, Role.FORWARD, "eth0") == "0000:03:10.0"  # type: ignore[arg-type]
    assert [" ".join(words) for words in sriov.done if words != ("true",)] == [
        "ip link set dev eth1 address 3e:fd:fe:00:00:01",
        f"set {DEVICES}/{PCI}/sriov_drivers_autoprobe 0",
        f"set {DEVICES}/{PCI}/sriov_numvfs 1",
        f"ip link set dev eth1 vf 0 mac {MAC}",
        "ip link set dev eth1 vf 0 spoofchk off",
        "ip link set dev eth1 vf 0 trust on",
    ]
    sriov.undo_to(0)
    assert [" ".join(words) for words in sriov.undone] == [
        f"restore {DEVICES}/{PCI}/sriov_numvfs 0",
        f"restore {DEVICES}/{PCI}/sriov_drivers_autoprobe 1",
        f"ip link set dev eth1 address {MAC}",
        "ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth1 nud permanent",
    ]


def test_a_port_keeps_its_mac_when_the_plan_gives_the_function_another(sriov: SimulatedHost) -> None:
    make_vf(sriov, replace(point().wires[0].dut, mac="02:00:00:00:00:77"), Role.ECHO, "eth0")  # type: ignore[arg-type]
    assert [words for words in sriov.done if words[0] == "ip"] == [
        ("ip", "link", "set", "dev", "eth1", "vf", "0", "mac", "02:00:00:00:00:77")]


def test_the_module_that_udev_loads_for_a_function_goes_once_the_function_has(sriov: SimulatedHost) -> None:
    sriov.files |= {f"{DEVICES}/{PCI}/vendor": "0x8086\n", f"{DEVICES}/{PCI}/sriov_vf_device": "10ed\n"}
    sriov.answers["aliases"] = {"pci:v00008086d000010EDsv00000000sd00000000bc02sc00i00": "ixgbevf\n"}
    make_vf(sriov, point().wires[0].dut, Role.ECHO, "eth0")  # type: ignore[arg-type]
    sriov.undo_to(0)
    gone = sriov.undone.index(("restore", f"{DEVICES}/{PCI}/sriov_numvfs", "0"))
    (unloads,) = (n for n, words in enumerate(sriov.undone) if words[-1] == "ixgbevf")
    assert unloads > gone


def test_the_port_itself_is_what_it_was_once_its_function_is_gone(sriov: SimulatedHost) -> None:
    """A driver that makes functions sets its port up anew, with settings of its own choice."""
    sriov.settings = {"ethtool -l combined": "2"}
    port = point().wires[0].dut
    with functions_on(sriov, [port], Role.ECHO, "eth0") as made:  # type: ignore[arg-type]
        assert made == ["0000:03:10.0"]
    words = [" ".join(entry) for entry in sriov.undone]
    gone = words.index(f"restore {DEVICES}/{PCI}/sriov_numvfs 0")
    assert gone < words.index(f"ip link set dev eth1 address {MAC}") < words.index("ip link set dev eth1 mtu 9000")
    sriov.files[f"{DEVICES}/{PCI}/sriov_numvfs"] = "0\n"
    with pytest.raises(HostNotRestored, match="eth1: ethtool -l combined was 2 and is 8"):
        with functions_on(sriov, [port], Role.ECHO, "eth0"):  # type: ignore[arg-type]
            sriov.settings["ethtool -l combined"] = "8"


def test_a_function_that_nothing_isolates_from_its_port_is_not_bound(sriov: SimulatedHost) -> None:
    function = "0000:03:10.0"
    for device in (PCI, function):
        sriov.files[f"{DEVICES}/{function}/iommu_group/devices/{device}"] = ""
    with pytest.raises(StackError, match=rf"{function} of sut shares its IOMMU group with {PCI}, which the kernel"):
        with given_to_dpdk(sriov, [function], "auto", "eth0"):  # type: ignore[arg-type]
            pytest.fail("bound")
    assert sriov.done == []


def test_functions_of_others_are_left_alone(sriov: SimulatedHost) -> None:
    sriov.files[f"{DEVICES}/{PCI}/sriov_numvfs"] = "4\n"
    assert missing(sriov, point({"vf": True})) == [
        f"{PCI} without virtual functions: it has 4 that are not the harness's"]
    with pytest.raises(StackError, match="left alone"):
        make_vf(sriov, point().wires[0].dut, Role.ECHO, "eth0")  # type: ignore[arg-type]
    with pytest.raises(StackError, match=r"eth1 .* is the management interface"):
        make_vf(sriov, point().wires[0].dut, Role.ECHO, "eth1")  # type: ignore[arg-type]
    assert sriov.done == []
    del sriov.files[f"{DEVICES}/{PCI}/sriov_totalvfs"]
    assert missing(sriov, point({"vf": True})) == [f"SR-IOV on {PCI}"]


@pytest.mark.parametrize("mac", ["3c:fd:fe:00:00:01", "02:00:00:00:00:01", "06:00:00:00:00:01"])
def test_another_mac_is_unicast_and_local(mac: str) -> None:
    first = int(other_mac(mac)[:2], 16)
    assert other_mac(mac) != mac
    assert first & 0x03 == 0x02


# -- memory


def test_hugepages_come_from_the_nodes_of_cores_and_nic(host: SimulatedHost) -> None:
    host.nic(OTHER, "eth2", node=1)
    for node, cores in ((0, range(4)), (1, range(4, 8))):
        folder = f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB"
        host.files |= {f"{folder}/nr_hugepages": "10\n", f"{folder}/free_hugepages": "4\n",
                       f"/sys/devices/system/node/node{node}/cpulist": f"{cores[0]}-{cores[-1]}\n"}
        host.files |= {f"/sys/devices/system/cpu/cpu{core}/node{node}/x": "" for core in cores}
    assert main_core(host, (4, 5)) == 6  # type: ignore[arg-type]
    assert main_core(host, (4, 5, 6, 7)) == 0  # type: ignore[arg-type]
    reserve(host, 41, (2, 3), [OTHER])  # type: ignore[arg-type]
    assert host.done == [
        ("set", f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages", "27")
        for node in (0, 1)]
    host.done.clear()
    reserve(host, 8, (4, 5), [OTHER])  # type: ignore[arg-type]
    assert host.done == []
