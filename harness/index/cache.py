# SPDX-License-Identifier: Apache-2.0
"""The index's file, ``<results>/.index/<version>.duckdb``, brought up to date before it is read.

One process at a time writes, into a copy that replaces the file when it is whole; a reader keeps the file it opened.
A run is read again when name, size or time of one of its files changed. Where runs may be read but nothing written,
the index is made in a temporary directory and lasts for one command.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness import __version__
from harness.errors import UsageError
from harness.index.schema import FILES, VERSION, create_statements
from harness.records import SCHEMA_VERSION
from harness.store import POINTS, RUN, TRIALS, Store, write_atomically

if TYPE_CHECKING:
    import duckdb

FOLDER = ".index"
#: What DuckDB may use while runs are read.
MEMORY = "1GB"
#: Stretches of histories whose change points are kept.
MOST_MEMOS = 20_000
Say = Callable[[str], None]


@contextmanager
def opened(store: Store, say: Say) -> Iterator[Path]:
    """The index of these runs, up to date, as the path of a DuckDB file. ``say`` is told what takes time.

    Raises UsageError when there is no run."""
    if not store.runs():
        raise UsageError(store.nothing)
    folder = store.root / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        say(f"{folder}: cannot be written; the index is made for this command only")
        with tempfile.TemporaryDirectory(prefix="netstack-harness-index-") as place:
            yield _updated(store, Path(place), say)
        return
    yield _updated(store, folder, say)


def _updated(store: Store, folder: Path, say: Say) -> Path:
    import duckdb

    file = folder / f"v{VERSION}-harness{__version__}-schema{SCHEMA_VERSION}-duckdb{duckdb.__version__}.duckdb"
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        now = {path.name: _stamp(path) for path in store.runs()}
        known = _known(file)
        if known is None or known != now:
            try:
                _rebuild(store, file, known or {}, now, say)
            except duckdb.Error as error:
                raise UsageError(f"{file}: the index cannot be made: {str(error)[:500]}") from error
    return file


def _stamp(path: Path) -> str:
    """Name, size, modification time and inode of each of a run's files."""
    parts = []
    for name in (RUN, TRIALS, POINTS):
        try:
            stat = (path / name).lstat()
        except OSError:
            parts.append(f"{name}:none")
        else:
            parts.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}")
    return " ".join(parts)


def _known(file: Path) -> dict[str, str] | None:
    """What the index holds; None where there is none that can be read. A run that was under way is looked at again:
    its process may have died without a word."""
    import duckdb

    if not file.is_file():
        return None
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            return dict(connection.execute("SELECT run, stamp FROM files WHERE run NOT IN (SELECT run FROM runs WHERE "
                                           "state = 'running')").fetchall())
    except duckdb.Error:
        return None


def _rebuild(store: Store, file: Path, known: dict[str, str], now: dict[str, str], say: Say) -> None:
    """Take out the runs that changed or are gone, read those that changed or are new."""
    import duckdb

    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".new-", suffix=".duckdb")
    os.close(handle)
    new = Path(name)
    try:
        if known:
            shutil.copyfile(file, new)
        else:
            new.unlink()
        with duckdb.connect(name, config={"memory_limit": MEMORY, "threads": 2}) as connection:
            if not known:
                for statement in create_statements():
                    connection.execute(statement)
            _replace_runs(connection, store, known, now, say)
        os.replace(new, file)
    finally:
        for left in (new, Path(f"{name}.wal")):
            left.unlink(missing_ok=True)


def _replace_runs(connection: duckdb.DuckDBPyConnection, store: Store, known: dict[str, str], now: dict[str, str],
                  say: Say) -> None:
    from harness.index.fill import add_run

    kept = [run for run, stamp in known.items() if now.get(run) == stamp]
    for table in ("runs", "points", "trials", "metrics", "files"):
        connection.execute(f"DELETE FROM {table} WHERE NOT list_contains(?::VARCHAR[], run)", [kept])
    fresh = sorted(set(now) - set(kept))
    for done, run in enumerate(fresh):
        if done % 100 == 0 and len(fresh) > 20:
            say(f"indexing {len(fresh):,} runs: {done:,} read")
        add_run(connection, store.root / run)
        connection.execute(f"INSERT INTO files ({', '.join(FILES)}) VALUES (?, ?)", [run, now[run]])


@contextmanager
def memo(index: Path) -> Iterator[dict[str, list[int]]]:
    """What was found about stretches of histories, kept beside the index; a file that cannot be read is begun anew."""
    file = index.with_name("jumps.json")
    try:
        found: dict[str, list[int]] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(at, list) and all(type(i) is int for i in at)
                                                  for at in found.values()):
            found = {}
    except (OSError, ValueError):
        found = {}
    before = len(found)
    yield found
    if len(found) != before:
        newest = dict(list(found.items())[-MOST_MEMOS:])
        write_atomically(file, json.dumps(newest))
