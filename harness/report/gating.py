# SPDX-License-Identifier: Apache-2.0
"""A gate's result in words: for a terminal, Markdown for a job summary, JUnit XML for a CI server, JSON."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from harness.analysis.gate import Check, GateResult, State
from harness.report.comparison import (
    change_text,
    differing,
    differs_text,
    escaped,
    interval_text,
    p_text,
    place_data,
    rate_unit,
    side_data,
    table,
    value_text,
    verdict_texts,
)

HEADINGS = ("result", "point", "metric", "baseline", "this run", "change", "95 % interval", "p", "threshold", "remarks")
#: The most serious first.
_ORDER = (State.FAIL, State.CANNOT_TELL, State.IMPROVED, State.PASS)
LEGEND = ("Baseline, this run: geometric means of the repeats (loss: means); of several baseline runs the mean of "
          "theirs.")
#: What XML 1.0 cannot hold.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def cells(check: Check, result: GateResult) -> tuple[str, ...]:
    """A figure in words, in the order of HEADINGS."""
    metric, unit, relative = check.metric, rate_unit(check.place), not check.metric.is_ratio
    remarks = [check.reason, *verdict_texts((("baseline", check.base), ("run", check.new))),
               differs_text(result.baseline.differences)]
    return (str(check.state), check.place.title, metric.name,
            value_text(metric, check.base_value, unit, at_least=check.base.at_least),
            value_text(metric, check.new_value, unit, at_least=check.new.at_least),
            change_text(metric, check.change, relative=relative),
            interval_text(metric, check.low, check.high, relative=relative), p_text(check.p),
            change_text(metric, check.threshold, relative=relative), "; ".join(filter(None, remarks)))


def ordered(result: GateResult) -> list[Check]:
    """Checks, the most serious first."""
    return sorted(result.checks, key=lambda check: _ORDER.index(check.state))


def headline(result: GateResult) -> str:
    """"gate: FAIL: 1 FAIL, 3 pass"."""
    counts = Counter(check.state for check in result.checks)
    listed = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    said = State.FAIL if counts[State.FAIL] else State.CANNOT_TELL if counts[State.CANNOT_TELL] else State.PASS
    return f"gate: {said} ({listed})"


def against(result: GateResult) -> str:
    """The run and what it is compared with."""
    runs = result.baseline.runs
    named = ", ".join(run.info.run_id for run in runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
    return f"{result.run.info.run_id} against {named}"


def text(result: GateResult) -> str:
    """For a terminal; the last line is the answer."""
    from harness.texttable import columns, plain

    said = [plain(against(result)), *(plain(f"note: {note}") for note in _notes(result)), "",
            columns([HEADINGS, *(cells(check, result) for check in ordered(result))]), LEGEND, "", headline(result)]
    return "\n".join(said)


def _notes(result: GateResult) -> list[str]:
    return [*result.notes, *differing(result.baseline.differences)]


def markdown(result: GateResult) -> str:
    """For a job summary."""
    rows = [HEADINGS, *(cells(check, result) for check in ordered(result))]
    notes = [f"- {escaped(note)}" for note in _notes(result)]
    said = [f"### {escaped(headline(result))}", "", escaped(against(result)), "", table(rows), "", LEGEND]
    return "\n".join([*said, *(["", *notes] if notes else [])]) + "\n"


def junit(result: GateResult, *, strict: bool) -> str:
    """JUnit XML: a test case a figure. What cannot be told is skipped, or under ``strict`` an error."""
    counts = Counter(check.state for check in result.checks)
    unsure = counts[State.CANNOT_TELL]
    suite = ElementTree.Element("testsuite", {
        "name": _xml(f"harness gate {result.run.plan.scenario}"), "tests": str(len(result.checks)),
        "failures": str(counts[State.FAIL]), "errors": str(unsure if strict else 0),
        "skipped": str(0 if strict else unsure), "timestamp": _xml(result.run.info.started_at[:19])})
    for check in result.checks:
        case = ElementTree.SubElement(suite, "testcase", {
            "classname": _xml(f"{result.run.plan.scenario}.{check.place.title}"), "name": _xml(check.metric.name)})
        said = _xml("; ".join(f"{name}: {cell}" for name, cell in zip(HEADINGS, cells(check, result), strict=True)
                              if cell))
        kind = {State.FAIL: "failure", State.CANNOT_TELL: "error" if strict else "skipped"}.get(check.state)
        if kind is not None:
            ElementTree.SubElement(case, kind, {"message": _xml(check.reason or said)})
        ElementTree.SubElement(case, "system-out").text = said
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml(value: str) -> str:
    return _NOT_XML.sub("?", value)[:2000]


def data(result: GateResult, *, strict: bool) -> dict[str, Any]:
    """For programs: changes, intervals and thresholds relative to the baseline (-0.03 is -3 %), absolute for loss."""
    return {"run": result.run.info.run_id, "baseline": [run.info.run_id for run in result.baseline.runs],
            "exit_code": result.exit_code(strict=strict), "notes": list(result.notes),
            "differences": [asdict(item) for item in result.baseline.differences],
            "checks": [{"point": place_data(check.place), "metric": check.metric.name, "unit": check.metric.unit,
                        "state": str(check.state), "threshold": check.threshold, "change": check.change,
                        "low": check.low, "high": check.high, "p": check.p, "repeats_needed": check.repeats or None,
                        "baseline_runs_needed": check.runs or None, "reason": check.reason,
                        "baseline": side_data(check.base) | {"value": check.base_value},
                        "run": side_data(check.new) | {"value": check.new_value}}
                       for check in result.checks]}
