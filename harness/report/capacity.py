# SPDX-License-Identifier: Apache-2.0
"""A capacity plan in words: the same rows as text, as one HTML file and, with all their numbers, as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from harness.analysis.capacity import CapacityPlan, Need, StackPlan
from harness.analysis.crossover import Crossing
from harness.analysis.loadcurve import Reading
from harness.analysis.scaling import BEYOND, Prediction
from harness.report.numbers import MISSING, nanoseconds, percent, plural, rate, set_rate, significant

HEADINGS = ("Stack", "Cores", "They carry", "Busy cores at the load", "Core time a packet", "p99 at the load")
SCALING_HEADINGS = ("Stack", "Rate by cores (efficiency)", "Model", "One more core adds less than half")


def headline(plan: CapacityPlan) -> str:
    """What was asked."""
    ask, unit = plan.ask, plan.role.rate_unit
    asked = f"{set_rate(ask.target, unit)} per direction"
    if plan.role.counted != "frames":
        asked = set_rate(ask.target, unit)
    p99 = "" if ask.p99_ns is None else f", p99 at most {nanoseconds(ask.p99_ns)}"
    return (f"Cores for {asked}{p99}, {percent(ask.headroom, 0)} of {ask.rate.upper()} kept free: they have to carry "
            f"{rate(ask.needed, unit)}")


def rows(plan: CapacityPlan) -> list[tuple[str, ...]]:
    """A row a stack, in the order of the plan; as HEADINGS."""
    unit = plan.role.rate_unit
    return [(stack.label, _cores(stack.need), _carried(stack.need.carries, unit) + _lost(stack),
             _busy(stack, stack.cpu), _each(stack.cpu, plan.ask.target), _latency(plan, stack))
            for stack in plan.stacks]


def _cores(need: Need) -> str:
    if need.cores is None:
        return MISSING
    said = f"{need.cores}"
    if need.low is not None and (need.open_ended or need.high is not None):
        high = "more" if need.high is None else f"{need.high}"
        said += f" (95 %: {need.low} to {high})" if high != f"{need.low}" else f" (95 %: {need.low})"
    source = need.carries.source if need.carries is not None else ""
    return said + {"extrapolated": ", extrapolated", "fitted": ", not measured", "bound": ""}.get(source, "")


def _carried(carries: Prediction | None, unit: str) -> str:
    if carries is None:
        return MISSING
    span = ""
    if carries.low is not None and carries.high is not None:
        span = f" ({rate(carries.low, unit)} to {rate(carries.high, unit)})"
    return (">= " if carries.source == "bound" else "") + rate(carries.rate, unit) + span


def _lost(stack: StackPlan) -> str:
    return f", {percent(stack.lost, 2)} lost" if stack.lost and stack.need.carries is not None else ""


def _busy(stack: StackPlan, reading: Reading) -> str:
    if reading.value is None:
        return f"{MISSING}: {reading.reason}"
    if reading.source == "polling":
        return f"{significant(reading.value)}, polling{_useful(stack)}"
    limit = "<= " if reading.source == "at most" else ""
    said = "" if reading.source in ("measured", "between", "at most") else f", {reading.source}"
    return f"{limit}{significant(reading.value)}{said}"


def _useful(stack: StackPlan) -> str:
    """Share of useful polls at the measured load next below the one asked for."""
    curve = next((curve for curve in stack.curves if curve.cores == stack.need.cores and curve.useful), None)
    if curve is None or stack.cpu.load is None:
        return ""
    load, share = min(curve.useful, key=lambda pair: abs(pair[0] - (stack.cpu.load or 0.0)))
    return f" ({percent(share, 0)} of polls useful at {set_rate(load)})"


def _each(reading: Reading, load: float) -> str:
    if reading.value is None:
        return MISSING
    return ("<= " if reading.source == "at most" else "") + nanoseconds(reading.value / load * 1e9)


def _latency(plan: CapacityPlan, stack: StackPlan) -> str:
    reading = stack.p99
    if reading.value is None:
        said = f"{MISSING}: {reading.reason}"
    else:
        where = f" at {rate(reading.load, plan.role.rate_unit)}" if reading.load is not None else ""
        said = f"{nanoseconds(reading.value)}{where}"
        said += "" if reading.source == "measured" else f", {reading.source}"
    if plan.ask.p99_ns is None or stack.need.cores is None:
        return said
    if stack.p99_met:
        return f"{said}: met"
    if stack.p99_met is False and stack.cores_for_p99 is None:
        return f"{said}: not met"
    said += ": not met" if stack.p99_met is False else ""
    return said if stack.cores_for_p99 is None else f"{said}; met on {plural(stack.cores_for_p99, 'core')}"


def scaling_rows(plan: CapacityPlan) -> list[tuple[str, ...]]:
    """A row for each stack of which more than one core count was measured; as SCALING_HEADINGS."""
    return [(stack.label, _by_cores(plan, stack), _model(stack), _half(stack)) for stack in plan.stacks
            if len(stack.scaling.counts) > 1]


def _by_cores(plan: CapacityPlan, stack: StackPlan) -> str:
    efficiency, unit = stack.scaling.efficiency(), plan.role.rate_unit
    said = []
    for count in stack.scaling.counts:
        if count.rate is None:
            said.append(f"{count.cores}: >= {rate(count.at_least, unit)}, left out of the fit")
        else:
            cap = ", its cores were not the limit" if count.capped else ""
            said.append(f"{count.cores}: {rate(count.rate, unit)} ({percent(efficiency[count.cores], 0)}{cap})")
    return "; ".join(said)


def _model(stack: StackPlan) -> str:
    model = stack.scaling.model
    if model is None:
        return f"none: {stack.scaling.reason}"
    names = {"line": "line", "amdahl": "Amdahl", "usl": "Universal Scalability Law"}
    return names[model.name] + ("" if model.aicc is None else f", AICc {model.aicc:.1f}")


def _half(stack: StackPlan) -> str:
    scaling = stack.scaling
    half = scaling.half_core_at()
    if half is not None:
        return f"beyond {plural(half.cores, 'core')}" + (", extrapolated" if half.source == "extrapolated" else "")
    return f"not up to {BEYOND * scaling.most} cores" if scaling.model is not None else MISSING


def crossing_lines(plan: CapacityPlan) -> list[str]:
    """A sentence for each pair of a poller and another stack."""
    return [_crossing(plan, crossing) for crossing in plan.crossings]


def _crossing(plan: CapacityPlan, found: Crossing) -> str:
    unit = plan.role.rate_unit
    pair = f"{found.poller} (polling) against {found.kernel}"
    if found.top is None:
        most = "nothing that was measured" if found.most is None else rate(found.most, unit)
        return f"{pair}: the poller carries {most}, below the lowest load of the other's curve."
    said = f"{pair}: the poller {_where_cheaper(found, unit)}"
    if found.poller_cores is None or found.kernel_cores is None:
        return f"{said}; at the target {found.reason}{f': {found.cheaper}' if found.cheaper else ''}{_compared(found)}."
    costs = f"{significant(found.poller_cores)} cores polling, {significant(found.kernel_cores)} busy"
    if found.poller_cycles is not None and found.kernel_cycles is not None:
        costs += f"; {significant(found.poller_cycles)} against {significant(found.kernel_cycles)} cycles a packet"
    return f"{said}; at the target {found.cheaper} is cheaper ({costs}){_compared(found)}."


def _where_cheaper(found: Crossing, unit: str) -> str:
    """Every stretch of loads in which the poller costs less, and who does up to the end of the comparison."""
    assert found.top is not None
    low, top = set_rate(found.low, unit), (set_rate if found.top == found.high else rate)(found.top, unit)
    end = f"{top}, the highest load that both carry"
    if not found.intervals:
        return f"never costs fewer {found.unit} from {low} to {end}"
    spans = [f"from {low if begin == found.low else rate(begin, unit)} to "
             f"{end if stop == found.top else rate(stop, unit)}" for begin, stop in found.intervals]
    said = f"costs fewer {found.unit} {' and '.join(spans)}"
    if found.at is None:
        said += f", and more from there to {end}"
    return said


def _compared(found: Crossing) -> str:
    """What was compared, where it is not the cycles."""
    if found.unit == "cycles":
        return f"; the cycles are {found.cycles_source}"
    return "; cores are compared, as not both have cycles a packet from one source"


def remarks(plan: CapacityPlan) -> Iterator[str]:
    """What has to be known beside the numbers."""
    yield from plan.notes
    for stack in plan.stacks:
        yield from _limits(plan, stack)
        yield from (f"{stack.label}, {missing}." for missing in stack.missing)
        if stack.verdicts:
            yield f"{stack.label} is marked {', '.join(stack.verdicts)}."
    yield "Core time a packet: busy cores at the load divided by the load; <= where the load is below the load curve."
    straight = [stack.label for stack in plan.stacks if stack.scaling.model is not None
                and len([count for count in stack.scaling.counts if count.rates and not count.capped]) == 2]
    if straight:
        yield (f"{', '.join(straight)}: two core counts allow only a straight line. Beyond them most stacks stay below "
               "it, and the interval tells of noise alone; a third count, as in `cores: [1, 2, 4]`, shows the bend.")
    if any(stack.need.carries is not None and stack.need.carries.low is None for stack in plan.stacks):
        yield "Where no interval is given there are fewer than 3 repeats, or as many coefficients as rates."
    if not scaling_rows(plan):
        yield "One core count was measured: nothing is said about other counts. `cores: [1, 2, 4]` measures more."


def _limits(plan: CapacityPlan, stack: StackPlan) -> Iterator[str]:
    """Whether the stack's rates can be planned with, and what is said where its cores are too few."""
    unit, best, name = plan.role.rate_unit, stack.need.carries, plan.ask.rate.upper()
    for wrong in stack.refuted:
        seen = (f"{rate(wrong.by.load, unit)} lost {percent(wrong.by.share, 2)}, trial {wrong.by.trial}, "
                f"and {name} allows {percent(wrong.allowed, 2)}")
        yield (f"{stack.label}, {plural(wrong.cores, 'core')}: the run refutes its {name} of {rate(wrong.rate, unit)}: "
               f"{seen}; " + ("it is taken as a bound." if wrong.low else "it is not planned with."))
    if stack.lost:
        yield f"{stack.label}: MRR is no capacity: {percent(stack.lost, 2)} of the frames offered was lost there."
    bound = best is not None and best.source == "bound"
    if stack.need.cores is None and best is not None and bound:
        yield (f"{stack.label}: cannot tell: at least {rate(best.rate, unit)} on {plural(best.cores, 'core')}, "
               "a bound; its cores may carry more.")
    elif stack.need.cores is None:
        most = "" if best is None else f"at most {_carried(best, unit)} on {plural(best.cores, 'core')}: "
        yield f"{stack.label}: {most}{stack.need.reason}."
    elif bound and not any(wrong.low for wrong in stack.refuted):
        yield f"{stack.label}: the generator or the wire was the limit; its cores may carry more."


def text(plan: CapacityPlan) -> str:
    """The plan for a terminal."""
    from harness.texttable import columns

    parts = [f"{plan.run_id}: {headline(plan)}", columns([HEADINGS, *rows(plan)])]
    if scaling := scaling_rows(plan):
        parts.append(columns([SCALING_HEADINGS, *scaling]))
    for title, lines in (("Poller or kernel", crossing_lines(plan)), ("To be known", list(remarks(plan)))):
        if lines:
            parts.append(f"{title}\n{columns([('-', line) for line in lines])}")
    return "\n\n".join(parts)


def data(plan: CapacityPlan) -> dict[str, Any]:
    """The plan for programs: every number, rates in frames per second and direction, times in ns; None is missing."""
    made = dataclasses.asdict(dataclasses.replace(plan, stacks=()))
    made["stacks"] = [_stack_data(stack) for stack in plan.stacks]
    cleaned = _finite(made)
    assert isinstance(cleaned, dict)
    return cleaned


def _stack_data(stack: StackPlan) -> dict[str, Any]:
    made = dataclasses.asdict(dataclasses.replace(stack, scaling=dataclasses.replace(stack.scaling, draws=())))
    del made["scaling"]["draws"]
    half = stack.scaling.half_core_at()
    made["scaling"] |= {"efficiency": stack.scaling.efficiency(), "cap": stack.scaling.cap,
                        "half_core_beyond": None if half is None else dataclasses.asdict(half)}
    return made


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def html(plan: CapacityPlan) -> str:
    """The plan as one file that loads nothing."""
    from harness.report.layout import render_page

    return render_page("capacity.html.j2", plan=plan, headline=headline(plan), headings=HEADINGS, rows=rows(plan),
                       scaling_headings=SCALING_HEADINGS, scaling=scaling_rows(plan), crossings=crossing_lines(plan),
                       remarks=list(remarks(plan)))
