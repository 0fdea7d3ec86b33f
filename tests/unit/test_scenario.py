# SPDX-License-Identifier: Apache-2.0
"""Scenario files: what is accepted, and one clear message with line, key, value and remedy for what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import UsageError
from harness.plan import FrameMix, Role
from harness.scenario import (
    Goal,
    Latency,
    Load,
    LoadCurve,
    Measure,
    Order,
    Scenario,
    StackEntry,
    Throughput,
    Traffic,
    json_schema,
    load_scenario,
    minimum_frame,
)

Write = Callable[..., Path]

GOOD: dict[str, Any] = {
    "name": "udp-echo-64b", "role": "echo", "traffic": {"frame": 64, "flows": 1024, "l4": "udp"}, "cores": [1, 2],
    "stacks": [{"sockets": {"reuseport": False}}, "bypass"],
    "measure": {"throughput": {"goals": ["mrr", "ndr", "pdr"], "trial": "1s", "width": "0.5%"},
                "latency": {"at": ["10%", "50%"], "of": "pdr"}, "load_curve": {"rates": ["50k", "10%"], "trial": "3s"}},
    "repeat": 5, "order": "interleaved", "gate": {"ndr": "-3%", "latency.p99@50%": "+10%"},
}


def changed(**changes: Any) -> str:
    """GOOD as a file (JSON is YAML) with dotted keys replaced (``a__b=1``) or removed (``a__b=None``)."""
    data = json.loads(json.dumps(GOOD))
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(data, indent=1)


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_scenario(path)
    return str(caught.value)


def test_a_full_scenario(write: Write) -> None:
    spec = load_scenario(write(changed())).spec
    assert (spec.role, spec.cores.counts, spec.repeat, spec.order) == (Role.ECHO, (1, 2), 5, Order.INTERLEAVED)
    assert spec.stacks == (StackEntry(name="sockets", params={"reuseport": False}), StackEntry(name="bypass"))
    assert spec.measure.throughput is not None
    assert spec.measure.throughput.goals == (Goal.MRR, Goal.NDR, Goal.PDR)
    assert (spec.measure.throughput.trial, spec.measure.throughput.width) == (1.0, 0.005)
    assert spec.measure.latency is not None
    assert spec.measure.latency.at == (0.1, 0.5)
    assert spec.measure.load_curve is not None
    assert spec.measure.load_curve.rates == (Load(value=50_000, unit="pps"), Load(value=0.1, unit="line"))
    assert spec.gate == {"ndr": -0.03, "latency.p99@50%": 0.1}


def test_defaults(write: Write) -> None:
    spec = load_scenario(write("""
        name: least
        role: echo
        stacks: [xdp]
        measure: {throughput: {}, latency: {}}
        """)).spec
    assert (spec.testbed, spec.cores.counts, spec.repeat, spec.frames()) == ("lab", (1,), 1, (FrameMix.of(64),))
    assert spec.measure.throughput is not None
    search = spec.measure.throughput
    assert (search.trial, search.width, search.loss) == (1, .005, .005)
    assert spec.measure.latency is not None
    assert spec.measure.latency.at == (0.1, 0.5, 0.9)


def test_frozen(write: Write) -> None:
    spec = load_scenario(write(changed())).spec
    with pytest.raises(ValidationError, match="frozen"):
        spec.repeat = 2  # type: ignore[misc]


@pytest.mark.parametrize(("l3", "vlan", "latency", "size"), [
    ("ipv4", False, True, 64), ("ipv4", True, True, 66), ("ipv6", False, True, 82), ("ipv6", True, True, 86),
    ("ipv4", False, False, 64), ("ipv4", True, False, 64), ("ipv6", False, False, 66), ("ipv6", True, False, 70),
])
def test_smallest_frame(l3: str, vlan: bool, latency: bool, size: int) -> None:
    assert minimum_frame(l3, vlan=vlan, latency=latency) == size


def test_min_selects_the_smallest_frame(write: Write) -> None:
    text = changed(traffic={"frame": ["min", 128], "l3": "ipv6", "vlan": 7})
    assert load_scenario(write(text)).spec.frames() == (FrameMix.of(86), FrameMix.of(128))


@pytest.mark.parametrize(("changes", "says"), [
    ({"rol": "echo"}, "rol: unknown key; did you mean 'role'?"),
    ({"traffic__flow": 5}, "traffic.flow: unknown key; did you mean 'flows'?"),
    ({"measure__throughput__widht": "1%"}, "measure.throughput.widht: unknown key; did you mean 'width'?"),
    ({"name": None}, "name: is missing; a short name"),
    ({"measure__drop_reasons": True, "measure__load_curve": None, "measure__latency": None, "gate": {},
      "measure__throughput": {"goals": ["ndr"]}},
     "measure.drop_reasons: drops are explained at the highest load: add measure.load_curve or mrr"),
    ({"measure__bystander": "telnet"}, "measure.bystander.service: 'telnet' is not known"),
    ({"measure__bystander": {"rate": 101}}, "measure.bystander.rate: 101 is too large"),
    ({"measure__bystander": {"timeout": "5m"}}, "measure.bystander.timeout: 300s is out of range; 10ms to 1m"),
    ({"measure__bystander": "ssh", "measure__load_curve": None}, "measure.bystander: the bystander connects during"),
    ({"measure": None}, "measure: is missing; say what to measure"),
    ({"measure": {"load_curve": {}}}, "measure.load_curve.rates: is missing; loads in frames per second"),
    ({"name": "Has Spaces"}, "name: 'Has Spaces' does not fit; a short name"),
    ({"role": "router"}, "role: 'router' is not known; one of 'drop', 'forward'"),
    ({"repeat": 0}, "repeat: 0 is too small; repeat is at least 1"),
    ({"repeat": "many"}, "repeat: 'many' is not a quantity"),
    ({"order": "random"}, "order: 'random' is not known; one of 'interleaved' or 'given'"),
    ({"cores": []}, "cores: an empty list"),
    ({"cores": [1, 1]}, "cores: 1 is given twice"),
    ({"cores": [0]}, "cores: 0 is too small"),
    ({"stacks": []}, "stacks: a list of stacks is expected"),
    ({"stacks": "xdp"}, "stacks: a list of stacks is expected"),
    ({"stacks": ["xdp", "xdp"]}, "stacks: xdp is given twice"),
    ({"stacks": [{"a": {}, "b": {}}]}, "is not a stack; write `- xdp`"),
    ({"stacks": [{"xdp": 5}]}, "parameters of xdp are 5"),
    ({"stacks": [{"xdp": None, "if_supported": "yes"}]}, "if_supported of xdp is 'yes'; write true to go on without"),
    ({"traffic": 64}, "traffic: a number (64) where keys and values are expected (frame, flows"),
    ({"traffic__frame": 63}, "traffic.frame: 63 is too small for IPv4 + UDP + latency header; at least 64, or min"),
    ({"traffic": {"frame": 80, "l3": "ipv6", "vlan": 5}},
     "80 is too small for IPv6 + UDP + VLAN + latency header; at least 86, or min"),
    ({"traffic__frame": 9000}, "traffic.frame: 9000 is too large; at most 1518"),
    ({"traffic__frame": {"imix": {64: 7}}}, "traffic.frame: {'64': 7} is no mix; give 2 to 8 sizes"),
    ({"traffic__frame": {"imix": {64: 7, 594: 0}}},
     "traffic.frame: 0 is too small; the frames of 594 B in a round is at least 1"),
    ({"traffic__frame": {"mix": {64: 7, 594: 1}}}, "is no frame size (frame sizes count the FCS; a size, min, imix"),
    ({"traffic": {"frame": "imix", "l3": "ipv6"}},
     "64 is too small for IPv6 + UDP + latency header; at least 82, or min; a mix of your own may hold min, such as "
     "{imix: {min: 7, 594: 4, 1518: 1}}"),
    ({"traffic__frame": [64, 64]}, "64 is given twice"),
    ({"traffic__frame": "big"}, "traffic.frame: 'big' is not a quantity"),
    ({"traffic__flows": 0}, "traffic.flows: 0 is too small"),
    ({"traffic__l4": "tcp"}, "traffic.l4: role echo is measured with udp; tcp is for role accept"),
    ({"traffic__vlan": 5000}, "traffic.vlan: 5000 should be less than or equal to 4094"),
    ({"traffic__direction": "bidirectional"}, "traffic.direction: bidirectional needs role forward"),
    ({"measure": {}, "gate": {}}, "measure: nothing to measure"),
    ({"gate": {"ndr": "+3%"}}, "gate: ndr: +3% does not say how far it may fall"),
    ({"gate": {"latency.p99@50%": "-3%"}}, "does not say how far it may rise"),
    ({"gate": {"latency.p99@51%": "+3%"}}, "51% is not measured; add it to measure.latency.at"),
    ({"gate": {"loss@300k": "+0.1%"}, "measure__load_curve__rates": ["50k", "200k"]},
     "300k is not measured; add it to measure.load_curve.rates"),
    ({"gate": {"ndr": "-3%", "speed": "-3%"}}, "'speed' is nothing that is measured"),
    ({"measure__throughput__trial": 1}, "measure.throughput.trial: 1 has no unit; write 1s"),
    ({"measure__throughput__trial": "1GHz"}, "measure.throughput.trial: unknown unit 'GHz'"),
    ({"measure__throughput__width": 0.005}, "measure.throughput.width: 0.005 is not a percentage; write for example"),
    ({"measure__throughput__width": "0%"}, "measure.throughput.width: 0% is out of range"),
    ({"measure__throughput__loss": "0%"}, "for no loss use the goal ndr"),
    ({"measure__throughput__initial_trial": "2s"}, "measure.throughput.initial_trial: 2s is out of range"),
    ({"measure__throughput__timeout": "500ms"}, "measure.throughput.timeout: shorter than one trial"),
    ({"measure__throughput__goals": ["pdf"]}, "measure.throughput.goals[0]: 'pdf' is not known; one of 'mrr', 'ndr'"),
    ({"measure__throughput__goals": []}, "measure.throughput.goals: an empty list"),
    ({"measure__throughput__goals": ["mrr"], "gate": {}}, "measure.latency.of: latency is measured at shares of pdr"),
    ({"measure__throughput": None, "gate": {}}, "add pdr to measure.throughput.goals"),
    ({"measure__latency__at": ["0%"]}, "measure.latency.at: '0%' is out of range"),
    ({"measure__load_curve__trial": "1s"}, "measure.load_curve.trial: '1s' is too short for CPU figures; at least 2s"),
    ({"measure__load_curve__rates": []}, "measure.load_curve.rates: an empty list"),
    ({"measure__load_curve__rates": ["1Gbps"]}, "is in bits; rates are frames per second"),
    ({"role": "drop"}, "measure.latency: role drop returns nothing, so latency is not defined; remove it"),
    ({"gate": {"ndr": "3%"}}, "gate: ndr: '3%' has no sign"),
    ({"gate": {"speed": "-3%"}}, "gate: 'speed' is nothing that is measured"),
    ({"gate": {"mrr": "-3%"}, "measure__throughput__goals": ["ndr", "pdr"]}, "gate.mrr: mrr is not measured"),
])
def test_refused(write: Write, changes: dict[str, Any], says: str) -> None:
    path = write(changed(**changes))
    message = refusal(path)
    assert says in message
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{path}:")
    assert message.removeprefix(f"{path}:").split(":")[0].isdigit()


def test_the_line_is_that_of_the_key(write: Write) -> None:
    path = write("name: a\nrole: echo\nstacks: [xdp]\nmeasure:\n  throughput:\n    trial: 1s\n    width: 5\n")
    assert refusal(path) == f"{path}:7: measure.throughput.width: 5 is not a percentage; write for example 0.5% or 50%"


def test_every_problem_is_a_line(write: Write) -> None:
    message = refusal(write("name: a\nrole: echo\nstacks: [xdp]\nmeasure: {throughput: {trial: 1}}\nrepeat: 0\n"))
    assert [line.split(": ")[0].rsplit(":")[-1] for line in message.splitlines()] == ["4", "5"]


@pytest.mark.parametrize(("given", "rate", "timeout"), [
    ("ssh", 10, 1.0), ({}, 10, 1.0), ({"service": "ssh", "rate": 50, "timeout": "200ms"}, 50, 0.2),
])
def test_a_bystander_is_a_word_or_a_section(write: Write, given: object, rate: int, timeout: float) -> None:
    asked = load_scenario(write(changed(measure__bystander=given))).spec.measure.bystander
    assert asked is not None
    assert (asked.service, asked.rate, asked.timeout) == ("ssh", rate, timeout)


@pytest.mark.parametrize("text", ["[1, 2]", "just text", "5"])
def test_not_keys_and_values(write: Write, text: str) -> None:
    assert "where keys and values are expected (name, description, role" in refusal(write(text))


@pytest.mark.parametrize(("traffic", "measure", "says"), [
    ("frame: 64", "load_curve: {rates: [5k]}", "yaml:3: traffic.frame: role accept has connections, not frames"),
    ("flows: 4", "load_curve: {rates: [5k]}", "yaml:3: traffic.flows: role accept has connections, not frames"),
    ("l4: udp", "load_curve: {rates: [5k]}", "traffic.l4: role accept is about TCP connections; write tcp"),
    ("", "load_curve: {rates: [5k, 10%]}", "rates[1]: a wire has no line rate in connections; write connections per"),
    ("", "throughput: {}, latency: {rate: 5k}", "measure.latency.rate: role accept times every connection"),
])
def test_accept_takes_nothing_that_belongs_to_frames(write: Callable[..., Path], traffic: str, measure: str,
                                                     says: str) -> None:
    text = "name: a\nrole: accept\ntraffic: {%s}\nstacks: [linux-tcp]\nmeasure: {%s}\n"
    with pytest.raises(UsageError) as caught:
        load_scenario(write(text % (traffic, measure)))
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("traffic", ["", "l4: tcp"])
def test_accept_is_tcp_whether_written_or_not(write: Callable[..., Path], traffic: str) -> None:
    text = "name: a\nrole: accept\ntraffic: {%s}\nstacks: [linux-tcp]\nmeasure: {load_curve: {rates: [5kcps]}}\n"
    spec = load_scenario(write(text % traffic)).spec
    assert [mix.smallest for mix in spec.frames()] == [0]


def test_the_schema_accepts_what_the_reader_accepts_and_describes_every_key() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "role", "stacks", "measure"}
    for model in (schema, *schema["$defs"].values()):
        for key, field in model.get("properties", {}).items():
            assert field.get("description"), (model.get("title"), key)
    assert schema["$defs"]["Throughput"]["properties"]["trial"]["default"] == "1s"
    assert json.loads(json.dumps(schema)) == schema


def test_a_scenario_survives_json() -> None:
    spec = Scenario.model_validate(GOOD)
    assert json.loads(json.dumps(spec.model_dump(mode="json")))["measure"]["latency"]["at"] == [0.1, 0.5]


def test_the_readme_names_every_key() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| key | default | |")[2].partition("\n\n")[0]
    keys = [*Scenario.model_fields, *(f"traffic.{name}" for name in Traffic.model_fields),
            *(f"measure.{name}" for name in Measure.model_fields), *Throughput.model_fields, *Latency.model_fields,
            *LoadCurve.model_fields]
    missing = [key for key in keys if key not in ("traffic", "measure") and f"`{key}`" not in table]
    assert missing == []
