# SPDX-License-Identifier: Apache-2.0
"""The embedded testbed: two namespaces, wires between them, an SSH server in the DUT's, and their removal.

Order of making: record, directory, namespaces, wires, NAPI threads, SSH server. Removal goes by names alone and works
from any state that a killed maker may have left.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from harness.host.bootstrap import AGENT_FILE
from harness.host.child import stop
from harness.host.ssh import Target
from harness.lab import napi, netns, sshd, wires
from harness.lab.addresses import MAX_WIRES, check_name, device_name, netns_name, plan_wires
from harness.lab.cores import CoreSplit, physical_cores, split_cores, usable_cores, watch_pauses
from harness.lab.errors import LabError, LabNameError
from harness.lab.fitness import preflight
from harness.lab.interrupts import deferred_interrupts
from harness.lab.process import ProcessId, comm_of, running, stop_all
from harness.lab.state import NETNS, LabRecord, LabStore, completed, new_record
from harness.plan import WirePlan

#: Where the generator's server listens, on 127.0.0.1 of the TG namespace: TRex's own ports.
SYNC_PORT, ASYNC_PORT = 4501, 4500
_NAME_LETTERS = string.ascii_lowercase + string.digits
_NAME_LENGTH = 3
_SSHD = "sshd"
_REAP_S = 5.0
_UNDO_S = 60.0
_DUT_STATE = "dut"
_PROCESS_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")


@dataclass(frozen=True)
class LabStatus:
    """One line of ``harness lab status``. ``state``: "up", "building", "stale" (its owner is gone; the next command
    removes it) or "unreadable". ``owner``: pid of the owning process, None for persistent labs. ``processes``: those
    alive in the namespaces, (pid, name)."""

    name: str
    state: str
    persistent: bool
    owner: int | None
    created: float | None
    namespaces: tuple[str, ...]
    tg_cores: tuple[int, ...]
    dut_cores: tuple[int, ...]
    processes: tuple[tuple[int, str], ...]
    detail: str = ""


class Lab:
    """A lab that is up. Made by :meth:`up` or found by :meth:`open`; as a context manager it is removed at the end."""

    #: What its DUT is, as recorded.
    DUT: ClassVar[str] = NETNS

    def __init__(self, record: LabRecord, store: LabStore) -> None:
        self._store = store
        self._children: list[subprocess.Popen[bytes]] = []
        self.record = record
        self.name = record.name
        self.tg_netns = netns_name(record.name, "tg")
        self.dut_netns = netns_name(record.name, "dut")
        self.directory = store.directory(record.name)
        self.queues = record.queues
        self.wires: tuple[WirePlan, ...] = plan_wires(record.name, record.wires)
        self.ssh: Target = sshd.target(self.directory, self.dut_netns)
        self.sync_port, self.async_port = SYNC_PORT, ASYNC_PORT

    @property
    def split(self) -> CoreSplit:
        """The division of cores. Raises LabError while the lab is still being built."""
        if self.record.split is None:
            raise LabError(f"lab {self.name!r} is still being built")
        return self.record.split

    @property
    def tg_cores(self) -> tuple[int, ...]:
        """Cores of the generator, ascending."""
        return self.split.tg

    @property
    def dut_cores(self) -> tuple[int, ...]:
        """Cores of the DUT, ascending: the quieter ones."""
        return self.split.dut

    @property
    def dut_state_dir(self) -> Path:
        """Directory (0700) for the DUT agent's journal, lock and files: the namespaces share this machine's disk, so
        two labs need two. Removed with the lab."""
        return self.directory / _DUT_STATE

    # -- making and finding ------------------------------------------------------------------------------------------

    @classmethod
    def up(cls, name: str | None = None, *, wires: int = 2, persistent: bool = False, pause_s: float = 1.0,
           store: LabStore | None = None) -> Lab:
        """Build a lab and return it ready: wires up, threads pinned, SSH server greeting.

        ``name``: 1-8 of a-z and 0-9, random when None. ``persistent``: it outlives this process, until
        :meth:`down`. ``pause_s``: how long the cores are watched before they are divided. Raises TestbedError (exit
        3) when the machine is not fit or a step fails (then nothing is left), LabNameError when the name is taken.
        """
        preflight()
        store = store or LabStore()
        with contextlib.ExitStack() as undo:
            record = claim(store, name, wires, persistent, undo, cls.DUT)
            lab = cls(record, store)
            undo.callback(lab.close)
            lab._build(pause_s)
            undo.pop_all()
        return lab

    def _build(self, pause_s: float) -> None:
        """Everything that disturbs comes before the cores are watched; what needs the result, after."""
        with self._store.lock():
            make_shared(self._store)
        self.dut_state_dir.mkdir(mode=0o700)
        wires.make_namespaces(self.name)
        wires.make_wires(self.name, self.wires, self.queues)
        sshd.prepare(self.directory, self.dut_netns)
        self._start_sshd()
        split = split_cores(physical_cores(usable_cores()), watch_pauses(usable_cores(), pause_s))
        self.record = replace(self.record, split=split)
        self.pin_napi()
        wires.await_links(self.name, self.wires)
        self._complete()

    def _complete(self) -> None:
        """The lab is up: recorded, and let go when it is to stay."""
        self.record = completed(self.record)
        self._store.write(self.record)
        if self.record.persistent:
            for child in self._children:
                child.returncode = 0  # it outlives this process on purpose: keeps Popen from warning about that
            self._children.clear()

    def _start_sshd(self) -> None:
        options = []
        shadow = sshd.unlocked_shadow()
        if shadow is not None:
            path = self.directory / "shadow"
            path.touch(mode=0o600)
            path.write_text(shadow, encoding="utf-8")
            options = ["--shadow", str(path)]
        log = self.directory / "sshd.log"
        argv = [wires.tool("sshd"), "-D", "-e", "-f", str(self.directory / "sshd_config")]
        with log.open("wb") as output:
            process = self._start("dut", enter_argv(self.dut_netns, argv, options), _SSHD,
                                  {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output})
        sshd.await_ready(sshd.target(self.directory, self.dut_netns), process, log)

    @classmethod
    def open(cls, name: str, *, store: LabStore | None = None) -> Lab:
        """The lab of this name, made by another process (``harness lab up``). Raises LabNameError when there is none
        or it is not complete."""
        store = store or LabStore()
        record = store.read(name)
        if record is None or record.phase != "up" or record.split is None or record.stale():
            raise LabNameError(f"lab {name!r} is not up; `harness lab status` lists labs")
        if record.dut != cls.DUT:
            raise LabNameError(f"the DUT of lab {name!r} is of another kind ({record.dut})")
        return cls(record, store)

    # -- using -------------------------------------------------------------------------------------------------------

    def netns_of(self, side: str) -> str:
        """Namespace of "tg" or "dut". Raises LabNameError for anything else."""
        if side not in wires.SIDES:
            raise LabNameError(f"{side!r} is no side of a lab; there are 'tg' and 'dut'")
        return self.tg_netns if side == "tg" else self.dut_netns

    def exec_argv(self, side: str, argv: Sequence[str]) -> list[str]:
        """The argv that runs ``argv`` inside one side: its network, a /sys that shows its devices, a bpffs at
        /sys/fs/bpf. On the DUT's side mounts are those of the SSH server, so pinned objects are seen by both."""
        process = self._store.processes(self.name).get(_SSHD) if side == "dut" else None
        options = ["--mounts-of", str(process.pid)] if process is not None else []
        return enter_argv(self.netns_of(side), argv, options)

    def spawn(self, side: str, argv: Sequence[str], *, name: str, **popen: Any) -> subprocess.Popen[bytes]:
        """Start a program of the lab in a session of its own, recorded under ``name``; removal ends it. ``popen``:
        what else :class:`subprocess.Popen` shall get (stdin, stdout, stderr, env, cwd)."""
        if not _PROCESS_NAME.match(name):
            raise LabNameError(f"process name {name!r}: use 1 to 40 letters, digits, '-' and '_'")
        return self._start(side, self.exec_argv(side, argv), name, popen)

    def _start(self, side: str, argv: Sequence[str], name: str, popen: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(argv, start_new_session=True, **popen)

        process = netns.in_netns(self.netns_of(side), start)
        self._children.append(process)
        self._store.note_process(self.name, name, process.pid)
        return process

    def ifnames(self, side: str) -> tuple[str, ...]:
        """Device names of one side, by wire."""
        return tuple(device_name(self.name, side, wire.index) for wire in self.wires)

    @contextlib.contextmanager
    def ssh_on_wire(self, wire: WirePlan) -> Iterator[None]:
        """While this lasts, the DUT's SSH greets on its end of a wire too, on the DUT's cores, and the generator's end
        has its address: somebody else's traffic on the port under test. Raises LabError when the server does not come
        up."""
        target, config = sshd.on_wire(self.directory, self.dut_netns, wire.dut.ip)
        address = f"{wire.tg.ip}/{wire.tg.prefix_len}"
        tg_ip = partial(wires.run_tool, ["ip", "address", "replace", address, "dev", wire.tg.ifname])
        cores = ",".join(map(str, self.dut_cores))
        argv = [wires.tool("taskset"), "-c", cores, wires.tool("sshd"), "-D", "-e", *sshd.patient(config),
                "-f", str(config)]
        log = self.directory / f"sshd-{wire.dut.ip}.log"
        with log.open("wb") as output:
            process = self.spawn("dut", argv, name=f"{_SSHD}-wire-{wire.index}", stdin=subprocess.DEVNULL,
                                 stdout=output, stderr=output)
        try:
            sshd.await_ready(target, process, log)
            netns.in_netns(self.tg_netns, tg_ip)
            yield
        finally:
            stop(process, _REAP_S)
            netns.in_netns(self.tg_netns, partial(wires.run_tool, ["ip", "-4", "address", "flush", "to", wire.tg.ip,
                                                                   "dev", wire.tg.ifname]))

    def pin_napi(self, side: str | None = None) -> None:
        """Pin the NAPI threads of one side, or both: the DUT's to its cores, the generator's to its own with
        SCHED_FIFO. Call again after the channel count changed or an XDP program was attached or removed.

        Raises LabError when a device's threads do not appear.
        """
        for each in wires.SIDES if side is None else (side,):
            self.netns_of(each)
            for ifname in self.ifnames(each):
                if each == "dut":
                    napi.pin_napi(ifname, self.queues, self.split.dut_core_of_queue)
                else:
                    napi.pin_napi(ifname, self.queues, self.split.tg_core_of_queue, fifo=napi.TG_FIFO_PRIORITY)

    # -- removing ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove this lab. Harmless when it is gone already."""
        with deferred_interrupts():
            _remove_if_known(self._store, self.name)
            for child in self._children:
                child.wait(timeout=_REAP_S)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    @classmethod
    def down(cls, name: str, *, store: LabStore | None = None) -> None:
        """Remove a lab by name: a persistent one, a stale one, or one of this process. Raises LabNameError when there
        is none, or when another live process (a run) is using it."""
        store = store or LabStore()
        with deferred_interrupts(), store.lock():
            try:
                record = store.read(name)
            except LabError:
                record = None  # another version's: names suffice to remove it
            owner = record.owner if record is not None and not record.stale() else None
            if owner is not None and owner.pid != os.getpid():
                raise LabNameError(f"lab {name!r} belongs to the running process {owner.pid} "
                                   f"({comm_of(owner.pid)}); end that and the lab goes with it")
            _remove(store, name)

    @classmethod
    def clean_stale(cls, *, store: LabStore | None = None) -> list[str]:
        """Remove labs whose owner is gone; returns their names. Every command that uses labs begins with it."""
        store = store or LabStore()
        if not store.root.exists():
            return []
        with deferred_interrupts(), store.lock():
            return _remove_stale(store)

    @classmethod
    def status(cls, *, store: LabStore | None = None) -> list[LabStatus]:
        """All labs of this machine, by name. Changes nothing."""
        store = store or LabStore()
        return [_status_of(store, name) for name in store.names()]


def enter_argv(namespace: str, argv: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """The argv that runs ``argv`` inside a namespace with mounts that show it (:mod:`harness.lab.enter`)."""
    enter = Path(__file__).with_name("enter.py")
    return [sys.executable, "-IS", str(enter), *options, namespace, "--", *argv]


def claim(store: LabStore, name: str | None, wire_count: int, persistent: bool, undo: contextlib.ExitStack,
          dut: str) -> LabRecord:
    """Choose and record the name before anything exists; ``undo`` gets the removal while interrupts are held back."""
    if not 1 <= wire_count <= MAX_WIRES:
        raise LabNameError(f"{wire_count} wires: a lab has 1 to {MAX_WIRES}")
    with deferred_interrupts(), store.lock():
        _remove_stale(store)
        chosen = check_name(name) if name is not None else _free_name(store)
        record = new_record(chosen, persistent=persistent, wires=wire_count, queues=os.cpu_count() or 1, dut=dut)
        for side in wires.SIDES if not store.directory(chosen).exists() else ():
            if netns.path_of(netns_name(chosen, side)).exists():
                raise LabNameError(f"namespace {netns_name(chosen, side)} exists but no lab {chosen!r} does; "
                                   f"`ip netns del {netns_name(chosen, side)}` removes it")
        store.claim(record)
        undo.callback(_remove_if_known, store, chosen)
    return record


def make_shared(store: LabStore) -> None:
    """Make what every lab needs outside its own directory, recorded first; hold the lock."""
    for path in (netns.NETNS_DIR, sshd.PRIVSEP_DIR):
        if not path.exists():
            store.note_shared(str(path))
    sshd.PRIVSEP_DIR.mkdir(mode=0o755, exist_ok=True)
    netns.prepare_directory()


def _free_name(store: LabStore) -> str:
    for _ in range(1000):
        name = "".join(secrets.choice(_NAME_LETTERS) for _ in range(_NAME_LENGTH))
        paths = (store.directory(name), *(netns.path_of(netns_name(name, side)) for side in wires.SIDES))
        if not any(path.exists() for path in paths):
            return name
    raise LabError("no free lab name was found; `harness lab status` lists labs, `harness lab down NAME` removes one")


def _remove_if_known(store: LabStore, name: str) -> None:
    """Remove a lab if its record still exists."""
    with deferred_interrupts(), store.lock():
        if name in store.names():
            _remove(store, name)


def _remove_stale(store: LabStore) -> list[str]:
    removed = []
    for name in store.names():
        try:
            record = store.read(name)
        except LabError:
            continue  # another version's; `lab status` shows it, `lab down` removes it
        if record is None or record.stale():
            _remove(store, name)
            removed.append(name)
    return removed


def _remove(store: LabStore, name: str) -> None:
    """End every process, put back what a killed agent changed, delete devices and namespaces, wait until they are
    gone, forget. Works from any state; hold the lock. Processes first: the names that lead to them stay until none is
    left. Of the later steps each is done although another fails; then LabError says so, and the record stays for
    another try. What the agent's own undo cannot put back is only reported: no further try would."""
    namespaces = [netns_name(name, side) for side in wires.SIDES]
    devices = tuple(device_name(name, side, wire) for side in wires.SIDES for wire in range(MAX_WIRES))
    keys = {key for namespace in namespaces if (key := netns.key_of(namespace)) is not None}

    def find() -> set[ProcessId]:
        return netns.processes_in(keys) | set(store.processes(name).values())

    stop_all(find)
    _undo_left_over(store, name)
    steps: tuple[Callable[[], None], ...] = (
        lambda: wires.remove_wires(name, devices[:MAX_WIRES]),
        *(partial(netns.delete, namespace) for namespace in namespaces),
        lambda: stop_all(find),  # the names are gone: whatever slipped in before that is the last
        lambda: napi.await_gone(devices),
    )
    failures = []
    for step in steps:
        try:
            step()
        except (LabError, OSError, subprocess.SubprocessError) as error:
            failures.append(str(error))
    if failures:
        raise LabError(f"lab {name!r} could not be removed: {'; '.join(failures)}")
    store.forget(name)
    if not store.names():
        _remove_shared(store)


def _undo_left_over(store: LabStore, name: str) -> None:
    """Replay the journal that a killed agent of the DUT left: a lab's DUT shares hugepages, sysctls and files with
    this machine, and they outlive its namespace. Bounded in time; what fails is said on standard error."""
    state = store.directory(name) / _DUT_STATE
    journal = state / "journal.jsonl"
    if not journal.exists() or journal.stat().st_size == 0:
        return
    argv = [sys.executable, "-I", str(AGENT_FILE), "undo", *[str(state)] * 3]
    namespace = netns_name(name, "dut")
    if netns.key_of(namespace) is not None:
        argv = enter_argv(namespace, argv, [])
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True, start_new_session=True)
    try:
        problem = process.communicate(timeout=_UNDO_S)[1].strip()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        problem = f"not done within {_UNDO_S:g} s"
    if process.returncode != 0:
        print(f"lab {name!r}: changes to this machine that a killed run left could not all be undone: "
              f"{problem or f'exit status {process.returncode}'}", file=sys.stderr)


def _remove_shared(store: LabStore) -> None:
    """Remove what labs made for all of them, when the last one goes; what others use by now stays."""
    for path in store.shared():
        if path == str(netns.NETNS_DIR):
            netns.remove_directory()
        elif path == str(sshd.PRIVSEP_DIR) and not running("sshd"):
            with contextlib.suppress(FileNotFoundError):
                sshd.PRIVSEP_DIR.rmdir()
    store.forget_shared()


def _status_of(store: LabStore, name: str) -> LabStatus:
    namespaces = tuple(netns_name(name, side) for side in wires.SIDES)
    keys = {key for namespace in namespaces if (key := netns.key_of(namespace)) is not None}
    processes = tuple((process.pid, comm_of(process.pid) or "?") for process in sorted(netns.processes_in(keys)))
    present = tuple(namespace for namespace in namespaces if netns.key_of(namespace) is not None)
    detail, record = "", None
    try:
        record = store.read(name)
    except LabError as error:
        detail = str(error)
    if record is None:
        state = "unreadable" if detail else "stale"
        return LabStatus(name, state, False, None, None, present, (), (), processes, detail)
    split = record.split
    return LabStatus(
        name=name, state="stale" if record.stale() else record.phase, persistent=record.persistent,
        owner=record.owner.pid if record.owner else None, created=record.created, namespaces=present,
        tg_cores=split.tg if split else (), dut_cores=split.dut if split else (), processes=processes,
    )
