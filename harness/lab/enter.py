# SPDX-License-Identifier: Apache-2.0
"""Become a program inside a lab's namespace: ``python -IS enter.py [--mounts-of PID] [--shadow FILE] NETNS -- ARGV``.

Standard library only and run as a file, so that it starts in milliseconds. It enters the network namespace, then
either joins the mount namespace of the process PID or makes one of its own, in which /sys shows the namespace's
devices and /sys/fs/bpf is a bpffs of its own. Mounts made here are seen nowhere else and end with the last process.
``--shadow`` puts FILE in the place of /etc/shadow there.
"""

from __future__ import annotations

import ctypes
import os
import sys

NETNS_DIR = "/run/netns"
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
#: Mounts below /sys that the whole machine shares; the new sysfs would hide them. bpffs is left out on purpose: what
#: a lab's programs pin must end with the lab.
SHARED_BELOW_SYS = ("/sys/fs/cgroup", "/sys/kernel/debug", "/sys/kernel/tracing")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _checked(result, f"mount {target}")


def _setns(path: str, kind: int) -> os.stat_result:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(fd, kind), f"setns {path}")
        return os.fstat(fd)
    finally:
        os.close(fd)


def enter_network(netns: str) -> None:
    """Enter, then look again whether the name still means this namespace: removal takes the name away first and then
    ends what is inside, so between the two of us nothing slips through."""
    path = f"{NETNS_DIR}/{netns}"
    inside = _setns(path, CLONE_NEWNET)
    now = os.stat(path)
    if (now.st_dev, now.st_ino) != (inside.st_dev, inside.st_ino):
        raise OSError(f"network namespace {netns} was removed meanwhile")


def new_mounts(shadow: str) -> None:
    """A private mount namespace with a /sys and a bpffs that belong to the network namespace."""
    _checked(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("", "/", "none", MS_SLAVE | MS_REC)
    shared = [(target, os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
              for target in SHARED_BELOW_SYS if os.path.ismount(target) or _has_mounts_below(target)]
    _mount("sysfs", "/sys", "sysfs")
    for target, fd in shared:
        _mount(f"/proc/self/fd/{fd}", target, "none", MS_BIND | MS_REC)
        os.close(fd)
    _mount("bpf", "/sys/fs/bpf", "bpf")
    if shadow:
        _mount(shadow, "/etc/shadow", "none", MS_BIND)


def _has_mounts_below(target: str) -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        return any(line.split()[4].startswith(target + "/") for line in mounts)


def main(argv: list[str]) -> int:
    """Parse, enter, become the program. Exit status when that fails as a shell's, with one line that says why: 127
    where there is no such program, otherwise 126."""
    split = argv.index("--")
    options, program = argv[:split], argv[split + 1 :]
    named = dict(zip(options[:-1:2], options[1:-1:2], strict=True))
    try:
        directory = os.getcwd()
        enter_network(options[-1])
        if "--mounts-of" in named:
            _setns(f"/proc/{int(named['--mounts-of'])}/ns/mnt", CLONE_NEWNS)
        else:
            new_mounts(named.get("--shadow", ""))
        os.chdir(directory)
    except OSError as error:
        return _refused(program[0], error, 126)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        return _refused(program[0], error, 127 if isinstance(error, FileNotFoundError) else 126)


def _refused(program: str, error: OSError, status: int) -> int:
    print(f"harness lab: {program}: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
