# SPDX-License-Identifier: Apache-2.0
"""What a scenario may say of a program, what is filled in, what counter output is read as."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness.stacks.command import counters, placeholders
from hypothesis import given
from hypothesis import strategies as st

from harness import stacks
from harness.errors import StackError, UsageError
from harness.flows import directions
from harness.lab.addresses import plan_wires
from harness.plan import PointPlan, Role

GOOD: dict[str, Any] = {"start": ["server", "--port", 9000], "ready": {"udp": "{udp_port}"}}


def refusal(**changes: object) -> str:
    with pytest.raises(UsageError) as caught:
        stacks.create("command", {**GOOD, **changes})
    return str(caught.value)


@pytest.mark.parametrize(("changes", "says"), [
    ({"start": "server --port 'a b'"}, 'no shell takes it apart; write a list: ["server", "--port", "a b"]'),
    ({"start": "server 'open"}, 'write a list: ["program", "option"]'),
    ({"start": ["server", 1.10]}, "1.1 is no word of a command; put it in quotes"),
    ({"start": ["server", True]}, "True is no word of a command"),
    ({"start": ["server", "{if}"]}, "{if} stands for nothing here; did you mean 'if0'?"),
    ({"start": ["server", "{pid}"]}, "{pid} stands for nothing here"),
    ({"start": ["server", "{cores0}"]}, "{cores0} stands for nothing here"),
    ({"start": ["server", "x" * 4097]}, "a word has at most 4096 characters"),
    ({"start": ["server", "a\0b"]}, "none of them NUL"),
    ({"start": ["x"] * 257}, "at most 256 words"),
    ({"ready": None}, "ready is missing: say when the program serves"),
    ({"ready": {}}, "nothing says when it is ready; give exactly one of"),
    ({"ready": {"tcp": 1, "udp": 1}}, "tcp and udp says when it is ready"),
    ({"ready": {"output": "(" * 3}}, "is no regular expression"),
    ({"ready": {"output": "x" * 501}}, "at most 500 characters"),
    ({"ready": {"udp": 70000}}, "less than or equal to 65535"),
    ({"stop": "killall server"}, "is no signal to stop a program with; one of INT, TERM"),
    ({"counters": "cat /proc/net/snmp"}, 'write a list: ["cat", "/proc/net/snmp"]'),
    ({"discard_counter": "x"}, "counters is missing"),
    ({"losses": {"ring": "x"}}, "counters is missing"),
    ({"environment": {"A B": "1"}}, "'A B' is no name of a variable"),
    ({"environment": {"LD": "{nothing}"}}, "{nothing} stands for nothing here"),
    ({"directory": "relative"}, "should match pattern"),
    ({"title": "<b>"}, "should match pattern"),
])
def test_refused_with_what_would_be_right(changes: dict[str, object], says: str) -> None:
    assert says in refusal(**changes)


def test_signals_go_by_either_name_and_words_may_be_numbers() -> None:
    params: Any = stacks.create("command", {**GOOD, "stop": "SIGTERM"}).params
    assert (params.stop, params.start) == ("TERM", ("server", "--port", "9000"))


def test_every_placeholder_of_the_readme_is_filled_in() -> None:
    wires = plan_wires("abc")
    point = PointPlan(id="p", label="p", stack="command", params={}, role=Role.FORWARD, host="dut", frame_bytes=64,
                      cores=(3, 5), wires=wires, directions=directions(Role.FORWARD, wires, 64, bidirectional=False),
                      line_rate_pps=1.0)
    known = placeholders.values(point, pid=77)
    words = ["{cores} {core1} {core_count}", "{if1}:{mac1}", "{peer_mac0}", "{ip0}/{prefix_len0}", "{peer_ip0}",
             "{flow_prefix0}", "{frame}", "{pid}", "{{if0}}", "{print $1}", "${HOME}"]
    assert placeholders.fill(words, known) == [
        "3,5 5 2", f"{wires[1].dut.ifname}:{wires[1].dut.mac}", wires[0].tg.mac, "198.18.0.1/24", wires[0].tg.ip,
        wires[0].flow_prefix, "64", "77", "{if0}", "{print $1}", "${HOME}"]
    readme = (stacks.source("command") / "README.md").read_text()
    names = {*placeholders.PLAIN, "core0", *(f"{name}0" for name in placeholders.PER_PORT)}
    assert all(f"`{{{name}}}`" in readme for name in names)
    assert placeholders.unknown(["{if2}", "{pci0}", "{core2}", "{if0}"], known) == ["if2", "pci0", "core2"]


@pytest.mark.parametrize(("text", "found"), [
    ('{"kernel": {"UdpInDatagrams": 12, "Ratio": 0.5}, "up": true, "name": "x", "below": -1}',
     {"kernel.UdpInDatagrams": 12, "kernel.Ratio": 0}),
    ("NIC statistics:\n     rx_queue_0_drops: 7\n     peer_ifindex: 3\n", {"rx_queue_0_drops": 7, "peer_ifindex": 3}),
    ("received 10\nlost=2\nframes dropped: 4\nrate 1.5\n\n", {"received": 10, "lost": 2, "frames dropped": 4}),
])
def test_counters_are_read_from_json_and_from_lines(text: str, found: dict[str, int]) -> None:
    assert counters.parse(text) == found


@pytest.mark.parametrize("text", ["", "no numbers here\n", "{", "{}", '{"a": ' * 10_000, '{"a": NaN}', "[1, 2]",
                                  json.dumps({str(n): n for n in range(1001)})])
def test_output_that_is_no_counters_is_an_error(text: str) -> None:
    with pytest.raises(StackError, match="counter"):
        counters.parse(text)


@given(st.text(max_size=400) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.dictionaries(st.text(max_size=9), inner, max_size=5), max_leaves=30).map(json.dumps))
def test_whatever_a_counter_command_prints_becomes_bounded_counts_or_an_error(text: str) -> None:
    try:
        found = counters.parse(text)
    except StackError:
        return
    assert found
    assert all(0 <= value <= counters.MOST_VALUE or value < 10**20 for value in found.values())
    assert all(0 <= len(name) <= 120 for name in found)
