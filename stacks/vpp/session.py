# SPDX-License-Identifier: Apache-2.0
"""A running VPP, asked and told through ``vppctl -s SOCKET``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.errors import HostError, StackError
from harness.host.contract import Dut, RemoteProcess
from harness.stack import PollUsage, RunningStack, StackCounters

from . import parse

READY_S, ANSWER_S, LOOK_S = 30.0, 10.0, 0.05
LOG_BYTES = 8192
POLL_SOURCE = "show runtime: calls of the input nodes; with frames at most as many as calls of the busiest graph node"
WORKER = "vpp_wk_"
TX_RING, SOCKET = "tx ring", "packet socket"
#: Counters of an interface that are frames lost there -> the place. "drops" holds what the graph threw away.
LOSSES = {"rx-miss": "driver ring", "rx-no-buf": "buffers", "tx-error": TX_RING, "drops": "vpp drops"}
#: Reasons of a port's transmit node that are frames and in none of its counters: of af_packet two, of af_xdp one.
NOT_SENT = ("tx frame not ready", "tx ring overrun", "no free tx slots")


class Vppctl:
    """VPP's command line."""

    def __init__(self, dut: Dut, process: RemoteProcess, program: str, socket: str) -> None:
        self._dut, self._process, self._argv = dut, process, [program, "-s", socket]

    def ask(self, *words: str) -> str:
        """What a command prints. Raises StackError when VPP does not answer."""
        try:
            return self._dut.run([*self._argv, *words], timeout_s=ANSWER_S).stdout
        except HostError as error:
            why = str(error) if self._process.alive() else f"it ended with status {self._process.returncode()}"
            raise StackError(f"vpp: no answer to '{' '.join(words)}': {why}",
                             self._process.output(LOG_BYTES)) from error

    def tell(self, words: Sequence[str], expected: str = "") -> None:
        """A command that prints ``expected`` (a port's name) or, like most that succeed, nothing: vppctl ends with
        status 0 whatever happened. Raises StackError with VPP's words."""
        said = self.ask(*words).strip()
        if said != expected:
            raise StackError(f"vpp: '{' '.join(words)}' was answered with {said[:300]!r}",
                             self._process.output(LOG_BYTES))

    def version(self) -> str:
        """As VPP names itself, without who built it when: "vpp v26.06-release"."""
        return " ".join(self.ask("show", "version").split()[:2])[:80]

    def await_ready(self) -> None:
        """Return once VPP answers. Raises StackError with its last words when it ends or does not."""
        deadline = time.monotonic() + READY_S
        while self._dut.run([*self._argv, "show", "version"], timeout_s=ANSWER_S, check=False).returncode != 0:
            if not self._process.alive() or time.monotonic() > deadline:
                raise StackError("vpp: it did not start; its last words say why.", self._process.output(LOG_BYTES))
            time.sleep(LOOK_S)


class RunningVpp(RunningStack):
    """VPP with its ports up."""

    thread_names = ("vpp_main", "vpp_wk_")

    def __init__(self, process: RemoteProcess, vppctl: Vppctl, ports: Sequence[str], degraded: str,
                 given: Callable[[], int] | None = None) -> None:
        """``given``: frames that the kernel gave to VPP's packet sockets, or found no room for in their rings, which
        VPP does not learn; None where it has no such sockets."""
        self.process, self._vppctl, self._ports = process, vppctl, tuple(ports)
        self.degraded, self._given = degraded, given
        self._before: int | None = None
        self._work: dict[str, dict[str, int]] = {}
        self.remark = f"{vppctl.version()}; clocks and vectors are those of show runtime"

    def check_alive(self) -> None:
        if not self.process.alive():
            raise StackError(f"vpp ended with status {self.process.returncode()}.", self.log_tail())

    def counters(self) -> StackCounters:
        self.check_alive()
        given = self._given() if self._given else None
        shown = parse.interfaces(self._vppctl.ask("show", "interface"))
        absent = [port for port in self._ports if port not in shown]
        if absent:
            raise StackError(f"vpp: its port {absent[0]} is gone.", self.log_tail())
        errors = parse.errors(self._vppctl.ask("show", "errors"))
        counters = counters_of({port: shown[port] for port in self._ports}, errors, self._worked())
        return counters if given is None else self._with_socket(counters, given)

    def _with_socket(self, counters: StackCounters, given: int) -> StackCounters:
        """The difference when it was first read is of frames from before the sockets were there."""
        missed = given - counters.totals["received"]
        if self._before is None:
            self._before = missed
        return replace(counters, losses={**counters.losses, SOCKET: max(0, missed - self._before)})

    def poll_usage(self) -> PollUsage | None:
        work = self._worked().values()
        useful, polls = sum(w["calls"] for w in work), sum(w["polls"] for w in work)
        return PollUsage(useful, polls - useful, POLL_SOURCE) if polls else None

    def log_tail(self) -> str:
        return self.process.output(LOG_BYTES)

    def _worked(self) -> Mapping[str, Mapping[str, int]]:
        """What each worker did since deployment. VPP's clocks a packet are means since it last cleared them, with three
        digits: cleared at each reading, they are a trial's own, and as exact."""
        threads = parse.runtime(self._vppctl.ask("show", "runtime"))
        self._vppctl.tell(["clear", "runtime"])
        for thread in threads:
            if thread.name.startswith(WORKER):
                so_far = self._work.setdefault(thread.name, {"core": thread.core})
                so_far |= {name: so_far.get(name, 0) + count for name, count in thread.counts().items()}
        return self._work


def counters_of(ports: Mapping[str, Mapping[str, int]], errors: Mapping[str, int],
                workers: Mapping[str, Mapping[str, int]]) -> StackCounters:
    """Totals over the ports, VPP's errors beside them (evidence: not all are losses), one entry a worker."""
    totals: dict[str, int] = {"received": _sum(ports, "rx packets"), "sent": _sum(ports, "tx packets")}
    totals["vectors"] = sum(worker["received"] for worker in workers.values())
    for name in ("polls", "calls", "clocks"):
        totals[name] = sum(worker[name] for worker in workers.values())
    totals |= {f"error {name}": count for name, count in errors.items()}
    losses = {place: _sum(ports, name) for name, place in LOSSES.items()}
    unsent = sum(errors.get(f"{port}-tx: {reason}", 0) for port in ports for reason in NOT_SENT)
    losses[TX_RING] += unsent
    totals["sent"] -= unsent  # counted before the ring was found full
    return StackCounters(totals, tuple(dict(worker) for worker in workers.values()), losses)


def _sum(ports: Mapping[str, Mapping[str, int]], name: str) -> int:
    return sum(counters.get(name, 0) for counters in ports.values())
