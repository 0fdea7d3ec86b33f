# SPDX-License-Identifier: Apache-2.0
"""The guest's disk, kernel and initrd: built once by debootstrap and mke2fs, then kept in the user's cache.

A finished image appears under its recipe's key by one rename. A build that is killed leaves a folder that the next one
removes: whoever builds holds the lock. debootstrap mounts below its target, so it runs in mount and PID namespaces of
its own that end with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.lab.errors import LabError
from harness.lab.vm.recipe import Recipe
from harness.lab.wires import tool

#: Seconds for one step: debootstrap and packages took 60 to 110 s on two cores, the disk 10 s.
BOOTSTRAP_S, INSTALL_S, PACK_S = 900.0, 1800.0, 300.0
#: Free space that a build needs while the root and the disk both exist.
NEEDED_MIB = 6144
_BUILDING, _LOCK = "building", "lock"
_TAIL = 3000


@dataclass(frozen=True)
class Image:
    """Files that QEMU boots from. ``disk`` is never written to: every guest has its own changes, gone with it."""

    disk: Path
    kernel: Path
    initrd: Path


#: Told about the process of each build step, so that a lab's removal ends it.
Noted = Callable[[int], None]
Say = Callable[[str], None]


def cache_directory() -> Path:
    """Where images are kept: below XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "netstack-harness" / "vm"


def cached(recipe: Recipe, cache: Path) -> Image | None:
    """The image of this recipe, None when it has to be built first."""
    return _image(cache / recipe.key()) if (cache / recipe.key()).is_dir() else None


def _image(folder: Path) -> Image:
    return Image(folder / "disk.ext4", folder / "vmlinuz", folder / "initrd.img")


def obtain(recipe: Recipe, cache: Path, *, note: Noted = lambda pid: None, say: Say = lambda text: None) -> Image:
    """The image of ``recipe``, built now when the cache has none; older recipes' images are removed then.

    ``say`` is told before each long step. Raises LabError with a step's own words when it fails or takes too long.
    """
    cache.mkdir(parents=True, mode=0o700, exist_ok=True)
    with _locked(cache) as lock:
        found = cached(recipe, cache)
        if found is not None:
            return found
        _need_space(cache)
        building = cache / _BUILDING
        if building.exists():
            shutil.rmtree(building)
        building.mkdir(mode=0o700)
        try:
            _Build(recipe, building, lock, note).run(say)
            (building / "image").rename(cache / recipe.key())
        finally:
            shutil.rmtree(building)
        for old in cache.iterdir():
            if old.is_dir() and old.name != recipe.key():
                shutil.rmtree(old)
    return _image(cache / recipe.key())


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[int]:
    """Hold the cache's lock; its descriptor. Build steps inherit it, so that one whose maker was killed keeps the
    next build waiting until it has ended itself."""
    with (cache / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _need_space(cache: Path) -> None:
    free = shutil.disk_usage(cache).free >> 20
    if free < NEEDED_MIB:
        raise LabError(f"{cache} has {free} MiB free, building the virtual machine's disk takes {NEEDED_MIB}; free "
                       "some, or name another place with XDG_CACHE_HOME")


class _Build:
    """One build in the folder ``building``: ``root`` is the system's tree, ``image`` becomes the cache's entry."""

    def __init__(self, recipe: Recipe, building: Path, lock: int, note: Noted) -> None:
        self._recipe, self._lock, self._note = recipe, lock, note
        self._root, self._image = building / "root", building / "image"

    def run(self, say: Say) -> None:
        """All steps in order."""
        self._image.mkdir()
        say("building the virtual machine's disk, once: a minimal Debian")
        self._step(["debootstrap", "--variant=minbase", self._recipe.suite, str(self._root)], BOOTSTRAP_S)
        self._write()
        say("building the virtual machine's disk: its kernel, compilers, DPDK")
        self._inside(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *self._recipe.packages], INSTALL_S)
        self._finish()
        say("building the virtual machine's disk: the file system")
        self._take_boot_files()
        disk = self._image / "disk.ext4"
        with disk.open("wb") as file:
            file.truncate(self._recipe.disk_mib << 20)
        self._step(["mke2fs", "-q", "-t", "ext4", "-d", str(self._root), str(disk)], PACK_S)

    def _write(self) -> None:
        """policy-rc.d: the packages start no service while they are installed."""
        scripts = {**self._recipe.scripts, "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n"}
        for mode, files in ((0o644, self._recipe.files), (0o755, scripts)):
            for name, text in files.items():
                path = self._root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                path.chmod(mode)

    def _finish(self) -> None:
        """Files once more (packages wrote some of them), the initrd by them, and out with what only building needs."""
        self._write()
        self._inside(["update-initramfs", "-u", "-k", "all"], PACK_S)
        self._inside(["systemctl", "enable", *self._recipe.enabled], PACK_S)
        self._inside(["systemctl", "mask", *self._recipe.masked], PACK_S)
        self._inside(["apt-get", "clean"], PACK_S)
        root = self._root
        for path in (root / "usr/sbin/policy-rc.d", root / "etc/resolv.conf", *(root / "etc/ssh").glob("ssh_host_*"),
                     *(root / "var/lib/apt/lists").glob("*Packages*")):
            path.unlink(missing_ok=True)

    def _take_boot_files(self) -> None:
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
            found = sorted((self._root / "boot").glob(pattern))
            if len(found) != 1:
                raise LabError(f"the virtual machine's /boot has {len(found)} files {pattern}, one was expected")
            shutil.copyfile(found[0], self._image / name)

    def _inside(self, argv: Sequence[str], timeout_s: float) -> None:
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C",
                       "DEBIAN_FRONTEND=noninteractive"]
        proxies = [f"{name}={value}" for name, value in os.environ.items() if name.lower().endswith("_proxy")]
        self._step(["chroot", str(self._root), *environment, *proxies, *argv], timeout_s)

    def _step(self, argv: Sequence[str], timeout_s: float) -> None:
        """Run one step inside namespaces whose end is the end of everything in them."""
        alone = [tool("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        process = subprocess.Popen(
            [*alone, tool(argv[0]), *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True, pass_fds=[self._lock])
        self._note(process.pid)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException as error:
            process.kill()
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(f"{argv[0]} was not done within {timeout_s:g} s") from error
            raise
        if process.returncode != 0:
            raise LabError(f"building the virtual machine's disk failed: {argv[0]} ended with status "
                           f"{process.returncode}:\n{output[-_TAIL:].strip()}")
