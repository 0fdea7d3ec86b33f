# SPDX-License-Identifier: Apache-2.0
"""Which cores TRex gets on hosts of several kinds, what is said of them, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import TestbedError
from harness.generator.trexhost.cores import CorePlan, TrexPort, plan_cores
from harness.host.topology import Topology

DATA = Path(__file__).parents[3] / "data" / "topologies"
#: Cores 0-3 and their siblings 4-7 on node 0, 8-11 and 12-15 on node 1.
TWO_NODES = "\n".join(f"{cpu},{cpu % 4 + cpu // 8 * 4},{cpu // 8},{cpu // 8}" for cpu in range(16))


def topology(name: str) -> Topology:
    return Topology.parse((DATA / f"{name}.csv").read_text(encoding="utf-8"))


def ports(*nodes: int | None) -> list[TrexPort]:
    return [TrexPort(f"0000:3b:00.{index}", f"02:00:00:00:00:0{index}", f"02:00:00:00:01:0{index}", node)
            for index, node in enumerate(nodes)]


def planned(cores: Sequence[int], nodes: Sequence[int | None], host: Topology | None, *, master: int | None = None,
            latency: int | None = None, software: bool = False) -> tuple[CorePlan, str]:
    plan = plan_cores(cores, ports(*nodes), host, software=software, master=master, latency=latency)
    assert set(plan.used) <= set(cores)
    if not plan.single:
        assert len(plan.used) == 2 + sum(map(len, plan.threads))  # no core does two things
        assert len({len(group) for group in plan.threads}) == 1  # TRex takes one number for all pairs
    return plan, "\n".join(plan.remarks)


def on(host: Topology, cores: Sequence[int]) -> set[int]:
    """Memory nodes of cores."""
    return {found.node for core in cores if (found := host.find(core))}


def test_two_nodes_with_a_nic_each_send_from_their_own() -> None:
    host = topology("intel-2x32c128t")
    plan, said = planned(range(10), (0, 0, 1, 1), host)
    assert plan.master == 0  # it does the host's own work as well, so no thread that sends is put there
    assert [on(host, group) for group in plan.threads] == [{0}, {1}]
    assert len(plan.threads[0]) == 4  # the latency core is of the node that has one more
    assert said == ""


def test_a_nic_on_node_1_takes_cores_of_node_1() -> None:
    host = topology("intel-2x32c128t")
    plan, said = planned(range(8), (1, 1), host)
    assert (plan.master, plan.latency, plan.threads) == (0, 3, ((1, 5, 7),))
    assert said.startswith("TRex leaves cores 2, 4 and 6 of generator.cores unused")


@pytest.mark.parametrize(("name", "cores", "node", "better"), [
    ("intel-2x32c128t", (0, 2, 4, 6), 1, "cores 1 and 3"), ("epyc-64c128t-nps4", (0, 1, 2, 3), 1, "cores 16 and 17"),
    ("intel-2x28c112t-snc2", (0, 1, 2), 3, "core 42"),
])
def test_cores_all_away_from_the_nic_work_and_are_said(name: str, cores: tuple[int, ...], node: int,
                                                      better: str) -> None:
    plan, said = planned(cores, (node, node), topology(name))
    assert len(plan.used) == len(cores)  # all of them are used: none is better
    sending = [core for core in cores if core in plan.threads[0]]
    assert f"(0000:3b:00.0, 0000:3b:00.1), on memory node {node}, from core" in said
    assert all(str(core) in said for core in sending)
    assert f"of node 0: every frame crosses between them; give it cores of node {node} under generator.cores, such " \
           f"as {better}\n" in said
    assert f"TRex times latency frames on core {plan.latency} of node 0" in said


@pytest.mark.parametrize(("cores", "nodes", "threads"), [
    ((1, 2, 3, 8), (0, 0), ((1, 3),)),  # the far one is master
    ((1, 2, 3, 8, 9), (0, 0), ((1, 3),)),  # and another far one does not send
    ((1, 2, 3, 8, 9), (0, 0, 1, 1), ((1,), (8,))),
    ((0, 1, 2, 8, 9, 10, 11), (0, 0, 1, 1), ((1, 2), (8, 10))),
])
def test_uneven_cores_never_send_from_the_other_node(cores: tuple[int, ...], nodes: tuple[int, ...],
                                                     threads: tuple[tuple[int, ...], ...]) -> None:
    host = Topology.parse(TWO_NODES)
    plan, said = planned(cores, nodes, host)
    assert plan.threads == threads
    assert on(host, [plan.latency]) <= set(nodes)
    assert "crosses" not in said
    idle = set(cores) - set(plan.used)
    assert ("unused" in said) == bool(idle)


def test_a_pair_that_lacks_cores_of_its_node_is_said_and_the_other_not() -> None:
    plan, said = planned([1, 2, 3, 8], (0, 0, 1, 1), Topology.parse(TWO_NODES), master=8)
    assert plan.threads[0] == (1,)
    assert "through ports 2 and 3 (0000:3b:00.2, 0000:3b:00.3), on memory node 1, from core 2 of node 0" in said
    assert "such as core 9" in said
    assert "ports 0 and 1" not in said


def test_physical_cores_come_first_and_siblings_last() -> None:
    host = topology("desktop-8c16t")
    plan, said = planned([4, 5, 12, 13], (0, 0), host)
    assert (plan.threads, {plan.master, plan.latency}) == (((4,),), {5, 13})  # nobody beside the one that sends
    assert "TRex runs on cores 5 and 13, SMT siblings of one physical core" in said
    assert "TRex leaves core 12 of generator.cores unused" in said
    plan, said = planned(range(16), (0, 0), host)
    assert (plan.master, plan.latency, plan.threads) == (0, 2, ((1, 3, 4, 5, 6, 7),))
    assert "SMT" not in said
    plan, said = planned([4, 12, 5], (0, 0), host, latency=12)
    assert (plan.threads, plan.master) == (((5,),), 4)  # it sends from the core of which no sibling is taken


def test_ports_of_a_pair_on_two_nodes_are_said_and_odd_ones_have_no_pair() -> None:
    host = Topology.parse(TWO_NODES)
    _, said = planned([1, 2, 3, 8], (0, 1), host)
    assert said.startswith("ports 0 and 1 (0000:3b:00.0, 0000:3b:00.1), a pair to TRex, are on memory nodes 0 and 1")
    plan, said = planned([0, 1, 2, 3, 8, 9, 10], (0, 0, 1), host)
    assert [on(host, group) for group in plan.threads] == [{0}, {1}]
    assert "a pair to TRex" not in said
    plan, said = planned([1, 2, 8, 9, 10], (None, 1), host)  # one port does not say: the pair is where the other is
    assert on(host, [plan.latency, *plan.threads[0]]) == {1}


def test_chosen_cores_stay_what_they_are_told_to_be() -> None:
    plan, said = planned([2, 3, 4, 5], (None, None), None, master=5, latency=3)
    assert (plan.master, plan.latency, plan.threads, said) == (5, 3, ((2, 4),), "")
    plan, said = planned([1, 2, 3, 8], (0, 0), Topology.parse(TWO_NODES), latency=8)
    assert plan.latency == 8
    assert "TRex times latency frames on core 8 of node 1, and no port of it is there" in said


def test_in_software_mode_one_core_sends_and_few_cores_share_one() -> None:
    plan, said = planned([2, 3, 4, 5], (None, None), None, software=True)
    assert (plan.threads, said) == (((2,),), "")
    plan, _ = planned([0, 1], (None, None, None), topology("this-machine"), software=True, master=1)
    assert (plan.single, plan.master, plan.threads) == (True, 1, ((1,), (1,)))
    assert planned([0, 1], (None, None), None, software=True)[0].master == 0
    with pytest.raises(TestbedError, match=r"latency_core cannot be core 1: of 3 cores .* has 2"):
        planned([0, 1], (None, None), None, software=True, latency=1)


@pytest.mark.parametrize(("given", "nodes", "says"), [
    ((1, 2), (0, 0), r"needs 3 cores for 2 ports .* has 2$"), ((1, 2, 3), (0, 0, 0), "needs 4 cores for 3 ports"),
    ((1, 2), (0,), "needs 3 cores for 1 port "), ((1, 2, 64), (0, 0), "core 64: it knows cores 0 to 63"),
    ((1, 2, 40), (0, 0), "has no core 40; correct generator.cores"),
    ((1, 2, 3), (4, 4), "memory node 4: it knows nodes 0 to 3"),
])
def test_what_trex_cannot_do_is_refused(given: tuple[int, ...], nodes: tuple[int, ...], says: str) -> None:
    with pytest.raises(TestbedError, match=says):
        planned(given, nodes, topology("desktop-8c16t"))
