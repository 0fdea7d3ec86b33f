# SPDX-License-Identifier: Apache-2.0
"""Why repeats of a point may differ: what its trials and its host recorded that changes results from trial to trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from harness.records import Frequency, Phase, Trial, Verdict

#: Share of a given core's time that the hypervisor took, below which it is no cause.
_STEAL = 0.005
#: Difference of a core's frequency, relative to its middle over the point's trials, beyond which it has changed: less
#: than one step of 100 MHz, and well below the 5 % that ``noisy`` begins at.
_FREQUENCY = 0.02
#: Share of a trial that a core has to be at work for its frequency to matter.
_AT_WORK = 0.1
_SEARCHED = (Phase.SEARCH, Phase.LATENCY, Phase.LOAD)


class Cause(StrEnum):
    """What may be behind noise."""

    PAUSES = "pauses"
    STEAL = "steal"
    OTHER_LOAD = "other load"
    FREQUENCY = "frequency"
    THROTTLING = "throttling"


@dataclass(frozen=True)
class Suspect:
    """``trials`` of ``of`` show it. ``worst``: longest pause, ns; largest share stolen of a given core, 0..1; largest
    difference of a core's frequency from its middle, relative to that. ``names``: programs, most frequent first; where
    no trial tells the frequency (``of`` 0), what lets it change."""

    cause: Cause
    trials: int = 0
    of: int = 0
    worst: float = 0.0
    names: tuple[str, ...] = ()


def suspects(trials: Iterable[Trial], facts: object = None) -> tuple[Suspect, ...]:
    """Of the trials of one point, ceiling and warm-up left out, and the recorded facts of its host."""
    made = [trial for trial in trials if trial.phase in _SEARCHED]
    return tuple([*_pauses(made), *_steal(made), *_other(made), *_throttling(made),
                  *(_frequency(made) if _told(made) else _may_change(facts))])


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


def _throttling(trials: Sequence[Trial]) -> Iterator[Suspect]:
    counts = [[core.throttled for core in trial.cpu.cores if core.throttled is not None] for trial in trials
              if trial.cpu is not None]
    known = [sum(count) for count in counts if count]
    if any(known):
        yield Suspect(Cause.THROTTLING, sum(count > 0 for count in known), len(known))


def _at_work(trial: Trial) -> Mapping[int, Frequency]:
    """Core -> frequency, of the cores that did something."""
    cores = trial.cpu.cores if trial.cpu is not None else ()
    return {core.core: core.frequency for core in cores if core.frequency is not None and core.busy >= _AT_WORK}


def _told(trials: Sequence[Trial]) -> bool:
    return any(_at_work(trial) for trial in trials)


def _frequency(trials: Sequence[Trial]) -> Iterator[Suspect]:
    """Trials in which a core at work ran slower or faster than in the middle one of this point, at any time."""
    every = [found for trial in trials if (found := _at_work(trial))]
    means: dict[int, list[float]] = {}
    for found in every:
        for core, frequency in found.items():
            means.setdefault(core, []).append(frequency.mean_hz)
    middle = {core: median(values) for core, values in means.items()}
    worst = [max(abs(hz / middle[core] - 1) for core, f in found.items() for hz in (f.mean_hz, f.least_hz, f.most_hz))
             for found in every]
    hit = [difference for difference in worst if difference > _FREQUENCY]
    if hit:
        yield Suspect(Cause.FREQUENCY, len(hit), len(every), max(hit))


def _may_change(facts: object) -> Iterator[Suspect]:
    """Where no trial tells the frequency: whether it could change is known of the host."""
    cpu = facts.get("cpu") if isinstance(facts, Mapping) else None
    cpu = cpu if isinstance(cpu, Mapping) else {}
    governor, turbo = cpu.get("governor"), cpu.get("turbo")
    names = [f"governor {governor}"] if isinstance(governor, str) and governor != "performance" else []
    names += ["turbo on"] if turbo is True else []
    if names:
        yield Suspect(Cause.FREQUENCY, names=tuple(names))
