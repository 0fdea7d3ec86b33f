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
from harness.generator.trexhost.software import software_mode
from harness.generator.xdpgen import MOST_TABLE_CELLS
from harness.host.tuning.profile import NamedProfile, Profile
from harness.plan import (
    H2LOAD,
    TREX_ASTF,
    BystanderSettings,
    FrameMix,
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
from harness.scenario import IP_VERSION, Load, Order, Scenario, ScenarioFile, frame_problems
from harness.stack import Stack
from harness.testbed import DutHost, Testbed
from harness.units import format_rate
from harness.yamlfile import Location, close_match


def choose_seed() -> int:
    """A fresh seed for the order of points; recorded with the run."""
    return secrets.randbelow(2**31)


def build_plan(scenario: ScenarioFile, testbed: Testbed, *, only: Sequence[str] = (), repeat: int | None = None,
               seed: int | None = None, notes: Sequence[str] = ()) -> Plan:
    """The frozen plan of a run. ``only``: stacks (or labels or ids of points) and hosts to keep; ``repeat`` overrides
    the scenario's; without ``seed`` a fresh one is drawn. Raises UsageError; touches nothing."""
    spec = scenario.spec
    _check_traffic(scenario, testbed)
    chosen = [_choose(scenario, index) for index in range(len(spec.stacks))]
    _refuse_twins(scenario, chosen)
    wires = wire_plans(testbed, IP_VERSION[spec.traffic.l3])
    points = _only(_points(scenario, testbed, wires, chosen, only), testbed, only)
    _check_table(scenario, testbed, points)
    _check_one_client(scenario, points)
    measure = _measure_settings(scenario, points, repeat)
    order_seed = choose_seed() if seed is None else seed
    passes = [stacks.create(p.stack, p.params).polls_apart(p.role) for p in points]
    expected = estimate.run(measure, passes, len({(p.host, p.frames) for p in points}),
                            floors=any(estimate.has_floor(measure, p) for p in points))
    return Plan(
        scenario=spec.name, testbed=testbed.name, lab=testbed.lab, role=spec.role, wires=wires,
        hosts=tuple(HostPlan(d.name, d.cores, d.management, d.all_cores) for d in testbed.duts),
        generator=_generator(testbed, spec.role, points, measure), points=points, measure=measure,
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
    if_supported: bool


def _marks(testbed: Testbed) -> bool:
    """Whether the generator writes over the payload's end of every frame, not of latency frames alone."""
    return testbed.generator.kind == "xdpgen"


def _check_traffic(scenario: ScenarioFile, testbed: Testbed) -> None:
    if scenario.spec.role is Role.ACCEPT:
        _check_clients(testbed)
        return
    if problems := frame_problems(scenario.spec, trailer=_marks(testbed)):
        raise UsageError("\n".join(str(scenario.document.error(("traffic", "frame"), problem)) for problem in problems))
    try:
        factor_flows(scenario.spec.traffic.flows)
    except UsageError as error:
        raise scenario.document.error(("traffic", "flows"), str(error)) from None


def _check_clients(testbed: Testbed) -> None:
    """Whether something here can open TCP connections to every DUT. Raises TestbedError."""
    generator = testbed.generator
    if generator.trex is None:
        if testbed.lab or generator.netns:
            return
        raise TestbedError(f"role accept on testbed {testbed.name} needs a TRex that opens the connections (its "
                           "stateful mode, ASTF): name its directory under generator.trex.dir; or run in the lab "
                           "(leave --testbed and `testbed:` out)")
    for dut in testbed.duts:
        used = testbed.wires_of(dut.name)
        if used and used[0][1].tg % 2:
            raise TestbedError(
                f"role accept on testbed {testbed.name}: TRex opens connections from its even ports only (0, 2, …), "
                f"and {dut.name} is on port {used[0][1].tg}; list that port first under generator.ports")


def _check_table(scenario: ScenarioFile, testbed: Testbed, points: Sequence[PointPlan]) -> None:
    spec = scenario.spec
    if spec.role is Role.ACCEPT or not _marks(testbed):
        return
    if (cells := table_cells(points, spec.latency_header)) > MOST_TABLE_CELLS:
        raise scenario.document.error(("traffic", "flows"), (
            f"xdpgen would prepare {cells >> 14:,} MiB of headers, at most {MOST_TABLE_CELLS >> 14:,}; use fewer "
            "flows, fewer sizes in a mix, or one direction"))


def _check_one_client(scenario: ScenarioFile, points: Sequence[PointPlan]) -> None:
    """The client of role accept holds one port of the generator for the whole run."""
    ports = {point.directions[0].tx_port for point in points}
    if scenario.spec.role is Role.ACCEPT and len(ports) > 1:
        hosts = list(dict.fromkeys(point.host for point in points))
        raise scenario.document.error(("role",), (
            f"accept connects from one generator port, but {' and '.join(hosts)} are at different ones; run it for one "
            f"host at a time: --only {hosts[0]}"))


def table_cells(points: Sequence[PointPlan], latency: bool) -> int:
    """Prepared headers, in cells of 64 bytes, that xdpgen holds at once for the largest of these points: an entry a
    flow, for every direction and size, and again for latency frames. Over IPv6 the checksum reaches into a second."""
    return max(sum(d.flows.count * (2 if d.flows.version == 6 else 1) for d in point.directions)
               * len(point.frames.sizes) * (2 if latency else 1) for point in points)


def _check_features(scenario: ScenarioFile, at: Location, stack: Stack) -> None:
    """Refuse traffic that the stack, as it is set, has no code for, naming the stacks of this role that may."""
    traffic, role = scenario.spec.traffic, scenario.spec.role
    needed = {"ipv6"} & {traffic.l3} | ({"vlan"} if traffic.vlan is not None else set())
    if lacking := sorted(needed - stack.takes()):
        able = [name for name, other in stacks.available().items() if role in other.roles and needed <= other.features]
        so = " with these parameters" if needed <= stack.features else ""
        raise scenario.document.error(at, f"{stack.name} does not take {' and '.join(lacking)} traffic{so}; stacks "
                                          f"with role {role} that do: {', '.join(able) or 'none'}")


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
    params = _params(scenario, index, stack)
    _check_features(scenario, at, stacks.create(entry.name, params))
    return _Choice(index, stack, entry.params, params, entry.tuning or spec.tuning, entry.if_supported)


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
            only: Sequence[str]) -> tuple[PointPlan, ...]:
    spec, points = scenario.spec, []
    for dut in _hosts(testbed, chosen, only):
        used = _wires_of(scenario, dut, wires)
        counts = spec.cores.of(len(dut.cores))
        if not counts:
            least = min(spec.cores.counts)
            raise scenario.document.error(("cores",), _too_many_cores(least, dut, testbed))
        for position, count in enumerate(counts):
            if count > len(dut.cores):
                raise scenario.document.error(("cores", position), _too_many_cores(count, dut, testbed))
            for frames in spec.frames(trailer=_marks(testbed)):
                points += [_point(spec, choice, testbed, dut, used, frames, count) for choice in chosen]
    _refuse_strangers(scenario, points, len(chosen))
    _refuse_namesakes(scenario, points, len(chosen))
    return tuple(points)


def _refuse_strangers(scenario: ScenarioFile, points: Sequence[PointPlan], entries: int) -> None:
    """Tuning of an interface that is no test port. Where the kernel's name of a port is not known yet, the point is
    refused when it is about to be tuned."""
    for number, point in enumerate(points):
        ports = [wire.dut.ifname for wire in point.wires]
        if all(ports) and (strangers := Profile.model_validate(point.tuning).strangers(ports)):
            raise scenario.document.error(("stacks", number % entries), (
                f"tuning: {', '.join(strangers)} is of no test port; those of {point.host} are {', '.join(ports)}"))


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


def _point(spec: Scenario, choice: _Choice, testbed: Testbed, dut: DutHost, wires: tuple[WirePlan, ...],
           frames: FrameMix, cores: int) -> PointPlan:
    several_hosts = len(testbed.duts) > 1
    tuning = choice.tuning or dut.tuning
    stack = stacks.create(choice.stack.name, choice.params)
    identity = " ".join([stack.identity(choice.given), *([] if tuning.name == "stock" else [tuning.name])])
    sizes = [] if spec.role is Role.ACCEPT else [frames.slug]
    varies = [frames.label] * (len(spec.frames(trailer=_marks(testbed))) > 1)
    varies += [f"{cores} core{'s' * (cores > 1)}"] * (len(spec.cores.counts) > 1)
    varies += [f"on {dut.name}"] * several_hosts
    there = directions(spec.role, wires, spec.traffic.flows, vlan=spec.traffic.vlan,
                       bidirectional=spec.traffic.direction == "bidirectional",
                       own_tcp=testbed.generator.trex is not None)
    return PointPlan(
        id=_slug(" ".join([identity, *sizes, f"{cores}c", *([dut.name] if several_hosts else [])])),
        label=", ".join([identity, *varies]), stack=choice.stack.name, params=choice.params, role=spec.role,
        host=dut.name, frame_bytes=frames.smallest, cores=dut.cores[:cores], wires=wires,
        directions=addressed(there, wires, stack.role_info(spec.role).layer),
        line_rate_pps=min(line_rate_pps(wire.speed_gbps, frames.mean) for wire in wires) if sizes else 0.0,
        profile=tuning.name, tuning=tuning.profile.model_dump(mode="json", exclude_defaults=True),
        polling=stack.polls(), management=dut.management, mix=None if frames.single else frames,
        no_latency=_no_latency(spec, stack, testbed), if_supported=choice.if_supported,
    )


def _no_latency(spec: Scenario, stack: Stack, testbed: Testbed) -> str:
    """Why latency cannot be measured: IPv6 has no UDP checksum 0, and TRex leaves a latency frame's wrong."""
    if (testbed.generator.kind != "trex" or spec.traffic.l3 != "ipv6" or not spec.latency_header
            or not stack.role_info(spec.role).checks_checksum):
        return ""
    return ("TRex writes its latency header without correcting the UDP checksum, which IPv6 cannot do without, and "
            f"{stack.name} is not given datagrams with a wrong one; measure latency over ipv4, or with xdpgen")


def _slug(text: str) -> str:
    """A name fit for a file; a digest is added where letters had to go or the name was cut, so that ids stay apart."""
    slug = re.sub(r"[^A-Za-z0-9.=_]+", "-", text).strip("-.")
    if slug == text.replace(" ", "-") and len(slug) <= 80:
        return slug
    return f"{slug[:72]}-{hashlib.sha256(text.encode()).hexdigest()[:7]}"


def _hosts(testbed: Testbed, chosen: Sequence[_Choice], only: Sequence[str]) -> tuple[DutHost, ...]:
    """The DUTs that ``only`` names, all where it names none. A stack of the same name comes first."""
    taken = {choice.stack.name for choice in chosen}
    named = tuple(dut for dut in testbed.duts if dut.name in only and dut.name not in taken)
    return named or testbed.duts


def _only(points: tuple[PointPlan, ...], testbed: Testbed, only: Sequence[str]) -> tuple[PointPlan, ...]:
    """The points of stacks (or labels or ids) that ``only`` names; hosts among the names are chosen already."""
    hosts = {dut.name for dut in testbed.duts}
    stacks_too = {name for name in only if any(name in (p.stack, p.label, p.id) for p in points)}
    for name in only:
        if name not in stacks_too | hosts:
            names = list(dict.fromkeys([*(p.stack for p in points), *sorted(hosts), *(p.id for p in points)]))
            raise UsageError(f"--only {name}: the scenario has no such stack; {close_match(name, names)}")
    return tuple(p for p in points if not stacks_too or {p.stack, p.label, p.id} & stacks_too)


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
        drop_reasons=spec.measure.drop_reasons,
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
            f"{format_rate(point.line_rate_pps)} frames of {point.frames.label}")


def _generator(testbed: Testbed, role: Role, points: Sequence[PointPlan], measure: MeasureSettings) -> GeneratorPlan:
    generator = testbed.generator
    trex = generator.trex
    if role is Role.ACCEPT and trex is None:
        return GeneratorPlan(kind=H2LOAD, cores=generator.cores, trex_dir="", sync_port=0, async_port=0)
    software, wanting = software_mode(testbed, points, latency=measure.latency_pps > 0)
    return GeneratorPlan(
        kind=TREX_ASTF if role is Role.ACCEPT else generator.kind, cores=generator.cores,
        trex_dir=trex.dir if trex else "",
        sync_port=trex.sync_port if trex else generator.sync_port,
        async_port=trex.async_port if trex else generator.async_port, software=software, software_for=wanting,
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


