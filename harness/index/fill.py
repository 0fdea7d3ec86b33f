# SPDX-License-Identifier: Apache-2.0
"""Run directories into the tables.

Trials are read by DuckDB, which checks their types but not everything that RunReader does; a file that it refuses,
that ends in a cut line, or whose lines are of an older schema is read by RunReader. A run that cannot be read is a row
of ``runs`` with its ``problem`` and has no other rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from harness.analysis.environment import comparability
from harness.analysis.metrics import PointKey, samples
from harness.analysis.table import GENERATOR, trial_row
from harness.errors import UsageError
from harness.index.schema import TABLES
from harness.missing import missing_trials
from harness.plan import Plan
from harness.records import SCHEMA_VERSION, Cpu, Phase, PointOutcome, Trial, Verdict
from harness.rundata import MAX_OUTCOMES, MAX_POINTS, RunData
from harness.store import MAX_LINE_BYTES, POINTS, RUN, TRIALS, RunReader

if TYPE_CHECKING:
    import duckdb

_PLAN = TypeAdapter(Plan)
_NESTED = {**{name: f"latency.{name}" for name in ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")},
           **{name: f"cpu.{name}" for name in ("busy_cores", "cycles_per_packet")},
           **{f"generator_{name}": f"counters.generator.{name}" for name in GENERATOR},
           "losses": "coalesce(CAST(losses AS VARCHAR), '{}')", "verdicts": "array_to_string(verdicts, ' ')"}
#: How DuckDB reads a line of trials.jsonl.
_JSON = {"schema_version": "INTEGER",
         **{name: kind for name, kind in TABLES["trials"].items() if name not in _NESTED and name != "run"},
         "latency": "STRUCT(p50_ns BIGINT, p90_ns BIGINT, p99_ns BIGINT, p999_ns BIGINT, max_ns BIGINT)",
         "cpu": "STRUCT(busy_cores DOUBLE, cycles_per_packet DOUBLE)", "verdicts": "VARCHAR[]", "losses": "JSON",
         "unread": "JSON",
         "counters": "STRUCT(generator STRUCT("
                     + ", ".join(f"{name} {TABLES['trials']['generator_' + name]}" for name in GENERATOR) + "))"}
_NEEDED = ("number", "point", "repeat", "phase", "status", "sent", "received", "lost")


def add_run(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Read one run into the tables, all of it or only the row that says why not."""
    try:
        rows = _rows(connection, path)
    except (UsageError, OSError) as error:
        row = dict.fromkeys(TABLES["runs"]) | {"run": path.name, "state": "unreadable", "problem": str(error)[:1000]}
        insert(connection, "runs", [row])
        return
    connection.begin()  # one commit a run: each waits for the disk
    for table, found in rows.items():
        insert(connection, table, found)
    connection.execute("INSERT INTO trials SELECT * FROM staged ORDER BY number")
    connection.commit()


def _rows(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every table but trials, which are in the table ``staged``. Raises UsageError."""
    reader = RunReader(path)
    plan = _plan(path, reader)
    outcomes = []
    for outcome in reader.outcomes():
        outcomes.append(outcome)
        if len(outcomes) > MAX_OUTCOMES:
            raise UsageError(f"{path / POINTS}: more than {MAX_OUTCOMES:,} lines")
    _stage_trials(connection, reader)
    data = RunData(path, reader.info, plan, _named_trials(connection, outcomes), tuple(outcomes), ())
    runs = [_run(reader, path.name, _missing(connection, reader, outcomes))]
    return {"runs": runs, "points": list(_points(path.name, plan, outcomes)),
            "metrics": list(_metrics(data))}


def _plan(path: Path, reader: RunReader) -> Plan:
    try:
        plan = _PLAN.validate_python(reader.info.plan)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{path / RUN}: its plan cannot be read: {'.'.join(map(str, first['loc']))[:120]}: "
                         f"{first['msg']}") from error
    if len(plan.points) > MAX_POINTS:
        raise UsageError(f"{path / RUN}: {len(plan.points):,} points; at most {MAX_POINTS:,} are read")
    return plan


def _missing(connection: duckdb.DuckDBPyConnection, reader: RunReader, outcomes: Sequence[PointOutcome]) -> str:
    made = connection.execute("SELECT number, repeat, point FROM staged").fetchall()
    return missing_trials(reader.info, outcomes, made, reader.abandoned)


def _run(reader: RunReader, name: str, missing: str) -> dict[str, Any]:
    info = reader.info
    return {"run": name, "scenario": info.plan.get("scenario"), "testbed": info.plan.get("testbed"),
            "role": info.plan.get("role"), "state": info.state, "started_at": info.started_at,
            "ended_at": info.ended_at, "harness_version": info.harness_version, "seed": info.seed,
            "exit_code": info.exit_code, "wall_s": info.wall_s,
            "environment": json.dumps(comparability(info), sort_keys=True),
            "problem": " ".join(filter(None, (*reader.problems(), missing))) or None}


def _points(run: str, plan: Plan, outcomes: Sequence[PointOutcome]) -> Iterator[dict[str, Any]]:
    """A planned point that was never reached is there too, with status "missing"."""
    for point in plan.points:
        mine = [outcome for outcome in outcomes if outcome.point == point.id]
        good = [outcome for outcome in mine if outcome.status == "ok"]
        bad = next((outcome for outcome in mine if outcome.status != "ok"), None)
        key = PointKey.of(point)
        yield {"run": run, "point": point.id, "label": point.label, "stack": key.stack, "params": key.params,
               "tuning": key.tuning, "role": key.role, "host": key.host, "frames": key.frames,
               "frame_bytes": point.frame_bytes, "cores": key.cores, "repeats_planned": plan.measure.repeat,
               "repeats_ok": len(good), "status": "missing" if not mine else bad.status if bad else "ok",
               "reason": bad.reason if bad else "",
               "verdicts": " ".join(sorted({str(v) for outcome in mine for v in outcome.verdicts}))}


def _stage_trials(connection: duckdb.DuckDBPyConnection, reader: RunReader) -> None:
    """The run's trials into the temporary table ``staged``. Raises UsageError with the line that cannot be read."""
    columns = ", ".join(f"{name} {kind}" for name, kind in TABLES["trials"].items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE staged ({columns})")
    file = reader.path / TRIALS
    if not file.exists() or file.stat().st_size == 0:
        return
    if not reader.cut(TRIALS) and _read_fast(connection, reader, file):
        return
    trials = reader.trials()
    while batch := [{"run": reader.path.name, **trial_row(trial)} for trial in islice(trials, 5000)]:
        insert(connection, "trials", batch, into="staged")


def _read_fast(connection: duckdb.DuckDBPyConnection, reader: RunReader, file: Path) -> bool:
    """Whether DuckDB took every line; nothing is staged when not."""
    import duckdb

    if any(sign in str(file) for sign in "*?[]{}"):
        return False  # DuckDB would take the name for a pattern
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in _JSON.items())
    options = f"format='newline_delimited', columns={{{columns}}}, maximum_object_size={MAX_LINE_BYTES}"
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS SELECT * FROM read_json(?, {options})",
                           [str(file)])
    except duckdb.Error:
        return False  # RunReader reads it, or names the line
    odd = " OR ".join(["schema_version IS DISTINCT FROM ?", *(f"{name} IS NULL" for name in _NEEDED),
                       "coalesce(CAST(unread AS VARCHAR), '{}') <> '{}'"])  # losses are not known everywhere
    if connection.execute(f"SELECT count(*) FROM incoming WHERE {odd}", [SCHEMA_VERSION]).fetchall()[0][0]:
        return False
    picked = ", ".join("? AS run" if name == "run" else f"{_NESTED.get(name, name)} AS {name}"
                       for name in TABLES["trials"])
    connection.execute(f"INSERT INTO staged SELECT {picked} FROM incoming WHERE NOT list_contains(?::BIGINT[], number)",
                       [reader.path.name, sorted(reader.abandoned)])
    return True


def _named_trials(connection: duckdb.DuckDBPyConnection, outcomes: Sequence[PointOutcome]) -> tuple[Trial, ...]:
    """Of the trials that load curves and latencies name, what their metrics are taken from."""
    wanted = [point.trial for outcome in outcomes for point in outcome.load_curve]
    wanted += [entry.trial for outcome in outcomes for entry in outcome.latency]
    if not wanted:
        return ()
    rows = connection.execute(
        "SELECT number, point, repeat, phase, started_at, asked_pps, duration_s, real_s, loss_ratio, status, verdicts, "
        "busy_cores, cycles_per_packet FROM staged WHERE list_contains(?::BIGINT[], number)", [wanted]).fetchall()
    return tuple(_named_trial(*row) for row in rows)


def _named_trial(number: int, point: str, repeat: int, phase: str, started_at: str, asked_pps: float,
                 duration_s: float, real_s: float, loss_ratio: float | None, status: str, verdicts: str,
                 busy_cores: float | None, cycles: float | None) -> Trial:
    cpu = None if busy_cores is None else Cpu(indicative=False, seconds=real_s, cores=[], busy_cores=busy_cores,
                                              cycles_per_packet=cycles)
    try:
        return Trial(number=number, point=point, repeat=repeat, phase=Phase(phase), started_at=started_at,
                     asked_pps=asked_pps, duration_s=duration_s, real_s=real_s, loss_ratio=loss_ratio, status=status,
                     verdicts=[Verdict(word) for word in verdicts.split()], cpu=cpu)
    except ValueError as error:
        raise UsageError(f"trial {number}: {error}") from error


def _metrics(run: RunData) -> Iterator[dict[str, Any]]:
    units = {point.id: point.role.rate_unit for point in run.plan.points}
    for point, metrics in samples(run).items():
        for metric, found in metrics.items():
            unit = units.get(point, metric.unit) if metric.unit == "pps" else metric.unit
            for sample in found:
                if math.isfinite(sample.value):
                    yield {"run": run.path.name, "point": point, "metric": metric.name, "unit": unit,
                           "repeat": sample.repeat, "value": sample.value, "at_least": sample.at_least,
                           "higher_is_better": metric.higher_is_better, "verdicts": " ".join(sample.verdicts)}


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, Any]], into: str = "") -> None:
    """Rows by the columns of ``table``; what else they hold is left out."""
    columns = TABLES[table]
    if rows:
        lists = ", ".join(f"unnest(?::{kind}[])" for kind in columns.values())
        connection.execute(f"INSERT INTO {into or table} SELECT {lists}",
                           [[row[name] for row in rows] for name in columns])
