# SPDX-License-Identifier: Apache-2.0
"""Discovery of stacks: every folder beside this package's own files that holds a ``stack.py``.

In a checkout the folders are those of the top-level ``stacks/``; the wheel carries the same folders inside this
package. A folder is named like its stack with ``-`` written ``_``. Adding a stack adds a folder, changes nothing else.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from harness.errors import UsageError
from harness.resources import resource
from harness.stack import Stack

_FOLDERS = resource("stacks")
if str(_FOLDERS) not in __path__:
    __path__.append(str(_FOLDERS))


def available() -> Mapping[str, type[Stack]]:
    """Every stack by name, in order of name.

    Raises UsageError when a folder has no ``stack.py``, when its ``stack.py`` defines not exactly one stack, or when
    that stack is not named like its folder.
    """
    return MappingProxyType({stack.name: stack for stack in map(_load, _folders())})


def get(name: str) -> type[Stack]:
    """The stack of this name; UsageError, with the names there are, when there is none."""
    stacks = available()
    if name in stacks:
        return stacks[name]
    close = difflib.get_close_matches(name.replace("_", "-").lower(), stacks, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"There is no stack {name!r}.{hint} The stacks are: {', '.join(stacks)}.")


def create(name: str, params: Mapping[str, object]) -> Stack:
    """The stack of this name with these parameters; UsageError for an unknown name or a wrong parameter."""
    stack = get(name)
    try:
        return stack(stack.Params.model_validate(dict(params)))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'parameters'}: {e['msg']}" for e in error.errors())
        known = ", ".join(stack.Params.model_fields) or "none"
        raise UsageError(f"Parameters of stack {name!r}: {wrong}. Its parameters are: {known}.") from error


def defaults(name: str) -> Mapping[str, object]:
    """The parameters of this stack that have a default, JSON-ready; none where there is no such stack.

    Loads this stack alone. Raises UsageError when its folder is not as it should be."""
    folder = next((folder for folder in _folders() if folder.name.replace("_", "-") == name), None)
    return {} if folder is None else _load(folder).Params.model_construct().model_dump(mode="json")


def source(name: str) -> Path:
    """The folder of the stack of this name (``StackContext.source``)."""
    get(name)
    return _FOLDERS / name.replace("-", "_")


def _folders() -> list[Path]:
    return sorted(p for p in _FOLDERS.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _load(folder: Path) -> type[Stack]:
    if not (folder / "stack.py").is_file():
        raise UsageError(f"{folder} has no stack.py: write one, or remove the folder.")
    module = importlib.import_module(f"{__name__}.{folder.name}.stack")
    found = [c for c in vars(module).values()
             if inspect.isclass(c) and issubclass(c, Stack) and c.__module__ == module.__name__]
    if len(found) != 1:
        raise UsageError(f"{folder / 'stack.py'} defines {len(found)} stacks; it must define exactly one.")
    name = folder.name.replace("_", "-")
    if getattr(found[0], "name", None) != name:
        raise UsageError(f"{folder / 'stack.py'}: the stack's name must be {name!r}, like its folder.")
    return found[0]
