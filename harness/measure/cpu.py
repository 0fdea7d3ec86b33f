# SPDX-License-Identifier: Apache-2.0
"""CPU of a trial from the DUT agent's samples: per core and state, every core, samples wholly inside the trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.host.contract import CpuSample, Sampling
from harness.measure.accounting import BACKLOG, NO_SOCKET, SOCKET
from harness.measure.frequency import frequency, why_not
from harness.measure.places import DRIVER
from harness.plan import Role
from harness.records import CoreLoad, Cpu, Trial

#: Below this a figure is "indicative": ticks of 10 ms are too coarse (design.md, "CPU").
FULL_FIGURE_S = 2.0
#: Work on a core the stack was not given, as a share of that core, that makes the verdict ``extra-core``.
EXTRA_SHARE = 0.02

#: Share of frames that cost the DUT work without being counted above which there are no cycles per frame.
UNCOUNTED = 0.01
#: Where the kernel drops what it has worked on before a stack counts it.
_WORKED_ON = (DRIVER, BACKLOG, SOCKET, NO_SOCKET)

#: Samples have to cover this share of a trial for its CPU to be told.
COVERAGE = 0.5
#: Threads that are everybody's and nobody's: the kernel's own.
_KERNEL = ("ksoftirqd/", "kworker/", "migration/", "rcu", "napi/", "swapper", "idle_inject", "cpuhp/")

_STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def cpu_of_trial(
    sampling: Sampling, start_ns: int, end_ns: int, given: Sequence[int], duration_s: float,
    nominal_hz: float | None = None,
) -> Cpu | None:
    """Loads between the first and the last sample inside [start, end]; None when they cover less than half of it.
    ``nominal_hz``: base frequency of the cores."""
    inside = [s for s in sampling.samples if start_ns <= s.ns <= end_ns]
    if not inside or inside[-1].ns - inside[0].ns < COVERAGE * (end_ns - start_ns):
        return None
    first, last = inside[0], inside[-1]
    seconds = (last.ns - first.ns) / 1e9
    # A core that was taken off or put on line meanwhile has no figures.
    cores = [_core(core, first, last, seconds, core in given) for core in sorted(first.ticks.keys() & last.ticks)]
    for load in cores:
        if load.given:
            load.frequency = frequency(sampling.speed, inside, load.core, nominal_hz)
            load.throttled = sampling.speed.throttled.get(load.core)
    covered_s = (sampling.samples[-1].ns - sampling.samples[0].ns) / 1e9
    dearest = max(sampling.probe_costs.values(), default=None)
    return Cpu(
        indicative=duration_s < FULL_FIGURE_S, seconds=seconds, cores=cores,
        busy_cores=sum(c.busy for c in cores if c.given),
        frequency_source=why_not(sampling.speed, nominal_hz) or sampling.speed.source,
        sampling_cost=sampling.cost_s / covered_s if covered_s else None,
        probe_cost=dearest / covered_s if covered_s and dearest is not None else None,
    )


def _core(core: int, first: CpuSample, last: CpuSample, seconds: float, given: bool) -> CoreLoad:
    # The kernel lets iowait and steal fall at times, by a tick or so: time that did not pass is none.
    share = {s: max(0.0, last.ticks[core].get(s, 0.0) - first.ticks[core].get(s, 0.0)) / seconds for s in _STATES}
    run = None
    if first.run_ns is not None and last.run_ns is not None and core in first.run_ns.keys() & last.run_ns:
        run = (last.run_ns[core] - first.run_ns[core]) / 1e9 / seconds
    return CoreLoad(
        core=core, given=given, user=share["user"] + share["nice"], system=share["system"], irq=share["irq"],
        softirq=share["softirq"], steal=share["steal"], idle=share["idle"] + share["iowait"], run=run,
    )


def handled(trial: Trial, role: Role, stack: Mapping[str, int]) -> tuple[int, str]:
    """(frames that the DUT's work of a trial was for, or 0 with why that is not known). ``stack``: what rose of the
    stack's counters. What it received it worked on, also what it had to drop later. Without such a count what came back
    has to do, which at more than 1 % of loss says too much of each."""
    own = stack.get("received", 0) if role is not Role.ACCEPT else 0
    if own:
        uncounted = sum(trial.losses.get(place, 0) for place in _WORKED_ON) + max(0, trial.unexplained)
    else:
        own, uncounted = trial.received, max(0, trial.lost)
    if uncounted > UNCOUNTED * (own + uncounted):
        return 0, (f"no cycles per packet: the DUT worked on up to {uncounted:,} more that were lost, and how "
                   "far it got with them is not known")
    return own, ""


def add_cycles(cpu: Cpu, frames: int, nominal_hz: float | None, trial_s: float) -> None:
    """Cycles per frame handled by the DUT: busy time of the given cores x nominal frequency / frames.

    ``frames``: test frames the stack handled in the whole trial of ``trial_s`` seconds; scaled to the sampled part.
    """
    if not frames or not nominal_hz:
        return
    rate = frames / trial_s
    cpu.cycles_per_packet = cpu.busy_cores * nominal_hz / rate
    cpu.cycles_source = "time x nominal frequency"


def _thread_shares(sampling: Sampling) -> list[tuple[int, str, float]]:
    """(core, thread name, share of that core) of threads that did more than ``EXTRA_SHARE``, by core and name."""
    span = (sampling.samples[-1].ns - sampling.samples[0].ns) / 1e9
    shares = [(core, comm, seconds / span) for (core, comm), seconds in sampling.threads.items() if span]
    return sorted(found for found in shares if found[2] > EXTRA_SHARE)


def others(cpu: Cpu, sampling: Sampling, own_threads: Sequence[str]) -> list[str]:
    """Programs that are not the test's and were seen on the given cores, named with the time they took. It is not taken
    out of the cores' figures: a thread's time is known, on which core it was spent only where it was last seen."""
    given = {c.core for c in cpu.cores if c.given}
    return [f"core {core}: {comm} {100 * share:.1f} %" for core, comm, share in _thread_shares(sampling)
            if core in given and not comm.startswith((*own_threads, *_KERNEL))]


def extra_work(cpu: Cpu, sampling: Sampling, own_threads: Sequence[str], shared_cores: bool) -> list[str]:
    """Work found on cores the stack was not given, named. ``own_threads``: beginnings of the thread names that are
    the DUT's (its NAPI threads, its programs). ``shared_cores``: other hosts of the test share this machine's cores
    (the lab), so only those threads can be told apart; on a host of its own every core counts."""
    given = {c.core for c in cpu.cores if c.given}
    found = [
        f"core {core}: {comm} {100 * share:.1f} %" for core, comm, share in _thread_shares(sampling)
        if core not in given and comm.startswith(tuple(own_threads))
    ]
    if not shared_cores:
        found += [
            f"core {c.core}: {100 * c.busy:.1f} % busy" for c in cpu.cores if not c.given and c.busy > EXTRA_SHARE
        ]
    return found
