# SPDX-License-Identifier: Apache-2.0
"""Scenario + testbed -> Plan: every address, port, core and step, and refusals before anything is touched."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import estimate
from harness.errors import TestbedError, UsageError
from harness.flows import MOST_SOURCE_IPS, MOST_SOURCE_PORTS, factor_flows
from harness.lab import plan_wires
from harness.plan import SIMPLE_IMIX, FrameMix, Plan, Role, line_rate_pps
from harness.planning import build_plan
from harness.planview import render_plan
from harness.scenario import load_scenario
from harness.stack import Stack
from harness.testbed import Testbed, Trex, lab_testbed

Write = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("fake_stacks")

SCENARIO = """
    name: test
    role: {role}
    traffic: {{{traffic}}}
    cores: {cores}
    stacks: {stacks}
    measure: {measure}
    repeat: {repeat}
    order: {order}
    """
DEFAULTS = {"role": "echo", "traffic": "frame: 64", "cores": "[1]", "repeat": "1", "order": "interleaved",
            "stacks": "[sockets, {sockets: {reuseport: true}}]", "measure": "{throughput: {}}"}


def bed(dut_cores: tuple[int, ...] = (1,)) -> Testbed:
    return lab_testbed(plan_wires("abc"), (0,), dut_cores)


def two_hosts() -> Testbed:
    """A switch joins the generator's port with a port of each of two hosts."""
    ports = [{"mac": f"02:00:00:00:00:0{number}", "ifname": f"e{number}"} for number in range(3)]
    return Testbed.model_validate({
        "name": "rack", "generator": {"cores": [0], "ports": ports[:1]},
        "duts": [{"name": f"sut{n}", "management": "lo", "cores": [1], "all_cores": 2, "ports": [ports[n]]}
                 for n in (1, 2)],
        "wires": [{"tg": 0, "dut": f"sut{n}/0", "speed": "10G"} for n in (1, 2)]})


def plan(write: Write, testbed: Testbed | None = None, *, only: tuple[str, ...] = (), seed: int = 1, **values: str,
         ) -> Plan:
    path = write(SCENARIO.format(**{**DEFAULTS, **values}))
    return build_plan(load_scenario(path), testbed or bed(), only=only, seed=seed)


def refusal(write: Write, **values: str) -> str:
    with pytest.raises(UsageError) as caught:
        plan(write, **values)
    return str(caught.value)


def test_echo_uses_the_first_wire_there_and_back(write: Write) -> None:
    point = plan(write).points[0]
    direction, = point.directions
    wire = plan_wires("abc")[0]
    assert (direction.tx_port, direction.rx_port) == (0, 0)
    assert (direction.src_mac, direction.dst_mac) == (wire.tg.mac, wire.dut.mac)
    assert direction.flows.dst_ip == "198.18.0.1"
    assert point.udp_port == 9000
    assert point.cores == (1,)
    assert point.line_rate_pps == pytest.approx(14_880_952, abs=1)
    assert point.params == {"reuseport": False, "mode": "block", "buffer": 4096}


def test_drop_comes_back_nowhere(write: Write) -> None:
    assert plan(write, role="drop").points[0].directions[0].rx_port is None


def test_accept_has_connections_and_neither_frames_nor_a_line_rate(write: Write) -> None:
    measure = "{throughput: {min_load: 1}, latency: {}, load_curve: {rates: [50M]}}"
    made = plan(write, role="accept", traffic="l4: tcp", stacks="[sockets]", measure=measure)
    point, = made.points
    direction, = point.directions
    wire = plan_wires("abc")[0]
    assert (point.frame_bytes, point.line_rate_pps, point.id) == (0, 0.0, "sockets-1c")
    flows = direction.flows
    assert (flows.l4, flows.src_ip_first, flows.dst_ip) == ("tcp", wire.tg.ip, wire.dut.ip)
    assert (made.generator.kind, made.measure.latency_pps) == ("h2load", 0.0)
    text = render_plan(made)
    assert "50,000,000 connections/s" in text
    assert not any(word in text for word in ("pps", "line rate", "UDP", "RPC", " B:"))


def rack(*, trex: bool = True, netns: str = "", tg: int = 0) -> Testbed:
    """A testbed like the lab that is none, with TRex as its generator."""
    made = bed().model_copy(update={"name": "rack"})
    generator = made.generator.model_copy(update={"trex": Trex(dir="/opt/trex") if trex else None, "netns": netns})
    wires = (made.wires[0].model_copy(update={"tg": tg}),)
    return made.model_copy(update={"generator": generator, "wires": wires})


def test_accept_on_a_testbed_is_trexs_with_all_addresses_behind_the_wire(write: Write) -> None:
    made = plan(write, rack(), role="accept", traffic="", stacks="[sockets]")
    flows, generator = made.points[0].directions[0].flows, made.generator
    assert (generator.kind, generator.trex_dir, generator.sync_port) == ("trex-astf", "/opt/trex", 4501)
    addresses = [ipaddress.ip_address(flows.src_ip_first) + n for n in (0, flows.src_ips - 1)]
    prefix = ipaddress.ip_network(made.wires[0].flow_prefix)
    assert all(address in prefix for address in addresses)
    assert addresses[1] == prefix.broadcast_address
    assert int(addresses[0]) % 64 == flows.src_ips % 64 == 0, "the agent divides them into blocks"
    assert (flows.l4, flows.count) == ("tcp", flows.src_ips * flows.src_ports)
    assert "trex-astf from /opt/trex" in render_plan(made)


def test_accept_connects_from_one_generator_port(write: Write) -> None:
    told = two_hosts().model_dump(mode="json")
    for wire in told["wires"]:
        wire["speed"] = "10G"
    told["generator"]["trex"] = {"dir": "/opt/trex"}
    told["generator"]["ports"] += [{"mac": "02:00:00:00:00:08"}, {"mac": "02:00:00:00:00:09"}]
    for dut in told["duts"]:
        dut["tuning"] = "stock"
    switched = Testbed.model_validate(told)
    assert len(plan(write, switched, role="accept", traffic="", stacks="[sockets]").points) == 2
    told["wires"][1]["tg"] = 2  # TRex opens connections from even ports
    cabled = Testbed.model_validate(told)
    with pytest.raises(UsageError, match=r"sut1 and sut2 are at different ones; .* --only sut1"):
        plan(write, cabled, role="accept", traffic="", stacks="[sockets]")
    assert len(plan(write, cabled, only=("sut2",), role="accept", traffic="", stacks="[sockets]").points) == 1


def test_accept_needs_a_client_there_that_can_open_connections(write: Write) -> None:
    with pytest.raises(TestbedError, match=r"accept on testbed rack needs a TRex .*generator\.trex\.dir") as caught:
        plan(write, rack(trex=False), role="accept", traffic="", stacks="[sockets]")
    assert caught.value.exit_code == 3
    with pytest.raises(TestbedError, match=r"even ports only .*dut is on port 1; list that port first"):
        plan(write, rack(tg=1), role="accept", traffic="", stacks="[sockets]")
    local = plan(write, rack(trex=False, netns="tg"), role="accept", traffic="", stacks="[sockets]")
    assert (local.generator.kind, local.points[0].directions[0].flows.src_ips) == ("h2load", 1)


@pytest.mark.parametrize(("traffic", "ways"), [("direction: one-way", [(0, 1)]),
                                               ("direction: bidirectional", [(0, 1), (1, 0)])])
def test_forward_goes_from_wire_to_wire(write: Write, traffic: str, ways: list[tuple[int, int]]) -> None:
    made = plan(write, role="forward", stacks="[bypass]", traffic=traffic)
    directions = made.points[0].directions
    assert [(d.tx_port, d.rx_port) for d in directions] == ways
    for direction in directions:
        assert direction.dst_mac == made.wires[direction.tx_port].dut.mac
        leaves = made.wires[1 - direction.tx_port]
        assert ipaddress.ip_address(direction.flows.dst_ip) in ipaddress.ip_network(leaves.flow_prefix)


def test_frames_to_be_bridged_are_addressed_to_the_far_end(write: Write) -> None:
    made = plan(write, role="forward", stacks="[bypass, {bypass: {bridge: true}}]", traffic="direction: bidirectional")
    (there, back), (first, second) = made.points[1].directions, made.wires
    assert (there.src_mac, there.dst_mac) == (first.tg.mac, second.tg.mac)
    assert (back.src_mac, back.dst_mac) == (second.tg.mac, first.tg.mac)
    assert [d.dst_mac for d in made.points[0].directions] == [first.dut.mac, second.dut.mac]


@pytest.mark.parametrize("flows", [1, 7, 64, 256, 997, 1000, 1024, 65_536, 1_000_000])
def test_every_flow_lies_behind_its_wire(write: Write, flows: int) -> None:
    made = plan(write, role="forward", stacks="[bypass]", traffic=f"flows: {flows}, direction: bidirectional")
    for direction in made.points[0].directions:
        flow = direction.flows
        assert flow.src_ips * flow.src_ports == flow.count == flows
        first = ipaddress.ip_address(flow.src_ip_first)
        prefix = ipaddress.ip_network(made.wires[direction.tx_port].flow_prefix)
        assert first in prefix
        assert first + flow.src_ips - 1 in prefix
        assert ipaddress.ip_address(made.wires[direction.tx_port].dut.ip) not in prefix
        assert flow.src_port_first + flow.src_ports - 1 < 65_536


def test_flows_use_as_many_addresses_as_divide_them() -> None:
    assert factor_flows(1024) == (256, 4)
    assert factor_flows(1000) == (250, 4)
    assert factor_flows(997) == (1, 997)


def test_flows_that_cannot_be_made_name_the_nearest_that_can(write: Write) -> None:
    message = refusal(write, traffic="flows: 100003")
    assert "scenario.yaml:3: traffic.flows: 100003 flows cannot be made" in message
    low, high = (int(word) for word in message.rpartition("nearest that can: ")[2].split(", "))
    assert low < 100_003 < high
    for count in (low, high):
        ips, ports = factor_flows(count)
        assert ips * ports == count
        assert ips <= MOST_SOURCE_IPS
        assert ports <= MOST_SOURCE_PORTS


def test_points_are_stacks_times_frames_times_cores(write: Write) -> None:
    made = plan(write, bed((3, 1, 2)), cores="[1, 3]", traffic="frame: [64, 128]")
    assert len(made.points) == 8
    assert len({point.id for point in made.points}) == 8
    assert {point.cores for point in made.points} == {(3,), (3, 1, 2)}
    assert made.points[0].label == "sockets, 64 B, 1 core"
    assert made.points[1].label == "sockets reuseport=true, 64 B, 1 core"


def test_a_stack_that_a_host_may_lack_is_marked_in_plan_and_print(write: Write) -> None:
    made = plan(write, stacks="[{bypass: {}, if_supported: true}, sockets]", role="drop")
    assert [point.if_supported for point in made.points] == [True, False]
    marked = [line for line in render_plan(made).splitlines() if "if the host supports it" in line]
    assert [line.split()[0] for line in marked] == ["bypass-64B-1c"]
    said = refusal(write, stacks="[{sockets: {}, if_supported: true}, sockets]")
    assert "sockets with these parameters is entry 1 already" in said


def test_a_mix_is_one_point_with_the_line_rate_of_its_mean(write: Write) -> None:
    single, mixed = plan(write, stacks="[sockets]", traffic="frame: [64, imix]").points
    assert (single.mix, single.frames) == (None, FrameMix.of(64))
    assert (mixed.frames, mixed.frame_bytes, mixed.payloads) == (SIMPLE_IMIX, 64, (18, 548, 1472))
    assert mixed.line_rate_pps == pytest.approx(10e9 / (8 * (361.833 + 20)), rel=1e-5)
    assert (mixed.id, mixed.label) == ("sockets-imix-1c", "sockets, IMIX 7:4:1 (mean 361.8 B)")
    assert "sockets-imix-1c  sockets, IMIX 7:4:1 (mean 361.8 B): IMIX 7:4:1 (mean 361.8 B), line rate 3.274 Mpps" in (
        render_plan(plan(write, stacks="[sockets]", traffic="frame: [64, imix]")))


def test_ipv6_and_vlan_reach_addresses_directions_and_the_smallest_frame(write: Write) -> None:
    traffic = "frame: min, l3: ipv6, vlan: 7, direction: bidirectional"
    made = plan(write, role="forward", stacks="[bypass]", traffic=traffic)
    point, = made.points
    assert (point.frame_bytes, point.ip_version, point.vlan, point.payloads) == (86, 6, 7, (16,))
    assert point.traffic_label == "86 B IPv6 in VLAN 7"
    for direction in point.directions:
        leaves = made.wires[1 - direction.tx_port]
        assert direction.vlan == 7
        assert ipaddress.ip_address(direction.flows.dst_ip) in ipaddress.ip_network(leaves.flow_prefix)
        assert ipaddress.ip_address(leaves.tg.ip) in ipaddress.ip_network(f"{leaves.dut.ip}/{leaves.dut.prefix_len}",
                                                                           strict=False)
    assert "2001:2:0:101::/64" in render_plan(made)


def trex_bed() -> Testbed:
    made = bed()
    generator = made.generator.model_copy(update={"trex": Trex(dir="/opt/trex/v3.08")})
    return made.model_copy(update={"generator": generator})


def test_without_latency_trex_sends_smaller_frames_than_xdpgen(write: Write) -> None:
    traffic = {"role": "drop", "stacks": "[bypass]", "traffic": "frame: min, l3: ipv6, vlan: 7"}
    assert plan(write, trex_bed(), **traffic).points[0].frame_bytes == 70
    assert plan(write, **traffic).points[0].frame_bytes == 86


def test_trex_has_no_latency_over_ipv6_through_sockets(write: Write) -> None:
    echo = {"stacks": "[sockets]", "measure": "{throughput: {}, latency: {}}", "traffic": "frame: min, l3: ipv6"}
    assert "without correcting the UDP checksum" in plan(write, trex_bed(), **echo).points[0].no_latency
    assert plan(write, **echo).points[0].no_latency == ""
    forward = {**echo, "role": "forward", "stacks": "[bypass]"}
    assert plan(write, trex_bed(), **forward).points[0].no_latency == ""
    assert plan(write, trex_bed(), **{**echo, "traffic": "frame: min"}).points[0].no_latency == ""


def test_ids_are_fit_for_files(write: Write) -> None:
    ids = [point.id for point in plan(write).points]
    assert ids == ["sockets-64B-1c", "sockets-reuseport=true-64B-1c"]


def test_a_shuffled_order_is_the_seeds(write: Write) -> None:
    kwargs = {"repeat": "5", "traffic": "frame: [64, 65, 66, 67]"}
    first, again, other = (plan(write, seed=seed, **kwargs) for seed in (1, 1, 2))
    assert first.sequence == again.sequence != other.sequence
    assert first.seed == 1
    for number in range(5):
        ids = [point for repeat, point in first.sequence if repeat == number]
        assert sorted(ids) == sorted(point.id for point in first.points)
    assert [repeat for repeat, _ in first.sequence] == [n for n in range(5) for _ in range(8)]
    rounds = {tuple(p for r, p in first.sequence if r == n) for n in range(5)}
    assert len(rounds) > 1


def test_the_given_order_is_kept(write: Write) -> None:
    made = plan(write, repeat="2", order="given")
    ids = tuple(point.id for point in made.points)
    assert made.sequence == tuple((number, point) for number in (0, 1) for point in ids)


def test_without_a_seed_each_plan_draws_one(write: Write) -> None:
    scenario = load_scenario(write(SCENARIO.format(**DEFAULTS)))
    assert len({build_plan(scenario, bed()).seed for _ in range(3)}) == 3


def test_only_keeps_a_host_and_its_points_are_called_as_in_the_whole_run(write: Write) -> None:
    two = two_hosts()
    whole = plan(write, two)
    assert {point.host for point in whole.points} == {"sut1", "sut2"}
    assert len({point.id for point in whole.points}) == len(whole.points)
    some = plan(write, two, only=("sut2", "sockets"))
    assert list(some.points) == [p for p in whole.points if (p.host, p.stack) == ("sut2", "sockets")]
    assert plan(write, two, only=("sut1", "sut2")).points == whole.points
    # Each is sent to with its own addresses, also where a switch gives them one generator port.
    assert len({d.dst_mac for p in whole.points for d in p.directions}) == 2
    assert len({(d.flows.src_ip_first, d.flows.dst_ip) for p in whole.points for d in p.directions}) == 2
    with pytest.raises(UsageError, match=r"--only sut3: the scenario has no such stack; did you mean 'sut\d'"):
        plan(write, two, only=("sut3",))


def test_only_keeps_a_stack_or_a_point(write: Write) -> None:
    assert len(plan(write, only=("sockets",)).points) == 2
    assert [p.id for p in plan(write, only=("sockets-64B-1c",)).points] == ["sockets-64B-1c"]
    with pytest.raises(UsageError, match=r"--only socket: the scenario has no such stack; did you mean 'sockets'\?"):
        plan(write, only=("socket",))


def test_a_share_of_line_rate_becomes_a_rate(write: Write) -> None:
    made = plan(write, measure="{load_curve: {rates: [100k, 10%]}}")
    assert made.measure.load_rates_pps == (100_000, pytest.approx(line_rate_pps(10, 64) / 10))
    assert made.measure.search is None


@pytest.mark.parametrize(("values", "says"), [
    ({"stacks": "[xpd]"}, "yaml:5: stacks[0]: no stack is named 'xpd'; known: bypass, sockets"),
    ({"stacks": "[socket]"}, "stacks[0]: no stack is named 'socket'; did you mean 'sockets'?"),
    ({"stacks": "[bypass]"}, "yaml:5: stacks[0]: bypass has no role echo, only drop, reflect, forward; "
                             "stacks with that role: sockets"),
    ({"stacks": "[{sockets: {reuse: true}}]"},
     "stacks[0].sockets.reuse: unknown key; did you mean 'reuseport'? known: buffer"),
    ({"stacks": "[{sockets: {mode: fast}}]"}, "stacks[0].sockets.mode: 'fast' is not known; one of 'block' or 'spin'"),
    ({"stacks": "[{sockets: {buffer: 5}}]"}, "stacks[0].sockets.buffer: 5 should be greater than or equal to 1024"),
    ({"stacks": "[{sockets: {buffer: [4096, 8192]}}]"}, "a list does not sweep a parameter"),
    ({"cores": "[1, 4]"}, "yaml:4: cores[1]: 4 cores are more than there are: dut has 1 for stacks"),
    ({"measure": "{load_curve: {rates: [100k, 20M]}}"},
     "measure.load_curve.rates[1]: 20 Mpps is beyond line rate: 10 Gbit/s carry at most 14.88 Mpps frames of 64 B"),
    ({"measure": "{throughput: {}, latency: {rate: 15M}}"}, "measure.latency.rate: 15 Mpps is beyond line rate"),
    ({"measure": "{throughput: {min_load: 15M}}"}, "measure.throughput.min_load: 15 Mpps is beyond line rate"),
    ({"measure": "{load_curve: {rates: [5%]}}", "traffic": "frame: [64, 128]"}, "a share of line rate differs"),
    ({"traffic": "frame: min, l3: ipv6, vlan: 5"}, "yaml:5: stacks[0]: sockets does not take vlan traffic; stacks with "
                                                   "role echo that do: none"),
    ({"traffic": "frame: min, vlan: 5", "role": "drop"}, "sockets does not take vlan traffic; stacks with role drop "
                                                         "that do: bypass"),
    ({"traffic": "frame: 64, vlan: 5", "role": "drop", "stacks": "[bypass]"},
     "yaml:3: traffic.frame: 64 is too small for IPv4 + UDP + VLAN + xdpgen's mark; at least 66, or min"),
    ({"traffic": "frame: imix, flows: 1M, direction: bidirectional", "role": "forward", "stacks": "[bypass]",
      "measure": "{throughput: {}, latency: {}}"}, "flows: xdpgen would prepare 732 MiB of headers, at most 512"),
])
def test_refused(write: Write, values: dict[str, str], says: str) -> None:
    assert says in refusal(write, **values)


def test_forward_needs_two_wires(write: Write) -> None:
    path = write(SCENARIO.format(**{**DEFAULTS, "role": "forward", "stacks": "[bypass]"}))
    with pytest.raises(UsageError, match=r"role: forward needs 2 wires; dut has 1"):
        build_plan(load_scenario(path), lab_testbed(plan_wires("abc", 1), (0,), (1,)))


def test_settings_arrive(write: Write) -> None:
    made = plan(write, measure="{throughput: {trial: 500ms, initial_trial: 100ms, width: 2%, loss: 1%, timeout: 5m}, "
                               "latency: {at: [50%], trial: 2s, rate: 8k}, warmup: 0s}")
    search = made.measure.search
    assert search is not None
    assert (search.trial_s, search.initial_trial_s, search.width, search.pdr_loss, search.max_search_s) == (
        0.5, 0.1, 0.02, 0.01, 300)
    assert search.goals == ("mrr", "ndr", "pdr")
    assert (made.measure.latency_fractions, made.measure.latency_pps, made.measure.warmup_s) == ((0.5,), 8000, 0)
    assert made.role is Role.ECHO


def test_the_estimate_grows_with_what_is_asked(write: Write) -> None:
    coarse = plan(write, measure="{throughput: {width: 5%}}")
    fine = plan(write, measure="{throughput: {width: 0.5%}}")
    assert coarse.expected_trials < fine.expected_trials
    assert coarse.expected_s < fine.expected_s
    assert fine.measure.search is not None
    assert estimate.search_trials(fine.measure.search) == 40
    assert plan(write, repeat="3").expected_s > 2 * plan(write).expected_s
    latency = plan(write, measure="{throughput: {width: 5%}, latency: {at: [10%, 50%]}}")
    assert latency.expected_trials == coarse.expected_trials + 2 * 2 + 1  # the floor


def test_a_search_is_expected_to_end_at_its_timeout(write: Write) -> None:
    assert plan(write, measure="{throughput: {timeout: 5s}}").expected_s < 40


def test_polling_stacks_take_a_pass_more(write: Write) -> None:
    curve = "{load_curve: {rates: [100k], trial: 3s}}"
    polling = plan(write, role="drop", stacks="[bypass]", measure=curve)
    not_polling = plan(write, role="drop", stacks="[sockets]", measure=curve)
    assert polling.expected_trials == not_polling.expected_trials + 1


def test_a_plan_is_json_and_text(write: Write) -> None:
    made = plan(write, measure="{throughput: {}, latency: {}, load_curve: {rates: [50k]}}")
    assert json.loads(json.dumps(dataclasses.asdict(made)))["seed"] == 1
    text = render_plan(made)
    for wanted in ("198.18.0.2/24", made.wires[1].tg.mac, "198.19.64.0/18", "core 1", "sockets-reuseport=true-64B-1c",
                   f"about {made.expected_trials} trials", "seed 1", "14.88 Mpps", "static neighbour"):
        assert wanted in text


def test_one_length_of_trials_is_said_once(write: Write) -> None:
    assert "trials of 1s, width" in render_plan(plan(write))
    both = render_plan(plan(write, measure="{throughput: {trial: 1s, initial_trial: 200ms}}"))
    assert "trials of 200ms to 1s, width" in both


def test_entries_that_are_called_alike_are_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "identity", lambda self, given: f"{self.name} mine")
    assert plan(write, stacks="[sockets]").points[0].label == "sockets mine"
    assert "yaml:5: stacks[1]: another entry is called 'sockets mine' too; give this one a name" in refusal(write)


def test_tuning_of_another_interface_than_the_test_ports_is_refused(write: Write) -> None:
    port = plan(write).points[0].wires[0].dut.ifname
    entry = "{sockets: {}, tuning: {sysctls: {net.ipv4.conf.%s.rp_filter: 0}}}"
    tuning = plan(write, stacks=f"[{entry % port}]").points[0].tuning
    assert tuning["sysctls"] == {f"net.ipv4.conf.{port}.rp_filter": "0"}
    assert f"net.ipv4.conf.mgmt0.rp_filter is of no test port; those of dut are {port}" in refusal(
        write, stacks=f"[sockets, {entry % 'mgmt0'}]")
