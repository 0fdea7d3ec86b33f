# SPDX-License-Identifier: Apache-2.0
"""The runs that a gate compares with: one that is named, or the newest of a directory that are comparable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis import environment
from harness.analysis.compare import unlike
from harness.errors import UsageError
from harness.records import RunInfo
from harness.rundata import RunData, load_run
from harness.store import RUN, RunReader, Store

#: File in a directory of runs, a run id a line: that run begins the baseline of its scenario, older ones are left out.
FROM = "baseline-from"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Baseline:
    """``runs``: newest first. ``differences`` of environments, only with ``across``. ``notes``: runs of the directory
    that could not be read."""

    runs: tuple[RunData, ...]
    differences: tuple[environment.Difference, ...]
    notes: tuple[str, ...]


def need_complete(run: RunData) -> RunData:
    """The run, when it came to its end. Raises UsageError."""
    if run.info.state != "complete":
        raise UsageError(f"{run.path}: this run is {run.info.state}, not complete; a gate takes complete runs "
                         "(`harness compare` also takes others)")
    return run


def find(run: RunData, name: str, store: Store, *, last: int = 1, across: bool = False) -> Baseline:
    """``name``: a run, or a directory of runs. Raises UsageError, in words for what is wrong with the baseline."""
    folder = Path(name)
    if folder.is_dir() and not (folder / RUN).is_file():
        return _newest(run, folder, last, across=across)
    if last > 1:
        raise UsageError(f"{name} is one run; --last {last} takes a directory of runs as baseline")
    found = need_complete(load_run(store.open(name).path))
    if found.info.run_id == run.info.run_id:
        raise UsageError(f"{name} is the run itself; name an earlier one, or a directory, as baseline")
    return Baseline((found,), unlike(found, run, across=across), ())


def _newest(run: RunData, folder: Path, last: int, *, across: bool) -> Baseline:
    notes: list[str] = []
    seen: list[str] = []
    chosen: list[RunData] = []
    apart: dict[str, environment.Difference] = {}
    for info, path in _candidates(run, folder, notes):
        differs = environment.differences(info, run.info)
        if info.state != "complete" or (differs and not across):
            seen.append(f"{info.run_id}: " + (f"{info.state}, not complete" if info.state != "complete" else
                                              f"differs in {_items(differs)}"))
            continue
        chosen.append(load_run(path))
        apart.update({item.item: item for item in differs})
        if len(chosen) == last:
            break
    if not chosen:
        raise UsageError(_none(run, folder, seen + notes))
    if len(chosen) < last:
        notes.append(f"{folder}: {len(chosen)} comparable complete run{'' if len(chosen) == 1 else 's'}, {last} asked "
                     "for")
    return Baseline(tuple(chosen), tuple(apart.values()), tuple(notes))


def _candidates(run: RunData, folder: Path, notes: list[str]) -> Iterator[tuple[RunInfo, Path]]:
    """Runs of the same scenario begun before this one, newest first."""
    infos: list[tuple[RunInfo, Path]] = []
    for path in Store(folder).runs():
        try:
            info = RunReader(path).info
        except UsageError as error:
            notes.append(f"left out: {error}")
            continue
        infos.append((info, path))
    since = _since(run, folder, [info for info, _ in infos])
    earlier = [(info, path) for info, path in infos if _earlier(info, run)]
    kept = [(info, path) for info, path in earlier if since is None or info.started_at >= since.started_at]
    if since is not None and len(kept) < len(earlier):
        notes.append(f"the baseline begins with {since.run_id} ({folder / FROM}): {len(earlier) - len(kept)} older "
                     "left out")
    return iter(sorted(kept, key=lambda entry: entry[0].started_at, reverse=True))


def _earlier(info: RunInfo, run: RunData) -> bool:
    return (info.run_id != run.info.run_id and info.started_at < run.info.started_at
            and info.plan.get("scenario") == run.plan.scenario)


def _since(run: RunData, folder: Path, infos: Sequence[RunInfo]) -> RunInfo | None:
    """The newest run of the scenario, not newer than this one, that the directory's FROM names; None without one.
    Raises UsageError for a file that names what is not there: older runs would come back unnoticed."""
    file = folder / FROM
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{file}: too large; it holds the id of a run a line")
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    known = {info.run_id: info for info in (*infos, run.info)}
    named = [line.strip() for line in lines if line.strip()]
    gone = next((name for name in named if name not in known), None)
    if gone is not None:
        raise UsageError(f"{file}: {gone[:80]!r} is no run in {folder} that can be read; put it back, or take the line "
                         "out")
    begun = [known[name] for name in named if known[name].run_id == run.info.run_id or _earlier(known[name], run)]
    return max(begun, key=lambda info: info.started_at, default=None)


def _items(differs: list[environment.Difference]) -> str:
    named = ", ".join(f"{item.item} ({item.a} | {item.b})" for item in differs[:3])
    return named + (f" and {len(differs) - 3} more" if len(differs) > 3 else "")


def _none(run: RunData, folder: Path, seen: list[str]) -> str:
    if not seen:
        return (f"{folder}: no run of scenario {run.plan.scenario} begun before {run.info.run_id}, so nothing to gate "
                "against; the first run of a testbed is its baseline: keep it there and run again")
    shown = "\n".join(f"  {line}" for line in seen[:5])
    return (f"{folder}: no comparable complete run of scenario {run.plan.scenario}:\n{shown}\n"
            "measure a baseline on this testbed with these settings, or say --across to gate all the same")
