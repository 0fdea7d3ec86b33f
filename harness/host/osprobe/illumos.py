# SPDX-License-Identifier: Apache-2.0
"""illumos (and Solaris): ``kstat -p`` and ``mpstat -p``.

kstat prints ``module:instance:name:statistic<TAB>value``. cpu:N:sys holds each core's times in nanoseconds since boot;
its cpu_nsec_intr is the latest value only, no sum (usr/src/uts/common/os/cpu.c), and the time of interrupts is in
cpu_nsec_kernel, so the state irq is not told apart here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.host.contract import CpuSample
from harness.host.osprobe.contract import Runs

MOST_CORES = 4096
_ROW = re.compile(r"([a-z0-9_]{1,64}):([0-9]{1,5}):([^:\s]{1,64}):([A-Za-z0-9_]{1,64})\s+(\S{1,64})")
_STATES = {"cpu_nsec_user": "user", "cpu_nsec_kernel": "system", "cpu_nsec_idle": "idle"}
#: Statistic of a link -> Linux's name. The ones with 64 do not wrap.
_LINK = {"ipackets64": "rx_packets", "opackets64": "tx_packets", "rbytes64": "rx_bytes", "obytes64": "tx_bytes",
         "ierrors": "rx_errors", "oerrors": "tx_errors", "norcvbuf": "rx_dropped", "noxmtbuf": "tx_dropped"}


@dataclass(frozen=True)
class MpstatRow:
    """One core in ``mpstat -p``: its processor set (-1: none), shares of time 0..1, in whole percents."""

    processor_set: int
    user: float
    system: float
    idle: float


class Illumos:
    """Commands of illumos."""

    name = "illumos"

    def read_cpu(self, host: Runs) -> CpuSample:
        return cpu_times(host.run(["kstat", "-p", "-m", "cpu", "-n", "sys"]).stdout)

    def read_interface(self, host: Runs, ifname: str) -> Mapping[str, int]:
        return link(host.run(["kstat", "-p", "-m", "link", "-n", ifname], check=False).stdout, ifname)

    def processor_sets(self, host: Runs) -> Mapping[int, int]:
        """Core -> processor set for cores in one: nothing but what is bound to the set runs there, and what is bound to
        the set runs nowhere else."""
        rows = mpstat(host.run(["mpstat", "-p"]).stdout)
        return {core: row.processor_set for core, row in rows.items() if row.processor_set >= 0}


def _rows(text: str) -> Iterator[tuple[str, int, str, str, str]]:
    """(module, instance, name, statistic, value) of each line."""
    for line in text.splitlines():
        match = _ROW.fullmatch(line.strip()) if len(line) <= 400 else None
        if match:
            yield match[1], int(match[2]), match[3], match[4], match[5]


def cpu_times(text: str) -> CpuSample:
    """Every core's seconds since boot by state, from ``kstat -p -m cpu -n sys``; the time of the reading is its latest
    snaptime. ValueError when a core's times or the snaptime are missing."""
    cores: dict[int, dict[str, float]] = {}
    taken = 0.0
    for module, core, name, statistic, value in _rows(text):
        if (module, name) != ("cpu", "sys"):
            continue
        if statistic == "snaptime" and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", value):
            taken = max(taken, float(value))
        if statistic in _STATES and value.isdecimal() and len(value) <= 20:
            cores.setdefault(core, {})[_STATES[statistic]] = int(value) / 1e9
    incomplete = [core for core, states in cores.items() if len(states) != len(_STATES)]
    if not cores or incomplete or not taken or len(cores) > MOST_CORES:
        raise ValueError(f"kstat told the times of {len(cores)} cores ({len(incomplete)} incomplete) at {taken:g} s; "
                         "cpu:N:sys needs snaptime, cpu_nsec_user, _kernel and _idle of each")
    return CpuSample(ns=round(taken * 1e9), ticks=cores, run_ns=None)


def link(text: str, ifname: str) -> dict[str, int]:
    """Counters of a link from ``kstat -p -m link -n IFNAME``. ValueError when it has none."""
    found = {_LINK[statistic]: int(value) for module, _, name, statistic, value in _rows(text)
             if (module, name) == ("link", ifname) and statistic in _LINK and value.isdecimal()}
    if "rx_packets" not in found or "tx_packets" not in found:
        raise ValueError(f"kstat has no link {ifname}; `dladm show-link` names them")
    return found


_MPSTAT = {"CPU", "usr", "sys", "idl", "set"}


def mpstat(text: str) -> dict[int, MpstatRow]:
    """Core -> its row in the last table of ``mpstat -p`` (the first is since boot). ValueError without a table.

    Between tables mpstat says when processors move (``<<processor 3 moved from pset: -1 to: 1>>``): passed over."""
    header: list[str] = []
    rows: dict[int, MpstatRow] = {}
    for line in text.splitlines():
        cells = line.split()
        if cells[:1] == ["CPU"]:
            header, rows = (cells if set(cells) >= _MPSTAT else []), {}
        elif header and len(cells) == len(header) and all(re.fullmatch(r"-?[0-9]{1,12}", cell) for cell in cells):
            row = dict(zip(header, map(int, cells), strict=True))
            rows[row["CPU"]] = MpstatRow(row["set"], row["usr"] / 100, row["sys"] / 100, row["idl"] / 100)
    if not rows:
        raise ValueError("mpstat -p printed no table with the columns CPU, usr, sys, idl and set")
    return rows
