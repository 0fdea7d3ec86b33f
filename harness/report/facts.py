# SPDX-License-Identifier: Apache-2.0
"""Environment facts of hosts: nested and free in form, flattened to a bounded list of name and value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.identity import one_line

MAX_FACTS = 150
MAX_DEPTH = 6

#: Where a host's facts may hold what the head of the report prints, most telling first.
_KERNEL = ("kernel.release", "kernel.version", "uname.release", "kernel", "release")
_CPU = ("cpu.model", "cpu.model_name", "cpu.name", "cpu_model", "cpu.model name", "model_name", "cpu")
_SYSTEM = ("os.pretty_name", "os.name", "os", "os_release.PRETTY_NAME", "distribution")


def flatten(facts: object, limit: int = MAX_FACTS) -> list[tuple[str, str]]:
    """("cpu.model", "…") pairs, at most ``limit``; the last says how many were left out."""
    pairs: list[tuple[str, str]] = []
    left_out = 0
    for name, value in _walk("", facts, 0):
        if len(pairs) < limit:
            pairs.append((one_line(name, 100), one_line(value, 300)))
        else:
            left_out += 1
        if left_out > 10_000:
            break
    if left_out:
        pairs.append(("…", f"{left_out:,} more in run.json"))
    return pairs


def _walk(name: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, entry in value.items():
            yield from _walk(f"{name}.{key}" if name else str(key), entry, depth + 1)
    elif isinstance(value, list) and depth < MAX_DEPTH and any(isinstance(entry, (Mapping, list)) for entry in value):
        for index, entry in enumerate(value):
            yield from _walk(f"{name}[{index}]", entry, depth + 1)
    elif isinstance(value, list):
        yield name, ", ".join(str(entry) for entry in value[:64]) or "none"
    else:
        yield name, _plain(value)


def _plain(value: object) -> str:
    if value is None or value == "":
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:1000]


def headline_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """CPU, system and kernel of a host, as far as its facts name them."""
    pairs = dict(flatten(facts, 1000))
    found = {}
    for title, names in (("CPU", _CPU), ("System", _SYSTEM), ("Kernel", _KERNEL)):
        value = next((pairs[name] for name in names if pairs.get(name, "not known") != "not known"), "")
        if value:
            found[title] = value
    return found
