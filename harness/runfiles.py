# SPDX-License-Identifier: Apache-2.0
"""Files of a run directory, opened such that none leads out of it.

A run directory may come from anybody, and the harness is often root: a link in it would have another file read,
overwritten or cut. So what is not a plain file is refused by name before it is opened, and the open itself follows no
link either.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

from harness.errors import UsageError

_REMEDY = "a run directory holds plain files: fetch the run again, or move its directory away"
_WRITING = os.O_WRONLY | os.O_RDWR


def own_path(run: Path) -> Path:
    """A run's directory by its own name. A link is taken where it names a directory beside it, as a ``latest`` does.

    Raises UsageError where it leads elsewhere."""
    if not run.is_symlink():
        return run
    target = Path(os.path.realpath(run))
    if str(target.parent) != os.path.realpath(run.parent):
        raise UsageError(f"{run}: a link that leads out of its directory, to {str(target)[:200]}; name the run itself")
    return run.parent / target.name


def is_plain(file: Path) -> bool:
    """Whether there is a plain file of this name; a link is none."""
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check(file: Path, most: int | None = None, *, writing: bool = False) -> bool:
    """Whether the file is there. ``most``: bytes. ``writing``: it must not be another file too, by a hard link.

    Raises UsageError for anything but a plain file of that size."""
    try:
        found = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    _refuse(file, found, most, writing=writing)
    return True


def check_folder(folder: Path) -> bool:
    """Whether the folder is there. Raises UsageError for anything else of this name."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{folder}: {_kind(found.st_mode)}, not a directory; fetch the run again, or move its "
                         "directory away")
    return True


def _opened(folder: Path, name: str, flags: int, most: int | None = None) -> int:
    """Descriptor of a plain file in ``folder``, which is no link itself.

    Raises UsageError as :func:`check` does, OSError where the system refuses."""
    file = folder / name
    writing = bool(flags & _WRITING)
    check(file, most, writing=writing)
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # Not to wait for the other end where a pipe was put there since.
            handle = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=place)
        finally:
            os.close(place)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UsageError(f"{file}: a link, not a regular file; {_REMEDY}") from error
        raise
    try:
        _refuse(file, os.fstat(handle), most, writing=writing)
    except BaseException:
        os.close(handle)
        raise
    return handle


def reading(folder: Path, name: str, most: int | None = None) -> IO[bytes]:
    """A file to read. Raises UsageError, OSError."""
    return os.fdopen(_opened(folder, name, os.O_RDONLY, most), "rb")


def appending(folder: Path, name: str) -> IO[bytes]:
    """A file to read and to add to, made where there is none. Unbuffered: a line that did not fit on the disk must not
    come back when the file is closed. Raises UsageError, OSError."""
    return os.fdopen(_opened(folder, name, os.O_RDWR | os.O_APPEND | os.O_CREAT), "a+b", buffering=0)


def created(folder: Path, name: str) -> IO[bytes]:
    """A file to write that was not there before. Raises UsageError, OSError."""
    return os.fdopen(_opened(folder, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def replacing(folder: Path, name: str) -> IO[bytes]:
    """A file to write in place of what it held. Raises UsageError, OSError."""
    stream = os.fdopen(_opened(folder, name, os.O_WRONLY | os.O_CREAT), "wb")
    stream.truncate(0)  # only now that it is known to be a plain file
    return stream


def _refuse(file: Path, found: os.stat_result, most: int | None, *, writing: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{file}: {_kind(found.st_mode)}, not a regular file; {_REMEDY}")
    if writing and found.st_nlink > 1:
        raise UsageError(f"{file}: has another name elsewhere (a hard link), and would be changed there too; copy the "
                         "run's directory, and go on with the copy")
    if most is not None and found.st_size > most:
        raise UsageError(f"{file}: {found.st_size:,} bytes, larger than the {most:,} bytes that a run of this harness "
                         "has at most; split the scenario into several runs")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFREG: "a file",
             stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
