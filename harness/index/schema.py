# SPDX-License-Identifier: Apache-2.0
"""The tables of the index. Documented for users in docs/results.md; a test holds the two together.

Times are UTC in ISO 8601. Rates are frames (role accept: connections) per second and direction. NULL: not measured.
"""

from __future__ import annotations

#: Raised when a table or what fills it changes: an index of another version is made anew.
VERSION = 4

TABLES: dict[str, dict[str, str]] = {
    "runs": {
        "run": "VARCHAR", "scenario": "VARCHAR", "testbed": "VARCHAR", "role": "VARCHAR", "state": "VARCHAR",
        "started_at": "VARCHAR", "ended_at": "VARCHAR", "harness_version": "VARCHAR", "seed": "BIGINT",
        "exit_code": "INTEGER", "wall_s": "DOUBLE", "environment": "VARCHAR", "problem": "VARCHAR"},
    "points": {
        "run": "VARCHAR", "point": "VARCHAR", "label": "VARCHAR", "stack": "VARCHAR", "params": "VARCHAR",
        "tuning": "VARCHAR", "role": "VARCHAR", "host": "VARCHAR", "frames": "VARCHAR", "frame_bytes": "INTEGER",
        "cores": "INTEGER", "repeats_planned": "INTEGER", "repeats_ok": "INTEGER", "status": "VARCHAR",
        "reason": "VARCHAR", "verdicts": "VARCHAR"},
    "trials": {
        "run": "VARCHAR", "number": "BIGINT", "point": "VARCHAR", "repeat": "INTEGER", "phase": "VARCHAR",
        "attempt": "INTEGER", "superseded": "BOOLEAN", "started_at": "VARCHAR", "asked_pps": "DOUBLE",
        "duration_s": "DOUBLE", "real_s": "DOUBLE", "offered_pps": "DOUBLE", "forwarding_pps": "DOUBLE",
        "sent": "BIGINT", "received": "BIGINT", "lost": "BIGINT", "loss_ratio": "DOUBLE", "losses": "VARCHAR",
        "unexplained": "BIGINT",
        "other_traffic": "BIGINT",
        "p50_ns": "BIGINT", "p90_ns": "BIGINT", "p99_ns": "BIGINT", "p999_ns": "BIGINT", "max_ns": "BIGINT",
        "busy_cores": "DOUBLE", "cycles_per_packet": "DOUBLE", "generator_utilisation": "DOUBLE",
        "generator_missed": "BIGINT", "generator_link_out_gbps": "DOUBLE", "generator_link_in_gbps": "DOUBLE",
        "generator_late_latency": "BIGINT", "verdicts": "VARCHAR", "status": "VARCHAR",
        "reason": "VARCHAR"},
    "metrics": {
        "run": "VARCHAR", "point": "VARCHAR", "metric": "VARCHAR", "unit": "VARCHAR", "repeat": "INTEGER",
        "value": "DOUBLE", "at_least": "BOOLEAN", "higher_is_better": "BOOLEAN", "verdicts": "VARCHAR"},
}
#: What of each run's files was read: when it differs, the run is read again.
FILES = {"run": "VARCHAR", "stamp": "VARCHAR"}


def create_statements() -> list[str]:
    """SQL that makes the empty tables."""
    return [f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})"
            for name, columns in {**TABLES, "files": FILES}.items()]
