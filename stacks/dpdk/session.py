# SPDX-License-Identifier: Apache-2.0
"""A running ``dpdk-testpmd``: its interactive session, its counters."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.errors import HostError, StackError
from harness.host.contract import RemoteProcess
from harness.stack import PollUsage, RunningStack, StackCounters

from . import parse
from .telemetry import LCORE_USAGE, Telemetry

READY_S = 60.0
#: In what testpmd says when it forwards; it comes to its prompt with ports that failed, too.
FORWARDING = "packet forwarding - ports="
ANSWER_S = 10.0
PROMPT = r"^testpmd> *$"
LOG_BYTES = 8192
BURST_SOURCE = "testpmd record-burst-stats"
CYCLE_SOURCE = "DPDK lcore usage: cycles of turns with packets, and without"
#: Of the extended statistics, those that say how queues share the load and where frames were lost.
_XSTATS = re.compile(r"rx_q\d+_packets|.*(error|miss|drop|discard).*")


class RunningTestpmd(RunningStack):
    """Commands go to testpmd's standard input, between trials only: its main thread sleeps while it forwards."""

    #: testpmd's own, EAL's workers (called lcore-, rte- or dpdk-worker by its version) and EAL's helpers.
    thread_names = ("dpdk-", "rte", "lcore-", "eal-", "telemetry-")

    def __init__(self, process: RemoteProcess, telemetry: Telemetry, *, drops: bool, degraded: str, misses: bool,
                 ) -> None:
        """``drops``: the role is drop. ``misses``: frames that a driver's ring had no room for are in no counter of the
        kernel's (veth counts them as its own drops)."""
        self.process, self.telemetry = process, telemetry
        self._tells_usage = False
        self._drops = drops
        self._misses = misses
        self._recording = False
        self._marks = 0
        self.degraded = degraded

    def start(self) -> None:
        """Wait until the ports are up, then forward. Raises StackError with testpmd's own words."""
        try:
            self.process.wait_output(PROMPT, READY_S)
        except HostError as error:
            raise StackError("dpdk: testpmd did not start; its last words say why.", self.log_tail()) from error
        if FORWARDING not in self._ask("start"):
            raise StackError("dpdk: testpmd could not start its ports; its last words say why.", self.log_tail())
        self._ask("set record-core-cycles off")
        self._tells_usage = LCORE_USAGE in self.telemetry.commands()

    def check_alive(self) -> None:
        if not self.process.alive():
            raise StackError(f"dpdk: testpmd ended with status {self.process.returncode()}.", self.log_tail())

    def counters(self) -> StackCounters:
        ports = parse.port_statistics(self._ask("show port stats all"))
        forwarded = parse.forward_statistics(self._ask("show fwd stats all"))
        received = sum(port["RX-packets"] for port in ports.values())
        totals = {"received": received, "sent": sum(port["TX-packets"] for port in ports.values())}
        if self._drops:
            totals["discarded"] = received
        losses = {"mbuf pool": _sum(ports, "RX-nombuf"), "tx ring": _sum(forwarded, "TX-dropped")}
        if self._misses:
            losses["driver ring"] = _sum(ports, "RX-missed")
        extended = [{name: value for name, value in port.items() if _XSTATS.fullmatch(name)}
                    for port in self.telemetry.xstats(len(ports))]
        workers = tuple({"port": number, **counters, **extended[number]} for number, counters in sorted(ports.items()))
        return StackCounters(totals, workers, losses)

    def record_polls(self, on: bool) -> bool:
        """Have testpmd count its polls, or not: counting costs something, so it has a pass of its own. Where DPDK
        reports the use of lcores, cycles stand for polls. Elsewhere not for drop: of polls that send nothing testpmd
        tells in whole percentages only, and the useful ones are fewer than one."""
        if self._drops and not self._tells_usage:
            return False
        self._ask(f"set {'record-core-cycles' if self._tells_usage else 'record-burst-stats'} {'on' if on else 'off'}")
        self._recording = on
        return True

    def poll_usage(self) -> PollUsage | None:
        if not self._recording:
            return None
        if self._tells_usage:
            usage = self.telemetry.lcore_usage()
            return None if usage is None else PollUsage(usage.busy, usage.total - usage.busy, CYCLE_SOURCE)
        found = parse.bursts(self._ask("show fwd stats all"))
        if found is None:
            return None
        return PollUsage(found.tx, found.rx - found.tx, BURST_SOURCE)

    def log_tail(self) -> str:
        return self.process.output(LOG_BYTES)

    def _ask(self, command: str) -> str:
        """What testpmd answers to one command: all it prints before it comes to the next line, which is a mark."""
        self.check_alive()
        self._marks += 1
        mark = f"mark{self._marks}."
        try:
            self.process.write(f"{command}\n{mark}\n")
            self.process.wait_output(mark.replace(".", r"\."), ANSWER_S)
        except HostError as error:
            raise StackError(f"dpdk: testpmd does not answer '{command}'.", self.log_tail()) from error
        return parse.answer(self.process.output(), command, mark)


def _sum(ports: Mapping[int, Mapping[str, int]], name: str) -> int:
    return sum(counters.get(name, 0) for counters in ports.values())
