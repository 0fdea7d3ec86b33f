# SPDX-License-Identifier: Apache-2.0
"""What should not be, and the evidence kept of it: a folder ``logs/anomalies/<point>-<repeat>-<kind>`` of the run.

Kinds: a failed role check, unexplained loss above 1 %, a latency maximum beyond 100 times the median without a pause, a
dead stack. At most one bundle a point and repeat, of the first. It is put together while the stack is still deployed,
after the measurement or where it failed: never between the trials of a search. What of it cannot be had is said in its
README.txt; nothing of it ends a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import MeasurementError, StackError
from harness.measure.evidence import Piece, captured_on_both_ends, kernel_log
from harness.measure.trial import Bench, Snapshot, snapshot
from harness.records import Anomaly, Phase, PointOutcome, Trial, Verdict
from harness.store import ANOMALIES, EVIDENCE, now

#: A latency maximum of so many medians is an outlier.
OUTLIER = 100
#: "interfaces", "system" and "stack" (None: it did not answer), as stored.
_Counters = Mapping[str, Any]
#: Of the stack's log.
_LOG_BYTES = 65_536


class Kind(StrEnum):
    """What should not be."""

    ROLE_CHECK = "role-check"
    UNEXPLAINED_LOSS = "unexplained-loss"
    LATENCY_OUTLIER = "latency-outlier"
    DEAD_STACK = "dead-stack"


def of_trial(trial: Trial) -> tuple[Kind, str] | None:
    """Kind of anomaly and a sentence about it; None for an ordinary trial, a warm-up, and one made again."""
    if trial.superseded or trial.phase is Phase.WARMUP:
        return None
    if Verdict.UNEXPLAINED_LOSS in trial.verdicts:
        return Kind.UNEXPLAINED_LOSS, f"{trial.unexplained:,} of {trial.sent:,} sent are lost, no counter says where"
    latency, pauses = trial.latency, trial.pauses
    paused = pauses is None or pauses.generator + pauses.dut > 0
    if latency is None or not latency.p50_ns or paused or latency.max_ns <= OUTLIER * latency.p50_ns:
        return None
    times = latency.max_ns / latency.p50_ns
    return Kind.LATENCY_OUTLIER, (f"the latency's maximum of {latency.max_ns:,} ns is {times:.0f} times its median of "
                                  f"{latency.p50_ns:,} ns, and no core stood still")


@dataclass
class _Found:
    kind: Kind
    what: str
    before: _Counters | None
    after: _Counters | None
    trial: Trial | None = None


@dataclass
class Watchdog:
    """Looks at everything that happens at one deployed point, and keeps the first anomaly."""

    bench: Bench
    found: _Found | None = None

    def look(self, trial: Trial) -> None:
        """At a trial that has just been made."""
        anomaly = of_trial(trial)
        if anomaly is not None and self.found is None:
            self.found = _Found(*anomaly, _counters(self.bench.before), _counters(self.bench.after), trial)

    @contextmanager
    def role_check(self) -> Iterator[None]:
        """Around the role check."""
        before = _read(self.bench)
        try:
            yield
        except StackError as error:
            self.found = _Found(Kind.ROLE_CHECK, str(error), before, _read(self.bench))
            raise

    def failed(self, error: MeasurementError) -> None:
        """A measurement ended with this: a dead stack, which counts for more than a trial that was odd before it, or
        something that tells of itself."""
        if not isinstance(error, StackError) or (self.found is not None and self.found.trial is None):
            return
        try:
            self.bench.stack.check_alive()
        except MeasurementError:
            last = self.bench.after or self.bench.before
            self.found = _Found(Kind.DEAD_STACK, str(error), _counters(last), _read(self.bench))


@contextmanager
def watched(bench: Bench, outcome: PointOutcome, run: Path) -> Iterator[Watchdog]:
    """Watch a deployed point; at the end of the block, or where it fails, the bundle is written into the run's
    directory and named in the outcome, which also gets the log's tail of a point that failed."""
    watchdog = Watchdog(bench)
    try:
        yield watchdog
    except MeasurementError as error:
        outcome.log_tail = bench.stack.log_tail()
        watchdog.failed(error)
        _keep(watchdog, outcome, run)
        raise
    _keep(watchdog, outcome, run)


def _read(bench: Bench) -> _Counters | None:
    """The counters now, of a dead stack without its own; None where the host does not give them either."""
    try:
        return _counters(snapshot(bench, settled=False))
    except StackError:
        pass
    except MeasurementError:
        return None
    try:
        return {"interfaces": bench.probe.interface_counters(bench.ifnames), "system": bench.dut.system_counters(),
                "stack": None}
    except MeasurementError:
        return None


def _keep(watchdog: Watchdog, outcome: PointOutcome, run: Path) -> None:
    found = watchdog.found
    if found is None:
        return
    name = f"{outcome.point}-{outcome.repeat}-{found.kind}"
    number = found.trial.number if found.trial else None
    outcome.anomaly = anomaly = Anomaly(kind=found.kind, what=found.what[:2000], trial=number, folder="")
    try:
        folder = _new_folder(run / ANOMALIES, name)
        anomaly.folder = folder.name
        _Bundle(folder, found, watchdog.bench).write(outcome)
    except OSError as error:
        anomaly.what += f" (not all evidence could be kept: {error.strerror or error})"


def _new_folder(parent: Path, name: str) -> Path:
    """A folder of this name, or with a number behind it where a run that was resumed has one already."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.=") else "_" for c in name)[-150:].lstrip(".")
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = parent / (safe if number == 1 else f"{safe}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{parent / safe}: too many folders of this name")


@dataclass
class _Bundle:
    """The folder being filled. ``said``: a line about each file, had or not."""

    folder: Path
    found: _Found
    bench: Bench
    said: list[str] = field(default_factory=list)

    def write(self, outcome: PointOutcome) -> None:
        """Everything that can be had. Raises OSError when the folder cannot be written to."""
        found = self.found
        try:
            self._counters("before", found.before)
            self._counters("after", found.after)
            if found.trial is not None:
                trial = found.trial.model_dump(mode="json", exclude={"latency": {"histogram"}})
                self._file("trial.json", "the trial's record", lambda: _json(trial))
            dut = self.bench.dut
            self._file("dmesg.txt", "the end of the DUT's kernel log", lambda: kernel_log(dut))
            self._file("stack.log", "the end of the stack's log", lambda: self.bench.stack.log_tail()[-_LOG_BYTES:])
            for piece in captured_on_both_ends(self.bench):
                self._piece(piece)
        finally:  # also when the host is lost in the middle: what there is, is described
            (self.folder / EVIDENCE).write_text(self._readme(outcome), encoding="utf-8", errors="replace")

    def _counters(self, when: str, taken: _Counters | None) -> None:
        stack = "interfaces and system" if taken and taken["stack"] is None else "interfaces, system and stack"
        name, what = f"counters-{when}.json", f"{stack} {when}"
        if taken is None:
            self._piece(Piece(name, what, missing="they were not read, or the host did not answer"))
        else:
            self._file(name, what, lambda: _json(taken))

    def _file(self, name: str, what: str, get: Callable[[], str]) -> None:
        try:
            self._piece(Piece(name, what, get().encode("utf-8", "replace")))
        except MeasurementError as error:
            self._piece(Piece(name, what, missing=str(error)))

    def _piece(self, piece: Piece) -> None:
        if piece.content:
            (self.folder / piece.name).write_bytes(piece.content)
            self.said.append(f"{piece.name}: {piece.what} ({len(piece.content):,} bytes)")
        else:
            missing = f"could not be had: {piece.missing}" if piece.missing else "empty"
            self.said.append(f"{piece.name}: {piece.what}: {missing}")

    def _readme(self, outcome: PointOutcome) -> str:
        point, found = self.bench.point, self.found
        where = f"{outcome.point} ({point.label}) on {point.host}, repeat {outcome.repeat}"
        trial = str(found.trial.number) if found.trial else "none"
        head = [f"Anomaly: {found.kind}", f"Point: {where}", f"Trial: {trial}", f"Written: {now()}", "", found.what]
        text = "\n".join([*head, "", *self.said]) + "\n"
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _counters(taken: Snapshot | None) -> _Counters | None:
    if taken is None:
        return None
    stack = {"totals": dict(taken.counters.totals), "workers": [dict(w) for w in taken.counters.per_worker],
             "losses": dict(taken.counters.losses)}
    interfaces = {name: dict(counters) for name, counters in taken.readings.dut.items()}
    return {"interfaces": interfaces, "system": dict(taken.readings.system), "stack": stack}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
