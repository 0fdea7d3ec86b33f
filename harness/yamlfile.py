# SPDX-License-Identifier: Apache-2.0
"""YAML from untrusted files: bounded in size, depth and expansion, and every value knows its line.

Only data is read: no tags, no merge keys, no duplicate keys, no second document. Scalars follow YAML 1.2 (``yes`` and
``1:30`` are text, not a boolean and a number in base 60). Aliases work, but count as what they expand to.
:func:`load` raises UsageError with file, line and remedy; :meth:`Document.validate` does so for a pydantic model.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import UsageError
from harness.units import shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_VALUES = 5_000

Location = tuple[str | int, ...]
_Model = TypeVar("_Model", bound=BaseModel)

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)")
#: What a scalar may resolve to without being told; an explicit tag outside this set is refused.
_SCALAR_TAGS = {f"tag:yaml.org,2002:{name}" for name in
                ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")}


@dataclass(frozen=True)
class Document:
    """A YAML file: ``data`` (dict, list, str, int, float, bool, None) and the line of every key and value in it."""

    path: Path
    text: str
    data: Any
    key_lines: Mapping[Location, int]
    value_lines: Mapping[Location, int]

    def where(self, location: Sequence[str | int] = (), *, key: bool = True) -> str:
        """``file:line`` of a place, or of the nearest enclosing one that the file has."""
        here = tuple(location)
        while here:
            if key and here in self.key_lines:
                return f"{self.path}:{self.key_lines[here]}"
            if here in self.value_lines:
                return f"{self.path}:{self.value_lines[here]}"
            here = here[:-1]
        return f"{self.path}:{self.value_lines.get((), 1)}"

    def error(self, location: Sequence[str | int], message: str) -> UsageError:
        """The error to raise for a value: file, line, key and what would be right."""
        name = dotted(location)
        return UsageError(f"{self.where(location)}: {name + ': ' if name else ''}{message}")

    def validate(self, model: type[_Model]) -> _Model:
        """The data as ``model``; every problem is a line of one UsageError."""
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise UsageError("\n".join(self.problems(error, model))) from None

    def problems(self, error: ValidationError, model: type[BaseModel], prefix: Location = ()) -> list[str]:
        """One line for each problem of a validation whose data lies at ``prefix`` (at most 8)."""
        details = error.errors(include_url=False)
        # Items with a problem of their own are counted out of their list; that it is too short then says nothing more.
        details = [one for one in details if one["type"] != "too_short" or not any(
            other is not one and other["loc"][:len(one["loc"])] == one["loc"] for other in details)]
        lines = [str(self.error((*prefix, *detail["loc"]), explain(detail, model))) for detail in details[:8]]
        return lines + ([f"and {len(details) - 8} more"] if len(details) > 8 else [])


def dotted(location: Sequence[str | int]) -> str:
    """``("stacks", 1, "xdp")`` as ``stacks[1].xdp``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def close_match(name: str, known: Sequence[str]) -> str:
    """"Did you mean ...?" for a misspelt name, with all known names when none is close."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}known: {', '.join(sorted(known)) or 'none'}"


def explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """A pydantic error in the words of the file: what was found and what would be right."""
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        known = _keys_at(model, detail["loc"][:-1])
        return f"unknown key; {close_match(str(detail['loc'][-1]), known)}"
    if kind == "missing":
        return "is missing; " + _description(model, detail["loc"])
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "model_type":
        return f"{_kind(value)} where keys and values are expected ({', '.join(_keys_at(model, detail['loc']))})"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} does not fit; {_description(model, detail['loc'])}"
    if kind == "too_short" and not value:
        return f"nothing in it; {_description(model, detail['loc'])}"
    if kind in ("literal_error", "enum"):
        return f"{shown(value)} is not known; one of {detail['ctx']['expected']}"
    message = detail["msg"].replace("Input should be", "should be").replace("Field required", "is missing")
    return f"{shown(value) if not isinstance(value, list | dict) else _kind(value)} {message}"


def _kind(value: object) -> str:
    names = {dict: "keys and values", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    name = names.get(type(value), "a number")
    return name if isinstance(value, list | dict) or value is None else f"{name} ({shown(value)})"


def _model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    for part in location:
        found = model.model_fields.get(str(part))
        inner = [kind for kind in _models_in(found.annotation)] if found else []
        if not inner:
            return None
        model = inner[0]
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    inner = _model_at(model, [part for part in location if not isinstance(part, int)])
    return [field.alias or name for name, field in inner.model_fields.items()] if inner else []


def _description(model: type[BaseModel], location: Sequence[str | int]) -> str:
    names = [part for part in location if not isinstance(part, int)]
    inner = _model_at(model, names[:-1])
    field = inner.model_fields.get(str(names[-1])) if inner else None
    return (field.description if field and field.description else "add it")


def load(path: Path, text: str | None = None) -> Document:
    """Read and check one file. ``text``: its content as it once was, where the file is not to be read again.
    Raises UsageError; never runs, imports or expands anything beyond the bounds."""
    text = _read(path) if text is None else _plain(path, text)
    try:
        _bound(path, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        detail = " ".join(part for part in (error.context, error.problem) if part)
        raise UsageError(f"{path}:{line}: not valid YAML: {detail}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if node is None:
        raise UsageError(f"{path}: the file is empty; see `harness scenarios list` for examples to start from")
    reader = _Reader(path)
    data = reader.value(node, ())
    return Document(path, text, data, reader.key_lines, reader.value_lines)


def _read(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path}: not a file; name a YAML file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{path}: cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path}: larger than 1 MiB; this is not a scenario or testbed file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file (not UTF-8); name a YAML file") from None
    return _plain(path, text)


def _plain(path: Path, text: str) -> str:
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
        raise UsageError(f"{path}: not a text file (control characters in it); name a YAML file")
    return text


def _bound(path: Path, text: str) -> None:
    """Refuse depth and bulk on the event stream, before any tree is built (building one recurses)."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        line = event.start_mark.line + 1 if event.start_mark else 1
        if depth > MAX_DEPTH:
            raise UsageError(f"{path}:{line}: nested deeper than {MAX_DEPTH} levels; flatten it")
        if count > 2 * MAX_VALUES:
            raise UsageError(f"{path}:{line}: more than {MAX_VALUES} values; split the file")


class _Reader:
    """Turns a node graph into data, counting every value that aliases expand to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_lines: dict[Location, int] = {}
        self.value_lines: dict[Location, int] = {}

    def fail(self, node: yaml.Node, location: Location, message: str) -> UsageError:
        name = dotted(location)
        return UsageError(f"{self.path}:{node.start_mark.line + 1}: {name + ': ' if name else ''}{message}")

    def value(self, node: yaml.Node, location: Location) -> Any:
        if len(location) > MAX_DEPTH:
            raise self.fail(node, (), f"nested deeper than {MAX_DEPTH} levels (an alias to itself?); write it out")
        if len(self.value_lines) >= MAX_VALUES:
            raise self.fail(node, (), f"aliases expand to more than {MAX_VALUES} values; write out what is needed")
        self.value_lines[location] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            self.only_plain(node, location, "tag:yaml.org,2002:seq")
            return [self.value(child, (*location, index)) for index, child in enumerate(node.value)]
        return self.scalar(node, location)

    def mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        self.only_plain(node, location, "tag:yaml.org,2002:map")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.fail(key_node, location, "a key is a name, not a list or a mapping")
            key = str(key_node.value)
            if key == "<<":
                raise self.fail(key_node, location, "merge keys (<<) are not read; write the keys out")
            here = (*location, key)
            if key in result:
                first = self.key_lines[here]
                raise self.fail(key_node, here, f"key given twice (first in line {first}); remove one")
            self.key_lines[here] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, here)
        return result

    def scalar(self, node: yaml.Node, location: Location) -> Any:
        text = str(node.value)
        if node.tag not in _SCALAR_TAGS:
            raise self.fail(node, location, f"tag {shown(node.tag)} is not read; remove it")
        if isinstance(node, yaml.ScalarNode) and node.style is not None:
            return text
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            return text.lower() == "true"
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if len(text) <= 40 and _FLOAT.fullmatch(text) else text

    def only_plain(self, node: yaml.Node, location: Location, tag: str) -> None:
        if node.tag != tag:
            raise self.fail(node, location, f"tag {shown(node.tag)} is not read; remove it")
