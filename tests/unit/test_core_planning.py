# SPDX-License-Identifier: Apache-2.0
"""Plans of 1 to 64 cores on hosts larger than this machine: cores, queues, NUMA nodes, SMT siblings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.stacks.af_xdp.stack import AfXdp
from harness.stacks.dpdk.command import Layout, command, pci_devices

from harness.errors import UsageError
from harness.host.contract import Completed
from harness.host.topology import Topology
from harness.host.tuning.change import Target
from harness.host.tuning.steering import xps
from harness.plan import Plan, Role
from harness.planning import build_plan
from harness.prepare import hosts_of
from harness.scenario import load_scenario
from harness.stacks.placement import main_core
from harness.stacks.ports import interrupts_on_cores
from harness.yamlfile import load

Write = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("fake_stacks")

FOLDER = Path(__file__).parents[1] / "data" / "topologies"
#: file -> (node of the NIC, physical cores of that node without core 0)
HOSTS = {"desktop-8c16t": (0, 7), "intel-2x32c128t": (1, 32), "epyc-64c128t-nps4": (3, 16), "arm-80c": (0, 79),
         "intel-2x28c112t-snc2": (2, 14)}
COUNTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]

TESTBED = """
name: rack
generator:
  cores: [0]
  ports: [{{mac: "3c:fd:fe:a0:00:00", ifname: ens1f0}}]
duts:
  - name: sut1
    ssh: {{address: sut1.example.net}}
    management: eno1
    cores: {cores}
    all_cores: {all_cores}
    {topology}
    ports: [{{mac: "3c:fd:fe:b0:00:00", ifname: ens1f0}}]
wires:
  - {{tg: 0, dut: sut1/0, speed: 100G}}
"""
SCENARIO = "name: t\nrole: echo\ncores: {cores}\nstacks: [sockets]\nmeasure: {{throughput: {{}}}}\n"


def block(host: str, *more: str) -> str:
    rows = (FOLDER / f"{host}.csv").read_text().splitlines()
    return "\n".join(["topology:", *(f"      {line}" for line in more), "      cpus: |",
                      *(f"        {row}" for row in rows)])


def plan(write: Write, cores: object, counts: object, topology: str = "topology: null", all_cores: int = 128) -> Plan:
    testbed = write(TESTBED.format(cores=cores, all_cores=all_cores, topology=topology), "testbed.yaml")
    scenario = load_scenario(write(SCENARIO.format(cores=counts)))
    made, notes = hosts_of(load(testbed), scenario)
    return build_plan(scenario, made, seed=1, notes=notes)


class Interrupts:
    """A DUT with a NIC of so many interrupts, all of which arrive on core 0 until they are moved."""

    name = "sut1"

    def __init__(self, queues: int) -> None:
        self.at = {f"/proc/irq/{n}/smp_affinity_list": "0" for n in range(100, 100 + queues)}

    def exists(self, path: str) -> bool:
        return True

    def run(self, argv: list[str] | tuple[str, ...], check: bool = True) -> Completed:
        numbers = [path.split("/")[3] for path in self.at]
        listing = "\n".join(f" {n}: IR-PCI-MSI {n}-edge ens1f0-TxRx-{int(n) - 100}" for n in numbers)
        return Completed(tuple(argv), 0, listing if argv[0] == "sed" else " ".join(numbers), "")

    def which(self, program: str) -> None:
        return None

    def read(self, path: str) -> str:
        return self.at[path]

    def set_file(self, path: str, value: str) -> None:
        self.at[path] = value


@pytest.mark.parametrize("host", HOSTS)
def test_auto_gives_every_count_its_own_physical_cores_near_the_nic(write: Write, host: str) -> None:
    node, near = HOSTS[host]
    topology = Topology.parse((FOLDER / f"{host}.csv").read_text())
    there = len({cpu.core for cpu in topology.cpus})
    made = plan(write, "auto", f"{{if_available: {COUNTS}}}", block(host, f"node: {node}"))
    assert [len(point.cores) for point in made.points] == [count for count in COUNTS if count <= there]
    for point in made.points:
        cpus = [cpu for core in point.cores if (cpu := topology.find(core))]
        assert len({cpu.core for cpu in cpus}) == len(point.cores), "never two workers on one physical core"
        assert sum(cpu.node != node for cpu in cpus) == max(0, len(cpus) - near - (node == 0 and len(cpus) == there))
        assert 0 not in point.cores or len(point.cores) == there
        assert made.points[-1].cores[:len(point.cores)] == point.cores, "more cores are the same ones and others"
        idle = topology.apart_from(point.cores)
        assert not {mate for core in point.cores for mate in topology.siblings(core)} & {*idle, *point.cores}
        nic = Interrupts(queues=len(point.cores))
        interrupts_on_cores(nic, point)  # type: ignore[arg-type]
        assert [int(core) for core in nic.at.values()] == list(point.cores), "one queue a core"
    crowded = Interrupts(queues=64)
    interrupts_on_cores(crowded, made.points[2])  # type: ignore[arg-type]
    shares = Counter(crowded.at.values())
    assert len(shares) == 3
    assert max(shares.values()) - min(shares.values()) <= 1


class TransmitQueues:
    """A DUT with a port of so many transmit queues, none of them steered."""

    name = "sut1"

    def __init__(self, queues: int) -> None:
        self.files = {f"/sys/class/net/ens1f0/queues/tx-{n}/xps_cpus": "0" for n in range(queues)}

    def exists(self, path: str) -> bool:
        return path in self.files

    def run(self, argv: list[str]) -> Completed:
        return Completed(tuple(argv), 0, "\n".join(f"tx-{n}" for n in reversed(range(len(self.files)))), "")

    def read(self, path: str) -> str:
        return self.files[path]

    def set_file(self, path: str, value: str) -> None:
        self.files[path] = value


class Cores:
    """A DUT of which nothing is known but its cores and their nodes."""

    def __init__(self, topology: Topology) -> None:
        self.files = {"/sys/devices/system/cpu/online": f"0-{len(topology.cpus) - 1}"}
        for node in {cpu.node for cpu in topology.cpus}:
            cores = ",".join(str(cpu.cpu) for cpu in topology.cpus if cpu.node == node)
            self.files[f"/sys/devices/system/node/node{node}/cpulist"] = cores
        self.nodes = {f"/sys/devices/system/cpu/cpu{cpu.cpu}": f"node{cpu.node}" for cpu in topology.cpus}

    def exists(self, path: str) -> bool:
        return path in self.nodes

    def read(self, path: str, default: str = "") -> str:
        return self.files.get(path, default)

    def run(self, argv: list[str], *, check: bool = True) -> Completed:
        return Completed(tuple(argv), 0, self.nodes[argv[-1]], "")


def every_count(write: Write, host: str, *more: str) -> tuple[Plan, Topology]:
    topology = Topology.parse((FOLDER / f"{host}.csv").read_text())
    return plan(write, "auto", f"{{if_available: {list(range(1, 65))}}}",
                block(host, f"node: {HOSTS[host][0]}", *more)), topology


@pytest.mark.parametrize("siblings", [False, True])
@pytest.mark.parametrize("host", HOSTS)
def test_each_count_up_to_64_takes_near_physical_cores_first_and_none_twice(
        write: Write, host: str, siblings: bool) -> None:
    made, topology = every_count(write, host, *(["siblings: true"] if siblings else []))
    node, physical = HOSTS[host][0], len({cpu.core for cpu in topology.cpus})
    most = len(topology.cpus) if siblings else physical
    assert [len(point.cores) for point in made.points] == list(range(1, min(64, most) + 1))
    for point in made.points:
        given = [cpu for core in point.cores if (cpu := topology.find(core))]
        assert len(set(point.cores)) == len(point.cores) == len(given)
        first = [cpu.core for cpu in given[:physical]]
        assert len(set(first)) == len(first), "no sibling before every physical core has work"
        far = [cpu.node != node for cpu in given[:physical] if topology.find(0).core != cpu.core]
        assert far == sorted(far), "the NIC's node first"


@pytest.mark.parametrize("host", HOSTS)
def test_queues_interrupts_lcores_and_workers_of_every_count_are_one_a_core(write: Write, host: str) -> None:
    made, topology = every_count(write, host)
    af_xdp = AfXdp(AfXdp.Params())
    for point in made.points:
        n, cores = len(point.cores), list(point.cores)
        nic = Interrupts(queues=n)
        interrupts_on_cores(nic, point)  # type: ignore[arg-type]
        assert [int(core) for core in nic.at.values()] == cores
        sending = TransmitQueues(queues=n + 2)
        list(xps(Target(sending, ("ens1f0",), point.cores), "cores"))  # type: ignore[arg-type]
        masks = [int(value.replace(",", ""), 16) for value in sending.files.values()]
        assert masks == [*(1 << core for core in cores), 0, 0]
        main = main_core(Cores(topology), point.cores)  # type: ignore[arg-type]
        assert main not in cores
        on_node = [cpu.cpu for cpu in topology.cpus if cpu.node == topology.find(cores[0]).node]
        assert main in on_node or not set(on_node) - set(cores)
        layout = Layout(pci_devices(["0000:3b:00.0"]), n, main, point.cores, "p", hugepages=True)
        testpmd = command("dpdk-testpmd", Role.DROP, layout, mbufs=16384, burst=32, descriptors=0)
        lcores = testpmd[testpmd.index("--lcores") + 1].split(",")
        assert lcores == [f"{lcore}@{core}" for lcore, core in enumerate([main, *cores])]
        assert {f"--nb-cores={n}", f"--rxq={n}", f"--txq={n}"} <= set(testpmd)
        arguments = af_xdp._arguments(point, [f"ens1f0,{n}"])
        assert arguments[arguments.index("--cores") + 1] == ",".join(map(str, cores)), "queue i is worker i's"


@pytest.mark.parametrize("host", [host for host, (_, near) in HOSTS.items() if near < 32])
def test_a_plan_says_when_cores_are_on_another_node(write: Write, host: str) -> None:
    """8 cores of the desktop are all on the NIC's node, but one is core 0."""
    node, near = HOSTS[host]
    few = plan(write, "auto", [near], block(host, f"node: {node}"))
    assert few.notes == ()
    more = plan(write, "auto", [near + 1], block(host, f"node: {node}"))
    expected = "core 0 is given to stacks" if host == "desktop-8c16t" else f"the NIC of ens1f0 on node {node}"
    assert [note.startswith("sut1: ") and expected in note for note in more.notes] == [True]


def test_listed_cores_are_remarked_on_where_the_file_has_the_topology(write: Write) -> None:
    made = plan(write, [2, 34, 66], [2, 3], block("intel-2x32c128t", "node: 1", "busy: [34]"))
    assert [note.partition(":")[2].split(" are ")[0] for note in made.notes[:2]] == [" cores 2 and 66",
                                                                                  " cores 2, 34 and 66"]
    assert "management interface eno1 arrive on core 34" in made.notes[2]
    assert plan(write, [2, 34, 66], [2], block("intel-2x32c128t", "node: 0")).notes == ()


def test_siblings_are_given_when_asked_for(write: Write) -> None:
    made = plan(write, "auto", [8, 16], block("desktop-8c16t", "node: 0", "siblings: true"))
    assert sorted(made.points[1].cores) == list(range(16))
    assert [note for note in made.notes if "SMT siblings" in note]
    with pytest.raises(UsageError, match="16 cores are more than there are: sut1 has 8 for stacks in the testbed file"):
        plan(write, "auto", [8, 16], block("desktop-8c16t", "node: 0"))


def test_counts_that_a_host_lacks_are_left_out_when_asked_and_said(write: Write) -> None:
    made = plan(write, [3], "{if_available: [1, 2, 4]}")
    assert [point.cores for point in made.points] == [(3,)]
    assert made.notes == ("sut1 has 1 core for stacks: points of 2, 4 cores are left out",)
    assert made.points[0].label == "sockets, 1 core"
    with pytest.raises(UsageError, match=r"cores: 2 cores are more than there are.*write cores: {if_available"):
        plan(write, [3], "{if_available: [2, 4]}")
    with pytest.raises(UsageError, match=r"does not say how many cores; write \[1, 2, 4\], or {if_available"):
        plan(write, [3], "{upto: 4}")


@pytest.mark.parametrize(("cores", "topology", "all_cores", "says"), [
    ("auto", "topology: null", 16, "duts[0].cores: auto needs topology: {cpus: ...} with what `lscpu -p="),
    ("[20]", block("desktop-8c16t"), 128, "duts[0].cores: core 20 is not in the topology"),
    ("auto", block("desktop-8c16t"), 8, "duts[0].all_cores: 8, but topology has core 15"),
    ("auto", "topology: {cpus: '0,0,0'}", 8, "duts[0].topology.cpus: '0,0,0' is no line of `lscpu"),
    ("auto", "topology: {cpus: 5}", 8, "duts[0].topology.cpus: 5 is no topology; paste what"),
    ("automatic", "topology: null", 8, "duts[0].cores: 'automatic' is not a quantity"),
])
def test_refused(write: Write, cores: str, topology: str, all_cores: int, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(write, cores, [1], topology, all_cores)
    assert says in str(caught.value)
