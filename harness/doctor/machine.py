# SPDX-License-Identifier: Apache-2.0
"""What else the host does, and its clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.doctor.contract import Finding, HostView, judged, listed, unknown

#: Share of a core that others may use, by the run times of threads; ticks of 10 ms are too coarse for so little.
_MOST, _MOST_TICKS = 0.05, 0.08
_FAST_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page", "timebase", "riscv_clocksource")
_AHEAD_S = 1.0


def load(host: HostView) -> Iterable[Finding]:
    """The cores are idle before anything is measured."""
    expected = f"less than {_MOST:.0%} of each of these cores"
    seconds = host.survey.at("load", "seconds")
    if not isinstance(seconds, float) or seconds <= 0:
        yield unknown("", expected, "the cores were not watched")
        return
    threads = [row for row in host.survey.rows("load", "threads")
               if isinstance(row, list) and len(row) == 3 and isinstance(row[2], float)]
    busy: dict[str, float] = {}
    for core in map(str, host.cores):
        ran = sum(row[2] for row in threads if str(row[0]) == core) / seconds
        ticks = host.survey.at("load", "shares", core)
        ticks = float(ticks) if isinstance(ticks, float | int) else 0.0
        busy[core] = max(ran, ticks if ticks > _MOST_TICKS else 0.0)
    most = max(busy.values(), default=0.0)
    loud = [f"core {core} {share:.0%}" for core, share in busy.items() if share > _MOST]
    names = [f"{str(row[1])[:40]} {row[2] / seconds:.0%}" for row in threads if row[2] / seconds > _MOST / 2]
    average = (host.survey.line("/proc/loadavg") or "?").split()[0]
    value = f"{listed(loud) or f'at most {most:.1%} of a core'}; load average {average}"
    yield judged("", value + (f"; {listed(names)}" if names else ""), expected, not loud,
                 "end these programs, or keep them on other cores")


def clock(host: HostView) -> Iterable[Finding]:
    """A clock source that is read quickly, the right time."""
    expected = f"{_FAST_CLOCKS[0]} or as fast, within {_AHEAD_S:g} s of this machine"
    source = host.survey.line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source is None:
        yield unknown("", expected, "the kernel does not tell its clock source")
        return
    told = host.survey.at("clock")
    kept = told.get("synchronised") if isinstance(told, Mapping) else None
    words = ("kept by NTP or PTP" if kept is True else "kept by nobody" if kept is False
             else "synchronisation not known")
    slow, wrong = source not in _FAST_CLOCKS, host.ahead_s is not None and abs(host.ahead_s) > _AHEAD_S
    away = "" if host.ahead_s is None else f", {host.ahead_s:+.1f} s" if abs(host.ahead_s) >= 0.05 else ", in step"
    yield judged("", f"{source}{away}, {words}", expected, not slow and not wrong,
                 "let chrony or systemd-timesyncd set the clock" if wrong else
                 "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
