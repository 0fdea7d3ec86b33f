# SPDX-License-Identifier: Apache-2.0
"""A Plan as text, for ``--dry-run``: everything that will be used and done, before anything is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness import estimate
from harness.plan import DirectionPlan, MeasureSettings, Plan, PointPlan, Role, WirePlan
from harness.units import format_duration, format_rate, format_ratio


def render_plan(plan: Plan) -> str:
    """The whole Plan, a section a subject."""
    sections = [
        ("", [f"{plan.scenario} on testbed {plan.testbed}, role {plan.role}"]),
        ("Machines", list(_machines(plan))),
        ("Wires", [line for wire in plan.wires for line in _wire(wire)]),
        ("Traffic", list(_traffic(plan))),
        ("Points", [_point(point) for point in plan.points]),
        ("Measured at every point", list(_measured(plan.measure, plan.role))),
        ("Order", list(_order(plan))),
        ("Expected", list(_expected(plan))),
        ("Notes", list(plan.notes)),
    ]
    return "\n".join(_section(title, lines) for title, lines in sections if lines)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"\n{title}", *(f"  {line}" for line in lines)]) if title else "\n".join(lines)


def _cores(cores: Sequence[int]) -> str:
    return f"core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}"


def _machines(plan: Plan) -> Iterator[str]:
    generator = plan.generator
    where = f" from {generator.trex_dir}" if generator.trex_dir else ""
    rpc = f", RPC on ports {generator.sync_port} and {generator.async_port}" if generator.sync_port else ""
    yield f"generator  {generator.kind}{where}, {_cores(generator.cores)}{rpc}{_software(plan)}"
    for host in plan.hosts:
        yield (f"DUT {host.name}  {_cores(host.cores)} for stacks, of {host.all_cores}; management interface "
               f"{host.management} is never touched")


def _software(plan: Plan) -> str:
    """How a TRex that is started receives, where that was chosen."""
    generator = plan.generator
    if not generator.software:
        return ""
    return "; --software" + (f", for latency of {', '.join(generator.software_for)}" if generator.software_for else "")


def _wire(wire: WirePlan) -> Iterator[str]:
    kind = "virtual, nominal " if wire.virtual else ""
    yield f"wire {wire.index}  {kind}{wire.speed_gbps:g} Gbit/s"
    for side, port in ((f"TG port {wire.tg.index}", wire.tg), (f"{wire.host} port {wire.dut.index}", wire.dut)):
        names = " ".join(name for name in (port.ifname, port.pci) if name)
        yield f"  {side:<12} {names:<12} {port.mac}  {port.ip}/{port.prefix_len}"
    yield (f"  {wire.host} routes {wire.flow_prefix} via {wire.tg.ip}, static neighbour {wire.tg.mac}")


def _traffic(plan: Plan) -> Iterator[str]:
    for direction in dict.fromkeys(d for point in plan.points for d in point.directions):
        yield from _direction(direction)


def _direction(direction: DirectionPlan) -> Iterator[str]:
    flows = direction.flows
    back = "nothing comes back" if direction.rx_port is None else f"back on TG port {direction.rx_port}"
    last = flows.src_port_first + flows.src_ports - 1
    tag = f", VLAN {direction.vlan}" if direction.vlan is not None else ""
    yield f"TG port {direction.tx_port}, {back}: {direction.src_mac} -> {direction.dst_mac}{tag}"
    if flows.l4 == "tcp":
        yield (f"  TCP connections from {flows.src_ip_first} ports {flows.src_port_first}-{last}, each of its own -> "
               f"{flows.dst_ip} port {flows.dst_port}: one request, one reply, closed by the server")
        return
    yield (f"  {flows.count} UDP flows: {flows.src_ips} addresses from {flows.src_ip_first} x ports "
           f"{flows.src_port_first}-{last} -> {flows.dst_ip} port {flows.dst_port}")


def _point(point: PointPlan) -> str:
    size = f"{point.traffic_label}, line rate {format_rate(point.line_rate_pps)}, " if point.frame_bytes else ""
    return f"{point.id}  {point.label}: {size}{point.host} {_cores(point.cores)}, {_tuning(point)}{_optional(point)}"


def _optional(point: PointPlan) -> str:
    return ", if the host supports it" if point.if_supported else ""


def _tuning(point: PointPlan) -> str:
    items = ", ".join(point.tuning)
    return f"{point.profile}{f' ({items})' if items else ''}"


def _measured(measure: MeasureSettings, role: Role) -> Iterator[str]:
    if measure.warmup_s > 0:
        yield f"warm-up {format_duration(measure.warmup_s)}, discarded"
    if measure.search is not None:
        search = measure.search
        goals = ", ".join(goal.upper() for goal in search.goals)
        first, last = format_duration(search.initial_trial_s), format_duration(search.trial_s)
        yield (f"{goals}: trials of {last if first == last else f'{first} to {last}'}, "
               f"width {format_ratio(search.width)}, PDR at loss {format_ratio(search.pdr_loss)}, from "
               f"{format_rate(search.min_load_pps, role.rate_unit)}, at most {format_duration(search.max_search_s)}")
    if measure.latency_fractions:
        shares = ", ".join(format_ratio(share) for share in measure.latency_fractions)
        timed = f"{format_rate(measure.latency_pps)} latency frames" if measure.latency_pps else f"all {role.counted}"
        yield (f"latency at {shares} of {measure.latency_of.upper()}: trials of "
               f"{format_duration(measure.latency_trial_s)}, {timed}")
    if measure.load_rates_pps:
        rates = ", ".join(format_rate(rate, role.rate_unit) for rate in measure.load_rates_pps)
        yield f"load curve at {rates}: trials of {format_duration(measure.load_trial_s)}"
    if measure.bystander is not None:
        asked = measure.bystander
        yield (f"bystander: {asked.rate:g} {asked.service} connections a second over the port under test, before the "
               f"load curve and during it; lost after {format_duration(asked.timeout_s)}")
    if measure.drop_reasons:
        yield (f"drop reasons of the DUT's kernel at the highest load: a trial of "
               f"{format_duration(measure.diagnose_trial_s)} of its own, whose rates are no result")
    yield f"a search trial that lost {role.counted} in a pause is repeated, at most {measure.pause_retries} times"


def _order(plan: Plan) -> Iterator[str]:
    yield f"seed {plan.seed}, {plan.measure.repeat} round{'s' * (plan.measure.repeat > 1)}"
    for number in range(plan.measure.repeat):
        ids = [point_id for repeat, point_id in plan.sequence if repeat == number]
        yield f"round {number + 1}: {', '.join(ids)}"


def _expected(plan: Plan) -> Iterator[str]:
    yield f"about {plan.expected_trials} trials, about {format_duration(plan.expected_s)}"
    search = plan.measure.search
    if search is not None and ("ndr" in search.goals or "pdr" in search.goals):
        yield (f"a search takes about {estimate.TRIALS_PER_HALVING:g} x log2(1 / width) trials for each of NDR and "
               "PDR; repetitions after pauses come on top")
    if plan.role is Role.DROP:
        yield "loss is what was sent minus what the stack counted; latency is not defined"
