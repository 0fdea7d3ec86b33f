# SPDX-License-Identifier: Apache-2.0
"""What :mod:`harness.host.survey` found on a host, and how it is asked. What a host says is untrusted: everything is
looked at through methods that expect anything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HostError

SCRIPT = Path(__file__).with_name("survey.py")
#: Survey and what it starts are done long before; a program that hangs there is given up after 8 s.
SURVEY_S = 30.0
_MOST_BYTES = 1 << 20
_MOST_TEXT = 4096


@dataclass(frozen=True)
class Request:
    """What a survey looks at: ``ports`` (interfaces first in line), ``pci`` (addresses of ports that the kernel may not
    have), ``cores`` (looked at closely, kept free by the survey itself), ``tools`` (their versions), ``load_s`` (how
    long the cores are watched)."""

    ports: tuple[str, ...] = ()
    pci: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    tools: bool = True
    load_s: float = 0.0

    def argv(self, python: str = "python3") -> list[str]:
        """The command that surveys a host."""
        return [python, "-I", "-c", SCRIPT.read_text(encoding="utf-8"), json.dumps(asdict(self))]


@dataclass(frozen=True)
class Survey:
    """A host as surveyed. ``data`` is what the survey printed; see there."""

    data: Mapping[str, Any]

    @staticmethod
    def parse(text: str) -> Survey:
        """Raises HostError when it is no survey's output."""
        if len(text) > _MOST_BYTES:
            raise HostError(f"the survey printed more than {_MOST_BYTES} bytes")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HostError(f"the survey printed something that is not JSON: {text[:200]!r}") from error
        if not isinstance(data, dict) or data.get("survey") != 1:
            raise HostError(f"the survey printed something else than a survey: {text[:200]!r}")
        return Survey(data)

    def at(self, *path: str) -> Any:
        """The value at a path of keys; None where there is none."""
        value: Any = self.data
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def rows(self, *path: str) -> list[Any]:
        """The list at a path, empty where there is none."""
        value = self.at(*path)
        return value if isinstance(value, list) else []

    def names(self, *path: str) -> list[str]:
        """The keys of the mapping at a path."""
        value = self.at(*path)
        return [str(name) for name in value] if isinstance(value, Mapping) else []

    def line(self, file: str) -> str | None:
        """The first line of a file; None where it cannot be read or says nothing."""
        return line_of(self.at("files", file))

    def whole(self, file: str) -> int | None:
        """A file's number."""
        return whole_of(self.at("files", file))

    def text(self, file: str) -> str:
        """A file's text, "" where it cannot be read."""
        value = self.at("files", file)
        return value if isinstance(value, str) else ""

    def below(self, folder: str, pattern: str) -> dict[str, str]:
        """First lines of files by what ``pattern`` (one group) matches of their path below ``folder``."""
        found = ((re.fullmatch(pattern, path[len(folder):]), path) for path in self.names("files")
                 if path.startswith(folder))
        return {match[1]: self.line(path) or "" for match, path in found if match}

    def output(self, command: str) -> str | None:
        """What a command printed; None where it is missing, failed or was late (:meth:`why`)."""
        out = self.at("commands", command, "out")
        good = self.at("commands", command, "status") in (0, 1) and self.at("commands", command, "cut") is not True
        return out if good and isinstance(out, str) else None

    def why(self, command: str) -> str:
        """Why a command gave nothing, in words."""
        entry = self.at("commands", command)
        if not isinstance(entry, Mapping):
            return f"{command} was not asked for"
        if entry.get("missing"):
            return str(entry.get("error"))[:200]
        if entry.get("cut"):
            return "it printed too much"
        said = entry.get("error") or entry.get("err") or f"it ended with status {entry.get('status')}"
        return str(said)[:200].strip()

    def json_of(self, command: str) -> list[Any] | None:
        """The list that a command printed as JSON."""
        try:
            value = json.loads(self.output(command) or "null")
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, list) else None

    def interface(self, name: str) -> Mapping[str, Any] | None:
        """What was found of a network interface."""
        value = self.at("interfaces", name)
        return value if isinstance(value, Mapping) else None

    def port(self, ifname: str, mac: str, pci: str = "") -> str | None:
        """Name of the interface that a testbed calls ``ifname``, or has this MAC or PCI address; None where the kernel
        has no such interface."""
        if ifname:
            return ifname if self.interface(ifname) is not None else None
        for name in self.names("interfaces"):
            at = str(self.at("interfaces", name, "pci", "address") or "")
            if (pci and at.endswith(pci)) or line_of(self.at("interfaces", name, "address")) == mac:
                return name
        return None


def line_of(value: object) -> str | None:
    """First line of a text that a host gave, bounded; None where it is empty or no text."""
    return value.strip().partition("\n")[0][:_MOST_TEXT] or None if isinstance(value, str) else None


def whole_of(value: object) -> int | None:
    """A whole number that a host gave, as text or number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = line_of(value)
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,18}", text) else None


def numbers_of(value: object, names: Sequence[str]) -> dict[str, int] | None:
    """The whole numbers of a mapping that a host gave, by these names."""
    if not isinstance(value, Mapping):
        return None
    return {name: number for name in names if (number := whole_of(value.get(name))) is not None}
