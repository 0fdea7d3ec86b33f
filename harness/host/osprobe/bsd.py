# SPDX-License-Identifier: Apache-2.0
"""FreeBSD and DragonFly: ``sysctl kern.cp_times`` and ``netstat -I``.

kern.cp_times: five numbers for each core (user, nice, system, interrupt, idle), in ticks of kern.clockrate's stathz.
netstat prints a row for each address of an interface; the link's row counts them all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.host.contract import CpuSample
from harness.host.osprobe.contract import Runs

_STATES = ("user", "nice", "system", "irq", "idle")
_STATHZ = re.compile(r"\bstathz\s*=\s*([0-9]{1,9})\b")
_NUMBER = re.compile(r"[0-9]{1,20}")
MOST_CORES = 4096
#: Column of netstat -> Linux's name.
_COLUMNS = {"Ipkts": "rx_packets", "Ierrs": "rx_errors", "Idrop": "rx_dropped", "Ibytes": "rx_bytes",
            "Opkts": "tx_packets", "Oerrs": "tx_errors", "Obytes": "tx_bytes", "Coll": "collisions",
            "Drop": "tx_dropped"}


class Bsd:
    """Commands of FreeBSD and DragonFly."""

    name = "BSD"

    def read_cpu(self, host: Runs) -> CpuSample:
        cores = cp_times(host.run(["sysctl", "kern.clockrate", "kern.cp_times"]).stdout)
        # Every tick of a core counts for one state, so they are a clock too, and one that was read with them.
        return CpuSample(ns=round(max(sum(states.values()) for states in cores.values()) * 1e9), ticks=cores,
                         run_ns=None)

    def read_interface(self, host: Runs, ifname: str) -> Mapping[str, int]:
        return netstat(host.run(["netstat", "-I", ifname, "-b", "-n", "-W"], check=False).stdout
                       or host.run(["netstat", "-I", ifname, "-b", "-n"]).stdout, ifname)


def cp_times(text: str) -> dict[int, dict[str, float]]:
    """Core -> state -> seconds since boot, from ``sysctl kern.clockrate kern.cp_times``. ValueError when malformed.

    Ids that no core has (CPU_ABSENT) are all zero and left out.
    """
    hz = _STATHZ.search(text)
    line = next((row for row in text.splitlines() if row.startswith("kern.cp_times")), "")
    values = line.partition(":")[2].split()
    if hz is None or int(hz[1]) == 0:
        raise ValueError("kern.clockrate does not tell stathz, the ticks of a second")
    if not values or len(values) % len(_STATES) or len(values) > MOST_CORES * len(_STATES):
        raise ValueError(f"kern.cp_times has {len(values)} numbers, which is not five for each core")
    if not all(_NUMBER.fullmatch(value) for value in values):
        raise ValueError("kern.cp_times holds something that is no number")
    cores: dict[int, dict[str, float]] = {}
    for core in range(len(values) // len(_STATES)):
        ticks = [int(value) for value in values[core * len(_STATES):(core + 1) * len(_STATES)]]
        if any(ticks):
            cores[core] = {state: count / int(hz[1]) for state, count in zip(_STATES, ticks, strict=True)}
    if not cores:
        raise ValueError("kern.cp_times is zero for every core")
    return cores


def netstat(text: str, ifname: str) -> dict[str, int]:
    """Counters of the link's row in ``netstat -I IFNAME -b -n``. ValueError when there is none.

    The address column is empty for a link without one, so columns are counted from the right. DragonFly cuts names to
    seven characters and has no Idrop; an interface that is down carries an asterisk.
    """
    rows = [row.split() for row in text.splitlines() if row.strip()]
    if not rows or rows[0][:1] != ["Name"] or "Ipkts" not in rows[0]:
        raise ValueError(f"netstat printed no table for {ifname}: {text[:80]!r}")
    columns = rows[0][rows[0].index("Ipkts"):]
    for row in rows[1:]:
        name = row[0].rstrip("*")
        if name in (ifname, ifname[:7]) and len(row) > len(columns) and any(cell.startswith("<Link#") for cell in row):
            cells = dict(zip(columns, row[-len(columns):], strict=True))
            return {_COLUMNS[column]: int(cell) for column, cell in cells.items()
                    if column in _COLUMNS and _NUMBER.fullmatch(cell)}
    raise ValueError(f"netstat has no row of the link {ifname}; is that its name?")
