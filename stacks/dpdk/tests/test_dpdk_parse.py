# SPDX-License-Identifier: Apache-2.0
"""testpmd's output as numbers (DPDK 22.11 as Debian 12 has it, real sessions in data/), and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.stacks.dpdk import l3fwd, parse
from harness.stacks.dpdk.command import (
    Layout,
    af_packet_devices,
    af_xdp_devices,
    command,
    mbufs_for,
    memory_mib,
    pci_devices,
)
from harness.stacks.dpdk.session import CYCLE_SOURCE, FORWARDING, RunningTestpmd
from harness.stacks.dpdk.telemetry import LCORE_USAGE, LcoreUsage, answers, lcore_usage, xstats

from harness.errors import StackError
from harness.plan import PortPlan, Role, WirePlan
from harness.stack import PollUsage

DATA = Path(__file__).parent / "data"
ECHO, DROP = (DATA / "5tswap.txt").read_text(), (DATA / "rxonly.txt").read_text()
ECHO_FORWARDED = 17773


def test_port_statistics_of_a_session() -> None:
    text = parse.answer(ECHO, "show port stats all", "mark1")
    ports = parse.port_statistics(text)
    assert ports[0] == {"RX-packets": 8398, "RX-missed": 0, "RX-bytes": 503880, "RX-errors": 0, "RX-nombuf": 0,
                        "TX-packets": 8398, "TX-errors": 0, "TX-bytes": 503880}
    assert ports[1]["RX-packets"] == 0
    assert set(ports) == {0, 1}


def test_forward_statistics_of_the_last_answer_count() -> None:
    text = parse.answer(ECHO, "show fwd stats all", "mark3")
    assert parse.forward_statistics(text) == {
        0: {"RX-packets": ECHO_FORWARDED, "RX-dropped": 0, "RX-total": ECHO_FORWARDED, "TX-packets": ECHO_FORWARDED,
            "TX-dropped": 0, "TX-total": ECHO_FORWARDED},
        1: {"RX-packets": 0, "RX-dropped": 0, "RX-total": 0, "TX-packets": 0, "TX-dropped": 0, "TX-total": 0},
    }


def test_bursts_where_every_useful_poll_sends_are_exact() -> None:
    found = parse.bursts(parse.answer(ECHO, "show fwd stats all", "mark3"))
    assert found is not None
    assert found.rx == 21762455 + 21762454
    assert found.tx == 3947


def test_bursts_of_rxonly_do_not_tell_the_useful_ones() -> None:
    found = parse.bursts(parse.answer(DROP, "show fwd stats all", "mark3"))
    assert found is not None
    assert found.tx == 0
    assert found.rx == 9436746 + 9437173


def test_no_bursts_while_they_are_not_recorded() -> None:
    text = ECHO[: ECHO.index("set record-burst-stats on")]
    assert parse.bursts(text) is None


def test_bursts_of_every_stream_are_summed() -> None:
    """With several queues a port they stand in the streams' sections."""
    text = "".join(
        f"\n  ------- Forward Stats for RX Port= 0/Queue= {queue} -> TX Port= 0/Queue= {queue} -------\n"
        f"  RX-packets: 10             TX-packets: 10             TX-dropped: 0\n"
        f"  RX-bursts : {polls} [100% of 0 pkts]\n  TX-bursts : {queue} [100% of 2 pkts]\n"
        for queue, polls in ((1, 100), (2, 50))
    )
    assert parse.bursts(text) == parse.Bursts(rx=150, tx=3)


@pytest.mark.parametrize(("output", "mark"), [("", "mark1"), ("show port stats all\ncut", "mark1"), ("mark1", "mark1")])
def test_an_answer_that_is_not_there_is_an_error(output: str, mark: str) -> None:
    with pytest.raises(StackError, match="was not found"):
        parse.answer(output, "show port stats all", mark)


@pytest.mark.parametrize("text", ["", "Command not found", "  #### NIC statistics for port 0  ####\n  nothing\n"])
def test_statistics_of_another_shape_are_an_error(text: str) -> None:
    with pytest.raises(StackError, match="could not be read"):
        parse.port_statistics(text)
    with pytest.raises(StackError, match="could not be read"):
        parse.forward_statistics(text)


@pytest.mark.parametrize(("role", "mode"), [(Role.DROP, "rxonly"), (Role.REFLECT, "macswap"), (Role.ECHO, "5tswap")])
def test_command_line_in_the_lab(role: Role, mode: str) -> None:
    layout = Layout(af_xdp_devices([("d0", 2)], 0), 1, 0, (1, 3), "p", hugepages=False)
    argv = command("/usr/bin/dpdk-testpmd", role, layout, mbufs=16384, burst=32, descriptors=0)
    eal, own = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    assert eal == [
        "stdbuf", "-oL", "/usr/bin/dpdk-testpmd", "--lcores", "0@0,1@1,2@3", "--main-lcore", "0", "--no-huge", "-m",
        "128", "--file-prefix", "p", "--no-pci",
        "--vdev=net_af_xdp0,iface=d0,start_queue=0,queue_count=1,busy_budget=0",
        "--vdev=net_af_xdp1,iface=d0,start_queue=1,queue_count=1,busy_budget=0",
    ]  # fmt: skip
    assert own[:2] == ["--interactive", f"--forward-mode={mode}"]
    assert {"--port-topology=loop", "--nb-cores=2", "--rxq=1", "--txq=1", "--total-num-mbufs=16384"} <= set(own)
    assert not [word for word in own if word.startswith("--rxd")]


def test_command_line_over_pci() -> None:
    layout = Layout(pci_devices(["0000:01:00.0", "0000:01:00.1"]), 4, 0, (1,), "p", hugepages=True)
    argv = command("dpdk-testpmd", Role.ECHO, layout, mbufs=4096, burst=64, descriptors=1024)
    assert "--in-memory" in argv
    assert "--no-huge" not in argv
    assert argv[argv.index("-a") :][:4] == ["-a", "0000:01:00.0", "-a", "0000:01:00.1"]
    assert {"--rxq=4", "--txq=4", "--rxd=1024", "--txd=1024", "--burst=64"} <= set(argv)
    assert not [word for word in argv if word.startswith("--rss")]


@pytest.mark.parametrize(("rss", "words"), [("udp", ["--rss-ip", "--rss-udp"]), ("ip", ["--rss-ip"])])
def test_several_queues_are_chosen_by_flow(rss: str, words: list[str]) -> None:
    layout = Layout(pci_devices(["0000:01:00.0", "0000:01:00.1"]), 4, 0, (1, 2, 3, 4), "p", hugepages=True, rss=rss)
    argv = command("dpdk-testpmd", Role.FORWARD, layout, mbufs=4096, burst=64, descriptors=0)
    assert argv[-len(words) :] == words
    assert {"--forward-mode=io", "--port-topology=paired", "--nb-cores=4"} <= set(argv)


def test_l3fwd_polls_every_queue_and_knows_the_next_hops() -> None:
    layout = Layout(pci_devices(["0000:0a:00.0", "0000:01:00.1"]), 2, 0, (4, 5), "p", hugepages=True)
    wires = [WirePlan(n, "sut", PortPlan(n, "", f"02:00:00:00:0{n}:01", "", 24), PortPlan(n, "", "", "", 24), 10.0, "",
                      False) for n in range(2)]
    assert l3fwd.in_port_order(layout, wires) == [wires[1], wires[0]]
    argv = l3fwd.command("/usr/bin/dpdk-l3fwd", layout, wires, ("/run/4", "/run/6"))
    assert {"--config=(0,0,0),(0,1,1),(1,0,0),(1,1,1)", "--eth-dest=0,02:00:00:00:00:01",
            "--eth-dest=1,02:00:00:00:01:01"} <= set(argv)
    assert argv[argv.index("-p") + 1] == "0x3"
    assert argv[argv.index("--lcores") + 1] == "0@4,1@5"


def test_devices_of_two_ports_are_neighbours_by_queue() -> None:
    assert [word.partition(",busy")[0].partition("iface=")[2] for word in af_xdp_devices([("d0", 2), ("d1", 2)], 0)[1:]
            ] == ["d0,start_queue=0,queue_count=1", "d1,start_queue=0,queue_count=1",
                  "d0,start_queue=1,queue_count=1", "d1,start_queue=1,queue_count=1"]


def test_af_packet_device_serves_all_queues() -> None:
    assert af_packet_devices(["d0"], 2) == ("--no-pci", "--vdev=net_af_packet0,iface=d0,qpairs=2,qdisc_bypass=1")


def test_memory_holds_the_buffers() -> None:
    assert memory_mib(16384) == 64 + 40
    assert memory_mib(1) == 65


#: As the commit that added it to DPDK 23.03 documents it ("eal: add lcore usage telemetry endpoint").
USAGE = """{"version": "DPDK 23.03.0", "pid": 1, "max_output_len": 16384}
{"/eal/lcore/usage": {"lcore_ids": [4, 5], "total_cycles": [23846845590, 23900558914], "busy_cycles": [21043446682, \
21448837316]}}
"""


def test_use_of_lcores_as_documented() -> None:
    (answer,) = answers(USAGE, ["/eal/lcore/usage"])
    assert lcore_usage(answer) == LcoreUsage(21043446682 + 21448837316, 23846845590 + 23900558914)
    assert lcore_usage({"lcore_ids": [], "total_cycles": [], "busy_cycles": []}) is None


def test_telemetry_of_a_session() -> None:
    """Real answers of Debian 12's 22.11, which does not know the use of lcores, to a testpmd with two net_null."""
    asked = ["/", "/ethdev/xstats,0", "/ethdev/xstats,1", LCORE_USAGE, "/ethdev/xstats,9"]
    commands, first, second, _, ninth = answers((DATA / "telemetry.txt").read_text(), asked)
    assert "/ethdev/xstats" in commands
    assert LCORE_USAGE not in commands
    assert [(port["rx_good_packets"], port["rx_q0_packets"]) for port in (xstats(first), xstats(second))] == [
        (8053344, 8053344), (8055392, 8055392)]
    with pytest.raises(StackError, match="could not be read"):
        xstats(ninth)


@pytest.mark.parametrize("output", ["", "{}", '{"version": ""}\n{"/ethdev/xstats": null}', '{}\nnot JSON',
                                    '{}\n{"/other": {}}', '{}\n{"/ethdev/xstats": {"rx": "many"}}'])
def test_answers_of_another_shape_are_an_error(output: str) -> None:
    with pytest.raises(StackError, match="could not be read"):
        xstats(answers(output, ["/ethdev/xstats,0"])[0])


@pytest.mark.parametrize("answer", [None, {}, {"lcore_ids": [1], "total_cycles": [1, 2], "busy_cycles": [1, 2]}])
def test_a_use_of_lcores_of_another_shape_is_an_error(answer: object) -> None:
    with pytest.raises(StackError, match="could not be read"):
        lcore_usage(answer)


class Scripted:
    """A testpmd that echoes what it is told, and a telemetry that tells the use of lcores, or does not know it."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known, self.told, self.shown = known, list[str](), ""

    def write(self, text: str) -> None:
        self.told.append(text.splitlines()[0])
        self.shown += f"testpmd> {text}{FORWARDING}1\n"

    def wait_output(self, pattern: str, timeout_s: float) -> str:
        return ""

    def alive(self) -> bool:
        return True

    def output(self, tail_bytes: int = 0) -> str:
        return self.shown.replace("mark", f"{FORWARDING}\nmark")

    def commands(self) -> tuple[str, ...]:
        return self.known

    def lcore_usage(self) -> LcoreUsage:
        return LcoreUsage(40, 100)


def test_use_of_lcores_is_asked_for_where_dpdk_knows_it_and_role_drop_has_it_too() -> None:
    newer = Scripted(("/", LCORE_USAGE))
    running = RunningTestpmd(newer, newer, drops=True, degraded="", misses=True)  # type: ignore[arg-type]
    running.start()
    assert running.poll_usage() is None
    assert running.record_polls(True)
    assert running.poll_usage() == PollUsage(40, 60, CYCLE_SOURCE)
    assert running.record_polls(False)
    assert newer.told == ["start", *(f"set record-core-cycles {state}" for state in ("off", "on", "off"))]
    older = Scripted(("/", "/ethdev/xstats"))
    running = RunningTestpmd(older, older, drops=True, degraded="", misses=True)  # type: ignore[arg-type]
    running.start()
    assert not running.record_polls(True)


@pytest.mark.parametrize("queues", [1, 2, 4, 8, 16, 32, 64])
def test_the_pool_fills_every_ring_and_the_caches_of_all_lcores(queues: int) -> None:
    workers = tuple(range(1, queues + 1))
    pci = Layout(pci_devices(["0000:03:00.0", "0000:03:00.1"]), queues, 0, workers, "p", True)
    in_rings = 2 * queues * (1024 + 1024)
    assert mbufs_for(pci, 2048, 0) >= in_rings + (queues + 1) * 375, "a cache of 250 holds up to half as many more"
    assert mbufs_for(pci, 2048, 0) <= in_rings + (queues + 1) * 1024, "and memory is not given away"
    assert mbufs_for(pci, 2048, 4096) - mbufs_for(pci, 2048, 2048) == 2 * queues * 2 * 2048
    assert mbufs_for(pci, 1 << 20, 0) == 1 << 20, "more where it is asked for"
    devices = af_xdp_devices([("eth1", queues), ("eth2", queues)], 0)
    assert mbufs_for(Layout(devices, 1, 0, workers, "p", False), 2048, 0) >= 2 * queues * (2048 + 2048)
