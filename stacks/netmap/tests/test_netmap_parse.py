# SPDX-License-Identifier: Apache-2.0
"""The output of netmap's own programs (module of 2026-02, in a virtual machine), as numbers and reasons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness.stacks.netmap import parse

from harness.errors import StackError

DATA = Path(__file__).with_name("data")


def text(name: str) -> str:
    return (DATA / name).read_text()


def test_raw_reports_add_up_to_the_summary() -> None:
    found = list(parse.reports(text("pktgen_rx_raw.txt")))
    assert all(report.exact for report in found)
    assert sum(report.packets for report in found) == 1000
    assert parse.summary(text("pktgen_rx_raw.txt")) == parse.Summary(1000, 60000, 40)
    assert len({report.stamp for report in found}) == len(found) > 40
    assert all(90_000 < report.usec < 110_000 for report in found[:-5]), "a report each 100 ms"


def test_rounded_reports_are_marked_and_come_close_to_the_summary() -> None:
    found = list(parse.reports(text("pktgen_rx_sigint.txt")))
    summary = parse.summary(text("pktgen_rx_sigint.txt"))
    assert summary == parse.Summary(40000, 2400000, 36765)
    assert not any(report.exact for report in found)
    assert abs(sum(report.packets for report in found) - summary.packets) < 10
    assert found[0].space == 0
    assert found[1].space is None


def test_no_summary_is_none_and_nothing_received_is_zero() -> None:
    assert parse.summary("750.342359 main_thread [2781] 0 pps (0 pkts 0 bps in 1003582 usec)") is None
    assert parse.summary("Received nothing.\n") == parse.Summary(0, 0, 0)


def sections(name: str) -> dict[str, str]:
    """Command -> what it printed, of a file of commands that failed."""
    parts = re.split(r"^### (.*)\n", text(name), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(("command", "why"), [
    ("bridge -i netmap:nosuch0 -i netmap:data1 -w 1", "nosuch0: No such device or address"),
    ("pkt-gen -i netmap:lo -f rx -w 0", "lo: Invalid argument"),
    ("unprivileged: pkt-gen -i netmap:data0 -f rx -w 0", "/dev/netmap: Permission denied"),
    ("unprivileged: bridge -i netmap:data0 -i netmap:data1 -w 0", "/dev/netmap: Permission denied"),
])
def test_the_reason_of_a_refusal_is_found_before_the_usage_text(command: str, why: str) -> None:
    assert parse.reason(sections("errors.txt")[command]) == why


def test_a_port_that_is_taken_and_a_module_that_is_absent_are_reasons_too() -> None:
    taken = sections("exclusive.txt")["pkt-gen -i netmap:data0/x -f rx -w 0"]
    assert parse.reason(taken) == "data0: Device or resource busy"
    absent = text("errors.txt").split("##### module not loaded")[1]
    assert parse.reason(absent.split("### pkt-gen")[1]) == "/dev/netmap: No such file or directory"
    assert parse.reason(text("pktgen_rx_raw.txt")) == ""


def test_bridge_says_its_ports_and_whether_it_copies() -> None:
    normal, ended, verbose = text("bridge.txt").split("$ ")[1:]
    assert parse.bridge_ready(normal) == parse.BridgeReady(("data0", "data1"), zero_copy=True)
    assert parse.bridge_ready(ended.replace("zerocopy supported", "zerocopy NOT supported")) == parse.BridgeReady(
        ("data0", "data1"), zero_copy=False)
    assert parse.bridge_ready("646.048229 main [299] Wait 2 secs for link to come up...") is None
    assert parse.bridge_polls(normal) == {"timeout": 2, "ok": 0}
    assert parse.bridge_polls(verbose)["ok"] == verbose.count("poll ok") > 0


def test_lb_counts_what_it_took_and_gave_by_ring() -> None:
    session = text("lb.txt").split("$ [SIGTERM] lb")[0]
    assert parse.balancer(session) == [
        {"packets_received": 12001, "packets_forwarded": 12001, "packets_dropped": 0},
        {"packets_forwarded": 0, "packets_dropped": 0}, {"packets_forwarded": 12001, "packets_dropped": 0}]
    with pytest.raises(StackError, match="lb printed a line"):
        parse.balancer('{"output_ring": 0}\n')
