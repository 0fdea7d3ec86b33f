# SPDX-License-Identifier: Apache-2.0
"""testpmd's output as numbers (DPDK 22.11 as Debian 12 has it, real sessions in data/), and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.stacks.dpdk import parse
from harness.stacks.dpdk.command import Layout, af_packet_devices, af_xdp_devices, command, memory_mib, pci_devices
from harness.stacks.dpdk.stack import main_core

from harness.errors import StackError
from harness.plan import Role

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
        "104", "--file-prefix", "p", "--no-telemetry", "--no-pci",
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


def test_af_packet_device_serves_all_queues() -> None:
    assert af_packet_devices(["d0"], 2) == ("--no-pci", "--vdev=net_af_packet0,iface=d0,qpairs=2,qdisc_bypass=1")


def test_memory_holds_the_buffers() -> None:
    assert memory_mib(16384) == 64 + 40
    assert memory_mib(1) == 65


def test_main_thread_stays_off_the_given_cores() -> None:
    assert main_core("0-3\n", (0, 1)) == 2
    assert main_core("0-1", (1,)) == 0
    assert main_core("0", (0,)) == 0
