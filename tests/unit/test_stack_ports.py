# SPDX-License-Identifier: Apache-2.0
"""What kernel stacks change on a DUT's ports: only what is missing, never a route of someone else, all of it undone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from harness import stacks
from harness.deployment import Deployment
from harness.errors import StackError
from harness.host.contract import Completed
from harness.host.interrupts import LISTING
from harness.host.undo import undone
from harness.measure.placement import InterruptWatch
from harness.plan import DirectionPlan, FlowPlan, PointPlan, PortPlan, Role, WirePlan
from harness.records import PointOutcome
from harness.stack import StackContext
from harness.stacks import ports
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, need_links, set_up_ports


class FakeDut:
    """Files, answers of ``ip -j`` and a journal, in memory."""

    name = "dut"
    virtual = False

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.answers: dict[str, object] = {}
        self.journal: list[tuple[str, ...]] = []
        self.programs = {"ip", "ethtool", "make", "cc"}
        self.snmp: dict[str, int] = {}
        self.done: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        answer = self.answers.get(" ".join(argv), [])
        return Completed(tuple(argv), 0, answer if isinstance(answer, str) else json.dumps(answer), "")

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    def exists(self, path: str) -> bool:
        return any(name == path or name.startswith(path + "/") for name in self.files)

    def read(self, path: str, default: str | None = None) -> str:
        return self.files[path] if default is None else self.files.get(path, default)

    def set_file(self, path: str, value: str, *, verify: bool = True) -> None:
        self.journal.append(("set", path, self.files[path]))
        self.files[path] = value

    def apply(self, do: Sequence[str], undo: Sequence[str]) -> Completed:
        self.done.append(tuple(do))
        self.journal.append(tuple(undo))
        return Completed(tuple(do), 0, "", "")

    def undo_mark(self) -> int:
        return len(self.journal)

    def undo_to(self, mark: int) -> None:
        while len(self.journal) > mark:
            entry = self.journal.pop()
            if entry[0] == "set":
                self.files[entry[1]] = entry[2]

    def interface_counters(self, ifnames: Sequence[str]) -> dict[str, dict[str, int]]:
        return {name: {"rx_packets": self.snmp.get("packets", 0)} for name in ifnames}

    def system_counters(self) -> dict[str, int]:
        return dict(self.snmp)


def wire(index: int) -> WirePlan:
    tg = PortPlan(index, "", f"02:00:00:00:0{index}:01", f"10.0.{index}.1", 24)
    dut = PortPlan(index, f"eth{index + 1}", f"02:00:00:00:0{index}:02", f"10.0.{index}.2", 24)
    return WirePlan(index, "dut", tg, dut, 10.0, f"16.{index}.0.0/16", False)


def point(wires: int = 2, role: Role = Role.FORWARD, cores: tuple[int, ...] = (2, 3)) -> PointPlan:
    flows = FlowPlan(16, "16.0.0.1", 4, 1024, 4, "10.0.0.2", 9000)
    direction = DirectionPlan(0, 1, "02:00:00:00:00:01", "02:00:00:00:00:02", flows)
    return PointPlan("p", "p", "linux-forward", {}, role, "dut", 64, cores, tuple(wire(n) for n in range(wires)),
                     (direction,), 14.88e6)


@pytest.fixture
def dut() -> FakeDut:
    made = FakeDut()
    for port in ("eth1", "eth2"):
        made.files |= {f"/sys/class/net/{port}/ifindex": "3", f"/sys/class/net/{port}/flags": "0x1003"}
        made.files |= {f"/proc/sys/net/ipv4/conf/{port}/{name}": value
                       for name, value in (("forwarding", "0"), ("rp_filter", "2"), ("send_redirects", "1"))}
    return made


def settled(dut: FakeDut, *indices: int) -> None:
    """As the lab leaves a port: address, neighbour and route in place."""
    for n in indices:
        dut.answers[f"ip -j -4 addr show dev eth{n + 1}"] = [{"addr_info": [{"local": f"10.0.{n}.2"}]}]
        dut.answers[f"ip -j -4 neigh show to 10.0.{n}.1 dev eth{n + 1} nud permanent"] = [
            {"dst": f"10.0.{n}.1", "lladdr": f"02:00:00:00:0{n}:01"}]
        dut.answers[f"ip -j -4 route show exact 16.{n}.0.0/16"] = [
            {"dst": f"16.{n}.0.0/16", "gateway": f"10.0.{n}.1", "dev": f"eth{n + 1}"}]


def test_what_is_there_is_left_alone(dut: FakeDut) -> None:
    settled(dut, 0, 1)
    set_up_ports(dut, point())
    assert dut.journal == []


def test_a_bare_port_gets_all_and_each_step_has_its_undo(dut: FakeDut) -> None:
    dut.files["/sys/class/net/eth1/flags"] = "0x1002"
    set_up_ports(dut, point(wires=1))
    assert [" ".join(argv) for argv in dut.done] == [
        "ip addr add 10.0.0.2/24 dev eth1",
        "ip link set eth1 up",
        "ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth1 nud permanent",
        "ip route add 16.0.0.0/16 via 10.0.0.1 dev eth1",
    ]
    assert [" ".join(argv) for argv in dut.journal] == [
        "ip -4 addr flush to 10.0.0.2 dev eth1",
        "ip link set eth1 down",
        "ip -4 neigh flush to 10.0.0.1 nud permanent dev eth1",
        "ip -4 route flush exact 16.0.0.0/16 via 10.0.0.1 dev eth1",
    ]


def test_another_permanent_neighbour_comes_back(dut: FakeDut) -> None:
    settled(dut, 0)
    dut.answers["ip -j -4 neigh show to 10.0.0.1 dev eth1 nud permanent"] = [
        {"dst": "10.0.0.1", "lladdr": "02:00:00:00:00:99"}]
    set_up_ports(dut, point(wires=1))
    assert [" ".join(argv) for argv in dut.journal] == [
        "ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:99 dev eth1 nud permanent"]


def test_a_route_that_leads_elsewhere_is_not_replaced(dut: FakeDut) -> None:
    settled(dut, 0)
    dut.answers["ip -j -4 route show exact 16.0.0.0/16"] = [
        {"dst": "16.0.0.0/16", "gateway": "192.0.2.1", "dev": "eth0"}]
    with pytest.raises(StackError, match=r"has a route to 16\.0\.0\.0/16 already \(via 192\.0\.2\.1 on eth0\); "):
        set_up_ports(dut, point(wires=1))
    assert dut.done == []


def test_flows_never_take_the_default_route(dut: FakeDut) -> None:
    settled(dut, 0)
    everything = point(wires=1)
    object.__setattr__(everything.wires[0], "flow_prefix", "0.0.0.0/0")
    with pytest.raises(StackError, match="default route"):
        set_up_ports(dut, everything)


def test_the_management_interface_is_refused_by_name(dut: FakeDut) -> None:
    (missing,) = missing_for_ports(dut, dataclasses.replace(point(), management="eth1"))
    assert "eth1 is the management interface" in missing.what


def test_a_port_with_the_default_route_is_refused(dut: FakeDut) -> None:
    assert missing_for_ports(dut, point()) == []
    dut.answers["ip -j -4 route show default"] = [{"dst": "default", "gateway": "192.0.2.1", "dev": "eth2"}]
    (missing,) = missing_for_ports(dut, point())
    assert "eth2 is an interface with a default route" in missing.what
    del dut.files["/sys/class/net/eth1/ifindex"], dut.files["/sys/class/net/eth1/flags"]
    assert missing_for_ports(dut, point())[0].what == "interface 'eth1' of dut"


#: What kernels print for two ports, the names as the drivers give them, in the order of the vectors; and for each port
#: the queue of every interrupt that has one. ixgbe's and i40e's last or first is not a queue, mlx5's first is not.
DRIVERS = {
    "ixgbe": ("{port}-TxRx-0 {port}-TxRx-1 {port}-TxRx-2 {port}", [0, 1, 2, None]),
    "i40e": ("i40e-0000:03:00.0:misc i40e-{port}-TxRx-0 i40e-{port}-TxRx-1 i40e-{port}-TxRx-2", [None, 0, 1, 2]),
    "iavf": ("iavf-0000:03:02.0:mbx iavf-{port}-TxRx-0 iavf-{port}-TxRx-1", [None, 0, 1]),
    "mlx5": ("mlx5_async0@pci:0000:03:00.0 mlx5_comp0@pci:0000:03:00.0 mlx5_comp1@pci:0000:03:00.0", [None, 0, 1]),
    "virtio": ("virtio1-config virtio1-input.0 virtio1-output.0 virtio1-input.1 virtio1-output.1",
               [None, 0, 0, 1, 1]),
    "vmxnet3": ("{port}-rxtx-0 {port}-rxtx-1 {port}-event-2", [0, 1, None]),
    "tg3": ("{port}-tx-0 {port}-rx-1 {port}-rx-2", [0, 0, 1]),
    "ena": ("ena-mgmnt@pci:0000:00:05.0 {port}-Tx-Rx-0 {port}-Tx-Rx-1", [None, 0, 1]),
    "unknown": ("this that other", [0, 1, 2]),
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("counts", ["", "   1200        0          7          0  "], ids=["cut", "whole"])
def test_interrupts_of_queues_go_to_the_cores_in_order_from_the_first_at_each_port(
        dut: FakeDut, driver: str, counts: str) -> None:
    names, queues = DRIVERS[driver]
    expected, listing = {}, ["            CPU0       CPU1       CPU2       CPU3", "  9:  0 0 0 0  IO-APIC 9-edge acpi"]
    for first, (port, pci) in ((70, ("eth1", "0000:03:00.0")), (90, ("eth2", "0000:04:00.0"))):
        folder = f"/sys/class/net/{port}/device/msi_irqs"
        if driver == "virtio":  # the interface's device is a child of the PCI device
            folder = f"/sys/bus/pci/devices/{pci}/msi_irqs"
            dut.files[f"/sys/class/net/{port}/device/vendor"] = "0x1af4"
            dut.answers[f"readlink -f /sys/class/net/{port}/device"] = f"/sys/devices/pci0000:00/{pci}/virtio1\n"
        for number, (name, queue) in enumerate(zip(names.format(port=port).split(), queues, strict=True), start=first):
            dut.files |= {f"{folder}/{number}": "", f"/proc/irq/{number}/smp_affinity_list": "0-3\n"}
            listing.append(f" {number}: {counts} IR-PCI-MSI {number + 524288}-edge      {name.format(port=port)}")
            expected[number] = "0-3" if queue is None else str((2, 3)[queue % 2])
        dut.answers[f"ls {folder}"] = "\n".join(map(str, range(first, first + len(queues))))
    listing += [" 200:  0 0 0 0  IR-PCI-MSI 1-edge  nvme0q1", "NMI:  1 2 3 4   Non-maskable interrupts"]
    dut.answers[" ".join(LISTING)] = "\n".join(listing) + "\n"
    interrupts_on_cores(dut, point())
    assert {number: dut.files[f"/proc/irq/{number}/smp_affinity_list"].strip() for number in expected} == expected
    assert len(dut.journal) == sum(cores != "0-3" for cores in expected.values())


class Balanced(FakeDut):
    """A host with a NIC of one queue, and irqbalance running."""

    def __init__(self) -> None:
        super().__init__()
        folder = "/sys/class/net/eth1/device/msi_irqs"
        self.files |= {f"{folder}/70": "", "/proc/irq/70/smp_affinity_list": "0-3\n"}
        self.programs.add("systemctl")
        self.answers = {f"ls {folder}": "70\n", " ".join(LISTING): " 70:  IR-PCI-MSI 1-edge  eth1-TxRx-0\n",
                        "systemctl is-active irqbalance": "active\n"}

    def read(self, path: str, default: str | None = None) -> str:
        return self.files.get(path, default) if default is not None else self.files[path]

    def keep_napi(self, ifname: str) -> None:
        """Its NAPI is not threaded."""

    def apply(self, do: Sequence[str], undo: Sequence[str]) -> Completed:
        self.answers["systemctl is-active irqbalance"] = "inactive\n"
        return super().apply(do, undo)


def test_irqbalance_is_stopped_before_interrupts_are_moved_and_started_after_they_are_back() -> None:
    dut = Balanced()
    watch = InterruptWatch(dut, ["eth1"])  # type: ignore[arg-type]
    interrupts_on_cores(dut, point())  # type: ignore[arg-type]
    assert dut.journal == [("systemctl", "start", "irqbalance"), ("set", "/proc/irq/70/smp_affinity_list", "0-3\n")]
    assert [(c.item, c.target, c.before, c.after, c.status) for c in watch.changes()] == [
        ("interrupts", "eth1-TxRx-0 (irq 70)", "0-3", "2", "applied"),
        ("irqbalance", "dut", "running", "stopped", "applied")]
    assert watch.moved() == []
    dut.files["/proc/irq/70/smp_affinity_list"] = "1\n"
    assert [(c.target, c.before, c.after, c.status) for c in watch.moved()] == [
        ("eth1-TxRx-0 (irq 70)", "2", "1", "moved")]


def test_the_runner_keeps_what_a_stack_moved_and_notes_what_somebody_else_moved(
        monkeypatch: pytest.MonkeyPatch) -> None:
    dut, plan, outcome = Balanced(), point(), PointOutcome(point="p", repeat=0)

    class Serving:
        def role_info(self, role: Role) -> SimpleNamespace:
            return SimpleNamespace(semantics="")

        def in_softirq(self) -> bool:
            return False

        @contextmanager
        def deploy(self, context: StackContext) -> Iterator[SimpleNamespace]:
            interrupts_on_cores(dut, plan)  # type: ignore[arg-type]
            yield SimpleNamespace(degraded="", remark="")

    machines = SimpleNamespace(dut=lambda name: dut, pin=lambda *_, **__: None, generator=None)
    writer = SimpleNamespace(info=SimpleNamespace(notes=[]), path=None)
    made: Any = Deployment(machines, SimpleNamespace(), writer)  # type: ignore[arg-type]
    made._bench = lambda *_: SimpleNamespace(exact_counter="")
    watchdog = SimpleNamespace(role_check=nullcontext)
    monkeypatch.setattr("harness.deployment.watched", lambda *_: nullcontext(watchdog))
    monkeypatch.setattr("harness.deployment.stacks.create", lambda name, params: Serving())
    monkeypatch.setattr("harness.deployment.check_role", lambda *_: None)
    with made.deployed(plan, outcome):
        dut.files["/proc/irq/70/smp_affinity_list"] = "1\n"
    assert [(c.item, c.after, c.status) for c in outcome.tuning] == [
        ("interrupts", "2", "applied"), ("irqbalance", "stopped", "applied"), ("interrupts", "1", "moved")]
    (note,) = writer.info.notes
    assert note.startswith("p: 1 interrupts were moved during the point, not by the harness (the first: eth1-TxRx-0")


def test_virtual_ports_have_no_interrupts(dut: FakeDut) -> None:
    interrupts_on_cores(dut, point())
    assert dut.journal == []


def test_undone_undoes_after_a_failure(dut: FakeDut) -> None:
    path = "/proc/sys/net/ipv4/conf/eth1/forwarding"

    def fail_after_a_change() -> None:
        with undone(dut):
            dut.set_file(path, "1")
            raise StackError("no")

    with pytest.raises(StackError):
        fail_after_a_change()
    assert dut.files[path] == "0"


def test_forwarding_is_turned_on_for_the_two_ports_alone(dut: FakeDut) -> None:
    settled(dut, 0, 1)
    dut.files |= {"/proc/sys/net/ipv4/ip_forward": "0", "/proc/sys/net/ipv4/conf/all/rp_filter": "1"}
    before = dict(dut.files)
    stack = stacks.create("linux-forward", {})
    assert stack.requirements(dut, point()) == []
    with stack.deploy(StackContext(dut, point(), stacks.source("linux-forward"))) as running:
        changed = {path: value for path, value in dut.files.items() if before[path] != value}
        assert changed == {f"/proc/sys/net/ipv4/conf/{port}/{name}": value for port in ("eth1", "eth2")
                           for name, value in (("forwarding", "1"), ("rp_filter", "0"), ("send_redirects", "0"))}
        dut.snmp |= {"ip.ForwDatagrams": 90, "ip.InHdrErrors": 7, "packets": 100}
        counters = running.counters()
        assert counters.totals["forwarded"] == 90
        assert counters.losses == {"ip layer": 7}
        assert [port["rx_packets"] for port in counters.per_worker] == [100, 100]
        dut.files["/proc/sys/net/ipv4/conf/eth2/forwarding"] = "0"
        with pytest.raises(StackError, match=r"eth2 .* no longer forwards"):
            running.check_alive()
    assert dut.files == before


def test_forwarding_needs_two_wires_and_gro_on_a_virtual_wire(dut: FakeDut) -> None:
    stack = stacks.create("linux-forward", {"gro": False})
    assert "two wires" in stack.requirements(dut, point(wires=1))[0].what
    dut.virtual = True
    assert "GRO" in stack.requirements(dut, point())[0].what


def test_gro_is_changed_where_it_differs_and_put_back(dut: FakeDut) -> None:
    settled(dut, 0, 1)
    dut.answers["ethtool -k eth1"] = "Features for eth1:\ngeneric-receive-offload: on\n"
    dut.answers["ethtool -k eth2"] = "Features for eth2:\ngeneric-receive-offload: off [requested on]\n"
    with stacks.create("linux-forward", {"gro": False}).deploy(
            StackContext(dut, point(), stacks.source("linux-forward"))):
        assert dut.done == [("ethtool", "-K", "eth1", "gro", "off")]
        assert ("ethtool", "-K", "eth1", "gro", "on") in dut.journal


def test_a_link_that_does_not_come_is_named_and_what_is_down_or_gone_is_passed_over(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "LINK_S", 0.0)
    dut = FakeDut()
    dut.files |= {"/sys/class/net/eth1/carrier": "0\n", "/sys/class/net/eth2/carrier": "1\n",
                  "/sys/class/net/eth2/operstate": "up\n", "/sys/class/net/eth3/carrier": "1\n",
                  "/sys/class/net/eth3/operstate": "down\n"}
    need_links(dut, ["eth2"])  # type: ignore[arg-type]
    with pytest.raises(StackError, match="eth3 of dut"):  # the kernel's own parts have not heard of it yet
        need_links(dut, ["eth3"])  # type: ignore[arg-type]
    with pytest.raises(StackError, match="eth1 of dut has no link 0 s after it was set up; look at the cable"):
        need_links(dut, ["eth1", "eth2", "down", "gone"])  # type: ignore[arg-type]
