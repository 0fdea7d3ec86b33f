# SPDX-License-Identifier: Apache-2.0
"""The DUT agent: the one file that runs on a device under test. Standard library only, Python 3.6 syntax.

It is started in a session of its own (``agent.py serve``), speaks one JSON object a line on stdin and stdout, and

* holds the host's lock, so that two runs never share a host;
* writes every change into a journal on disk before making it, and confirms it after;
* keeps the lease: when the controller is silent for too long, or its channel closes, everything in the journal is
  undone, newest first and past failures, and the agent ends. A journal left over by a killed agent is undone by the
  next one, which also tries again what could not be undone; after a reboot only what outlives a reboot is;
* is the parent of the programs it starts and keeps the end of their output;
* samples CPU use and watches cores for pauses, so that no message is needed while a trial runs.

Requests are ``{"id": n, "op": name, "args": {...}}``; answers ``{"id": n, "ok": ...}`` or
``{"id": n, "error": {"kind": ..., "message": ...}}``. ``beat`` has no answer. Other modes: ``undo`` (replay a left-over
journal and end), and ``probe``, which the agent uses itself.
"""

import base64
import ctypes
import errno
import fcntl
import hashlib
import io
import json
import os
import queue
import re
import resource
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

PROTOCOL = 1
MAX_LINE = 12 << 20
MAX_OUTPUT = 1 << 20
MAX_READ = 1 << 20
MAX_VALUE = 64 << 10
MAX_PENDING = 64
MAX_PROCESSES = 64
MAX_SAMPLE_CELLS = 400000
MAX_PAUSES = 20000
UNDO_TIMEOUT_S = 30.0
#: A core that stood still for at least this long is a pause (design.md, "Pauses").
PAUSE_NS = 250000
#: What the probe may cost of the core it watches; its period is the shortest of PROBE_PERIODS_NS that keeps to it. With
#: the samples, which take about a thousandth, it is to stay below 0.5 % of a core.
PROBE_BUDGET = 0.004
PROBE_PERIODS_NS = (1000000, 2000000, 4000000)
PROBE_PRIORITY = 98
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARK_VARIABLE = "NETSTACK_HARNESS_SPAWN"

Json = Dict[str, Any]


class AgentError(Exception):
    """A request that could not be served. ``kind``: bad-request, busy, failed, unverified (it was done and reads back
    another value), timeout, gone."""

    def __init__(self, message: str, kind: str = "failed") -> None:
        super().__init__(message)
        self.kind = kind


def wall_offset_ns() -> int:
    """The wall clock's time less the time since boot: it jumps when somebody sets the clock, and creeps (by less than a
    thousandth) where somebody keeps it right."""
    since_boot = getattr(time, "CLOCK_BOOTTIME", 7)  # it has a name from Python 3.7 on
    return int((time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(since_boot)) * 1e9)


def now_ns() -> int:
    """CLOCK_MONOTONIC in ns (``time.monotonic_ns`` is younger than Python 3.6)."""
    return int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e9)


def read_text(path: str, limit: int = MAX_READ) -> str:
    """Text of a file of at most ``limit`` bytes; longer is an error. Raises OSError and AgentError."""
    parts = []  # type: List[bytes]
    size = 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            part = os.read(fd, 65536)
            if not part:
                return b"".join(parts).decode("utf-8", "replace")
            parts.append(part)
            size += len(part)
            if size > limit:
                raise AgentError("%s is longer than %d bytes" % (path, limit))
    finally:
        os.close(fd)


def read_or(path: str, default: str) -> str:
    """Text of a small file, or ``default`` when it cannot be read."""
    try:
        return read_text(path)
    except (OSError, AgentError):
        return default


def boot_id() -> str:
    """Changes with every boot."""
    return read_or("/proc/sys/kernel/random/boot_id", "").strip()


def netns_id() -> str:
    """Identity of the network namespace this process is in ("" where the kernel does not tell)."""
    try:
        return str(os.stat("/proc/self/ns/net").st_ino)
    except OSError:
        return ""


def start_time(pid: int) -> Optional[int]:
    """Start time (clock ticks since boot) of a process or thread; None when there is no such one, or it is a zombie."""
    try:
        fields = read_text("/proc/%d/stat" % pid).rpartition(")")[2].split()
    except (OSError, AgentError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def thread_place(pid: int) -> Json:
    """Where and how a thread runs: its policy, priority and cores. Raises OSError."""
    return {"policy": os.sched_getscheduler(pid), "priority": os.sched_getparam(pid).sched_priority,
            "cores": sorted(os.sched_getaffinity(pid))}


def place_thread(pid: int, place: Json) -> None:
    """Give a thread a place that :func:`thread_place` told; read back. Raises OSError and AgentError."""
    os.sched_setscheduler(pid, place["policy"], os.sched_param(place["priority"]))
    os.sched_setaffinity(pid, place["cores"])
    if sorted(os.sched_getaffinity(pid)) != sorted(place["cores"]):
        raise AgentError("thread %d did not take its cores back" % pid)


# ---------------------------------------------------------------------------------------------------------------------
# Journal
# ---------------------------------------------------------------------------------------------------------------------


class Journal:
    """Changes to this host that are still to be undone, in a file: an intent before each, a confirmation after it.

    A line is an intent ``{"seq", "boot", "netns", "kind", ...}``, a confirmation ``{"seq", "confirm": {...}}``,
    ``{"seq", "failed": why}`` (its undoing) or ``{"seq", "undone": true}``. The file is emptied when nothing is left.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.live = {}  # type: Dict[int, Json]
        self.last = 0
        self.damaged = 0
        self._load()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _load(self) -> None:
        try:
            text = read_text(self.path, 64 << 20)
        except FileNotFoundError:
            return
        for line in text.split("\n"):
            if line:
                try:
                    self._apply(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    self.damaged += 1  # torn by a crash in mid-write: the change it announces was not made yet

    def _apply(self, entry: Json) -> None:
        seq = int(entry["seq"])
        if "confirm" in entry:
            self.live[seq].update(entry["confirm"], confirmed=True)
        elif "failed" in entry:
            self.live[seq]["failed"] = entry["failed"]
        elif "undone" in entry:
            self.live.pop(seq, None)
        else:
            self.live[seq] = entry
            self.last = max(self.last, seq)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def _append(self, entry: Json, sync: bool) -> None:
        data = (json.dumps(entry) + "\n").encode()
        while data:
            data = data[os.write(self._fd, data):]
        if sync:
            os.fdatasync(self._fd)

    def intend(self, kind: str, **what: Any) -> int:
        """Put a coming change on disk; returns its sequence number."""
        entry = dict(what, seq=self.last + 1, boot=boot_id(), netns=netns_id(), kind=kind)  # type: Json
        self._append(entry, True)
        self._apply(entry)
        return self.last

    def confirm(self, seq: int, **known: Any) -> None:
        """The change was made; ``known`` is what only its making could tell (a pid)."""
        entry = {"seq": seq, "confirm": known}
        self._append(entry, bool(known))
        self._apply(entry)

    def fail(self, seq: int, why: str) -> None:
        """The change could not be undone: it stays, for the next agent to try again."""
        entry = {"seq": seq, "failed": why}
        self._append(entry, True)
        self._apply(entry)

    def drop(self, seq: int) -> None:
        """The change is undone, or was never made."""
        self.live.pop(seq, None)
        if self.live:
            self._append({"seq": seq, "undone": True}, False)
        else:
            os.ftruncate(self._fd, 0)
            os.fdatasync(self._fd)


def same_value(left: str, right: str) -> bool:
    """Whether two texts of a kernel file mean the same: spaces, leading zeros and commas of masks do not count, and of
    ``a [b] c`` the bracketed choice does."""
    return _plain(left) == _plain(right)


def _plain(value: str) -> str:
    tokens = settable(value).split()
    return " ".join(token.replace(",", "").lstrip("0") or "0" for token in tokens)


def settable(value: str) -> str:
    """What to write to get the value that a kernel file showed: the bracketed word of a choice, else all of it."""
    choice = re.search(r"(?:^|\s)\[([^\]\s]+)\](?:\s|$)", value)
    return choice.group(1) if choice and len(value.split()) > 1 else value.strip()


def is_kernel_file(path: str) -> bool:
    """Whether a path is a kernel's knob: its value is text with free spacing and does not outlive a reboot."""
    return path.startswith(("/proc/", "/sys/"))


def write_value(path: str, value: str) -> None:
    """Write a whole value in one system call, as sysctl and sysfs files demand."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | (0 if is_kernel_file(path) else os.O_TRUNC))
    try:
        data = value.encode() or (b"\n" if is_kernel_file(path) else b"")
        if data and os.write(fd, data) != len(data):
            raise AgentError("%s took only a part of the value" % path)
    finally:
        os.close(fd)


def expect_value(path: str, value: str) -> None:
    """Read a value back; raises AgentError when it is another one."""
    shown = read_text(path, MAX_VALUE)
    if not (same_value(shown, value) if is_kernel_file(path) else shown == value):
        raise AgentError("%s: wrote %r, reads back %r" % (path, value, shown.strip()))


class Undo:
    """How each kind of journal entry is undone. Every step is bounded in time and harmless when done twice."""

    def __init__(self, journal: Journal, processes: "Dict[int, Process]") -> None:
        self.journal = journal
        self.processes = processes

    def back_to(self, mark: int, retry: bool = False) -> List[str]:
        """Undo all entries after ``mark``, newest first, past failures; returns what failed, in words. What failed
        before was reported then, and is tried again only with ``retry``."""
        failures = []  # type: List[str]
        for seq in sorted((seq for seq in self.journal.live if seq > mark), reverse=True):
            entry = self.journal.live[seq]
            if "failed" in entry and not retry:
                continue
            try:
                if self._still_there(entry):
                    getattr(self, "_undo_" + str(entry["kind"]))(entry)
            except (AgentError, OSError, subprocess.SubprocessError, KeyError, ValueError, AttributeError) as error:
                failures.append("%s: %s" % (describe(entry), error))
                self.journal.fail(seq, str(error))
            else:
                self.journal.drop(seq)
        return failures

    @staticmethod
    def _still_there(entry: Json) -> bool:
        """Whether what the entry changed can exist: not after a reboot, nor from another network namespace."""
        kind, path = entry["kind"], str(entry.get("path", ""))
        if entry["boot"] != boot_id():
            return kind in ("file", "created") and not path.startswith(("/proc/", "/sys/", "/run/", "/dev/"))
        in_netns = kind in ("apply", "napi") or path.startswith(("/proc/sys/net/", "/sys/class/net/"))
        return not in_netns or entry["netns"] == netns_id()

    @staticmethod
    def _undo_file(entry: Json) -> None:
        path, old = entry["path"], entry["old"]
        if not os.path.exists(path):
            return  # went with its interface or module
        shown = read_text(path, MAX_VALUE)
        if same_value(shown, old) if is_kernel_file(path) else shown == old:
            return
        write_value(path, settable(old) if is_kernel_file(path) else old)
        if entry["verify"]:
            expect_value(path, old)

    @staticmethod
    def _undo_created(entry: Json) -> None:
        path = entry["path"]
        try:
            if entry["directory"]:
                os.rmdir(path)
            else:
                os.unlink(path)
        except FileNotFoundError:
            return

    def _undo_apply(self, entry: Json) -> None:
        self.command(entry)

    @staticmethod
    def command(entry: Json) -> None:
        """Undo a command by its opposite, where its guard says that there is something to undo. Raises AgentError."""
        made = entry.get("made")
        if made and run_command(made, UNDO_TIMEOUT_S, b"", None)["returncode"] != 0:
            return  # the change was never made, or went with something else
        done = run_command(entry["undo"], UNDO_TIMEOUT_S, b"", None)
        if done["returncode"] != 0:
            raise AgentError("exit status %d: %s" % (done["returncode"], (done["stderr"] or done["stdout"])[-500:]))

    @staticmethod
    def _undo_pin(entry: Json) -> None:
        pid = entry["pid"]
        if start_time(pid) == entry["start"]:
            place_thread(pid, entry)

    @staticmethod
    def _undo_napi(entry: Json) -> None:
        """The threads may be others by now; queue by queue, which is the order of NAPI ids, they are placed as those
        were that are remembered."""
        ifname = entry["ifname"]
        if not os.path.exists("/sys/class/net/" + ifname):
            return
        threads = [pid for _, pid in sorted(napi_threads(ifname).items())]
        for pid, place in zip(threads, entry["threads"]):  # noqa: B905 (no strict in Python 3.6)
            if thread_place(pid) != place:
                place_thread(pid, place)
        if len(threads) < len(entry["threads"]):
            raise AgentError("%s has %d NAPI threads and had %d" % (ifname, len(threads), len(entry["threads"])))

    def _undo_spawn(self, entry: Json) -> None:
        process = self.processes.pop(entry["seq"], None)
        if process is not None:
            process.end(2.0)
        elif entry.get("confirmed"):
            end_family(entry["pid"], entry["start"], entry["marker"], 2.0, None)


def describe(entry: Json) -> str:
    """An entry in words, for messages."""
    kind = entry["kind"]
    if kind == "file":
        return "restore %s to %r" % (entry["path"], entry["old"].strip())
    if kind == "created":
        return "remove %s" % entry["path"]
    if kind == "apply":
        return "run %s" % " ".join(entry["undo"])
    if kind == "pin":
        return "give thread %d its cores back" % entry["pid"]
    if kind == "napi":
        return "give the NAPI threads of %s their cores back" % entry["ifname"]
    return "end %s" % entry.get("name", kind)


# ---------------------------------------------------------------------------------------------------------------------
# Commands and processes
# ---------------------------------------------------------------------------------------------------------------------


def command_environment(extra: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """Environment of everything the agent runs: the caller's, an unlocalised language, and a complete search path."""
    env = dict(os.environ, LC_ALL="C", LANG="C")
    env["PATH"] = env.get("PATH", "") + ":" + SEARCH_PATH if env.get("PATH") else SEARCH_PATH
    env.update(extra or {})
    return env


def find_program(name: str) -> Optional[str]:
    """Absolute path of an executable on the search path of commands."""
    places = [""] if "/" in name else command_environment()["PATH"].split(":")
    for place in places:
        path = os.path.join(place, name) if place else name
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None


def signal_group(pid: int, number: int) -> None:
    """Signal a process group that may be gone already."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def run_command(argv: Sequence[str], timeout_s: float, stdin: bytes, cancelled: Optional[threading.Event],
                cwd: Optional[str] = None) -> Json:
    """Run to completion in a session of its own; returns returncode, stdout, stderr. Raises AgentError on a missing
    program, more than MAX_OUTPUT bytes, the deadline, or cancellation; the group is killed then."""
    try:
        child = subprocess.Popen(list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=command_environment(), start_new_session=True, cwd=cwd)
    except OSError as error:
        raise AgentError("%s: %s" % (argv[0], error.strerror or error), "gone") from None
    try:
        out, err = _converse(child, argv, time.monotonic() + timeout_s, stdin, cancelled)
    finally:
        if child.poll() is None:
            signal_group(child.pid, signal.SIGKILL)
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                _close_quietly(stream)
    return {"returncode": child.returncode, "stdout": out.decode("utf-8", "replace"),
            "stderr": err.decode("utf-8", "replace")}


def _close_quietly(stream: Any) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        return  # the child ended without reading all of its input


def _converse(child: "subprocess.Popen[bytes]", argv: Sequence[str], deadline: float, stdin: bytes,
              cancelled: Optional[threading.Event]) -> Tuple[bytes, bytes]:
    """Feed and drain a child until it has ended and its output is at an end (or 0.3 s after it ended, when something
    it left behind holds the pipe)."""
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    buffers = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
    ended = 0.0
    with selectors.DefaultSelector() as selector:
        for fd in buffers:
            selector.register(fd, selectors.EVENT_READ)
        feed = memoryview(stdin)
        if feed:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE)
        else:
            child.stdin.close()
        while selector.get_map():
            if cancelled is not None and cancelled.is_set():
                raise AgentError("%s: cancelled" % argv[0], "cancelled")
            if time.monotonic() > deadline:
                tail = bytes(buffers[child.stderr.fileno()] or buffers[child.stdout.fileno()])[-2000:]
                raise AgentError("%s: not done in time; its last output:\n%s"
                                 % (" ".join(argv), tail.decode("utf-8", "replace")), "timeout")
            for key, _ in selector.select(0.1):
                if key.fileobj is child.stdin:
                    feed = _feed(child, selector, feed)
                else:
                    _drain(key.fd, selector, buffers[key.fd], argv)
            if child.poll() is not None:
                ended = ended or time.monotonic()
                if time.monotonic() - ended > 0.3:
                    break
    while child.poll() is None:
        if time.monotonic() > deadline or (cancelled is not None and cancelled.is_set()):
            raise AgentError("%s: closed its output but did not end in time" % argv[0], "timeout")
        time.sleep(0.002)
    return bytes(buffers[child.stdout.fileno()]), bytes(buffers[child.stderr.fileno()])


def _feed(child: "subprocess.Popen[bytes]", selector: Any, feed: memoryview) -> memoryview:
    assert child.stdin is not None
    try:
        feed = feed[os.write(child.stdin.fileno(), feed[:65536]):]
    except BrokenPipeError:
        feed = feed[:0]
    if not feed:
        selector.unregister(child.stdin)
        _close_quietly(child.stdin)
    return feed


def _drain(fd: int, selector: Any, buffer: bytearray, argv: Sequence[str]) -> None:
    data = os.read(fd, 65536)
    if not data:
        selector.unregister(fd)
        return
    buffer.extend(data)
    if len(buffer) > MAX_OUTPUT:
        raise AgentError("%s: more than %d bytes of output" % (" ".join(argv), MAX_OUTPUT))


def family(pid: int, start: int, marker: str) -> List[Tuple[int, int]]:
    """(pid, start time) of a spawned program and all it started: its session, and whoever carries its marker."""
    members = []  # type: List[Tuple[int, int]]
    leader_lives = start_time(pid) == start
    needle = ("%s=%s" % (MARK_VARIABLE, marker)).encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        other = int(name)
        try:
            fields = read_text("/proc/%d/stat" % other).rpartition(")")[2].split()
            with open("/proc/%d/environ" % other, "rb") as stream:
                marked = needle in stream.read(1 << 20).split(b"\0")
        except (OSError, AgentError):
            continue
        if fields[0] not in ("Z", "X") and (marked or (leader_lives and int(fields[3]) == pid)):
            members.append((other, int(fields[19])))
    return members


def end_family(pid: int, start: int, marker: str, patience_s: float, reap: Optional[Callable[[], Any]]) -> None:
    """INT, TERM, KILL in turn to a spawned program and all it started, each with ``patience_s`` to end. What is left
    once the program itself has ended gets 0.2 s only."""
    # KILL more than once: what forked while the first one was on its way is found by the next.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL):
        members = family(pid, start, marker)
        for member, began in members:
            if start_time(member) == began:
                _signal(member, number)
        deadline = time.monotonic() + patience_s
        while members and time.monotonic() < deadline:
            if reap is not None:
                reap()
            members = [(member, began) for member, began in members if start_time(member) == began]
            if members:
                if all(member != pid for member, _ in members) and number != signal.SIGKILL:
                    deadline = min(deadline, time.monotonic() + 0.2)
                time.sleep(0.005)
        if not family(pid, start, marker):
            return
    raise AgentError("processes survived SIGKILL: %s" % family(pid, start, marker))


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def breaths() -> Iterator[float]:
    """Seconds to sleep between looks: short at first. Up to Python 3.8 a lock's time-out ends by the wall clock, which
    somebody may set back by an hour; sleep and select know the monotonic clock only."""
    seconds = 0.0005
    while True:
        yield seconds
        seconds = min(2 * seconds, 0.05)


class Process:
    """A long-running program: the end of its output in a ring, its stdin open for control lines."""

    def __init__(self, child: "subprocess.Popen[bytes]", name: str, start: int, marker: str) -> None:
        self.child, self.name, self.start, self.marker = child, name, start, marker
        self._lock = threading.Lock()
        self._ring = bytearray()
        self._dropped = 0
        self._fresh = 0  # absolute position from which lines count as new: the last write
        self._changed = time.monotonic()
        self._eof = False
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.child.stdout is not None
        fd = self.child.stdout.fileno()
        while True:
            data = os.read(fd, 65536)
            with self._lock:
                self._ring.extend(data)
                if len(self._ring) > MAX_OUTPUT:
                    self._dropped += len(self._ring) - MAX_OUTPUT
                    del self._ring[:len(self._ring) - MAX_OUTPUT]
                self._changed = time.monotonic()
                self._eof = not data
            if not data:
                self.child.stdout.close()
                return

    def tail(self, count: int) -> str:
        """The last ``count`` bytes of stdout and stderr."""
        with self._lock:
            return bytes(self._ring[-count:] if count else b"").decode("utf-8", "replace")

    def write(self, data: bytes, timeout_s: float) -> None:
        """Write to stdin; output from here on is what ``wait`` looks at."""
        assert self.child.stdin is not None
        fd = self.child.stdin.fileno()
        with self._lock:
            self._fresh = self._dropped + len(self._ring)
        deadline = time.monotonic() + timeout_s
        view = memoryview(data)
        while view:
            if not select.select([], [fd], [], max(0.0, deadline - time.monotonic()))[1]:
                raise AgentError("%s does not read its input" % self.name, "timeout")
            try:
                view = view[os.write(fd, view[:4096]):]
            except BrokenPipeError:
                raise AgentError("%s has ended" % self.name, "gone") from None

    def wait(self, pattern: str, timeout_s: float, cancelled: threading.Event) -> str:
        """First line since the last write (or the start) that matches; an unfinished line counts once it is still."""
        try:
            regex = re.compile(pattern)
        except re.error as error:
            raise AgentError("bad pattern %r: %s" % (pattern, error), "bad-request") from None
        deadline, looks = time.monotonic() + timeout_s, breaths()
        position = 0
        while True:
            with self._lock:
                position = max(position, self._fresh, self._dropped)
                text = bytes(self._ring[position - self._dropped:])
                still = self._eof or time.monotonic() - self._changed > 0.05
                ended = self._eof and self.child.poll() is not None
            lines = text.split(b"\n")
            for line in lines if still else lines[:-1]:
                if regex.search(line.decode("utf-8", "replace")):
                    return line.decode("utf-8", "replace")
            position += len(text) - len(lines[-1])
            if ended:
                raise AgentError("%s ended with status %s before %r; its last output:\n%s"
                                 % (self.name, self.child.returncode, pattern, self.tail(4000)), "gone")
            if time.monotonic() > deadline or cancelled.is_set():
                raise AgentError("%s: no line matched %r in %.1f s; its last output:\n%s"
                                 % (self.name, pattern, timeout_s, self.tail(4000)), "timeout")
            time.sleep(next(looks))

    def end(self, patience_s: float) -> Optional[int]:
        """End it and all it started; returns its exit status."""
        end_family(self.child.pid, self.start, self.marker, patience_s, self.child.poll)
        deadline, looks = time.monotonic() + 1.0, breaths()
        while not self._eof and time.monotonic() < deadline:
            time.sleep(next(looks))
        if self.child.stdin is not None:
            _close_quietly(self.child.stdin)
        return self.child.poll()


#: Run with ``python -c`` by the process that becomes a program: it waits until the agent has put its pid into the
#: journal, and does nothing when the gate closes without a line because the agent died first. A text of its own because
#: compiling this whole file for each program would take a tenth of a second.
LAUNCHER = """
import json, os, signal, sys
gate, complaint = int(sys.argv[1]), int(sys.argv[2])
with os.fdopen(gate, "rb") as stream:
    line = stream.readline()
if not line.endswith(b"\\n"):
    os._exit(99)
spec = json.loads(line.decode())
try:
    if spec["cores"]:
        os.sched_setaffinity(0, spec["cores"])
    for number in (signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(complaint, False)
    os.execve(spec["argv"][0], spec["argv"], spec["env"])
except OSError as error:
    os.write(complaint, str(error.strerror or error).encode())
os._exit(127)
"""


# ---------------------------------------------------------------------------------------------------------------------
# CPU samples and pauses
# ---------------------------------------------------------------------------------------------------------------------


class RunTime:
    """Per-core time that tasks ran, ns: from /proc/schedstat, else from the cpuacct cgroup's root (both count task
    time without steal, and neither counts interrupts of an idle core). ``source`` is "" where a kernel has neither."""

    def __init__(self) -> None:
        self.source = ""
        self._fd = -1
        for source, path in self._places():
            try:
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            self.source = source
            if self.parse(self.read()):
                return
            os.close(self._fd)
            self.source, self._fd = "", -1

    @staticmethod
    def _places() -> Iterator[Tuple[str, str]]:
        yield "schedstat", "/proc/schedstat"
        for view, root in (("/proc/self/mounts", ""), ("/proc/1/mounts", "/proc/1/root")):
            for line in read_or(view, "").splitlines():
                fields = line.split()
                if len(fields) > 3 and fields[2] == "cgroup" and "cpuacct" in fields[3].split(","):
                    yield "cpuacct", root + fields[1] + "/cpuacct.usage_percpu"

    def read(self) -> bytes:
        """The file as it is now, for :meth:`parse`."""
        return os.pread(self._fd, 1 << 20, 0) if self._fd >= 0 else b""

    def parse(self, data: bytes) -> Dict[int, int]:
        """Core -> ns."""
        if self.source == "cpuacct":
            return {core: int(value) for core, value in enumerate(data.split())}
        rows = [line.split() for line in data.decode().splitlines() if re.match(r"cpu\d", line)]
        return {int(row[0][3:]): int(row[7]) for row in rows if len(row) > 7}

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def thread_times() -> Dict[Tuple[int, int], int]:
    """(pid, tid) -> run time in ns of every thread."""
    times = {}  # type: Dict[Tuple[int, int], int]
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        try:
            for tid in os.listdir("/proc/%s/task" % pid):
                text = read_text("/proc/%s/task/%s/schedstat" % (pid, tid))
                times[(int(pid), int(tid))] = int(text.split()[0])
        except (OSError, AgentError, IndexError, ValueError):
            continue
    return times


def thread_use(before: Dict[Tuple[int, int], int]) -> List[Tuple[int, str, float]]:
    """(core it was last seen on, name, seconds it ran) of every thread that ran since ``before``."""
    use = {}  # type: Dict[Tuple[int, str], float]
    for (pid, tid), ran in thread_times().items():
        delta = ran - before.get((pid, tid), 0)
        if delta <= 0:
            continue
        try:
            head, _, rest = read_text("/proc/%d/task/%d/stat" % (pid, tid)).rpartition(")")
        except (OSError, AgentError):
            continue
        key = (int(rest.split()[36]), head.partition("(")[2])
        use[key] = use.get(key, 0.0) + delta / 1e9
    rows = sorted(((core, name, seconds) for (core, name), seconds in use.items()), key=lambda row: -row[2])
    return rows[:500]


class Speed:
    """How fast some cores run and how often they were throttled, as far as the host tells.

    ``source``: "APERF/MPERF", two counters of each core from /dev/cpu whose ratio, times the base frequency, is the
    mean frequency of its time out of idle; else "scaling_cur_freq", kHz as the kernel last saw it; else "" with a
    ``reason`` (a virtual machine mostly has neither). ``root``: where /dev and /sys are.
    """

    _PLACES = (("APERF/MPERF", "/dev/cpu/%d/msr"),
               ("scaling_cur_freq", "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq"))
    _MPERF, _APERF = 0xE7, 0xE8

    def __init__(self, cores: Sequence[int], root: str = "") -> None:
        self.source, self.reason = "", "no cores were named"
        self._cores, self._root = list(cores), root
        self._fds = {}  # type: Dict[int, int]
        refused = []  # type: List[str]
        for source, place in self._PLACES if self._cores else ():
            try:
                for core in self._cores:
                    self._fds[core] = os.open(root + place % core, os.O_RDONLY | os.O_CLOEXEC)
                self.source = source
                rows = self.parse(self.read())
                if len(rows) == len(self._cores):
                    self.reason = ""
                    break
                refused.append("%s does not tell" % place.replace("%d", "*"))
            except OSError as error:
                refused.append("%s: %s" % (place.replace("%d", "*"), error.strerror))
            self.close()
            self.source, self.reason = "", "; ".join(refused)
        self._throttled = self._throttle_counts()

    def read(self) -> List[Tuple[int, bytes, bytes]]:
        """The files as they are now, for :meth:`parse`; a core that has gone offline is left out."""
        found = []  # type: List[Tuple[int, bytes, bytes]]
        for core, fd in self._fds.items():
            try:
                if self.source == "scaling_cur_freq":
                    found.append((core, os.pread(fd, 32, 0), b""))
                else:
                    found.append((core, os.pread(fd, 8, self._APERF), os.pread(fd, 8, self._MPERF)))
            except OSError:
                continue
        return found

    def parse(self, read: List[Tuple[int, bytes, bytes]]) -> List[List[int]]:
        """[core, APERF, MPERF] or [core, kHz, 0]; what is no number, or zero, is left out."""
        rows = []  # type: List[List[int]]
        for core, one, other in read:
            if self.source == "scaling_cur_freq":
                values = [int(one) if one.strip().isdigit() else 0, 0]
            else:
                values = [int.from_bytes(one, "little"), int.from_bytes(other, "little")]
            if values[0]:
                rows.append([core, *values])
        return rows

    def _throttle_counts(self) -> Dict[int, int]:
        """Core -> times that it or its package was throttled, of cores that count it."""
        counts = {}  # type: Dict[int, int]
        for core in self._cores:
            folder = self._root + "/sys/devices/system/cpu/cpu%d/thermal_throttle/" % core
            texts = [read_or(folder + name, "").strip() for name in ("core_throttle_count", "package_throttle_count")]
            if any(text.isdigit() for text in texts):
                counts[core] = sum(int(text) for text in texts if text.isdigit())
        return counts

    def throttled(self) -> Dict[int, int]:
        """Core -> how often since this began, of cores that counted it then and now."""
        return {core: max(0, count - self._throttled[core]) for core, count in self._throttle_counts().items()
                if core in self._throttled}

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}


class Sampler:
    """Reads /proc/stat, the run times and the speed of ``cores`` every ``period_s`` in a thread of its own, into
    memory. What was read is parsed at the end: the core this runs on may be the generator's."""

    def __init__(self, period_s: float, cores: Sequence[int], probes: "List[Probe]", threads: bool) -> None:
        self.period_s = period_s
        self._samples = []  # type: List[Tuple[int, bytes, bytes, List[Tuple[int, bytes, bytes]]]]
        self._cores = os.cpu_count() or 1
        self.truncated = False
        self._probes = probes
        self._run_time = RunTime()
        self._speed = Speed(cores)
        self._stat = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)
        self._wake, self._stop = os.pipe()  # the loop ends when the second is closed
        self._wall = wall_offset_ns()
        self._failure = None  # type: Optional[BaseException]
        self._threads = thread_times() if threads else None
        for probe in probes:
            probe.start()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._used = usage.ru_utime + usage.ru_stime
        self._take()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        # Only the lines of the cores, at most 256 bytes each: the line of interrupts behind them is long.
        stat = os.pread(self._stat, 256 * (self._cores + 1), 0)
        when = now_ns()
        if self._cores * len(self._samples) < MAX_SAMPLE_CELLS:
            self._samples.append((when, stat, self._run_time.read(), self._speed.read()))
        else:
            self.truncated = True

    def _parsed(self) -> List[Any]:
        """[ns, [[core, ticks of 8 states], ...], [[core, run ns], ...], Speed's rows] of every sample."""
        parsed = []  # type: List[Any]
        for when, stat, run, speed in self._samples:
            rows = [line.split() for line in stat.decode().splitlines() if re.match(r"cpu\d", line)]
            cores = [[int(row[0][3:])] + [int(value) for value in row[1:9]] for row in rows if len(row) >= 9]
            parsed.append([when, cores, sorted(self._run_time.parse(run).items()), self._speed.parse(speed)])
        return parsed

    def _loop(self) -> None:
        due = time.monotonic()
        try:
            while True:
                due = max(due + self.period_s, time.monotonic())
                if select.select([self._wake], [], [], max(0.0, due - time.monotonic()))[0]:
                    return
                self._take()
        except OSError as error:
            self._failure = error

    def stop(self) -> Json:
        """End and return everything recorded."""
        self._end_loop()
        wall = [self._wall, wall_offset_ns()]
        probed = [probe.stop() for probe in self._probes]
        if self._failure is not None:
            raise AgentError("sampling failed: %s" % self._failure)
        self._take()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cost = usage.ru_utime + usage.ru_stime - self._used + sum(result["cost_s"] for result in probed)
        use = thread_use(self._threads) if self._threads is not None else []
        samples = self._parsed()
        speed = {"source": self._speed.source, "reason": self._speed.reason,
                 "throttled": sorted(self._speed.throttled().items())}
        self.close()
        return {"samples": samples, "speed": speed, "hz": os.sysconf("SC_CLK_TCK"), "run_source": self._run_time.source,
                "probes": probed, "cost_s": cost, "threads": use, "truncated": self.truncated, "wall_offset_ns": wall}

    def _end_loop(self) -> None:
        if self._stop >= 0:
            os.close(self._stop)
            self._stop = -1
            self._thread.join(10.0)
            os.close(self._wake)

    def close(self) -> None:
        """Stop the thread and close files, dropping what was recorded."""
        self._end_loop()
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1
        self._run_time.close()
        self._speed.close()


class Probe:
    """A pause probe: a process of its own, so that no other thread's interpreter lock looks like a pause. It is
    kept from sampling to sampling, asleep in between. ``program``: the native one of the same behaviour, or ""."""

    def __init__(self, core: int, period_ns: int, program: str) -> None:
        self.core = core
        own = [sys.executable, "-I", "-S", os.path.abspath(__file__), "probe"]
        argv = ([program] if program else own) + [str(core), str(period_ns)]
        self._child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.info = self._answer(10.0)

    def _answer(self, timeout_s: float) -> Json:
        assert self._child.stdout is not None
        if not select.select([self._child.stdout], [], [], timeout_s)[0]:
            self.close()
            raise AgentError("the pause probe of core %d does not answer" % self.core)
        line = self._child.stdout.readline()
        if not line:
            self.close()
            raise AgentError("the pause probe of core %d ended with status %s" % (self.core, self._child.returncode))
        answer = json.loads(line.decode())  # type: Json
        if "error" in answer:
            self.close()
            raise AgentError("pause probe of core %d: %s" % (self.core, answer["error"]))
        return answer

    def start(self) -> None:
        """Begin to watch; returns once it does."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"go\n")
        self._child.stdin.flush()
        self._answer(5.0)

    def stop(self) -> Json:
        """Stop watching; returns core, pauses, cost_s, wakes, period_ns, priority."""
        self._child.send_signal(signal.SIGUSR1)
        return self._answer(5.0)

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._child.poll() is None

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                _close_quietly(stream)


class _Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class Watch:
    """The probe's side: wakes up on one core at fixed times and measures how late it was.

    Sees: the core taking no timer interrupts (a hypervisor that runs something else, SMIs, interrupts off). Does not
    see as a pause: another task or softirq that keeps the core busy, because that time is the run delay the
    scheduler counts for this thread and it is subtracted. A stop of length d is noticed with probability
    (d - 250 us) / period when shorter than that; what is reported is its part after the due time, so a pause may
    have begun up to one period earlier.
    """

    def __init__(self, core: int, period_ns: int) -> None:
        os.sched_setaffinity(0, [core])
        self.core = core
        self.priority = self._real_time()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: not to outlive the agent
        self._libc.prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK 1 ns: matters where SCHED_FIFO is refused
        self._timer = self._libc.timerfd_create(1, os.O_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._delay = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self.stopped = False
        signal.signal(signal.SIGUSR1, self._on_stop)
        self.period_ns = period_ns or self._affordable()

    def _on_stop(self, number: int, frame: Any) -> None:
        self.stopped = True

    @staticmethod
    def _real_time() -> int:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PROBE_PRIORITY))
            return PROBE_PRIORITY
        except OSError:
            return 0

    def _arm(self, first_ns: int, period_ns: int) -> None:
        spec = _Itimerspec(_Timespec(period_ns // 10 ** 9, period_ns % 10 ** 9),
                           _Timespec(first_ns // 10 ** 9, first_ns % 10 ** 9))
        if self._libc.timerfd_settime(self._timer, 1, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _affordable(self) -> int:
        """The shortest period that keeps to the budget by what a wake costs on a core that somebody uses."""
        wakes = 24
        spinner = os.fork()
        if spinner == 0:
            self._libc.prctl(1, signal.SIGKILL, 0, 0, 0)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            while True:
                pass
        # The best of a few: what others do to this core now is not the probe's cost.
        used = min(self.watch(PROBE_PERIODS_NS[0], wakes)["cost_s"] / wakes for _ in range(5))
        os.kill(spinner, signal.SIGKILL)
        os.waitpid(spinner, 0)
        for period in PROBE_PERIODS_NS:
            if used <= PROBE_BUDGET * period / 1e9:
                return period
        return PROBE_PERIODS_NS[-1]

    def _run_delay(self) -> int:
        return int(os.pread(self._delay, 64, 0).split()[1])

    def watch(self, period: int, most: int = 0) -> Json:
        """Watch until stopped (or for ``most`` wakes). The loop is spelled out for speed."""
        pauses, unlisted, wakes = [], 0, 0  # type: List[List[int]], int, int
        read, timer, clock, monotonic = os.read, self._timer, time.clock_gettime, time.CLOCK_MONOTONIC
        often = 1 if self.priority == 0 else 256  # at SCHED_FIFO the delay hardly grows, so its base may age
        due = now_ns() + period
        self._arm(due, period)
        due -= period
        base = self._run_delay()
        before = resource.getrusage(resource.RUSAGE_SELF)
        while not self.stopped:
            missed = read(timer, 8)
            late = int(clock(monotonic) * 1e9)
            due += period
            late -= due
            wakes += 1
            if late >= PAUSE_NS:
                delay = self._run_delay()
                length = late - (delay - base)
                base = delay
                if length >= PAUSE_NS:
                    if len(pauses) < MAX_PAUSES:
                        pauses.append([due, length])
                    else:
                        unlisted += 1
            elif wakes % often == 0:
                base = self._run_delay()
            due += period * (struct.unpack("=Q", missed)[0] - 1)
            if wakes == most:
                break
        self.stopped = False
        after = resource.getrusage(resource.RUSAGE_SELF)
        self._arm(0, 0)
        cost = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"core": self.core, "pauses": pauses, "unlisted": unlisted, "wakes": wakes, "cost_s": cost,
                "period_ns": period, "priority": self.priority}


def probe_main(core: int, period_ns: int) -> int:
    """Mode ``probe``: serve "go" lines until stdin closes; each is answered at once, and again when SIGUSR1 ends it."""
    try:
        watch = Watch(core, period_ns)
    except OSError as error:
        _say({"error": "%s" % error})
        return 1
    _say({"core": core, "period_ns": watch.period_ns, "priority": watch.priority})
    while sys.stdin.readline() == "go\n":
        watch.stopped = False
        _say({"watching": True})
        _say(watch.watch(watch.period_ns))
    return 0


def _say(message: Json) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------------------------------------------------------------
# Counters
# ---------------------------------------------------------------------------------------------------------------------

_SIOCETHTOOL, _GSTRINGS, _GSTATS, _GSSET_INFO = 0x8946, 0x1B, 0x1D, 0x37


def _ethtool(control: socket.socket, ifname: str, command: bytes) -> bytearray:
    """One ethtool ioctl; ``command`` is the structure, returned as the kernel filled it."""
    data = ctypes.create_string_buffer(command, len(command))
    request = struct.pack("16sP", ifname.encode(), ctypes.addressof(data)).ljust(40, b"\0")
    fcntl.ioctl(control.fileno(), _SIOCETHTOOL, request)
    return bytearray(data.raw)


def driver_counters(control: socket.socket, ifname: str) -> Dict[str, int]:
    """What ``ethtool -S`` shows; empty where a driver keeps no counters of its own. A name that a driver uses for each
    of its queues (vmxnet3) has their sum."""
    try:
        info = _ethtool(control, ifname, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << 1, 0))
        count = struct.unpack_from("=I", info, 16)[0] if struct.unpack_from("=Q", info, 8)[0] else 0
        if not 0 < count <= 65536:
            return {}
        names = _ethtool(control, ifname, struct.pack("=III", _GSTRINGS, 1, count) + bytes(32 * count))
        values = _ethtool(control, ifname, struct.pack("=II", _GSTATS, count) + bytes(8 * count))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):
            return {}
        raise
    result = {}  # type: Dict[str, int]
    for index in range(count):
        name = bytes(names[12 + 32 * index:44 + 32 * index]).partition(b"\0")[0].decode("ascii", "replace").strip()
        result[name] = result.get(name, 0) + struct.unpack_from("=Q", values, 8 + 8 * index)[0]
    return result


def interface_counters(ifname: str) -> Dict[str, int]:
    """/sys/class/net/IF/statistics by name, and the driver's counters (``ethtool.NAME`` where the names clash)."""
    counters = {}  # type: Dict[str, int]
    folder = "/sys/class/net/%s/statistics" % ifname
    try:
        for name in os.listdir(folder):
            counters[name] = int(read_text(os.path.join(folder, name)))
    except FileNotFoundError:
        raise AgentError("there is no interface %s" % ifname, "gone") from None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name, value in driver_counters(control, ifname).items():
            counters["ethtool." + name if name in counters else name] = value
    return counters


def system_counters() -> Dict[str, int]:
    """/proc/net/snmp and netstat as ``udp.InDatagrams``, snmp6 as ``udp6.InDatagrams``, softnet_stat as
    ``softnet.CORE.dropped``."""
    counters = {}  # type: Dict[str, int]
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = read_or(path, "").splitlines()
        for head, values in zip(lines[::2], lines[1::2]):  # noqa: B905 (no strict in Python 3.6)
            prefix = head.partition(":")[0].lower()
            for name, value in zip(head.split()[1:], values.split()[1:]):  # noqa: B905
                counters["%s.%s" % (prefix, name)] = int(value)
    for line in read_or("/proc/net/snmp6", "").splitlines():
        found = re.match(r"(Ip6|Icmp6|Udp6|UdpLite6)(\w+)\s+(\d+)$", line)
        if found:
            counters["%s.%s" % (found.group(1).lower(), found.group(2))] = int(found.group(3))
    for row, line in enumerate(read_or("/proc/net/softnet_stat", "").splitlines()):
        fields = [int(value, 16) for value in line.split()]
        core = fields[12] if len(fields) > 12 else row
        for name, column in (("processed", 0), ("dropped", 1), ("time_squeeze", 2), ("received_rps", 9)):
            if column < len(fields):
                counters["softnet.%d.%s" % (core, name)] = fields[column]
    return counters


class Netlink:
    """Just enough netlink to ask the kernel about the interfaces of this namespace: ``protocol`` 16 is generic netlink
    (NAPI threads, by its family ``netdev``), 0 is rtnetlink (queueing disciplines)."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.settimeout(2.0)
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @staticmethod
    def attribute(kind: int, data: bytes) -> bytes:
        """An attribute as it is sent."""
        return (struct.pack("=HH", 4 + len(data), kind) + data).ljust((4 + len(data) + 3) & ~3, b"\0")

    @staticmethod
    def attributes(data: bytes) -> Dict[int, bytes]:
        """Attributes as they were received."""
        found, offset = {}, 0  # type: Dict[int, bytes], int
        while offset + 4 <= len(data):
            length, kind = struct.unpack_from("=HH", data, offset)
            if length < 4:
                break
            found[kind & 0x3FFF] = data[offset + 4:offset + length]
            offset += (length + 3) & ~3
        return found

    def ask(self, kind: int, header: bytes, attributes: bytes, dump: bool) -> Iterator[Tuple[bytes, Dict[int, bytes]]]:
        """Send one request of this message type; the family's header and the attributes of every answer."""
        flags, size = 0x301 if dump else 0x5, 16 + len(header)
        payload = header + attributes
        self._socket.send(struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload)
        while True:
            data, offset = self._socket.recv(1 << 16), 0
            while offset + 16 <= len(data):
                length, answer = struct.unpack_from("=IH", data, offset)
                if answer in (2, 3):  # NLMSG_ERROR (0: acknowledged), NLMSG_DONE
                    code = struct.unpack_from("=i", data, offset + 16)[0] if length >= 20 else 0
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield data[offset + 16:offset + size], self.attributes(data[offset + size:offset + length])
                offset += (length + 3) & ~3

    def ask_generic(self, family_id: int, command: int, attributes: bytes, dump: bool) -> List[Dict[int, bytes]]:
        """The same with a header of generic netlink, which tells nothing in an answer."""
        header = struct.pack("=BBH", command, 1, 0)
        return [answer for _, answer in self.ask(family_id, header, attributes, dump)]


#: RTM_GETQDISC; TCA_KIND, TCA_STATS2 and in it TCA_STATS_QUEUE (five numbers of 32 bits: length, backlog, drops, ...).
_GETQDISC, _TCA_KIND, _TCA_STATS2, _STATS_QUEUE, _TC_ROOT = 38, 1, 7, 3, 0xFFFFFFFF


def qdisc_drops(ifnames: Sequence[str]) -> Dict[str, Dict[str, int]]:
    """What the queueing discipline of each interface has dropped, as ``qdisc.KIND@HANDLE:.drops``; nothing where the
    kernel does not tell. Of the root alone: the kernel adds the drops of its classes and leaves to it."""
    indices = {socket.if_nametoindex(ifname): ifname for ifname in ifnames}
    found = {ifname: {} for ifname in ifnames}  # type: Dict[str, Dict[str, int]]
    netlink = Netlink(0)
    try:
        for header, answer in netlink.ask(_GETQDISC, bytes(20), b"", True):
            index, handle, parent = struct.unpack_from("=iII", header, 4)
            queue_stats = Netlink.attributes(answer.get(_TCA_STATS2, b"")).get(_STATS_QUEUE, b"")
            if parent == _TC_ROOT and index in indices and len(queue_stats) >= 12:
                kind = answer.get(_TCA_KIND, b"").partition(b"\0")[0].decode("ascii", "replace")
                name = "qdisc.%s@%x:.drops" % (kind, handle >> 16)
                found[indices[index]][name] = struct.unpack_from("=I", queue_stats, 8)[0]
    except OSError:  # a kernel without them, a sandbox, no answer in time: a missing counter is no reason to end a run
        return {}
    finally:
        netlink.close()
    return found


def napi_threads(ifname: str) -> Dict[int, int]:
    """NAPI id -> pid of an interface's threaded NAPI: from netlink (kernel 6.8), else by the kthreads' names."""
    try:
        index = socket.if_nametoindex(ifname)
    except OSError:
        raise AgentError("there is no interface %s" % ifname, "gone") from None
    if read_or("/sys/class/net/%s/threaded" % ifname, "0").strip() == "0":
        return {}
    netlink = Netlink(16)
    try:
        family = netlink.ask_generic(16, 3, Netlink.attribute(2, b"netdev\0"), False)[0]
        family_id = struct.unpack("=H", family[1])[0]
        answers = netlink.ask_generic(family_id, 11, Netlink.attribute(1, struct.pack("=I", index)), True)
    except (OSError, KeyError, IndexError):
        return _napi_by_name(ifname)
    finally:
        netlink.close()
    return {struct.unpack("=I", answer[2])[0]: struct.unpack("=I", answer[4])[0] for answer in answers
            if 2 in answer and 4 in answer}


def _napi_by_name(ifname: str) -> Dict[int, int]:
    threads = {}  # type: Dict[int, int]
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = re.match(r"napi/%s-(\d+)$" % re.escape(ifname), read_or("/proc/%s/comm" % name, "").strip())
            if found:
                threads[int(found.group(1))] = int(name)
    return threads


# ---------------------------------------------------------------------------------------------------------------------
# Programs built on the host
# ---------------------------------------------------------------------------------------------------------------------


def compilers() -> str:
    """Versions of the compilers present and of the kernel: part of a built program's identity."""
    words = [os.uname().release, os.uname().machine]
    for name in ("cc", "clang"):
        path = find_program(name)
        if path is not None:
            words.append(run_command([path, "--version"], 20.0, b"", None)["stdout"].partition("\n")[0])
    return "\n".join(words)


def unpack(archive: bytes, folder: str) -> None:
    """Unpack a tar of plain files with relative paths; anything else in it is an error."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            clean = os.path.normpath(member.name)
            if not member.isfile() or clean.startswith(("/", "..")):
                raise AgentError("archive member %r is not a plain file inside the folder" % member.name)
            source = tar.extractfile(member)
            assert source is not None
            path = os.path.join(folder, clean)
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            with open(path, "wb") as stream:
                stream.write(source.read())
            os.chmod(path, 0o755 if member.mode & 0o100 else 0o644)


class BuildCache:
    """Built programs by content: ``ROOT/<hash of sources, target, compilers>/``, put in place by one rename."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._compilers = ""

    def folder(self, source: str, target: str) -> str:
        """Where a program lies once it is built."""
        self._compilers = self._compilers or compilers()
        key = hashlib.sha256("\0".join([source, target, self._compilers]).encode()).hexdigest()[:32]
        return os.path.join(self.root, key)

    def build(self, folder: str, target: str, archive: bytes, timeout_s: float, cancelled: threading.Event) -> None:
        """Unpack and ``make -s TARGET`` in a folder beside, then rename; raises AgentError with the output's tail."""
        os.makedirs(self.root, 0o755, exist_ok=True)
        with self._locked():
            if os.path.isdir(folder):
                return  # another agent was faster
            work = folder + ".new"
            remove_tree(work)
            os.mkdir(work, 0o755)
            try:
                unpack(archive, work)
                done = run_command(["make", "-s", target], timeout_s, b"", cancelled, cwd=work)
                if done["returncode"] != 0 or not os.path.exists(os.path.join(work, target)):
                    tail = (done["stdout"] + done["stderr"])[-6000:]
                    raise AgentError("make %s: exit status %d\n%s" % (target, done["returncode"], tail), "build")
                os.rename(work, folder)
            finally:
                remove_tree(work)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(os.path.join(self.root, ".lock"), "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def remove_tree(folder: str) -> None:
    """Remove a folder of this agent's own with all in it, if it is there. Links in it are removed, not followed."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(parent, name))
        for name in folders:
            path = os.path.join(parent, name)
            os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    if os.path.isdir(folder):
        os.rmdir(folder)


# ---------------------------------------------------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------------------------------------------------

Check = Callable[[Any], bool]


def _text(most: int) -> Check:
    return lambda value: isinstance(value, str) and len(value) <= most and "\0" not in value


def _number(least: float, most: float) -> Check:
    return lambda value: (isinstance(value, (int, float)) and not isinstance(value, bool)
                          and least <= value <= most)


def _whole(least: int, most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _list_of(check: Check, least: int, most: int) -> Check:
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(check, value))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/") and len(value) <= 4096 and "\0" not in value


def _is_ifname(value: Any) -> bool:
    return isinstance(value, str) and bool(re.match(r"^[^\s/\0]{1,15}$", value)) and value not in (".", "..")


def _is_target(value: Any) -> bool:
    return (isinstance(value, str) and bool(re.match(r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,200}$", value))
            and ".." not in value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_part(value: Any) -> bool:
    return value in ("", "generator", "dut")


def _is_env(value: Any) -> bool:
    return (isinstance(value, dict) and len(value) <= 256
            and all(_text(65536)(key) and _text(65536)(item) and key and "=" not in key
                    for key, item in value.items()))


_ARGV = _list_of(_text(65536), 1, 1024)
_CORES = _list_of(_whole(0, 65535), 0, 4096)
_TIME = _number(0, 3600)
_PID = _whole(1, 1 << 30)

#: op -> argument -> (check, required). Anything else in a request is refused.
OPERATIONS = {
    "run": {"argv": (_ARGV, True), "timeout_s": (_TIME, True), "stdin": (_text(MAX_LINE), True)},
    "which": {"program": (_text(4096), True)},
    "read": {"path": (_is_path, True)},
    "exists": {"path": (_is_path, True)},
    "set_file": {"path": (_is_path, True), "value": (_text(MAX_VALUE), True), "verify": (_is_bool, True)},
    "create": {"path": (_is_path, True), "text": (_text(MAX_READ), False)},
    "apply": {"do": (_ARGV, True), "undo": (_ARGV, True), "made": (_ARGV, False), "timeout_s": (_TIME, True)},
    "spawn": {"argv": (_ARGV, True), "name": (_text(200), True), "cores": (_CORES, True), "env": (_is_env, True)},
    "status": {"pid": (_PID, True)},
    "write": {"pid": (_PID, True), "text": (_text(MAX_READ), True)},
    "output": {"pid": (_PID, True), "bytes": (_whole(0, MAX_OUTPUT), True)},
    "wait": {"pid": (_PID, True), "pattern": (_text(2000), True), "timeout_s": (_TIME, True)},
    "stop": {"pid": (_PID, True), "timeout_s": (_TIME, True)},
    "pin": {"pid": (_PID, True), "core": (_whole(0, 65535), True), "fifo": (_whole(0, 97), True)},
    "napi_threads": {"ifname": (_is_ifname, True)},
    "keep_napi": {"ifname": (_is_ifname, True)},
    "mark": {},
    "undo_to": {"mark": (_whole(0, 1 << 60), True)},
    "interface_counters": {"ifnames": (_list_of(_is_ifname, 0, 64), True)},
    "system_counters": {},
    "sample_start": {"period_s": (_number(0.01, 3600), True), "cores": (_CORES, True),
                     "probe_period_ns": (_whole(0, 10 ** 9), True), "probe_program": (_text(4096), True),
                     "threads": (_is_bool, True)},
    "sample_stop": {},
    "cached": {"source": (_text(100), True), "target": (_is_target, True)},
    "build": {"source": (_text(100), True), "target": (_is_target, True), "archive": (_text(MAX_LINE), True),
              "timeout_s": (_TIME, True)},
    "bye": {},
}  # type: Dict[str, Dict[str, Tuple[Check, bool]]]

HELLO = {"protocol": (_whole(0, 1 << 30), True), "owner": (_text(500), True), "lease_s": (_number(0.2, 600), True),
         "home_cores": (_CORES, True), "wait_s": (_number(0, 120), True), "run": (_text(64), False),
         "part": (_is_part, False)}  # type: Dict[str, Tuple[Check, bool]]


def check_request(spec: Dict[str, Tuple[Check, bool]], op: str, args: Any) -> Json:
    """Validate arguments; raises AgentError naming the one that is wrong."""
    if not isinstance(args, dict):
        raise AgentError("%s: args is not an object" % op, "bad-request")
    for name in args:
        if name not in spec:
            raise AgentError("%s: unknown argument %r" % (op, str(name)[:100]), "bad-request")
    for name, (check, required) in spec.items():
        if name not in args:
            if required:
                raise AgentError("%s: argument %s is missing" % (op, name), "bad-request")
        elif not check(args[name]):
            raise AgentError("%s: argument %s is not valid: %s" % (op, name, repr(args[name])[:200]), "bad-request")
    return args


#: Parts of a run that may be on one host.
GENERATOR, DUT = "generator", "dut"


class HostLock:
    """The host's lock: an flock on a file whose first line says who holds it since when.

    One run may have two parts on a host, its generator and a DUT: each is an agent of its own, with its own journal.
    The first takes the lock alone, then holds it shared; the second, which knows the run's secret (the file's second
    line), shares it. Nobody else gets it before both have given it back, and of each part there is one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._part = -1
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, owner: str, wait_s: float, run: str = "", part: str = "", lease_s: float = 0.0) -> bool:
        """Take it within ``wait_s``, or share that of the same ``run``; returns whether it is shared. Raises
        AgentError(busy) naming the holder. ``lease_s``: of the controller's silence, after which the lock is given
        back; said in its text (0: there is no lease)."""
        deadline = time.monotonic() + wait_s
        while True:
            if self._flock(self._fd, fcntl.LOCK_EX):
                self._sign(owner, run, lease_s)
                self._take_part(part)
                return False
            if run and self._flock(self._fd, fcntl.LOCK_SH):
                if self._text()[1:] == [run]:
                    self._take_part(part)
                    return True
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            if time.monotonic() > deadline:
                holder = self._text()
                raise AgentError(holder[0] if holder else "an agent that is starting or ending", "busy")
            time.sleep(0.05)

    def share(self, run: str) -> None:
        """Let the run's other part in, now that what was left over is undone. Between the two locks another run may
        have taken it: AgentError(busy)."""
        if run and not (self._flock(self._fd, fcntl.LOCK_SH) and self._text()[1:] == [run]):
            raise AgentError(" ".join(self._text()[:1]) or "an agent that is starting", "busy")

    @staticmethod
    def _flock(fd: int, how: int) -> bool:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False

    def _take_part(self, part: str) -> None:
        if not part:
            return
        self._part = os.open("%s-%s" % (self._path, part), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._flock(self._part, fcntl.LOCK_EX):
            raise AgentError("the run has another %s on this machine" % part, "twin")

    def _sign(self, owner: str, run: str, lease_s: float) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        lease = ", lease %g s" % lease_s if lease_s else ""
        text = "%s, since %s, agent pid %d%s" % (owner.replace("\n", " "), since, os.getpid(), lease)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, ("%s\n%s" % (text, run) if run else text).encode(), 0)

    def _text(self) -> List[str]:
        return os.pread(self._fd, 4096, 0).decode("utf-8", "replace").strip().splitlines()

    def release(self) -> None:
        """Give it back; who holds it is wiped out by the last."""
        if self._flock(self._fd, fcntl.LOCK_EX):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)
        if self._part >= 0:
            os.close(self._part)


def private_folder(path: str) -> None:
    """Make a folder that only this user can use; refuse one that somebody else made."""
    os.makedirs(path, 0o700, exist_ok=True)
    status = os.lstat(path)
    if status.st_uid != os.geteuid() or (status.st_mode & 0o170077) != 0o040000:
        raise AgentError("%s is not a folder private to uid %d; remove it" % (path, os.geteuid()))


class Places:
    """Where the agent keeps its lock (gone with a reboot), its journal (not), and built programs."""

    def __init__(self, run: str, state: str, cache: str) -> None:
        self.run, self.state, self.cache = run, state, cache
        private_folder(run)
        private_folder(state)

    @property
    def lock(self) -> str:
        """The lock's file."""
        return os.path.join(self.run, "lock")

    def journal(self, part: str = "") -> str:
        """The journal's file; the generator of a run has one of its own, for a DUT may be the same host."""
        return os.path.join(self.state, "journal-%s.jsonl" % part if part == GENERATOR else "journal.jsonl")

    def journals(self) -> List[str]:
        """Every journal that may be there."""
        return [self.journal(), self.journal(GENERATOR)]

    def log(self, text: str) -> None:
        """Append to the agent's own log, which is started anew at 1 MiB."""
        path = os.path.join(self.state, "agent.log")
        fresh = os.path.exists(path) and os.path.getsize(path) > 1 << 20
        with open(path, "w" if fresh else "a") as stream:
            stream.write("%s pid %d: %s\n" % (time.strftime("%Y-%m-%d %H:%M:%S"), os.getpid(), text))


class Host:
    """All operations on this host. Methods ``op_NAME`` serve requests; changes hold ``changing``."""

    def __init__(self, places: Places, journal: Journal, home_cores: Sequence[int]) -> None:
        self.places, self.journal = places, journal
        self.processes = {}  # type: Dict[int, Process]
        self.undo = Undo(journal, self.processes)
        self.cache = BuildCache(places.cache)
        self.cancelled = threading.Event()
        self.changing = threading.RLock()
        self.closing = False
        self._everywhere = os.sched_getaffinity(0)
        self._home = set(home_cores) & self._everywhere or self._everywhere
        os.sched_setaffinity(0, self._home)
        self._given_up = None  # type: Any
        self._sampler = None  # type: Optional[Sampler]
        self._probes = {}  # type: Dict[Tuple[int, int, str], Probe]

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self.changing:
            if self.closing:
                raise AgentError("the lease is over; everything is being undone", "gone")
            yield

    @contextmanager
    def _off_home(self) -> Iterator[None]:
        """Children started here may run on every core the agent was given, not only on its home."""
        os.sched_setaffinity(0, self._everywhere)
        try:
            yield
        finally:
            os.sched_setaffinity(0, self._home)

    def cancel(self, number: Any) -> None:
        """The controller gave up on this request: end what it is doing, also when it has not begun yet."""
        self._given_up = number
        self.cancelled.set()

    def begin(self, number: Any) -> None:
        """A request begins; a cancellation of an earlier one is not its own."""
        if not self.closing and self._given_up != number:
            self.cancelled.clear()

    # -- commands and files

    def op_run(self, argv: List[str], timeout_s: float, stdin: str) -> Json:
        with self._off_home():
            return run_command(argv, timeout_s, stdin.encode(), self.cancelled)

    def op_which(self, program: str) -> Optional[str]:
        return find_program(program)

    def op_read(self, path: str) -> str:
        return read_text(path)

    def op_exists(self, path: str) -> bool:
        return os.path.exists(path)

    def op_set_file(self, path: str, value: str, verify: bool) -> bool:
        with self._change():
            old = read_text(path, MAX_VALUE)
            kernel = is_kernel_file(path)
            if same_value(old, value) if kernel else old == value:
                return False
            seq = self.journal.intend("file", path=path, old=old, new=value, verify=verify)
            try:
                write_value(path, value)
                if verify:
                    expect_value(path, value)
            except (OSError, AgentError) as error:
                failures = self.undo.back_to(seq - 1)
                reasons = ["%s: cannot be set to %r: %s" % (path, value, error), *failures]
                kind = "unverified" if isinstance(error, AgentError) else "failed"
                raise AgentError("; ".join(reasons), kind) from None
            self.journal.confirm(seq)
            return True

    def op_create(self, path: str, text: Optional[str] = None) -> None:
        with self._change():
            if os.path.lexists(path):
                raise AgentError("%s exists already" % path)
            seq = self.journal.intend("created", path=path, directory=text is None)
            if text is None:
                os.mkdir(path, 0o700)
            else:
                with open(path, "x") as stream:
                    stream.write(text)
            self.journal.confirm(seq)

    def op_apply(self, do: List[str], undo: List[str], timeout_s: float, made: Optional[List[str]] = None) -> Json:
        with self._change():
            seq = self.journal.intend("apply", do=do, undo=undo, made=made)
            with self._off_home():
                done = run_command(do, timeout_s, b"", self.cancelled)
            if done["returncode"] == 0:
                self.journal.confirm(seq)
            else:
                self._take_back(seq)
            return done

    def _take_back(self, seq: int) -> None:
        """A command said that it failed: undo at once what it may have done by halves. That the undo fails too is to be
        expected where there is nothing to undo, and is in the agent's log only."""
        entry = self.journal.live[seq]
        try:
            with self._off_home():
                self.undo.command(entry)
        except (AgentError, OSError, subprocess.SubprocessError) as error:
            self.places.log("%s, after %s had failed: %s" % (describe(entry), " ".join(entry["do"]), error))
        self.journal.drop(seq)

    # -- processes

    def op_spawn(self, argv: List[str], name: str, cores: List[int], env: Dict[str, str]) -> int:
        with self._change():
            for seq in [seq for seq in self.processes if seq not in self.journal.live]:
                del self.processes[seq]  # stopped long ago
            if len(self.processes) >= MAX_PROCESSES:
                raise AgentError("more than %d programs" % MAX_PROCESSES)
            path = find_program(argv[0])
            if path is None:
                raise AgentError("%s: no such program" % argv[0], "gone")
            marker = "%s-%d" % (base64.b16encode(os.urandom(8)).decode(), self.journal.last + 1)
            seq = self.journal.intend("spawn", name=name, argv=argv, marker=marker)
            try:
                process = self._launch(seq, [path, *argv[1:]], name, marker, cores, env)
            except (AgentError, OSError):
                self.journal.drop(seq)
                raise
            self.processes[seq] = process
            return process.child.pid

    def _launch(self, seq: int, argv: List[str], name: str, marker: str, cores: List[int],
                env: Dict[str, str]) -> Process:
        """Start the launcher, put its pid in the journal, and only then let it become the program."""
        gate, opener = os.pipe()
        listener, complaint = os.pipe()
        helper = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(gate), str(complaint)]
        try:
            with self._off_home():
                child = subprocess.Popen(helper, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, start_new_session=True,
                                         pass_fds=(gate, complaint), close_fds=True, bufsize=0)
            os.close(gate)
            os.close(complaint)
            gate = complaint = -1
            start = start_time(child.pid)
            if start is None:
                raise AgentError("%s: ended while it was being started" % name, "gone")
            self.journal.confirm(seq, pid=child.pid, start=start)
            full = command_environment(dict(env, **{MARK_VARIABLE: marker}))
            spec = {"argv": argv, "env": full, "cores": cores}
            os.write(opener, (json.dumps(spec) + "\n").encode())
            process = Process(child, name, start, marker)
            if not select.select([listener], [], [], 20.0)[0]:
                process.end(0.5)
                raise AgentError("%s: could not be started within 20 s" % name, "timeout")
            reason = os.read(listener, 4096).decode("utf-8", "replace")
            if reason:
                process.end(0.5)
                raise AgentError("%s: %s" % (argv[0], reason), "gone")
            return process
        finally:
            for fd in (gate, opener, listener, complaint):
                if fd >= 0:
                    os.close(fd)

    def _process(self, pid: int) -> Process:
        for process in self.processes.values():
            if process.child.pid == pid:
                return process
        raise AgentError("%d is no program of this agent" % pid, "bad-request")

    def op_status(self, pid: int) -> Optional[int]:
        return self._process(pid).child.poll()

    def op_write(self, pid: int, text: str) -> None:
        self._process(pid).write(text.encode(), 5.0)

    def op_output(self, pid: int, **count: int) -> str:
        return self._process(pid).tail(count["bytes"])

    def op_wait(self, pid: int, pattern: str, timeout_s: float) -> str:
        return self._process(pid).wait(pattern, timeout_s, self.cancelled)

    def op_stop(self, pid: int, timeout_s: float) -> Optional[int]:
        process = self._process(pid)
        with self._change():
            status = process.end(timeout_s)
            for seq, other in self.processes.items():
                if other is process and seq in self.journal.live:
                    self.journal.drop(seq)
            return status

    def op_pin(self, pid: int, core: int, fifo: int) -> None:
        with self._change():
            start = start_time(pid)
            if start is None:
                raise AgentError("there is no thread %d" % pid, "gone")
            seq = self.journal.intend("pin", pid=pid, start=start, **thread_place(pid))
            try:
                os.sched_setaffinity(pid, [core])
                if fifo:
                    os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(fifo))
            except OSError as error:
                self.undo.back_to(seq - 1)
                raise AgentError("thread %d cannot be pinned to core %d: %s" % (pid, core, error.strerror)) from None
            self.journal.confirm(seq)

    def op_napi_threads(self, ifname: str) -> Dict[int, int]:
        return napi_threads(ifname)

    def op_keep_napi(self, ifname: str) -> None:
        with self._change():
            there = os.path.exists("/sys/class/net/" + ifname)  # a stack's driver may have the port
            threads = [thread_place(pid) for _, pid in sorted(napi_threads(ifname).items())] if there else []
            if threads:
                self.journal.confirm(self.journal.intend("napi", ifname=ifname, threads=threads))

    # -- undo

    def op_mark(self) -> int:
        return self.journal.last

    def op_undo_to(self, mark: int) -> List[str]:
        return self._undo_to(mark, False)

    def undo_left_over(self) -> List[str]:
        """Undo what earlier agents left, and try again what they could not undo; returns what failed, in words."""
        return self._undo_to(0, True)

    def _undo_to(self, mark: int, retry: bool) -> List[str]:
        with self.changing:
            with self._off_home():
                failures = self.undo.back_to(mark, retry)
            for failure in failures:
                self.places.log("not undone: " + failure)
            return failures

    # -- counters and sampling

    def op_interface_counters(self, ifnames: List[str]) -> Dict[str, Dict[str, int]]:
        counters = {ifname: interface_counters(ifname) for ifname in ifnames}
        for ifname, drops in qdisc_drops(ifnames).items():
            counters[ifname].update(drops)
        return counters

    def op_system_counters(self) -> Dict[str, int]:
        return system_counters()

    def op_sample_start(self, period_s: float, cores: List[int], probe_period_ns: int, probe_program: str,
                        threads: bool) -> Json:
        if self._sampler is not None:
            raise AgentError("sampling is on already", "bad-request")
        keys = [(core, probe_period_ns, probe_program) for core in cores]
        for key in [key for key in self._probes if key not in keys or not self._probes[key].alive()]:
            self._probes.pop(key).close()
        try:
            for key in keys:
                if key not in self._probes:
                    with self._off_home():
                        self._probes[key] = Probe(*key)
            self._sampler = Sampler(period_s, cores, [self._probes[key] for key in keys], threads)
        except (AgentError, OSError):
            self._end_probes()  # some may be watching already
            raise
        return {"probes": [self._probes[key].info for key in keys]}

    def op_sample_stop(self) -> Json:
        if self._sampler is None:
            raise AgentError("sampling is not on", "bad-request")
        sampler, self._sampler = self._sampler, None
        try:
            return sampler.stop()
        except (AgentError, OSError):
            sampler.close()
            self._end_probes()
            raise

    def _end_probes(self) -> None:
        for probe in self._probes.values():
            probe.close()
        self._probes.clear()

    # -- programs

    def op_cached(self, source: str, target: str) -> Optional[str]:
        folder = self.cache.folder(source, target)
        return os.path.join(folder, target) if os.path.isdir(folder) else None

    def op_build(self, source: str, target: str, archive: str, timeout_s: float) -> str:
        if find_program("make") is None:
            raise AgentError("make is not installed: apt-get install make gcc clang libbpf-dev", "build")
        folder = self.cache.folder(source, target)
        with self._off_home():
            self.cache.build(folder, target, base64.b64decode(archive.encode(), validate=True), timeout_s,
                             self.cancelled)
        return os.path.join(folder, target)

    def op_bye(self) -> List[str]:
        return self.close("the controller said good-bye")

    def close(self, reason: str) -> List[str]:
        """Undo everything and end all helpers; returns what could not be undone."""
        self.closing = True
        self.cancelled.set()
        with self.changing:
            left = sum("failed" not in entry for entry in self.journal.live.values())
            failures = self.op_undo_to(0)
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        self._end_probes()
        self.places.log("ended: %s; undid %d changes, %d failed" % (reason, left, len(failures)))
        return failures


class Server:
    """Reads requests, serves them one at a time in a second thread, and watches the lease in the first."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._buffer = bytearray()
        self._skipping = False
        self._requests = queue.Queue(MAX_PENDING)  # type: queue.Queue[Any]
        self._heard = time.monotonic()
        self._wake, self._waker = os.pipe()
        self._ending = ""

    # -- messages

    def _reply(self, message: Json) -> None:
        data = json.dumps(message).encode() + b"\n"
        if len(data) > MAX_LINE:
            message = {"id": message["id"], "error": {"kind": "failed", "message": "the answer is too long"}}
            data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(1, data):]

    def _lines(self, timeout_s: float) -> Optional[List[bytes]]:
        """Complete lines that arrived within the timeout; None at the end of input. An overlong line comes as b""."""
        ready = select.select([0, self._wake], [], [], max(0.0, timeout_s))[0]
        if 0 not in ready:
            return []
        data = os.read(0, 1 << 20)
        if not data:
            return None
        self._buffer.extend(data)
        lines = []  # type: List[bytes]
        if b"\n" in data:
            whole = bytes(self._buffer).split(b"\n")
            self._buffer = bytearray(whole.pop())
            for line in whole:
                lines.append(b"" if self._skipping or len(line) > MAX_LINE else line)
                self._skipping = False
        if len(self._buffer) > MAX_LINE:
            self._skipping = True
            self._buffer.clear()
        return lines

    @staticmethod
    def parse(line: bytes) -> Tuple[Any, str, Any]:
        """(id, op, args) of a line; raises AgentError(bad-request)."""
        try:
            message = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            raise AgentError("not a JSON line of at most %d bytes" % MAX_LINE, "bad-request") from None
        if not isinstance(message, dict) or not isinstance(message.get("op"), str):
            raise AgentError("not an object with an op", "bad-request")
        number = message.get("id")
        if message["op"] not in ("beat", "cancel") and not _whole(0, 1 << 53)(number):
            raise AgentError("id is not a whole number", "bad-request")
        return number, message["op"], message.get("args", {})

    # -- life

    def serve(self) -> int:
        """Say hello, take the lock, replay what was left over, serve until good-bye, end of input or end of lease."""
        hello = self._hello(30.0)
        if hello is None:
            return 1
        number, args = hello
        lock = HostLock(self.places.lock)
        try:
            if args["protocol"] != PROTOCOL:
                raise AgentError("protocol %d is not %d" % (args["protocol"], PROTOCOL), "bad-request")
            run, part = args.get("run", ""), args.get("part", "")
            shared = lock.take(args["owner"], args["wait_s"], run, part, args["lease_s"])
            left, replayed, told = (0, [], "") if shared else undo_left_over(self.places)
            if not shared:
                lock.share(run)
            journal = Journal(self.places.journal(part))
            host = Host(self.places, journal, args["home_cores"])
        except (AgentError, OSError) as error:
            self._reply({"id": number, "error": {"kind": getattr(error, "kind", "failed"), "message": str(error)}})
            return 1
        self.places.log("serving %s; left over: %d changes, %d not undone" % (args["owner"], left, len(replayed)))
        # The C handler writes to the pipe: a Python handler alone would wait for select() to end by itself when the
        # signal comes just before it.
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        worker = threading.Thread(target=self._work, args=(host,), daemon=True)
        worker.start()
        self._requests.put((number, "hello", {"left_over": left, "not_undone": replayed,
                                              "journal": told or journal.path}, None))
        reason = self._listen(host, args["lease_s"])
        if reason:
            host.close(reason)
        lock.release()
        return 0

    def _hello(self, timeout_s: float) -> Optional[Tuple[Any, Json]]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            lines = self._lines(deadline - time.monotonic())
            if lines is None:
                return None
            for line in lines:
                number = None
                try:
                    number, op, args = self.parse(line)
                    if op != "hello":
                        raise AgentError("the first request is hello", "bad-request")
                    return number, check_request(HELLO, op, args)
                except AgentError as error:
                    self._reply({"id": number, "error": {"kind": error.kind, "message": str(error)}})
                    return None
        return None

    def _on_signal(self, number: int, frame: Any) -> None:
        self._end("signal %d" % number)

    def _end(self, reason: str) -> None:
        self._ending = self._ending or reason
        os.write(self._waker, b".")

    def _listen(self, host: Host, lease_s: float) -> str:
        """Until there is a reason to end; "" after a good-bye, when nothing is left to undo. The lease begins here: to
        undo what a dead run left may have taken longer, and until hello is answered the controller is silent."""
        self._heard = time.monotonic()
        while not self._ending:
            ends = self._heard + lease_s
            if time.monotonic() >= ends:
                return "the controller was silent for %.0f s" % (time.monotonic() - self._heard)
            lines = self._lines(ends - time.monotonic())
            if lines is None:
                return self._ending or "the controller closed the connection"
            if lines:
                self._heard = time.monotonic()
            for line in lines:
                self._accept(host, line)
        return "" if self._ending == "bye" else self._ending

    def _accept(self, host: Host, line: bytes) -> None:
        try:
            number, op, args = self.parse(line)
            problem = None  # type: Optional[AgentError]
        except AgentError as error:
            number, op, args, problem = None, "", {}, error
        if op == "cancel":
            host.cancel(number)
        elif op != "beat":
            try:
                self._requests.put_nowait((number, op, args, problem))
            except queue.Full:
                self._end("more than %d requests waiting" % MAX_PENDING)

    def _work(self, host: Host) -> None:
        while True:
            number, op, args, problem = self._requests.get()
            host.begin(number)
            try:
                if problem is not None:
                    raise problem
                answer = {"id": number, "ok": self._serve_one(host, op, args)}  # type: Json
            except (AgentError, OSError, subprocess.SubprocessError, tarfile.TarError, ValueError) as error:
                answer = {"id": number, "error": {"kind": getattr(error, "kind", "failed"), "message": str(error)}}
            try:
                self._reply(answer)
            except OSError:
                self._end("the controller closed the connection")
                return
            if op == "bye":
                self._end("bye")
                return

    @staticmethod
    def _serve_one(host: Host, op: str, args: Any) -> Any:
        if op == "hello" and isinstance(args, dict) and "left_over" in args:
            return dict(args, protocol=PROTOCOL, pid=os.getpid(), python=sys.version.split()[0], boot_id=boot_id(),
                        uid=os.geteuid(), cores=os.cpu_count(), now_ns=now_ns())
        if op not in OPERATIONS:
            raise AgentError("unknown operation %r" % op[:100], "bad-request")
        return getattr(host, "op_" + op)(**check_request(OPERATIONS[op], op, args))


def undo_left_over(places: Places) -> Tuple[int, List[str], str]:
    """Undo what dead agents left, of either part of a run: how many changes there were, those that cannot be undone,
    and the journal that names them. The lock is held alone."""
    left, failures, where = 0, [], ""  # type: int, List[str], str
    for path in places.journals():
        if os.path.exists(path):
            journal = Journal(path)
            left += len(journal.live)
            failed = Host(places, journal, ()).undo_left_over()
            failures += failed
            where = where or (path if failed else "")
            journal.close()
    return left, failures, where


def undo_main(places: Places) -> int:
    """Mode ``undo``: undo what a dead agent left, unless a live one holds the lock."""
    lock = HostLock(places.lock)
    try:
        lock.take("undo", 15.0)
    except AgentError as error:
        sys.stderr.write("the host is in use by %s\n" % error)
        return 1
    failures = undo_left_over(places)[1]
    lock.release()
    for failure in failures:
        sys.stderr.write(failure + "\n")
    return 1 if failures else 0


def main(argv: Sequence[str]) -> int:
    """``serve|undo RUN STATE CACHE`` or ``probe CORE PERIOD``."""
    mode, rest = argv[1], argv[2:]
    if mode == "probe":
        return probe_main(int(rest[0]), int(rest[1]))
    try:
        places = Places(*rest)
        if mode == "undo":
            return undo_main(places)
        if os.getpgrp() != os.getpid():
            os.setsid()  # a leader of a group has been given one
        return Server(places).serve()
    except (AgentError, OSError) as error:
        sys.stderr.write("%s\n" % error)
        return 1


if __name__ == "__main__":
    status = main(sys.argv)
    sys.stdout.flush()
    os._exit(status)  # a worker blocked on a dead channel must not keep the host's lock
