# SPDX-License-Identifier: Apache-2.0
"""Scenario + testbed -> Plan, before anything is touched. Nothing here reads a machine, so ``--dry-run`` needs no root.

What a scenario asks of stacks and testbed is judged here: unknown stacks, roles and features a stack lacks, wrong
parameters, more cores than there are, loads beyond line rate. Each is a UsageError with file and line.
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness import estimate, stacks
from harness.errors import TestbedError, UsageError
from harness.flows import addressed, directions, factor_flows, wire_plans, wires_needed
from harness.host.tuning.profile import NamedProfile
from harness.plan import (
    BystanderSettings,
    GeneratorPlan,
    HostPlan,
    MeasureSettings,
    Plan,
    PointPlan,
    Role,
    SearchSettings,
    WirePlan,
    line_rate_pps,
)
from harness.scenario import Load, Order, Scenario, ScenarioFile
from harness.stack import Stack
from harness.testbed import DutHost, Testbed
from harness.units import format_rate
from harness.yamlfile import Location, close_match


def choose_seed() -> int:
    """A fresh seed for the order of points; recorded with the run."""
    return secrets.randbelow(2**31)


def build_plan(scenario: ScenarioFile, testbed: Testbed, *, only: Sequence[str] = (), repeat: int | None = None,
               seed: int | None = None, notes: Sequence[str] = ()) -> Plan:
    """The frozen plan of a run. ``only``: stacks (or labels or ids of points) to keep; ``repeat`` overrides the
    scenario's; without ``seed`` a fresh one is drawn. Raises UsageError; touches nothing."""
    spec = scenario.spec
    _refuse_unsupported(scenario, testbed)
    chosen = [_choose(scenario, index) for index in range(len(spec.stacks))]
    _refuse_twins(scenario, chosen)
    wires = wire_plans(testbed)
    points = _only(_points(scenario, testbed, wires, chosen), only)
    measure = _measure_settings(scenario, points, repeat)
    order_seed = choose_seed() if seed is None else seed
    passes = [stacks.create(p.stack, p.params).poll_pass(p.role) for p in points]
    expected = estimate.run(measure, passes, len({(p.host, p.frame_bytes) for p in points}))
    return Plan(
        scenario=spec.name, testbed=testbed.name, lab=testbed.lab, role=spec.role, wires=wires,
        hosts=tuple(HostPlan(d.name, d.cores, d.management, d.all_cores) for d in testbed.duts),
        generator=_generator(testbed, spec.role), points=points, measure=measure,
        sequence=_sequence(points, measure.repeat, order_seed, spec.order), seed=order_seed,
        expected_trials=expected.trials, expected_s=expected.seconds,
        notes=(*notes, *_left_out(spec, testbed)),
    )


@dataclass(frozen=True)
class _Choice:
    """A stack of the scenario: ``given`` as the file writes its parameters, ``params`` complete and validated."""

    index: int
    stack: type[Stack]
    given: Mapping[str, Any]
    params: Mapping[str, Any]
    tuning: NamedProfile | None


def _refuse_unsupported(scenario: ScenarioFile, testbed: Testbed) -> None:
    traffic = scenario.spec.traffic
    if scenario.spec.role is Role.ACCEPT and not testbed.lab:
        raise TestbedError(f"role accept on testbed {testbed.name} needs TRex's stateful mode (ASTF), which this "
                           "version does not drive; run it in the lab (leave --testbed and `testbed:` out)")
    if traffic.l3 != "ipv4":
        raise scenario.document.error(("traffic", "l3"), "ipv6 is not sent by this version; remove it for ipv4")
    if traffic.vlan is not None:
        raise scenario.document.error(("traffic", "vlan"), "tagged frames are not sent by this version; remove it")
    try:
        factor_flows(traffic.flows)
    except UsageError as error:
        raise scenario.document.error(("traffic", "flows"), str(error)) from None


def _choose(scenario: ScenarioFile, index: int) -> _Choice:
    spec, entry = scenario.spec, scenario.spec.stacks[index]
    known = stacks.available()
    at: Location = ("stacks", index)
    if entry.name not in known:
        raise scenario.document.error(at, f"no stack is named {entry.name!r}; {close_match(entry.name, list(known))}")
    stack = known[entry.name]
    if spec.role not in stack.roles:
        able = [name for name, other in known.items() if spec.role in other.roles]
        raise scenario.document.error(at, f"{entry.name} has no role {spec.role}, only {', '.join(stack.roles)}; "
                                          f"stacks with that role: {', '.join(able) or 'none'}")
    return _Choice(index, stack, entry.params, _params(scenario, index, stack), entry.tuning or spec.tuning)


def _refuse_twins(scenario: ScenarioFile, chosen: Sequence[_Choice]) -> None:
    """The same stack with the same parameters, however they are written, would be two names of one point."""
    for choice in chosen:
        for other in chosen[:choice.index]:
            if (choice.stack, choice.params, choice.tuning) == (other.stack, other.params, other.tuning):
                raise scenario.document.error(("stacks", choice.index), f"{choice.stack.name} with these parameters is "
                                              f"entry {other.index + 1} already; remove one")


def _params(scenario: ScenarioFile, index: int, stack: type[Stack]) -> Mapping[str, Any]:
    entry = scenario.spec.stacks[index]
    at: Location = ("stacks", index, entry.name)
    try:
        return stack.Params.model_validate(dict(entry.params)).model_dump(mode="json")
    except ValidationError as error:
        lines = scenario.document.problems(error, stack.Params, at)
        if any(isinstance(value, list) for value in entry.params.values()):
            lines.append("a list does not sweep a parameter: write one entry under stacks for each value")
        raise UsageError("\n".join([*lines, f"see `harness stacks show {entry.name}`"])) from None


def _points(scenario: ScenarioFile, testbed: Testbed, wires: tuple[WirePlan, ...], chosen: Sequence[_Choice],
            ) -> tuple[PointPlan, ...]:
    spec, points = scenario.spec, []
    for dut in testbed.duts:
        used = _wires_of(scenario, dut, wires)
        counts = spec.cores.of(len(dut.cores))
        if not counts:
            least = min(spec.cores.counts)
            raise scenario.document.error(("cores",), _too_many_cores(least, dut, testbed))
        for position, count in enumerate(counts):
            if count > len(dut.cores):
                raise scenario.document.error(("cores", position), _too_many_cores(count, dut, testbed))
            for frame in spec.frame_bytes():
                points += [_point(spec, choice, dut, used, frame, count, len(testbed.duts) > 1) for choice in chosen]
    _refuse_namesakes(scenario, points, len(chosen))
    return tuple(points)


def _refuse_namesakes(scenario: ScenarioFile, points: Sequence[PointPlan], entries: int) -> None:
    """Entries that differ have to be called differently, or their results could not be told apart."""
    seen: set[str] = set()
    for number, point in enumerate(points):
        if point.id in seen:
            raise scenario.document.error(("stacks", number % entries), f"another entry is called {point.label!r} too; "
                                                                        "give this one a name of its own (title)")
        seen.add(point.id)


def _wires_of(scenario: ScenarioFile, dut: DutHost, wires: tuple[WirePlan, ...]) -> tuple[WirePlan, ...]:
    mine = tuple(wire for wire in wires if wire.host == dut.name)
    needed = wires_needed(scenario.spec.role)
    if len(mine) < needed:
        raise scenario.document.error(("role",), f"{scenario.spec.role} needs {needed} wires; {dut.name} has "
                                                 f"{len(mine)}; add one to the testbed or choose another role")
    return mine[:needed]


def _too_many_cores(count: int, dut: DutHost, testbed: Testbed) -> str:
    have = len(dut.cores)
    why = f" ({dut.all_cores} in all, the others generate)" if testbed.lab else " in the testbed file"
    return (f"{count} cores are more than there are: {dut.name} has {have} for stacks{why}; at most {have}, or write "
            "cores: {if_available: [1, 2, 4]} to measure the counts that it has")


def _left_out(spec: Scenario, testbed: Testbed) -> list[str]:
    """A note for each host on which core counts of ``if_available`` are left out."""
    notes = []
    for dut in testbed.duts:
        absent = [count for count in spec.cores.counts if count not in spec.cores.of(len(dut.cores))]
        if absent:
            notes.append(f"{dut.name} has {len(dut.cores)} core{'s' * (len(dut.cores) > 1)} for stacks: points of "
                         f"{', '.join(map(str, absent))} cores are left out")
    return notes


def _point(spec: Scenario, choice: _Choice, dut: DutHost, wires: tuple[WirePlan, ...], frame: int, cores: int,
           several_hosts: bool) -> PointPlan:
    tuning = choice.tuning or dut.tuning
    stack = stacks.create(choice.stack.name, choice.params)
    identity = " ".join([stack.identity(choice.given), *([] if tuning.name == "stock" else [tuning.name])])
    varies = [f"{frame} B"] * (len(spec.frame_bytes()) > 1)
    varies += [f"{cores} core{'s' * (cores > 1)}"] * (len(spec.cores.counts) > 1)
    varies += [f"on {dut.name}"] * several_hosts
    there = directions(spec.role, wires, spec.traffic.flows, bidirectional=spec.traffic.direction == "bidirectional")
    return PointPlan(
        id=_slug(identity + (f" {frame}B" if frame else "") + f" {cores}c" + (f" {dut.name}" if several_hosts else "")),
        label=", ".join([identity, *varies]), stack=choice.stack.name, params=choice.params, role=spec.role,
        host=dut.name, frame_bytes=frame, cores=dut.cores[:cores], wires=wires,
        directions=addressed(there, wires, stack.role_info(spec.role).layer),
        line_rate_pps=min(line_rate_pps(wire.speed_gbps, frame) for wire in wires) if frame else 0.0,
        profile=tuning.name, tuning=tuning.profile.model_dump(mode="json", exclude_defaults=True),
        polling=stack.polls(), management=dut.management,
    )


def _slug(text: str) -> str:
    """A name fit for a file; a digest is added where letters had to go or the name was cut, so that ids stay apart."""
    slug = re.sub(r"[^A-Za-z0-9.=_]+", "-", text).strip("-.")
    if slug == text.replace(" ", "-") and len(slug) <= 80:
        return slug
    return f"{slug[:72]}-{hashlib.sha256(text.encode()).hexdigest()[:7]}"


def _only(points: tuple[PointPlan, ...], only: Sequence[str]) -> tuple[PointPlan, ...]:
    for name in only:
        if not any(name in (p.stack, p.label, p.id) for p in points):
            names = list(dict.fromkeys([*(p.stack for p in points), *(p.id for p in points)]))
            raise UsageError(f"--only {name}: the scenario has no such stack; {close_match(name, names)}")
    return tuple(p for p in points if not only or {p.stack, p.label, p.id} & set(only))


def _measure_settings(scenario: ScenarioFile, points: Sequence[PointPlan], repeat: int | None) -> MeasureSettings:
    spec = scenario.spec
    latency, curve = spec.measure.latency, spec.measure.load_curve
    slowest = min(points, key=lambda p: p.line_rate_pps)
    rates = curve.rates if curve else ()
    frames = spec.role is not Role.ACCEPT
    if latency is not None and frames and latency.rate > slowest.line_rate_pps:
        raise scenario.document.error(("measure", "latency", "rate"), _beyond(latency.rate, slowest))
    return MeasureSettings(
        search=_search_settings(scenario, slowest),
        latency_fractions=latency.at if latency else (), latency_of=latency.of if latency else "pdr",
        latency_trial_s=latency.trial if latency else 0.0, latency_pps=latency.rate if latency and frames else 0.0,
        load_rates_pps=tuple(_load_pps(scenario, i, load, points) for i, load in enumerate(rates)),
        load_trial_s=curve.trial if curve else 0.0, warmup_s=spec.measure.warmup,
        repeat=spec.repeat if repeat is None else repeat, bystander=_bystander_settings(spec),
    )


def _bystander_settings(spec: Scenario) -> BystanderSettings | None:
    asked = spec.measure.bystander
    return BystanderSettings(asked.service, asked.rate, asked.timeout) if asked else None


def _search_settings(scenario: ScenarioFile, slowest: PointPlan) -> SearchSettings | None:
    throughput = scenario.spec.measure.throughput
    if throughput is None:
        return None
    if 0 < slowest.line_rate_pps <= throughput.min_load:
        raise scenario.document.error(("measure", "throughput", "min_load"), _beyond(throughput.min_load, slowest))
    return SearchSettings(
        goals=tuple(str(goal) for goal in throughput.goals), trial_s=throughput.trial,
        initial_trial_s=throughput.initial_trial or throughput.trial, width=throughput.width,
        pdr_loss=throughput.loss, min_load_pps=throughput.min_load, max_search_s=throughput.timeout,
        duration_sum_s=throughput.duration_sum or 0.0, exceed_ratio=throughput.exceed_ratio,
    )


def _load_pps(scenario: ScenarioFile, index: int, load: Load, points: Sequence[PointPlan]) -> float:
    at: Location = ("measure", "load_curve", "rates", index)
    slowest = min(points, key=lambda p: p.line_rate_pps)
    if load.unit == "pps":
        if 0 < slowest.line_rate_pps < load.value:
            raise scenario.document.error(at, _beyond(load.value, slowest))
        return load.value
    if len({p.line_rate_pps for p in points}) > 1:
        raise scenario.document.error(at, "a share of line rate differs between these frame sizes or wires, but every "
                                          "stack gets the same load; write frames per second, such as 200k")
    return load.value * slowest.line_rate_pps


def _beyond(rate: float, point: PointPlan) -> str:
    speed = min(wire.speed_gbps for wire in point.wires)
    return (f"{format_rate(rate)} is beyond line rate: {speed:g} Gbit/s carry at most "
            f"{format_rate(point.line_rate_pps)} frames of {point.frame_bytes} B")


def _generator(testbed: Testbed, role: Role) -> GeneratorPlan:
    generator = testbed.generator
    if role is Role.ACCEPT:
        return GeneratorPlan(kind="h2load", cores=generator.cores, trex_dir="", sync_port=0, async_port=0)
    trex = generator.trex
    return GeneratorPlan(
        kind=generator.kind, cores=generator.cores, trex_dir=trex.dir if trex else "",
        sync_port=trex.sync_port if trex else generator.sync_port,
        async_port=trex.async_port if trex else generator.async_port,
    )


def _sequence(points: Sequence[PointPlan], repeat: int, seed: int, order: Order) -> tuple[tuple[int, str], ...]:
    shuffler = random.Random(seed)
    sequence: list[tuple[int, str]] = []
    for number in range(repeat):
        ids = [point.id for point in points]
        if order is Order.INTERLEAVED:
            shuffler.shuffle(ids)
        sequence += [(number, point_id) for point_id in ids]
    return tuple(sequence)


