# SPDX-License-Identifier: Apache-2.0
"""Builds xdpgen's native programs when they are first needed, into a cache named after their content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from harness.errors import TestbedError

PROGRAM = "xdpgen-dp"
OBJECT = "xdpgen.bpf.o"
#: Debian and Ubuntu packages that the build needs, by what is looked for.
PACKAGES = {
    "clang": "clang",
    "cc": "gcc",
    "make": "make",
    "/usr/include/bpf/libbpf.h": "libbpf-dev",
    "/usr/include/libelf.h": "libelf-dev",
    "/usr/include/zlib.h": "zlib1g-dev",
    "/usr/include/linux/bpf.h": "linux-libc-dev",
    "/usr/include/stdlib.h": "libc6-dev",
}


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/netstack-harness``, by default in the home directory."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "netstack-harness"


def missing_packages() -> list[str]:
    """Debian packages that have to be installed before ``native_programs`` can build."""
    return sorted(
        package
        for wanted, package in PACKAGES.items()
        if not (Path(wanted).exists() if wanted.startswith("/") else shutil.which(wanted))
    )


def native_programs() -> tuple[Path, Path]:
    """Paths of ``xdpgen-dp`` and its BPF object, built for this content if they do not exist yet.

    Raises TestbedError naming the Debian packages that are missing, or with the compiler's message.
    """
    sources = _sources()
    target = cache_root() / f"xdpgen-{_digest(sources)}"
    if not (target / PROGRAM).exists() or not (target / OBJECT).exists():
        _build(sources, target)
    return target / PROGRAM, target / OBJECT


def _sources() -> dict[str, bytes]:
    folder = resources.files("harness.generator.xdpgen") / "native"
    return {
        entry.name: entry.read_bytes()
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if _wanted(entry.name)
    }


def _wanted(name: str) -> bool:
    return name == "Makefile" or name.endswith((".c", ".h"))


def _digest(sources: dict[str, bytes]) -> str:
    digest = hashlib.sha256(os.uname().machine.encode())
    for name, content in sources.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _build(sources: dict[str, bytes], target: Path) -> None:
    """Build in a directory of its own and rename it, so that two builders do not see each other's halves."""
    missing = missing_packages()
    if missing:
        raise TestbedError(f"xdpgen's dataplane cannot be built: apt-get install {' '.join(missing)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, content in sources.items():
            (work / name).write_bytes(content)
        _make(work)
        shutil.rmtree(target, ignore_errors=True)
        try:
            work.rename(target)
        except OSError:
            if not (target / OBJECT).exists():  # another builder was faster: its result is the same
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make(work: Path) -> None:
    command = ["make", "-C", str(work), "OUT=."]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise TestbedError(f"xdpgen's dataplane does not build on this machine:\n{tail}")
