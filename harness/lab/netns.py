# SPDX-License-Identifier: Apache-2.0
"""Network namespaces without leaving one's own: work inside one is done by a short-lived thread of this process.

The main thread never changes namespace. A child started by such a thread is born inside the namespace, so a lab whose
owner is killed at any instant has no process on its way in that removal could miss. Names live in /run/netns as
ip-netns(8) describes, so ``ip netns`` works on them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from harness.lab.errors import LabError
from harness.lab.interrupts import deferred_interrupts
from harness.lab.process import ProcessId, all_pids, identify

NETNS_DIR = Path("/run/netns")

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED, MNT_DETACH = 0x1000, 0x4000, 0x100000, 2
# The same numbers on every architecture (the unified table since Linux 5.2).
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _mount(source: str, target: str, flags: int) -> None:
    result = _libc.mount(source.encode(), target.encode(), b"none", ctypes.c_ulong(flags), None)
    _checked(result, f"mount {target}")


class _Inside(threading.Thread, Generic[T]):
    """One call on a thread that enters a namespace (or makes one) first and ends with the call."""

    def __init__(self, enter: Callable[[], None], call: Callable[[], T]) -> None:
        super().__init__(name="netns", daemon=False)
        self._enter, self._call = enter, call
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._enter()
            self._result.append(self._call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller by result(), whatever it is
            self._error = error

    def result(self) -> T:
        """Run and return what the call returned, or raise what it raised. Interrupts wait for the thread's end: nothing
        may change in the namespace after this returns, and an exception inside :meth:`threading.Thread.start` can
        leave the thread waiting for ever."""
        with deferred_interrupts():
            self.start()
            self.join()
        if self._error is not None:
            raise self._error
        return self._result[0]


def path_of(netns: str) -> Path:
    """The file that names a namespace."""
    return NETNS_DIR / netns


def in_netns(netns: str, call: Callable[[], T]) -> T:
    """Run ``call`` on a thread inside the named namespace and return its result. Children that it starts, sockets that
    it opens and /proc/sys/net as it sees it belong to that namespace; /sys does not (see :func:`sysfs`).

    Raises :class:`LabError` when there is no such namespace, and whatever ``call`` raises.
    """

    def enter() -> None:
        try:
            fd = os.open(path_of(netns), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise LabError(f"there is no network namespace {netns}; see `harness lab status`") from error
        try:
            _checked(_libc.setns(fd, CLONE_NEWNET), f"setns {netns}")
        finally:
            os.close(fd)

    return _Inside(enter, call).result()


def in_new_netns(call: Callable[[], T]) -> T:
    """Run ``call`` inside a new namespace that nothing names: it ends with the thread unless ``call`` names it.
    Raises OSError when the kernel or the lack of privileges forbids it."""

    def enter() -> None:
        _checked(_libc.unshare(CLONE_NEWNET), "unshare")

    return _Inside(enter, call).result()


@contextlib.contextmanager
def _locked_directory() -> Iterator[None]:
    """The lock that ip-netns takes as well while it prepares /run/netns."""
    fd = os.open(NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def prepare_directory() -> None:
    """Make /run/netns what ip-netns expects: a shared mount, so that names vanish from every mount namespace."""
    NETNS_DIR.mkdir(mode=0o755, exist_ok=True)
    with _locked_directory():
        try:
            _mount("", str(NETNS_DIR), MS_SHARED | MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _mount(str(NETNS_DIR), str(NETNS_DIR), MS_BIND | MS_REC)
            _mount("", str(NETNS_DIR), MS_SHARED | MS_REC)


def remove_directory() -> None:
    """Undo :func:`prepare_directory` when nothing is named there any more; leaves it alone otherwise."""
    if not NETNS_DIR.is_dir():
        return
    with _locked_directory():
        if any(NETNS_DIR.iterdir()):
            return
        result = _libc.umount2(str(NETNS_DIR).encode(), 0)
        number = ctypes.get_errno()
        if result < 0 and number == errno.EBUSY:
            return
        if result < 0 and number != errno.EINVAL:  # EINVAL: it was never mounted
            _checked(result, f"umount {NETNS_DIR}")
        with contextlib.suppress(FileNotFoundError):
            NETNS_DIR.rmdir()


def create(netns: str) -> None:
    """Make a namespace and name it. Raises FileExistsError when the name is taken."""
    path = path_of(netns)

    def name_it() -> None:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        _mount("/proc/thread-self/ns/net", str(path), MS_BIND)

    in_new_netns(name_it)


def delete(netns: str) -> None:
    """Take the name away, mounted or not; the namespace ends with its last process. Harmless when there is none."""
    path = path_of(netns)
    result = _libc.umount2(str(path).encode(), MNT_DETACH)
    if result < 0 and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        _checked(result, f"umount {path}")
    path.unlink(missing_ok=True)


def key_of(netns: str) -> tuple[int, int] | None:
    """Device and inode of a named namespace: what /proc/PID/ns/net is compared with. None when the name is missing
    or names nothing (its maker died before the mount)."""
    try:
        stat = os.stat(path_of(netns))
    except FileNotFoundError:
        return None
    own = os.stat("/proc/self/ns/net")
    return (stat.st_dev, stat.st_ino) if stat.st_dev == own.st_dev else None


def processes_in(keys: set[tuple[int, int]]) -> set[ProcessId]:
    """Every process inside one of these namespaces, except this one. This process's own namespace (the machine's, as
    a rule) is never searched, whatever a name may point to."""
    own = os.stat("/proc/self/ns/net")
    wanted = keys - {(own.st_dev, own.st_ino)}
    if not wanted:
        return set()
    found: set[ProcessId] = set()
    for pid in all_pids():
        try:
            stat = os.stat(f"/proc/{pid}/ns/net")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, a zombie (it has no namespace any more), or more privileged than this one
        if (stat.st_dev, stat.st_ino) in wanted and pid != os.getpid():
            process = identify(pid)
            if process is not None:
                found.add(process)
    return found


@contextlib.contextmanager
def sysfs() -> Iterator[int]:
    """A directory fd of a sysfs that shows the devices of the calling thread's namespace, mounted nowhere.

    /sys itself shows the devices of the namespace that it was mounted in. Use inside :func:`in_netns`.
    """
    context = _checked(_libc.syscall(_SYS_FSOPEN, b"sysfs", _FSOPEN_CLOEXEC), "fsopen sysfs")
    try:
        _checked(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig sysfs")
        root = _checked(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0), "fsmount sysfs")
    finally:
        os.close(context)
    try:
        yield root
    finally:
        os.close(root)


def connect_in_netns(netns: str, address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A TCP socket made inside the namespace and connected to ``address`` there; it stays usable from anywhere.

    Raises OSError as :func:`socket.create_connection` does, :class:`LabError` when there is no such namespace.
    """
    return in_netns(netns, lambda: socket.create_connection(address, timeout=timeout_s))
