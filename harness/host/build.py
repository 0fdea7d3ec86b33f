# SPDX-License-Identifier: Apache-2.0
"""A program's source folder as a hash and an archive, for building it on a DUT."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HostError

MAX_SOURCE = 4 << 20
#: What a build leaves beside the sources in a checkout: not source.
_PRODUCTS = frozenset({".o", ".d", ".a", ".so", ".pyc"})


def source_files(folder: Path, beside: Sequence[Path] = ()) -> dict[str, bytes]:
    """Relative path -> content of every source file, sorted; those of each folder in ``beside`` under its name. Hidden
    files and build products are left out; links are read as files when they point inside their folder. Raises HostError
    on anything else, on a name that is taken, and on more than 4 MiB."""
    files = _files(folder)
    for shared in beside:
        if any(name.split("/")[0] == shared.name for name in files):
            raise HostError(f"{folder} has a {shared.name} of its own, which is the name of a folder put beside it")
        files |= {f"{shared.name}/{name}": content for name, content in _files(shared).items()}
    if sum(map(len, files.values())) > MAX_SOURCE:
        raise HostError(f"{folder}: more than {MAX_SOURCE} bytes of source")
    return dict(sorted(files.items()))


def _files(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise HostError(f"{folder}: no such source folder; reinstall netstack-harness")
    files: dict[str, bytes] = {}
    top = folder.resolve()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in relative.parts) or path.is_dir():
            continue
        if path.suffix in _PRODUCTS or _is_elf(path):
            continue
        if top not in path.resolve().parents:
            raise HostError(f"{path} points outside of its source folder")
        files[relative.as_posix()] = path.read_bytes()
        if sum(map(len, files.values())) > MAX_SOURCE:
            raise HostError(f"{folder}: more than {MAX_SOURCE} bytes of source")
    return files


def _is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def source_hash(files: dict[str, bytes]) -> str:
    """Hash over paths and contents."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{len(name)}:{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def archive(files: dict[str, bytes]) -> bytes:
    """The files as a compressed tar, the same bytes' worth of content for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
