# SPDX-License-Identifier: Apache-2.0
"""What a scenario says of the program: command lines as lists, bounded in size, checked word by word."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from harness.stack import StackParams
from harness.units import shown

from . import placeholders

MOST_WORDS, MOST_CHARACTERS, MOST_PATTERN, MOST_VARIABLES = 256, 4096, 500, 64
SIGNALS = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "KILL")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_COUNTER = r"^[^\x00-\x1f]{0,120}$"


def _word(value: object, *, with_pid: bool) -> str:
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise ValueError(f"{shown(value)} is no word of a command; put it in quotes")
    word = str(value)
    if len(word) > MOST_CHARACTERS or "\0" in word:
        raise ValueError(f"{shown(word)}: a word has at most {MOST_CHARACTERS} characters, none of them NUL")
    if wrong := placeholders.problem(word, with_pid=with_pid):
        raise ValueError(wrong)
    return word


def _argv(value: object, *, with_pid: bool = True) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            words = shlex.split(value)[:8]
        except ValueError:
            words = ["program", "option"]
        raise ValueError(f"{shown(value)} is a string, and no shell takes it apart; write a list: {json.dumps(words)}")
    if not isinstance(value, list | tuple) or len(value) > MOST_WORDS:
        raise ValueError(f"{shown(value)} is no command; write a list of at most {MOST_WORDS} words: [program, option]")
    return tuple(_word(item, with_pid=with_pid) for item in value)


def _early_argv(value: object) -> tuple[str, ...]:
    """A command that runs before there is a process, or after it: no {pid}."""
    return _argv(value, with_pid=False)


def _stop(value: object) -> object:
    if isinstance(value, str):
        name = value.removeprefix("SIG")
        if name in SIGNALS:
            return name
        raise ValueError(f"{shown(value)} is no signal to stop a program with; one of {', '.join(SIGNALS)}, or a "
                         "command as a list: [program, option]")
    return _argv(value)


def _pattern(value: object) -> object:
    if not isinstance(value, str) or len(value) > MOST_PATTERN:
        raise ValueError(f"{shown(value)} is no pattern; a regular expression of at most {MOST_PATTERN} characters")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{shown(value)} is no regular expression: {error}") from None
    return value


def _environment(value: object) -> object:
    if not isinstance(value, dict) or len(value) > MOST_VARIABLES:
        raise ValueError(f"{shown(value)} is no environment; write {{NAME: value}}, at most {MOST_VARIABLES} of them")
    for name in value:
        if not _VARIABLE.fullmatch(str(name)):
            raise ValueError(f"{shown(name)} is no name of a variable; letters, digits and _")
    return {name: _word(item, with_pid=False) for name, item in value.items()}


_ARGV_SCHEMA = WithJsonSchema({"type": "array", "items": {"type": ["string", "integer"]}, "maxItems": MOST_WORDS})
Argv = Annotated[tuple[str, ...], BeforeValidator(_argv), _ARGV_SCHEMA]
EarlyArgv = Annotated[tuple[str, ...], BeforeValidator(_early_argv), _ARGV_SCHEMA]
Port = Annotated[int, Field(ge=1, le=65535)] | Literal["{udp_port}"]


class Ready(BaseModel):
    """How to tell that the program serves: exactly one of ``output``, ``command``, ``tcp`` and ``udp``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Annotated[str | None, BeforeValidator(lambda value: value if value is None else _pattern(value))] = Field(
        None, description="a regular expression; ready once a line of its output matches")
    command: Argv = Field((), description="a command; ready once it ends with status 0")
    tcp: Port | None = Field(None, description="a TCP port; ready once something listens on it")
    udp: Port | None = Field(None, description="a UDP port, or {udp_port}; ready once a socket is bound to it")
    timeout_s: float = Field(10.0, gt=0, le=600, description="seconds after which it has failed to start")

    @model_validator(mode="after")
    def _one_way(self) -> Ready:
        given = [name for name in ("output", "command", "tcp", "udp") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'nothing'} says when it is ready; give exactly one of output, "
                             "command, tcp and udp")
        return self


class CommandParams(StackParams):
    """A program and how to run it. Every command is a list of words; {placeholders} are filled in from the plan."""

    title: str = Field("", pattern=r"^[A-Za-z0-9][A-Za-z0-9._+ -]{0,39}$|^$",
                       description="What the report calls it; the program's name when left out")
    start: EarlyArgv = Field((), description="The program, to stay in the foreground: [program, option, ...]")
    ready: Ready | None = Field(None, description="When it serves: {output: regex}, {command: [...]}, {tcp: port} or "
                                                  "{udp: port}, with timeout_s (10)")
    stop: Annotated[str | tuple[str, ...], BeforeValidator(_stop), WithJsonSchema(
        {"anyOf": [{"enum": list(SIGNALS)}, {"type": "array", "items": {"type": ["string", "integer"]}}]})] = Field(
        "INT", description="How to end it: a signal, or a command; what is left after stop_s is killed")
    stop_s: float = Field(5.0, gt=0, le=60, description="Seconds it is given to end")
    cleanup: EarlyArgv = Field((), description="A command run after its end, by the host's agent too when the harness "
                                               "is gone; has to succeed when there is nothing to clean up")
    counters: Argv = Field((), description="A command that prints counts: a JSON object of numbers (nested ones are "
                                           "joined by dots), or lines like `name value` or `name: value`")
    discard_counter: str = Field("", pattern=_COUNTER, description="Role drop: the entry of counters that counts "
                                                                   "discarded test frames exactly")
    losses: Mapping[str, str] = Field({}, max_length=16, description="Place of a loss -> entry of counters that "
                                                                     "counts frames lost there")
    polls: bool = Field(False, description="It polls: its cores are busy at any load, which the report says")
    semantics: str = Field("", max_length=120, description="What it does with a frame, in the report's words")
    layer: Literal["l2", "l3"] = Field("l3", description="Role forward: l3 lowers the TTL and rewrites MACs; l2 leaves "
                                                         "the frame alone, which is addressed to the far end")
    ports: Literal["kernel", "untouched"] = Field(
        "kernel", description="kernel: test ports are up, with address, static neighbour, route and interrupts on its "
                              "cores; untouched: they are left as they are")
    threads: tuple[str, ...] = Field((), max_length=16, description="Beginnings of the names (comm) of its threads "
                                                                    "besides the program's own name")
    directory: str = Field("", pattern=r"^(/[^\x00]{0,255})?$", description="Working directory, absolute")
    environment: Annotated[Mapping[str, str], BeforeValidator(_environment)] = Field(
        {}, description="Environment variables of all its commands, as {NAME: value}")
    install: str = Field("", max_length=200, description="How to get the program, said where it is missing")

    @model_validator(mode="after")
    def _complete(self) -> CommandParams:
        if self.start and self.ready is None:
            raise ValueError("ready is missing: say when the program serves, such as {output: 'listening'} or "
                             "{udp: '{udp_port}'}")
        if (self.discard_counter or self.losses) and not self.counters:
            raise ValueError("counters is missing: the command that prints them, as a list: [program, option]")
        return self
