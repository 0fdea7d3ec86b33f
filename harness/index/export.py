# SPDX-License-Identifier: Apache-2.0
"""Tables of some runs in a file: CSV, Parquet, OpenMetrics text."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.index.fill import add_run
from harness.index.openmetrics import openmetrics
from harness.index.schema import create_statements
from harness.store import RunReader

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


@contextmanager
def indexed(readers: Sequence[RunReader]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the tables of these runs in memory. Raises UsageError when one cannot be read."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        for statement in create_statements():
            connection.execute(statement)
        for reader in readers:
            add_run(connection, reader.path)
        broken = connection.execute("SELECT problem FROM runs WHERE state = 'unreadable'").fetchall()
        if broken:
            raise UsageError(str(broken[0][0]))
        yield connection


def frame(readers: Sequence[RunReader], table: str) -> pd.DataFrame:
    """``trials``, ``points`` or ``metrics`` of these runs; columns as docs/results.md says. Trials carry their point's
    stack, parameters, cores and frame size, as ``harness.analysis.table.COLUMNS``."""
    if table == "trials":
        from harness.analysis.table import trials_table

        return trials_table(readers)
    with indexed(readers) as connection:
        return connection.execute(f"SELECT * FROM {_TABLES[table]}").df()


_TABLES = {"points": "points", "metrics": "metrics"}


def csv_text(readers: Sequence[RunReader], table: str) -> str:
    """A table as CSV; empty where there is no value."""
    return frame(readers, table).to_csv(index=False, lineterminator="\n")


def openmetrics_text(readers: Sequence[RunReader]) -> str:
    """The metrics of these runs for Prometheus."""
    with indexed(readers) as connection:
        return openmetrics(connection)


def write_parquet(readers: Sequence[RunReader], table: str, output: Path) -> None:
    """A table as a Parquet file, which is whole or not there. Raises OSError."""
    import duckdb

    rows = frame(readers, table)
    handle, name = tempfile.mkstemp(dir=output.absolute().parent, prefix=f".{output.name}.")
    os.close(handle)
    try:
        with duckdb.connect(":memory:") as connection:
            connection.register("exported", rows)
            connection.execute(f"COPY (SELECT * FROM exported) TO '{name.replace(chr(39), chr(39) * 2)}' "
                               "(FORMAT parquet, COMPRESSION zstd)")
        os.chmod(name, 0o644)
        os.replace(name, output)
    except BaseException:
        os.unlink(name)
        raise
