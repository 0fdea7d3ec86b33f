# SPDX-License-Identifier: Apache-2.0
"""What stacks and the measurement may do on a DUT. Everything that changes it goes through the agent's journal.

Implemented by :mod:`harness.host.dut` over SSH and the DUT agent. argv lists everywhere: no shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Completed:
    """A finished command. Output is text, bounded to 1 MiB each; longer output is an error, not silence."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass
class CpuSample:
    """One reading of every core: ``ns`` CLOCK_MONOTONIC of that host; ``ticks``: per core, state -> seconds spent
    (user, nice, system, idle, iowait, irq, softirq, steal) from /proc/stat; ``run_ns``: per core, time tasks ran
    (schedstat), finer than ticks, None where the kernel has none. ``speed``: per core, what ``Sampling.speed`` tells
    of: (APERF, MPERF), or (kHz, 0)."""

    ns: int
    ticks: dict[int, dict[str, float]]
    run_ns: dict[int, int] | None
    speed: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """Where the samples' speed comes from: ``source`` "APERF/MPERF" (counters of each core, whose ratio times the base
    frequency is the mean frequency of its time out of idle), "scaling_cur_freq" (kHz), or "" for a ``reason``.
    ``throttled``: core -> times that it or its package was throttled meanwhile, of cores that count it."""

    source: str = ""
    reason: str = "the host was not asked"
    throttled: Mapping[int, int] = field(default_factory=dict)


@dataclass
class Sampling:
    """What the agent recorded between ``start_sampling`` and ``stop_sampling``.

    ``pauses``: (start ns, length ns, core) during which a core of the probe stood still. ``cost_s``: CPU seconds that
    the agent itself and all its probes used, ``probe_costs``: probed core -> those of its probe. ``threads``: (core,
    comm) -> seconds of run time of threads seen on that core, for naming extra work. ``probe_periods``: probed core ->
    seconds between two looks; a pause is surely seen when it is longer than that plus 250 us, shorter ones by chance,
    and it may have begun up to one period before its start. ``wall_offset_ns``: the wall clock less the time since
    boot, at the beginning and at the end; they differ by more than a creep when somebody set the clock."""

    samples: list[CpuSample]
    pauses: list[tuple[int, int, int]]
    cost_s: float
    threads: dict[tuple[int, str], float] = field(default_factory=dict)
    probe_periods: dict[int, float] = field(default_factory=dict)
    probe_costs: dict[int, float] = field(default_factory=dict)
    speed: Speed = Speed()
    wall_offset_ns: tuple[int, int] | None = None


class RemoteProcess(Protocol):
    """A process the agent started in its own session, on the journal: ended on undo (INT, TERM, KILL)."""

    pid: int

    def alive(self) -> bool:
        """Whether it still runs."""

    def returncode(self) -> int | None:
        """Exit status once it has ended."""

    def write(self, text: str) -> None:
        """Write to its stdin (a control line of an interactive program)."""

    def output(self, tail_bytes: int = 65536) -> str:
        """The last bytes of its combined stdout and stderr."""

    def wait_output(self, pattern: str, timeout_s: float) -> str:
        """Wait until a line matches the regular expression and return that line; raises HostError with the output's
        tail when the process ends or the deadline passes first."""

    def stop(self, timeout_s: float = 5.0) -> int | None:
        """INT, TERM, KILL in turn; returns the exit status. Idempotent."""


class Dut(Protocol):
    """A device under test."""

    name: str
    #: True: namespaces of this machine. Stacks may choose virtual drivers by it, nothing else.
    virtual: bool

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True, stdin: str = "") -> Completed:
        """Run to completion. ``check``: a non-zero status is a HostError with the output's tail."""

    def which(self, program: str) -> str | None:
        """Absolute path of a program, or None."""

    def read(self, path: str, default: str | None = None) -> str:
        """Text of a small file (at most 1 MiB, /proc and /sys included)."""

    def exists(self, path: str) -> bool:
        """Whether a path exists."""

    def set_file(self, path: str, value: str, *, verify: bool = True) -> None:
        """Write a sysctl or sysfs value; the old one is journalled, the new one read back, undo restores and checks."""

    def apply(self, do: Sequence[str], undo: Sequence[str], *, made: Sequence[str] = ()) -> Completed:
        """Run ``do`` after journalling ``undo``. When ``do`` fails, ``undo`` is run at once, for what it may have done
        by halves, and may fail. After a crash nobody knows how far ``do`` came: ``undo`` must succeed or be harmless
        when it never ran; where it cannot, ``made`` is a command that ends with status 0 only while there is something
        to undo."""

    def program(self, source: Path, target: str, *, beside: Sequence[Path] = ()) -> str:
        """Deploy a source folder (with a Makefile), and in it each folder of ``beside`` under its own name, under their
        content's hash, ``make target`` there when absent, and return the absolute path of the built file."""

    def spawn(self, argv: Sequence[str], *, name: str, cores: Sequence[int] = (), env: Mapping[str, str] | None = None,
              ) -> RemoteProcess:
        """Start a long-running program, pinned to ``cores`` when given."""

    def pin(self, pid: int, core: int, *, fifo: int = 0) -> None:
        """Pin a thread (journalled) and, with fifo > 0, make it SCHED_FIFO at that priority."""

    def napi_threads(self, ifname: str) -> Mapping[int, int]:
        """NAPI id -> pid of the threaded NAPI kthreads of an interface (empty when not threaded)."""

    def keep_napi(self, ifname: str) -> None:
        """Journal where the threaded NAPI kthreads of an interface run (cores, policy, priority; nothing when it is not
        threaded): undo gives that to the threads that are there then. Drivers start new ones, anywhere, with every
        change of queues, rings and some features, so call it before such a change."""

    def undo_mark(self) -> int:
        """The journal's present length."""

    def undo_to(self, mark: int) -> None:
        """Undo every change made since the mark, newest first, past failures; raises HostNotRestored listing
        those, which ends the run."""

    def interface_counters(self, ifnames: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """ethtool -S and /sys/class/net/*/statistics of each interface, and what its queueing discipline dropped
        (``qdisc.KIND@HANDLE:.drops``, 32 bits; missing where the kernel does not tell)."""

    def system_counters(self) -> Mapping[str, int]:
        """/proc/net/snmp (udp.InDatagrams ...), netstat and softnet_stat (per core, ``softnet.N.dropped``)."""

    def start_sampling(self, period_s: float, probe_cores: Sequence[int]) -> None:
        """Start CPU samples and the pause probe in the agent; returns once the first sample is taken. Until
        ``stop_sampling`` the host hears no more than the lease needs: nothing for 3 s, then a heartbeat each 3 s."""

    def stop_sampling(self) -> Sampling:
        """Stop and return what was recorded."""

    def facts(self) -> Mapping[str, Any]:
        """Environment of the host, for run.json (kernel, CPU, NICs, mitigations, command line, ...)."""
