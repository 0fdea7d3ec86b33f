# SPDX-License-Identifier: Apache-2.0
"""Paths as people write them in files."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError


def with_home(text: str) -> Path:
    """A path with a leading ``~`` or ``~user`` resolved. Raises UsageError when there is no such user or home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text}: {str(error).rstrip('.').lower()}; write the whole path") from error
