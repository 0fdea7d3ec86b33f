# SPDX-License-Identifier: Apache-2.0
"""SQL over the index. It may come from anybody: it can read the four tables, and nothing else on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.index.schema import TABLES

if TYPE_CHECKING:
    import duckdb

MAX_ROWS = 1_000_000


@dataclass(frozen=True)
class Answer:
    """``rows`` in the order of ``columns``."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@contextmanager
def connected(index: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views runs, points, trials and metrics. No file is read or written through it but the
    index, no extension loaded, nothing spilt to disk, and no setting of it changed."""
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "2GB", "temp_directory": "",
                                            "autoinstall_known_extensions": False,
                                            "autoload_known_extensions": False}) as connection:
        name = str(index).replace("'", "''")
        connection.execute(f"ATTACH '{name}' AS results (READ_ONLY)")
        for table in TABLES:
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM results.{table}")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def ask(index: Path, sql: str) -> Answer:
    """The answer to one SELECT. Raises UsageError for anything else, and in DuckDB's words for what it refuses."""
    import duckdb

    with connected(index) as connection:
        try:
            statements = connection.extract_statements(sql)
            kinds = [statement.type for statement in statements]
            if len(kinds) != 1 or kinds[0] not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
                raise UsageError("one SELECT is answered (or WITH, DESCRIBE, EXPLAIN); tables: " + ", ".join(TABLES))
            result = connection.execute(statements[0])
            columns = tuple(str(column[0]) for column in result.description or ())
            rows = result.fetchmany(MAX_ROWS + 1)
        except duckdb.Error as error:
            raise UsageError(f"SQL: {str(error)[:1500]}\ntables and columns: docs/results.md, or "
                             "`harness results sql \"DESCRIBE metrics\"`") from None
    if len(rows) > MAX_ROWS:
        raise UsageError(f"more than {MAX_ROWS:,} rows; add LIMIT, or export with `harness results export`")
    return Answer(columns, rows)
