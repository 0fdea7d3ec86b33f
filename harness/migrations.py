# SPDX-License-Identifier: Apache-2.0
"""Older lines of a run directory, brought to today's shape before they are read. Files are never rewritten.

A version is raised when an older harness could not read what a newer one writes. Each step takes the raw JSON object
of one version to the next; what a record did not hold stays unknown, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.errors import UsageError
from harness.records import SCHEMA_VERSION

Raw = dict[str, Any]


def _from_1(raw: Raw) -> Raw:
    """2 adds what was asked for, so that a run can be resumed, and the record of that; both unknown before."""
    return raw


def _from_2(raw: Raw) -> Raw:
    """3 adds what a trial could not read (a queueing discipline's drops), its cores' frequency, and what a generator
    says of itself; all unknown before."""
    return raw


def _from_3(raw: Raw) -> Raw:
    """4 adds how many frames recorded pauses can have cost; unknown before."""
    return raw


#: From which version: the step to the next.
_STEPS: dict[int, Callable[[Raw], Raw]] = {1: _from_1, 2: _from_2, 3: _from_3}


def migrated(raw: object, where: str) -> Raw:
    """A record of any known version as one of SCHEMA_VERSION. Raises UsageError for another version, or none."""
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or type(version) is not int or version < 1:
        raise UsageError(f"{where}: schema version {str(version)[:20]}: this is not a record of this harness")
    if version > SCHEMA_VERSION:
        raise UsageError(f"{where}: schema version {version}, written by a newer harness; this one reads up to version "
                         f"{SCHEMA_VERSION}. Use the harness that wrote the run")
    for step in range(version, SCHEMA_VERSION):
        raw = {**_STEPS[step](raw), "schema_version": step + 1}
    return raw
