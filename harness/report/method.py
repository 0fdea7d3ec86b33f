# SPDX-License-Identifier: Apache-2.0
"""\"How this was measured\", written from the run itself: plan, search, generator, hosts, times."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from harness.plan import FlowPlan, MeasureSettings, Plan, Role
from harness.records import Ceiling
from harness.report.facts import flatten
from harness.report.identity import clean, one_line, params_text, stack_key, stack_name
from harness.report.numbers import finite, fraction_name, percent, plural, rate, seconds, set_rate
from harness.report.summarise import PointSummary
from harness.report.words import role_text, traffic_text
from harness.rundata import RunData

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Facts:
    """A titled list of names and values."""

    title: str
    pairs: Pairs


@dataclass(frozen=True)
class Method:
    """The section's content. ``scenario``: the file's text as used."""

    settings: tuple[Facts, ...]
    environment: tuple[Facts, ...]
    ceilings: Pairs
    notes: tuple[str, ...]
    command: str
    scenario: str


def method(run: RunData, points: Sequence[PointSummary]) -> Method:
    """Everything about how the run was made."""
    plan, info = run.plan, run.info
    settings = [Facts("Run", tuple(_run(run, points))), Facts("Traffic", tuple(_traffic(plan))),
                Facts("Search and trials", (*_measure(plan.measure, plan.role), *_cost(run), *_frequency(run))),
                Facts("Wires", tuple(_wires(plan)))]
    if points:
        settings.append(Facts("Stacks", tuple(_stacks(points))))
    environment = [Facts("Generator", tuple(flatten(info.generator)))]
    environment += [Facts(f"Host {one_line(name, 40)}", tuple(flatten(facts)))
                    for name, facts in list(info.hosts.items())[:20]]
    return Method(tuple(settings), tuple(facts for facts in environment if facts.pairs),
                  tuple(_ceiling(ceiling, plan.role) for ceiling in info.ceilings[:50]),
                  tuple(clean(note, 500) for note in list(dict.fromkeys([*plan.notes, *info.notes]))[:50]),
                  clean(shlex.join(info.command[:100]), 2000), clean(info.scenario_text, 100_000))


def _run(run: RunData, points: Sequence[PointSummary]) -> Iterable[tuple[str, str]]:
    plan, info = run.plan, run.info
    yield "Run", one_line(info.run_id, 120)
    yield "Harness", one_line(info.harness_version, 40)
    yield "Began", one_line(info.started_at, 40)
    yield "Ended", one_line(info.ended_at, 40) if info.ended_at else "not recorded"
    yield "State", one_line(info.state, 40) + ("" if info.exit_code is None else f", exit code {info.exit_code}")
    yield "Order", _order(run)
    yield "Repeats", str(plan.measure.repeat)
    wall, inside = finite(info.wall_s), finite(info.trials_s)
    if wall and inside is not None:
        yield "Time", (f"{seconds(wall)}, of which {seconds(inside)} inside trials "
                       f"({percent(1 - inside / wall, 0)} overhead)")
    times = [(o.deploy_s, o.undeploy_s) for p in points for o in p.outcomes if o.status == "ok"]
    if times:
        yield "Deploy, undeploy", (f"median {seconds(median(t[0] for t in times))} and "
                                   f"{seconds(median(t[1] for t in times))} a point")


def _order(run: RunData) -> str:
    """What the plan did, not what it could have: a shuffle of one point is none."""
    plan = run.plan
    given = [(repeat, point.id) for repeat in range(plan.measure.repeat) for point in plan.points]
    asked = run.info.scenario.get("order", "interleaved") == "interleaved"
    if asked and [tuple(entry) for entry in plan.sequence] != given:
        return f"points shuffled within each repeat, seed {run.info.seed}"
    return "points as listed, one repeat after the other"


def _traffic(plan: Plan) -> Iterable[tuple[str, str]]:
    yield "Role", f"{plan.role.value}: {role_text(plan.role)}"
    if plan.role is not Role.ACCEPT:
        yield from _sizes(plan)
    seen = dict.fromkeys(
        f"port {d.tx_port} → " + (f"port {d.rx_port}" if d.rx_port is not None else "discarded by the DUT")
        + f": {_flows(d.flows)}, to {one_line(d.flows.dst_ip, 40)} port {d.flows.dst_port}"
        + (f", VLAN {d.vlan}" if d.vlan is not None else "")
        for point in plan.points for d in point.directions)
    for number, text in enumerate(list(seen)[:8], 1):
        yield f"Direction {number}", text
    generator = plan.generator
    yield "Generator", f"{one_line(generator.kind, 40)} on {_cores(generator.cores)}"
    for host in plan.hosts[:20]:
        yield f"DUT {one_line(host.name, 40)}", f"{_cores(host.cores)} of {host.all_cores} may be given to stacks"


def _sizes(plan: Plan) -> Iterable[tuple[str, str]]:
    mixes = sorted({point.frames for point in plan.points}, key=lambda mix: mix.mean)
    yield "Frame sizes", ", ".join(mix.label for mix in mixes[:50]) + " on the wire, FCS included"
    if any(not mix.single for mix in mixes):
        yield "Mixed sizes", ("frames of every size in this ratio, interleaved, each size over all flows; loads and "
                              "results are frames per second, line rate is that of the mean size")


def _flows(flows: FlowPlan) -> str:
    first, ports = one_line(flows.src_ip_first, 40), f"{flows.src_ports:,} ports from {flows.src_port_first}"
    if flows.l4 == "tcp":
        addresses = f"{flows.src_ips:,} addresses from " if flows.src_ips > 1 else ""
        return f"TCP connections from {addresses}{first}, {ports}"
    return f"{flows.count:,} UDP flows, {flows.src_ips:,} addresses from {first} × {ports}"


def _cores(cores: Sequence[int]) -> str:
    word = "core" if len(cores) == 1 else "cores"
    return f"{word} {', '.join(map(str, cores[:64]))}" if cores else "no cores"


def _measure(settings: MeasureSettings, role: Role) -> Iterable[tuple[str, str]]:
    search = settings.search
    if search is None:
        yield "Search", "none: the scenario asks for no rates"
    else:
        yield "Search", (f"MLRsearch for {', '.join(goal.upper() for goal in search.goals)}; trials of "
                         f"{seconds(search.trial_s)}, first ones {seconds(search.initial_trial_s)}")
        yield "Ends when", (f"bounds are within {percent(search.width)} of each other, or after "
                            f"{seconds(search.max_search_s)}")
        yield "PDR", f"loss of at most {percent(search.pdr_loss)}"
        yield "Smallest load", set_rate(search.min_load_pps, role.rate_unit)
    if settings.latency_fractions:
        at = ", ".join(fraction_name(fraction) for fraction in settings.latency_fractions)
        yield "Latency", (f"at {at} of {settings.latency_of.upper()}, trials of {seconds(settings.latency_trial_s)}, "
                          + (f"{set_rate(settings.latency_pps)} of latency frames over the same flows as the load"
                             if settings.latency_pps else "of every connection: from its request, sent as soon as the "
                             "handshake is over, to the end of the reply; the client's log, in µs"))
    if settings.load_rates_pps:
        loads = ", ".join(set_rate(load, role.rate_unit) for load in settings.load_rates_pps[:40])
        yield "Load curve", f"{loads}; trials of {seconds(settings.load_trial_s)}"
    yield "Warm-up", f"{seconds(settings.warmup_s)}, discarded"
    yield "Pause rule", (f"a search trial that lost {role.counted} while a core stood still is repeated, at most "
                         f"{plural(settings.pause_retries, 'time')}; every attempt is kept")


def _cost(run: RunData) -> Iterable[tuple[str, str]]:
    """What measuring took of the DUT, at most."""
    cpus = [trial.cpu for trial in run.trials if trial.cpu is not None]
    total = max((cost for cpu in cpus if (cost := finite(cpu.sampling_cost)) is not None), default=None)
    probe = max((cost for cpu in cpus if (cost := finite(cpu.probe_cost)) is not None), default=None)
    if total is None:
        yield "Cost of measuring", "n/a: no trial recorded it"
        return
    on_core = f"; on a core of the stack at most {percent(probe, 2)}, by its pause probe" if probe is not None else ""
    yield "Cost of measuring", (f"CPU samples and all pause probes together took at most {percent(total, 2)} of one "
                                f"DUT core in any trial{on_core}")


def _frequency(run: RunData) -> Iterable[tuple[str, str]]:
    """Frequency of the stacks' cores while they worked, over all trials; why there is none."""
    cpus = [trial.cpu for trial in run.trials if trial.cpu is not None and trial.cpu.frequency_source]
    if not cpus:
        return
    means = [hz for cpu in cpus for core in cpu.cores if core.frequency is not None
             and (hz := finite(core.frequency.mean_hz)) is not None]
    throttled = [max(counts) for cpu in cpus if (counts := [c.throttled for c in cpu.cores if c.throttled is not None])]
    heat = f"; throttled for heat {plural(sum(throttled), 'time')}" if throttled else "; throttling: not available"
    if not means:
        yield "CPU frequency", one_line(cpus[0].frequency_source, 300) + heat
        return
    yield "CPU frequency", (f"cores of the stacks: {min(means) / 1e9:.2f} to {max(means) / 1e9:.2f} GHz, means of "
                            f"trials ({one_line(cpus[0].frequency_source, 40)}){heat}")


def _stacks(points: Sequence[PointSummary]) -> Iterable[tuple[str, str]]:
    """Every parameter of every stack, defaults too, and how it fills its role."""
    seen = set()
    for point in points:
        key = stack_key(point.plan)
        if key not in seen:
            seen.add(key)
            said = [params_text(point.plan) or "no parameters", f"tuning {one_line(point.plan.profile, 40)}",
                    one_line(point.semantics, 120),
                    one_line(point.degraded, 120),
                    *(one_line(next(filter(None, found), ""), 160) for found in (
                        (o.strays for o in point.outcomes), (o.remark for o in point.outcomes)))]
            yield stack_name(point.plan), "; ".join(text for text in said if text)


def _wires(plan: Plan) -> Iterable[tuple[str, str]]:
    for wire in plan.wires[:32]:
        kind = "virtual" if wire.virtual else "cable"
        yield f"Wire {wire.index}", (
            f"{kind}, {wire.speed_gbps:g} Gbit/s nominal; generator port {wire.tg.index} "
            f"({one_line(wire.tg.ifname or wire.tg.pci, 30)}, {one_line(wire.tg.ip, 40)}) ↔ {one_line(wire.host, 40)} "
            f"({one_line(wire.dut.ifname or wire.dut.pci, 30)}, {one_line(wire.dut.ip, 40)})")


def _ceiling(ceiling: Ceiling, role: Role) -> tuple[str, str]:
    name = f"{traffic_text(role, ceiling.frames.label)} to {one_line(ceiling.host, 40)}"
    if finite(ceiling.received_pps) is None and finite(ceiling.sent_pps) is None:
        return name, f"n/a: {one_line(ceiling.reason, 200) or 'not measured'}"
    sent, received, kept = (rate(pps, role.rate_unit)
                            for pps in (ceiling.sent_pps, ceiling.received_pps, ceiling.kept_pps))
    also = f", and {kept} when asked for that" if finite(ceiling.kept_pps) is not None else ""
    asked = "" if role is Role.ACCEPT else " when asked for line rate"
    return name, (f"sent {sent}{asked}{also}; got back {received} from {one_line(ceiling.stack, 40)} "
                  f"(trial {ceiling.trial})")
