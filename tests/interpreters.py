# SPDX-License-Identifier: Apache-2.0
"""The Python interpreters at hand, for programs that have to run under whatever a host has."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path


@functools.cache
def interpreters() -> tuple[str, ...]:
    """Oldest and newest Python from 3.6 on (PATH, pyenv, the one that runs the tests)."""
    versions: dict[tuple[int, int], str] = {}
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in root.glob("3.*/bin/python3"):
        major, minor = path.parts[-3].split(".")[:2]
        versions[int(major), int(minor)] = str(path)
    for minor in range(6, 20):
        found = shutil.which(f"python3.{minor}")
        if found is not None and "shims" not in found:  # pyenv's runs a shell first, and may choose another version
            versions[3, minor] = found
    versions[sys.version_info[:2]] = sys.executable
    usable = sorted(version for version in versions if version >= (3, 6))
    return tuple(versions[version] for version in sorted({usable[0], usable[-1]}))
