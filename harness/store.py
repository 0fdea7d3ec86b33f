# SPDX-License-Identifier: Apache-2.0
"""Run directories: ``results/<run-id>/`` with run.json, trials.jsonl, points.jsonl and logs/.

A run killed at any moment keeps every finished trial: each line reaches the disk before the next trial begins, and
run.json is replaced atomically. A complete run's files are read-only. Reading is strict about the schema version,
forgiving about a last line that was cut, and bounded in size.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from harness import owner, runfiles
from harness.errors import ResultsError, UsageError
from harness.migrations import migrated
from harness.records import PointOutcome, Resumption, RunInfo, Trial

RUN, TRIALS, POINTS, LOGS = "run.json", "trials.jsonl", "points.jsonl", "logs"
#: Folders of evidence, and what is in each.
ANOMALIES, EVIDENCE = f"{LOGS}/anomalies", "README.txt"
#: The most that is read of each file, bytes: all of it is held in memory.
MOST_BYTES = {RUN: 64 << 20, TRIALS: 1 << 30, POINTS: 256 << 20}
MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_LINES = 1_000_000
#: Remedy where a file of a run holds what no harness writes.
_DAMAGED = "the file is damaged: fetch the run again, or move its directory away"
#: Disk space kept back while a run is made, so that on a full disk it can still be marked as failed.
_RESERVE, _RESERVE_BYTES = ".reserve", 1024 * 1024

_Line = TypeVar("_Line", bound=BaseModel)


def now() -> str:
    """UTC time in ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_run_id(scenario: str) -> str:
    """``<UTC time>-<scenario>-<random>``: sorts by time, unique between two runs of one second."""
    safe = "".join(c if c.isalnum() or c == "-" else "-" for c in scenario)[:40]
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{safe}-{secrets.token_hex(2)}"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content such that a reader sees the old or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_named(path: Path, write: Callable[[], None]) -> None:
    """Let ``write`` write a file that a user named, in folders that need not be there yet. Raises UsageError where that
    cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}; name another file") from None


class RunWriter:
    """The run being made. One writer a run, held by a lock on its trials; use as a context manager.

    ``again``: go on with a run that ended before its last point. A last line that was cut is taken out of its files,
    finished lines never."""

    def __init__(self, path: Path, info: RunInfo, *, again: bool = False) -> None:
        self.path = path
        self.info = info
        info.owner = owner.this_process()
        with self._on_disk():
            if again:
                _check_ours(path)
            else:
                path.mkdir(parents=True)
            (path / LOGS).mkdir(exist_ok=again)
            self._trials = runfiles.appending(path, TRIALS)
            self._claim()
            self._points = runfiles.appending(path, POINTS)
            for stream in (self._trials, self._points):
                stream.truncate(_whole_lines(stream))
            self._free_reserve()
            with runfiles.created(path, _RESERVE) as reserve:
                os.posix_fallocate(reserve.fileno(), 0, _RESERVE_BYTES)
        self.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._free_reserve()
        self._trials.close()
        self._points.close()

    def _claim(self) -> None:
        try:
            fcntl.flock(self._trials, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._trials.close()
            raise UsageError(f"{self.path}: another process is making this run; wait until it has ended") from None

    def _free_reserve(self) -> None:
        (self.path / _RESERVE).unlink(missing_ok=True)

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """What the system refuses to write ends the run in words. Raises ResultsError."""
        try:
            yield
        except OSError as error:
            self._free_reserve()
            raise ResultsError(
                f"{self.path}: results cannot be written: {error.strerror or error}; the run ends here, what was "
                "written before is kept. Make room, or name another directory with --results, and run again"
            ) from error

    def save(self) -> None:
        """Write run.json as it stands. Raises ResultsError."""
        with self._on_disk():
            write_atomically(self.path / RUN, self.info.model_dump_json(indent=1) + "\n")

    def add_trial(self, trial: Trial) -> None:
        """Append a finished trial; on disk when this returns. Raises ResultsError."""
        with self._on_disk():
            _append(self._trials, trial)

    def add_outcome(self, outcome: PointOutcome) -> None:
        """Append what one repeat of a point came to; on disk when this returns. Raises ResultsError."""
        with self._on_disk():
            _append(self._points, outcome)

    def log(self, name: str, text: str) -> None:
        """Keep a log beside the numbers, e.g. of a stack that died. Raises ResultsError."""
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:100]
        with self._on_disk():
            with runfiles.replacing(self.path / LOGS, safe) as stream:
                stream.write(text.encode("utf-8", "replace"))

    def finish(self, state: str, exit_code: int) -> None:
        """Record how the run ended and make a complete one read-only."""
        self._free_reserve()
        self.info.ended_at, self.info.state, self.info.exit_code = now(), state, exit_code
        self.save()
        if state == "complete":
            with self._on_disk(), runfiles.reading(self.path, RUN) as run:
                for stream in (run, self._trials, self._points):
                    os.fchmod(stream.fileno(), 0o444)


def _check_ours(path: Path) -> None:
    """That nothing which a writer opens leads out of the run. Raises UsageError, before anything is changed."""
    for name in (RUN, TRIALS, POINTS, _RESERVE):
        runfiles.check(path / name, MOST_BYTES.get(name), writing=True)
    for folder in (path, path / LOGS, path / ANOMALIES):
        runfiles.check_folder(folder)


def _whole_lines(stream: IO[bytes]) -> int:
    """Length of a file up to the end of its last whole line, bytes."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - MAX_LINE_BYTES))
    tail = stream.read()
    return end - len(tail) + tail.rfind(b"\n") + 1


def _append(stream: IO[bytes], record: BaseModel) -> None:
    """One whole line or none."""
    before = os.fstat(stream.fileno()).st_size
    rest = memoryview(record.model_dump_json().encode() + b"\n")
    try:
        while rest:
            rest = rest[stream.write(rest):]
        os.fsync(stream.fileno())
    except OSError:
        stream.truncate(before)
        raise

#: How a reader ends what it says of a resumed run's abandoned trials.
LEFT_OUT = "made again when the run was resumed; left out."


class RunReader:
    """A run directory, opened for reading."""

    def __init__(self, path: Path) -> None:
        self.path = runfiles.own_path(path)
        there = [runfiles.check(self.path / name, most) for name, most in MOST_BYTES.items()]
        if not there[0]:
            raise UsageError(f"{path}: not a run directory (it has no {RUN}); see `harness results list`")
        self.info = self._info()
        if self.info.state == "running" and self.info.owner is not None and owner.gone(self.info.owner):
            self.info.state = "died"

    def _info(self) -> RunInfo:
        with runfiles.reading(self.path, RUN, MOST_BYTES[RUN]) as stream:
            return _parse(RunInfo, stream.read(MOST_BYTES[RUN]), str(self.path / RUN))

    def trials(self) -> Iterator[Trial]:
        """Every finished trial, in the order made, but for those of repeats that were begun again."""
        return (trial for trial in self.every_trial() if trial.number not in self.abandoned)

    @cached_property
    def abandoned(self) -> frozenset[int]:
        """Numbers of trials of repeats that were begun again; an older harness named one at every resumption since."""
        return frozenset(number for resumption in self.info.resumed for number in resumption.abandoned)

    def every_trial(self) -> Iterator[Trial]:
        """Every finished trial, in the order made."""
        return self._lines(TRIALS, Trial)

    def outcomes(self) -> Iterator[PointOutcome]:
        """Every finished repeat of a point, in the order made; an interrupted one only where it was not begun again."""
        found = list(self._lines(POINTS, PointOutcome))
        ended = {(outcome.repeat, outcome.point) for outcome in found if outcome.status != "interrupted"}
        last = {(outcome.repeat, outcome.point): index for index, outcome in enumerate(found)}
        for index, outcome in enumerate(found):
            key = outcome.repeat, outcome.point
            if outcome.status != "interrupted" or (key not in ended and last[key] == index):
                yield outcome

    def problems(self) -> tuple[str, ...]:
        """What is missing of the run because it did not end well, a sentence each."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        state = self.info.state
        if state == "died":
            yield "The run died (it was killed, or the machine stopped): what was measured until then is shown."
        elif state == "running":
            yield "The run is under way, or ended without a word: what was measured until now is shown."
        elif state != "complete":
            yield f"The run is marked “{state[:40]}”: what was measured until then is shown."
        for name in (TRIALS, POINTS):
            if not runfiles.check(self.path / name):
                yield f"There is no {name}: nothing was written to it."
            elif self.cut(name):
                yield f"The last line of {name} is cut short and was left out."
        if self.abandoned:
            yield f"{len(self.abandoned)} trials of points that had not ended were {LEFT_OUT}"

    def cut(self, name: str) -> bool:
        """Whether a file ends in the middle of a line."""
        with runfiles.reading(self.path, name) as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - 1))
            return end > 0 and stream.read(1) != b"\n"

    def _lines(self, name: str, model: type[_Line]) -> Iterator[_Line]:
        file = self.path / name
        if not runfiles.check(file):
            return
        with runfiles.reading(self.path, name, MOST_BYTES[name]) as stream:
            for number in range(1, _MAX_LINES + 1):
                line = stream.readline(MAX_LINE_BYTES)
                if not line:
                    return
                if not line.endswith(b"\n"):
                    if len(line) >= MAX_LINE_BYTES:
                        raise UsageError(f"{file}:{number}: a line longer than {MAX_LINE_BYTES} bytes")
                    return  # the run was killed while it wrote this line
                yield _parse(model, line, f"{file}:{number}")
        raise UsageError(f"{file}: more than {_MAX_LINES} lines")


def _parse(model: type[_Line], text: bytes, where: str) -> _Line:
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({error}); {_DAMAGED}") from error
    try:
        return model.model_validate(migrated(raw, where))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {place}: {first['msg']}; {_DAMAGED}") from error


class Store:
    """A directory of runs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check_writable(self) -> None:
        """Try that runs can be kept here, before anything else of one is done; leaves nothing behind.

        Raises UsageError."""
        there = next(place for place in (self.root, *self.root.absolute().parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise UsageError(f"{self.root}: results cannot be kept there: {error.strerror or error}; name a directory "
                             "that can be written to with --results") from error

    def create(self, info: RunInfo) -> RunWriter:
        """Begin a run; its directory is ``root/<run id>``."""
        return RunWriter(self.root / info.run_id, info)

    def reopen(self, reader: RunReader, resumption: Resumption) -> RunWriter:
        """Go on with a run that has ended. Raises UsageError while it is still being made."""
        info = reader.info
        ended = {"state": "running", "ended_at": None, "exit_code": None, "resumed": [*info.resumed, resumption]}
        return RunWriter(reader.path, info.model_copy(update=ended), again=True)

    def runs(self) -> list[Path]:
        """Run directories, oldest first; links are none of them."""
        if not self.root.is_dir():
            return []
        return sorted(p for p in self.root.iterdir() if not p.is_symlink() and runfiles.is_plain(p / RUN))

    @property
    def nothing(self) -> str:
        """What is said where no run is."""
        return f"there are no runs in {self.root}; `harness run SCENARIO` makes one, --results names another directory"

    def open(self, name: str) -> RunReader:
        """A run by id, unique beginning of an id, path, or ``latest``."""
        if Path(name).is_dir():
            return RunReader(Path(name))
        here = self.root / name
        if here.is_symlink() or os.path.lexists(here / RUN):
            return RunReader(here)  # also where it is none that is listed, which is then refused in words
        runs = self.runs()
        if not runs:
            raise UsageError(f"{name}: {self.nothing}")
        matches = runs[-1:] if name == "latest" else [p for p in runs if p.name.startswith(name)]
        exact = [p for p in matches if p.name == name]
        if not matches:
            raise UsageError(f"{name}: no run of that name in {self.root}; see `harness results list`")
        if len(matches) > 1 and not exact:
            raise UsageError(f"{name}: there are {len(matches)} runs whose names begin with that in {self.root}; give "
                             "more of the name, see `harness results list`")
        return RunReader((exact or matches)[0])
