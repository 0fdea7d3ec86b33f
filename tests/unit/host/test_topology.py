# SPDX-License-Identifier: Apache-2.0
"""Which cores stacks get, on topologies in tests/data/topologies (this machine's recorded, the others constructed)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HostError, TestbedError
from harness.host.contract import Completed
from harness.host.topology import Cpu, NearPort, Topology, check_cores, listed, remarks

FOLDER = Path(__file__).parents[2] / "data" / "topologies"
INTEL = Topology.parse((FOLDER / "intel-2x32c128t.csv").read_text())
NPS4 = Topology.parse((FOLDER / "epyc-64c128t-nps4.csv").read_text())
SNC2 = Topology.parse((FOLDER / "intel-2x28c112t-snc2.csv").read_text())
DESKTOP = Topology.parse((FOLDER / "desktop-8c16t.csv").read_text())


def test_cores_of_the_nics_node_come_first() -> None:
    assert INTEL.order(1)[:34] == (*range(1, 64, 2), 2, 4), "odd ids are socket 1; then the other socket, 0 last"
    assert INTEL.order(1)[-1] == 0
    assert NPS4.order(2)[:17] == (*range(32, 48), 1)


def test_with_sub_numa_clusters_the_same_socket_comes_before_the_other() -> None:
    order = SNC2.order(3)
    assert order[:14] == tuple(range(42, 56))
    assert order[14:28] == tuple(range(28, 42))
    assert order[28] == 1


def test_core_0_and_the_management_interrupts_core_come_last() -> None:
    assert DESKTOP.order(0, [13]) == (1, 2, 3, 4, 6, 7, 0, 5), "13 is the sibling of 5"


def test_siblings_are_given_only_when_asked_for_and_after_every_core() -> None:
    assert set(DESKTOP.order(None)) == set(range(8))
    assert DESKTOP.order(None, siblings=True) == (1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Any host: sockets, nodes of a socket, cores of a node, threads, with ids handed out in any order."""
    sockets, nodes, cores, threads = (draw(st.integers(1, most)) for most in (3, 3, 6, 4))
    places = [(socket, node, core) for socket in range(sockets) for node in range(nodes) for core in range(cores)]
    slots = [place for place in places for _ in range(threads)]
    ids = draw(st.permutations(range(len(slots))))
    numbers = {place: number for number, place in enumerate(places)}
    cpus = [Cpu(cpu, numbers[place], place[0], place[0] * nodes + place[1])
            for cpu, place in zip(ids, slots, strict=True)]
    return Topology(tuple(sorted(cpus, key=lambda one: one.cpu)))


@given(topologies(), st.integers(-1, 8), st.sets(st.integers(0, 215), max_size=4))
def test_orders_have_one_thread_a_core_near_first_avoided_last(topology: Topology, node: int, busy: set[int]) -> None:
    order = [topology.find(cpu) for cpu in topology.order(node, busy)]
    cpus = [cpu for cpu in order if cpu is not None]
    assert len(cpus) == len(order) == len({cpu.core for cpu in topology.cpus}) == len({cpu.core for cpu in cpus})
    avoided = [bool({cpu.cpu, *topology.siblings(cpu.cpu)} & {0, *busy}) for cpu in cpus]
    assert avoided == sorted(avoided)
    for wanted in (False, True):
        near = [cpu.node == node for cpu, late in zip(cpus, avoided, strict=True) if late is wanted]
        assert near == sorted(near, reverse=True)
    everything = topology.order(node, busy, siblings=True)
    assert everything[:len(order)] == topology.order(node, busy)
    assert sorted(everything) == [cpu.cpu for cpu in topology.cpus]


@given(topologies(), st.integers(0, 8))
def test_what_is_ordered_is_never_remarked_on_while_there_is_better(topology: Topology, node: int) -> None:
    """Workers on cores of the NIC's node, with their siblings idle, get no remark; the rest says why it is worse."""
    order = topology.order(node)
    near = [cpu for cpu in order if (found := topology.find(cpu)) and found.node == node and cpu != 0]
    assert remarks(topology, near, [NearPort("eth1", node)]) == []
    assert not set(near) & set(topology.apart_from(near))
    for mate in (other for cpu in near for other in topology.siblings(cpu)):
        assert mate not in order
        assert any("SMT siblings" in remark for remark in remarks(topology, [*near, mate]))


def test_remarks_name_cores_and_nodes() -> None:
    said = remarks(INTEL, (2, 66, 3, 9, 0), [NearPort("ens1f0", 0)], {9}, "eno1")
    assert said == [
        "cores 2 and 66 are SMT siblings: they share one physical core, and do not do the work of 2",
        "cores 3 and 9 are on node 1, the NIC of ens1f0 on node 0: every frame crosses between them",
        "interrupts of the management interface eno1 arrive on core 9",
        "core 0 is given to stacks: timers and interrupts that nobody moved are served there",
    ]
    assert remarks(INTEL, (2, 4), [NearPort("ens1f0", -1)]) == [], "a NIC of no node is near to all"


@given(st.sets(st.integers(0, 200), min_size=1))
def test_listed_names_every_core(cores: set[int]) -> None:
    found: set[int] = set()
    for part in listed(sorted(cores)).split(" ", 1)[1].replace(" and ", ", ").split(", "):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == cores


@pytest.mark.parametrize("text", ["", "# only a comment\n", "0,0,0\n", "0,0,0,0\n0,1,0,0\n", "a,b,c,d\n",
                                  "0,0,0,999999\n", "-1,0,0,0\n", "0,,0,0\n", "1,1,1,1,1\n", "²,0,0,0\n"])
def test_what_lscpu_does_not_print_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"lscpu -p=CPU,CORE,SOCKET,NODE"):
        Topology.parse(text)


def test_a_host_without_numa_has_an_empty_node() -> None:
    assert Topology.parse("0,0,0,\n1,1,0,\n").order(0) == (1, 0)


class FakeDut:
    """A host that tells its topology, its NICs' nodes, and where its management interface's interrupts arrive."""

    name, virtual = "sut1", False

    def __init__(self, topology: str | None, *, node: int, interrupts: dict[int, str]) -> None:
        self._facts = {"cpu": {"topology": topology}, "nics": {"ens1f0": {"numa_node": node}}}
        self._interrupts = interrupts

    def facts(self) -> dict[str, object]:
        return self._facts

    def exists(self, path: str) -> bool:
        return path == "/sys/class/net/eno1/device/msi_irqs"

    def run(self, argv: list[str], *, check: bool = True) -> Completed:
        return Completed(tuple(argv), 0, "\n".join(map(str, self._interrupts)), "")

    def read(self, path: str, default: str | None = None) -> str:
        number = path.split("/")[3]
        if path != f"/proc/irq/{number}/effective_affinity_list":
            raise HostError(path)
        return self._interrupts[int(number)]


def test_cores_are_checked_against_the_host_that_is_there() -> None:
    text = (FOLDER / "intel-2x32c128t.csv").read_text()
    dut = FakeDut(text, node=1, interrupts={40: "3\n", 41: "0-127\n"})
    said = check_cores(dut, [1, 2, 3], ["ens1f0", "unknown"], "eno1")  # type: ignore[arg-type]
    assert [line.startswith("sut1: ") for line in said] == [True, True]
    assert "core 2 is on node 0, the NIC of ens1f0 on node 1" in said[0]
    assert said[1].endswith("management interface eno1 arrive on core 3")
    with pytest.raises(TestbedError, match="sut1 has no core 500 online: it has cores 0-127; correct cores"):
        check_cores(dut, [1, 500], [], "eno1")  # type: ignore[arg-type]
    assert check_cores(FakeDut(None, node=0, interrupts={}), [1], [], "eno1") == []  # type: ignore[arg-type]
