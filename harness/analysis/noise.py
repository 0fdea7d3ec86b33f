# SPDX-License-Identifier: Apache-2.0
"""Why repeats of a point may differ: what its trials and its host recorded that changes results from trial to trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.records import Phase, Trial, Verdict

#: Share of a given core's time that the hypervisor took, below which it is no cause.
_STEAL = 0.005
_SEARCHED = (Phase.SEARCH, Phase.LATENCY, Phase.LOAD)


class Cause(StrEnum):
    """What may be behind noise."""

    PAUSES = "pauses"
    STEAL = "steal"
    OTHER_LOAD = "other load"
    FREQUENCY = "frequency"


@dataclass(frozen=True)
class Suspect:
    """``trials`` of ``of`` show it. ``worst``: longest pause, ns; largest share stolen of a given core, 0..1.
    ``names``: programs, most frequent first; what lets the frequency change."""

    cause: Cause
    trials: int = 0
    of: int = 0
    worst: float = 0.0
    names: tuple[str, ...] = ()


def suspects(trials: Iterable[Trial], facts: object = None) -> tuple[Suspect, ...]:
    """Of the trials of one point, ceiling and warm-up left out, and the recorded facts of its host."""
    made = [trial for trial in trials if trial.phase in _SEARCHED]
    return tuple([*_pauses(made), *_steal(made), *_other(made), *_frequency(facts)])


def _pauses(trials: Sequence[Trial]) -> Iterator[Suspect]:
    """Trials that a pause changed: the verdict says so, or they were made again for one."""
    hit = [trial for trial in trials if trial.spoilt or Verdict.PAUSED in trial.verdicts]
    if hit:
        worst = max((trial.pauses.longest_ns for trial in hit if trial.pauses is not None), default=0)
        yield Suspect(Cause.PAUSES, len(hit), len(trials), worst)


def _steal(trials: Sequence[Trial]) -> Iterator[Suspect]:
    shares = [max((core.steal for core in trial.cpu.cores if core.given), default=0.0)
              for trial in trials if trial.cpu is not None]
    hit = [share for share in shares if share >= _STEAL]
    if hit:
        yield Suspect(Cause.STEAL, len(hit), len(shares), max(hit))


def _other(trials: Sequence[Trial]) -> Iterator[Suspect]:
    hit = [trial for trial in trials if (trial.cpu is not None and trial.cpu.other)
           or Verdict.OTHER_LOAD in trial.verdicts]
    if hit:
        seen = Counter(program(text) for trial in hit if trial.cpu is not None for text in trial.cpu.other)
        yield Suspect(Cause.OTHER_LOAD, len(hit), len(trials), names=tuple(name for name, _ in seen.most_common(3)))


def program(text: str) -> str:
    """The program of "core 1: name 5.2 %", as a trial records other work."""
    return text.partition(": ")[2].removesuffix(" %").rpartition(" ")[0] or text


def _frequency(facts: object) -> Iterator[Suspect]:
    """A trial does not record its frequency; whether it could change is known of the host."""
    cpu = facts.get("cpu") if isinstance(facts, Mapping) else None
    cpu = cpu if isinstance(cpu, Mapping) else {}
    governor, turbo = cpu.get("governor"), cpu.get("turbo")
    names = [f"governor {governor}"] if isinstance(governor, str) and governor != "performance" else []
    names += ["turbo on"] if turbo is True else []
    if names:
        yield Suspect(Cause.FREQUENCY, names=tuple(names))
