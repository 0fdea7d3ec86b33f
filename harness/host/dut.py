# SPDX-License-Identifier: Apache-2.0
"""The DUT as stacks and measurement see it (:class:`harness.host.contract.Dut`), over the agent on the host."""

from __future__ import annotations

import base64
import getpass
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import HostError, HostNotRestored, TestbedError
from harness.host.bootstrap import PYTHONS, start_agent
from harness.host.build import archive, source_files, source_hash
from harness.host.contract import Completed, CpuSample, Sampling, Speed
from harness.host.facts import facts_of
from harness.host.inventory import SURVEY_S, Request, Survey
from harness.host.link import ALONE, LEASE_S, LOCK_WAIT_S, AgentLink, AgentRefused, Member
from harness.host.ssh import SshConnection, Target

PROBE_SOURCE = Path(__file__).with_name("probe")
RUN_DIR, STATE_DIR = "/run/netstack-harness-agent", "/var/lib/netstack-harness-agent"
CACHE_DIR = "/var/cache/netstack-harness"
BUILD_S = 300.0
_TAIL = 2000
_TICKS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class DutProcess:
    """A program the agent started (:class:`harness.host.contract.RemoteProcess`)."""

    def __init__(self, link: AgentLink, pid: int, name: str) -> None:
        self._link, self.pid, self.name = link, pid, name
        self._status: int | None = None
        self._ended = False
        self._last_output = ""

    def alive(self) -> bool:
        return self.returncode() is None and not self._ended

    def returncode(self) -> int | None:
        if not self._ended:
            self._status = self._link.call("status", pid=self.pid)
        return self._status

    def write(self, text: str) -> None:
        self._link.call("write", pid=self.pid, text=text)

    def output(self, tail_bytes: int = 65536) -> str:
        if self._ended:
            return self._last_output[-tail_bytes:]
        return str(self._link.call("output", pid=self.pid, bytes=min(tail_bytes, 1 << 20)))

    def wait_output(self, pattern: str, timeout_s: float) -> str:
        """As the contract says. Looks at what was printed since the last ``write`` (or since the start), so that an
        interactive program's old answers are not taken for new ones; an unfinished last line (a prompt) counts once it
        has been still for 50 ms."""
        return str(self._link.call("wait", within_s=timeout_s, pid=self.pid, pattern=pattern, timeout_s=timeout_s))

    def stop(self, timeout_s: float = 5.0) -> int | None:
        if not self._ended:
            self._status = self._link.call("stop", within_s=3 * timeout_s + 5.0, pid=self.pid, timeout_s=timeout_s)
            self._last_output = self.output()
            self._ended = True
        return self._status


class AgentDut:
    """A DUT behind an agent, however that was reached. A context manager: everything is undone at its end."""

    def __init__(self, link: AgentLink, name: str, *, virtual: bool = False) -> None:
        self.name, self.virtual = name, virtual
        self._link = link
        self._facts: Mapping[str, Any] | None = None
        self._python: str | None = None
        self._probe: str | None = None
        self.agent: Mapping[str, Any] = {}

    def greet(self, *, home_cores: Sequence[int], lease_s: float = LEASE_S, lock_wait_s: float = LOCK_WAIT_S,
              member: Member = ALONE) -> None:
        """Take the host's lock. Raises TestbedError when it is busy or an earlier run's changes cannot be undone."""
        owner = f"{getpass.getuser()}@{socket.gethostname()} (harness pid {os.getpid()})"
        self.agent = self._link.hello(owner, home_cores=home_cores, lease_s=lease_s, wait_s=lock_wait_s,
                                      member=member)
        _, not_undone = self.left_over
        if not_undone:
            raise TestbedError(
                f"{self.name} is not as it was found: an earlier run changed it, and this cannot be undone:\n"
                + "\n".join(not_undone) + f"\nSet back by hand what is listed and try again. To accept the host as it "
                f"is, remove {self.agent['journal']} there.")

    @property
    def left_over(self) -> tuple[int, list[str]]:
        """How many changes of a dead run the agent found, and those of them that it could not undo, in words."""
        return int(self.agent["left_over"]), [str(text) for text in self.agent["not_undone"]]

    # -- commands and files

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True, stdin: str = "") -> Completed:
        answer = self._link.call("run", within_s=timeout_s, argv=list(argv), stdin=stdin, timeout_s=timeout_s)
        return self._completed(argv, answer, check)

    def _completed(self, argv: Sequence[str], answer: Mapping[str, Any], check: bool) -> Completed:
        done = Completed(tuple(argv), int(answer["returncode"]), str(answer["stdout"]), str(answer["stderr"]))
        if check and done.returncode != 0:
            tail = (done.stderr or done.stdout)[-_TAIL:].strip()
            raise HostError(f"{self.name}: {shlex.join(argv)} ended with status {done.returncode}: {tail}")
        return done

    def which(self, program: str) -> str | None:
        path = self._link.call("which", program=program)
        return None if path is None else str(path)

    def read(self, path: str, default: str | None = None) -> str:
        try:
            return str(self._link.call("read", path=path))
        except AgentRefused:
            if default is None:
                raise
            return default

    def exists(self, path: str) -> bool:
        return bool(self._link.call("exists", path=path))

    def set_file(self, path: str, value: str, *, verify: bool = True) -> None:
        self._link.call("set_file", path=path, value=value, verify=verify)

    def create_file(self, path: str, text: str) -> None:
        """Make a file (journalled: undo removes it). It must not exist yet."""
        self._link.call("create", path=path, text=text)

    def create_directory(self, path: str) -> None:
        """Make a directory, mode 0700 (journalled: undo removes it when it is empty). It must not exist yet."""
        self._link.call("create", path=path)

    def apply(self, do: Sequence[str], undo: Sequence[str], *, made: Sequence[str] = ()) -> Completed:
        guard = {"made": list(made)} if made else {}
        answer = self._link.call("apply", within_s=60.0, do=list(do), undo=list(undo), timeout_s=60.0, **guard)
        return self._completed(do, answer, check=True)

    def program(self, source: Path, target: str, *, beside: Sequence[Path] = ()) -> str:
        files = source_files(source, beside)
        key = source_hash(files)
        path = self._link.call("cached", source=key, target=target)
        if path is None:
            path = self._link.call(
                "build", within_s=BUILD_S, timeout_s=BUILD_S, source=key, target=target,
                archive=base64.b64encode(archive(files)).decode(),
            )
        return str(path)

    # -- processes and threads

    def spawn(self, argv: Sequence[str], *, name: str, cores: Sequence[int] = (), env: Mapping[str, str] | None = None,
              ) -> DutProcess:
        pid = self._link.call("spawn", argv=list(argv), name=name, cores=list(cores), env=dict(env or {}))
        return DutProcess(self._link, int(pid), name)

    def pin(self, pid: int, core: int, *, fifo: int = 0) -> None:
        self._link.call("pin", pid=pid, core=core, fifo=fifo)

    def napi_threads(self, ifname: str) -> Mapping[int, int]:
        answer = self._link.call("napi_threads", ifname=ifname)
        return {int(napi): int(pid) for napi, pid in sorted(answer.items(), key=lambda item: int(item[0]))}

    def keep_napi(self, ifname: str) -> None:
        self._link.call("keep_napi", ifname=ifname)

    # -- undo

    def undo_mark(self) -> int:
        return int(self._link.call("mark"))

    def undo_to(self, mark: int) -> None:
        self._complain(self._link.call("undo_to", within_s=120.0, mark=mark))

    def _complain(self, failures: Sequence[str]) -> None:
        if failures:
            raise HostNotRestored(f"{self.name}: not everything could be undone:\n" + "\n".join(failures)
                                  + "\nSet it back by hand; the next run tries it again and says what is still left.")

    # -- counters and samples

    def interface_counters(self, ifnames: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """sysfs statistics by name (``rx_packets``), the driver's (``rx_queue_0_drops``) beside; where a driver has one
        of the same name it is ``ethtool.rx_packets``. ``qdisc.KIND@HANDLE:.drops``: of the root queueing discipline."""
        counters: Mapping[str, Mapping[str, int]] = self._link.call("interface_counters", ifnames=list(ifnames))
        return counters

    def system_counters(self) -> Mapping[str, int]:
        counters: Mapping[str, int] = self._link.call("system_counters")
        return counters

    def start_sampling(self, period_s: float, probe_cores: Sequence[int], *, probe_period_s: float = 0.0,
                       threads: bool = True) -> None:
        """As the contract says. ``probe_period_s`` 0: the shortest of 1, 2 and 4 ms that costs at most 0.4 % of a busy
        core of this host. ``threads``: note what ran."""
        self._link.call("sample_start", period_s=period_s, cores=list(probe_cores), threads=threads,
                        probe_period_ns=round(probe_period_s * 1e9), probe_program=self._probe_program())
        self._link.hush()

    def _probe_program(self) -> str:
        """The native pause probe, built on the host; "" (the agent's own, three times as dear) without a compiler."""
        if self._probe is None:
            try:
                self._probe = self.program(PROBE_SOURCE, "pause_probe")
            except AgentRefused as error:
                if error.kind != "build":
                    raise
                self._probe = ""
        return self._probe

    def stop_sampling(self) -> Sampling:
        answer = self._link.call("sample_stop")
        self._link.resume()
        return _sampling(answer)

    def python(self) -> str:
        """The host's Python interpreter. Raises HostError."""
        if self._python is None:
            self._python = next(filter(None, map(self.which, PYTHONS)), None)
        if self._python is None:
            raise HostError(f"{self.name}: there is no Python 3; apt-get install python3-minimal")
        return self._python

    def survey(self, request: Request | None = None) -> Survey:
        """Look at the host anew; :meth:`facts` are then of this survey."""
        survey = Survey.parse(self.run((request or Request()).argv(self.python()), timeout_s=SURVEY_S).stdout)
        self._facts = facts_of(survey)
        return survey

    def facts(self) -> Mapping[str, Any]:
        if self._facts is None:
            self.survey()
        assert self._facts is not None
        return self._facts

    # -- end

    def abandon(self) -> None:
        """Close the channel without a good-bye; the agent undoes and ends by itself."""
        self._link.abandon()

    def close(self) -> None:
        """Undo everything, end the agent. Raises HostNotRestored listing what could not be undone. Idempotent."""
        self._complain(self._link.close())

    def __enter__(self) -> AgentDut:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


def _sampling(answer: Mapping[str, Any]) -> Sampling:
    hz = float(answer["hz"])
    samples = [
        CpuSample(
            ns=int(when),
            ticks={int(row[0]): {state: value / hz for state, value in zip(_TICKS, row[1:], strict=False)}
                   for row in cores},
            run_ns={int(core): int(ran) for core, ran in run} or None,
            speed={int(core): (int(one), int(other)) for core, one, other in speed},
        )
        for when, cores, run, speed in answer["samples"]
    ]
    pauses = [(int(start), int(length), int(probe["core"])) for probe in answer["probes"]
              for start, length in probe["pauses"]]
    threads = {(int(core), str(name)): float(seconds) for core, name, seconds in answer["threads"]}
    periods = {int(probe["core"]): probe["period_ns"] / 1e9 for probe in answer["probes"]}
    costs = {int(probe["core"]): float(probe["cost_s"]) for probe in answer["probes"]}
    told = answer["speed"]
    speed = Speed(str(told["source"]), str(told["reason"]), {int(core): int(n) for core, n in told["throttled"]})
    first, last = answer["wall_offset_ns"]
    return Sampling(samples, sorted(pauses), float(answer["cost_s"]), threads, periods, costs, speed,
                    (int(first), int(last)))


class SshDut(AgentDut):
    """A DUT reached over SSH. Use as a context manager: leaving it undoes everything and disconnects."""

    def __init__(self, connection: SshConnection, link: AgentLink, name: str, *, virtual: bool) -> None:
        super().__init__(link, name, virtual=virtual)
        self.connection = connection

    @classmethod
    def connect(cls, name: str, target: Target, *, home_cores: Sequence[int] = (), virtual: bool = False,
                state_dir: str = "", cache_dir: str = CACHE_DIR, lease_s: float = LEASE_S,
                lock_wait_s: float = LOCK_WAIT_S, member: Member = ALONE) -> SshDut:
        """Connect, put the agent there, start it, take the host's lock.

        ``home_cores``: where the agent itself runs, never cores that stacks are given. ``state_dir``: its journal and
        lock, where several DUTs share one machine (labs). ``lock_wait_s``: how long an ending run may keep the host;
        ``member``: who may share the lock. Raises TestbedError with the remedy.
        """
        with ExitStack() as undo:
            connection = undo.enter_context(SshConnection.open(target))
            channel = start_agent(connection, name, state_dir or RUN_DIR, state_dir or STATE_DIR, cache_dir)
            dut = cls(connection, AgentLink(channel, name), name, virtual=virtual)
            undo.callback(dut.abandon)
            dut.greet(home_cores=home_cores, lease_s=lease_s, lock_wait_s=lock_wait_s, member=member)
            undo.pop_all()
        return dut

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.connection.close()

    def __enter__(self) -> SshDut:
        return self
