# SPDX-License-Identifier: Apache-2.0
"""What the listing commands print: stacks, scenarios, runs and labs, as plain data and as text.

Every ``..._data`` returns JSON-ready data; every ``..._text`` turns it into lines for a person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from harness import stacks
from harness.errors import UsageError
from harness.figures import bound_text, pdr_loss_of, point_verdicts
from harness.lab import LabStatus
from harness.plan import Role
from harness.records import PointOutcome
from harness.resources import resource
from harness.scenario import load_scenario
from harness.stack import Stack
from harness.store import RunReader, Store
from harness.texttable import columns
from harness.units import format_duration, format_ratio

# ---------------------------------------------------------------------------------------------------------- stacks


def stacks_data() -> list[dict[str, Any]]:
    """Every stack: name, summary, roles."""
    return [{"name": stack.name, "summary": stack.summary, "roles": [str(role) for role in stack.roles]}
            for stack in stacks.available().values()]


def stacks_text() -> str:
    """One line a stack."""
    return columns([(entry["name"], ", ".join(entry["roles"]), entry["summary"]) for entry in stacks_data()])


def stack_data(name: str) -> dict[str, Any]:
    """One stack: roles with semantics, parameters with their schema, features; whether its workers poll with the
    default parameters. Raises UsageError."""
    stack = stacks.get(name)
    return {
        "name": stack.name, "summary": stack.summary, "polls": stacks.create(name, {}).polls(),
        "features": sorted(stack.features),
        "roles": {str(role): dataclasses.asdict(info) for role, info in stack.roles.items()},
        "parameters": stack.Params.model_json_schema(),
    }


def stack_text(name: str) -> str:
    """One stack for a person: what it does in each role and every parameter with its default."""
    stack = stacks.get(name)
    lines = [f"{stack.name}: {stack.summary}", "", "Roles"]
    lines += [f"  {role}: {info.semantics}" for role, info in stack.roles.items()]
    lines += ["", "Parameters"]
    lines += [_parameter(key, field) for key, field in stack.Params.model_fields.items()] or ["  none"]
    lines += ["", "In a scenario", f"  - {_example(stack)}"]
    if stacks.create(name, {}).polls():
        lines += ["", "Its workers poll with these defaults: their cores are busy at any load."]
    return "\n".join(lines)


def _parameter(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"default {_yaml(field.get_default(call_default_factory=True))}"
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    kind = " | ".join(map(str, choices)) or getattr(field.annotation, "__name__", str(field.annotation))
    return f"  {name} ({kind}, {default}): {field.description or ''}"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _example(stack: type[Stack]) -> str:
    for name, field in stack.Params.model_fields.items():
        if not field.is_required():
            return f"{stack.name}: {{{name}: {_yaml(field.get_default(call_default_factory=True))}}}"
    return stack.name


# ------------------------------------------------------------------------------------------------------- scenarios


def scenario_files() -> list[Path]:
    """The scenarios that come with the harness."""
    return sorted(resource("scenarios").glob("*.yaml"))


def scenarios_data() -> list[dict[str, Any]]:
    """Every shipped scenario: file, name, role, description; ``problem`` where it cannot be read."""
    entries: list[dict[str, Any]] = []
    for path in scenario_files():
        try:
            spec = load_scenario(path).spec
        except UsageError as error:
            entries.append({"file": str(path), "name": path.stem, "role": None, "description": "",
                            "problem": str(error)})
        else:
            entries.append({"file": str(path), "name": spec.name, "role": str(spec.role),
                            "description": spec.description})
    return entries


def scenarios_text() -> str:
    """One line a scenario."""
    return columns([(entry["name"], entry["role"] or "?", entry.get("problem") or entry["description"], entry["file"])
                    for entry in scenarios_data()])


# ---------------------------------------------------------------------------------------------------------- results


def results_data(store: Store) -> list[dict[str, Any]]:
    """Every run: id, scenario, state, start; ``problem`` where it cannot be read."""
    entries: list[dict[str, Any]] = []
    for path in store.runs():
        try:
            info = RunReader(path).info
        except UsageError as error:
            entries.append({"run": path.name, "problem": str(error)})
        else:
            plan = info.plan
            entries.append({"run": path.name, "scenario": plan.get("scenario"), "testbed": plan.get("testbed"),
                            "state": info.state, "exit_code": info.exit_code, "started_at": info.started_at,
                            "wall_s": info.wall_s})
    return entries


def results_text(store: Store) -> str:
    """One line a run, oldest first."""
    rows = [(entry["run"], str(entry.get("state", "?")),
             "" if entry.get("wall_s") is None else format_duration(entry["wall_s"]),
             str(entry.get("problem") or entry.get("scenario"))) for entry in results_data(store)]
    return columns(rows) if rows else f"no runs in {store.root}; `harness run SCENARIO` makes one"


def result_data(reader: RunReader) -> dict[str, Any]:
    """One run: its RunInfo and its points' outcomes."""
    return {"run": str(reader.path), "info": reader.info.model_dump(mode="json"),
            "points": [outcome.model_dump(mode="json") for outcome in _outcomes(reader)]}


def _outcomes(reader: RunReader) -> list[PointOutcome]:
    """With what their own trials refute marked, as everywhere that a run is read."""
    from harness.measure.contradiction import settle

    outcomes, plan = list(reader.outcomes()), reader.info.plan
    settle(outcomes, reader.trials(), pdr_loss_of(plan), rate_unit_of(str(plan.get("role", ""))))
    return outcomes


def result_text(reader: RunReader) -> str:
    """One run for a person: what it was, and a line a point."""
    info = reader.info
    labels = {point["id"]: point["label"] for point in info.plan.get("points", [])}
    head = [f"{info.run_id}: {info.plan.get('scenario')} on {info.plan.get('testbed')}, {info.state}",
            f"started {info.started_at}, seed {info.seed}, harness {info.harness_version}"]
    header = ("point", "round", "MRR", "NDR", "PDR", "p99 latency", "verdicts")
    pdr_loss, unit = pdr_loss_of(info.plan), rate_unit_of(str(info.plan.get("role", "")))
    rows = [(labels.get(outcome.point, outcome.point), str(outcome.repeat + 1), *_figures(outcome, pdr_loss, unit))
            for outcome in _outcomes(reader)]
    notes = [f"note: {note}" for note in info.notes] + [f"warning: {problem}" for problem in reader.problems()]
    return "\n".join([*head, *notes, "", columns([header, *rows]) if rows else "no point was finished"])


def _figures(outcome: PointOutcome, pdr_loss: float, unit: str) -> tuple[str, str, str, str, str]:
    state = [] if outcome.status == "ok" else [f"{outcome.status}: {outcome.reason}"]
    if outcome.status not in ("ok", "interrupted"):
        return ("n/a", "n/a", "n/a", "n/a", state[0])
    p99 = [f"{format_duration(at.percentiles.p99_ns / 1e9)} at {format_ratio(at.fraction)} {at.of.upper()}"
           for at in outcome.latency if at.percentiles is not None and at.percentiles.p99_ns is not None]
    rates = [bound_text(bound, pdr_loss, unit) for bound in (outcome.mrr, outcome.ndr, outcome.pdr)]
    said = ", ".join([*state, *point_verdicts(outcome, pdr_loss)])
    return (rates[0], rates[1], rates[2], "; ".join(p99) or "n/a", said)


def rate_unit_of(role: str) -> str:
    """Unit of a stored run's rates, whatever its plan says its role is."""
    return Role(role).rate_unit if role in set(Role) else "pps"


# ------------------------------------------------------------------------------------------------------------- labs


def labs_data(labs: Sequence[LabStatus]) -> list[dict[str, Any]]:
    """Every lab of this machine."""
    return [dataclasses.asdict(lab) for lab in labs]


def labs_text(labs: Sequence[LabStatus]) -> str:
    """One line a lab."""
    if not labs:
        return "no lab is up; `harness lab up` makes one, `harness run` brings its own"
    rows = [("lab", "state", "owner", "generator cores", "DUT cores", "processes")]
    for lab in labs:
        owner = "until `lab down`" if lab.persistent else str(lab.owner or "none")
        processes = ", ".join(f"{name} ({pid})" for pid, name in lab.processes)
        rows.append((lab.name, lab.state, owner, _list(lab.tg_cores), _list(lab.dut_cores), lab.detail or processes))
    stale = [lab.name for lab in labs if lab.state == "stale"]
    left = f"\n{', '.join(stale)}: the command that made it is gone; `harness lab down` removes it, and so does the " \
           "next `harness run`" if stale else ""
    return columns(rows) + left


def _list(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores)) or "?"
