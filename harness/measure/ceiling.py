# SPDX-License-Identifier: Apache-2.0
"""What the generator itself can do on a wire, with the cheapest responder there is: its ceiling and its floor.

Ceiling: the most it sends and receives. Floor: the latency and jitter that frames show although hardly anything is
done to them, at a load that troubles nobody; no stack can be told to be faster than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.estimate import FLOODED_TRIALS, FLOOR_PPS, KEPT_TRIALS, has_floor
from harness.generator.contract import TrafficSpec
from harness.measure.point import Watcher
from harness.measure.trial import Bench, make_trial
from harness.plan import MeasureSettings
from harness.records import Floor, Phase, Trial

#: Rates tried where there is no line rate (role accept), connections/s.
_DOUBLING = tuple(4000.0 * 2**n for n in range(9))
#: Offered less than this share of such a rate: no pause of the machine's, the generator is at its end.
_FAR_BEHIND = 0.75


@dataclass(frozen=True)
class CeilingTrials:
    """``flooded``: asked for more than the generator can offer; ``kept``: for what those offered; ``floor``: with a
    latency stream, None where the role has no latency."""

    flooded: list[Trial]
    kept: list[Trial]
    floor: Trial | None

    def floor_latency(self) -> Floor | None:
        """The floor for the run's record; None when none was measured."""
        if self.floor is None or self.floor.latency is None:
            return None
        return Floor(load_pps=self.floor.asked_pps, trial=self.floor.number, percentiles=self.floor.latency)


def find_ceiling(bench: Bench, settings: MeasureSettings, watcher: Watcher) -> CeilingTrials:
    """Measure it, after a trial that only warms the path up. A generator that may take its time between frames sends
    fewer than one that never waits, and the searches ask for such loads: hence two kinds of trials. Raises
    GeneratorDied."""
    duration_s = settings.search.trial_s if settings.search else 1.0
    make = _Maker(bench, watcher)
    make.configure(0.0)
    flooded = list(_flood(make, duration_s))[1:]
    flooded = flooded if bench.point.line_rate_pps else flooded[-2:]
    offered = max(trial.offered_pps for trial in flooded)
    most = min(bench.point.line_rate_pps or offered, offered)
    kept = [make.trial(Phase.CEILING, most, duration_s) for _ in range(KEPT_TRIALS)]
    floor = None
    if has_floor(settings, bench.point):
        make.configure(settings.latency_pps)
        floor = make.trial(Phase.FLOOR, min(most, max(FLOOR_PPS, 2 * settings.latency_pps)), settings.latency_trial_s)
    return CeilingTrials(flooded, kept, floor)


def _flood(make: _Maker, duration_s: float) -> Iterator[Trial]:
    """A warm-up, then trials at line rate; where there is none at rates that double until the generator is far
    behind."""
    line_rate = make.bench.point.line_rate_pps
    yield make.trial(Phase.WARMUP, line_rate or _DOUBLING[0], duration_s)
    if line_rate:
        for _ in range(FLOODED_TRIALS):
            yield make.trial(Phase.CEILING, line_rate, duration_s)
        return
    for rate in _DOUBLING:
        trial = make.trial(Phase.CEILING, rate, duration_s)
        yield trial
        if trial.offered_pps < _FAR_BEHIND * rate:
            return


@dataclass(frozen=True)
class _Maker:
    bench: Bench
    watcher: Watcher

    def configure(self, latency_pps: float) -> None:
        point = self.bench.point
        self.bench.generator.configure(TrafficSpec(point.directions, point.frames, latency_pps))

    def trial(self, phase: Phase, rate_pps: float, duration_s: float) -> Trial:
        self.watcher.starting(phase, rate_pps, duration_s)
        trial = make_trial(self.bench, number=self.watcher.next_number(), repeat=0, phase=phase, attempt=0,
                           rate_pps=rate_pps, duration_s=duration_s)
        self.watcher.record(trial)
        return trial
